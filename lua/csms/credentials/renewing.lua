-- SPDX-License-Identifier: MIT
-- A source whose credentials expire. One that is due is renewed by the first
-- call that notices, while others go on with the old one; one that has expired
-- holds everybody until the one request for another is answered.

local errors = require "csms.errors"
local source = require "csms.credentials.source"

local M = {}

local Renewing = { __name = "csms.provider" }
Renewing.__index = Renewing

local EARLY = 40 * 60   -- seconds before expiry, as the official SDKs have it,
local SHARE = 0.5       -- but no more than this share of the life
local JITTER = 0.2      -- of that, so that a fleet does not renew in step
local EARLY_TIME = 5    -- seconds that a call spends on one that can wait, at most,
local EARLY_SHARE = 0.5 -- and no more than this share of the time that it has left
local MARGIN = 30       -- seconds before expiry after which it is not used
local RETRY = 60        -- seconds between failing renewals

--- name: for messages. fetch(context): credential, seconds it lives, or nil and
--- the error and whether the source is absent.
-- fields: what the source itself needs to know.
function M.new(name, fetch, fields)
    local self = fields or {}
    self.source, self.fetch = name, fetch
    self.made = setmetatable({}, { __mode = "k" }) -- every credential, to wipe them
    return setmetatable(self, Renewing)
end

local function keep(self, context, credential, life)
    local runtime = context.runtime
    local now = runtime.now()
    self.made[credential] = true
    if self.credential and self.credential:same(credential) then
        credential:close() -- the same keys: whoever refused them need not know
    else
        self.credential = credential
    end
    local early = math.min(EARLY, life * SHARE)
    self.renew_at = now + life - early * (1 + JITTER * (2 * runtime.random() - 1))
    self.expires_at = now + life
    self.usable_until = now + life - math.min(MARGIN, early)
end

-- limit: when it must end, or nil.
local function renew(self, context, limit)
    local credential, life, absent = self.fetch(self, source.context(context, limit))
    if not credential then
        self.err, self.absent = life, absent
        return false
    end
    if self.closed then
        credential:close()
        return false
    end
    self.err, self.absent = nil, nil
    keep(self, context, credential, life)
    return true
end

local function try_early(limit, self, context)
    if renew(self, context, limit) or self.closed then return end
    local runtime = context.runtime
    self.renew_at = runtime.now() + RETRY * (0.5 + runtime.random())
    context.emit { event = "warning", message = "renewal failed, the old credential is used "
        .. "on: " .. tostring(self.err) }
end

-- One that is due but still good: whoever comes first tries, nobody else waits.
-- A flight, so that it ends even where nginx kills the handler.
local function renew_early(self, context, ends_at)
    local now = context.runtime.now()
    self.renew_at = now + RETRY -- for the others, meanwhile
    local left = ends_at and ends_at - now or math.huge
    context.runtime:once(self, now + math.min(EARLY_TIME, left * EARLY_SHARE), try_early, self,
        context)
end

local function renew_expired(limit, self, old, context)
    if self.credential == old then renew(self, context, limit) end
end

--- A credential that is good for a while; see csms.credentials.
function Renewing:get(refused, context, ends_at)
    if self.closed then return source.fail(self.source, "the provider is closed") end
    context = source.context(context)
    local now = context.runtime.now()
    local usable = self.credential and self.credential ~= refused
        and now < self.usable_until
    if usable then
        if now >= self.renew_at and context.runtime:available() then
            renew_early(self, context, ends_at)
        end
        if self.closed then return source.fail(self.source, "the provider is closed") end
        return self.credential
    end
    local can_wait, why = context.runtime:available() -- a client has asked before
    if not can_wait then return nil, errors.new("config", why), false end
    local old = self.credential
    local ended = context.runtime:once(self, ends_at, renew_expired, self, old, context)
    if self.closed then return source.fail(self.source, "the provider is closed") end
    -- The call's time is over, while others may still wait for the same renewal.
    if not ended then return source.fail(self.source, "no credential came in time") end
    if self.err then return nil, errors.copy(self.err), self.absent end
    return self.credential
end

--- Wipes every credential that it has given out.
function Renewing:close()
    for credential in pairs(self.made) do credential:close() end
    self.credential, self.closed = nil, true
end

function Renewing:__tostring()
    local what = self.credential and tostring(self.credential) or "nothing fetched yet"
    return ("csms credentials.%s (%s)"):format(self.source, what)
end

return M
