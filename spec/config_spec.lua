-- A client's configuration: keys, types, values, endpoints and the environment.

local csms = require "csms"
local cases = require "spec.support.cases"
local configuration = require "csms.config"
local emulator = require "spec.support.emulator"

local failure = cases.failure

-- The error of a config with that key and value, beside an endpoint that works.
local function refused(key, value)
    local config = { endpoint = "https://localhost" }
    config[key] = value
    local err = failure("config", csms.new(config))
    assert.equal(0, err.attempts)
    assert.is_false(err.retryable)
    return err
end

local function shown(value)
    return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

describe("a key of the config", function()
    local STRINGS = { "endpoint", "region", "project", "iam_endpoint", "ca_file", "proxy",
        "http_version", "signing", "signing_service", "user_agent" }
    local NUMBERS = { "connect_timeout", "timeout", "deadline", "rate", "concurrency",
        "max_response" }

    for _, key in ipairs(STRINGS) do
        it(key .. " must be a string", function()
            for _, value in ipairs { 5, true, {}, print } do
                assert.matches("'" .. key .. "' must be a string", refused(key, value).message, 1,
                    true)
            end
        end)
    end

    for _, key in ipairs(NUMBERS) do
        it(key .. " must be a number", function()
            for _, value in ipairs { "5", true, {}, print } do
                assert.matches("'" .. key .. "' must be a number", refused(key, value).message, 1,
                    true)
            end
        end)

        it(key .. " must be a number that makes sense", function()
            for _, value in ipairs { 0, -1, -math.huge, math.huge, 0 / 0 } do
                assert.matches("'" .. key .. "'", refused(key, value).message, 1, true)
            end
        end)
    end

    for _, key in ipairs { "concurrency", "max_response" } do
        it(key .. " must be a whole number", function()
            for _, value in ipairs { 0.5, 1.5 } do
                assert.matches("'" .. key .. "'", refused(key, value).message, 1, true)
            end
        end)
    end

    -- Every slot of a batch is an interval after the one before.
    it("rate must be one whose slots come to an end", function()
        for _, value in ipairs { 5e-324, 1e-307, 1e-7 } do
            assert.matches("'rate' must be a finite number from 0.000001",
                refused("rate", value).message, 1, true)
        end
        assert(csms.new { endpoint = "https://localhost", rate = 1e-6 })
    end)

    for _, key in ipairs { "allow_http", "allow_periods" } do
        it(key .. " must be a boolean", function()
            for _, value in ipairs { 1, "true", {} } do
                assert.matches("'" .. key .. "' must be a boolean", refused(key, value).message, 1,
                    true)
            end
        end)
    end

    it("on_event must be a function", function()
        for _, value in ipairs { 1, "print", true, {} } do
            assert.matches("'on_event' must be a function", refused("on_event", value).message, 1,
                true)
        end
    end)

    it("credentials must be a provider", function()
        for _, value in ipairs { 1, "ak:sk", true, print, {}, { ak = "a", sk = "b" },
            { get = 5 } } do
            local made, err = csms.new { endpoint = "https://localhost", credentials = value }
            assert.is_nil(made, shown(value) .. " was taken")
            assert.equal("config", err.kind)
            assert.matches("credentials", err.message, 1, true)
        end
    end)

    it("retry must be a table or false", function()
        for _, value in ipairs { true, 1, "no" } do
            assert.matches("'retry'", refused("retry", value).message, 1, true)
        end
        assert(csms.new { endpoint = "https://localhost", retry = false })
        assert(csms.new { endpoint = "https://localhost", retry = {} })
        assert(csms.new { endpoint = "https://localhost",
            retry = { attempts = 2, base = 0, throttle_base = 0.5, cap = 1, budget = 0 } })
    end)

    it("one attempt, one at once and one byte are numbers that can be meant", function()
        assert(csms.new { endpoint = "https://localhost", concurrency = 1, max_response = 1,
            retry = { attempts = 1 } })
    end)

    it("retry has keys of its own, each with a type and a range", function()
        for key, values in pairs {
            attempts = { 0, 1.5, -1, "2", math.huge }, base = { -1, "0", math.huge, 0 / 0 },
            throttle_base = { -1, {} }, cap = { -1, true }, budget = { -1, "x", 0 / 0 },
            attemps = { 1 },
        } do
            for _, value in ipairs(values) do
                local err = refused("retry", { [key] = value })
                assert.matches("'" .. key .. "'", err.message, 1, true)
                assert.matches("retry", err.message, 1, true)
            end
        end
    end)

    it("http_version must be one that there is", function()
        for _, value in ipairs { "", "3", "1.0", "2.0", "h2" } do
            assert.matches("2, 1.1", refused("http_version", value).message, 1, true)
        end
    end)

    it("signing must be one that there is, and V11 needs its scope", function()
        for _, value in ipairs { "", "sdk-hmac-sha256", "HMAC" } do
            assert.matches("SDK-HMAC-SM3", refused("signing", value).message, 1, true)
        end
        local err = refused("signing", "V11-HMAC-SHA256")
        assert.matches("signing_service", err.message, 1, true)
        assert(csms.new { region = "cn-north-4", signing = "V11-HMAC-SHA256",
            signing_service = "csms" })
    end)

    it("region must look like one", function()
        for _, value in ipairs { "", "cn north", "cn-north-4/", "CN-NORTH-4", "a.b", "a\n",
            "a@b" } do
            assert.matches("region", refused("region", value).message, 1, true)
        end
    end)

    it("is named where it is not known, with those that are", function()
        for _, key in ipairs { "endpont", "Timeout", "max_responses", "", "ak" } do
            local err = refused(key, 1)
            assert.matches("'" .. key .. "'", err.message, 1, true)
            assert.matches("max_response", err.message, 1, true)
        end
        assert.matches("'1'", refused(1, "x").message, 1, true)
    end)

    it("may not hold a NUL that would cut it short", function()
        for _, key in ipairs { "endpoint", "ca_file", "proxy", "user_agent" } do
            local value = key == "endpoint" and "https://localhost\0.example.com" or "a\0b"
            local made = csms.new { endpoint = key ~= "endpoint" and "https://localhost" or nil,
                [key] = value }
            assert.is_nil(made, key .. " was taken")
        end
    end)

    it("may not bring a second header", function()
        for _, value in ipairs { "a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b" } do
            local made, err = csms.new { endpoint = "https://localhost", user_agent = value }
            assert.is_nil(made, shown(value) .. " was taken")
            assert.matches("user_agent", err.message, 1, true)
        end
    end)
end)

describe("an endpoint", function()
    local GOOD = {
        ["https://localhost"] = "https://localhost",
        ["https://localhost/"] = "https://localhost",
        ["https://localhost:443"] = "https://localhost",
        ["https://localhost:8443"] = "https://localhost:8443",
        ["https://kms.cn-north-4.myhuaweicloud.com"] = "https://kms.cn-north-4.myhuaweicloud.com",
        ["https://192.0.2.1:1"] = "https://192.0.2.1:1",
        ["https://[::1]"] = "https://[::1]",
        ["https://[2001:db8::1]:8443"] = "https://[2001:db8::1]:8443",
        ["http://127.0.0.1:80"] = "http://127.0.0.1",
        ["http://127.8.9.1:81"] = "http://127.8.9.1:81",
        ["http://localhost:8080"] = "http://localhost:8080",
        ["http://[::1]:8080"] = "http://[::1]:8080",
    }
    for text, base in pairs(GOOD) do
        it("may be " .. text, function()
            local client = assert(csms.new { endpoint = text })
            assert.equal("csms client (" .. base .. ")", tostring(client))
        end)
    end

    local BAD = {
        "", " ", "localhost", "localhost:443", "//localhost", "https://", "https:///",
        "https:localhost", "ftp://localhost", "file:///etc/passwd", "httpss://localhost",
        "https://localhost/v1", "https://localhost//", "https://localhost?",
        "https://localhost/?a=b", "https://localhost?a=b", "https://localhost#a",
        "https://localhost/#a", "https://local host", " https://localhost", "https://localhost ",
        "https://localhost\n", "https://local\nhost", "https://localhost:0x1",
        "https://localhost:-1", "https://localhost:65536", "https://localhost:1:2",
        "https://[::1", "https://::1", "https://user@localhost", "https://user:pass@localhost",
        "https://@localhost", "https://localhost\\@example.com", "https://localhost/%2e%2e",
    }
    for _, text in ipairs(BAD) do
        it("may not be " .. shown(text):gsub("\\\n", "\\n"), function()
            local err = failure("config", csms.new { endpoint = text })
            assert.matches("endpoint", err.message, 1, true)
        end)
    end

    it("never repeats the password that it holds", function()
        local err = failure("config", csms.new { endpoint = "https://user:hunter2@localhost" })
        assert.is_nil(tostring(err):find("hunter2", 1, true))
    end)

    for _, text in ipairs { "http://example.com", "http://kms.cn-north-4.myhuaweicloud.com",
        "http://127.0.0.1.example.com", "http://localhost.example.com", "http://128.0.0.1",
        "http://0.0.0.0", "http://[::2]", "http://[::]", "http://169.254.169.254",
        "HTTP://example.com" } do
        it("may not be plain http beyond loopback: " .. text, function()
            local err = failure("config", csms.new { endpoint = text })
            assert.matches("(a program can allow it: allow_http)", err.message, 1, true)
            assert(csms.new { endpoint = text, allow_http = true })
        end)
    end

    it("is the region's KMS host where there is none", function()
        local client = assert(csms.new { region = "cn-north-4" })
        assert.equal("csms client (https://kms.cn-north-4.myhuaweicloud.com)", tostring(client))
    end)

    it("wins over the region", function()
        local client = assert(csms.new { region = "cn-north-4", endpoint = "https://localhost" })
        assert.equal("csms client (https://localhost)", tostring(client))
    end)
end)

describe("plain http", function()
    local emu

    setup(function() emu = emulator.start { secrets = 3 } end)
    teardown(function() emu:stop() end)
    before_each(function() emu:reset() end)

    -- Linux takes this address for loopback, and the check must not.
    local function elsewhere()
        return (emu.http_endpoint:gsub("127%.0%.0%.1", "0.0.0.0"))
    end

    it("sends nothing where it is refused", function()
        failure("config", csms.new { endpoint = elsewhere(), project = emu.project,
            credentials = csms.credentials.token(emu.token) })
        assert.equal(0, #emu:requests())
    end)

    it("is spoken with allow_http", function()
        local client = cases.client(emu, { endpoint = elsewhere(), allow_http = true })
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.equal("HTTP/1.1", emu:requests()[1].protocol)
    end)

    it("is spoken to loopback", function()
        local client = cases.client(emu, { endpoint = emu.http_endpoint })
        assert.is_string(client:backup(nil, "secret-0001"))
    end)
end)

describe("the environment", function()
    local function with(variables)
        local asked = {}
        local result, err = configuration.client({}, function(name)
            asked[name] = true
            return variables[name]
        end)
        return result, err, asked
    end

    it("fills in what the config leaves out", function()
        local result = assert(with {
            CSMS_ENDPOINT = "https://e", CSMS_REGION = "r-1", CSMS_CA_FILE = "/ca",
            HUAWEICLOUD_SDK_PROJECT_ID = "p", HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://i",
        })
        assert.same({ "https://e", "r-1", "/ca", "p", "https://i" }, { result.endpoint,
            result.region, result.ca_file, result.project, result.iam_endpoint })
    end)

    it("does not change what the config says", function()
        local result = assert(configuration.client({ endpoint = "https://mine", region = "mine" },
            function() return "other" end))
        assert.same({ "https://mine", "mine" }, { result.endpoint, result.region })
    end)

    it("counts an empty variable as unset", function()
        local result = assert(with { CSMS_ENDPOINT = "", CSMS_REGION = "" })
        assert.is_nil(result.endpoint or result.region)
    end)

    it("is checked like the config", function()
        local result, err = with { CSMS_REGION = "not a region" }
        failure("config", result, err)
        assert.equal("config: 'region' (or CSMS_REGION) must be a region id such as cn-north-4",
            err.message)
        for _, name in ipairs { "CSMS_ENDPOINT", "CSMS_REGION", "CSMS_CA_FILE",
            "HUAWEICLOUD_SDK_PROJECT_ID", "HUAWEICLOUD_SDK_IAM_ENDPOINT" } do
            result, err = with { [name] = "x\n" }
            failure("config", result, err)
            assert.matches("(or " .. name .. ") holds a control character", err.message, 1, true)
        end
        local output = cases.run([[
            local csms = require "csms"
            for _, name in ipairs { "http://example.com", "ftp://x", "https://u:p@x" } do
                print(select(2, csms.new { endpoint = name }).kind)
            end
            print(select(2, csms.new()).kind)
        ]], { CSMS_ENDPOINT = "http://example.com" })
        assert.equal("config\nconfig\nconfig\nconfig\n", output)
    end)

    it("is read when the client is made and never later", function()
        local output = cases.run([[
            local csms = require "csms"
            local client = assert(csms.new { retry = false })
            os.getenv = function(name) print("read " .. name) end
            local _, err = client:backup(("0"):rep(32), "name")
            print(tostring(client), err.kind)
        ]], { CSMS_ENDPOINT = "https://127.0.0.1:1", HUAWEICLOUD_SDK_AK = "a",
            HUAWEICLOUD_SDK_SK = "s" })
        assert.equal("csms client (https://127.0.0.1:1)\tnetwork\n", output)
    end)
end)

describe("the defaults", function()
    it("are those of the documentation", function()
        local result = assert(configuration.client({}, function() end))
        assert.same({ 5, 30, 120, 16, 16 * 1024 * 1024, "2", "SDK-HMAC-SHA256", false, false }, {
            result.connect_timeout, result.timeout, result.deadline, result.concurrency,
            result.max_response, result.http_version, result.signing, result.allow_http,
            result.allow_periods,
        })
        assert.is_nil(result.rate or result.proxy or result.on_event)
    end)

    it("of retry are too", function()
        local policy = configuration.default_retry()
        assert.same({ 0.05, 1, 20, 500 },
            { policy.base, policy.throttle_base, policy.cap, policy.budget })
    end)
end)

describe("csms.new", function()
    it("does no I/O even where the files it names are missing", function()
        assert(csms.new { endpoint = "https://nonexistent.invalid", ca_file = "/nonexistent" })
    end)

    it("needs an endpoint or a region and says how to give one", function()
        local output = cases.run [[
            local _, err = require("csms").new {}
            print(err.kind, err.message)
        ]]
        assert.matches("^config\t.*region.*CSMS_REGION.*endpoint.*CSMS_ENDPOINT", output)
    end)

    it("takes fractions of seconds", function()
        assert(csms.new { endpoint = "https://localhost", timeout = 0.001, connect_timeout = 0.5,
            deadline = 1e9 })
    end)
end)

describe("csms.configure", function()
    it("answers true or the error of csms.new", function()
        assert.is_true(csms.configure { endpoint = "https://localhost", retry = false })
        local err = failure("config", csms.configure { tiemout = 5 })
        assert.matches("'tiemout'", err.message, 1, true)
        failure("config", csms.configure { endpoint = "http://example.com" })
    end)
end)
