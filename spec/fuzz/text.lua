-- What the fuzz targets in Lua share: short forms within an input, and checks of
-- text that is shown to people.

local M = {}

--- Keys that no message may repeat: "@SK@" in an input stands for the first, "@ST@"
--- for the second. An X-Auth-Token ("@TOKEN@") is long.
M.sk = "Zq7Wm2Kd9Xr4Tn6Vb1Hs8Lp3Gc5Jf0YuEoAi"
M.security_token = "hQpR+KsVw/TzYx8NbMc3Lf5Jg7Hd+Sa2Po4Iu6Ye1W"

local function long_token()
    local state, parts = 7, {}
    for i = 1, 3000 do
        state = (state * 1103515245 + 12345) % 2147483648
        local at = math.floor(state / 65536) % 64 + 1
        parts[i] = ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"):sub(at, at)
    end
    return table.concat(parts)
end

M.token = long_token()

local MOST = 70000 -- bytes of an input after this

--- The input where "@R", two digits and a character of one or more bytes up to the next
--- "@" stand for that character 2^digits times.
function M.repeats(data)
    return (data:gsub("@R(%d%d)([^@]+)@", function(power, unit)
        local times = 2 ^ math.min(tonumber(power), 17)
        return unit:rep(math.min(times, math.floor(131072 / #unit)))
    end))
end

--- The input as it is meant, with the keys too; up to `most` bytes in all.
function M.expand(data, most)
    local text = M.repeats(data)
        :gsub("@(%u+)@", { SK = M.sk, ST = M.security_token, TOKEN = M.token })
    return text:sub(1, most or MOST)
end

--- Raises unless it is a string on one line of at most `most` bytes.
function M.check_line(what, text, most)
    assert(type(text) == "string", what .. " is no string")
    assert(not text:find("%c"), what .. " has a control character")
    assert(#text <= most, what .. " is too long")
end

--- Raises where 23 bytes of a secret stand in the text, and perhaps for 16, unless the
--- input `data` has these by itself.
function M.check_secret(what, text, secret, data)
    for at = 1, #secret - 15, 8 do
        local part = secret:sub(at, at + 15)
        if text:find(part, 1, true) and not data:find(part, 1, true) then
            error(what .. " repeats a part of a key: " .. text)
        end
    end
end

--- Whether it is UTF-8; always where this Lua cannot tell.
function M.is_utf8(text)
    local utf8 = rawget(_G, "utf8")
    return not utf8 or utf8.len(text) ~= nil
end

function M.is_finite(value)
    return type(value) == "number" and value == value and math.abs(value) < math.huge
end

return M
