-- SPDX-License-Identifier: MIT
-- JSON as the rest of the library wants it: null is absence, whole numbers are
-- integers where Lua has them. An own instance of lua-cjson, so that neither
-- side's settings reach the other; but for the decimal point, see instance().

local core = require "csms.core"
local safe = require "cjson.safe"

local M = {}

local cjson

local function renew()
    cjson = safe.new()
    cjson.decode_invalid_numbers(false)
end

renew()

-- All instances of lua-cjson in a process share the decimal point of the locale that was set
-- when the last one was made, by anybody, and the program may set another locale at any time.
-- Where the point has several bytes, making one would end the process.
local function instance()
    if cjson.decode("0.5") ~= 0.5 and core.has_plain_point() then renew() end
    return cjson
end

-- Lua 5.4 only; LuaJIT's numbers are exact to 2^53 and print as integers.
local tointeger = math.tointeger -- luacheck: ignore 143
    or function(number) return number end

-- From 2^53 on it is the nearest number that a float has, and need not be the text's.
local function whole(number)
    return math.abs(number) < 2 ^ 53 and tointeger(number) or number
end

-- In a list, null is false: absence would end the list.
local function clean(value)
    if value == safe.null then return nil end
    if type(value) == "number" then return whole(value) end
    if type(value) == "table" then
        local is_list = #value > 0
        local key, item = next(value) -- no pairs(): a store's finalizer comes here
        while key ~= nil do
            if type(item) ~= "string" then
                item = clean(item)
                if item == nil and is_list then item = false end
                value[key] = item
            end
            key, item = next(value, key)
        end
    end
    return value
end

--- The value of a JSON text (nil for null), or nil and the reason.
function M.decode(text)
    local value, reason = instance().decode(text)
    if reason then return nil, reason end
    return clean(value)
end

--- The JSON text of a value; raises for one that has none.
function M.encode(value)
    -- lua-cjson writes every slash as \/, which is right and hard to read.
    return (assert(instance().encode(value)):gsub("\\/", "/"))
end

return M
