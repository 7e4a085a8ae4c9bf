-- The service's side of request signing: SDK-HMAC-SHA256, SDK-HMAC-SM3 and V11-HMAC-SHA256,
-- recomputed from a raw request. Shares no code with the library under test.
local crypto = require "spec.emulator.crypto"

local signature = {}

local ALGORITHMS = {
    ["SDK-HMAC-SHA256"] = { hash = "sha256", content = "x-sdk-content-sha256" },
    ["V11-HMAC-SHA256"] = { hash = "sha256", content = "x-sdk-content-sha256", derived = true },
    ["SDK-HMAC-SM3"] = { hash = "sm3", content = "x-sdk-content-sm3" },
}

local function hash(algorithm, text)
    return crypto.hex(crypto.digest(ALGORITHMS[algorithm].hash, text))
end

local function percent_decode(text)
    return (text:gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end))
end
signature.percent_decode = percent_decode

local function percent_encode(text, keep)
    return (text:gsub("[^%w_.~" .. keep .. "-]", function(c)
        return string.format("%%%02X", c:byte())
    end))
end

-- The path is decoded whole and encoded once, so it makes no difference how the client wrote it.
local function canonical_path(path)
    local encoded = percent_encode(percent_decode(path), "/")
    if encoded:sub(-1) ~= "/" then encoded = encoded .. "/" end
    return encoded
end

local function by_name_then_value(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
end

local function canonical_query(query)
    if not query or query == "" then return "" end
    local pairs_found, encoded = {}, {}
    for item in query:gmatch("[^&]+") do
        local name, value = item:match("^([^=]*)=?(.*)$")
        pairs_found[#pairs_found + 1] = { percent_decode(name), percent_decode(value) }
    end
    table.sort(pairs_found, by_name_then_value)
    for i, pair in ipairs(pairs_found) do
        encoded[i] = percent_encode(pair[1], "") .. "=" .. percent_encode(pair[2], "")
    end
    return table.concat(encoded, "&")
end

local function header_value(value)
    if type(value) == "table" then value = table.concat(value, ",") end
    return (value or ""):match("^%s*(.-)%s*$")
end

local function canonical_headers(headers, signed)
    local names, lines = {}, {}
    for i, name in ipairs(signed) do names[i] = name end
    table.sort(names)
    for i, name in ipairs(names) do
        lines[i] = name .. ":" .. header_value(headers[name]) .. "\n"
    end
    return table.concat(lines), table.concat(names, ";")
end

-- A client may send the body's hash, or UNSIGNED-PAYLOAD, in a header of its own.
function signature.payload_hash(algorithm, request)
    local stated = request.headers[ALGORITHMS[algorithm].content]
    if stated then return header_value(stated) end
    return hash(algorithm, request.body or "")
end

-- request: {method, uri (raw, with query), headers (lower-case names), body}
function signature.canonical_request(algorithm, request, signed)
    local path, query = request.uri:match("^([^?]*)%??(.*)$")
    local headers, names = canonical_headers(request.headers, signed)
    return table.concat({
        request.method, canonical_path(path), canonical_query(query), headers, names,
        signature.payload_hash(algorithm, request),
    }, "\n")
end

function signature.string_to_sign(algorithm, date, canonical, info)
    local lines = { algorithm, date }
    if info then lines[#lines + 1] = info end
    lines[#lines + 1] = hash(algorithm, canonical)
    return table.concat(lines, "\n")
end

-- HKDF with one block; the key is the hex text of the result, not its bytes.
local function derived_key(ak, sk, info)
    local pseudorandom = crypto.hmac("sha256", ak, sk)
    return crypto.hex(crypto.hmac("sha256", pseudorandom, info .. "\1"))
end

-- parsed: {algorithm, ak, info (V11 only), signed}
function signature.compute(parsed, request, sk)
    local canonical = signature.canonical_request(parsed.algorithm, request, parsed.signed)
    local date = header_value(request.headers["x-sdk-date"])
    local text = signature.string_to_sign(parsed.algorithm, date, canonical, parsed.info)
    local key = parsed.info and derived_key(parsed.ak, sk, parsed.info) or sk
    return crypto.hex(crypto.hmac(ALGORITHMS[parsed.algorithm].hash, key, text)), canonical, text
end

local function split_names(text)
    local names = {}
    for name in text:gmatch("[^;]+") do names[#names + 1] = name:lower() end
    return names
end

-- Authorization header -> {algorithm, ak, info, signed, signature} | nil
function signature.parse(authorization)
    local algorithm, kind, who, signed, mac = authorization:match(
        "^(%S+) (%a+)=([^,]+), ?SignedHeaders=([^,]+), ?Signature=(%x+)$")
    local facts = ALGORITHMS[algorithm or ""]
    if not facts or kind ~= (facts.derived and "Credential" or "Access") then return nil end
    local parsed = { algorithm = algorithm, ak = who, signature = mac }
    parsed.signed = split_names(signed)
    if facts.derived then
        parsed.ak, parsed.info = who:match("^([^/]+)/(.+)$")
        if not parsed.ak then return nil end
    end
    return parsed
end

-- Does the stated payload hash, where there is one, fit the body that came?
function signature.payload_fits(algorithm, request)
    local stated = request.headers[ALGORITHMS[algorithm].content]
    if not stated then return true end
    local value = header_value(stated)
    return value == "UNSIGNED-PAYLOAD" or value == hash(algorithm, request.body or "")
end

return signature
