-- What on_event is told, in simulated time; that no event holds a secret is also in secrecy_spec.

local cases = require "spec.support.cases"
local csms = require "csms"
local simulation = require "spec.support.simulation"

local refuse = simulation.refuse

local function world_of(answers, config)
    local world = simulation.new(simulation.script(answers))
    return world, world:client(config)
end

-- The names of all events, in order.
local function story(world)
    local names = {}
    for index, event in ipairs(world.events) do names[index] = event.event end
    return table.concat(names, " ")
end

-- Those fields of an event, without `at`, which the simulation adds.
local function fields_of(event)
    local copy = {}
    for field, value in pairs(event) do
        if field ~= "at" and field ~= "seconds" and field ~= "wait" then copy[field] = value end
    end
    return copy
end

describe("on_event", function()
    it("is told of a call that succeeds: attempt, done", function()
        local answer = simulation.serve { operation = "backup", name = "name" }
        answer.headers, answer.delay = { ["X-Request-Id"] = "id-1" }, 0.5
        local world, client = world_of { answer }
        assert(client:backup(nil, "name"))
        assert.equal("attempt done", story(world))
        for index, name in ipairs { "attempt", "done" } do
            local event = world.events[index]
            assert.same({ event = name, operation = "backup", project = simulation.PROJECT,
                name = "name", attempt = 1, request_id = "id-1" }, fields_of(event))
            assert.is_true(math.abs(event.seconds - 0.51) < 0.001)
        end
    end)

    it("is told of each attempt, each retry with its wait, and the end", function()
        local world, client = world_of({ refuse(503, "APIG.0613", "no",
            { ["X-Request-Id"] = "id-1" }), { error = { kind = "network" } }, "ok" },
            { retry = { base = 5 } })
        assert(client:backup(nil, "name"))
        assert.equal("attempt retry attempt retry attempt done", story(world))
        local failed, retry, again = world.events[1], world.events[2], world.events[3]
        local expected = { event = "attempt", operation = "backup", name = "name", attempt = 1,
            project = simulation.PROJECT, kind = "service", status = 503, code = "APIG.0613",
            request_id = "id-1" }
        assert.same(expected, fields_of(failed))
        expected.event = "retry"
        assert.same(expected, fields_of(retry))
        assert.is_true(retry.wait > 0 and retry.wait < 5)
        assert.is_true(math.abs(again.at - retry.at - retry.wait - 0.01) < 0.001)
        assert.same({ "network", 2 }, { again.kind, again.attempt })
        assert.is_nil(again.status)
        local done = world.events[6]
        assert.equal(3, done.attempt)
        assert.is_nil(done.kind)
        assert.is_true(done.seconds >= retry.wait)
    end)

    it("is told of the failure of a call", function()
        local world, client = world_of { refuse(404, "CSMS.0106") }
        client:show(nil, "absent")
        assert.equal("attempt done", story(world))
        assert.same({ "show", "absent", "not_found", 404, "CSMS.0106", 1 }, {
            world.events[2].operation, world.events[2].name, world.events[2].kind,
            world.events[2].status, world.events[2].code, world.events[2].attempt })
    end)

    it("is told of throttling, with the wait that was stated", function()
        local world, client = world_of { refuse(429, "APIG.0308", "limit:20,time:1 minute"), "ok" }
        assert(client:backup(nil, "name"))
        assert.equal("attempt throttled retry attempt done", story(world))
        assert.same({ event = "throttled", operation = "backup", project = simulation.PROJECT,
            name = "name", attempt = 1, kind = "throttled", status = 429, code = "APIG.0308" },
            fields_of(world.events[2]))
        assert.equal(60, world.events[2].wait)
        assert.equal(60, world.events[3].wait)
    end)

    it("is told of throttling without a wait where none was stated", function()
        local world, client = world_of({ refuse(429, "APIG.0308") }, { retry = false })
        client:backup(nil, "name")
        assert.equal("attempt throttled done", story(world))
        assert.is_nil(world.events[2].wait)
    end)

    it("is told of a renewed credential", function()
        local current = assert(csms.credentials.token "old":get())
        local world, client = world_of({ refuse(401), "ok" }, { credentials = {
            get = function(_, refused)
                if refused then current = assert(csms.credentials.token "new":get()) end
                return current
            end,
        } })
        assert(client:backup(nil, "name"))
        assert.equal("attempt renewed retry attempt done", story(world))
        assert.equal(0, world.events[3].wait)
    end)

    it("is told of a corrected clock, in seconds", function()
        local world, client = world_of { refuse(401, "APIG.0303", "clock",
            { Date = simulation.http_date(1795276800 + 3600) }), "ok" }
        assert(client:backup(nil, "name"))
        assert.equal("attempt skew retry attempt done", story(world))
        assert.is_true(math.abs(world.events[2].seconds - 3600) < 1)
    end)

    it("is told of a listing's pages and of restore without a name", function()
        local world, client = world_of { "ok" }
        assert(client:list())
        assert(client:restore(nil, "blob"))
        assert.equal("attempt done attempt done", story(world))
        assert.same({ "list", "restore" }, { world.events[1].operation,
            world.events[3].operation })
        for _, event in ipairs(world.events) do assert.is_nil(event.name) end
    end)

    it("is told of each item of a batch", function()
        local world, client = world_of { "ok", refuse(503, "X"), "ok" }
        assert(client:backup_many(nil, { "a", "b", "c" }))
        local done = {}
        for _, event in ipairs(world:events_of "done") do done[event.name] = event.attempt end
        assert.same({ 3, 4 }, { done.a + done.b + done.c - 1, #world:events_of "attempt" })
        assert.equal(1, #world:events_of "retry")
    end)

    it("is told of calls for which nothing was sent", function()
        local world, client = world_of({ "ok" }, { credentials = {
            get = function() return nil, "nothing there" end } })
        client:backup(nil, "name")
        assert.equal("done", story(world))
        assert.same({ "credentials", 0 }, { world.events[1].kind, world.events[1].attempt })
    end)

    it("that raises ends the call with its error, and the client still works", function()
        local fails = true
        local world, client = world_of({ "ok" }, { on_event = function()
            if fails then error("no room for the log", 0) end
        end })
        local good, problem = pcall(client.backup, client, nil, "name")
        assert.same({ false, "no room for the log" }, { good, problem })
        good, problem = pcall(client.backup_many, client, nil, simulation.names(40))
        assert.same({ false, "no room for the log" }, { good, problem })
        assert.equal(0, world.in_flight)
        assert.equal(0, cases.in_flight(client))
        fails = false
        assert(client:backup(nil, "name"))
    end)

    it("may call the client", function()
        local client, asked
        local world = simulation.new(simulation.script { refuse(503, "X"), "ok" })
        client = world:client { on_event = function(event)
            if event.event == "retry" then asked = client:backup(nil, "from-the-event") end
        end }
        assert.equal(simulation.blob "name", client:backup(nil, "name"))
        assert.equal(simulation.blob "from-the-event", asked)
    end)
end)

describe("events", function()
    local SECRETS = { "CANARYSECRETKEY", "CANARYSECURITYTOKEN", "CANARYTOKEN", "CANARYBLOB",
        "CANARYACCESSKEY" }

    -- Every string in a value, or that it prints as.
    local function each_text(value, fn)
        fn(tostring(value))
        if type(value) ~= "table" then return end
        for key, item in pairs(value) do
            each_text(key, fn)
            each_text(item, fn)
        end
    end

    local function assert_clean(events)
        assert.is_true(#events > 0)
        each_text(events, function(text)
            for _, secret in ipairs(SECRETS) do
                assert.is_nil(text:find(secret, 1, true), text)
            end
        end)
    end

    local PROVIDERS = {
        keys = csms.credentials.static { ak = SECRETS[5], sk = SECRETS[1],
            security_token = SECRETS[2] },
        token = csms.credentials.token(SECRETS[3]),
    }

    -- Everything that a server could send back.
    local ECHO = table.concat(SECRETS, " ", 1, 3) .. " )CloudSecretManagementBackupV1"
        .. SECRETS[4]

    for which, provider in pairs(PROVIDERS) do
        it("hold no secret, even where the service sends them back: " .. which, function()
            local echoed = which == "keys" and ECHO:gsub(SECRETS[3], "") or ECHO
                :gsub(SECRETS[1], ""):gsub(SECRETS[2], "")
            local headers = { ["X-Request-Id"] = echoed }
            local world, client = world_of({
                refuse(503, "X " .. echoed, echoed, headers), refuse(429, echoed, echoed, headers),
                { status = 200, body = '{"secret_blob":"CANARYBLOB"}', headers = headers },
                refuse(500, "X", echoed), refuse(404, echoed, echoed, headers),
                { status = 200, body = echoed, headers = headers },
                refuse(401, "APIG.0307", echoed, headers),
            }, { credentials = provider })
            assert.equal("CANARYBLOB", client:backup(nil, "name"))
            client:restore(nil, "CANARYBLOB")
            client:show(nil, "name")
            client:backup_many(nil, { "a", "b" })
            client:list()
            assert.is_true(#world.requests >= 7)
            assert_clean(world.events)
        end)
    end

    it("would be found here if they did", function()
        assert.is_false((pcall(assert_clean, { { event = "x", code = { "a CANARYTOKEN b" } } })))
    end)
end)
