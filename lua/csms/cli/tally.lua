-- SPDX-License-Identifier: MIT
-- What became of the secrets of a run: each is told with --json and counted, never
-- listed.

local core = require "csms.core"
local exit_codes = require "csms.cli.exit_codes"

local M = {}

local Tally = {}
Tally.__index = Tally

--- outcomes: array of {name, words for people, whether it is as it was asked for};
--- "failed" is one of them. one_name: see csms.cli.output.
function M.new(outcomes, out, project, one_name)
    local counts = {}
    for _, outcome in ipairs(outcomes) do counts[outcome[1]] = 0 end
    return setmetatable({
        outcomes = outcomes, counts = counts,
        out = out, project = project, one_name = one_name,
        ended = 0,          -- secrets counted
        failures = {},      -- exit codes of those that failed, as keys
        store_error = nil,  -- what failed first in the store, which ends a run
    }, Tally)
end

--- facts: what --json tells of a secret besides its project, name and outcome.
function Tally:add(name, outcome, facts)
    self.counts[outcome] = self.counts[outcome] + 1
    self.ended = self.ended + 1
    facts.type, facts.project, facts.name, facts.outcome = "secret", self.project, name, outcome
    self.out:object(facts)
end

--- The same for one that failed, of which people are told too.
function Tally:fail(name, err, facts)
    self.failures[self.out:exit_of(err, self.one_name)] = true
    self.out:item_problem(name, err)
    facts.kind, facts.code, facts.message = err.kind, err.code, err.message
    self:add(name, "failed", facts)
end

--- The exit code: what ended the run comes before how its secrets fared.
-- err: why nothing more could be tried, or nil.
function Tally:exit(err)
    local signal = core.caught_signal()
    if self.store_error then return self.out:exit_of(self.store_error) end
    if signal then return exit_codes.interrupted(signal) end
    if err then return self.out:exit_of(err, self.one_name) end
    if self.failures[exit_codes.DEADLINE] then return exit_codes.DEADLINE end
    local done = 0
    for _, outcome in ipairs(self.outcomes) do
        if outcome[3] then done = done + self.counts[outcome[1]] end
    end
    return exit_codes.of_several(done, self.failures)
end

--- "3 saved, 1 failed, 2 not done, of 6".
function Tally:sentence(total)
    local parts = {}
    for _, outcome in ipairs(self.outcomes) do
        local count = self.counts[outcome[1]]
        if count > 0 then parts[#parts + 1] = count .. " " .. outcome[2] end
    end
    if total > self.ended then parts[#parts + 1] = total - self.ended .. " not done" end
    return ("%s, of %d"):format(table.concat(parts, ", "), total)
end

return M
