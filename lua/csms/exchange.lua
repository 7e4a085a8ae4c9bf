-- SPDX-License-Identifier: MIT
-- One operation on behalf of a client: build the request, send it signed, read
-- the answer; csms.retry decides how often.

local dates = require "csms.dates"
local errors = require "csms.errors"
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

-- Kinds of answers that the service gives only after it has authenticated.
local AUTHENTICATED = { not_found = true, state = true, denied = true, rejected = true }

-- Leaves in the call what retry needs to know of this attempt.
local function note_facts(client, call, transfer, answer, err, credential)
    local port = transfer:port()
    call.sent = transfer:sent()
    call.died_port = err and err.kind == "network" and port ~= 0 and port or nil
    if not answer then return end
    local date = answer.header("Date")
    local time = client.runtime.time()
    call.request_id = errors.request_id(answer, nil, credential)
    call.reply = { server_time = date and dates.parse_http(date), local_time = time }
    if err and err.kind == "throttled" then
        call.stated = throttling.read(answer.header, err.message, time)
    end
    if not err or AUTHENTICATED[err.kind] then client.auth:accepted() end
end

local function interpret(operation, answer, credential)
    if answer.status >= 200 and answer.status < 300 then
        return read(operation, answer, credential)
    end
    return nil, errors.from_answer(operation, answer, credential)
end

-- ---- one attempt ----------------------------------------------------------

local function emit_attempt(client, call, err, seconds)
    client.emit {
        event = "attempt", operation = call.operation, project = call.project, name = call.name,
        attempt = call.attempts, seconds = seconds, kind = err and err.kind,
        status = err and err.status, code = err and err.code,
        request_id = err and err.request_id or call.request_id,
    }
end

local function send(client, operation, call, request, credential)
    local runtime = client.runtime
    local started = runtime.now()
    request.time = runtime.time() + client.auth.offset
    call.request_id, call.sent = nil, false
    local answer, err, transfer = wire.send(runtime, call.origin or client.origin, credential,
        request, function(transfer)
            call.attempts = call.attempts + 1
            call.counts.requests = call.counts.requests + 1
            client.in_flight[transfer] = true
        end)
    if not transfer then return nil, err end
    client.in_flight[transfer] = nil
    local result
    if answer then result, err = interpret(operation, answer, credential) end
    note_facts(client, call, transfer, answer, err, credential)
    transfer:close()
    emit_attempt(client, call, err, runtime.now() - started)
    return result, err
end

--- Runs an operation for a checked call: the result, or nil and the error.
-- call: {operation, project, name, argument, query, timeout, deadline, ends_at,
-- retry, batch, counts, origin}, of which only the first and `timeout` are always
-- there; afterwards `attempts` and `request_id` tell of how it went.
function M.call(client, operation, call)
    local runtime = client.runtime
    local started = runtime.now()
    local request = wire.build(operation, call)
    local tries = { renewals = 0 }
    local credential
    call.idempotent = not operation.fresh
    call.counts = call.counts or { requests = 0, retries = 0, throttled = 0 }
    call.ends_at = call.ends_at or call.deadline and started + call.deadline
    call.recover = function(err)
        if not credential then return false end -- refused here: nothing was sent
        return client.auth:recover(err, credential, tries, call.reply, runtime.now(),
            call.retry ~= false)
    end
    local result, err = retry.run(client, call, function(timeout)
        local asked = runtime.now()
        local problem
        credential, problem = client.auth:credential(asked, asked + timeout)
        if not credential then return nil, problem end
        request.timeout = timeout - (runtime.now() - asked) -- its source may have taken time
        return send(client, operation, call, request, credential)
    end)
    if err then err.attempts = call.attempts end
    client.emit { event = "done", operation = call.operation, project = call.project,
        name = call.name, attempt = call.attempts, kind = err and err.kind,
        status = err and err.status, code = err and err.code,
        request_id = err and err.request_id or call.request_id,
        seconds = runtime.now() - started }
    return result, err
end

return M
