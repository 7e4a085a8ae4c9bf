-- SPDX-License-Identifier: MIT
-- Times and durations as people read them.

local M = {}

local YEAR_9999 = 253402300799

--- Seconds since 1970 as 2026-11-21T16:00:00Z; "-" for what is no time.
function M.utc(seconds)
    if type(seconds) ~= "number" or not (seconds >= 0 and seconds <= YEAR_9999) then return "-" end
    return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(seconds))
end

--- The same for the service's milliseconds.
function M.of_service(milliseconds)
    return M.utc(type(milliseconds) == "number" and milliseconds / 1000)
end

--- "45 s", "12 min", "26.5 h", "12.0 d"; "-8.0 h" of what is still to come.
function M.span(seconds)
    if seconds < 0 then return "-" .. M.span(-seconds) end
    if seconds < 120 then return ("%.0f s"):format(seconds) end
    if seconds < 7200 then return ("%.0f min"):format(seconds / 60) end
    if seconds < 172800 then return ("%.1f h"):format(seconds / 3600) end
    return ("%.1f d"):format(seconds / 86400)
end

return M
