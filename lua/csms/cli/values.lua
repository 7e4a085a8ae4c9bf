-- SPDX-License-Identifier: MIT
-- The values of options: text to number, or nil and what is wrong with it.

local globs = require "csms.globs"

local M = {}

local UNITS = { s = 1.0, m = 60.0, h = 3600.0, d = 86400.0 } -- floats do not wrap
local LONGEST = 2 ^ 53 -- seconds, which a float still counts one by one

--- "90", "90s", "30m", "12h", "1d12h": seconds.
function M.duration(text)
    local total = 0
    local rest = text:gsub("^%d+%.?%d*$", "%0s"):gsub("(%d+%.?%d*)([smhd])", function(count, unit)
        total = total + tonumber(count) * UNITS[unit]
        return ""
    end)
    if rest ~= "" or total <= 0 or total > LONGEST then
        return nil, ("'%s' is no duration: write 90s, 30m, 12h or 1d12h"):format(text)
    end
    return total
end

--- A whole number from 1 to 1000.
function M.count(text)
    local number = text:find("^%d+$") and tonumber(text)
    if not number or number < 1 or number > 1000 then
        return nil, ("'%s' is no whole number from 1 to 1000"):format(text)
    end
    return number
end

--- Requests a second, as csms.config takes them; 0 stands for no limit.
function M.rate(text)
    local number = text:find("^%d*%.?%d+$") and tonumber(text)
    if not number or number ~= 0 and (number < 1e-6 or number == math.huge) then
        return nil, ("'%s' is no rate: write requests a second, or 0 for no limit"):format(text)
    end
    return number
end

--- A glob that some name can match.
function M.glob(text)
    local good, problem = globs.check(text)
    if not good then return nil, problem end
    return text
end

return M
