-- The few primitives the emulator needs, on luaossl and luasocket's mime alone, so that they run
-- alike in nginx's LuaJIT and in the specs' Lua 5.4.
local digest = require "openssl.digest"
local hmac = require "openssl.hmac"
local rand = require "openssl.rand"
local mime = require "mime"

local crypto = {}

local HEX = {}
for byte = 0, 255 do HEX[string.char(byte)] = string.format("%02x", byte) end

function crypto.hex(bytes)
    return (bytes:gsub(".", HEX))
end

function crypto.digest(name, text)
    return digest.new(name):final(text)
end

function crypto.hmac(name, key, text)
    return hmac.new(key, name):final(text)
end

crypto.random = rand.bytes

function crypto.random_hex(bytes)
    return crypto.hex(rand.bytes(bytes))
end

-- Random text of which any 32 characters hold a mark that tells its kind, two letters: a search for
-- secrets finds it wherever it got to (spec/support/canaries.lua).
function crypto.canary(kind, length)
    local parts = {}
    for i = 1, math.ceil(length / 24) do
        parts[i] = kind .. "CANARY" .. crypto.base64url(rand.bytes(12))
    end
    return table.concat(parts):sub(1, length)
end

-- An access key shows its first four characters to anybody.
function crypto.access_key()
    return crypto.random_hex(2):upper() .. "AKCANARY" .. crypto.random_hex(4):upper()
end

-- A UUID from 16 bytes; random ones unless the caller wants a fixed result.
function crypto.uuid(bytes)
    local h = crypto.hex(bytes or rand.bytes(16))
    return table.concat({ h:sub(1, 8), h:sub(9, 12), h:sub(13, 16), h:sub(17, 20), h:sub(21, 32) },
        "-")
end

local TO_URL = { ["+"] = "-", ["/"] = "_", ["="] = "", ["\n"] = "", ["\r"] = "" }

function crypto.base64(bytes)
    return (mime.b64(bytes)) or ""
end

function crypto.base64url(bytes)
    return (crypto.base64(bytes):gsub("[+/=\r\n]", TO_URL))
end

-- nginx has a faster one, which counts where every backup encodes its blob.
if rawget(_G, "ngx") then crypto.base64url = require("ngx.base64").encode_base64url end

-- nil for text that is not base64url without padding: mime itself skips what it does not know.
function crypto.unbase64url(text)
    if text:find("[^%w_-]") or #text % 4 == 1 then return nil end
    local plain = text:gsub("-", "+"):gsub("_", "/") .. ("="):rep(-#text % 4)
    return (mime.unb64(plain)) or ""
end

-- Time does not depend on where the first difference stands; a habit, not a need of tests.
function crypto.equal(a, b)
    if #a ~= #b then return false end
    local key = rand.bytes(16)
    return crypto.hmac("sha256", key, a) == crypto.hmac("sha256", key, b)
end

return crypto
