-- SPDX-License-Identifier: MIT
-- One operation on behalf of a client: build the request, send it signed, read
-- the answer; csms.retry decides how often.

local dates = require "csms.dates"
local errors = require "csms.errors"
local events = require "csms.events"
local json = require "csms.json"
local retry = require "csms.retry"
local throttling = require "csms.throttling"
local wire = require "csms.wire"

local M = {}

-- ---- the answer -----------------------------------------------------------

-- A success: the operation's result, or nil and an error of kind "protocol".
local function read(operation, answer, credential)
    local body, reason = json.decode(answer.body)
    if reason then
        return nil, errors.protocol(answer, credential, "the answer is not JSON",
            answer.status == 200)
    end
    if type(body) ~= "table" then
        return nil, errors.protocol(answer, credential, "the answer is no JSON object")
    end
    local result, missing = operation.read(body)
    if result == nil then
        return nil, errors.protocol(answer, credential, "the answer has " .. missing)
    end
    return result
end

-- What the service itself answers only to whom it has authenticated: these kinds, with a code
-- of its own. The gateway's and a proxy's answers, which may have none, anybody gets.
local AUTHENTICATED = { not_found = true, state = true, denied = true, rejected = true }
local OWN = { CSMS = true, KMS = true }

local function has_authenticated(call, err)
    if call.origin then return false end -- IAM: signed plainly, whatever signs for the service
    if not err then return true end
    local prefix = err.code and err.code:match("^(%u+)%.") or ""
    return AUTHENTICATED[err.kind] and OWN[prefix]
end

-- Leaves in the call what retry and auth need to know of this attempt.
local function note_facts(client, call, transfer, answer, err)
    if not answer then
        local port = transfer:port()
        call.sent = transfer:sent()
        call.died_port = err.kind == "network" and port ~= 0 and port or nil
        return
    end
    call.sent, call.died_port = true, nil
    if err then
        call.request_id = err.request_id
    elseif call.told then
        call.request_id = errors.request_id(answer, nil, call.credential)
    end
    if err and (err.kind == "throttled" or err.kind == "service") then
        call.stated = throttling.read(answer.header, err.kind == "throttled" and err.message,
            client.runtime.time())
    elseif err and err.kind == "auth" then
        local date = answer.header("Date")
        call.reply = {
            server_time = date and dates.parse_http(date), local_time = client.runtime.time(),
        }
    end
    if has_authenticated(call, err) then client.auth:accepted() end
end

local function interpret(entry, answer, credential)
    if answer.status >= 200 and answer.status < 300 then
        return read(entry, answer, credential)
    end
    return nil, errors.from_answer(entry, answer, credential)
end

-- ---- one attempt ----------------------------------------------------------

local function send(client, call, started)
    local runtime = client.runtime
    call.request.time = runtime.time() + client.auth.offset
    call.began = started
    local transfer, err = wire.submit(runtime, call.origin or client.origin, call.credential,
        call.request)
    if not transfer then return nil, err end
    call.attempts = call.attempts + 1
    call.counts.requests = call.counts.requests + 1
    local here = coroutine.running() or client -- LuaJIT's main one has no name
    client.in_flight[here] = transfer
    local answer, result
    answer, err = wire.receive(runtime, transfer)
    client.in_flight[here] = false
    if answer then result, err = interpret(call.entry, answer, call.credential) end
    note_facts(client, call, transfer, answer, err)
    transfer:close()
    events.tell(client, "attempt", call, err, started)
    return result, err
end

-- The source of the credential may take some of the time.
local function attempt(client, call, timeout, asked)
    local err
    call.stated, call.request_id, call.sent, call.died_port = nil, nil, false, nil
    call.credential, err = client.auth:credential(asked, asked + timeout)
    if client.closed then return nil, retry.cancelled_error() end -- meanwhile
    if not call.credential then return nil, err end
    local now = client.runtime.now()
    call.request.timeout = timeout - (now - asked)
    if call.request.timeout > retry.LEAST then return send(client, call, now) end
    if call.timeout <= retry.LEAST then
        return nil, errors.new("timeout", ("the timeout of %g s is too short to send anything")
            :format(call.timeout), { retryable = false })
    end
    call.attempts = call.attempts + 1 -- else it would be repeated without end
    return nil, errors.new("timeout", "the credential came too late",
        { cause = "the provider took all of the time" })
end

-- Whether a call may try again at once after an error of kind "auth".
local function recover(client, call, err)
    if not call.credential then return false end -- refused here: nothing was sent
    return client.auth:recover(call, err, client.runtime.now())
end

--- What a call is, in a table with room for what becomes of it: many are made, and
--- it need not grow. Its maker may also set `query`, `origin`, `batch`, `counts` and `told`
--- (whether somebody is told of the request's id).
-- options: {project, timeout, deadline, ends_at, retry}, of which only `timeout` is
-- always there.
function M.new_call(operation, options, name, argument)
    return {
        operation = operation, project = options.project, name = name, argument = argument,
        timeout = options.timeout, deadline = options.deadline, ends_at = options.ends_at,
        retry = options.retry, batch = nil, counts = nil, told = nil,
        -- set by call() and csms.retry
        entry = nil, idempotent = nil, request = nil, credential = nil, max_attempts = nil,
        attempts = nil, probes = nil, refusals = nil, failures = nil, cost = nil,
        renewals = nil, clock_corrected = nil, replaced = nil,
        -- of the last attempt
        began = nil, sent = nil, died_port = nil, request_id = nil, stated = nil,
    }
end

--- Runs an operation for a call: the result, or nil and the error. Afterwards
--- `attempts` and `request_id` of the call tell of how it went.
-- entry: of csms.api.
function M.call(client, entry, call)
    local started = client.config.on_event and client.runtime.now()
    call.entry, call.request = entry, wire.build(entry, call)
    call.idempotent = not entry.fresh
    call.counts = call.counts or { requests = 0, retries = 0, throttled = 0 }
    call.told = call.told or started ~= nil
    call.renewals, call.clock_corrected, call.replaced = 0, false, false
    local result, err = retry.run(client, call, attempt, recover)
    if err then err.attempts = call.attempts end
    events.tell(client, "done", call, err, started)
    return result, err
end

return M
