-- SPDX-License-Identifier: MIT
-- Dates of the calendar, UTC, as seconds since 1970.

local M = {}

local MONTHS = {
    Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6,
    Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}

-- Days since 1970 of a date of the Gregorian calendar. Years begin in March, so
-- that the day of a leap year is their last.
local function days(year, month, day)
    if month <= 2 then year, month = year - 1, month + 12 end
    local leaps = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    return 365 * year + leaps + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

--- Of a date and a time of day, whose parts may be text. Days past a month's end
--- run on into the next.
function M.seconds(year, month, day, hour, minute, second)
    return days(tonumber(year), tonumber(month), tonumber(day)) * 86400
        + tonumber(hour) * 3600 + tonumber(minute) * 60 + tonumber(second)
end

--- Of an HTTP date, "Sat, 21 Nov 2026 16:00:00 GMT" (RFC 9110, 5.6.7), or nil.
function M.parse_http(text)
    local day, month, year, hour, minute, second =
        text:match("^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
    if not (day and MONTHS[month]) then return nil end
    return M.seconds(year, MONTHS[month], day, hour, minute, second)
end

--- Of "2020-01-08T02:56:19.587000Z", the fraction being optional, or nil.
function M.parse_iso(text)
    local year, month, day, hour, minute, second =
        text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)%.?%d*Z$")
    return year and M.seconds(year, month, day, hour, minute, second)
end

return M
