-- The control API: JSON over plain HTTP on a port of its own. README.md has the table.
local access = require "spec.emulator.access"
local faults = require "spec.emulator.faults"
local json = require "spec.emulator.json"
local limits = require "spec.emulator.limits"
local requests = require "spec.emulator.requests"
local secrets = require "spec.emulator.secrets"
local signature = require "spec.emulator.signature"
local sockets = require "spec.emulator.sockets"
local state = require "spec.emulator.state"
local times = require "spec.emulator.times"

local control = {}

local function bad(message, status)
    return status or 400, { error = message }
end

local function project_of(call)
    return call.args.project or call.body.project or state.config.project
end

local function ping()
    return 200, { pid = ngx.worker.pid(), region = state.config.region }
end

local function reset()
    state.reset()
    return 200, { ok = true }
end

local function get_settings()
    return 200, state.settings
end

local function set_settings(call)
    local ok, err = state.set(call.body)
    if not ok then return bad(err) end
    if call.body.limits then limits.clear() end
    return 200, state.settings
end

local function add_faults(call)
    local rules, ids = call.body, json.array()
    if #rules == 0 then rules = { rules } end
    for i, rule in ipairs(rules) do
        local id, err = faults.add(rule)
        if not id then return bad(err) end
        ids[i] = id
    end
    return 200, { ids = ids }
end

local function list_faults()
    return 200, { faults = json.array(faults.list()) }
end

local function clear_faults()
    faults.clear()
    return 200, { ok = true }
end

local function list_requests(call)
    local args = call.args
    local list = requests.list(args.operation, args.name, tonumber(args.limit or ""))
    return 200, { requests = json.array(list) }
end

local function clear_requests()
    requests.clear()
    return 200, { ok = true }
end

local function get_counters()
    local all = requests.counters()
    all.secrets = secrets.count(state.config.project)
    return 200, all
end

local function get_secret(call)
    local secret = secrets.get(project_of(call), call.name)
    if not secret then return bad("no such secret: " .. call.name, 404) end
    return 200, secret
end

local function set_fields(secret, fields)
    for field, value in pairs(fields) do
        if field ~= "versions" and field ~= "name" and field ~= "project" then
            secret[field] = value
        end
    end
end

local function change_secret(call)
    local secret = secrets.own(project_of(call), call.name)
    if not secret then return bad("no such secret: " .. call.name, 404) end
    set_fields(secret, call.body)
    return 200, secret
end

local function delete_secret(call)
    if secrets.delete(project_of(call), call.name) then return 200, { ok = true } end
    return bad("no such secret: " .. call.name, 404)
end

local function create_one(project, fields)
    if type(fields) ~= "table" or type(fields.name) ~= "string" then return "name is missing" end
    local values = fields.values or { fields.value or "value of " .. fields.name }
    local made = secrets.make({ name = fields.name, secret_string = values[1] })
    for i = 2, #values do secrets.add_version(made, { secret_string = values[i] }) end
    for _, name in ipairs({ "state", "kms_key_id", "description", "create_time", "update_time" }) do
        if fields[name] ~= nil then made[name] = fields[name] end
    end
    if fields.secret_binary then
        made.versions[1].secret_string, made.versions[1].secret_binary = nil, fields.secret_binary
    end
    secrets.put(project, made)
    return nil
end

local function create_many(project, prefix, count)
    for i = 1, count do create_one(project, { name = prefix .. string.format("%05d", i) }) end
    return 200, { created = count }
end

local function create_secrets(call)
    local body = call.body
    if body.prefix then return create_many(project_of(call), body.prefix, body.count or 1) end
    local list = #body > 0 and body or { body }
    for _, fields in ipairs(list) do
        local err = create_one(project_of(call), fields)
        if err then return bad(err) end
    end
    return 200, { created = #list }
end

local function delete_secrets(call)
    local deleted = 0
    for _, name in ipairs(call.body.names or {}) do
        if secrets.delete(project_of(call), name) then deleted = deleted + 1 end
    end
    return 200, { deleted = deleted }
end

local function issue_token(call)
    local options = call.body
    local project = options.project or (not options.global and state.config.project) or nil
    local token, expires = access.issue_token({
        project = project, life = options.life, uses = options.uses,
    })
    return 200, { token = token, expires_at = times.iso(expires) }
end

local function issue_key(call)
    local key = access.issue_key(call.body)
    key.expires_at = key.expires and times.iso(key.expires)
    key.expires = nil
    return 200, key
end

local function revoke(call)
    local what = call.body
    if not (what.tokens or what.keys) then return bad("say what: tokens, keys or both") end
    if what.tokens then access.revoke_tokens() end
    if what.keys then access.revoke_keys() end
    return 200, { ok = true }
end

local function close_connections()
    local ports = {}
    for name, port in pairs(state.config.ports) do
        if name ~= "control" then ports[port] = true end
    end
    return 200, { closed = sockets.close_all(ports) }
end

local CALLS = {
    ["GET /ping"] = ping,
    ["POST /reset"] = reset,
    ["GET /settings"] = get_settings,
    ["POST /settings"] = set_settings,
    ["GET /faults"] = list_faults,
    ["POST /faults"] = add_faults,
    ["DELETE /faults"] = clear_faults,
    ["GET /requests"] = list_requests,
    ["DELETE /requests"] = clear_requests,
    ["GET /counters"] = get_counters,
    ["POST /secrets"] = create_secrets,
    ["POST /secrets/delete"] = delete_secrets,
    ["POST /tokens"] = issue_token,
    ["POST /keys"] = issue_key,
    ["POST /revoke"] = revoke,
    ["POST /connections/close"] = close_connections,
}

local ONE_SECRET = { GET = get_secret, POST = change_secret, DELETE = delete_secret }

local function find(method, path)
    local fn = CALLS[method .. " " .. path]
    if fn then return fn end
    local name = path:match("^/secrets/([^/]+)$")
    return name and ONE_SECRET[method], name and signature.percent_decode(name)
end

local function read_body()
    ngx.req.read_body()
    local text = ngx.req.get_body_data()
    if not text and ngx.req.get_body_file() then
        local file = assert(io.open(ngx.req.get_body_file(), "rb"))
        text = file:read("*a")
        file:close()
    end
    if not text or text == "" then return {} end
    local body = json.decode(text)
    return type(body) == "table" and body or nil
end

local function run()
    local path, method = ngx.var.request_uri:match("^[^?]*"), ngx.req.get_method()
    local fn, name = find(method, path)
    if not fn then return bad("no such control call: " .. method .. " " .. path, 404) end
    local body = read_body()
    if not body then return bad("the body is not a JSON object or array") end
    return fn({ body = body, name = name, args = ngx.req.get_uri_args() })
end

-- A mistake of the caller's that no check foresaw must still answer in words.
function control.serve()
    local ok, status, body = pcall(run)
    if not ok then status, body = 400, { error = tostring(status) } end
    local text = json.encode(body)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Content-Length"] = #text
    ngx.print(text)
end

return control
