-- SPDX-License-Identifier: MIT
-- Where things lie in a store. Names come from a server: they are checked again
-- here before they become paths.

local arguments = require "csms.arguments"
local core = require "csms.core"
local errors = require "csms.errors"
local stamps = require "csms.store.stamps"

local M = {
    IDENTITY = "csms-store.json",
    LOCK = "lock",
    BLOBS = "blobs",
    RUNS = "runs",
}

local BLOB = "^(" .. stamps.PATTERN .. ")%-(%x%x%x%x%x%x%x%x%x%x%x%x)%.blob$"
local CLOSED = "^(" .. stamps.PATTERN .. ")%-(%x%x%x%x%x%x%x%x%x%x%x%x)%.jsonl$"
local OPEN = "^(" .. stamps.PATTERN .. ")%-(%x+)%.part$"
local TEMPORARY = "^%.tmp%-" .. ("%x"):rep(16) .. "$"

-- The folder of a secret below its project: its name; one with upper-case
-- letters gets a digest too, so that names that differ only in case never meet,
-- whatever the file system.
local function folder_of_name(name)
    if not name:find("%u") then return name end
    return name .. "+" .. core.sha256(name):sub(1, 8)
end

--- The secret's name of a folder, or nil for a folder that is no secret's.
function M.name_of_folder(folder)
    local name = folder:gsub("%+%x%x%x%x%x%x%x%x$", "")
    return arguments.argument("name", name, true) and folder_of_name(name) == folder and name or nil
end

--- The folder that holds a secret's blobs, or nil and an error of kind "argument".
function M.folder(project, name)
    local good, err = arguments.project(project)
    if not good then return nil, err end
    good, err = arguments.argument("name", name, true)
    if not good then return nil, err end
    return table.concat({ M.BLOBS, project, folder_of_name(name) }, "/")
end

--- What is called `name` in a folder; nil is the store's own.
function M.within(folder, name)
    return folder and folder .. "/" .. name or name
end

--- A new name for a temporary file in a folder, as above.
function M.temporary(folder)
    return M.within(folder, ".tmp-" .. core.random_hex(8))
end

function M.is_temporary(file)
    return file:find(TEMPORARY) ~= nil
end

--- Whether an entry of the store's own folder is the file system's: a volume of ext4 has
--- it from the start.
function M.is_file_systems(entry)
    return entry.name == "lost+found" and entry.type == "directory"
end

--- The file name of a blob saved at `seconds` whose SHA-256 is `digest`.
function M.blob(seconds, digest)
    return stamps.format(seconds) .. "-" .. digest:sub(1, 12) .. ".blob"
end

--- The stamp and the digest's first 12 digits of a blob's file name, or nil.
function M.parse_blob(file)
    local stamp, digest = file:match(BLOB)
    if stamp and stamps.parse(stamp) and not digest:find("%u") then return stamp, digest end
end

--- The file name of a run that goes on, and of one that is closed.
function M.open_run(seconds)
    return stamps.format(seconds) .. "-" .. core.random_hex(6) .. ".part"
end

function M.closed_run(stamp, text)
    return stamp .. "-" .. core.sha256(text):sub(1, 12) .. ".jsonl"
end

--- {id, stamp, closed, digest} of a run's file name, or nil.
function M.parse_run(file)
    local stamp, digest = file:match(CLOSED)
    local closed = stamp ~= nil
    if not closed then stamp, digest = file:match(OPEN) end
    if not (stamp and stamps.parse(stamp)) then return nil end
    return { id = file:gsub("%.%a+$", ""), stamp = stamp, closed = closed, digest = digest }
end

--- The folders above a path, the innermost first.
function M.parents(path)
    local parents = {}
    while true do
        path = path:match("^(.+)/[^/]+$")
        if not path then return parents end
        parents[#parents + 1] = path
    end
end

--- The folders above these files, each once.
function M.folders_above(files)
    local folders, seen = {}, {}
    for _, file in ipairs(files) do
        for _, folder in ipairs(M.parents(file)) do
            if not seen[folder] then
                seen[folder] = true
                folders[#folders + 1] = folder
            end
        end
    end
    return folders
end

--- What is wrong with what cannot be read, in words.
function M.unreadable(err)
    return "it cannot be read: " .. (err.cause or err.message)
        .. (err.code == "EACCES" and "; make it readable for this user" or "")
end

--- An error about a path of the store.
-- code: "damaged", "locked", ... ; what: one line that says what to do.
function M.failure(root, path, code, what)
    return errors.new("storage", ("%s/%s: %s"):format(root, path, what), { code = code })
end

return M
