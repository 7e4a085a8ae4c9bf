-- SPDX-License-Identifier: MIT
-- What a client does about answers that refuse its authentication (design 3):
-- a clock that is off is corrected, a stale credential is renewed, and a bad
-- signature is never sent twice, because five in a row lock the key.

local core = require "csms.core"
local errors = require "csms.errors"

local M = {}

local Auth = {}
Auth.__index = Auth

local REFUSAL = 60          -- seconds that a bad credential is not sent again
local MAX_OFFSET = 24 * 3600
local MAX_RENEWALS = 3      -- of one call

--- provider: where credentials come from. context: what it may use (see
--- csms.credentials.source), `emit` among it.
function M.new(provider, context)
    return setmetatable({
        provider = provider,
        context = context,
        last = nil,     -- the credential that was used last
        renewal_error = nil, -- why the source gave no other one
        offset = 0,     -- the service's clock less ours, in seconds
        proven = false, -- whether an answer has authenticated
        bad = {},       -- credentials with a bad signature -> until when they are refused
    }, Auth)
end

local function ask(self, refused, ends_at)
    local credential, err = self.provider:get(refused, self.context, ends_at)
    if credential and not core.credential.is_open(credential) then
        credential, err = nil, "it is no open credential; return csms.credentials.static{...}:get()"
    end
    if not credential or credential == self.last then return credential, err end
    local last = core.credential.is_open(self.last) and self.last
    -- A provider may make the same keys anew at each call.
    if last and last:same(credential) then return last end
    self.last = credential
    if last then self.context.emit { event = "renewed" } end -- after all else: it may raise
    return credential
end

local function is_bad(self, credential, now)
    for bad, ends_at in pairs(self.bad) do
        if now >= ends_at then
            self.bad[bad] = nil
        elseif bad:same(credential) then
            return true
        end
    end
    return false
end

-- A copy, because the call adds to it. A program's own provider may pass on what another
-- call met: of this one's service that says nothing.
local function failure(err)
    if errors.is_error(err) and err.kind == "credentials" then return errors.copy(err) end
    return errors.new("credentials", "the provider gave no credential: " .. tostring(err))
end

--- The credential to send now, or nil and an error: of kind "credentials"; "auth" for one
--- that was refused within the last minute.
-- ends_at: when it must be there, or nil: for the sources, which know no other bound.
function Auth:credential(now, ends_at)
    local credential, err = ask(self, nil, ends_at)
    if not credential then return nil, failure(err) end
    if is_bad(self, credential, now) then
        return nil, errors.new("auth", ("these keys were refused less than %d s ago and are "
            .. "not sent again, because five bad signatures lock them; check ak and sk")
            :format(REFUSAL))
    end
    return credential
end

--- An answer came that the service gives only to whom it knows.
function Auth:accepted()
    self.proven = true
end

local function is_stale(err, credential)
    return errors.gateway_code(err) == "0307" or err.code == "CSMS.0301"
        or err.code == "KMS.0303" or credential:uses_token()
end

local function correct_clock(self, call)
    local reply = call.reply
    if call.clock_corrected or not reply.server_time then return false end
    local offset = reply.server_time - reply.local_time
    if math.abs(offset) > MAX_OFFSET then return false end
    call.clock_corrected = true
    self.offset = offset
    self.context.emit { event = "skew", seconds = offset }
    return true
end

local function replace(limit, self, credential)
    if self.last ~= credential then return end
    self.renewal_error = nil -- for who does not wait for the end
    local _, err = ask(self, credential, limit)
    self.renewal_error = err
end

-- err: of the answer, which is told why there is no other credential.
local function renew(self, call, err)
    local credential = call.credential
    if call.renewals >= MAX_RENEWALS then return false end
    -- Once for all calls that it was refused to: the first asks, others see.
    self.context.runtime:once(self, call.ends_at, replace, self, credential)
    if self.last == credential then
        err.cause = self.renewal_error and "no renewal: " .. tostring(self.renewal_error)
        return false
    end
    call.renewals = call.renewals + 1
    return true
end

local function refuse(self, credential, now)
    self.bad[credential], self.proven = now + REFUSAL, false
    return false
end

--- Whether the call may try again at once after an error of kind "auth".
-- call: {credential: what it was sent with; reply: {server_time, local_time} of the
-- answer, in seconds since 1970; retry: false where it makes one attempt, so that
-- a bad key is only noted; renewals, clock_corrected, replaced: what it has tried}.
function Auth:recover(call, err, now)
    local allowed, credential = call.retry ~= false, call.credential
    if errors.gateway_code(err) == "0303" then
        return allowed and correct_clock(self, call)
    end
    if is_stale(err, credential) then
        return allowed and renew(self, call, err)
    end
    -- What a program's own provider has closed meanwhile, it has replaced; nobody can tell
    -- any more what it was, nor what the answer says of it.
    local may_have_other = credential:temporary() or not core.credential.is_open(credential)
    if allowed and may_have_other and not call.replaced then
        call.replaced = true
        if renew(self, call, err) then return true end
    end
    return refuse(self, credential, now)
end

return M
