-- Every request's way: read, log, authenticate, limit, fault, operate, answer.
local access = require "spec.emulator.access"
local answers = require "spec.emulator.answers"
local crypto = require "spec.emulator.crypto"
local faults = require "spec.emulator.faults"
local iam = require "spec.emulator.iam"
local limits = require "spec.emulator.limits"
local requests = require "spec.emulator.requests"
local routes = require "spec.emulator.routes"
local signature = require "spec.emulator.signature"
local state = require "spec.emulator.state"
local times = require "spec.emulator.times"
local writer = require "spec.emulator.writer"

local gateway = {}

local function read_body()
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then return body end
    local path = ngx.req.get_body_file()
    if not path then return "" end
    local file = assert(io.open(path, "rb"))
    body = file:read("*a")
    file:close()
    return body
end

local function read_args(query)
    local args = {}
    for name, value in query:gmatch("([^&=]+)=?([^&]*)") do
        args[signature.percent_decode(name)] = signature.percent_decode(value)
    end
    return args
end

local function read_request(list)
    local uri = ngx.var.request_uri
    local path, query = uri:match("^([^?]*)%??(.*)$")
    local method = ngx.req.get_method()
    local route, project, name, version = routes.find(list, method, path)
    return {
        method = method, uri = uri, path = path, query = query, args = read_args(query),
        headers = ngx.req.get_headers(0), body = read_body(),
        route = route, operation = route and route.operation or "unknown",
        project = project, name = name and signature.percent_decode(name),
        version = version and signature.percent_decode(version),
    }
end

local HIDDEN = { authorization = true, ["x-auth-token"] = true, ["x-security-token"] = true }

local function shown_headers(headers)
    local shown = {}
    for name, value in pairs(headers) do shown[name] = HIDDEN[name] and "(hidden)" or value end
    return shown
end

local function log_entry(request)
    local entry = {
        operation = request.operation, method = request.method, path = request.path,
        query = request.query, name = request.name, protocol = ngx.var.server_protocol,
        connection = tonumber(ngx.var.connection), port = tonumber(ngx.var.server_port),
        auth = "none",
    }
    if state.settings.log_headers then entry.headers = shown_headers(request.headers) end
    return entry
end

local function check_project(request, identity)
    if not iam.knows_project(request.project) then
        return answers.gateway(403, "0310", "The project is unavailable")
    end
    if identity.scoped and identity.project ~= request.project then
        return answers.error(400, "CSMS.0301", "invalid X-Auth-Token: it is of another project")
    end
    local stated = request.headers["x-project-id"]
    if stated and stated ~= request.project then
        return answers.gateway(403, "0310", "X-Project-Id is not the project of the path")
    end
    return nil
end

-- nil, or the refusal; what is known of the asker goes into the log.
local function check_access(request, entry)
    if request.route.access == "own" then return nil end
    local identity, refused, asker = access.authenticate(request)
    asker = identity or asker
    entry.auth, entry.access_key = asker.kind, asker.access_key
    entry.algorithm, entry.signed = asker.algorithm, asker.signed
    if refused then return refused end
    if request.route.access == "project" then return check_project(request, identity) end
    return nil
end

local function check(request, entry)
    if not request.route then
        return answers.gateway(404, "0101",
            "The API does not exist or has not been published in the environment")
    end
    return check_access(request, entry) or (request.route.limited and limits.check()) or nil
end

local resets = 0
state.on_reset(function() resets = resets + 1 end)

-- Whether the request goes on after its delay: what came before a reset must not act on the state
-- that this began, issue a token in it for example.
local function hold(seconds)
    local before = resets
    if seconds and seconds > 0 then ngx.sleep(seconds) end
    return resets == before
end

-- answer | nil (say nothing), and the fault that goes into the writing
local function respond(request, entry)
    local refused = check(request, entry)
    if refused then return refused end
    local fault = faults.match(request)
    if not fault then return request.route.run(request) end
    if not hold(fault.delay) then return nil, fault end
    if not faults.replaces(fault) then return request.route.run(request), fault end
    if fault.act then request.route.run(request) end
    if fault.close and not fault.truncate then return nil, fault end
    return faults.answer(fault), fault
end

local function add_headers(answer, request, fault)
    local headers = answer.headers
    headers["X-Request-Id"] = ngx.ctx.request_id
    if request.route and request.route.iam then
        headers["X-IAM-Trace-Id"] = "token_" .. ngx.ctx.request_id
    end
    if state.settings.clock_offset ~= 0 then headers["Date"] = times.http(state.now()) end
    for name, value in pairs(fault and fault.headers or {}) do headers[name] = value end
end

local function serve(list)
    ngx.ctx.request_id = crypto.random_hex(16)
    local request = read_request(list)
    local entry = log_entry(request)
    requests.arrive(entry)
    local answer, fault = respond(request, entry)
    if answer then add_headers(answer, request, fault) end
    requests.leave(entry, answer and answer.status or 0, fault ~= nil)
    return writer.send(answer, fault)
end

function gateway.serve()
    return serve(routes.service)
end

function gateway.serve_metadata()
    return serve(routes.metadata)
end

local REJECTED = {
    [400] = "Bad request",
    [413] = "Request entity too large",
    [414] = "Request URI too large",
    [494] = "Request header too large",
}

-- What nginx itself refuses, in the gateway's words.
function gateway.rejected()
    ngx.ctx.request_id = crypto.random_hex(16)
    local answer = answers.gateway(ngx.status, "0201", REJECTED[ngx.status])
    answer.headers["X-Request-Id"] = ngx.ctx.request_id
    return writer.send(answer)
end

return gateway
