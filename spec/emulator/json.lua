-- JSON with two things lua-cjson lacks on Debian: empty arrays, and integers that stay integers.
local cjson = require "cjson.safe"

local json = {}

json.null = cjson.null

local ARRAY = {}

-- Marks a table as an array, which only matters when it is empty.
function json.array(items)
    return setmetatable(items or {}, ARRAY)
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
    return ESCAPES[c] or string.format("\\u%04x", c:byte())
end

local UNSAFE = '[%c"\\\127]'

local function quote(text)
    if text:find(UNSAFE) then text = text:gsub(UNSAFE, escape) end
    return '"' .. text .. '"'
end

local function number(n)
    if n == math.floor(n) and math.abs(n) < 2 ^ 53 then return string.format("%.0f", n) end
    return string.format("%.14g", n)
end

local encode

local function encode_table(value)
    local parts = {}
    if #value > 0 or getmetatable(value) == ARRAY then
        for i, item in ipairs(value) do parts[i] = encode(item) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for key, item in pairs(value) do
        parts[#parts + 1] = quote(tostring(key)) .. ":" .. encode(item)
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

function encode(value)
    local kind = type(value)
    if kind == "string" then return quote(value) end
    if kind == "table" then return encode_table(value) end
    if kind == "number" then return number(value) end
    if value == nil or value == json.null then return "null" end
    return tostring(value)
end
json.encode = encode

local to_integer = rawget(math, "tointeger") or function(n) return n end

-- null becomes nil; 1.0, as lua-cjson reads 1 on Lua 5.4, becomes 1.
local function tidy(value)
    if value == json.null then return nil end
    if type(value) == "number" then return to_integer(value) or value end
    if type(value) == "table" then
        for key, item in pairs(value) do value[key] = tidy(item) end
    end
    return value
end

-- nil for text that is not JSON; JSON's null is absent.
function json.decode(text)
    return tidy((cjson.decode(text)))
end

-- Whether a request says that its body is JSON.
function json.is_declared(request)
    local kind = request.headers["content-type"]
    return type(kind) == "string" and kind:lower():find("^application/json") ~= nil
end

return json
