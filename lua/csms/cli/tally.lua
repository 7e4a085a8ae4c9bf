-- SPDX-License-Identifier: MIT
-- What became of the secrets of a run: counted, never listed.

local core = require "csms.core"
local exit_codes = require "csms.cli.exit_codes"

local M = {}

local Tally = {}
Tally.__index = Tally

--- outcomes: array of {name, words for people, whether it is as it was asked for};
--- "failed" is one of them.
function M.new(outcomes)
    local counts = {}
    for _, outcome in ipairs(outcomes) do counts[outcome[1]] = 0 end
    return setmetatable({
        outcomes = outcomes, counts = counts,
        ended = 0,          -- secrets counted
        failures = {},      -- exit codes of those that failed, as keys
        store_error = nil,  -- what failed first in the store, which ends a run
    }, Tally)
end

function Tally:add(outcome)
    self.counts[outcome] = self.counts[outcome] + 1
    self.ended = self.ended + 1
end

--- The exit code: what ended the run comes before how its secrets fared.
-- err: why nothing more could be tried, or nil. one_name: see csms.cli.output.
function Tally:exit(out, err, one_name)
    local signal = core.caught_signal()
    if self.store_error then return out:exit_of(self.store_error) end
    if signal then return exit_codes.interrupted(signal) end
    if err then return out:exit_of(err, one_name) end
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
