-- SPDX-License-Identifier: MIT
-- One request of the api table and its answer, without any judgement on either.

local errors = require "csms.errors"
local json = require "csms.json"

local M = {}

-- RFC 3986; the same characters stay as in the signature.
local function encode(text)
    text = tostring(text)
    if text:find("^[%w_.~-]*$") then return text end -- five times faster than what follows
    return (text:gsub("[^%w_.~-]", function(char)
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

--- The core's struct csms_request for an operation, but for timeout and time,
--- which differ from attempt to attempt.
-- call: {project, name, argument, query, headers}, as the operation needs.
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
