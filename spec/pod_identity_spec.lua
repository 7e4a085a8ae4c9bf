-- Temporary keys of a container: a URL and a file that the platform names. All on loopback.

local cases = require "spec.support.cases"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local json = require "cjson"
local runtime = require "csms.runtime"
local simulation = require "spec.support.simulation"

local failure = cases.failure
local new = require("csms.credentials.pod_identity").new

local URI = "HC_CONTAINER_CREDENTIALS_FULL_URI"
local FILE = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"

local emu, path

setup(function()
    emu = emulator.start { secrets = 3 }
    path = os.tmpname()
end)

teardown(function()
    emu:stop()
    os.remove(path)
end)

before_each(function() emu:reset() end)

local function provider(uri, file)
    local variables = { [URI] = uri, [FILE] = file }
    return new(function(name) return variables[name] end)
end

local function working()
    return provider(emu.pod_identity_uri, emu.pod_identity_token_file)
end

local function token_file(text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
    return path
end

-- the error, and whether a chain goes on
local function refusal(source, context)
    local credential, err, absent = source:get(nil, context)
    failure("credentials", credential, err)
    assert.matches("^credentials%.pod_identity: ", err.message)
    assert.is_false(err.retryable)
    return err, absent or false
end

local function asked()
    return #emu:requests("pod_identity")
end

local GOOD = {
    accessKeyId = "ACCESSACCESS", secretAccessKey = "SECRETSECRET", securityToken = "TOKENTOKEN",
    expiration = "2099-01-08T02:56:19Z",
}

local function answer_with(value)
    emu:fault { operation = "pod_identity", body = type(value) == "string" and value
        or json.encode(value) }
end

describe("pod identity", function()
    it("gives keys that the service accepts", function()
        local made = cases.client(emu, { credentials = working() })
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.same({ "temporary", "temporary" },
            { emu:requests("backup")[1].auth, emu:requests("backup")[2].auth })
        assert.equal(1, asked())
    end)

    it("takes the other set of names", function()
        emu:set { pod_identity_form = "aliases" }
        local made = cases.client(emu, { credentials = working() })
        assert.is_string(made:backup(nil, "secret-0001"))
    end)

    for what, value in pairs {
        ["in `credential`"] = { credential = GOOD }, ["in `credentials`"] = { credentials = GOOD },
        ["at the top"] = GOOD,
    } do
        it("takes keys " .. what, function()
            answer_with(value)
            local credential = assert(working():get())
            assert.is_true(credential:same(
                core.credential.keys("ACCESSACCESS", "SECRETSECRET", "TOKENTOKEN")))
        end)
    end

    it("comes from the process's environment", function()
        local output = cases.run([[print(require("csms").credentials.pod_identity():get())]],
            { [URI] = emu.pod_identity_uri, [FILE] = emu.pod_identity_token_file })
        assert.matches("^csms credential %(....%*%*%*%*%)\n$", output)
    end)

    it("sends an empty object and the file's text, as the platform wants it", function()
        cases.with_server([[
            local head, body = read_request(peer)
            note(head .. "\n" .. body)
            answer(peer, "403 Forbidden", "")
        ]], function(server)
            local uri = server.endpoint .. "/a/path?with=query#and"
            refusal(provider(uri, token_file("a.token\r\n")))
            local sent = server:log()
            assert.matches("^POST /a/path%?with=query HTTP/1%.1\n", sent)
            assert.matches("\nAuthorization: a.token\n", sent, 1, true)
            assert.matches("\nContent-Type: application/json\n", sent, 1, true)
            assert.matches("\n{}\n$", sent)
        end)
    end)

    it("asks for the root where the URL has no path", function()
        cases.with_server([[
            note(read_request(peer))
            answer(peer, "403 Forbidden", "")
        ]], function(server)
            refusal(provider(server.endpoint, token_file("t")))
            assert.matches("^POST / HTTP", server:log())
        end)
    end)

    it("reads the file at each fetch, because the platform replaces it", function()
        local source = provider(emu.pod_identity_uri, token_file("stale"))
        refusal(source)
        token_file(emu.pod_identity_token)
        local first = assert(source:get())
        emu:revoke_keys()
        token_file("stale")
        failure("credentials", source:get(first))
        token_file(emu.pod_identity_token .. "\n")
        assert(source:get(first))
        assert.equal(4, asked())
    end)

    it("shows at most four characters of the access key", function()
        local source = working()
        assert.equal("csms credentials.pod_identity (nothing fetched yet)", tostring(source))
        assert(source:get())
        assert.matches("^csms credentials%.pod_identity %(csms credential %(....%*%*%*%*%)%)$",
            tostring(source))
    end)
end)

describe("pod identity has nothing to offer", function()
    it("where the variables are not set", function()
        for _, source in ipairs { provider(), provider("", "") } do
            local err, absent = refusal(source)
            assert.matches(URI, err.message, 1, true)
            assert.matches(FILE, err.message, 1, true)
            assert.is_true(absent)
        end
    end)
end)

-- The platform has set it up: nobody else's keys may stand in for the pod's.
describe("pod identity fails, and stops a chain,", function()
    local function broken(source, context)
        local err, absent = refusal(source, context)
        assert.is_false(absent)
        return err
    end

    it("where one of the variables is not set", function()
        for _, source in ipairs { provider(emu.pod_identity_uri),
            provider(emu.pod_identity_uri, "") } do
            assert.matches(FILE .. " is not set", broken(source).message, 1, true)
        end
        for _, source in ipairs { provider(nil, path), provider("", path) } do
            assert.matches(URI .. " is not set", broken(source).message, 1, true)
        end
        assert.equal(0, asked())
    end)

    it("where the file cannot be read", function()
        for _, name in ipairs { "/nonexistent/token", "/" } do
            local err = broken(provider(emu.pod_identity_uri, name))
            assert.matches(name .. " (" .. FILE .. ") cannot be read", err.message, 1, true)
        end
        assert.equal(0, asked())
    end)

    it("where the file is empty, or blank", function()
        for _, text in ipairs { "", " ", "\n \r\n" } do
            local err = broken(provider(emu.pod_identity_uri, token_file(text)))
            assert.matches(path .. " (" .. FILE .. ") is empty", err.message, 1, true)
        end
        assert.equal(0, asked())
    end)

    it("where the file holds no text for a header", function()
        for _, text in ipairs { "a\nX-Evil: 1", "a\r\nX-Evil: 1", "a\0b" } do
            local done, credential, err, absent = pcall(function()
                return provider(emu.pod_identity_uri, token_file("SECRET" .. text)):get()
            end)
            assert.is_true(done, tostring(credential))
            failure("credentials", credential, err)
            assert.is_falsy(absent)
            assert.is_nil(tostring(err):find("SECRET", 1, true))
        end
        assert.equal(0, asked())
    end)

    it("where the URL is none", function()
        for _, uri in ipairs { "nonsense", "ftp://127.0.0.1/x", "http://", "http:///x" } do
            assert.matches(URI, broken(provider(uri, token_file("t"))).message, 1, true)
        end
    end)

    it("where the text would travel unencrypted", function()
        local unsent = setmetatable({
            submit = function() return nil, { kind = "network", message = "it was sent" } end,
        }, { __index = runtime })
        for _, uri in ipairs { "http://pod.example/x", "http://169.255.1.1/x",
            "http://169.254.example/x" } do
            local err = refusal(provider(uri, token_file("t")), {
                runtime = unsent, emit = function() end,
            })
            assert.matches("plain http.*; use https", err.message)
        end
    end)

    it("where the URL holds a password, which is not repeated", function()
        local err = broken(provider("http://user:SECRET@127.0.0.1/x", token_file("t")))
        assert.is_nil(tostring(err):find("SECRET", 1, true))
    end)

    for _, status in ipairs { 400, 401, 403, 404, 429, 500, 502, 204, 302 } do
        it("where the answer is " .. status, function()
            emu:fault { operation = "pod_identity", status = status, body = "TOKENTOKEN" }
            local err = broken(working())
            assert.equal(status, err.status)
            local may_pass = status == 429 or status >= 500
            assert.matches(may_pass and "try again later" or "service account", err.message, 1,
                true)
            assert.is_nil(tostring(err):find("TOKENTOKEN", 1, true))
            assert.equal(1, asked())
        end)
    end

    it("where the platform refuses the file's text", function()
        local err = broken(provider(emu.pod_identity_uri, token_file("another")))
        assert.equal(401, err.status)
    end)

    it("where the answer is malformed", function()
        for _, body in ipairs { "", "<html>", '{"credential":', "[1]", "5", '"x"', "null", "{}",
            '{"credential":5}', '{"credential":{}}' } do
            answer_with(body)
            broken(working())
        end
    end)

    it("where the answer lacks something", function()
        for name in pairs(GOOD) do
            local fields = {}
            for key, value in pairs(GOOD) do fields[key] = key ~= name and value or nil end
            answer_with { credential = fields }
            local err = broken(working())
            assert.matches("lacks a key, the security token or the expiry", err.message, 1, true)
            assert.is_nil(tostring(err):find("SECRET", 1, true))
        end
    end)

    it("where the keys have expired", function()
        local fields = {}
        for key, value in pairs(GOOD) do fields[key] = value end
        fields.expiration = "2020-01-08T02:56:19Z"
        answer_with(fields)
        assert.matches("have expired", broken(working()).message, 1, true)
    end)

    it("where nobody listens", function()
        broken(provider("http://127.0.0.1:1/x", token_file("t")))
    end)

    it("where the connection is closed", function()
        emu:fault { operation = "pod_identity", close = "connection", times = 0 }
        broken(working())
    end)

    it("where no answer comes within 5 s", function()
        local world = simulation.new(function() return { status = 200, delay = 60 } end)
        broken(working(), { runtime = world.runtime, emit = function() end })
        assert.equal(5, world:elapsed())
    end)

    it("where no answer comes in time", function()
        emu:fault { operation = "pod_identity", delay = cases.HELD, times = 0 }
        local _, err = cases.within(1.8, function()
            return broken(working(), { runtime = runtime, emit = function() end,
                ends_at = runtime.now() + 0.2 })
        end)
        assert.is_table(err)
    end)
end)

describe("the endpoint of pod identity", function()
    -- What the source asks of the core, which then fails without having sent anything.
    local function options_of(uri, context)
        local real, options = core.origin, nil
        core.origin = function(given)
            options = given
            return nil, { kind = "config", message = "no" }
        end
        local done, problem = pcall(refusal, provider(uri, token_file("t")), context)
        core.origin = real
        assert.is_true(done, problem)
        return options
    end

    it("may be plain http on a link-local address", function()
        local options = options_of("http://169.254.170.23/v1/credentials")
        assert.is_true(options.allow_http)
        assert.equal("http://169.254.170.23", options.url)
    end)

    it("may be https anywhere, with the client's certificates", function()
        local options = options_of("https://pod.example:8443/v1", {
            runtime = runtime, emit = function() end, ca_file = "/a/file",
        })
        assert.equal("https://pod.example:8443", options.url)
        assert.equal("/a/file", options.ca_file)
        assert.is_false(options.allow_http)
    end)

    it("is never asked through a proxy", function()
        local options = options_of("http://169.254.170.23/", {
            runtime = runtime, emit = function() end, proxy = "http://127.0.0.1:1",
        })
        assert.is_true(options.no_proxy)
        assert.is_nil(options.proxy)
    end)
end)
