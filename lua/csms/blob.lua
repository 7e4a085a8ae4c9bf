-- SPDX-License-Identifier: MIT
-- What can be told of a backup blob from outside: it is a marker, then a JWE in
-- compact form (RFC 7516, 7.1) without anything between the two (csms-api.md 8).
-- The published samples are cut short; so nothing here is a hard error but text
-- that is no blob at all.

local arguments = require "csms.arguments"
local errors = require "csms.errors"
local json = require "csms.json"

local M = {}

local FORMAT = "CloudSecretManagementBackupV1"
local MARKER = "(CloudSecretManagementBackupV%d%d?%d?)"
local PARTS = { "header", "encrypted key", "iv", "ciphertext", "tag" }
local MAX_HEADER = 4096 -- characters; the service's has 119
local MAX_FIELD = 200
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local VALUES = {}
for value = 0, 63 do VALUES[ALPHABET:byte(value + 1)] = value end

-- Decoded length of base64url (RFC 4648, 5, without padding), or nil and what is wrong with it.
local function length_of(text)
    if not text:find("^[a-zA-Z0-9_-]*$") then
        return nil, "holds characters that are not base64url"
    end
    if #text % 4 == 1 then return nil, "has an impossible length; it is cut" end
    return math.floor(#text * 3 / 4)
end

-- nil where it is none.
local function decode_base64url(text)
    local length, bytes = length_of(text), {}
    if not length then return nil end
    for index = 1, #text, 4 do
        local one, two, three, four = text:byte(index, index + 3)
        local bits = VALUES[one] * 262144 + VALUES[two] * 4096 + (VALUES[three] or 0) * 64
            + (VALUES[four] or 0)
        bytes[#bytes + 1] = string.char(math.floor(bits / 65536), math.floor(bits / 256) % 256,
            bits % 256)
    end
    return table.concat(bytes):sub(1, length)
end

-- The parts, one more than there should be at most.
local function split(text)
    local parts, from = {}, 1
    repeat
        local dot = text:find(".", from, true)
        parts[#parts + 1] = text:sub(from, dot and dot - 1)
        from = dot and dot + 1
    until not dot or #parts > #PARTS
    return parts
end

-- What A128CBC-HS256 and RSA-OAEP-256 prescribe (RFC 7518, 5.2.3 and 4.3).
local function check_lengths(lengths, header, problems)
    local function wrong(index, good, what)
        if lengths[index] and not good then
            problems[#problems + 1] = ("the %s has %d bytes, not %s")
                :format(PARTS[index], lengths[index], what)
        end
    end
    if header.alg == "RSA-OAEP-256" then
        wrong(2, lengths[2] and lengths[2] >= 256 and lengths[2] % 64 == 0, "those of an RSA key")
    end
    if header.enc == "A128CBC-HS256" then
        wrong(3, lengths[3] == 16, "16")
        wrong(4, lengths[4] and lengths[4] % 16 == 0, "whole AES blocks")
        wrong(5, lengths[5] == 16, "16")
    end
end

-- Whoever made the blob wrote this: only text that can be shown is taken.
local function read_field(header, name, problems)
    local value = header[name]
    if type(value) == "string" and #value <= MAX_FIELD and not value:find("%c") then
        return value
    end
    if value ~= nil then
        problems[#problems + 1] = "the header's " .. name .. " is no text on one line"
    end
end

local function read_header(text, problems)
    local header = #text <= MAX_HEADER and json.decode(decode_base64url(text) or "")
    if type(header) ~= "table" then
        problems[#problems + 1] = "the header is not JSON in base64url"
        return {}
    end
    return {
        kid = read_field(header, "kid", problems), enc = read_field(header, "enc", problems),
        alg = read_field(header, "alg", problems),
    }
end

local function check_parts(parts, problems)
    local lengths = {}
    for index, name in ipairs(PARTS) do
        local part = parts[index]
        if not part or part == "" then
            problems[#problems + 1] = "the " .. name .. " is missing"
        elseif index > 1 then
            local problem
            lengths[index], problem = length_of(part)
            if problem then problems[#problems + 1] = "the " .. name .. " " .. problem end
        end
    end
    if #parts > #PARTS then
        problems[#problems + 1] = ("it has more than %d parts"):format(#PARTS)
    end
    return lengths
end

-- Of a format that came after this program, which knows none of its rules.
local function of_unknown(blob, format)
    return {
        format = format, bytes = #blob, complete = false,
        problems = { "its format is not known to this version of csms, which cannot tell "
            .. "whether it is complete" },
    }
end

--- What a blob says of itself, without any key.
-- Returns {format, kid, enc, alg, bytes, complete, problems = {text, ...}}; or
-- nil and an error of kind "argument" for text that is no backup blob.
function M.inspect(blob)
    arguments.expect("string", 1, "blob", blob)
    local _, marker_end, format = blob:find(MARKER)
    if format and format ~= FORMAT then return of_unknown(blob, format) end
    local start = marker_end and blob:find("eyJ", marker_end + 1, true)
    if not start then
        return nil, errors.new("argument", marker_end
            and "the blob ends before its JWE header; it is cut"
            or "this is no CSMS backup blob: the text " .. FORMAT .. " is not in it")
    end
    local problems = {}
    local parts = split(blob:sub(start))
    local header = read_header(parts[1], problems)
    check_lengths(check_parts(parts, problems), header, problems)
    return {
        format = FORMAT, kid = header.kid, enc = header.enc, alg = header.alg,
        bytes = #blob, complete = #problems == 0, problems = problems,
    }
end

--- Whether it may be a whole backup: true; nil and why it surely is none; or true and
--- why nobody can tell, for a format that is not known.
function M.check(blob)
    local facts, err = M.inspect(blob)
    if not facts then return nil, err.message end
    if facts.complete then return true end
    if facts.format ~= FORMAT then return true, facts.problems[1] end
    return nil, "the blob is not whole: " .. table.concat(facts.problems, ", ")
end

return M
