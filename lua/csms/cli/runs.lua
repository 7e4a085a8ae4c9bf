-- SPDX-License-Identifier: MIT
-- csms runs: the runs that a store has a record of.

local exit_codes = require "csms.cli.exit_codes"
local stores = require "csms.cli.stores"

local M = {}

-- A record may be damaged: nothing in it need be of the right type.
local function asked_text(asked)
    if type(asked) ~= "table" then return "-" end
    if asked.prune then
        local forgot = type(asked.prune) == "table" and asked.prune.missing
        return forgot and "forget-missing" or "prune"
    end
    if type(asked.names) == "table" then return #asked.names .. " by name" end
    local text = asked.all and "--all" or "-"
    for _, glob in ipairs(type(asked.match) == "table" and asked.match or {}) do
        text = text .. " --match " .. tostring(glob)
    end
    return text
end

local function counts_text(counts)
    local parts = {}
    for _, outcome in ipairs { "saved", "current", "skipped", "failed", "removed" } do
        local count = counts[outcome] or 0
        if count > 0 then parts[#parts + 1] = count .. " " .. outcome end
    end
    return #parts > 0 and table.concat(parts, ", ") or "nothing"
end

local function end_text(run)
    if run.problem then return "damaged: " .. run.problem end
    if not run.ended then return "unfinished" end
    if run.interrupted then return "interrupted" end
    return run.exit and "exit " .. tostring(run.exit) or "ended"
end

function M.run(args, out)
    local runs
    local store, err = stores.open(args.dir)
    if store then runs, err = store:runs(args.project) end
    if not runs then return out:failed(err) end
    local rows = {}
    for index, run in ipairs(runs) do
        rows[index] = { run.id, asked_text(run.asked), counts_text(run.counts), end_text(run) }
        run.type = "run"
        out:object(run)
    end
    out:columns(rows)
    return exit_codes.OK, { total = #runs }
end

return M
