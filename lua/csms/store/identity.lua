-- SPDX-License-Identifier: MIT
-- csms-store.json: what makes a folder a store, and which one.

local core = require "csms.core"
local errors = require "csms.errors"
local json = require "csms.json"
local paths = require "csms.store.paths"

local M = {}

local FORMAT = 1
local TEXT = '{"format": 1, "id": "%s"}\n'

local ANEW = "; write it anew, as " .. TEXT:format("..."):sub(1, -2) .. " with the id that the "
    .. "first line of any file in runs/ calls 'store'"

-- A folder without csms-store.json: an empty store, or none.
local function check_empty(dir, entries)
    for _, entry in ipairs(entries) do
        if entry.name == paths.BLOBS or entry.name == paths.RUNS then
            return nil, paths.failure(dir.root, paths.IDENTITY, "damaged", "it is gone" .. ANEW)
        end
        if entry.name ~= paths.LOCK and not paths.is_temporary(entry.name)
            and not paths.is_file_systems(entry) then
            return nil, errors.new("config", ("%s is no csms store: it holds other files (%s); "
                .. "a store is a folder that was new or empty when csms first wrote to it")
                :format(dir.root, entry.name))
        end
    end
    return nil
end

--- The store's id; nil for an empty store; nil and the error for a folder that is
--- no store, a store of another format (kind "config"), or a damaged one.
function M.read(dir)
    local text, err = dir:read(paths.IDENTITY, 4096)
    if err and err.code == "ENOENT" then
        local entries, problem = dir:entries()
        if not entries then return nil, problem end
        -- Another process may have made the store meanwhile.
        text, err = dir:read(paths.IDENTITY, 4096)
        if err and err.code == "ENOENT" then return check_empty(dir, entries) end
    end
    if not text then return nil, err end
    local id = text:match('"id": "(%x+)"')
    if id and text == TEXT:format(id) then return id end
    local value = json.decode(text)
    local format = type(value) == "table" and value.format
    if type(format) == "number" and format ~= FORMAT then
        return nil, errors.new("config", ("%s is a store of format %s, and this csms knows "
            .. "format %d; use the csms that wrote it"):format(dir.root, format, FORMAT))
    end
    return nil, paths.failure(dir.root, paths.IDENTITY, "damaged",
        "it is not as csms wrote it" .. ANEW)
end

local CAN_BE_MISSED = { damaged = true, EIO = true, EACCES = true, EFBIG = true }

--- Whether the rest of a store can be read in spite of this error of read(), which
--- verify() names.
function M.can_be_missed(err)
    return CAN_BE_MISSED[err.code] == true
end

--- Makes an empty folder a store: its id, or nil and the error.
function M.create(dir)
    local id = core.random_hex(16)
    local temporary = paths.temporary()
    local good, err = dir:create(temporary, TEXT:format(id))
    if not good then return nil, err end
    good, err = dir:sync { temporary }
    if good then good, err = dir:rename(temporary, paths.IDENTITY) end
    if good then good, err = dir:sync { paths.IDENTITY } end
    if not good then
        dir:remove(temporary)
        return nil, err
    end
    return id
end

return M
