-- What is tortured: works.lua WORK. Each work goes through a part of the core and
-- of what stands on it. Prints how it ended, on one line: "ok", "error KIND MESSAGE"
-- or "raised MESSAGE"; "ok without PATH" where a store's file or folder could not be
-- read, and the work went on.

local core = require "csms.core"
local csms = require "csms"
local directory = require "csms.store.directory"
local store_run = require "spec.support.store_run"

local env = os.getenv
local PROJECT = env "HUAWEICLOUD_SDK_PROJECT_ID"

local works = {}

-- ---- signing and keys -----------------------------------------------------------------

local function each_algorithm(fn)
    for _, name in ipairs { "SDK-HMAC-SHA256", "SDK-HMAC-SM3", "V11-HMAC-SHA256" } do
        local good, err = fn {
            algorithm = name, method = "POST", path = "/v1/a b", query = "b=2&a=1&c",
            headers = { "Content-Type", "application/json", "X-Sdk-Date", "20261121T160000Z" },
            body = "{}", date = "20261121T160000Z", region = "cn-north-4", service = "csms",
        }
        if not good then return nil, err end
    end
    return true
end

function works.sign()
    return each_algorithm(function(request)
        local credential, err = core.credential.keys("access-key", "secret-key", "token")
        if not credential then return nil, err end
        local good
        good, err = core.sign.authorization(request, credential)
        if not good then return nil, err end
        return core.sign.authorization(request, credential)
    end)
end

-- A key is derived anew for another scope; where that fails once, what is signed afterwards
-- is signed with the right key even so.
function works.scopes()
    local request = {
        algorithm = "V11-HMAC-SHA256", method = "GET", path = "/", headers = { "Host", "a" },
        date = "20261121T160000Z", region = "cn-north-4", service = "csms",
    }
    local function sign_with(credential, problem)
        if not credential then return nil, problem end
        return core.sign.authorization(request, credential)
    end
    local credential, err = core.credential.keys("access-key", "secret-key")
    local good
    good, err = sign_with(credential, err)
    if not good then return nil, err end
    request.region = "cn-north-1"
    good, err = sign_with(credential)
    if good then return true end
    local again, right = sign_with(credential), sign_with(core.credential.keys("access-key",
        "secret-key"))
    assert(not (again and right) or again == right, "signed with the key of another scope")
    return nil, err
end

-- Each stage by itself.
function works.stages()
    return each_algorithm(function(request)
        local sign = core.sign
        local good, err = sign.canonical_uri(request.path)
        if good then good, err = sign.canonical_query(request.query) end
        if good then good, err = sign.canonical_headers(request) end
        if good then good, err = sign.signed_headers(request) end
        if good then good, err = sign.payload_hash(request) end
        local canonical, scope, text, key
        if good then canonical, err = sign.canonical_request(request) end
        if canonical then scope, err = sign.scope(request) end
        if scope then text, err = sign.string_to_sign(request, canonical) end
        if text then key, err = sign.key(request, "ak", "sk", scope) end
        if not key then return nil, err end
        return sign.signature(request, key, text)
    end)
end

function works.profile()
    local provider, err = csms.credentials.profile(env "TORTURE_PROFILE")
    if not provider then return nil, err end
    local credential
    credential, err = provider:get()
    if not credential then return nil, err end
    return core.credential.profile "/nonexistent/credentials"
end

function works.credentials()
    local keys, err = core.credential.keys("access-key", "secret-key", "token")
    if not keys then return nil, err end
    local token
    token, err = core.credential.token "a-token"
    if not token then return nil, err end
    local text
    text, err = keys:redact "the secret-key of access-key"
    if not text then return nil, err end
    assert(not text:find "secret", "not redacted")
    return not keys:same(token)
end

function works.origin()
    return core.origin {
        url = "https://example.com:8443", ca_file = "/ca.pem", proxy = "http://proxy:3128",
        signing = "V11-HMAC-SHA256", region = "r", service = "s", user_agent = "u",
    }
end

-- ---- calls ------------------------------------------------------------------------------

-- One attempt each, so that what fails is seen, unless the config says otherwise.
local function with_client(fn, config)
    local client, err = csms.new(config or { retry = false })
    if not client then return nil, err end
    local good
    good, err = fn(client)
    client:close()
    return good, err
end

function works.backup()
    return with_client(function(client) return client:backup(PROJECT, "secret-0001") end)
end

function works.show()
    return with_client(function(client) return client:show(PROJECT, "secret-0001") end)
end

-- Two on one connection.
function works.http1()
    return with_client(function(client)
        local good, err = client:show(PROJECT, "secret-0001")
        if not good then return nil, err end
        return client:show(PROJECT, "secret-0002")
    end, { retry = false, http_version = "1.1" })
end

function works.list()
    return with_client(function(client) return client:list(PROJECT) end)
end

-- The service says that the secret is there; the core does not know that answer.
function works.restore()
    return with_client(function(client)
        local file = assert(io.open(env "TORTURE_BLOB", "rb"))
        local blob = file:read "a"
        file:close()
        return client:restore(PROJECT, blob)
    end)
end

local NAMES = { "secret-0001", "secret-0002", "secret-0003", "secret-0004" }

-- With retry: a failure of one attempt is no failure.
function works.batch()
    return with_client(function(client)
        local report, err = client:backup_many(PROJECT, NAMES, { concurrency = 3 })
        if not report then return nil, err end
        assert(report.ok + report.failed == #NAMES, "a secret is lost")
        local _, problem = next(report.errors)
        return not problem, problem
    end, { retry = { attempts = 4, base = 0.01 } })
end

-- ---- the engine, with and without its thread ------------------------------------------------

local function submit(channel, name)
    local origin, err = core.origin { url = env "CSMS_ENDPOINT", ca_file = env "CSMS_CA_FILE" }
    if not origin then return nil, err end
    local credential
    credential, err = core.credential.keys(env "HUAWEICLOUD_SDK_AK", env "HUAWEICLOUD_SDK_SK")
    if not credential then return nil, err end
    return channel:submit(origin, credential, {
        method = "POST", target = "/v1/" .. PROJECT .. "/secrets/" .. name .. "/backup",
        headers = { "Content-Type", "application/json" }, project = PROJECT, timeout = 10,
        time = core.time(),
    })
end

local function wait_for(transfer)
    while not transfer:done() do core.step(1) end
    local status, body = transfer:result()
    if not status then return nil, body end
    if status == 200 then return true end
    return nil, { kind = "status", message = tostring(status) }
end

local function with_channel(fn)
    local channel, err = core.channel()
    if not channel then return nil, err end
    local good
    good, err = fn(channel)
    channel:close()
    return good, err
end

local function two_calls(channel)
    local first, err = submit(channel, "secret-0001")
    if not first then return nil, err end
    local second
    second, err = submit(channel, "secret-0002")
    if not second then return nil, err end
    local good
    good, err = wait_for(first)
    if not good then return nil, err end
    good, err = wait_for(second)
    while channel:drain() do end
    return good, err
end

function works.thread()
    return with_channel(function(channel)
        local good, err = channel:start()
        if not good then return nil, err end
        good, err = channel:fd()
        if not good then return nil, err end
        return two_calls(channel)
    end)
end

-- After a while without work the thread waits longer.
function works.thread_idle()
    return with_channel(function(channel)
        local good, err = channel:start()
        if not good then return nil, err end
        good, err = channel:fd()
        if not good then return nil, err end
        local from = core.now()
        while core.now() < from + 0.8 do core.step(1) end
        return two_calls(channel)
    end)
end

-- The way that nginx wakes by; nobody connects.
function works.listen()
    return with_channel(function(channel)
        local good, err = channel:listen()
        if not good then return nil, err end
        local _, problem = channel:accept()
        assert(problem.kind == "config", problem.message)
        return true
    end)
end

-- The same, where somebody connects.
function works.accept()
    return with_channel(function(channel)
        local path, err = channel:listen()
        if not path then return nil, err end
        local socket = assert(require "socket.unix"())
        assert(socket:connect(path))
        local good
        good, err = channel:accept()
        if good then good, err = two_calls(channel) end
        socket:close()
        return good, err
    end)
end

-- Before the first request there is nothing to wait for but the time.
function works.sleep()
    return with_channel(function()
        core.step(0.01)
        return true
    end)
end

function works.cancel()
    return with_channel(function(channel)
        local good, err = channel:start()
        if not good then return nil, err end
        local transfer
        transfer, err = submit(channel, "secret-0001")
        if not transfer then return nil, err end
        transfer:cancel()
        good, err = wait_for(transfer)
        if err and err.kind == "cancelled" then return true end
        return good, err
    end)
end

function works.close_in_flight()
    return with_channel(function(channel)
        local transfer, err = submit(channel, "secret-0001")
        if not transfer then return nil, err end
        core.step(0)
        return true
    end)
end

-- ---- files and signals -----------------------------------------------------------------------

local unread -- the path below a store that could not be read

-- What is not there is no failure.
local function note_unread(dir, name)
    local read = dir[name]
    dir[name] = function(self, path, ...)
        local result, err = read(self, path, ...)
        if err and err.code ~= "ENOENT" then unread = path or "." end
        return result, err
    end
end

local open_directory = directory.open
function directory.open(...)
    local dir, err = open_directory(...)
    if dir then
        note_unread(dir, "read")
        note_unread(dir, "entries")
    end
    return dir, err
end

for _, name in ipairs { "save", "look", "read", "prune" } do
    works["store_" .. name] = function()
        local _, err = store_run.work(env "TORTURE_STORE", name, "4")
        return not err, err
    end
end

-- A folder that is not there yet, nor what is above it.
function works.store_new()
    local _, err = store_run.work(env "TORTURE_STORE" .. "-new/deep", "save_one", "1")
    return not err, err
end

function works.store_locked()
    local first, err = csms.store(env "TORTURE_STORE")
    if not first then return nil, err end
    local good
    good, err = first:open_run()
    if good then
        local _, problem = store_run.work(env "TORTURE_STORE", "save_one", "1")
        if not problem or problem.code ~= "locked" then return nil, problem end
    end
    local closed, failure = first:close()
    if not good then return nil, err end
    return closed, failure
end

function works.signals()
    local good, err = core.catch_signals()
    if not good then return nil, err end
    core.caught_signal()
    core.release_signals()
    core.process()
    core.random()
    core.encode "a b"
    return core.sha256 "x" and core.random_hex(8)
end

-- ---- the whole ---------------------------------------------------------------------------------

local function one_line(text)
    return (tostring(text):gsub("\n.*", ""))
end

local good, result, err = pcall(works[arg[1]])
if not good then
    print("raised " .. one_line(result))
elseif type(err) == "string" then -- named by what went on without it
    print("error named " .. one_line(err))
elseif not result then
    print(("error %s %s"):format(err.kind, one_line(err.message)))
else
    print(unread and "ok without " .. unread or "ok")
end
