-- SPDX-License-Identifier: MIT
-- csms status: is every backup young enough? For monitoring.

local exit_codes = require "csms.cli.exit_codes"
local stores = require "csms.cli.stores"
local times = require "csms.cli.times"

local M = {}

local function has_several_projects(secrets)
    return secrets[1] and secrets[1].project ~= secrets[#secrets].project -- they are sorted
end

local function verdict(secret)
    if secret.problem then return secret.problem end
    if secret.judged then return "ok" end
    return secret.outcome == "skipped" and "skipped, not judged" or "not judged"
end

local function show(out, secrets)
    local several, rows = has_several_projects(secrets), {}
    for _, secret in ipairs(secrets) do
        if secret.problem or not out.quiet then
            rows[#rows + 1] = {
                several and secret.project .. "/" .. secret.name or secret.name,
                secret.age and times.span(secret.age) or "-", times.utc(secret.newest),
                verdict(secret),
            }
        end
        out:object {
            type = "secret", project = secret.project, name = secret.name,
            outcome = secret.outcome, age = secret.age,
            newest = secret.newest and times.utc(secret.newest),
            judged = secret.judged, problem = secret.problem,
        }
    end
    out:columns(rows)
end

local function count_judged(secrets)
    local judged = 0
    for _, secret in ipairs(secrets) do
        if secret.judged then judged = judged + 1 end
    end
    return judged
end

local function explain(out, status, judged, max_age)
    local bad = status.problems - status.unreadable - #status.projects -- secrets
    if status.unreadable > 0 then
        out:problem("the record of a run is damaged, so what it left out is not known: "
            .. "`csms verify` names it, and the next whole `csms backup --all` of each project "
            .. "makes up for it")
    end
    for _, item in ipairs(status.projects) do
        out:problem(item.project .. ": " .. item.problem)
        out:object { type = "project", project = item.project, problem = item.problem }
    end
    if judged == 0 and #status.secrets == 0 then
        out:problem("no backup to judge: no run has saved one")
    elseif judged == 0 then
        out:problem("no backup to judge: what is here was skipped, not found, forgotten by "
            .. "`csms prune --forget-missing` or no longer listed")
    elseif bad > 0 then
        out:problem(("%d of %d secrets have no backup younger than %s, or one from the future, or "
            .. "failed in the last run"):format(bad, judged, times.span(max_age)))
    end
end

function M.run(args, out)
    local status
    local store, err = stores.open(args.dir)
    if store then
        status, err = store:status { max_age = args.max_age, project = args.project }
    end
    if not status then return out:failed(err) end
    show(out, status.secrets)
    local judged = count_judged(status.secrets)
    explain(out, status, judged, args.max_age)
    local good = judged > 0 and status.problems == 0
    return good and exit_codes.OK or exit_codes.PARTIAL, {
        total = #status.secrets, judged = judged, problems = status.problems,
        last_run = status.run and status.run.id,
    }
end

return M
