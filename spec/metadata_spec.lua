-- Temporary keys of an ECS instance: both versions of the metadata service, its failures, and the
-- renewal of keys that live for a short time. Everything here is on loopback.

local blocking = require "csms.runtime.blocking"
local cases = require "spec.support.cases"
local chain = require "csms.credentials.chain"
local client = require "csms.client"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local fixed = require "csms.credentials.fixed"
local json = require "cjson"
local runtime = require "csms.runtime"

local failure = cases.failure
local new = require("csms.credentials.metadata").new

local emu

setup(function() emu = emulator.start { secrets = 3 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

local function provider_of(endpoint)
    return new(function(name) return name == "CSMS_METADATA_ENDPOINT" and endpoint or nil end)
end

local function provider()
    return provider_of(emu.metadata_endpoint)
end

-- All runtimes of this file share one, as a Lua state has one.
local channel

-- A runtime whose clocks can be moved ahead of the true ones.
local function movable()
    local ahead = 0
    channel = channel or assert(core.channel())
    local engine = {
        channel = function() return channel end, step = core.step, random = core.random,
        now = function() return core.now() + ahead end,
        time = function() return core.time() + ahead end,
    }
    return blocking.new(engine), function(seconds) ahead = ahead + seconds end
end

-- A context as a client gives it, and the events in it.
local function context_of(how_to_wait, changes)
    local events = {}
    local context = {
        runtime = how_to_wait or runtime,
        emit = function(event) events[#events + 1] = event end,
    }
    for key, value in pairs(changes or {}) do context[key] = value end
    return context, events
end

-- nil and the error, and whether a chain goes on
local function refusal(source, context)
    local credential, err, absent = source:get(nil, context)
    failure("credentials", credential, err)
    assert.matches("^credentials%.metadata: ", err.message)
    assert.is_false(err.retryable)
    return err, absent or false
end

-- How often each of the two was asked.
local function asked()
    return #emu:requests("metadata_token"), #emu:requests("metadata_keys")
end

local function keys_fault(body, times)
    emu:fault { operation = "metadata_keys", body = body, times = times or 1 }
end

local GOOD = {
    access = "ACCESSACCESS", secret = "SECRETSECRET", securitytoken = "TOKENTOKEN",
    expires_at = "2099-01-08T02:56:19.587000Z",
}

-- The service's answer with changes; `false` leaves a field out.
local function body_with(changes)
    local fields = {}
    for name, value in pairs(GOOD) do fields[name] = value end
    for name, value in pairs(changes) do
        if value == false then fields[name] = nil else fields[name] = value end
    end
    return json.encode { credential = fields }
end

describe("version 2", function()
    it("gives keys for a token", function()
        emu:set { log_headers = true }
        local credential = assert(provider():get())
        assert.is_true(credential:temporary())
        local requests = emu:requests()
        assert.equal(2, #requests)
        assert.same({ "PUT", "/meta-data/latest/api/token" },
            { requests[1].method, requests[1].path })
        assert.equal("21600", requests[1].headers["x-metadata-token-ttl-seconds"])
        assert.same({ "GET", "/openstack/latest/securitykey" },
            { requests[2].method, requests[2].path })
        assert.is_string(requests[2].headers["x-metadata-token"])
    end)

    it("gives keys that the service accepts", function()
        local made = cases.client(emu, { credentials = provider() })
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.equal("temporary", emu:requests("backup")[1].auth)
    end)

    it("is not asked again while the keys are good", function()
        local source = provider()
        local credential = assert(source:get())
        for _ = 1, 5 do assert.equal(credential, source:get()) end
        assert.same({ 1, 1 }, { asked() })
    end)

    it("is asked for a token once in about six hours", function()
        emu:set { temporary_key_life = 3600 }
        local how_to_wait, advance = movable()
        local context = context_of(how_to_wait)
        local source = provider()
        for _ = 1, 5 do -- at 0, 1, 2, 3 and 4 hours
            assert(source:get(nil, context))
            advance(3600)
        end
        assert.same({ 1, 5 }, { asked() })
        advance(2 * 3600)
        assert(source:get(nil, context))
        assert.same({ 2, 6 }, { asked() })
    end)

    it("gets another token once where the old one is refused", function()
        emu:fault { operation = "metadata_keys", status = 401, body = "Unauthorized" }
        assert(provider():get())
        assert.same({ 2, 2 }, { asked() })
    end)

    it("does not go on for ever where each token is refused", function()
        emu:fault { operation = "metadata_keys", status = 401, body = "no", times = 0 }
        local err, absent = refusal(provider())
        assert.matches("refuses its own token", err.message, 1, true)
        assert.is_false(absent)
        assert.same({ 2, 2 }, { asked() })
    end)

    it("asks for a token that was lost with the service's memory", function()
        local source = provider()
        local first = assert(source:get())
        emu:reset() -- it knows neither token nor keys
        local second = assert(source:get(first))
        assert.is_false(first:same(second))
        assert.same({ 1, 2 }, { asked() })
    end)
end)

describe("version 1", function()
    for _, status in ipairs { 404, 405, 503 } do
        it("is used where the token's answer is " .. status, function()
            emu:set { metadata_version = 1, metadata_v1_status = status, log_headers = true }
            assert.is_true(assert(provider():get()):temporary())
            assert.same({ 1, 1 }, { asked() })
            assert.is_nil(emu:requests("metadata_keys")[1].headers["x-metadata-token"])
        end)
    end

    it("is not left before a day is over", function()
        emu:set { metadata_version = 1, temporary_key_life = 7200 }
        local how_to_wait, advance = movable()
        local context = context_of(how_to_wait)
        local source = provider()
        for _ = 1, 12 do -- hours 0, 2, ... 22
            assert(source:get(nil, context))
            advance(7200)
        end
        assert.same({ 1, 12 }, { asked() })
        emu:set { metadata_version = 2 }
        assert(source:get(nil, context))
        assert.same({ 2, 13 }, { asked() })
    end)

    it("may refuse too, and is asked twice then", function()
        emu:set { metadata_version = 1 }
        emu:fault { operation = "metadata_keys", status = 401, body = "no", times = 0 }
        refusal(provider())
        assert.same({ 2, 2 }, { asked() })
    end)
end)

describe("an instance without an agency", function()
    it("has nothing to offer, and no other token changes that", function()
        emu:set { agency = false }
        local err, absent = refusal(provider())
        assert.matches("no agency; bind one", err.message, 1, true)
        assert.is_true(absent)
        assert.same({ 1, 1 }, { asked() })
    end)

    it("has nothing to offer where the keys' answer is 404", function()
        emu:fault { operation = "metadata_keys", status = 404, body = "" }
        local err, absent = refusal(provider())
        assert.matches("no agency", err.message, 1, true)
        assert.is_true(absent)
    end)

    it("has keys once it has one", function()
        emu:set { agency = false }
        local source = provider()
        refusal(source)
        emu:set { agency = true }
        assert(source:get())
    end)
end)

describe("a metadata service that fails", function()
    for _, status in ipairs { 400, 401, 403, 429, 500, 502 } do
        it("with status " .. status .. " for the token names it", function()
            emu:fault { operation = "metadata_token", status = status, body = "no" }
            local err, absent = refusal(provider())
            assert.matches("gave no token", err.message, 1, true)
            assert.equal(status, err.status)
            assert.is_false(absent)
            assert.same({ 1, 0 }, { asked() })
        end)
    end

    for _, status in ipairs { 400, 403, 429, 500, 503, 204 } do
        it("with status " .. status .. " for the keys names it", function()
            emu:fault { operation = "metadata_keys", status = status, body = "no" }
            local err, absent = refusal(provider())
            assert.matches("gave no keys", err.message, 1, true)
            assert.equal(status, err.status)
            assert.is_false(absent)
        end)
    end

    it("with a redirect is not followed", function()
        emu:fault { operation = "metadata_keys", status = 302, body = "",
            headers = { Location = emu.metadata_endpoint .. "/openstack/latest/securitykey" } }
        assert.equal(302, refusal(provider()).status)
        assert.same({ 1, 1 }, { asked() })
    end)

    for what, body in pairs {
        ["no JSON"] = "<html>", ["cut JSON"] = '{"credential": {"access": "A"',
        ["an empty body"] = "", ["an array"] = "[1]", ["a number"] = "1", ["null"] = "null",
        ["a credential that is a text"] = '{"credential": "x"}', ["no credential"] = "{}",
    } do
        it("with " .. what .. " asks whether the endpoint is right", function()
            keys_fault(body)
            local err, absent = refusal(provider())
            assert.matches("has no credential; is the endpoint right?", err.message, 1, true)
            assert.is_false(absent)
        end)
    end

    it("with an incomplete credential says so", function()
        local bodies = { body_with { access = json.null }, body_with { secret = {} },
            body_with { securitytoken = 5 }, body_with { expires_at = 1578452179 } }
        for name in pairs(GOOD) do
            bodies[#bodies + 1] = body_with { [name] = false }
        end
        for _, text in ipairs { "", "tomorrow", "2099-01-08", "2099-01-08T02:56:19+01:00" } do
            bodies[#bodies + 1] = body_with { expires_at = text }
        end
        for _, body in ipairs(bodies) do
            keys_fault(body)
            local err, absent = refusal(provider())
            assert.matches("lacks a key, the security token or the expiry", err.message, 1, true)
            assert.is_false(absent)
            assert.is_nil(tostring(err):find("SECRET", 1, true))
        end
    end)

    it("with keys that no header can hold does not repeat them", function()
        for _, changes in ipairs { { secret = "SECRET\n" }, { access = "" }, { secret = "" },
            { securitytoken = "TOKENTOKEN SECRET" } } do
            keys_fault(body_with(changes))
            assert.is_nil(tostring(refusal(provider())):find("SECRET", 1, true))
        end
    end)

    it("with a huge answer is cut off", function()
        emu:fault { operation = "metadata_keys", body_size = 70000 }
        assert.matches("65536", refusal(provider()).message, 1, true)
    end)

    it("by closing the connection is as good as none", function()
        emu:fault { operation = "metadata_keys", close = "connection", times = 0 }
        local _, absent = refusal(provider())
        assert.is_true(absent)
    end)

    it("can be asked again", function()
        keys_fault("{}")
        local source = provider()
        refusal(source)
        assert(source:get())
        assert.same({ 1, 2 }, { asked() })
    end)
end)

describe("a machine without a metadata service", function()
    it("has nothing to offer, at once", function()
        local _, credential, err = cases.within(2, function()
            return provider_of("http://127.0.0.1:1"):get()
        end)
        failure("credentials", credential, err)
        assert.is_true(select(3, provider_of("http://127.0.0.1:1"):get()))
    end)

    it("holds nobody up for long where nothing answers", function()
        local limits = {}
        local how_to_wait = setmetatable({
            submit = function(_, _, _, request)
                limits[#limits + 1] = request.timeout
                return nil, { kind = "timeout", message = "no answer", retryable = true }
            end,
            now = function() return 1000 end,
        }, { __index = runtime })
        local _, absent = refusal(provider(), (context_of(how_to_wait)))
        assert.is_true(absent)
        assert.same({ 3 }, limits)
        refusal(provider(), (context_of(how_to_wait, { ends_at = 1000.5 })))
        assert.same({ 3, 0.5 }, limits)
    end)

    for _, operation in ipairs { "metadata_token", "metadata_keys" } do
        it("holds a call up no longer than its own time: " .. operation, function()
            emu:fault { operation = operation, delay = cases.HELD, times = 0 }
            local _, blob, err = cases.within(1.8, function()
                local made = cases.client(emu, { credentials = provider() })
                return made:backup(nil, "secret-0001", { timeout = 0.2 })
            end)
            failure("credentials", blob, err)
            assert.matches("credentials.metadata", err.message, 1, true)
        end)

        it("is what a deadline that ends a chain's search names: " .. operation, function()
            emu:fault { operation = operation, delay = cases.HELD, times = 0 }
            local made = cases.client(emu, {
                credentials = chain.new { fixed.env(function() end), provider() } })
            local _, blob, err = cases.within(1.8, function()
                return made:backup(nil, "secret-0001", { deadline = 0.2 })
            end)
            failure("timeout", blob, err)
            assert.matches("^the deadline of 0.2 s", err.message)
            assert.matches("credentials.metadata: no complete answer", err.cause, 1, true)
            assert.is_false(err.retryable)
        end)
    end

    it("holds a call whose project has to be found up no longer than its deadline", function()
        emu:fault { operation = "metadata_token", delay = cases.HELD, times = 0 }
        local _, _, err = cases.within(1.8, function()
            local made = assert(client.new { endpoint = emu.endpoint, ca_file = emu.ca_file,
                region = emu.region, iam_endpoint = emu.iam_endpoint, credentials = provider() })
            made.config.project = nil -- of this process's environment
            return made:backup(nil, "secret-0001", { deadline = 0.2, timeout = 0.2 })
        end)
        assert.equal("timeout", err.kind)
        assert.matches("^the deadline of 0.2 s has passed", err.message)
        assert.matches("^credentials.metadata: ", err.cause)
    end)

    it("is what an endpoint that is no URL says", function()
        local err, absent = refusal(provider_of("nonsense://"))
        assert.matches("endpoint", err.message, 1, true)
        assert.is_false(absent)
    end)
end)

describe("the clock", function()
    it("of this machine does not matter where the answer has a date", function()
        -- Keys of an hour: by our clock they are long gone, by the service's they are new.
        emu:set { clock_offset = -7200, temporary_key_life = 3600 }
        local source = provider()
        local how_to_wait, advance = movable()
        local context = context_of(how_to_wait)
        assert(source:get(nil, context))
        assert.is_true(source.expires_at - how_to_wait.now() > 3500)
        assert.is_true(source.expires_at - how_to_wait.now() <= 3600)
        -- and the other way round: by our clock they live for three hours
        advance(0)
        emu:set { clock_offset = 7200 }
        local other = provider()
        assert(other:get(nil, context))
        assert.is_true(other.expires_at - how_to_wait.now() <= 3600)
    end)

    it("is named where keys have expired", function()
        for _, text in ipairs { "2020-01-08T02:56:19.587000Z", "2020-01-08T02:56:19Z" } do
            keys_fault(body_with { expires_at = text })
            local err, absent = refusal(provider())
            assert.matches("expired; is the clock of this machine right?", err.message, 1, true)
            assert.is_false(absent)
        end
    end)

    it("of this machine counts where the answer has no date", function()
        cases.with_server([[
            local head = read_request(peer)
            if head:find("^PUT") then return answer(peer, "404 Not Found", "") end
            local date = os.date("!%Y-%m-%dT%H:%M:%S.000000Z", os.time() + 1000)
            answer(peer, "200 OK", '{"credential":{"access":"ACCESSACCESS","secret":"S",'
                .. '"securitytoken":"T","expires_at":"' .. date .. '"}}')
        ]], function(server)
            local how_to_wait, advance = movable()
            local context = context_of(how_to_wait)
            local source = provider_of(server.endpoint)
            assert(source:get(nil, context))
            local life = source.expires_at - how_to_wait.now()
            assert.is_true(life > 900 and life < 1001)
            advance(2000)
            assert.matches("clock of this machine",
                refusal(provider_of(server.endpoint), context).message, 1, true)
        end)
    end)
end)

describe("a proxy of the environment", function()
    -- To libcurl 0.0.0.0 is an address like any other, for which it would ask the proxy; the
    -- system takes it for loopback.
    local function elsewhere(endpoint)
        return (endpoint:gsub("//[^:]+:", "//0.0.0.0:"))
    end

    local function run(chunk)
        local closed = "http://127.0.0.1:1"
        return cases.run(chunk, {
            http_proxy = closed, ALL_PROXY = closed, all_proxy = closed, https_proxy = closed,
            CSMS_METADATA_ENDPOINT = elsewhere(emu.metadata_endpoint), HOME = "",
            HUAWEICLOUD_SDK_CREDENTIALS_FILE = "", HC_CONTAINER_CREDENTIALS_FULL_URI = "",
        })
    end

    it("is never asked for metadata", function()
        local output = run [[
            local credential, err = require("csms").credentials.metadata():get()
            print(credential and credential:temporary(), err)
        ]]
        assert.equal("true\tnil\n", output)
    end)

    it("would fail this spec if it were asked", function()
        local output = run(([[
            local made = require("csms").new { endpoint = %q, allow_http = true, retry = false,
                project = ("0"):rep(32), credentials = require("csms").credentials.token("T") }
            local _, err = made:backup(nil, "name")
            print(err.kind, err.status)
        ]]):format(elsewhere(emu.metadata_endpoint)))
        assert.equal("network\tnil\n", output)
    end)

    it("is never asked for metadata where a client has one of its own", function()
        local output = run(([[
            local csms = require "csms"
            local made = csms.new { endpoint = %q, ca_file = %q, project = %q,
                proxy = "http://127.0.0.1:1" }
            print(type(made:backup(nil, "secret-0001")))
        ]]):format(emu.endpoint, emu.ca_file, emu.project))
        assert.equal("string\n", output)
    end)
end)

describe("keys that live for 15 minutes", function()
    -- Hours in steps of a minute: both sides' clocks go ahead.
    local function pass(minutes, settings)
        emu:set { temporary_key_life = 900 }
        emu:set(settings or {})
        local how_to_wait, advance = movable()
        local events = {}
        local made = assert(client.new({
            endpoint = emu.endpoint, ca_file = emu.ca_file, project = emu.project,
            credentials = provider(), retry = false,
            on_event = function(event) events[event.event] = (events[event.event] or 0) + 1 end,
        }, how_to_wait))
        for minute = 1, minutes do
            assert(made:backup(nil, "secret-0001"))
            advance(60)
            emu:set { clock_offset = 60 * minute }
        end
        return events
    end

    it("are renewed in time: no call fails in three hours", function()
        local events = pass(180)
        local statuses = emu:counters().statuses
        assert.is_nil(statuses["401"])
        -- The emulator gives others when half of a life is over: 24 times in three hours.
        assert.is_true(events.renewed >= 12 and events.renewed <= 24)
        local _, keys = asked()
        assert.is_true(keys <= 60)
        assert.is_nil(events.warning)
    end)

    it("are sent again and again where the service fails for five minutes", function()
        emu:set { temporary_key_life = 900 }
        local how_to_wait, advance = movable()
        local context, events = context_of(how_to_wait)
        local source = provider()
        local first = assert(source:get(nil, context))
        advance(source.renew_at - how_to_wait.now() + 1)
        emu:fault { operation = "metadata_keys", status = 500, body = "no", times = 0 }
        for _ = 1, 5 do
            assert.equal(first, source:get(nil, context))
            advance(60)
        end
        assert.is_true(#events >= 2 and #events <= 5)
        for _, event in ipairs(events) do
            assert.equal("warning", event.event)
            assert.matches("credentials.metadata", event.message, 1, true)
            assert.matches("status 500", event.message, 1, true)
        end
        emu:clear_faults()
        emu:set { clock_offset = 900 }
        advance(90)
        assert.is_false(first == source:get(nil, context))
    end)
end)

describe("a metadata provider", function()
    it("does nothing before it is asked", function()
        provider()
        assert.same({}, emu:requests())
    end)

    it("shows at most four characters of the access key", function()
        local source = provider()
        assert.equal("csms credentials.metadata (nothing fetched yet)", tostring(source))
        assert(source:get())
        assert.matches("^csms credentials%.metadata %(csms credential %(....%*%*%*%*%)%)$",
            tostring(source))
    end)

    it("reads the environment when it is made", function()
        local variables = { CSMS_METADATA_ENDPOINT = emu.metadata_endpoint }
        local source = new(function(name) return variables[name] end)
        variables.CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1"
        assert(source:get())
    end)

    it("asks the address of every instance where the environment names no other", function()
        assert.equal("http://169.254.169.254", new(function() end).endpoint)
    end)
end)
