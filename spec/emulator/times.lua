-- The service's ways of writing a time.
local times = {}

local MONTHS = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
}
local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }

function times.sdk(seconds)
    return os.date("!%Y%m%dT%H%M%SZ", math.floor(seconds))
end

-- 2020-01-08T02:56:19.587000Z
function times.iso(seconds)
    local whole = math.floor(seconds)
    local millis = math.floor((seconds - whole) * 1000)
    return os.date("!%Y-%m-%dT%H:%M:%S", whole) .. string.format(".%03d000Z", millis)
end

function times.http(seconds)
    local t = os.date("!*t", math.floor(seconds))
    return string.format("%s, %02d %s %d %02d:%02d:%02d GMT", DAYS[t.wday], t.day,
        MONTHS[t.month], t.year, t.hour, t.min, t.sec)
end

-- Days since 1970 of a civil date (proleptic Gregorian), because os.time reads local time.
local function days(year, month, day)
    if month <= 2 then year, month = year - 1, month + 12 end
    return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
        + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end

-- 20260101T000000Z -> seconds | nil
function times.parse_sdk(text)
    local y, mo, d, h, mi, s = text:match("^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)Z$")
    if not y then return nil end
    return days(tonumber(y), tonumber(mo), tonumber(d)) * 86400 + h * 3600 + mi * 60 + s
end

return times
