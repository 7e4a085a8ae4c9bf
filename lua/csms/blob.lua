-- SPDX-License-Identifier: MIT
-- What can be told of a backup blob from outside: it is a marker, then a JWE in
-- compact form (RFC 7516, 7.1) without anything between the two (csms-api.md 8).
-- The published samples are cut short; so nothing here is a hard error but text
-- that is no blob at all.

local arguments = require "csms.arguments"
local errors = require "csms.errors"
local json = require "csms.json"

local M = {}

local MARKER = "CloudSecretManagementBackupV1"
local PARTS = { "header", "encrypted key", "iv", "ciphertext", "tag" }
local MAX_HEADER = 4096 -- characters; the service's has 119
local MAX_FIELD = 200
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

-- RFC 4648, 5, without padding; nil where it is not.
local function decode_base64url(text)
    if text:find("[^a-zA-Z0-9_-]") or #text % 4 == 1 then return nil end
    local bytes, bits, held = {}, 0, 0
    for char in text:gmatch(".") do
        held = held * 64 + ALPHABET:find(char, 1, true) - 1
        bits = bits + 6
        if bits >= 8 then
            bits = bits - 8
            local unit = 2 ^ bits
            bytes[#bytes + 1] = string.char(math.floor(held / unit))
            held = held % unit
        end
    end
    return table.concat(bytes)
end

-- The parts, one more than there should be at most.
local function split(text)
    local parts = {}
    for part in (text .. "."):gmatch("([^.]*)%.") do
        parts[#parts + 1] = part
        if #parts > #PARTS then break end
    end
    return parts
end

-- Decoded length of a part, or nil and what is wrong with it.
local function length_of(part)
    if part:find("[^a-zA-Z0-9_-]") then return nil, "holds characters that are not base64url" end
    if #part % 4 == 1 then return nil, "has an impossible length; it is cut" end
    return math.floor(#part * 3 / 4)
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
        wrong(4, lengths[4] and lengths[4] > 0 and lengths[4] % 16 == 0, "whole AES blocks")
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

--- What a blob says of itself, without any key.
-- Returns {format, kid, enc, alg, bytes, complete, problems = {text, ...}}; or
-- nil and an error of kind "argument" for text that is no backup blob.
function M.inspect(blob)
    arguments.expect("string", 1, "blob", blob)
    local _, marker_end = blob:find(MARKER, 1, true)
    local start = marker_end and blob:find("eyJ", marker_end + 1, true)
    if not start then
        return nil, errors.new("argument", marker_end
            and "the blob ends before its JWE header; it is cut"
            or "this is no CSMS backup blob: the text " .. MARKER .. " is not in it")
    end
    local problems = {}
    local parts = split(blob:sub(start))
    local header = read_header(parts[1], problems)
    check_lengths(check_parts(parts, problems), header, problems)
    return {
        format = MARKER, kid = header.kid, enc = header.enc, alg = header.alg,
        bytes = #blob, complete = #problems == 0, problems = problems,
    }
end

return M
