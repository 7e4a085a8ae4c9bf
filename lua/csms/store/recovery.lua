-- SPDX-License-Identifier: MIT
-- Closing runs: the writer's own at its end, and those that a killed one left.

local blobs = require "csms.store.blobs"
local core = require "csms.core"
local paths = require "csms.store.paths"
local record = require "csms.store.record"
local runs = require "csms.store.runs"
local stamps = require "csms.store.stamps"

local M = {}

--- Adds the last line and gives the run its final name: true, or nil and the
--- error. ended: {exit, incomplete, interrupted}, for that line.
function M.close_run(dir, file, ended)
    local good, err = dir:append(file, record.encode {
        outcome = "ended", when = stamps.format(core.time()), exit = ended.exit,
        incomplete = ended.incomplete, interrupted = ended.interrupted,
    })
    if good then good, err = dir:sync { file } end
    local text
    if good then text, err = dir:read(file) end
    if not text then return nil, err end
    local stamp = file:match("/(" .. stamps.PATTERN .. ")%-")
    local closed = paths.RUNS .. "/" .. paths.closed_run(stamp, text)
    good, err = dir:rename(file, closed)
    if not good then return nil, err end
    return dir:sync { paths.RUNS }
end

--- Removes what a killed writer has left half-written in a folder, nil being the store's
--- own: the entries that were there, or nil and the error. For who holds the lock.
function M.remove_temporaries(dir, folder)
    local entries, err = dir:entries_if_any(folder)
    if not entries then return nil, err end
    for _, entry in ipairs(entries) do
        if paths.is_temporary(entry.name) and entry.type ~= "directory" then
            local good
            good, err = dir:remove(paths.within(folder, entry.name))
            if not good then return nil, err end
        end
    end
    return entries
end

-- Adds the good blobs of a secret, saved from `stamp` on, that no run names, and lines
-- for them: true, or nil and the error.
local function find_unnamed(dir, secret, stamp, named, files, lines)
    local found, err = blobs.of_folder(dir, secret.folder)
    if not found then return nil, err end
    for _, blob in ipairs(found) do
        if blob.stamp >= stamp and not named[blob.file] then
            local data, digest = blobs.read(dir, blob)
            if data then
                files[#files + 1] = blob.file
                lines[#lines + 1] = record.encode {
                    outcome = "saved", project = secret.project, name = secret.name,
                    file = blob.file, sha256 = digest, bytes = #data, recovered = true,
                }
            elseif digest.code ~= "damaged" then
                return nil, digest
            end
        end
    end
    return true
end

-- The unfinished run names what it had saved before it was killed. All runs are asked:
-- after a clock was set back, an older one may have blobs that look younger. Their data
-- is durable, or they had no names; the names may not be.
local function add_unnamed(dir, run)
    local named, err = runs.saved(dir)
    if not named then return nil, err end
    local secrets
    secrets, err = blobs.secrets(dir)
    if not secrets then return nil, err end
    local files, lines = {}, {}
    for _, secret in ipairs(secrets) do
        local good
        good, err = M.remove_temporaries(dir, secret.folder)
        if good then good, err = find_unnamed(dir, secret, run.stamp, named, files, lines) end
        if not good then return nil, err end
    end
    if #files == 0 then return true end
    local good
    good, err = dir:sync(paths.folders_above(files))
    if not good then return nil, err end
    return dir:append(run.file, table.concat(lines))
end

local function close_killed(dir, run, id)
    local left = runs.read(dir, run)
    if left.unread then return nil, left.unread end
    local good, err = dir:truncate(run.file, left.whole)
    if good and left.whole == 0 then
        good, err = dir:append(run.file, record.encode { store = id, started = run.stamp })
    end
    if good then good, err = add_unnamed(dir, run) end
    if good then good, err = M.close_run(dir, run.file, { interrupted = true }) end
    return good, err
end

--- Closes the runs that killed writers left, as interrupted, and removes their
--- temporary files: all runs, as they were before, or nil and the error. For who holds
--- the lock.
function M.run(dir, id)
    local good, err = M.remove_temporaries(dir)
    if not good then return nil, err end
    local found
    found, err = runs.list(dir)
    if not found then return nil, err end
    for index = #found, 1, -1 do -- the newest first: a blob is the last one's that can have it
        if not found[index].closed then
            good, err = close_killed(dir, found[index], id)
            if not good then return nil, err end
        end
    end
    return found
end

return M
