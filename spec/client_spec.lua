-- The client as programs use it, against the emulator.

local csms = require "csms"
local cases = require "spec.support.cases"
local emulator = require "spec.support.emulator"
local json = require "cjson"

local failure = cases.failure
local integer_type = rawget(math, "type") -- Lua 5.4 only

-- An answer's body that holds this text as its blob.
local function answer_with(blob)
    return json.encode({ secret_blob = blob })
end

local function names_of(secrets)
    local names = {}
    for index, secret in ipairs(secrets) do names[index] = secret.name end
    return names
end

local function listed(secrets)
    return table.concat(names_of(assert(secrets)), " ")
end

-- The message of a call that must raise, and the line of this file it names.
local function raised(fn)
    local ok, message = pcall(fn)
    assert.is_false(ok)
    local line, text = tostring(message):match("^%S*client_spec%.lua:(%d+): (.*)$")
    if not line then error("not raised at the caller: " .. tostring(message), 2) end
    return text, tonumber(line)
end

local emu

setup(function() emu = emulator.start { secrets = 20 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

describe("csms", function()
    it("does no I/O and reads no environment when it is required", function()
        local output, status = cases.run [[
            os.getenv = function(name) print("read " .. name) end
            io.open = function(path) print("opened " .. path) end
            require "csms"
            print "required"
        ]]
        assert.equal("required\n", output)
        assert.equal(0, status)
    end)

    it("has a version", function()
        assert.matches("^%d+%.%d+%.%d+$", csms._VERSION)
    end)

    it("leaves no global behind", function()
        local output = cases.run [[
            local before = {}
            for name in pairs(_G) do before[name] = true end
            require "csms"
            for name in pairs(_G) do if not before[name] then print(name) end end
        ]]
        -- lua-cjson's own module for 5.1 may make one
        assert.equal("", (output:gsub("cjson%S*\n", "")))
    end)
end)

describe("backup", function()
    it("returns the blob byte for byte as it was served", function()
        local served = ")CloudSecretManagementBackupV1.com\tü\"\\/ \1\127eyJ."
        emu:fault { operation = "backup", body = answer_with(served) }
        local client = cases.client(emu)
        assert.equal(served, client:backup(emu.project, "secret-0001"))
    end)

    it("keeps NULs and escapes of every kind in the blob", function()
        local body = [[{"secret_blob":"a\u0000b\u00e9\ud83d\ude00\/"}]]
        emu:fault { operation = "backup", body = body }
        local blob = cases.client(emu):backup(emu.project, "secret-0001")
        assert.equal("a\0b\195\169\240\159\152\128/", blob)
    end)

    it("returns a blob of several MiB whole", function()
        local served = ("x"):rep(5 * 1024 * 1024)
        emu:fault { operation = "backup", body = answer_with(served) }
        local blob = cases.client(emu):backup(emu.project, "secret-0001")
        assert.is_true(blob == served)
    end)

    it("sends one signed POST without a body", function()
        emu:set { log_headers = true }
        assert.is_string(cases.client(emu):backup(emu.project, "secret-0007"))
        local requests = emu:requests()
        assert.equal(1, #requests)
        local request = requests[1]
        assert.same({ "POST", "/v1/" .. emu.project .. "/secrets/secret-0007/backup", "signature" },
            { request.method, request.path, request.auth })
        assert.equal("0", request.headers["content-length"])
        assert.equal(emu.project, request.headers["x-project-id"])
        assert.same({ "content-type", "host", "x-project-id", "x-sdk-date" }, request.signed)
    end)

    it("is signed with the time of UTC, wherever the machine is", function()
        local chunk = ([[
            local csms = require "csms"
            local made = csms.new { endpoint = %q, ca_file = %q, project = %q, retry = false,
                credentials = csms.credentials.static { ak = %q, sk = %q } }
            local blob, err = made:backup(nil, "secret-0001")
            print(os.date("%%H") == os.date("!%%H"), blob and "served" or err)
        ]]):format(emu.endpoint, emu.ca_file, emu.project, emu.ak, emu.sk)
        for _, zone in ipairs { "EAST-8", "WEST+9" } do
            assert.equal("false\tserved\n", (cases.run(chunk, { TZ = zone })))
        end
    end)

    it("uses the config's project where none is passed", function()
        local client = cases.client(emu)
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.matches(emu.project, emu:requests()[1].path, 1, true)
    end)

    it("prefers the project that is passed", function()
        local other = ("0"):rep(32)
        emu:set { iam_projects = { emu.project, other } }
        failure("not_found", cases.client(emu):backup(other, "secret-0001"))
        assert.matches("/v1/" .. other .. "/", emu:requests()[1].path, 1, true)
    end)

    it("says that there is no project where nothing names one", function()
        local output = cases.run([[
            local csms = require "csms"
            local client = assert(csms.new { endpoint = "https://localhost:1",
                credentials = csms.credentials.token "t" })
            local _, err = client:backup(nil, "name")
            print(err.kind, err.message)
        ]])
        assert.matches("^config\tno project.*HUAWEICLOUD_SDK_PROJECT_ID", output)
    end)

    it("takes names of 1 and of 64 characters and every allowed character", function()
        local client = cases.client(emu)
        for _, name in ipairs { "a", ("a"):rep(64), "azAZ09_-", "-", "_" } do
            emu:create { name = name }
            assert.is_string(client:backup(nil, name))
        end
    end)

    it("refuses names that the service would refuse and sends nothing", function()
        local client = cases.client(emu)
        local names = { "", ("a"):rep(65), "a b", "a/b", "..", ".", "a.b", "ä", "a\n", "a\0",
            "a%2e", "a?b", "a#b" }
        for _, name in ipairs(names) do
            local err = failure("argument", client:backup(nil, name))
            assert.same({ 0, false, name }, { err.attempts, err.retryable, err.name })
            -- said where it helps alone
            assert.equal(name == "a.b", err.message:find("set allow_periods", 1, true) ~= nil)
        end
        assert.equal(0, #emu:requests())
    end)

    it("takes names with periods where allow_periods is set", function()
        emu:create { name = "with.period" }
        failure("argument", cases.client(emu):backup(nil, "with.period"))
        local client = cases.client(emu, { allow_periods = true })
        assert.is_string(client:backup(nil, "with.period"))
        failure("argument", client:backup(nil, ".."))
        failure("argument", client:backup(nil, "a/b"))
    end)

    it("refuses project ids that are none and sends nothing", function()
        local client = cases.client(emu)
        for _, project in ipairs { "", ("a"):rep(31), ("a"):rep(33), ("a"):rep(31) .. "/",
            ("a"):rep(31) .. "\n", ("a"):rep(31) .. "-" } do
            local err = failure("argument", client:backup(project, "secret-0001"))
            local has = #project == 32 and "other" or #project
            assert.matches("this one has " .. has .. " characters", err.message, 1, true)
        end
        assert.equal(0, #emu:requests())
    end)

    it("takes the other signing algorithms and a token", function()
        for _, changes in ipairs {
            { signing = "SDK-HMAC-SM3" },
            { signing = "V11-HMAC-SHA256", region = emu.region, signing_service = "csms" },
            { credentials = csms.credentials.token(emu.token) },
        } do
            assert.is_string(cases.client(emu, changes):backup(nil, "secret-0001"))
        end
    end)

    it("takes temporary keys with their security token", function()
        local key = emu:issue_key { temporary = true }
        local client = cases.client(emu, { credentials = csms.credentials.static {
            ak = key.access, sk = key.secret, security_token = key.securitytoken,
        } })
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.equal("temporary", emu:requests()[1].auth)
    end)
end)

describe("restore", function()
    it("brings a deleted secret back with all its versions", function()
        local client = cases.client(emu)
        local before = emu:secret("secret-0003")
        assert.equal(3, #before.versions)
        local blob = assert(client:backup(nil, "secret-0003"))
        emu:delete("secret-0003")
        failure("not_found", client:show(nil, "secret-0003"))
        local secret = assert(client:restore(nil, blob))
        assert.equal("secret-0003", secret.name)
        assert.same(before, emu:secret("secret-0003"))
    end)

    it("brings back what was changed after the backup as it was then", function()
        local client = cases.client(emu)
        emu:create { name = "mine", values = { "one", "two" } }
        local blob = assert(client:backup(nil, "mine"))
        emu:delete("mine")
        emu:create { name = "mine", value = "later" }
        failure("rejected", client:restore(nil, blob))
        emu:delete("mine")
        assert(client:restore(nil, blob))
        local values = {}
        for index, version in ipairs(emu:secret("mine").versions) do
            values[index] = version.secret_string
        end
        assert.same({ "one", "two" }, values)
    end)

    it("sends the blob byte for byte", function()
        local sent
        cases.with_server([[
            local _, body = read_request(peer)
            note(body)
            answer(peer, "200 OK", '{"secret":{"name":"n"}}')
        ]], function(server)
            local client = cases.client(emu, { endpoint = server.endpoint })
            assert(client:restore(nil, "a\0\1\"\\/\195\169\127"))
            sent = json.decode(server:log())
        end)
        assert.same({ secret_blob = "a\0\1\"\\/\195\169\127" }, sent)
    end)

    it("refuses an empty blob and sends nothing", function()
        failure("argument", cases.client(emu):restore(nil, ""))
        assert.equal(0, #emu:requests())
    end)

    it("passes on that the service refuses a blob", function()
        local client = cases.client(emu)
        assert.equal("CSMS.0002", failure("rejected", client:restore(nil, "nonsense")).code)
        local blob = client:backup(nil, "secret-0001")
        emu:delete("secret-0001")
        local changed = blob:sub(1, -2) .. (blob:sub(-1) == "A" and "Q" or "A")
        assert.equal("CSMS.0401", failure("rejected", client:restore(nil, changed)).code)
        assert.is_nil(emu:secret("secret-0001"))
    end)
end)

describe("show", function()
    it("returns the service's fields under the service's names", function()
        local secret = assert(cases.client(emu):show(nil, "secret-0002"))
        local kept = emu:secret("secret-0002")
        for _, field in ipairs { "id", "name", "state", "kms_key_id", "description", "secret_type",
            "create_time", "update_time", "auto_rotation", "enterprise_project_id" } do
            assert.is_not_nil(secret[field])
            assert.equal(kept[field], secret[field])
        end
        assert.is_nil(secret.versions)
    end)

    it("has integers where the service sends integers", function()
        local secret = assert(cases.client(emu):show(nil, "secret-0001"))
        assert.equal("1767229200000", tostring(secret.create_time):gsub("%.0$", "%.0"))
        if integer_type then
            assert.equal("integer", integer_type(secret.create_time))
            assert.equal("integer", integer_type(secret.update_time))
        end
    end)

    it("has no field where the service sends null", function()
        emu:fault { operation = "show", body = [[{"secret":{"name":"n","scheduled_delete_time":null,
            "inner":{"a":null,"b":1},"list":[]}}]] }
        local secret = assert(cases.client(emu):show(nil, "secret-0001"))
        assert.same({ name = "n", inner = { b = 1 }, list = {} }, secret)
    end)

    it("has integers only where they are exact", function()
        emu:fault { operation = "show",
            body = [[{"secret":{"exact":-9007199254740991,"beyond":9007199254740993}}]] }
        local secret = assert(cases.client(emu):show(nil, "secret-0001"))
        assert.same({ exact = -9007199254740991, beyond = 2 ^ 53 }, secret)
        if integer_type then
            assert.equal("integer", integer_type(secret.exact))
            assert.equal("float", integer_type(secret.beyond))
        end
    end)

    it("keeps fractions and numbers beyond an integer's range", function()
        emu:fault { operation = "show", body = [[{"secret":{"half":0.5,"big":1e300}}]] }
        assert.same({ half = 0.5, big = 1e300 }, cases.client(emu):show(nil, "secret-0001"))
    end)
end)

describe("list", function()
    local all = {} -- the emulator's own
    for number = 1, 20 do all[number] = ("secret-%04d"):format(number) end
    all = table.concat(all, " ")

    it("returns every secret of the project in the service's order", function()
        local secrets = assert(cases.client(emu):list())
        assert.equal(all, listed(secrets))
        assert.equal(emu:secret("secret-0004").id, secrets[4].id)
    end)

    it("has integers on every secret and none of the nulls", function()
        local secrets = assert(cases.client(emu):list())
        assert.is_true(#secrets > 0)
        for _, secret in ipairs(secrets) do
            assert.is_nil(secret.scheduled_delete_time)
            assert.is_true(not integer_type or integer_type(secret.create_time) == "integer")
        end
    end)

    it("goes on after a page that is shorter than it asked for", function()
        emu:set { page_clamp = 7 }
        assert.equal(all, listed(cases.client(emu):list()))
    end)

    it("goes on after pages of one secret", function()
        emu:set { page_clamp = 1 }
        assert.equal(all, listed(cases.client(emu):list()))
    end)

    for _, style in ipairs { "last", "omit", "null", "repeat" } do
        for _, clamp in ipairs { 0, 6, 20 } do
            it(("lists each secret once with next_marker '%s' in pages of %d"):format(style, clamp),
                function()
                    emu:set { page_marker = style, page_clamp = clamp }
                    assert.equal(all, listed(cases.client(emu):list()))
                end)
        end
    end

    it("takes an empty next_marker as the end", function()
        emu:fault { operation = "list", times = 0,
            body = [[{"secrets":[{"name":"a"},{"name":"b"}],"page_info":{"next_marker":""}}]] }
        assert.equal("a b", listed(cases.client(emu):list()))
    end)

    it("ends where the server repeats one page for ever", function()
        emu:fault { operation = "list", times = 0,
            body = [[{"secrets":[{"name":"a"}],"page_info":{"next_marker":"a"}}]] }
        assert(cases.client(emu):list())
        assert.is_true(#emu:requests() <= 3)
    end)

    it("ends without page_info", function()
        emu:fault { operation = "list", times = 0, body = [[{"secrets":[{"name":"a"}]}]] }
        assert.equal("a", listed(cases.client(emu):list()))
        emu:clear_faults()
        emu:fault { operation = "list", body = [[{"secrets":[{"name":"a"}],"page_info":null}]] }
        assert.equal("a", listed(cases.client(emu):list()))
    end)

    for _, total in ipairs { 999, 1000, 1001, 2000 } do
        it("returns all of " .. total .. " secrets", function()
            emu:create { prefix = "x", count = total - 20 }
            local names = names_of(assert(cases.client(emu):list()))
            assert.equal(total, #names)
            local seen = {}
            for _, name in ipairs(names) do
                assert.is_nil(seen[name])
                seen[name] = true
            end
        end)
    end

    it("returns an empty array for an empty project", function()
        local empty = ("0"):rep(32)
        emu:set { iam_projects = { emu.project, empty } }
        assert.same({}, cases.client(emu):list(empty))
        emu:set { page_marker = "repeat" }
        assert.same({}, cases.client(emu):list(empty))
    end)

    it("escapes a marker that a URL cannot hold", function()
        emu:create { name = "a b&c=d/é+%" }
        emu:set { page_clamp = 1 }
        local names = names_of(assert(cases.client(emu):list()))
        assert.equal("a b&c=d/é+%", names[1])
        assert.equal(21, #names)
    end)

    it("fails where a later page fails", function()
        emu:set { page_clamp = 7 }
        emu:fault { operation = "list", after = 1, status = 500 }
        local err = failure("service", cases.client(emu):list())
        assert.equal(emu.project, err.project)
    end)

    it("fails where the marker of the next page is none", function()
        emu:fault { operation = "list",
            body = [[{"secrets":[{"name":"a"}],"page_info":{"next_marker":{"a":1}}}]] }
        local err = failure("protocol", cases.client(emu):list())
        assert.matches("next_marker", err.message, 1, true)
    end)

    it("fails where an answer has no list of secrets", function()
        for _, list in ipairs { "", [["secrets":null]], [["secrets":5]], [["secrets":"a"]] } do
            local body = "{" .. list .. "}"
            emu:fault { operation = "list", body = body }
            local err = failure("protocol", cases.client(emu):list())
            assert.is_false(err.retryable)
        end
    end)

    it("fails where an item of the list has no name", function()
        for _, item in ipairs { "{}", [[{"name":5}]], [[{"name":null}]], [[{"name":["a"]}]] } do
            emu:fault { operation = "list",
                body = [[{"secrets":[{"name":"a"},]] .. item .. "]}" }
            failure("protocol", cases.client(emu):list())
        end
    end)

    it("does not lose the secrets behind a null in the list", function()
        emu:fault { operation = "list",
            body = [[{"secrets":[null,{"name":"a"}],"page_info":{}}]] }
        local secrets, err = cases.client(emu):list()
        assert.is_true(secrets == nil and err.kind == "protocol"
            or secrets ~= nil and #secrets == 1 and secrets[1].name == "a")
    end)

    it("fails where the list of secrets is an object", function()
        emu:fault { operation = "list", body = [[{"secrets":{"a":{"name":"a"}}}]] }
        failure("protocol", cases.client(emu):list())
    end)
end)

describe("opts", function()
    it("name an unknown key in every operation", function()
        local client = cases.client(emu)
        for _, call in ipairs {
            function() return client:backup(nil, "secret-0001", { time_out = 1 }) end,
            function() return client:restore(nil, "blob", { time_out = 1 }) end,
            function() return client:show(nil, "secret-0001", { time_out = 1 }) end,
            function() return client:list(nil, { time_out = 1 }) end,
        } do
            local err = failure("config", call())
            assert.matches("'time_out'", err.message, 1, true)
            assert.equal(0, err.attempts)
        end
        assert.equal(0, #emu:requests())
    end)

    it("answer an error for wrong types and values", function()
        local client = cases.client(emu)
        for key, values in pairs {
            timeout = { 0, -1, "1", true, math.huge, 0 / 0 }, deadline = { 0, -1, "1", {} },
            retry = { true, 1, "no", { attempts = 0 }, { attemps = 1 } },
        } do
            for _, value in ipairs(values) do
                local err = failure("config", client:backup(nil, "secret-0001", { [key] = value }))
                assert.matches(key, err.message, 1, true)
            end
        end
        assert.equal(0, #emu:requests())
    end)

    it("give one call a timeout of its own", function()
        local client = cases.client(emu, { timeout = 10 })
        emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
        local seconds, blob, err = cases.within(0.95, function()
            return client:backup(nil, "secret-0001", { timeout = 0.2 })
        end)
        failure("timeout", blob, err)
        assert.is_true(seconds >= 0.19)
        emu:clear_faults()
        assert.is_string(client:backup(nil, "secret-0001"))
    end)

    it("can allow one call more time than the config", function()
        local client = cases.client(emu, { timeout = 0.1 })
        emu:fault { { operation = "backup", delay = cases.HELD },
            { operation = "backup", delay = 0.3 } }
        failure("timeout", client:backup(nil, "secret-0001"))
        assert.is_string(client:backup(nil, "secret-0001", { timeout = 30 }))
    end)

    it("do not change the table that was passed", function()
        local opts = { timeout = 50 }
        assert(cases.client(emu):backup(nil, "secret-0001", opts))
        assert.same({ timeout = 50 }, opts)
    end)
end)

describe("a wrong argument type", function()
    local client

    setup(function() client = cases.client(emu) end)

    local function here() return debug.getinfo(2, "l").currentline end

    it("raises at the caller's line in every method", function()
        for _, case in ipairs {
            { function() client:backup(5, "n") end, "#1", "project", here() },
            { function() client:backup({}, "n") end, "#1", "project", here() },
            { function() client:backup(nil) end, "#2", "name", here() },
            { function() client:backup(nil, 5) end, "#2", "name", here() },
            { function() client:backup(nil, "n", 5) end, "#3", "opts", here() },
            { function() client:restore(true, "b") end, "#1", "project", here() },
            { function() client:restore(nil) end, "#2", "blob", here() },
            { function() client:restore(nil, {}) end, "#2", "blob", here() },
            { function() client:restore(nil, "b", "x") end, "#3", "opts", here() },
            { function() client:show(nil) end, "#2", "name", here() },
            { function() client:show(1, "n") end, "#1", "project", here() },
            { function() client:list(5) end, "#1", "project", here() },
            { function() client:list(nil, "x") end, "#2", "opts", here() },
            { function() client:project_id("x") end, "#1", "opts", here() },
        } do
            local text, line = raised(case[1])
            assert.matches("bad argument " .. case[2], text, 1, true)
            assert.matches(case[3], text, 1, true)
            assert.equal(case[4], line)
        end
    end)

    it("raises at the caller's line in every function of the module", function()
        for _, case in ipairs {
            { function() csms.backup(5, "n") end, "#1", here() },
            { function() csms.backup(nil, nil) end, "#2", here() },
            { function() csms.backup(nil, "n", 1) end, "#3", here() },
            { function() csms.restore(nil, 5) end, "#2", here() },
            { function() csms.show(nil, 5) end, "#2", here() },
            { function() csms.list({}) end, "#1", here() },
            { function() csms.list(nil, true) end, "#2", here() },
            { function() csms.project_id(5) end, "#1", here() },
            { function() csms.new(5) end, "#1", here() },
            { function() csms.new("https://localhost") end, "#1", here() },
            { function() csms.configure(5) end, "#1", here() },
            { function() csms.inspect(5) end, "#1", here() },
            { function() csms.credentials.static(5) end, "#1", here() },
            { function() csms.credentials.token(5) end, "#1", here() },
        } do
            local text, line = raised(case[1])
            assert.matches("bad argument " .. case[2], text, 1, true)
            assert.equal(case[3], line)
        end
    end)

    it("is told from a method that was called with '.', and a function with ':'", function()
        local calls = {
            { function() csms:new {} end, "csms.new{", here() },
            { function() csms:configure {} end, "csms.configure{", here() },
        }
        for _, name in ipairs { "backup", "restore", "show", "list", "backup_many", "backup_all",
            "project_id" } do
            local method = client[name]
            for _, first in ipairs { false, emu.project, {} } do
                calls[#calls + 1] = { function() method(first or nil, "secret-0001") end,
                    "client:" .. name .. "(", here() - 1 }
            end
        end
        for _, call in ipairs(calls) do
            local text, line = raised(call[1])
            assert.matches(call[2], text, 1, true)
            assert.equal(call[3], line)
        end
    end)

    it("sends nothing", function()
        pcall(client.backup, client, 5, "secret-0001")
        pcall(client.list, client, 5)
        assert.equal(0, #emu:requests())
    end)
end)

describe("a client", function()
    -- But for a bad signature, after which it does not send that key for a minute.
    it("is usable after each error", function()
        local client = cases.client(emu, { timeout = 0.3 })
        for _, fault in ipairs {
            { status = 400 }, { status = 403 }, { status = 404 },
            { status = 408 }, { status = 429 }, { status = 500 }, { status = 502 },
            { status = 302 }, { status = 204 },
            { body = "garbage" }, { body = "{}" }, { close = "stream" }, { close = "connection" },
            { close = "reset" }, { truncate = 10 }, { truncate = 10, close = "connection" },
            { delay = cases.HELD }, { body_size = 17 * 1024 * 1024 }, { shape = 0 }, { shape = 7 },
        } do
            -- more than once: libcurl sends again where a connection that it reuses dies
            fault.operation, fault.times = "backup", 0
            emu:fault(fault)
            local blob, err = client:backup(nil, "secret-0001")
            assert.is_nil(blob)
            assert.equal(1, err.attempts)
            emu:clear_faults()
            assert.is_string(client:backup(nil, "secret-0001", { timeout = 30 }))
        end
        failure("argument", client:backup(nil, ""))
        failure("config", client:backup(nil, "a", { x = 1 }))
        assert.is_string(client:backup(nil, "secret-0001", { timeout = 30 }))
    end)

    it("says where it speaks to when printed", function()
        assert.equal("csms client (" .. emu.endpoint .. ")", tostring(cases.client(emu)))
    end)

    it("does not change the config that it was made from", function()
        local credentials = csms.credentials.token(emu.token)
        local config = { endpoint = emu.endpoint, credentials = credentials, retry = false }
        local client = assert(csms.new(config))
        client:close()
        assert.same({ endpoint = emu.endpoint, credentials = credentials, retry = false }, config)
    end)

    it("is not changed by later changes of its config", function()
        local config = { endpoint = emu.endpoint, ca_file = emu.ca_file, project = emu.project,
            credentials = csms.credentials.token(emu.token), retry = false }
        local client = assert(csms.new(config))
        config.endpoint, config.project = "https://localhost:1", "x"
        assert.is_string(client:backup(nil, "secret-0001"))
    end)

    it("shares nothing with another client but connections", function()
        local one, two = cases.client(emu), cases.client(emu)
        assert.is_string(one:backup(nil, "secret-0001"))
        one:close()
        assert.is_string(two:backup(nil, "secret-0001"))
    end)

    it("fails each project, name and operation with what it was asked", function()
        local client = cases.client(emu)
        local err = failure("not_found", client:show(nil, "absent"))
        assert.same({ emu.project, "absent" }, { err.project, err.name })
        err = failure("argument", client:show("short", "absent"))
        assert.same({ "short", "absent" }, { err.project, err.name })
        err = failure("argument", client:show(nil, "a b")) -- refused before anything is resolved
        assert.same({ emu.project, "a b" }, { err.project, err.name })
        for _, method in ipairs { "list", "backup_all" } do
            err = failure("config", client[method](client, nil, { time_out = 1 }))
            assert.equal(emu.project, err.project)
        end
        err = failure("config", client:backup_many(nil, {}, { time_out = 1 }))
        assert.equal(emu.project, err.project)
    end)
end)

describe("close", function()
    it("may be called again", function()
        local client = cases.client(emu)
        client:close()
        client:close()
        assert.matches("closed", tostring(client))
    end)

    it("makes every later call an error of kind config", function()
        local client = cases.client(emu)
        local blob = client:backup(nil, "secret-0001")
        emu:clear_requests()
        client:close()
        for _, call in ipairs {
            function() return client:backup(nil, "secret-0001") end,
            function() return client:restore(nil, blob) end,
            function() return client:show(nil, "secret-0001") end,
            function() return client:list() end,
        } do
            local err = failure("config", call())
            assert.matches("closed", err.message)
            assert.equal(0, err.attempts)
        end
        assert.equal(0, #emu:requests())
    end)

    it("leaves a provider that the program made open", function()
        local provider = csms.credentials.static { ak = emu.ak, sk = emu.sk }
        cases.client(emu, { credentials = provider }):close()
        assert.is_string(cases.client(emu, { credentials = provider }):backup(nil, "secret-0001"))
    end)

    it("ends what is in flight with kind cancelled", function()
        local client = cases.client(emu)
        emu:fault { operation = "backup", delay = cases.HELD }
        -- as a handler of a signal would, in the middle of the call; compiled code has no hooks
        local jit = rawget(_G, "jit")
        if jit then
            jit.off()
            jit.flush()
        end
        debug.sethook(function()
            if cases.in_flight(client) > 0 then
                debug.sethook()
                client:close()
            end
        end, "l")
        local seconds, blob, err = cases.timed(client.backup, client, nil, "secret-0001")
        debug.sethook()
        if jit then jit.on() end
        failure("cancelled", blob, err)
        assert.is_false(err.retryable)
        assert.is_true(seconds < cases.SOON)
    end)

    if _VERSION == "Lua 5.4" then
        it("is what <close> calls", function()
            local scope = assert(load [[
                local make = ...
                local client <close> = make()
                return client, client:backup(nil, "secret-0001")
            ]])
            local client, blob = scope(function() return cases.client(emu) end)
            assert.is_string(blob)
            failure("config", client:backup(nil, "secret-0001"))
        end)
    end
end)

describe("a call", function()
    local client

    before_each(function() client = cases.client(emu) end)

    it("works in a coroutine of the program's own without yielding", function()
        local steps = 0
        local thread = coroutine.create(function()
            local blob = client:backup(nil, "secret-0001")
            steps = steps + 1
            coroutine.yield("yielded")
            return blob
        end)
        assert.same({ true, "yielded" }, { coroutine.resume(thread) })
        local ok, blob = coroutine.resume(thread)
        assert.is_true(ok)
        assert.is_string(blob)
        assert.equal(1, steps)
    end)

    it("works in coroutine.wrap in a generic for", function()
        local count = 0
        for blob in coroutine.wrap(function()
            for i = 1, 3 do coroutine.yield(client:backup(nil, "secret-000" .. i)) end
        end) do
            assert.is_string(blob)
            count = count + 1
        end
        assert.equal(3, count)
    end)

    it("works in a gsub callback", function()
        local text = ("secret-0001 secret-0002"):gsub("%S+", function(name)
            return #client:backup(nil, name) > 0 and "ok"
        end)
        assert.equal("ok ok", text)
    end)

    it("works in pcall and xpcall", function()
        local ok, blob = pcall(client.backup, client, nil, "secret-0001")
        assert.is_true(ok)
        assert.is_string(blob)
        ok, blob = xpcall(function() return client:backup(nil, "secret-0001") end, debug.traceback)
        assert.is_true(ok)
        assert.is_string(blob)
    end)

    it("works in a comparator of table.sort", function()
        local names = { "secret-0003", "secret-0001", "secret-0002" }
        table.sort(names, function(a, b)
            return assert(client:show(nil, a)).create_time < assert(client:show(nil, b)).create_time
        end)
        assert.same({ "secret-0001", "secret-0002", "secret-0003" }, names)
    end)

    it("works in metamethods", function()
        local blobs = setmetatable({}, {
            __index = function(_, name) return client:backup(nil, name) end,
            __call = function(_, name) return client:show(nil, name) end,
            __tostring = function() return client:show(nil, "secret-0001").name end,
        })
        assert.is_string(blobs["secret-0001"])
        assert.equal("secret-0002", blobs("secret-0002").name)
        assert.equal("secret-0001", tostring(blobs))
    end)

    it("works in a finalizer's neighbourhood: while the collector runs", function()
        collectgarbage("setpause", 1)
        for _ = 1, 20 do
            assert.is_string(client:backup(nil, "secret-0001"))
            collectgarbage("step")
        end
        collectgarbage("setpause", 200)
    end)
end)

describe("the collector", function()
    it("takes clients that were dropped without close", function()
        assert.is_string(cases.client(emu):backup(nil, "secret-0001"))
        collectgarbage()
        collectgarbage()
        local before = collectgarbage("count")
        for i = 1, 300 do
            local client = cases.client(emu)
            if i % 10 == 0 then assert.is_string(client:backup(nil, "secret-0001")) end
        end
        collectgarbage()
        collectgarbage()
        assert.is_true(collectgarbage("count") - before < 200)
        assert.equal(1, emu:counters().connections)
    end)

    it("takes clients, results and errors in any order when the program ends", function()
        local output, status = cases.run(([[
            local csms = require "csms"
            local clients = {}
            for i = 1, 50 do
                clients[i] = assert(csms.new { endpoint = %q, ca_file = %q, project = %q,
                    credentials = csms.credentials.token(%q), retry = false })
                assert(clients[i]:backup(nil, "secret-0001"))
                clients[i].self = clients[i]
            end
            print "done"
        ]]):format(emu.endpoint, emu.ca_file, emu.project, emu.token))
        assert.same({ "done\n", 0 }, { output, status })
    end)
end)

describe("the default client", function()
    local function run(chunk, changes)
        local environment = {}
        for _, name in ipairs { "CSMS_ENDPOINT", "CSMS_CA_FILE", "HUAWEICLOUD_SDK_AK",
            "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_PROJECT_ID" } do
            environment[name] = emu.env[name]
        end
        for name, value in pairs(changes or {}) do environment[name] = value or nil end
        return cases.run("local csms = require 'csms'\n" .. chunk, environment)
    end

    it("needs the path no more once csms is loaded, nor another path later", function()
        local output = run [[
            package.path, package.cpath = "", ""
            assert(csms.backup(nil, "secret-0003"))
            assert(csms.backup_all(nil, { match = "secret-0003" }))
            print(select(2, csms.inspect "x").kind, select(2, pcall(csms.store)):match "expected")
            print(package.path == "" and package.cpath == "")
        ]]
        assert.equal("argument\texpected\ntrue\n", output)
    end)

    it("takes everything from the environment", function()
        local output, status = run [[
            local blob = assert(csms.backup(nil, "secret-0003"))
            print(#blob > 500, csms.show(nil, "secret-0003").name, #csms.list())
            local _, err = csms.restore(nil, blob)
            print(err.kind)
        ]]
        assert.equal("true\tsecret-0003\t20\nrejected\n", output)
        assert.equal(0, status)
    end)

    it("knows its project, and starts nothing after stop", function()
        local output = run [[
            csms.stop()
            print(csms.project_id() == os.getenv "HUAWEICLOUD_SDK_PROJECT_ID")
            print((pcall(csms.project_id, "opts")))
            csms.stop()
            local _, err = csms.backup(nil, "secret-0001")
            print(err.kind)
        ]]
        assert.equal("true\nfalse\nconfig\n", output)
        assert.equal(0, #emu:requests "backup")
    end)

    it("takes a token from the environment before keys", function()
        local output = run([[print(type(csms.backup(nil, "secret-0001")))]],
            { CSMS_AUTH_TOKEN = emu.token })
        assert.equal("string\n", output)
        assert.equal("token", emu:requests()[1].auth)
    end)

    it("reads the environment at its first call and never later", function()
        local output = run [[
            local getenv, reads = os.getenv, 0
            os.getenv = function(name) reads = reads + 1; return getenv(name) end
            assert(csms.backup(nil, "secret-0001"))
            local first = reads
            assert(csms.backup(nil, "secret-0001"))
            print(first > 0, reads == first)
        ]]
        assert.equal("true\ttrue\n", output)
    end)

    it("says what is missing where the environment is empty", function()
        local output = cases.run [[
            local csms = require "csms"
            local blob, err = csms.backup(("0"):rep(32), "name")
            print(blob, err.kind, err.message)
        ]]
        assert.matches("^nil\tconfig\t.*CSMS_REGION.*CSMS_ENDPOINT", output)
    end)

    it("says that there are no keys where the environment has none", function()
        local output = run([[
            local blob, err = csms.backup(nil, "name")
            print(blob, err.kind, err.attempts, err.message)
        ]], { HUAWEICLOUD_SDK_AK = false, HUAWEICLOUD_SDK_SK = false })
        assert.matches("^nil\tcredentials\t0\t.*HUAWEICLOUD_SDK_AK", output)
        assert.equal(0, #emu:requests())
    end)

    it("is made again after a failed first call", function()
        local output = run([[
            local getenv = os.getenv
            os.getenv = function() end
            local _, err = csms.backup(nil, "secret-0001")
            os.getenv = getenv
            print(err.kind, type(csms.backup(nil, "secret-0001")))
        ]])
        assert.equal("config\tstring\n", output)
    end)

    it("can be configured", function()
        local output = run(([[
            assert(csms.configure { credentials = csms.credentials.token(%q), retry = false })
            print(type(csms.backup(nil, "secret-0001")))
        ]]):format(emu.token))
        assert.equal("string\n", output)
        assert.equal("token", emu:requests()[1].auth)
    end)

    it("stays as it is where configure fails", function()
        local output = run [[
            assert(csms.configure { retry = false })
            local done, err = csms.configure { endpont = "x" }
            print(done, err.kind, type(csms.backup(nil, "secret-0001")))
        ]]
        assert.equal("nil\tconfig\tstring\n", output)
    end)

    it("is closed by csms.close and made again by configure", function()
        local output = run [[
            csms.close()
            assert(csms.configure { retry = false })
            csms.close()
            csms.close()
            local _, err = csms.backup(nil, "secret-0001")
            print(err.kind, err.message:find("csms.configure", 1, true) ~= nil)
            assert(csms.configure { retry = false })
            print(type(csms.backup(nil, "secret-0001")))
        ]]
        assert.equal("config\ttrue\nstring\n", output)
    end)
end)
