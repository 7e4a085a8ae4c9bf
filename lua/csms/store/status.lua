-- SPDX-License-Identifier: MIT
-- Whether the backups of a store are as they should be: how old each secret's
-- newest good blob is, and what the last runs left out.

local blobs = require "csms.store.blobs"
local paths = require "csms.store.paths"
local runs = require "csms.store.runs"
local stamps = require "csms.store.stamps"

local M = {}

-- What a run was asked for; whoever wrote an unfinished one's header.
local function asked_of(header)
    return type(header.asked) == "table" and header.asked or {}
end

-- A run that listed all secrets of its project, and came to its end.
local function is_whole(result)
    local asked, ended = asked_of(result.header), result.ended
    return asked.all and not asked.match
        and ended and not ended.interrupted and not ended.incomplete
end

-- What is known of a project: for each name the newest line, and whether it is judged;
-- the stamp of its last whole run, as `whole`; and whether a later one that was asked for
-- all has not come to its end.
local function project_of(projects, id)
    projects[id] = projects[id] or { lines = {}, judged = {}, broke_off = false }
    return projects[id]
end

local COUNTS = { saved = true, current = true, failed = true }

-- From the newest run back to the last whole one of each project.
local function add_line(projects, line, whole)
    local project = project_of(projects, line.project)
    if project.whole and not whole then return end
    project.lines[line.name] = project.lines[line.name] or line
    if line.outcome == "failed" or whole and COUNTS[line.outcome] then
        project.judged[line.name] = true
    end
end

local function add_run(projects, result, stamp)
    local header, asked = result.header, asked_of(result.header)
    local project = header.project and project_of(projects, header.project) or {}
    local whole = is_whole(result) and not project.whole
    for _, line in ipairs(result.lines) do
        if line.project and line.name then add_line(projects, line, whole) end
    end
    if whole then
        project.whole = stamp
    elseif asked.all and not asked.match and not project.whole then
        project.broke_off = true
    end
end

-- The files that a run of `csms prune --forget-missing` has noted, as keys.
local function add_forgotten(forgotten, result, prune)
    if type(prune) == "table" and prune.missing then
        runs.add_files(forgotten, result, "removed")
    end
end

-- {projects, last, damaged, forgotten}: the projects, the last run, the damaged records,
-- {project, stamp} each, without the project where it is not known, and the files that are
-- not there on purpose. A run from the future is left out: a clock was wrong, and it would
-- hide all that came after.
local function read_runs(dir, only, now)
    local latest = stamps.format(now + blobs.CLOCKS_DIFFER)
    local found = { projects = {}, damaged = {}, forgotten = {} }
    local good, err = runs.each(dir, function(result, run)
        local header = result.header
        local prune = header and asked_of(header).prune
        if prune then return add_forgotten(found.forgotten, result, prune) end
        if run.stamp > latest or only and not runs.concerns(result, only) then return end
        if result.problem then
            table.insert(found.damaged,
                { project = header and header.project, stamp = run.stamp })
        elseif header then
            found.last = found.last or runs.describe(run, result)
            add_run(found.projects, result, run.stamp)
        end
    end)
    if not good then return nil, err end
    return found
end

-- Secrets that have a folder, or a line in a run, or both.
local function all_secrets(dir, projects, only)
    local secrets, err = blobs.secrets(dir, only)
    if not secrets then return nil, err end
    local seen = {}
    for _, secret in ipairs(secrets) do seen[secret.project .. "/" .. secret.name] = true end
    for id, project in pairs(projects) do
        for name in pairs(project.lines) do
            if (not only or id == only) and not seen[id .. "/" .. name] then
                secrets[#secrets + 1] = { project = id, name = name }
            end
        end
    end
    table.sort(secrets, function(a, b)
        if a.project ~= b.project then return a.project < b.project end
        return a.name < b.name
    end)
    return secrets
end

-- A name that the service does not know or take, and of which nothing was saved.
local function is_mistake(secret, line)
    return line.outcome == "failed" and not secret.folder
        and (line.kind == "not_found" or line.kind == "argument")
end

-- Somebody removed all that there was of a secret, and had that noted.
local function is_forgotten(dir, secret, line, forgotten)
    if not (line and forgotten[line.file or ""]) then return false end
    if not secret.folder then return true end
    local left = blobs.of_folder(dir, secret.folder)
    return left ~= nil and #left == 0
end

-- Without a whole run there is no listing to go by.
local function is_judged(secret, line, project, forgotten)
    if project and project.whole then return project.judged[secret.name] == true end
    return not (forgotten
        or line and (line.outcome == "skipped" or is_mistake(secret, line)))
end

local DELETED = "; if it was deleted on purpose, move %s out of the store and run `csms prune "
    .. "--forget-missing`"

local NO_PROJECT = "if there is no such project, move the records that `csms runs -p %s` names "
    .. "out of " .. paths.RUNS .. "/"

-- Of what the last whole run listed, and somebody then removed and had noted.
local LISTED = "the next whole `csms backup --all` saves it, or does not list it any more; "
    .. NO_PROJECT

local function failure_of(secret, line, project)
    local problem = ("the last run failed: %s: %s"):format(line.kind or "?", line.message or "?")
    -- Elsewhere the next whole run tells that it is no longer listed.
    if project.whole or line.kind ~= "not_found" then return problem end
    return problem .. DELETED:format(secret.folder)
end

local function age_problem(secret, newest, age, max_age)
    if age < -blobs.CLOCKS_DIFFER then
        return "its newest backup is from the future, because a clock was wrong; "
            .. blobs.wait_or_rid(newest.stamp, secret.folder)
    end
    if max_age and age > max_age then
        return ("its newest backup is %.1f hours old"):format(age / 3600)
    end
end

local function judge(dir, secret, found, opts, now)
    local project = found.projects[secret.project]
    local line = project and project.lines[secret.name]
    local forgotten = is_forgotten(dir, secret, line, found.forgotten)
    local result = {
        project = secret.project, name = secret.name, outcome = line and line.outcome,
        judged = is_judged(secret, line, project, forgotten),
    }
    local newest, err
    if secret.folder then newest, err = blobs.newest_good(dir, secret.folder) end
    result.newest = newest and newest.saved_at
    result.age = newest and now - newest.saved_at
    if not result.judged then return result end
    if err and not newest then
        result.problem = err.message
    elseif line and line.outcome == "failed" then
        result.problem = failure_of(secret, line, project)
    elseif not newest then
        result.problem = "it has no good backup" .. (forgotten
            and "; " .. LISTED:format(secret.project) or "")
    else
        result.problem = age_problem(secret, newest, result.age, opts.max_age)
    end
    return result
end

-- All secrets of a project were asked for, and no run has come to its end, or none for
-- too long: nobody knows what is missing.
local function listing_problem(id, project, max_age, now)
    if not project.broke_off then return nil end
    if not project.whole then
        return "no `csms backup --all` of it has come to its end yet: secrets may be missing; "
            .. NO_PROJECT:format(id)
    end
    local age = now - stamps.parse(project.whole)
    if max_age and age > max_age then
        return ("its last whole `csms backup --all` is %.1f hours old, and later ones broke off: "
            .. "secrets may be missing"):format(age / 3600)
    end
end

local function listing_problems(projects, opts, now)
    local problems = {}
    for id, project in pairs(projects) do
        local problem = listing_problem(id, project, opts.max_age, now)
        if problem and (not opts.project or id == opts.project) then
            problems[#problems + 1] = { project = id, problem = problem }
        end
    end
    table.sort(problems, function(a, b) return a.project < b.project end)
    return problems
end

-- The projects that a damaged record may be about, as keys.
local function suspects(record, projects, secrets)
    if record.project then return { [record.project] = true } end
    local ids = {}
    for known in pairs(projects) do ids[known] = true end
    for _, secret in ipairs(secrets) do ids[secret.project] = true end
    return ids
end

-- Whether a whole run came after a damaged record, of each project that it may be about:
-- what the record left out is not known.
local function is_superseded(record, projects, ids)
    for id in pairs(ids) do
        local whole = projects[id] and projects[id].whole
        if not whole or whole < record.stamp then return false end
    end
    return next(ids) ~= nil
end

local function count_unreadable(damaged, projects, secrets)
    local count = 0
    for _, record in ipairs(damaged) do
        local ids = suspects(record, projects, secrets)
        if not is_superseded(record, projects, ids) then count = count + 1 end
    end
    return count
end

--- {secrets = {{project, name, newest, age, outcome, judged, problem}, ...},
--- projects = {{project, problem}, ...}, problems, unreadable, run}: newest in seconds
--- since 1970, age in seconds; `projects` those whose `--all` runs do not come to an end;
--- `problems` a count, which includes these and unreadable, the number of damaged records
--- which no whole run came after; `run` the last run's header with its id and when it
--- ended; or nil and the error.
-- opts: {max_age = seconds, project = id}, each optional; now: seconds since 1970.
function M.run(dir, opts, now)
    local found, err = read_runs(dir, opts.project, now)
    if not found then return nil, err end
    local projects = found.projects
    local secrets
    secrets, err = all_secrets(dir, projects, opts.project)
    if not secrets then return nil, err end
    local status = {
        secrets = {}, projects = listing_problems(projects, opts, now), run = found.last,
        unreadable = count_unreadable(found.damaged, projects, secrets),
    }
    status.problems = status.unreadable + #status.projects
    for index, secret in ipairs(secrets) do
        local result = judge(dir, secret, found, opts, now)
        status.secrets[index] = result
        if result.problem then status.problems = status.problems + 1 end
    end
    return status
end

return M
