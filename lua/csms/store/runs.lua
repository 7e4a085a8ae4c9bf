-- SPDX-License-Identifier: MIT
-- The runs that a store has recorded.

local core = require "csms.core"
local paths = require "csms.store.paths"
local record = require "csms.store.record"

local M = {
    --- What helps where the record of an ended run is of no use.
    MOVE_OUT = "move it out of the store: the backups that it names count even so",
}

--- All runs, the oldest first: {id, stamp, closed, digest, file}; or nil and the
--- error.
function M.list(dir)
    local entries, err = dir:entries_if_any(paths.RUNS)
    if not entries then return nil, err end
    local runs = {}
    for _, entry in ipairs(entries) do
        local run = paths.parse_run(entry.name)
        if run and entry.type == "file" then
            run.file = paths.RUNS .. "/" .. entry.name
            runs[#runs + 1] = run
        end
    end
    return runs
end

-- A run's text. One that its writer has ended since it was listed has another name,
-- which `run` then gets.
local function text_of(dir, run)
    local text, err = dir:read(run.file)
    if err and err.code == "EFBIG" then
        err = paths.failure(dir.root, run.file, "EFBIG",
            "it is longer than any record that csms writes; " .. M.MOVE_OUT)
    end
    if text or run.closed or err.code ~= "ENOENT" then return text, err end
    for _, other in ipairs(M.list(dir) or {}) do
        if other.closed and other.stamp == run.stamp then
            run.file, run.id, run.digest, run.closed =
                other.file, other.id, other.digest, true
            return dir:read(run.file)
        end
    end
    return nil, err
end

--- The record of a run (csms.store.record), with what is wrong with it as `problem`.
--- One that cannot be read has no lines, and the error as `unread`: it must not hide
--- the others.
function M.read(dir, run)
    local text, err = text_of(dir, run)
    if not text then
        return { lines = {}, whole = 0, problem = paths.unreadable(err), unread = err }
    end
    local result = record.read(text)
    if not run.closed then return result end
    if core.sha256(text):sub(1, #run.digest) ~= run.digest then
        result.problem = "its digest is not the one in its name; it was changed"
    elseif result.whole ~= #text or not result.header or not result.ended then
        result.problem = result.problem or "it is not complete"
    end
    return result
end

--- Calls fn(record, run) for each, the newest first, until it returns true.
--- Returns true, or nil and the error.
function M.each(dir, fn)
    local runs, err = M.list(dir)
    if not runs then return nil, err end
    for index = #runs, 1, -1 do
        if fn(M.read(dir, runs[index]), runs[index]) then return true end
    end
    return true
end

--- Fills `files` with what the record names as saved, or removed: file -> line.
function M.add_files(files, result, outcome)
    for _, line in ipairs(result.lines) do
        if line.outcome == outcome and line.file then files[line.file] = line end
    end
end

--- What all runs have saved: file -> line; or nil and the error, also where an unfinished
--- run cannot be read.
function M.saved(dir)
    local files, unread = {}, nil
    local good, err = M.each(dir, function(result, run)
        M.add_files(files, result, "saved")
        unread = not run.closed and result.unread
        return unread
    end)
    if not good or unread then return nil, err or unread end
    return files
end

--- The names of a project's secrets of which runs saved what none removed, as keys; or nil
--- and the error.
-- there: names that are not asked for, as keys: of those nothing is kept in memory.
function M.names(dir, project, there)
    local saved, removed, names = {}, {}, {}
    local by_outcome = { saved = saved, removed = removed }
    local good, err = M.each(dir, function(result)
        for _, line in ipairs(result.lines) do
            local files = by_outcome[line.outcome]
            if files and line.file and line.project == project and not there[line.name] then
                files[line.file] = line.name
            end
        end
    end)
    if not good then return nil, err end
    for file, name in pairs(saved) do
        if not removed[file] then names[name] = true end
    end
    return names
end

-- What a run saved: file -> the KMS key, or false; and its id and header. Those of a closed
-- one are kept in `cache`: they do not change.
local function contents(dir, run, cache)
    if cache[run.file] then return cache[run.file] end
    local result = M.read(dir, run)
    local found = { id = run.id, header = result.header or {}, keys = {} }
    local lines = {}
    M.add_files(lines, result, "saved")
    for path, line in pairs(lines) do found.keys[path] = line.kms_key_id or false end
    if run.closed and not result.unread then cache[run.file] = found end
    return found
end

--- What the run that saved the blob `file` of that stamp says of it: {run = its id,
--- endpoint, region, kms_key_id}; empty where no run that can be read names it: the blob
--- is good even so.
--- `cache` is the caller's table, for the next blob.
function M.of_blob(dir, file, stamp, cache)
    local runs = M.list(dir) or {}
    for index = #runs, 1, -1 do
        if runs[index].stamp <= stamp then -- else it began later
            local found = contents(dir, runs[index], cache)
            local key = found.keys[file]
            if key ~= nil then
                return {
                    run = found.id, endpoint = found.header.endpoint,
                    region = found.header.region, kms_key_id = key or nil,
                }
            end
        end
    end
    return {}
end

--- Whether a run is about a project: by its header, or by what became of a secret. One
--- whose header cannot be read may be.
function M.concerns(result, project)
    if not result.header or result.header.project == project then return true end
    for _, line in ipairs(result.lines) do
        if line.project == project then return true end
    end
    return false
end

--- A run for people and programs: its header's fields, id, ended, interrupted,
--- counts, and what is wrong with it as `problem`.
function M.describe(run, result)
    local description = {}
    for key, value in pairs(result.header or {}) do description[key] = value end
    local ended = result.ended
    for key, value in pairs(ended or {}) do description[key] = value end
    description.outcome, description.when = nil, nil
    description.id, description.ended = run.id, ended and ended.when
    description.interrupted = not ended or ended.interrupted or false
    description.problem = result.problem
    description.counts = record.count(result)
    return description
end

-- The stamp of the last blob that a run saved, of one secret or of all; nil for none.
local function last_saved(result, project, name)
    local last
    for _, line in ipairs(result.lines) do
        local asked = not name or line.name == name and line.project == project
        local stamp = asked and line.outcome == "saved"
            and line.file:match("^.*/([^/]+)%-%x+%.blob$")
        if stamp and (not last or stamp > last) then last = stamp end
    end
    return last
end

local ID = "^(.+)%-" .. ("%x"):rep(12) .. "$"

-- The run of that id. One whose writer has ended since has another id, with the same stamp.
local function of_id(runs, id)
    local stamp, same = id:match(ID), nil
    for _, run in ipairs(runs) do
        if run.id == id then return run end
        if run.stamp == stamp then same = run end
    end
    return same
end

--- The moment, as a stamp, up to which the run of that id has saved; of a secret that it
--- saved, where one is asked for, its stamp: those of others are later where a clock was
--- wrong. nil where there is no such run; or nil and the error.
function M.find(dir, id, project, name)
    local runs, err = M.list(dir)
    if not runs then return nil, err end
    local run = of_id(runs, id)
    if not run then return nil end
    local result = M.read(dir, run)
    if result.unread then return nil, result.unread end
    return last_saved(result, project, name) or last_saved(result) or run.stamp
end

return M
