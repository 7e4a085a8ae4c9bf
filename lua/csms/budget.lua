-- SPDX-License-Identifier: MIT
-- The retry budget of a client (after the AWS SDKs' standard retry mode): a
-- failing service is not asked again and again by everybody. Retries cost
-- tokens, successes bring them back; without tokens there are no retries.

local M = {}

local Budget = {}
Budget.__index = Budget

M.TRANSIENT_COST = 14
M.THROTTLED_COST = 5

-- A connection that dies under many calls is one failure: those that were on it when the
-- first of them was charged are free. Seconds after which a death is forgotten.
local SAME_DEATH = 10

--- A full budget of `max` tokens.
function M.new(max)
    -- spent: a batch has found it empty, and goes on by probes until one succeeds
    return setmetatable({ max = max, tokens = max, deaths = {}, spent = false }, Budget)
end

local function already_charged(self, port, began, now)
    if not port then return false end
    for known, at in pairs(self.deaths) do
        if now - at > SAME_DEATH then self.deaths[known] = nil end
    end
    if self.deaths[port] and began <= self.deaths[port] then return true end
    self.deaths[port] = now
    return false
end

--- Takes the cost of a retry: the tokens taken, or nil where too few are left.
-- port: the local port of a connection that died, or nil. began: when the attempt did. One
-- that began after a death met another: of its stream alone, or of a later connection.
function Budget:charge(cost, port, began, now)
    if self.tokens < cost then return nil end
    if already_charged(self, port, began, now) then return 0 end
    self.tokens = self.tokens - cost
    return cost
end

--- After a success: what its last retry cost, or 1 where it needed none.
function Budget:pay_back(cost)
    self.tokens = math.min(self.max, self.tokens + (cost or 1))
end

function Budget:refill()
    self.tokens, self.spent = self.max, false
end

return M
