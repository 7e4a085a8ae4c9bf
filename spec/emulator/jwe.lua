-- JWE compact serialisation with RSA-OAEP-256 and A128CBC-HS256 (RFC 7516, 7518).
-- luaossl's own OAEP is bound to SHA-1, so the padding is done here over the raw RSA operation.
local crypto = require "spec.emulator.crypto"
local cipher = require "openssl.cipher"
local json = require "spec.emulator.json"
local pkey = require "openssl.pkey"
local xor = require "spec.emulator.xor"

local jwe = {}

local RAW = { rsaPadding = pkey.RSA_NO_PADDING }
local KEY_BYTES = 256
local HASH_BYTES = 32
local EMPTY_LABEL = crypto.digest("sha256", "")

local function mask(seed, length)
    local blocks = {}
    for counter = 0, math.ceil(length / HASH_BYTES) - 1 do
        blocks[#blocks + 1] = crypto.digest("sha256", seed .. "\0\0\0" .. string.char(counter))
    end
    return table.concat(blocks):sub(1, length)
end

local function oaep_pad(message)
    local zeros = ("\0"):rep(KEY_BYTES - #message - 2 * HASH_BYTES - 2)
    local block = EMPTY_LABEL .. zeros .. "\1" .. message
    local seed = crypto.random(HASH_BYTES)
    local masked = xor(block, mask(seed, #block))
    return "\0" .. xor(seed, mask(masked, HASH_BYTES)) .. masked
end

local function oaep_unpad(padded)
    local masked = padded:sub(HASH_BYTES + 2)
    local seed = xor(padded:sub(2, HASH_BYTES + 1), mask(masked, HASH_BYTES))
    local block = xor(masked, mask(seed, #masked))
    if padded:byte(1) ~= 0 or block:sub(1, HASH_BYTES) ~= EMPTY_LABEL then return nil end
    return block:match("^%z*\1(.*)$", HASH_BYTES + 1)
end

local function uint64(n)
    local bytes = {}
    for i = 8, 1, -1 do
        bytes[i] = string.char(n % 256)
        n = math.floor(n / 256)
    end
    return table.concat(bytes)
end

local function tag_of(mac_key, header, iv, ciphertext)
    local text = header .. iv .. ciphertext .. uint64(#header * 8)
    return crypto.hmac("sha256", mac_key, text):sub(1, 16)
end

function jwe.header(kid)
    return crypto.base64url('{"kid":"' .. kid .. '","enc":"A128CBC-HS256","alg":"RSA-OAEP-256"}')
end

-- header: what jwe.header made, so that a busy caller makes it once.
function jwe.encrypt(key, header, plaintext)
    local cek, iv = crypto.random(32), crypto.random(16)
    local ciphertext = cipher.new("AES-128-CBC"):encrypt(cek:sub(17), iv):final(plaintext)
    local tag = tag_of(cek:sub(1, 16), header, iv, ciphertext)
    local encrypted_key = key:encrypt(oaep_pad(cek), RAW)
    return table.concat({
        header, crypto.base64url(encrypted_key), crypto.base64url(iv),
        crypto.base64url(ciphertext), crypto.base64url(tag),
    }, ".")
end

local function split(text)
    local parts = {}
    for part in (text .. "."):gmatch("([^.]*)%.") do parts[#parts + 1] = part end
    if #parts ~= 5 then return nil end
    local bytes = {}
    for i, part in ipairs(parts) do
        bytes[i] = crypto.unbase64url(part)
        if not bytes[i] then return nil end
    end
    return parts, bytes
end

local function content_key(key, encrypted)
    -- What is above the modulus is none, and luaossl's error for it reads freed memory.
    if encrypted >= key:getParameters().n:toBinary() then return nil end
    local ok, padded = pcall(key.decrypt, key, encrypted, RAW)
    local cek = ok and oaep_unpad(padded)
    return cek and #cek == 32 and cek or nil
end

-- text -> header table | nil: no key is needed to read it.
function jwe.inspect(text)
    local parts, bytes = split(text)
    if not parts then return nil end
    local header = json.decode(bytes[1])
    if type(header) ~= "table" or header.enc ~= "A128CBC-HS256" or header.alg ~= "RSA-OAEP-256" then
        return nil
    end
    if #bytes[2] ~= KEY_BYTES or #bytes[3] ~= 16 or #bytes[5] ~= 16 or #bytes[4] % 16 ~= 0 then
        return nil
    end
    return header
end

-- plaintext | nil, why
function jwe.decrypt(key, text)
    if not jwe.inspect(text) then return nil, "not a JWE of this kind" end
    local parts, bytes = split(text)
    local cek = content_key(key, bytes[2])
    if not cek then return nil, "the content key cannot be opened" end
    local tag = tag_of(cek:sub(1, 16), parts[1], bytes[3], bytes[4])
    if not crypto.equal(tag, bytes[5]) then return nil, "the tag does not fit" end
    return cipher.new("AES-128-CBC"):decrypt(cek:sub(17), bytes[3]):final(bytes[4])
end

return jwe
