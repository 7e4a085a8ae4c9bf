-- SPDX-License-Identifier: MIT
-- What the sources of credentials share: their errors, their requests, and the
-- context that a client gives them.

local core = require "csms.core"
local dates = require "csms.dates"
local errors = require "csms.errors"
local runtime = require "csms.runtime"
local wire = require "csms.wire"

local M = {}

-- Of a provider that is used without a client.
local ALONE = { runtime = runtime, emit = function() end }

--- {runtime, emit, ca_file, proxy, region, iam_endpoint}: the client's, or one
--- for a provider that is used alone; with ends_at, when the call must end.
function M.context(context, ends_at)
    return setmetatable({ ends_at = ends_at }, { __index = context or ALONE })
end

--- What a provider knows besides its keys ("project_id", "iam_endpoint"), or nil.
function M.known(provider, field)
    if type(provider.knows) == "function" then return provider:knows(field) end
    return provider[field]
end

--- nil and an error of kind "credentials" that names the source.
-- absent: the source has nothing, so that a chain asks the next one; false says
-- that it is there but failed.
function M.fail(source, message, absent, cause)
    local err = errors.new("credentials", ("credentials.%s: %s"):format(source, message),
        { cause = cause })
    return nil, err, absent or false
end

--- Seconds until a time of the service's (since 1970), counted from its answer's
--- own date, so that our clock does not matter.
function M.life(expires, answer, context)
    local date = answer.header("Date")
    return expires - (date and dates.parse_http(date) or context.runtime.time())
end

--- An origin for a source's requests, or nil and the error.
-- options: as csms.core.origin takes them.
function M.origin(source, options)
    options.user_agent = "csms/" .. core.version
    local origin, problem = core.origin(options)
    if not origin then return M.fail(source, problem.message) end
    return origin
end

--- Whether an answer is a failure that may pass by itself.
function M.may_pass(answer)
    return answer.status == 429 or answer.status >= 500
end

local function repeats(text, secret)
    return secret ~= "" and (text:find(secret, 1, true) or secret:find(text, 1, true))
end

-- What tells the failure apart: of the body nothing but a code, and that only where
-- it looks like one, because a server may repeat the secret that it was sent.
local function note_answer(err, answer, secret)
    local code = errors.read_body(answer.body).code
    local id = errors.request_id(answer)
    err.status = answer.status
    if code and #code <= 12 and code:find("^%a*%.?%d+$") and not repeats(code, secret) then
        err.code = code
    end
    if id and not repeats(id, secret) then err.request_id = id end
end

--- Sends one request: read(answer) -> result..., or nil and the error, which gets
--- the answer's status, code and request id; both may look at its headers.
-- request: {source, origin, operation, call, timeout, optional, secret}; where a
-- source is optional, nobody's answer means that it is not there. secret: what goes
-- out with it and stays out of errors; nil or "" for none.
function M.request(request, context, read)
    local built = wire.build(request.operation, request.call)
    local left = context.ends_at and context.ends_at - context.runtime.now() or math.huge
    built.timeout = math.max(math.min(request.timeout, left), 0.001)
    local transfer, err = wire.submit(context.runtime, request.origin, nil, built)
    if not transfer then return M.fail(request.source, err.message, request.optional, err.cause) end
    local answer
    answer, err = wire.receive(context.runtime, transfer)
    local first, second, third
    if answer then
        first, second, third = read(answer)
        if errors.is_error(second) then note_answer(second, answer, request.secret or "") end
    else
        first, second, third = M.fail(request.source, err.message, request.optional, err.cause)
    end
    transfer:close()
    return first, second, third
end

return M
