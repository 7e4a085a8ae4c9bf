-- SPDX-License-Identifier: MIT
-- The blobs of a store, found by their folders alone.

local arguments = require "csms.arguments"
local core = require "csms.core"
local paths = require "csms.store.paths"
local stamps = require "csms.store.stamps"

local M = {
    --- What the clocks of those who write a store may differ by, in seconds.
    CLOCKS_DIFFER = 60,
    --- What helps where a secret's newest blobs are from the future; %s is its folder. The
    --- newest of them is the last that was saved, whatever its stamp.
    RID_OF_FUTURE = "move %s as a whole out of the store, keep it, back the secret up anew at "
        .. "once if it still exists, and then run `csms prune --forget-missing`",
}

--- The same with what helps everybody who has time: `stamp` is the newest one.
function M.wait_or_rid(stamp, folder)
    return ("this passes by itself at %s; if that is too long, %s"):format(stamp,
        M.RID_OF_FUTURE:format(folder))
end

local function folders(dir, path)
    local entries, err = dir:entries_if_any(path)
    if not entries then return nil, err end
    local names = {}
    for _, entry in ipairs(entries) do
        if entry.type == "directory" then names[#names + 1] = entry.name end
    end
    return names
end

local function add_secrets(dir, secrets, project)
    local above = paths.BLOBS .. "/" .. project
    local names, err = folders(dir, above)
    if not names then return nil, err end
    for _, folder in ipairs(names) do
        local name = paths.name_of_folder(folder)
        if name then
            secrets[#secrets + 1] = {
                project = project, name = name, folder = above .. "/" .. folder,
            }
        end
    end
    return true
end

--- All secrets that have a folder, of one project or of all: an array of
--- {project, name, folder}, or nil and the error.
function M.secrets(dir, project)
    local projects, err = project and { project }, nil
    if not project then projects, err = folders(dir, paths.BLOBS) end
    if not projects then return nil, err end
    local secrets = {}
    for _, id in ipairs(projects) do
        if arguments.project(id) then
            local good
            good, err = add_secrets(dir, secrets, id)
            if not good then return nil, err end
        end
    end
    return secrets
end

--- The blobs in a secret's folder, the newest first: an array of {file, stamp,
--- saved_at, digest}, or nil and the error.
function M.of_folder(dir, folder)
    local entries, err = dir:entries_if_any(folder)
    if not entries then return nil, err end
    return M.among(entries, folder)
end

--- The same of a folder's entries, for who has them already.
function M.among(entries, folder)
    local blobs = {}
    for index = #entries, 1, -1 do
        local stamp, digest = paths.parse_blob(entries[index].name)
        if stamp and entries[index].type == "file" then
            blobs[#blobs + 1] = {
                file = folder .. "/" .. entries[index].name,
                stamp = stamp, saved_at = stamps.parse(stamp), digest = digest,
            }
        end
    end
    return blobs
end

--- The blob itself and its SHA-256; or nil and an error, whose code is "damaged"
--- where it is not what was saved.
function M.read(dir, blob)
    local data, err = dir:read(blob.file)
    if err and err.code == "EFBIG" then
        return nil, paths.failure(dir.root, blob.file, "damaged", "it is longer than any backup")
    end
    if not data then return nil, err end
    local digest = core.sha256(data)
    if digest:sub(1, #blob.digest) ~= blob.digest then
        return nil, paths.failure(dir.root, blob.file, "damaged", "its SHA-256 is not the one "
            .. "in its name; it was changed or cut. Older backups of the secret may be good: "
            .. "`csms verify` tells")
    end
    return data, digest
end

--- The newest blob that is whole, and its data and digest; nil where there is
--- none; or nil and the error. `again`: for itself.
function M.newest_good(dir, folder, again)
    local blobs, err = M.of_folder(dir, folder)
    if not blobs then return nil, err end
    local gone = false
    for _, blob in ipairs(blobs) do
        local data, digest = M.read(dir, blob)
        if data then return blob, data, digest end
        gone = gone or digest.code == "ENOENT"
        if digest.code ~= "damaged" and digest.code ~= "ENOENT" then return nil, digest end
    end
    -- Saved and pruned since they were listed: there is a younger one.
    if gone and not again then return M.newest_good(dir, folder, true) end
end

return M
