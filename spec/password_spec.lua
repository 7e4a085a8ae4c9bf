-- An IAM user's name and password: the token that they give, its renewal in the middle of a batch,
-- and each way in which IAM fails. All on loopback.

local cases = require "spec.support.cases"
local core = require "csms.core"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local json = require "cjson"
local runtime = require "csms.runtime"
local simulation = require "spec.support.simulation"

local failure = cases.failure
local new = require("csms.credentials.password").new

local PASSWORD = "PasswordOfTheUser-1"

local emu

setup(function() emu = emulator.start { secrets = 500 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

local function nothing() end

-- The emulator's user; `changes` are further fields, false leaves one out.
local function login(changes)
    local fields = {
        domain = emu.domain, user = emu.user, password = emu.password, project = emu.region,
        iam_endpoint = emu.iam_endpoint,
    }
    for name, value in pairs(changes or {}) do
        if value == false then fields[name] = nil else fields[name] = value end
    end
    return fields
end

local function provider(changes)
    return assert(new(login(changes), nothing))
end

local function context_of(changes)
    local context = { runtime = runtime, emit = nothing, ca_file = emu.ca_file }
    for name, value in pairs(changes or {}) do context[name] = value end
    return context
end

-- The error of a source that fails, which is never the absence of one.
local function broken(source, context)
    local credential, err, absent = source:get(nil, context or context_of())
    failure("credentials", credential, err)
    assert.matches("^credentials%.password: ", err.message)
    assert.is_false(err.retryable)
    for _, secret in ipairs { emu.password, PASSWORD } do
        assert.is_nil(tostring(err):find(secret, 1, true))
    end
    assert.is_false(absent or false)
    return err
end

local function asked()
    return #emu:requests("iam_token")
end

-- A body of IAM's for a token; `false` leaves a field out.
local function token_body(changes)
    local token = {
        expires_at = "2099-01-08T02:56:19.587000Z", project = { id = ("0"):rep(32) },
    }
    for name, value in pairs(changes or {}) do
        if value == false then token[name] = nil else token[name] = value end
    end
    return json.encode { token = token }
end

describe("password", function()
    it("gives a token that the service accepts, once for many calls", function()
        local made = cases.client(emu, { credentials = provider() })
        for _ = 1, 3 do assert.is_string(made:backup(nil, "secret-0001")) end
        assert.equal("token", emu:requests("backup")[3].auth)
        assert.equal(1, asked())
    end)

    it("gives one that is scoped to a project by its name or its id", function()
        for _, changes in ipairs { {}, { project = false, project_id = emu.project },
            { project = "other", project_id = emu.project } } do
            local source = provider(changes)
            assert.is_true(assert(source:get(nil, context_of())):uses_token())
            assert.equal(emu.project, source.project_id)
        end
    end)

    it("makes its project the client's", function()
        local made = assert(csms.new {
            endpoint = emu.endpoint, ca_file = emu.ca_file, credentials = provider(), retry = false,
        })
        made.config.project = nil -- of this process's environment
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.equal(0, #emu:requests("iam_projects"))
    end)

    it("asks as IAM's API has it", function()
        local log
        cases.with_server([[
            local head, body = read_request(peer)
            note(head .. "\n" .. body)
            answer(peer, "201 Created", "{}")
        ]], function(server)
            broken(provider { iam_endpoint = server.endpoint, password = PASSWORD,
                project_id = "an-id", user = 'a "user"', domain = "\195\164" })
            log = server:log()
        end)
        assert.matches("^POST /v3/auth/tokens HTTP/1%.1\n", log)
        assert.matches("\nContent-Type: application/json\n", log, 1, true)
        assert.is_nil(log:find("\nAuthorization:", 1, true))
        assert.same({ auth = {
            identity = {
                methods = { "password" },
                password = { user = {
                    name = 'a "user"', password = PASSWORD, domain = { name = "\195\164" },
                } },
            },
            scope = { project = { id = "an-id", name = emu.region } },
        } }, json.decode(log:match("\n({.*)\n")))
    end)

    it("is renewed before its token ends", function()
        emu:set { token_life = 400 }
        local source = provider()
        local first = assert(source:get(nil, context_of()))
        local life = source.expires_at - runtime.now()
        assert.is_true(life > 300 and life <= 400)
        assert.is_true(source.renew_at - runtime.now() < life * 0.65)
        assert.equal(first, source:get(nil, context_of()))
        source.renew_at, source.expires_at = 0, 0
        assert.is_false(first == source:get(nil, context_of()))
        assert.equal(2, asked())
    end)

    it("does not mind a clock of this machine that is wrong", function()
        emu:set { clock_offset = -7200, token_life = 3600 }
        local source = provider()
        assert(source:get(nil, context_of()))
        assert.is_true(source.expires_at - runtime.now() > 3500)
    end)
end)

describe("password fails", function()
    it("where IAM refuses user, password or account, and says what to check", function()
        for name, value in pairs { user = "nobody", password = PASSWORD, domain = "nobody" } do
            local err = broken(provider { [name] = value })
            assert.matches("IAM refused the user", err.message, 1, true)
            assert.matches("check domain (the account), user, password and project " .. emu.region,
                err.message, 1, true)
        end
        assert.equal(3, asked()) -- none of them twice: IAM locks users
    end)

    it("where the project's name is an id, which has a field of its own", function()
        local err = broken(provider { project = emu.project })
        assert.matches("project " .. emu.project .. " (an id goes into project_id)", err.message,
            1, true)
    end)

    it("where IAM refused the user within the last minute, and does not ask again", function()
        local world = simulation.new(function() return { status = 401 } end)
        local context = context_of { runtime = world.runtime }
        local source = provider { password = PASSWORD }
        broken(source, context)
        world.runtime:sleep(59)
        local err = broken(source, context)
        assert.matches("refused the user less than 60 s ago", err.message, 1, true)
        assert.matches("password and project " .. emu.region, err.message, 1, true)
        assert.equal(1, #world.requests)
        world.runtime:sleep(1.1)
        broken(source, context)
        assert.equal(2, #world.requests)
    end)

    it("where there is no such project, and names it", function()
        local err = broken(provider { project = "nowhere-1" })
        assert.matches("password and project nowhere-1", err.message, 1, true)
        local id = ("0"):rep(32)
        err = broken(provider { project = "nowhere-1", project_id = id })
        assert.matches("password and project " .. id, err.message, 1, true)
    end)

    for _, status in ipairs { 400, 403, 404, 429, 500, 502, 503, 200, 204, 302 } do
        it("where IAM answers " .. status .. ", and names it", function()
            emu:fault { operation = "iam_token", status = status, times = 0 }
            local err = broken(provider())
            assert.equal(status, err.status)
            local may_pass = status == 429 or status >= 500
            assert.matches(may_pass and "try again later" or "domain and project " .. emu.region,
                err.message, 1, true)
            assert.equal(1, asked())
        end)
    end

    it("with the code and the request id of IAM's answer", function()
        emu:fault { operation = "iam_token", status = 403, shape = 3, code = "IAM.0001" }
        local err = broken(provider())
        assert.equal("IAM.0001", err.code)
        assert.matches("^%x+$", err.request_id)
        emu:fault { operation = "iam_token", status = 400,
            body = '{"error":{"code":400,"message":"x","title":"Bad Request"}}' }
        assert.equal("400", broken(provider()).code)
    end)

    it("without a code or a request id that may be of the password, whatever that holds", function()
        for _, case in ipairs {
            -- password, code and id of the answer, id of the error
            { "[IAM.0001%", "IAM.0001", "[trace-1", "[trace-1" }, { "12", "IAM.7123", "12-34" },
            { "IAM.0001x", "IAM.0001", "-IAM.0001x-" },
        } do
            emu:fault { operation = "iam_token", status = 403, shape = 3, code = case[2],
                headers = { ["X-Request-Id"] = case[3] } }
            local err = failure("credentials", provider { password = case[1] }:get(nil,
                context_of()))
            assert.is_nil(err.code)
            assert.equal(case[4], err.request_id)
        end
    end)

    it("where the answer has no X-Subject-Token", function()
        emu:fault { operation = "iam_token", status = 201, body = token_body() }
        local err = broken(provider())
        assert.matches("no X-Subject-Token; check iam_endpoint", err.message, 1, true)
    end)

    it("where the answer is malformed", function()
        for _, body in ipairs { "", "<html>", '{"token":', "5", "null", "[]", "{}", '{"token":"x"}',
            '{"token":{}}', token_body { expires_at = false }, token_body { expires_at = 5 },
            token_body { expires_at = "tomorrow" }, token_body { expires_at = json.null } } do
            emu:fault { operation = "iam_token", status = 201, body = body,
                headers = { ["X-Subject-Token"] = "TOKENTOKEN" } }
            local err = broken(provider())
            assert.matches("no expires_at", err.message, 1, true)
            assert.is_nil(tostring(err):find("TOKENTOKEN", 1, true))
        end
    end)

    it("where the token has expired already", function()
        emu:fault { operation = "iam_token", status = 201,
            headers = { ["X-Subject-Token"] = "TOKENTOKEN" },
            body = token_body { expires_at = "2020-01-08T02:56:19.587000Z" } }
        local err = broken(provider())
        assert.matches("expired", err.message, 1, true)
    end)

    it("where the token is too long for a header", function()
        cases.with_server([[
            read_request(peer)
            answer(peer, "201 Created",
                '{"token":{"expires_at":"2099-01-08T02:56:19.587000Z"}}',
                "X-Subject-Token: " .. ("t"):rep(70000) .. "\r\n")
        ]], function(server)
            broken(provider { iam_endpoint = server.endpoint })
        end)
    end)

    it("where nobody listens", function()
        broken(provider { iam_endpoint = "https://127.0.0.1:1" })
    end)

    it("where IAM's certificate does not verify", function()
        broken(provider(), context_of { ca_file = "/etc/hostname" })
        broken(provider { iam_endpoint = emu.expired_endpoint })
        assert.equal(0, asked())
    end)

    it("where the connection ends without an answer", function()
        emu:fault { operation = "iam_token", close = "connection", times = 0 }
        broken(provider())
    end)

    it("where the password would travel unencrypted", function()
        local err = failure("config", new(login { iam_endpoint = "http://iam.example" }))
        assert.matches("^credentials%.password: iam_endpoint: .*plain http.*; use https",
            err.message)
    end)

    it("where no answer comes within the call's time", function()
        emu:fault { operation = "iam_token", delay = cases.HELD, times = 0 }
        local made = cases.client(emu, { credentials = provider() })
        local _, blob, err = cases.within(1.8, function()
            return made:backup(nil, "secret-0001", { timeout = 0.3 })
        end)
        failure("credentials", blob, err)
        assert.matches("^credentials.password: ", err.message)
    end)

    it("and can be asked again", function()
        emu:fault { operation = "iam_token", status = 500 }
        local source = provider()
        broken(source)
        assert(source:get(nil, context_of()))
    end)
end)

describe("the table of password", function()
    it("must say who and which project", function()
        for name, text in pairs { domain = "'domain' is missing", user = "'user' is missing",
            password = "'password' is missing", project = "'project' or 'project_id'" } do
            local err = failure("config", new(login { [name] = false }, nothing))
            assert.matches(text, err.message, 1, true)
            assert.is_nil(tostring(err):find(emu.password, 1, true))
        end
    end)

    it("may hold nothing else, and texts alone", function()
        local err = failure("config", new(login { projekt = "x" }, nothing))
        assert.matches("'projekt'", err.message, 1, true)
        for name in pairs(login { project_id = "x" }) do
            for _, value in ipairs { 5, true, {}, print } do
                err = failure("config", new(login { [name] = value }, nothing))
                assert.matches("'" .. name .. "' must be a string", err.message, 1, true)
                assert.is_nil(tostring(err):find(emu.password, 1, true))
            end
        end
    end)

    it("raises where it is none", function()
        for _, value in ipairs { 5, true, "user:password", print } do
            local ok, message = pcall(function() return (csms.credentials.password(value)) end)
            assert.is_false(ok)
            assert.matches("password_spec%.lua:%d+: bad argument #1", message)
            assert.is_nil(message:find("user:password", 1, true))
        end
    end)

    it("is not changed or kept", function()
        local given = login()
        local source = assert(new(given, nothing))
        given.password, given.iam_endpoint = "x", "https://127.0.0.1:1"
        assert(source:get(nil, context_of()))
    end)

    it("is not looked up before keys are wanted", function()
        provider()
        assert.equal(0, asked())
    end)
end)

describe("the IAM endpoint of password", function()
    -- The URL that the source asks the core for, which then fails without having sent anything.
    local function url_of(changes, context, environment)
        local source = assert(new(login(changes), function(name)
            return (environment or {})[name]
        end))
        local real, url = core.origin, nil
        core.origin = function(options)
            url = options.url
            return nil, { kind = "config", message = "no" }
        end
        local done, problem = pcall(source.get, source, nil, context_of(context))
        core.origin = real
        assert.is_true(done, problem)
        return url
    end

    local NONE = { iam_endpoint = false }
    local ENVIRONMENT = { HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://env" }

    it("is its own, else the client's, else the environment's, else the region's", function()
        local context = { iam_endpoint = "https://client", region = "cn-north-4" }
        assert.equal("https://own", url_of({ iam_endpoint = "https://own" }, context, ENVIRONMENT))
        assert.equal("https://client", url_of(NONE, context))
        context.iam_endpoint = nil
        assert.equal("https://env", url_of(NONE, context, ENVIRONMENT))
        assert.equal("https://iam.cn-north-4.myhuaweicloud.com", url_of(NONE, context))
        context.region = "cn-southwest-3"
        assert.equal("https://iam.myhuaweicloud.com", url_of(NONE, context))
        assert.equal("https://iam.myhuaweicloud.com", url_of(NONE, {}))
    end)

    it("of a client's config wins over the environment's", function()
        local context = { iam_endpoint = "https://client", region = "cn-north-4" }
        assert.equal("https://client", url_of(NONE, context, ENVIRONMENT))
    end)

    it("is that of the region which a client's endpoint names", function()
        local made = assert(csms.new {
            endpoint = "https://kms.cn-north-4.myhuaweicloud.com", credentials = provider(NONE),
        })
        assert.equal("https://iam.cn-north-4.myhuaweicloud.com",
            url_of(NONE, { region = made.auth.context.region }))
    end)

    it("is the client's where a client has one", function()
        local made = cases.client(emu, {
            credentials = provider(NONE), iam_endpoint = emu.iam_endpoint,
        })
        assert.is_string(made:backup(nil, "secret-0001"))
    end)

    it("is trusted by CSMS_CA_FILE where the provider is used alone", function()
        local source = assert(new(login(), function(name)
            return name == "CSMS_CA_FILE" and emu.ca_file or nil
        end))
        assert(source:get())
    end)
end)

describe("nothing of the password", function()
    -- Any longer run of it is in none of these texts.
    local function assert_clean(text)
        for at = 1, #emu.password - 5 do
            assert.is_nil(text:find(emu.password:sub(at, at + 5), 1, true), text)
        end
    end

    it("is in what a provider, its credential, a client or an event prints", function()
        local source, seen = provider(), {}
        seen[1] = tostring(source)
        local made = cases.client(emu, { credentials = source, on_event = function(event)
            for name, value in pairs(event) do
                seen[#seen + 1] = tostring(name) .. "=" .. tostring(value)
            end
        end })
        assert.is_string(made:backup(nil, "secret-0001"))
        seen[#seen + 1] = tostring(source)
        seen[#seen + 1] = tostring(source:get())
        seen[#seen + 1] = tostring(made)
        for name, value in pairs(source) do
            seen[#seen + 1] = tostring(name) .. "=" .. tostring(value)
        end
        assert.is_true(#seen > 15)
        assert_clean(table.concat(seen, "\n"))
    end)

    it("is in an error, whatever IAM sends back", function()
        local echo = "your password is " .. emu.password .. "!"
        for _, body in ipairs {
            echo, json.encode { error = { code = 401, message = echo, title = echo } },
            json.encode { error_code = "IAM.0001", error_msg = echo },
            json.encode { error_code = echo, error_msg = echo },
            json.encode { error = { code = emu.password, message = "x" } },
        } do
            for _, status in ipairs { 400, 401, 500, 201 } do
                emu:fault { operation = "iam_token", status = status, body = body,
                    headers = { ["X-Request-Id"] = emu.password } }
                local _, err = provider():get(nil, context_of())
                assert_clean(tostring(err))
                for _, value in pairs(err) do assert_clean(tostring(value)) end
            end
        end
    end)

    it("is in the warning of a renewal that failed", function()
        local source = provider()
        assert(source:get(nil, context_of()))
        source.renew_at = 0
        emu:fault { operation = "iam_token", status = 400, body = json.encode {
            error_code = emu.password, error_msg = emu.password } }
        local warning
        assert(source:get(nil, context_of { emit = function(event) warning = event end }))
        assert.equal("warning", warning.event)
        assert_clean(warning.message)
    end)
end)

-- ---- tokens that end in the middle of a batch -------------------------------

describe("a batch of 500 secrets whose tokens end after 50 calls each", function()
    local function client_with(settings, events)
        emu:set(settings)
        return cases.client(emu, {
            credentials = provider(), retry = {},
            on_event = function(event)
                events[event.event] = (events[event.event] or 0) + 1
            end,
        })
    end

    -- The part of a blob that is no other secret's would need its key; but a restore opens it.
    local function assert_right(made, report, names)
        for index = 1, #names, 25 do
            local name = names[index]
            emu:delete(name)
            assert.equal(name, assert(made:restore(nil, report.blobs[name])).name)
        end
    end

    local function names_of(report)
        local names, seen = {}, {}
        for name, blob in pairs(report.blobs) do
            names[#names + 1] = name
            assert.is_string(blob)
            assert.is_nil(seen[blob])
            seen[blob] = true
        end
        table.sort(names)
        return names
    end

    it("has all blobs, after one renewal for each token that ended", function()
        local events = {}
        local made = client_with({ token_uses = 50 }, events)
        local names = {}
        for number = 1, 500 do names[number] = ("secret-%04d"):format(number) end
        local report = assert(made:backup_many(nil, names))
        assert.same({ 500, 500, 0 }, { report.total, report.ok, report.failed })
        assert.same(names, names_of(report))
        assert.equal(10, asked())
        assert.equal(9, events.renewed)
        assert.equal(10, emu:counters().issued.tokens)
        -- Beside the refused ones, which at most all at once may be, nothing was sent twice.
        local refused = emu:counters().statuses["401"]
        assert.equal(500 + refused, #emu:requests("backup"))
        assert.is_true(refused >= 9 and refused <= 9 * 16)
        emu:set { token_uses = 0 }
        assert_right(made, report, names)
    end)

    it("has all blobs where the whole project is asked for", function()
        local events = {}
        local made = client_with({ token_uses = 50 }, events)
        local report = assert(made:backup_all())
        assert.same({ 500, 500 }, { report.total, report.ok })
        assert.equal(500, #names_of(report))
        local lists = #emu:requests("list")
        assert.equal(math.ceil((500 + lists) / 50), asked())
        assert.equal(asked() - 1, events.renewed)
    end)

    it("asks IAM a few times at most where the password is refused meanwhile", function()
        local events = {}
        local made = client_with({ token_uses = 50 }, events)
        emu:fault { operation = "iam_token", after = 1, status = 401, times = 0 }
        local names = {}
        for number = 1, 500 do names[number] = ("secret-%04d"):format(number) end
        local report = assert(made:backup_many(nil, names))
        assert.equal(50, report.ok)
        assert.equal(450, report.failed)
        assert.is_true(asked() <= 3) -- five in a row lock the user
        assert.equal(50 + emu:counters().statuses["401"] - (asked() - 1), #emu:requests("backup"))
    end)
end)
