-- Which project a call is about, and the look-up by region where nobody says.

local cases = require "spec.support.cases"
local client = require "csms.client"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local fixed = require "csms.credentials.fixed"
local json = require "cjson"

local failure = cases.failure

local ONE, TWO = ("a"):rep(32), ("b"):rep(32)

local emu

setup(function() emu = emulator.start { secrets = 50 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

-- A client that has a region but no project. `changes` are further config keys, false takes away.
local function client_with(changes, events)
    local config = {
        endpoint = emu.endpoint, ca_file = emu.ca_file, iam_endpoint = emu.iam_endpoint,
        region = emu.region, retry = false,
        credentials = csms.credentials.static { ak = emu.ak, sk = emu.sk },
        on_event = events and function(event) events[#events + 1] = event end or nil,
    }
    for key, value in pairs(changes or {}) do
        if value == false and key ~= "retry" then config[key] = nil else config[key] = value end
    end
    local made = assert(client.new(config))
    made.config.project = config.project -- and not this process's environment's
    made.config.region = config.region
    if not config.iam_endpoint then made.iam = nil end
    return made
end

local function looked_up()
    return #emu:requests("iam_projects")
end

describe("the look-up of a project", function()
    it("asks IAM once for many calls", function()
        local made = client_with()
        for number = 1, 5 do assert.is_string(made:backup(nil, "secret-000" .. number)) end
        assert.is_table(made:show(nil, "secret-0001"))
        assert.equal(50, #made:list())
        assert.equal(1, looked_up())
        assert.equal(emu.project, emu:requests("backup")[1].path:match("^/v1/([^/]+)/"))
    end)

    it("asks as IAM's API has it: by the region, signed, without a project", function()
        emu:set { log_headers = true }
        assert.is_string(client_with():backup(nil, "secret-0001"))
        local request = emu:requests("iam_projects")[1]
        assert.same({ "GET", "/v3/projects", "name=" .. emu.region, "signature" },
            { request.method, request.path, request.query, request.auth })
        assert.is_nil(request.headers["x-project-id"])
        assert.equal(emu.project, emu:requests("backup")[1].headers["x-project-id"])
    end)

    it("asks nobody where the credentials' iam_endpoint is no string", function()
        local keys = csms.credentials.static { ak = emu.ak, sk = emu.sk }
        for _, value in ipairs { 5, true, {}, print } do
            local provider = {
                iam_endpoint = value, get = function(_, refused) return keys:get(refused) end,
            }
            local made = client_with { iam_endpoint = false, credentials = provider }
            local err = failure("config", made:backup(nil, "secret-0001"))
            assert.matches("iam_endpoint of the credentials", err.message, 1, true)
        end
        assert.equal(0, #emu:requests())
    end)

    it("is signed plainly whatever signs the calls", function()
        local keys = csms.credentials.static { ak = emu.ak, sk = emu.sk }
        -- Whose IAM endpoint it is makes no difference: the config's, or the credentials'.
        local provider = {
            iam_endpoint = emu.iam_endpoint,
            get = function(_, refused) return keys:get(refused) end,
        }
        for _, signing in ipairs { "V11-HMAC-SHA256", "SDK-HMAC-SM3" } do
            for _, made in ipairs {
                client_with { signing = signing, signing_service = "csms" },
                client_with { signing = signing, signing_service = "csms", iam_endpoint = false,
                    credentials = provider },
            } do
                emu:clear_requests()
                assert.is_string(made:backup(nil, "secret-0001"))
                assert.same({ "SDK-HMAC-SHA256", signing },
                    { emu:requests("iam_projects")[1].algorithm,
                        emu:requests("backup")[1].algorithm })
            end
        end
    end)

    it("uses a token where there is one", function()
        local made = client_with { credentials = csms.credentials.token(emu.token) }
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.equal("token", emu:requests("iam_projects")[1].auth)
    end)

    it("asks once for calls that come at once", function()
        emu:fault { operation = "iam_projects", delay = 0.2 }
        local made = client_with()
        local left, ok = 50, 0
        made.runtime:each(function()
            left = left - 1
            return left >= 0 and left + 1 or nil
        end, 50, function(number)
            assert(made:backup(nil, ("secret-%04d"):format(number)))
            ok = ok + 1
        end)
        assert.equal(50, ok)
        assert.equal(1, looked_up())
    end)

    it("fails all calls that wait for it, after one request", function()
        emu:fault { operation = "iam_projects", delay = 0.1, status = 403 }
        local made = client_with()
        local left, failed = 20, 0
        made.runtime:each(function()
            left = left - 1
            return left >= 0 and left or nil
        end, 20, function()
            failure("denied", made:backup(nil, "secret-0001"))
            failed = failed + 1
        end)
        assert.equal(20, failed)
        assert.equal(1, looked_up())
    end)

    it("can be asked for by itself", function()
        local made = client_with()
        local id = assert(made:project_id { deadline = 10 })
        assert.equal(emu.project, id)
        assert.equal(id, made:project_id())
        assert.equal(1, looked_up())
        made:close()
        failure("config", made:project_id())
    end)

    it("serves batches too", function()
        local made = client_with()
        assert.equal(2, assert(made:backup_many(nil, { "secret-0001", "secret-0002" })).ok)
        local report = assert(made:backup_all())
        assert.equal(50, report.ok)
        assert.equal(emu.project, report.project)
        assert.equal(1, looked_up())
    end)

    it("is each client's own", function()
        assert.is_string(client_with():backup(nil, "secret-0001"))
        assert.is_string(client_with():backup(nil, "secret-0001"))
        assert.equal(2, looked_up())
    end)

    it("is told by events of its own", function()
        local events = {}
        assert.is_string(client_with(nil, events):backup(nil, "secret-0001"))
        local seen = {}
        for _, event in ipairs(events) do
            seen[#seen + 1] = event.event .. " " .. tostring(event.operation)
        end
        assert.same({ "attempt projects", "done projects", "attempt backup", "done backup" }, seen)
    end)

    it("is tried again where it failed before", function()
        emu:fault { operation = "iam_projects", status = 500 }
        local made = client_with()
        failure("service", made:backup(nil, "secret-0001"))
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.equal(2, looked_up())
    end)

    it("is retried as any call", function()
        emu:fault { operation = "iam_projects", status = 503, times = 2 }
        local made = client_with { retry = { base = 0.01 } }
        assert.is_string(made:backup(nil, "secret-0001"))
        assert.equal(3, looked_up())
    end)

    it("is bound to the call's time", function()
        emu:fault { operation = "iam_projects", delay = cases.HELD, times = 0 }
        local _, blob, err = cases.within(1.8, function()
            return client_with():backup(nil, "secret-0001", { timeout = 0.2 })
        end)
        failure("timeout", blob, err)
    end)

    it("and the call share one deadline", function()
        emu:fault { operation = "iam_projects", delay = 0.4, times = 0 }
        emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
        local _, blob, err = cases.within(0.95, function()
            return client_with():backup(nil, "secret-0001", { deadline = 0.6 })
        end)
        failure("timeout", blob, err)
    end)
end)

describe("the look-up of a project fails", function()
    it("where there is none, and says what to set", function()
        emu:set { iam_projects = {} }
        local err = failure("config", client_with():backup(nil, "secret-0001"))
        for _, text in ipairs { "no project for region " .. emu.region, "`project`",
            "HUAWEICLOUD_SDK_PROJECT_ID" } do
            assert.matches(text, err.message, 1, true)
        end
        assert.equal("secret-0001", err.name)
        assert.equal(0, #emu:requests("backup"))
    end)

    it("where there are several, and lists them", function()
        emu:set { iam_projects = { ONE, TWO } }
        local err = failure("config", client_with():backup(nil, "secret-0001"))
        assert.matches("2 projects: " .. ONE .. ", " .. TWO, err.message, 1, true)
        assert.matches("`project`", err.message, 1, true)
        assert.is_false(err.retryable)
        assert.equal(0, #emu:requests("backup"))
    end)

    it("for a batch as a whole", function()
        emu:set { iam_projects = {} }
        failure("config", client_with():backup_all())
        failure("config", client_with():backup_many(nil, { "a", "b" }))
        failure("config", client_with():list())
        assert.equal(3, looked_up())
        assert.equal(3, #emu:requests())
    end)

    it("where the answer is malformed", function()
        for _, body in ipairs { "", "<html>", "{}", '{"projects":5}', '{"projects":"x"}', "[]" } do
            emu:fault { operation = "iam_projects", body = body }
            failure("protocol", client_with():backup(nil, "secret-0001"))
        end
    end)

    it("where the answer's project is none", function()
        for _, item in ipairs { {}, { id = 5 }, { id = "short" }, { id = "" }, { id = "../x" },
            "text", 5, true } do
            emu:fault { operation = "iam_projects", body = json.encode { projects = { item } } }
            local done, blob, err = pcall(function()
                return client_with():backup(nil, "secret-0001")
            end)
            assert.is_true(done, tostring(blob))
            assert.is_nil(blob)
            assert.is_string(err.kind)
        end
        assert.equal(0, #emu:requests("backup"))
    end)

    it("where several of the answer's projects are none", function()
        for _, list in ipairs { { "a", "b" }, { 5, 6 }, { {}, {} }, { json.null, json.null } } do
            emu:fault { operation = "iam_projects", body = json.encode { projects = list } }
            local done, blob, err = pcall(function()
                return client_with():backup(nil, "secret-0001")
            end)
            assert.is_true(done, tostring(blob))
            assert.is_nil(blob)
            assert.is_string(err.kind)
        end
    end)

    it("with a short message, however many there are", function()
        local ids = {}
        for number = 1, 500 do ids[number] = ("%032d"):format(number) end
        emu:set { iam_projects = ids }
        local err = failure("config", client_with():backup(nil, "secret-0001"))
        assert.matches("500 projects", err.message, 1, true)
        assert.is_true(#err.message < 2000, #err.message .. " characters")
    end)

    it("where IAM refuses the keys, or its use", function()
        emu:fault { operation = "iam_projects", status = 403, code = "IAM.0003", shape = 3 }
        local err = failure("denied", client_with():backup(nil, "secret-0001"))
        assert.matches("iam:projects:listProjects", err.message, 1, true)
        local unknown = csms.credentials.static { ak = "UNKNOWNUNKNOWN", sk = "SECRET" }
        failure("auth", client_with({ credentials = unknown }):backup(nil, "secret-0001"))
        assert.equal(0, #emu:requests("backup"))
    end)

    it("where there are no keys, without a request", function()
        local none = fixed.env(function() end)
        failure("credentials", client_with({ credentials = none }):backup(nil, "secret-0001"))
        -- They may bring the project with them: a region is not asked for first.
        local made = client_with { credentials = none, region = false }
        failure("credentials", made:backup(nil, "secret-0001"))
        assert.equal(0, #emu:requests())
    end)

    it("where there is no region, and says what to set", function()
        local err = failure("config", client_with({ region = false }):backup(nil, "secret-0001"))
        for _, text in ipairs { "`project`", "HUAWEICLOUD_SDK_PROJECT_ID", "`region`" } do
            assert.matches(text, err.message, 1, true)
        end
        assert.equal(0, #emu:requests())
    end)

    it("where nobody listens", function()
        local made = client_with { iam_endpoint = "https://127.0.0.1:1" }
        failure("network", made:backup(nil, "secret-0001"))
    end)

    it("where IAM's endpoint is none", function()
        local err = failure("config", client.new { endpoint = emu.endpoint,
            iam_endpoint = "http://iam.example" })
        assert.matches("^iam_endpoint: .*plain http", err.message)
    end)
end)

describe("a project that somebody names", function()
    it("is taken, and nobody is asked: the argument before the config", function()
        local made = client_with { project = ONE }
        failure("denied", made:backup(nil, "secret-0001"))
        assert.is_string(made:backup(emu.project, "secret-0001"))
        assert.is_string(client_with({ project = emu.project }):backup(nil, "secret-0001"))
        assert.equal(0, looked_up())
    end)

    it("is the environment's where the config has none", function()
        local output = cases.run(([[
            local csms = require "csms"
            local made = csms.new { endpoint = %q, ca_file = %q, region = "cn-north-4",
                credentials = csms.credentials.token(%q) }
            print(type(made:backup(nil, "secret-0001")))
        ]]):format(emu.endpoint, emu.ca_file, emu.token), {
            HUAWEICLOUD_SDK_PROJECT_ID = emu.project,
        })
        assert.equal("string\n", output)
        assert.equal(0, looked_up())
    end)

    it("is the credentials' where these know one", function()
        local keys = csms.credentials.static { ak = emu.ak, sk = emu.sk }
        local provider = {
            project_id = emu.project, get = function(_, refused) return keys:get(refused) end,
        }
        assert.is_string(client_with({ credentials = provider }):backup(nil, "secret-0001"))
        assert.equal(0, looked_up())
    end)

    it("is checked before anything is sent", function()
        for _, id in ipairs { "", "short", ONE .. "a", ("-"):rep(32), ("a"):rep(31) .. "/" } do
            failure("argument", client_with():backup(id, "secret-0001"))
            failure("argument", client_with({ project = id }):backup(nil, "secret-0001"))
            local keys = csms.credentials.static { ak = emu.ak, sk = emu.sk }
            local provider = {
                project_id = id, get = function(_, refused) return keys:get(refused) end,
            }
            failure("argument", client_with({ credentials = provider }):backup(nil, "x"))
        end
        assert.equal(0, #emu:requests())
    end)
end)
