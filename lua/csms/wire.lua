-- SPDX-License-Identifier: MIT
-- One request of the api table and its answer, without any judgement on either.

local core = require "csms.core"
local errors = require "csms.errors"
local json = require "csms.json"

local M = {}

local encode = core.encode

local function query_of(operation, values)
    local query = {}
    for _, name in ipairs(operation.query) do
        local value = values[name]
        if value ~= nil then query[#query + 1] = name .. "=" .. encode(tostring(value)) end
    end
    return table.concat(query, "&")
end

local function target(operation, call)
    local path = operation.path:format(encode(call.project or ""), encode(call.name or ""))
    if not call.query then return path end
    return path .. "?" .. query_of(operation, call.query)
end

local HEADERS = { "Content-Type", "application/json" }

--- The core's struct csms_request for an operation, but for timeout and time,
--- which differ from attempt to attempt.
-- call: {project, name, argument, query, headers, target}, as the operation needs.
function M.build(operation, call)
    return {
        method = operation.method,
        target = call.target or target(operation, call), -- "/path?query", encoded
        headers = call.headers or HEADERS,
        body = operation.body and json.encode(operation.body(call.argument)) or nil,
        project = call.project,
        fresh = operation.fresh,
    }
end

--- Starts a request: the transfer, which the caller closes; or nil and the error,
--- when nothing was sent.
function M.submit(runtime, origin, credential, request)
    local transfer, problem = runtime:submit(origin, credential, request)
    if not transfer then return nil, errors.from_core(problem) end
    return transfer
end

--- Waits for its end: the answer {status, body, header = function(name)}, or nil and
--- the error. header() works until the transfer is closed.
function M.receive(runtime, transfer)
    runtime:await(transfer)
    local status, body = transfer:result()
    if not status then return nil, errors.from_core(body) end
    return {
        status = status, body = body,
        header = function(name) return transfer:header(name) end,
    }
end

return M
