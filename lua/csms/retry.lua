-- SPDX-License-Identifier: MIT
-- Retry, from outside an operation: it takes turns at the limiter, sends an
-- attempt, and decides what to do about its error. It knows nothing of HTTP.

local budget = require "csms.budget"
local errors = require "csms.errors"
local events = require "csms.events"

local M = {}

local ATTEMPTS = 4        -- of a single call
local BATCH_ATTEMPTS = 10 -- of one item; refusals by a limit do not count
local PROBES = 10         -- that fail before a batch gives up
local SLICE = 1           -- seconds after which a wait looks whether the client is closed
local LONGEST_WAIT = 900  -- seconds that the service may ask for where there is no deadline

-- ---- deadlines and cancellation -------------------------------------------

--- Seconds; with no more left a call, or an attempt of it, is over.
M.LEAST = 0.001

local function left(call, now)
    return call.ends_at and call.ends_at - now or math.huge
end

--- The error that a deadline is.
-- cause: of the attempt that it cut short, or what it cut short; or nil.
function M.deadline_error(call, cause)
    return errors.new("timeout", ("the deadline of %g s has passed"):format(call.deadline),
        { retryable = false, cause = cause })
end

-- What may be the deadline's doing: a source has no more time than the call.
local CUT_SHORT = { timeout = true, credentials = true }

--- The error that ends a call, or an attempt of it: the deadline's where that is over,
--- with what it cut short as `cause`.
function M.or_deadline(client, call, err)
    if not CUT_SHORT[err.kind] or left(call, client.runtime.now()) > M.LEAST then return err end
    return M.deadline_error(call, err.kind == "timeout" and err.cause or err.message)
end

--- Why a call ends whose client was closed meanwhile.
function M.cancelled_error()
    return errors.new("cancelled", "the call was cancelled, because its client was closed "
        .. "or the work that it belongs to has ended")
end

local cancelled_error = M.cancelled_error

-- Why a call ends whose deadline comes before its turn: its own last error, in
-- a batch else the last one of the others, else the deadline itself.
local function too_late(call, last)
    local others = call.batch and call.batch.last_error
    local err = last or others and errors.copy(others) or M.deadline_error(call)
    err.past_deadline = true
    return err
end

-- Waits, or says why not: nil and the error. In slices, because the client may
-- be closed meanwhile.
local function sleep(client, call, seconds, last)
    local now = client.runtime.now()
    if client.closed then return nil, cancelled_error() end
    if seconds >= left(call, now) then return nil, too_late(call, last) end
    local until_then = now + seconds
    while now < until_then do
        local awake = client.runtime:sleep(math.min(until_then - now, SLICE))
        if not awake or client.closed then return nil, cancelled_error() end
        now = client.runtime.now()
    end
    return true
end

-- ---- one attempt, at its turn ---------------------------------------------

-- Waits for a slot of the limiter: the time at which it is there, or nil and the
-- error.
local function take_slot(client, call, last)
    local limiter = client.limiter
    while true do
        if client.closed then return nil, cancelled_error() end
        local now = client.runtime.now()
        local wait = limiter:next_slot(now) - now
        if wait >= left(call, now) then
            local blocked = limiter:is_blocked(now) and client.last_refusal
            return nil, too_late(call, last or blocked and errors.copy(blocked))
        end
        local batch = call.batch
        if not call.ends_at and limiter.blocked_until - now > LONGEST_WAIT then
            if not batch then return nil, errors.copy(client.last_refusal) end
            batch.given_up = batch.given_up or client.last_refusal
        end
        if batch and batch.given_up then return nil, errors.copy(batch.given_up) end
        limiter:take(now)
        if wait <= 0 then return now end
        local good, err = sleep(client, call, wait, last)
        if not good then return nil, err end
        now = client.runtime.now()
        if not limiter:is_blocked(now) then return now end
    end
end

-- An answer that is final was let through by whoever limits the rate; a source of
-- credentials answers for itself.
local function got_through(err)
    return err.status and not err.retryable and err.kind ~= "credentials"
end

-- What an answer says of how fast to ask. IAM's limits are its own: the call alone
-- obeys what it states. So does a call that failed; the others look again in 15 minutes,
-- because one answer of one host is no word on a whole day.
local function note_outcome(client, call, err)
    local now, limiter, own = client.runtime.now(), client.limiter, not call.origin
    if not err or got_through(err) then
        if not own then return end
        -- Without a batch nobody probes, and whoever gets through opens it.
        if limiter.closed and not next(client.batches) then limiter:restart() end
        limiter:succeeded(now)
    elseif err.kind == "throttled" then
        call.counts.throttled = call.counts.throttled + 1
        if own then
            client.last_refusal = err
            limiter:throttled(now, call.stated)
        end
        events.tell(client, "throttled", call, err, nil, call.stated.wait)
    elseif call.stated and call.stated.wait and own then
        client.last_refusal = err
        limiter:hold(now + math.min(call.stated.wait, LONGEST_WAIT))
    end
end

-- now: when its slot was there. Returns result, err, ended: `ended` where the wait for
-- the turn failed, so that nothing was sent and there is no point in going on.
local function send(client, call, attempt, last, now)
    if left(call, now) <= M.LEAST then return nil, too_late(call, last), true end -- it overslept
    local result, err = attempt(client, call, math.min(call.timeout, left(call, now)), now)
    if err then err = M.or_deadline(client, call, err) end
    note_outcome(client, call, err)
    return result, err
end

local function reopens(err)
    return not err or not err.retryable and err.kind ~= "cancelled" and err.kind ~= "timeout"
end

-- The only attempt of the whole client until it ends.
local function probe(client, call, attempt, last)
    local limiter, runtime = client.limiter, client.runtime
    local good, err = sleep(client, call, limiter:probe_wait(runtime.random()), last)
    if not good then return nil, err, true end
    local now, result, ended
    now, err = take_slot(client, call, last)
    if not now then return nil, err, true end
    result, err, ended = send(client, call, attempt, last, now)
    if ended then return nil, err, true end
    call.probes = call.probes + 1
    if reopens(err) then
        limiter:open(runtime.now())
        client.budget:refill()
    else
        limiter:probe_failed()
        -- Refusals alone lose nothing while the budget lasts; it does where nobody retries.
        if limiter.failed_probes >= PROBES and (client.budget.spent or not call.retry) then
            call.batch.given_up = err
        end
    end
    return result, err
end

-- A flight has no upvalues of its handler: see csms.runtime.nginx.
local function probe_once(_, outcome, client, call, attempt, last)
    if not client.limiter.closed then return end -- another one's has opened it meanwhile
    outcome.result, outcome.err, outcome.ended = probe(client, call, attempt, last)
    outcome.mine = true
end

-- Items of a batch take turns as the probe while the limiter is closed; the
-- others wait for its end and look again.
local function turn(client, call, attempt, last)
    while call.batch and client.limiter.closed do
        local batch = call.batch
        if batch.given_up then return nil, errors.copy(batch.given_up), true end
        if left(call, client.runtime.now()) <= 0 then
            return nil, too_late(call, last), true
        end
        local outcome = {}
        client.runtime:once(client.limiter, call.ends_at, probe_once, outcome, client, call,
            attempt, last)
        if outcome.mine then return outcome.result, outcome.err, outcome.ended end
        if client.closed then return nil, cancelled_error(), true end
    end
    local now, err = take_slot(client, call, last)
    if not now then return nil, err, true end
    -- Others were refused while it waited.
    if call.batch and client.limiter.closed then return turn(client, call, attempt, last) end
    return send(client, call, attempt, last, now)
end

-- ---- what to do about an error --------------------------------------------

local function jitter(client, call, base, count)
    local bound = math.min(call.retry.cap, base * 2 ^ math.min(count - 1, 30))
    return client.runtime.random() * bound
end

local function may_repeat(call)
    return call.idempotent or not call.sent -- the service provably did not act
end

-- A batch goes on by probes, which wait by themselves, until one succeeds.
local function probe_from_now(client)
    if not client.budget.spent then
        client.budget.spent = true
        client.limiter:close()
        client.limiter.failed_probes = 0
    end
    return 0
end

-- The budget's leave: the wait, or nil. A batch without budget probes.
local function charge(client, call, cost, wait)
    local now = client.runtime.now()
    if wait >= left(call, now) then return nil end
    local taken = client.budget:charge(cost, call.died_port, call.began, now)
    if taken then
        call.cost = taken
    else
        return call.batch and probe_from_now(client) or nil
    end
    return call.batch and client.limiter.closed and 0 or wait
end

-- The wait that the answer asks for and that is never shortened, or 0; nil where it is
-- too long, which ends a batch.
local function stated_wait(call, err)
    local wait = call.stated and call.stated.wait or 0
    if call.ends_at or wait <= LONGEST_WAIT then return wait end
    if call.batch then call.batch.given_up = err end
    return nil
end

local function wait_for_limit(client, call, err)
    call.refusals = call.refusals + 1
    if not call.batch and call.attempts >= call.max_attempts then return nil end
    local wait = stated_wait(call, err)
    if not wait then return nil end
    if wait == 0 then wait = jitter(client, call, call.retry.throttle_base, call.refusals) end
    return charge(client, call, budget.THROTTLED_COST, wait)
end

local function wait_for_recovery(client, call, err)
    call.failures = call.failures + 1
    local counted = call.attempts - (call.batch and call.refusals or 0) - call.probes
    if not err.retryable or counted >= call.max_attempts or not may_repeat(call) then
        return nil
    end
    local wait = stated_wait(call, err)
    if not wait then return nil end
    -- Nothing has worked yet: there is no sign that the service is up.
    if call.batch and not client.auth.proven then return probe_from_now(client) end
    wait = math.max(wait, jitter(client, call, call.retry.base, call.failures))
    return charge(client, call, budget.TRANSIENT_COST, wait)
end

-- Seconds to wait before the next attempt, or nil for no other attempt.
local function decide(client, call, err, recover)
    if client.closed then return nil end
    if err.kind == "auth" then return recover(client, call, err) and 0 or nil end
    if not call.retry then return nil end
    if err.kind == "throttled" then return wait_for_limit(client, call, err) end
    return wait_for_recovery(client, call, err)
end

--- Runs attempt(client, call, timeout, now) -> result | nil, err until it succeeds or
--- there is no point in another one: the result, or nil and the last error.
-- call: what csms.exchange prepares; an attempt leaves its facts in it: `began`, `sent`
-- (whether the service may have seen it), `died_port`, `stated`. recover(client,
-- call, err): whether an error of kind "auth" is mended.
function M.run(client, call, attempt, recover)
    call.attempts, call.probes, call.refusals, call.failures, call.cost = 0, 0, 0, 0, nil
    call.max_attempts = call.retry and call.retry.attempts
        or (call.batch and BATCH_ATTEMPTS or ATTEMPTS)
    local last
    while true do
        local result, err, ended = turn(client, call, attempt, last)
        if call.batch and not ended then
            call.batch.last_error = err and err.retryable and err or nil
        end
        if not err then
            client.budget:pay_back(call.cost)
            return result
        end
        if ended then return nil, err end
        last = err
        local wait = decide(client, call, err, recover)
        if not wait then return nil, err end
        events.tell(client, "retry", call, err, nil, wait)
        local good, problem = sleep(client, call, wait, err)
        if not good then return nil, problem end
        call.counts.retries = call.counts.retries + 1
    end
end

return M
