-- XOR of two strings of one length. Lua 5.4 has an operator for it, LuaJIT a library, and neither
-- can parse the other's; LuaJIT's is worth its buffer, because every backup masks a padding.
if not rawget(_G, "jit") then
    local unpack = rawget(table, "unpack")
    local bxor = load("return function(a, b) return a ~ b end")()
    return function(a, b)
        local out = { a:byte(1, -1) }
        for i = 1, #out do out[i] = bxor(out[i], b:byte(i)) end
        return string.char(unpack(out))
    end
end

local bxor = require("bit").bxor
local ffi = require "ffi"

-- The buffer is filled by ffi.copy: an initialiser for it crashes Debian 12's LuaJIT.
return function(a, b)
    local size = #a
    local out = ffi.new("uint8_t[?]", size)
    ffi.copy(out, a, size)
    local other = ffi.cast("const uint8_t *", b)
    for i = 0, size - 1 do out[i] = bxor(out[i], other[i]) end
    return ffi.string(out, size)
end
