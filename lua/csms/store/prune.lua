-- SPDX-License-Identifier: MIT
-- Removing old backups, by the rules of csms.store.retention. The newest good
-- blob of a secret stays whatever they say, and so do the newest that csms.blob
-- calls complete and a file that is not the store's own. A run names what is
-- removed before it is. What somebody else removed is named by a run where that is
-- asked for.

local blobs = require "csms.store.blobs"
local contents = require "csms.blob"
local core = require "csms.core"
local errors = require "csms.errors"
local retention = require "csms.store.retention"
local runs = require "csms.store.runs"
local verify = require "csms.store.verify"
local writer = require "csms.store.writer"

local M = {}

-- Whether the store wrote it: a run names it, or it has its digest. What cannot be read
-- stays, as a stranger's file does.
local function is_own(dir, blob, named)
    return named[blob.file] ~= nil or blobs.read(dir, blob) ~= nil
end

-- The blob; nil where it is damaged or gone; or nil and the error.
local function read_good(dir, blob)
    local data, err = blobs.read(dir, blob)
    if not data and err.code ~= "damaged" and err.code ~= "ENOENT" then return nil, err end
    return data
end

-- What the rules keep of the blobs that are whole, as keys of a table: only what would be
-- kept is read. Or nil and the error.
local function select_whole(dir, found, keep)
    local whole = {}
    while true do
        local kept, rest = retention.select(found, keep), {}
        for _, blob in ipairs(found) do
            if kept[blob] and whole[blob] == nil then
                local data, err = read_good(dir, blob)
                if err then return nil, err end
                whole[blob] = data ~= nil
            end
            if not kept[blob] or whole[blob] then rest[#rest + 1] = blob end
        end
        if #rest == #found then return kept end
        found = rest
    end
end

-- What the rules keep, as keys of a table: damaged ones too, which take no place from
-- those that are whole. Or nil and the error.
local function select_kept(dir, found, keep)
    local kept, err = select_whole(dir, found, keep)
    if not kept then return nil, err end
    for blob in pairs(retention.select(found, keep)) do kept[blob] = true end
    return kept
end

local function is_complete(data)
    local facts = contents.inspect(data)
    return facts and facts.complete
end

-- The newest that is a whole backup as far as anyone can tell without the key: a service out
-- of order may have given something else since. nil where there is none, because a program
-- may save any text; or nil and the error.
-- newest: the newest good one, with its data, which is nearly always it.
local function newest_complete(dir, found, newest, newest_data)
    if is_complete(newest_data) then return newest end
    for _, blob in ipairs(found) do
        local data, err = read_good(dir, blob)
        if err then return nil, err end
        if data and is_complete(data) then return blob end
    end
end

-- Adds what may go of one secret; returns how many stay, or nil and the error.
local function add_removable(dir, secret, keep, named, removable)
    local found, err = blobs.of_folder(dir, secret.folder)
    if not found then return nil, err end
    local newest, data = blobs.newest_good(dir, secret.folder)
    if not newest then return not data and #found or nil, data end
    local complete, kept
    complete, err = newest_complete(dir, found, newest, data)
    if err then return nil, err end
    kept, err = select_kept(dir, found, keep)
    if not kept then return nil, err end
    local stays = { [newest.file] = true, [complete and complete.file or newest.file] = true }
    local stay = 0
    for _, blob in ipairs(found) do
        if not (kept[blob] or stays[blob.file]) and is_own(dir, blob, named) then
            removable[#removable + 1] = { secret = secret, file = blob.file }
        else
            stay = stay + 1
        end
    end
    return stay
end

local FUTURE = "the newest backups in %s/%s%s are from the future, because a clock was wrong "
    .. "(`csms status` shows an age below zero); %s"

-- Whether the stamps are of the days when the blobs were saved, by which the rules go: true,
-- or nil and the error. Whatever was saved after one from the future has a later stamp.
local function check_stamps(dir, secrets)
    local latest, wrong, last = core.time() + blobs.CLOCKS_DIFFER, {}, ""
    for _, secret in ipairs(secrets) do
        local found, err = blobs.of_folder(dir, secret.folder)
        if not found then return nil, err end
        if found[1] and found[1].saved_at > latest then
            wrong[#wrong + 1] = secret.folder
            if found[1].stamp > last then last = found[1].stamp end
        end
    end
    if not wrong[1] then return true end
    local more = #wrong > 1 and (" and %d more"):format(#wrong - 1) or ""
    return nil, errors.new("config", FUTURE:format(dir.root, wrong[1], more,
        blobs.wait_or_rid(last, "each such folder")))
end

-- What may go, of one project or of all, and how many blobs stay; or nil and the error.
local function plan(dir, keep, project)
    local named, err = runs.saved(dir)
    if not named then return nil, err end
    local secrets
    secrets, err = blobs.secrets(dir, project)
    if not secrets then return nil, err end
    local good
    good, err = check_stamps(dir, secrets)
    if not good then return nil, err end
    local removable, kept = {}, 0
    for _, secret in ipairs(secrets) do
        local stay
        stay, err = add_removable(dir, secret, keep, named, removable)
        if not stay then return nil, err end
        kept = kept + stay
    end
    return removable, kept
end

-- Durable: what of which secrets is removed.
local function record(out, items)
    for _, item in ipairs(items) do
        local good, err = out:note(item.secret.project, item.secret.name, "removed",
            { file = item.file })
        if not good then return nil, err end
    end
    return out.dir:sync { out.run }
end

-- First the record of all; then the files.
local function remove(out, removable)
    local good, err = record(out, removable)
    if not good then return nil, err end
    local folders, seen = {}, {}
    for _, item in ipairs(removable) do
        good, err = out.dir:remove(item.file)
        if not good then return nil, err end
        if not seen[item.secret] then
            seen[item.secret] = true
            folders[#folders + 1] = item.secret.folder
        end
    end
    if #folders == 0 then return true end
    return out.dir:sync(folders)
end

local function files_of(items)
    local files = {}
    for index, item in ipairs(items) do files[index] = item.file end
    return files
end

--- What would be removed, without any change: {removed, kept}, or nil and the error.
-- project: the one that it is about, or nil for all.
function M.plan(dir, keep, project)
    local removable, kept = plan(dir, keep, project)
    if not removable then return nil, kept end
    return { removed = files_of(removable), kept = kept }
end

-- A run whose `work(out)` -> true | nil, err is removing.
local function in_run(root, what, project, work)
    local out, err = writer.open(root, { project = project, asked = { prune = what } })
    if not out then return nil, err end
    local good
    good, err = work(out)
    if good then return out:close() end
    out:close { interrupted = true }
    return nil, err
end

local FULL = { ENOSPC = true, EDQUOT = true }
local MAKE_ROOM = "; a prune needs some for its record: `csms prune --dry-run` names what may go, "
    .. "remove some of that by hand, prune, and then run `csms prune --forget-missing`"

--- Removes what `keep` does not keep, as a run of its own: as above.
function M.run(root, keep, project)
    local removable, kept
    local good, err = in_run(root, keep, project, function(out)
        removable, kept = plan(out.dir, keep, project)
        if not removable then return nil, kept end
        return remove(out, removable)
    end)
    if err and FULL[err.code] then err.message = err.message .. MAKE_ROOM end
    if not good then return nil, err end
    return { removed = files_of(removable), kept = kept }
end

-- As items of a prune.
local function missing(dir, project)
    local lines, err = verify.missing(dir, project)
    if not lines then return nil, err end
    local items = {}
    for index, line in ipairs(lines) do items[index] = { secret = line, file = line.file } end
    return items
end

--- The files that runs saved, none removed, and that are not there: a list, or nil and
--- the error.
function M.missing(dir, project)
    local items, err = missing(dir, project)
    if not items then return nil, err end
    return files_of(items)
end

--- Notes them as removed, in a run of its own: as above.
function M.forget_missing(root, project)
    local items
    local good, err = in_run(root, { missing = true }, project, function(out)
        local problem
        items, problem = missing(out.dir, project)
        if not items then return nil, problem end
        return record(out, items)
    end)
    if not good then return nil, err end
    return files_of(items)
end

return M
