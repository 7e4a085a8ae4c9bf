-- SPDX-License-Identifier: MIT
-- One operation over the wire: build the request, send it signed, read the
-- answer.

local errors = require "csms.errors"
local json = require "csms.json"

local M = {}

-- RFC 3986; the same characters stay as in the signature.
local function encode(text)
    return (tostring(text):gsub("[^%w_.~-]", function(char)
        return ("%%%02X"):format(char:byte())
    end))
end

local function target(operation, call)
    local path = operation.path:gsub("{(%w+)}", function(field) return encode(call[field]) end)
    local query = {}
    for _, name in ipairs(operation.query or {}) do
        local value = call.query and call.query[name]
        if value ~= nil then query[#query + 1] = name .. "=" .. encode(value) end
    end
    return #query == 0 and path or path .. "?" .. table.concat(query, "&")
end

local HEADERS = { "Content-Type", "application/json" }

-- The core's struct csms_request, but for what differs from attempt to attempt.
local function build(operation, call)
    return {
        method = operation.method,
        target = target(operation, call),
        headers = HEADERS,
        body = operation.body and json.encode(operation.body(call.argument)) or nil,
        project = call.project,
        fresh = operation.fresh,
    }
end

-- A success: the operation's result, or nil and an error of kind "protocol".
local function read(operation, answer)
    local body = json.decode(answer.body)
    if type(body) ~= "table" then
        return nil, errors.protocol(answer, "the answer is not JSON", true)
    end
    local result, missing = operation.read(body)
    if result == nil then
        return nil, errors.protocol(answer, "the answer has " .. missing)
    end
    return result
end

local function interpret(operation, transfer, credential)
    local status, body = transfer:result()
    if not status then return nil, errors.from_core(body) end
    local answer = {
        status = status, body = body,
        header = function(name) return transfer:header(name) end,
    }
    if status >= 200 and status < 300 then return read(operation, answer) end
    return nil, errors.from_answer(operation, answer, credential)
end

-- Sends it once and waits: the result, or nil and the error.
local function attempt(client, operation, call, request, credential)
    request.timeout = call.timeout
    request.time = client.runtime.time()
    local transfer, problem = client.runtime.submit(client.origin, credential, request)
    if not transfer then return nil, errors.from_core(problem) end
    client.in_flight[transfer] = true
    client.runtime.await(transfer)
    client.in_flight[transfer] = nil
    local result, err = interpret(operation, transfer, credential)
    transfer:close()
    return result, err
end

--- Runs an operation for a checked call {project, name, argument, query,
--- timeout}: the result, or nil and the error.
function M.call(client, operation, call)
    local credential, err = client.credentials:get()
    if not credential then return nil, err end
    local result
    result, err = attempt(client, operation, call, build(operation, call), credential)
    if err then err.attempts = 1 end
    return result, err
end

return M
