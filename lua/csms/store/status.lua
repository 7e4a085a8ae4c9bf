-- SPDX-License-Identifier: MIT
-- Whether the backups of a store are as they should be: how old each secret's
-- newest good blob is, and what the last runs left out.

local blobs = require "csms.store.blobs"
local paths = require "csms.store.paths"
local runs = require "csms.store.runs"

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

-- What is known of a project: for each name the newest line, whether it is judged,
-- and whether its last whole run has been read.
local function project_of(projects, id)
    projects[id] = projects[id] or { lines = {}, judged = {}, whole = false }
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

-- Whether a whole run of the project came after; of any project where it is not known.
local function is_superseded(projects, header)
    local id = header and header.project
    if id then return projects[id] ~= nil and projects[id].whole end
    for _, project in pairs(projects) do
        if project.whole then return true end
    end
    return false
end

-- The third result: how many damaged records no whole run came after. What those runs
-- left out is not known.
local function read_runs(dir)
    local projects, last, unreadable = {}, nil, 0
    local good, err = runs.each(dir, function(result, run)
        local header = result.header
        if header and asked_of(header).prune then return end
        if result.problem and not is_superseded(projects, header) then
            unreadable = unreadable + 1
        end
        if not header or result.problem then return end
        last = last or runs.describe(run, result)
        if asked_of(header).all and not asked_of(header).match and header.project then
            project_of(projects, header.project).asked_all = true
        end
        local whole = is_whole(result)
            and not (header.project and project_of(projects, header.project).whole)
        for _, line in ipairs(result.lines) do
            if line.project and line.name then add_line(projects, line, whole) end
        end
        if whole and header.project then project_of(projects, header.project).whole = true end
    end)
    if not good then return nil, err end
    return projects, last, unreadable
end

-- Secrets that have a folder, or a line in a run, or both.
local function all_secrets(dir, projects, only)
    local secrets, err = blobs.secrets(dir, only)
    if not secrets then return nil, err end
    local seen = {}
    for _, secret in ipairs(secrets) do seen[secret.project .. "/" .. secret.name] = true end
    for id, project in pairs(projects) do
        for name in pairs(project.lines) do
            local folder = paths.folder(id, name) -- nil: a name that a run could not save
            if (not only or id == only) and not seen[id .. "/" .. name] then
                secrets[#secrets + 1] = { project = id, name = name, folder = folder }
            end
        end
    end
    table.sort(secrets, function(a, b)
        if a.project ~= b.project then return a.project < b.project end
        return a.name < b.name
    end)
    return secrets
end

local CLOCKS_DIFFER = 60 -- seconds

local function problem_of(secret, line, max_age)
    if not secret.newest then return "it has no good backup" end
    if line and line.outcome == "failed" then
        return ("the last run failed: %s: %s"):format(line.kind or "?", line.message or "?")
    end
    if secret.age < -CLOCKS_DIFFER then
        return "its newest backup is from the future; a clock was wrong"
    end
    if max_age and secret.age > max_age then
        return ("its newest backup is %.1f hours old"):format(secret.age / 3600)
    end
end

local function judge(dir, secret, project, opts, now)
    local line = project and project.lines[secret.name]
    local result = {
        project = secret.project, name = secret.name, outcome = line and line.outcome,
        -- Without a whole run there is no listing to go by.
        judged = not (project and project.whole) and not (line and line.outcome == "skipped")
            or project ~= nil and project.judged[secret.name] == true,
    }
    local newest, err
    if secret.folder then newest, err = blobs.newest_good(dir, secret.folder) end
    result.newest = newest and newest.saved_at
    result.age = newest and now - newest.saved_at
    if result.judged and not newest and err then
        result.problem = err.message
    elseif result.judged then
        result.problem = problem_of(result, line, opts.max_age)
    end
    return result
end

-- Projects of which all secrets were asked for, and no run has come to its end:
-- nobody knows what is missing.
local function count_never_whole(projects, only)
    local count = 0
    for id, project in pairs(projects) do
        if project.asked_all and not project.whole and (not only or id == only) then
            count = count + 1
        end
    end
    return count
end

--- {secrets = {{project, name, newest, age, outcome, judged, problem}, ...},
--- problems, never_whole, unreadable, run}: newest in seconds since 1970, age in seconds;
--- `problems` a count, which includes never_whole, the number of projects whose
--- `--all` runs never came to an end, and unreadable, that of damaged records which no
--- whole run came after; `run` the last run's header with its id and
--- when it ended; or nil and the error.
-- opts: {max_age = seconds, project = id}, each optional; now: seconds since 1970.
function M.run(dir, opts, now)
    local projects, last, unreadable = read_runs(dir)
    if not projects then return nil, last end
    local secrets, err = all_secrets(dir, projects, opts.project)
    if not secrets then return nil, err end
    local status = { secrets = {}, problems = unreadable, unreadable = unreadable }
    for index, secret in ipairs(secrets) do
        local result = judge(dir, secret, projects[secret.project], opts, now)
        status.secrets[index] = result
        if result.problem then status.problems = status.problems + 1 end
    end
    status.never_whole = count_never_whole(projects, opts.project)
    status.problems = status.problems + status.never_whole
    status.run = last
    return status
end

return M
