-- SPDX-License-Identifier: MIT
-- UTF-8 on every Lua: LuaJIT has no library for it.

local M = {}

-- The characters of UTF-8 that are longer than a byte.
local CHARACTERS = {
    "^[\194-\223][\128-\191]", "^\224[\160-\191][\128-\191]",
    "^[\225-\236\238\239][\128-\191][\128-\191]", "^\237[\128-\159][\128-\191]",
    "^\240[\144-\191][\128-\191][\128-\191]",
    "^[\241-\243][\128-\191][\128-\191][\128-\191]",
    "^\244[\128-\143][\128-\191][\128-\191]",
}

local function character_at(text, from)
    for _, pattern in ipairs(CHARACTERS) do
        local character = text:match(pattern, from)
        if character then return character end
    end
end

local REPLACEMENT = "\239\191\189" -- U+FFFD

--- The text with U+FFFD for each byte that is none of UTF-8's: what an argument, a file's
--- name or a server says need not be UTF-8, and JSON is.
function M.clean(text)
    return (text:gsub("[\128-\255]+", function(bytes)
        local parts, from = {}, 1
        while from <= #bytes do
            local character = character_at(bytes, from)
            parts[#parts + 1] = character or REPLACEMENT
            from = from + (character and #character or 1)
        end
        return table.concat(parts)
    end))
end

return M
