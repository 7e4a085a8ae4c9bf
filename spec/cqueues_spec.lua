-- The engine's thread under an event loop that is not nginx: cqueues.

local cases = require "spec.support.cases"
local core = require "csms.core"
local cqueues = require "cqueues"
local credentials = require "csms.credentials"
local emulator = require "spec.support.emulator"
local new_client = require("csms.client").new
local runtime = require "csms.runtime.cqueues"

local emu

setup(function() emu = emulator.start { secrets = 100 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

-- how_to_wait: of another client of the same loop, or nil.
local function client_of(changes, how_to_wait)
    local config = {
        endpoint = emu.endpoint, ca_file = emu.ca_file, project = emu.project,
        credentials = credentials.static { ak = emu.ak, sk = emu.sk }, retry = false,
    }
    for key, value in pairs(changes or {}) do config[key] = value or nil end
    return assert(new_client(config, how_to_wait or runtime.new()))
end

-- Runs the functions in one loop until all have ended.
local function run(...)
    local loop = cqueues.new()
    for index = 1, select("#", ...) do loop:wrap((select(index, ...))) end
    local seconds = cases.timed(function() assert(loop:loop(2 * cases.HELD)) end)
    assert.is_true(loop:empty())
    return seconds
end

describe("cqueues", function()
    it("makes a hundred calls at once, and goes on with other things meanwhile", function()
        emu:fault { operation = "backup", delay = 0.05, times = 0 }
        local client = client_of { timeout = cases.HELD }
        local done, ticks, most = 0, 0, 0
        local workers = {}
        for number = 1, 100 do
            workers[number] = function()
                assert(client:backup(nil, ("secret-%04d"):format(number)))
                done = done + 1
            end
        end
        workers[101] = function()
            while done < 100 do
                most = math.max(most, cases.in_flight(client))
                cqueues.sleep(0.001)
                ticks = ticks + 1
            end
        end
        local unpack = rawget(table, "unpack") or rawget(_G, "unpack")
        run(unpack(workers))
        assert.equal(100, done)
        assert.is_true(most > 50, most .. " at once")
        assert.is_true(ticks > 10, ticks .. " ticks")
    end)

    it("ends by itself when nothing is in flight, and starts again", function()
        local client = client_of()
        for _ = 1, 3 do
            local blob
            run(function() blob = client:backup(nil, "secret-0001") end)
            assert.is_string(blob)
        end
    end)

    it("waits before another attempt as the loop does: others go on", function()
        local waits, ticks, blob = false, 0, nil
        local client = client_of {
            retry = { attempts = 2 }, on_event = function(event) waits = event.event == "retry" end,
        }
        emu:fault { operation = "backup", status = 429, headers = { ["Retry-After"] = "1" } }
        run(function() blob = assert(client:backup(nil, "secret-0001")) end, function()
            while not blob do
                if waits and cases.in_flight(client) == 0 then ticks = ticks + 1 end
                cqueues.sleep(0.001)
            end
        end)
        assert.is_true(ticks > 0)
        assert.equal(2, #emu:requests "backup")
    end)

    it("runs batches, and cancels them when a callback fails", function()
        local client = client_of()
        local report
        run(function() report = client:backup_all() end)
        assert.equal(100, report.ok)
        emu:fault { operation = "backup", delay = 3 * cases.HELD, times = 0, after = 3 }
        local good, problem
        local seconds = run(function()
            good, problem = pcall(client.backup_all, client, nil, {
                on_result = function() error("boom", 0) end,
            })
        end)
        assert.same({ false, "boom" }, { good, problem })
        assert.is_true(seconds < cases.SOON)
    end)

    it("starts nothing of a batch within one that is cancelled: its report says so", function()
        local client = client_of()
        local waits, inner
        run(function()
            pcall(client.backup_all, client, nil, { on_result = function(name)
                if waits then error("boom") end
                if name ~= "secret-0002" then return end
                waits = true
                client.runtime:sleep(cases.HELD)
                inner = client:backup_many(nil, { "secret-0001", "secret-0002" })
            end })
        end)
        assert.same({ 2, 0, 2 }, { inner.total, inner.ok, inner.failed })
        assert.equal("cancelled", inner.errors["secret-0001"].kind)
    end)

    it("renews a token once", function()
        local client = client_of { credentials = credentials.password { domain = emu.domain,
            user = emu.user, password = emu.password, iam_endpoint = emu.iam_endpoint,
            project_id = emu.project } }
        local count, workers = 0, {}
        for number = 1, 20 do
            workers[number] = function()
                assert(client:backup(nil, "secret-0001"))
                count = count + 1
            end
        end
        local unpack = rawget(table, "unpack") or rawget(_G, "unpack")
        run(unpack(workers))
        assert.equal(20, count)
        assert.equal(1, #emu:requests "iam_token")
    end)

    it("raises an error of what calls share in the one that began it, and the others go on",
        function()
            local shared, began, joined = runtime.new(), false, false
            local good, problem, ended
            run(function()
                good, problem = pcall(shared.once, shared, "key", nil, function()
                    began = true
                    while not joined do cqueues.sleep(0.001) end
                    error("boom", 0)
                end)
            end, function()
                while not began do cqueues.sleep(0.001) end
                joined = true
                ended = shared:once("key", nil, error)
            end)
            assert.same({ false, "boom", true }, { good, problem, ended })
        end)

    it("looks a project up again for those who shared a look-up that on_event ended", function()
        local told, seen = 0, {}
        local client = client_of {
            region = "cn-north-4", iam_endpoint = emu.iam_endpoint,
            on_event = function(event)
                if event.operation ~= "projects" then return end
                told = told + 1
                if told == 1 then error("boom", 0) end
            end,
        }
        client.config.project = nil
        local function worker(number)
            return function()
                local good, blob = pcall(client.backup, client, nil, "secret-0001")
                seen[number] = good and type(blob) or blob
            end
        end
        run(worker(1), worker(2), worker(3))
        table.sort(seen)
        assert.same({ "boom", "string", "string" }, seen)
    end)

    it("bounds each call that shares the look-up of a project by its own deadline", function()
        local client = client_of { region = "cn-north-4", iam_endpoint = emu.iam_endpoint }
        client.config.project = nil
        emu:fault { operation = "iam_projects", delay = 1.5, times = 1 }
        local early, blob
        run(function()
            early = select(2, client:backup(nil, "secret-0001", { deadline = 0.5 }))
        end, function()
            cqueues.sleep(0.1)
            blob = client:backup(nil, "secret-0001", { deadline = 60 })
        end)
        assert.same({ "timeout", "the deadline of 0.5 s has passed",
            "the project was being looked up", false },
            { early.kind, early.message, early.cause, early.retryable })
        assert.is_string(blob)
        assert.equal(1, #emu:requests "iam_projects")
    end)

    it("bounds each call that shares a renewal by its own deadline", function()
        local client = client_of { credentials = credentials.password { domain = emu.domain,
            user = emu.user, password = emu.password, iam_endpoint = emu.iam_endpoint,
            project_id = emu.project } }
        emu:fault { operation = "iam_token", delay = 1.5, times = 1 }
        local results = {}
        local function worker(number, pause, deadline)
            return function()
                cqueues.sleep(pause)
                local blob, err = client:backup(nil, "secret-0001", { deadline = deadline })
                results[number] = blob and "ok" or err.message
            end
        end
        run(worker(1, 0, 0.5), worker(2, 0.1, 60), worker(3, 0.1, 0.3))
        assert.same({ "the deadline of 0.5 s has passed", "ok",
            "the deadline of 0.3 s has passed" }, results)
        assert.equal(1, #emu:requests "iam_token")
    end)

    for operation, changes in pairs {
        iam_token = function()
            return { credentials = credentials.password { domain = emu.domain, user = emu.user,
                password = emu.password, iam_endpoint = emu.iam_endpoint,
                project_id = emu.project } }
        end,
        iam_projects = function()
            return { project = false, region = "cn-north-4", iam_endpoint = emu.iam_endpoint }
        end,
    } do
        it("cancels nothing that a batch shares with others, " .. operation, function()
            local shared = client_of(changes())
            local other = client_of({}, shared.runtime)
            emu:fault { operation = operation, delay = cases.HELD, times = 1 }
            local joined, problem, blob
            local seconds = run(function()
                other:backup(nil, "secret-0001") -- or the batch's first one went alone
                problem = select(2, pcall(other.backup_many, other, nil,
                    { "secret-0001", "secret-0002" }, { on_result = function(name)
                        if name == "secret-0001" then return shared:backup(nil, name) end
                        while not joined do cqueues.sleep(0.01) end
                        error("boom", 0)
                    end }))
            end, function()
                while #emu:requests(operation) == 0 do cqueues.sleep(0.01) end
                cqueues.running():wrap(function() joined = true end) -- once this one waits
                blob = shared:backup(nil, "secret-0001")
            end)
            assert.equal("boom", problem)
            assert.is_string(blob)
            assert.is_true(seconds < cases.SOON)
            assert.equal(2, #emu:requests(operation))
        end)
    end

    it("tells of errors, and of calls outside of a loop", function()
        local client = client_of()
        local err
        run(function() err = select(2, client:backup(nil, "nope")) end)
        assert.equal("not_found", err.kind)
        cases.failure("config", client:backup(nil, "secret-0001"))
        run(function()
            local _ = ("a"):gsub("a", function()
                err = select(2, client:backup(nil, "secret-0001"))
            end)
        end)
        assert.equal("config", err.kind)
        assert.matches("make the call outside of it", err.message, 1, true)
        run(function()
            err = select(2, coroutine.wrap(function()
                return client:backup(nil, "secret-0001")
            end)())
        end)
        assert.equal("config", err.kind)
        assert.matches("loop:wrap", err.message, 1, true)
        local config = client_of { endpoint = emu.endpoint, timeout = 0.2 }
        emu:fault { operation = "backup", delay = cases.HELD }
        run(function() err = select(2, config:backup(nil, "secret-0001")) end)
        assert.equal("timeout", err.kind)
    end)

    it("leaves the blocking runtime its own way", function()
        assert.is_function(core.step)
        assert.is_string(cases.client(emu):backup(nil, "secret-0001"))
    end)
end)
