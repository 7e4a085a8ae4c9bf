-- As much of HPACK (RFC 7541) as a server of oddities needs: the path of a request,
-- and fields that are written out in full.

local M = {}

-- ---- reading ----------------------------------------------------------------

-- The Huffman code is canonical; of its characters, those with codes of 5, 6 and 7 bits.
local ALPHABET = {
    [5] = { first = 0, "012aceiost" },
    [6] = { first = 20, " %-./3456789=A_bdfghlmnpru" },
    [7] = { first = 92, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz" },
}

local function bits_of(text)
    return (text:gsub(".", function(char)
        local bits, byte = "", char:byte()
        for _ = 1, 8 do
            bits, byte = byte % 2 .. bits, byte // 2
        end
        return bits
    end))
end

local function next_char(bits, at)
    for length = 5, 7 do
        local code = tonumber(bits:sub(at, at + length - 1), 2)
        local row = ALPHABET[length]
        local index = code - row.first + 1
        if index >= 1 and index <= #row[1] then return row[1]:sub(index, index), at + length end
    end
    error "a character that no path of ours has"
end

local function unhuffman(text)
    local bits, chars, at = bits_of(text), {}, 1
    while bits:find("0", at, true) and #bits - at >= 4 do -- the rest is padding: ones
        chars[#chars + 1], at = next_char(bits, at)
    end
    return table.concat(chars)
end

-- An integer with a prefix of so many bits (5.1), and where it ends.
local function read_integer(block, at, prefix)
    local most = 2 ^ prefix - 1
    local value, shift = block:byte(at) % (most + 1), 1
    at = at + 1
    if value < most then return value, at end
    repeat
        local byte = block:byte(at)
        value, shift, at = value + byte % 128 * shift, shift * 128, at + 1
    until byte < 128
    return value, at
end

-- A string (5.2) as it stands there, whether it is Huffman-coded, and where it ends.
local function read_string(block, at)
    local coded = block:byte(at) >= 128
    local length
    length, at = read_integer(block, at, 7)
    length = math.tointeger(length)
    return block:sub(at, at + length - 1), coded, at + length
end

local function is_path(index)
    return index == 4 or index == 5 -- in the static table
end

-- Reads one field; `path` where it is that.
local function read_field(block, at)
    local first = block:byte(at)
    if first >= 128 then return nil, select(2, read_integer(block, at, 7)) end
    if first >= 32 and first < 64 then return nil, select(2, read_integer(block, at, 5)) end
    local index, coded, value, _
    index, at = read_integer(block, at, first >= 64 and 6 or 4)
    if index == 0 then _, _, at = read_string(block, at) end
    value, coded, at = read_string(block, at)
    if not is_path(index) then return nil, at end
    return coded and unhuffman(value) or value, at
end

--- The :path of a request's header block. nghttp2 never puts it into the dynamic table.
function M.path(block)
    local at, path = 1, nil
    while at <= #block do
        local found
        found, at = read_field(block, at)
        path = path or found
    end
    return path
end

-- ---- writing ----------------------------------------------------------------

local function string_of(text)
    local length, prefix = #text, ""
    if length < 127 then return string.char(length) .. text end
    length = length - 127
    while length >= 128 do
        prefix, length = prefix .. string.char(length % 128 + 128), length // 128
    end
    return "\127" .. prefix .. string.char(length) .. text
end

--- A field in full, without indexing.
function M.field(name, value)
    return "\0" .. string_of(name) .. string_of(value)
end

--- A field in full that is put into the dynamic table.
function M.indexed_field(name, value)
    return "\64" .. string_of(name) .. string_of(value)
end

return M
