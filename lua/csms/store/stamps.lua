-- SPDX-License-Identifier: MIT
-- Moments in the store: a UTC stamp such as 20261121T160000.123Z, which sorts as
-- text, and what people write for one.

local dates = require "csms.dates"

local M = {}

--- A Lua pattern that matches a stamp.
M.PATTERN = "%d%d%d%d%d%d%d%dT%d%d%d%d%d%d%.%d%d%dZ"

local PARTS = "^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)%.(%d%d%d)Z$"

--- The stamp of seconds since 1970; what is below a millisecond is cut off.
function M.format(seconds)
    local millis = math.floor(seconds * 1000)
    return os.date("!%Y%m%dT%H%M%S", math.floor(millis / 1000))
        .. (".%03dZ"):format(millis % 1000)
end

--- Seconds since 1970 of a stamp; nil for any other text, or a day that no
--- calendar has.
function M.parse(text)
    local year, month, day, hour, minute, second, millis = text:match(PARTS)
    if not year then return nil end
    -- Rounded: the sum need not be the nearest number to the decimal one.
    local seconds = dates.seconds(year, month, day, hour, minute, second) + tonumber(millis) / 1000
    return M.format(seconds + 0.0001) == text and seconds or nil
end

local function of_parts(year, month, day, hour, minute, second)
    return M.parse(("%s%s%sT%s%s%s.000Z"):format(year, month, day, hour, minute, second))
end

--- The last moment, in seconds since 1970, that a person means by 2026-11-21 (its
--- end), 2026-11-21T16:00Z or 2026-11-21T16:00:00Z, or by a stamp; or nil.
function M.parse_moment(text)
    local day = { text:match("^(%d%d%d%d)-(%d%d)-(%d%d)$") }
    if day[1] then
        local start = of_parts(day[1], day[2], day[3], "00", "00", "00")
        return start and start + 86399.999
    end
    local date, time = text:match("^([%d-]+)T([%d:]+)Z$")
    if not date then return M.parse(text) end
    local year, month, of_month = date:match("^(%d%d%d%d)-(%d%d)-(%d%d)$")
    local hour, minute, second = (time .. ":00"):match("^(%d%d):(%d%d):(%d%d)")
    return year and hour and #time <= 8 and of_parts(year, month, of_month, hour, minute, second)
        or nil
end

return M
