-- SPDX-License-Identifier: MIT
-- Reading all of a store and naming each fault. Damage is a `problem`; what a kill
-- or a stranger left is `interrupted`, which harms nothing.

local arguments = require "csms.arguments"
local blobs = require "csms.store.blobs"
local identity = require "csms.store.identity"
local paths = require "csms.store.paths"
local runs = require "csms.store.runs"

local M = {}

local function add(list, file, problem)
    list[#list + 1] = { file = file, problem = problem }
end

-- ---- runs -------------------------------------------------------------------

local function check_run(found, run, result)
    if result.problem then
        add(found.problems, run.file, result.problem
            .. (run.closed and not result.unread and "; " .. runs.MOVE_OUT or ""))
    end
    if result.header and found.id and result.header.store ~= found.id then
        add(found.problems, run.file, "it is of another store (" .. result.header.store .. ")")
    end
    if not run.closed then
        add(found.interrupted, run.file, "an unfinished run; the next backup "
            .. "closes it, unless it still goes on")
    end
    runs.add_files(found.saved, result, "saved")
    runs.add_files(found.removed, result, "removed")
end

local function check_runs(dir, found)
    local good, err = runs.each(dir, function(result, run)
        found.runs = found.runs + 1
        check_run(found, run, result)
    end)
    if not good then return nil, err end
    local entries
    entries, err = dir:entries_if_any(paths.RUNS)
    if not entries then return nil, err end
    for _, entry in ipairs(entries) do
        if not (entry.type == "file" and paths.parse_run(entry.name)) then
            add(found.interrupted, paths.RUNS .. "/" .. entry.name, "it is no run of csms")
        end
    end
    return true
end

-- ---- blobs ------------------------------------------------------------------

local function is_asked_for(found, path)
    return not found.below or path:sub(1, #found.below) == found.below
end

local function add_changed(found, file, problem)
    found.changed = found.changed + 1
    add(found.problems, file, problem)
end

local function check_blob(dir, found, file, digest)
    local line = found.saved[file]
    local data, problem = blobs.read(dir, { file = file, digest = digest })
    if not data and problem.code == "ENOENT" then return end -- since it was listed
    found.blobs = found.blobs + 1
    found.seen[file] = true
    if not data and problem.code ~= "damaged" then
        add(found.problems, file, paths.unreadable(problem))
    elseif not data then
        add_changed(found, file, "its SHA-256 is not the one in its name; it was changed or cut")
    elseif line and line.sha256 ~= problem then
        add_changed(found, file, "its SHA-256 is not the one in the run that saved it")
    elseif found.removed[file] then
        add(found.interrupted, file,
            "it was to be removed; the next prune that does not keep it removes it")
    elseif not line then
        add(found.interrupted, file, "no run names it; it is whole, and counts like any other")
    end
end

local function check_entry(dir, found, file, entry)
    local _, digest = paths.parse_blob(entry.name)
    if digest and entry.type == "file" then
        check_blob(dir, found, file, digest)
    elseif paths.is_temporary(entry.name) then
        add(found.interrupted, file, "a temporary file; the next backup of this secret removes it")
    else
        add(found.interrupted, file, "it is no file of csms")
    end
end

-- Calls fn(path, entry) for the entries of a folder; true, or nil and the error.
local function each_entry(dir, folder, fn)
    local entries, err = dir:entries_if_any(folder)
    if not entries then return nil, err end
    for _, entry in ipairs(entries) do
        fn(paths.within(folder, entry.name), entry)
    end
    return true
end

-- The same, where a folder that cannot be read is named, and the others are looked at.
local function each_below(dir, found, folder, fn)
    local good, err = each_entry(dir, folder, fn)
    if good then return end
    found.unread[folder] = true
    add(found.problems, folder, paths.unreadable(err) .. "; until that is mended, a run that "
        .. "comes to it ends there")
end

-- fn(path) for a folder with a good name; anything else is named as a stranger's.
local function folders_only(found, is_good, fn)
    return function(path, entry)
        if entry.type == "directory" and is_good(entry.name) then
            fn(path)
        else
            found.replaced[path] = true
            add(found.interrupted, path, "it is no folder of csms")
        end
    end
end

local function check_blobs(dir, found)
    return each_entry(dir, paths.BLOBS, folders_only(found, arguments.project, function(project)
        if not is_asked_for(found, project .. "/") then return end
        each_below(dir, found, project, folders_only(found, paths.name_of_folder, function(folder)
            each_below(dir, found, folder, function(file, entry)
                check_entry(dir, found, file, entry)
            end)
        end))
    end))
end

-- The innermost of `folders`, which are keys, that the file is in; nil where it is in none.
local function folder_among(folders, file)
    for _, folder in ipairs(paths.parents(file)) do
        if folders[folder] then return folder end
    end
end

local function could_be_seen(found, file)
    return is_asked_for(found, file) and not folder_among(found.unread, file)
end

local function missing(found)
    local files = {}
    for file in pairs(found.saved) do
        if not found.seen[file] and not found.removed[file] and could_be_seen(found, file) then
            files[#files + 1] = file
        end
    end
    table.sort(files)
    return files
end

local REMOVED = "where it was removed on purpose, `csms prune --forget-missing` notes so"
local REPLACED = "%s is no folder any more, and csms follows no link below a store: put the "
    .. "folder back, or mount there what the link leads to"

local function check_missing(dir, found)
    if #missing(found) > 0 then
        -- A prune may have recorded and removed them meanwhile.
        local good, err = runs.each(dir, function(result)
            runs.add_files(found.removed, result, "removed")
        end)
        if not good then return nil, err end
    end
    for _, file in ipairs(missing(found)) do
        local place = folder_among(found.replaced, file)
        add(found.problems, file, "it is missing: a run saved it, and none removed it; "
            .. (place and REPLACED:format(place) or REMOVED))
    end
    return true
end

-- ---- the whole ----------------------------------------------------------------

local KNOWN = {
    [paths.IDENTITY] = true, [paths.LOCK] = true, [paths.BLOBS] = true, [paths.RUNS] = true,
}

local function check_top(dir, found)
    return each_entry(dir, nil, function(path, entry)
        if paths.is_temporary(entry.name) then
            add(found.interrupted, path, "a temporary file; the next backup removes it")
        elseif not KNOWN[entry.name] and not paths.is_file_systems(entry) then
            add(found.interrupted, path, "it is no file of csms")
        end
    end)
end

local function by_file(a, b)
    if a.file ~= b.file then return a.file < b.file end
    return a.problem < b.problem
end

-- What there is and what is wrong with it; or nil and the error.
local function examine(dir, project)
    local found = {
        below = project and ("%s/%s/"):format(paths.BLOBS, project),
        blobs = 0, runs = 0, changed = 0, problems = {}, interrupted = {},
        saved = {}, removed = {}, seen = {}, unread = {}, replaced = {},
    }
    local good, err
    found.id, err = identity.read(dir)
    if err and not identity.can_be_missed(err) then return nil, err end
    if err then add(found.problems, paths.IDENTITY, err.message) end
    for _, check in ipairs { check_top, check_runs, check_blobs, check_missing } do
        good, err = check(dir, found)
        if not good then return nil, err end
    end
    return found
end

--- Reads every blob and run: {blobs, runs, problems = {{file, problem}, ...},
--- interrupted = {the same, ...}, changed}, the first two being counts, and the last one
--- that of the blobs that are there and not what was saved; or nil and the error where it
--- is no store or cannot be read.
-- project: the one whose blobs are read, or nil for all.
function M.run(dir, project)
    local found, err = examine(dir, project)
    if not found then return nil, err end
    table.sort(found.problems, by_file)
    table.sort(found.interrupted, by_file)
    return {
        blobs = found.blobs, runs = found.runs,
        problems = found.problems, interrupted = found.interrupted, changed = found.changed,
    }
end

--- What runs saved, none removed, and is not there: their lines, or nil and the error. Not
--- what is below a link in a folder's place: it may be where the link leads to.
function M.missing(dir, project)
    local found, err = examine(dir, project)
    if not found then return nil, err end
    local lines = {}
    for _, file in ipairs(missing(found)) do
        if not folder_among(found.replaced, file) then lines[#lines + 1] = found.saved[file] end
    end
    return lines
end

return M
