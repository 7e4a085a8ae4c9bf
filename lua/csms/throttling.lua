-- SPDX-License-Identifier: MIT
-- What an answer says of when to come back: Retry-After (RFC 9110, 10.2.3), and of a
-- throttled one the window in the gateway's text (csms-api.md 6.3):
-- "limit:20,time:1 second", also minute, hour, day, or the limit alone.

local dates = require "csms.dates"

local M = {}

local SECONDS = { second = 1, minute = 60, hour = 3600, day = 86400 }
local MOST = 1e9 -- more is no number to count with: infinity, or one that wraps

local function number(digits)
    return digits and math.min(tonumber(digits), MOST)
end

-- A date counts from the answer's own Date, so that no clock matters but the
-- server's; without one, from ours.
local function retry_after(header, time)
    local value = header("Retry-After")
    if not value then return nil end
    if value:find("^%d+$") then return number(value) end
    local at = dates.parse_http(value)
    if not at then return nil end
    local date = header("Date")
    local wait = at - (date and dates.parse_http(date) or time)
    return wait, wait - 1 -- both dates are cut to the second
end

-- A limit without a time is a limit a second: the service's own figures are.
local function window(text)
    local limit = text and number(text:match("limit:(%d+)"))
    if not limit or limit == 0 then return nil end
    local count, unit = text:match("time:(%d+) (%a+)")
    local seconds = unit and SECONDS[(unit:gsub("s$", ""))]
    local period = seconds and number(count) * seconds or 1
    return limit, period > 0 and period or 1
end

--- Reads a 429 or a 5xx: {wait, limit, period}, each nil where nothing is said of it;
--- `least` is what `wait` may stand for where it was told in whole seconds.
-- header: function(name); text: a 429's message, or nil; time: now, since 1970.
function M.read(header, text, time)
    local limit, period = window(text)
    local wait, least = retry_after(header, time)
    if wait and wait <= 0 then wait, least = nil, nil end -- that says nothing
    return { wait = wait or period, least = least, limit = limit, period = period }
end

return M
