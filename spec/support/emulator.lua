-- Starts, steers and stops emulators for specs. Runs on Lua 5.4 and LuaJIT.
--
--   local emulator = require "spec.support.emulator"
--   local emu = emulator.start{ secrets = 200, region = "cn-north-4" }
--   emu:fault{ operation = "backup", name = "secret-0003", status = 500 }
--   ...
--   emu:stop()
--
-- Fault fields, settings and what a request's log entry holds: spec/emulator/README.md.
local cjson = require "cjson"
local http = require "socket.http"
local ltn12 = require "ltn12"

local files = require "spec.support.files"

local quote, read = files.quote, files.read

local ROOT = debug.getinfo(1, "S").source:match("^@(.*)spec/support/emulator%.lua$") or ""
local SCRIPT = ROOT .. "spec/emulator/emulator"

-- field of an instance = its line in the folder's env file
local FIELDS = {
    endpoint = "CSMS_ENDPOINT", iam_endpoint = "HUAWEICLOUD_SDK_IAM_ENDPOINT",
    http1_endpoint = "EMULATOR_HTTP1_ENDPOINT", http_endpoint = "EMULATOR_HTTP_ENDPOINT",
    wrong_host_endpoint = "EMULATOR_WRONG_HOST_ENDPOINT",
    expired_endpoint = "EMULATOR_EXPIRED_ENDPOINT",
    self_signed_endpoint = "EMULATOR_SELF_SIGNED_ENDPOINT",
    tls11_endpoint = "EMULATOR_TLS11_ENDPOINT", metadata_endpoint = "CSMS_METADATA_ENDPOINT",
    pod_identity_uri = "EMULATOR_POD_IDENTITY_URI",
    pod_identity_token_file = "EMULATOR_POD_IDENTITY_TOKEN_FILE",
    control = "EMULATOR_CONTROL", ca_file = "CSMS_CA_FILE", region = "CSMS_REGION",
    project = "HUAWEICLOUD_SDK_PROJECT_ID", ak = "HUAWEICLOUD_SDK_AK", sk = "HUAWEICLOUD_SDK_SK",
    token = "EMULATOR_TOKEN", domain = "EMULATOR_DOMAIN", domain_id = "EMULATOR_DOMAIN_ID",
    user = "EMULATOR_USER", password = "EMULATOR_PASSWORD", kms_key_id = "EMULATOR_KMS_KEY_ID",
    kid = "EMULATOR_KID",
}

local emulator = {}

local instance = {}
instance.__index = instance
instance.__name = "emulator"

local function own_pid()
    return assert(read("/proc/self/stat"):match("^(%d+)"))
end

-- Answers what the script wrote; raises with it where the script failed.
local function script(...)
    local words = { quote(SCRIPT) }
    for i = 1, select("#", ...) do words[#words + 1] = quote((select(i, ...))) end
    local output = files.output_of(table.concat(words, " ") .. " 2>&1; echo $?")
    local text, code = output:match("^(.-)%s*(%d+)%s*$")
    if code ~= "0" then error("emulator " .. (...) .. " failed: " .. text, 3) end
    return text
end

local to_integer = rawget(math, "tointeger") or function(n) return n end
local unpack = rawget(table, "unpack") or rawget(_G, "unpack")

-- null becomes nil; 1.0, as lua-cjson reads 1 on Lua 5.4, becomes 1.
local function tidy(value)
    if value == cjson.null then return nil end
    if type(value) == "number" then return to_integer(value) or value end
    if type(value) == "table" then
        for key, item in pairs(value) do value[key] = tidy(item) end
    end
    return value
end

local function escape(text)
    return (text:gsub("[^%w_.~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- One control call; raises with the emulator's own words where it refuses.
function instance:call(method, path, body)
    local parts, text = {}, body and cjson.encode(body) or ""
    local ok, status = http.request({
        url = self.control .. path, method = method, sink = ltn12.sink.table(parts),
        source = ltn12.source.string(text),
        headers = { ["Content-Type"] = "application/json", ["Content-Length"] = #text },
    })
    if not ok then error("emulator does not answer: " .. tostring(status), 3) end
    local answer = tidy(cjson.decode(table.concat(parts)))
    if status ~= 200 then error("emulator: " .. tostring(answer.error), 3) end
    return answer
end

local function query(values)
    local parts = {}
    for _, name in ipairs({ "operation", "name", "limit", "project" }) do
        if values[name] then parts[#parts + 1] = name .. "=" .. escape(tostring(values[name])) end
    end
    return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

-- options, all optional: secrets (10), region ("cn-north-4"), dir, streams (HTTP/2, 128),
-- keepalive_requests. The instance ends by itself when this process is gone.
function emulator.start(options)
    options = options or {}
    local words = { "start", "--parent", own_pid() }
    for _, name in ipairs({ "secrets", "region", "dir", "streams", "keepalive_requests" }) do
        if options[name] then
            words[#words + 1] = "--" .. name:gsub("_", "-")
            words[#words + 1] = options[name]
        end
    end
    local emu = setmetatable({}, instance)
    emu.dir = script(unpack(words))
    emu.env = {}
    for key, value in read(emu.dir .. "/env"):gmatch("([^=\n]+)=([^\n]*)\n") do
        emu.env[key] = value
    end
    for field, key in pairs(FIELDS) do emu[field] = assert(emu.env[key], key) end
    emu.pod_identity_token = read(emu.pod_identity_token_file)
    return emu
end

function instance:stop()
    if not self.stopped then script("stop", self.dir) end
    self.stopped = true
end

-- Nothing listens any more. The folder, the ports, all keys and certificates are kept.
function instance:down()
    script("down", self.dir)
end

-- The same ports, in the start state: what was created, faulted or counted before is lost, but
-- blobs made before still open. Connections of before are gone.
function instance:up()
    script("up", self.dir)
end

-- The pid of nginx's master.
function instance:pid()
    return tonumber(read(self.dir .. "/nginx.pid"))
end

-- Back to the start state; log and counters are empty.
function instance:reset()
    self:call("POST", "/reset")
end

-- One rule, or an array of them. Answers the array of their ids.
function instance:fault(rules)
    return self:call("POST", "/faults", rules).ids
end

-- Array of {id, matched, used, rule}
function instance:faults()
    return self:call("GET", "/faults").faults
end

function instance:clear_faults()
    self:call("DELETE", "/faults")
end

function instance:set(settings)
    return self:call("POST", "/settings", settings)
end

function instance:settings()
    return self:call("GET", "/settings")
end

-- filter: an operation's name, or {operation, name, limit}. Oldest first.
function instance:requests(filter)
    if type(filter) == "string" then filter = { operation = filter } end
    return self:call("GET", "/requests" .. query(filter or {})).requests
end

-- Empties log and counters only.
function instance:clear_requests()
    self:call("DELETE", "/requests")
end

function instance:counters()
    return self:call("GET", "/counters")
end

local function secret_path(name, options)
    return "/secrets/" .. escape(name) .. query({ project = options and options.project })
end

-- The whole secret with its versions' values | nil where there is none
function instance:secret(name, options)
    local ok, answer = pcall(self.call, self, "GET", secret_path(name, options))
    if ok then return answer end
    if tostring(answer):find("no such secret", 1, true) then return nil end
    error(answer, 2)
end

-- {name, value or values, secret_binary, state, kms_key_id, description, create_time, update_time,
-- project}, an array of those, or {prefix, count}. Names are not checked.
function instance:create(secrets)
    return self:call("POST", "/secrets", secrets).created
end

-- Changes fields of a secret: state, kms_key_id, update_time ...
function instance:change(name, fields, options)
    return self:call("POST", secret_path(name, options), fields)
end

-- A name, or an array of names.
function instance:delete(names)
    if type(names) == "string" then names = { names } end
    return self:call("POST", "/secrets/delete", { names = names }).deleted
end

-- {life, uses, project, global}: {token, expires_at}
function instance:issue_token(options)
    return self:call("POST", "/tokens", options or {})
end

-- {temporary, life}: {access, secret, securitytoken, expires_at}
function instance:issue_key(options)
    return self:call("POST", "/keys", options or {})
end

-- Voids every token (the start one too), and every temporary key.
function instance:revoke_tokens()
    self:call("POST", "/revoke", { tokens = true })
end

function instance:revoke_keys()
    self:call("POST", "/revoke", { keys = true })
end

-- Cuts every client's TCP connection now; answers how many.
function instance:kill_connections()
    return self:call("POST", "/connections/close").closed
end

return emulator
