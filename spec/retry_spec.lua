-- Retry: what is tried again, after how long, and what it costs. Time is simulated, but for the
-- last block, where a connection of the emulator really dies.

local cases = require "spec.support.cases"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local simulation = require "spec.support.simulation"

local failure = cases.failure
local refuse = simulation.refuse

local function error_of(kind, fields)
    local answer = { error = { kind = kind }, port = 4000 }
    for key, value in pairs(fields or {}) do
        if key == "retryable" then answer.error.retryable = value else answer[key] = value end
    end
    return answer
end

local BUSY = refuse(503, "APIG.0613")
local SLOW_DOWN = refuse(429, "APIG.0308")
local RESET = error_of "network"

-- A world whose service gives these answers in turn, and a client in it.
local function world_of(answers, config, seed)
    local world = simulation.new(simulation.script(answers), { seed = seed })
    return world, world:client(config)
end

-- Some answers, the first one so often.
local function times(count, answer, last)
    local answers = {}
    for index = 1, count do answers[index] = answer end
    answers[count + 1] = last
    return answers
end

local function backup(client, opts)
    return client:backup(nil, "name", opts)
end

-- All waits before the count-th retry, over calls with as many seeds.
local function waits_before(count, answer, config)
    local waits = {}
    for seed = 1, 200 do
        local world, client = world_of({ answer }, config, seed)
        backup(client)
        waits[seed] = world:events_of("retry")[count].wait
    end
    table.sort(waits)
    return waits
end

-- Full jitter: anything from 0 to the bound, each as likely.
local function assert_full_jitter(waits, bound)
    local sum = 0
    for _, wait in ipairs(waits) do sum = sum + wait end
    assert.is_true(waits[1] >= 0 and waits[1] < bound * 0.05)
    assert.is_true(waits[#waits] < bound and waits[#waits] > bound * 0.95)
    assert.is_true(math.abs(sum / #waits - bound / 2) < bound * 0.07)
end

describe("a single call", function()
    local REPEATED = {
        ["429"] = SLOW_DOWN, ["500"] = refuse(500), ["502"] = refuse(502), ["503"] = BUSY,
        ["504"] = refuse(504), ["408"] = refuse(408), ["599"] = refuse(599),
        ["a reset"] = RESET, ["no connection"] = error_of("network", { sent = false, port = 0 }),
        ["a failed handshake"] = error_of("tls", { sent = false }),
        ["a 200 that is no JSON"] = { status = 200, body = "<html>" },
    }
    for what, answer in pairs(REPEATED) do
        it("is tried four times against " .. what, function()
            local world, client = world_of { answer }
            local blob, err = backup(client)
            assert.is_nil(blob)
            assert.same({ 4, 4 }, { err.attempts, #world.requests })
            assert.is_true(err.retryable)
        end)

        it("succeeds in its last attempt after " .. what, function()
            local world, client = world_of(times(3, answer, "ok"))
            assert.equal(simulation.blob "name", backup(client))
            assert.equal(4, #world.requests)
        end)
    end

    local FINAL = {
        ["400"] = refuse(400, "CSMS.0002"), ["403"] = refuse(403, "APIG.0302"),
        ["404"] = refuse(404, "APIG.0101"), ["409"] = refuse(409, "X.1"),
        ["a secret in no usable state"] = refuse(400, "CSMS.0107"),
        ["a missing secret"] = refuse(400, "CSMS.0106"),
        ["a bad signature"] = refuse(401, "APIG.0301"), ["a redirect"] = { status = 302 },
        ["a 200 without a blob"] = { status = 200, body = "{}" },
        ["a 201 that is no JSON"] = { status = 201, body = "" },
        ["a certificate that does not verify"] =
            error_of("tls", { sent = false, retryable = false }),
        ["too large an answer"] = error_of("protocol", { retryable = false }),
    }
    for what, answer in pairs(FINAL) do
        it("is tried once against " .. what, function()
            local world, client = world_of { answer, "ok" }
            local blob, err = backup(client)
            assert.is_nil(blob)
            assert.same({ 1, 1 }, { err.attempts, #world.requests })
            assert.equal(0, #world:events_of "retry")
        end)
    end

    it("is tried again where one attempt's time runs out", function()
        local world, client = world_of({ { status = 200, body = "{}", delay = 50 }, "ok" },
            { timeout = 3 })
        assert.is_string(backup(client))
        assert.equal(2, #world.requests)
        assert.is_true(world:elapsed() > 3 and world:elapsed() < 3.1)
    end)

    it("fails with the last error, not with the first", function()
        local _, client = world_of { BUSY, RESET, SLOW_DOWN, refuse(404, "X.1") }
        local err = failure("not_found", backup(client))
        assert.equal(4, err.attempts)
        assert.same({ simulation.PROJECT, "name" }, { err.project, err.name })
    end)

    it("ends at once where a retry meets an error that is final", function()
        local world, client = world_of { BUSY, refuse(403, "X.1"), "ok" }
        assert.equal(2, failure("denied", backup(client)).attempts)
        assert.equal(2, #world.requests)
    end)

    it("sends nothing where the wait for its turn took longer than it was to", function()
        local world, client = world_of({ "ok", "ok" }, { rate = 1 })
        assert(backup(client))
        local sleep = world.runtime.sleep
        world.runtime.sleep = function(self, seconds) return sleep(self, seconds + 5) end
        local err = failure("timeout", backup(client, { deadline = 2 }))
        assert.same({ "the deadline of 2 s has passed", 0 }, { err.message, err.attempts })
        assert.is_nil(err.cause)
        assert.equal(1, #world.requests)
    end)

    it("signs each attempt anew", function()
        local world, client = world_of({ BUSY, BUSY, "ok" }, { retry = { base = 100, cap = 100 } })
        assert(backup(client))
        local first, last = world.requests[1], world.requests[3]
        assert.is_true(last.at - first.at > 5)
        assert.is_true(math.abs(last.time - first.time - (last.submitted - first.submitted)) < 0.01)
    end)

    it("shows and lists with the same retries", function()
        local world, client = world_of { BUSY, SLOW_DOWN, "ok", BUSY, RESET, "ok" }
        assert.equal("name", client:show(nil, "name").name)
        assert.same({}, client:list())
        assert.equal(6, #world.requests)
    end)
end)

describe("the wait before a retry", function()
    it("has full jitter from 0.05 s on, doubling, for transient faults", function()
        for count, bound in ipairs { 0.05, 0.1, 0.2 } do
            assert_full_jitter(waits_before(count, BUSY), bound)
            assert_full_jitter(waits_before(count, RESET), bound)
        end
    end)

    it("has full jitter from 1 s on, doubling, for throttling", function()
        for count, bound in ipairs { 1, 2, 4 } do
            assert_full_jitter(waits_before(count, SLOW_DOWN), bound)
        end
    end)

    it("is bounded by cap", function()
        local retry = { attempts = 12, cap = 0.3, budget = 1000 }
        assert_full_jitter(waits_before(1, SLOW_DOWN, { retry = retry }), 0.3)
        assert_full_jitter(waits_before(4, BUSY, { retry = retry }), 0.3)
        assert_full_jitter(waits_before(11, BUSY, { retry = retry }), 0.3)
    end)

    it("follows the configured bases", function()
        local retry = { base = 3, throttle_base = 0.2 }
        assert_full_jitter(waits_before(2, BUSY, { retry = retry }), 6)
        assert_full_jitter(waits_before(2, SLOW_DOWN, { retry = retry }), 0.4)
    end)

    it("counts throttling and faults apart", function()
        local waits = {}
        for seed = 1, 200 do
            local world, client = world_of({ BUSY, BUSY, SLOW_DOWN, "ok" }, nil, seed)
            assert(backup(client))
            waits[seed] = world:events_of("retry")[3].wait
        end
        table.sort(waits)
        assert_full_jitter(waits, 1)
    end)

    it("is nothing where base is 0", function()
        local world, client = world_of({ BUSY, BUSY, BUSY, "ok" }, { retry = { base = 0 } })
        assert(backup(client))
        assert.is_true(world:elapsed() < 0.05)
    end)
end)

describe("a stated wait", function()
    local function throttled(headers, text)
        headers.Date = headers.Date or simulation.http_date(1795276800)
        return refuse(429, "APIG.0308", text or "slow down", headers)
    end

    local STATED = {
        { "Retry-After in seconds", throttled { ["Retry-After"] = "7" }, 7 },
        { "Retry-After as a date", throttled {
            ["Retry-After"] = simulation.http_date(1795276800 + 9) }, 9 },
        { "a window of a second", throttled({}, "limit:20,time:1 second"), 1 },
        { "a window of seconds", throttled({}, "limit:5,time:5 second"), 5 },
        { "a window of a minute", throttled({}, "policy user over ratelimit,limit:60,"
            .. "time:1 minute"), 60 },
        { "a limit alone", throttled({}, "limit:10"), 1 },
        { "Retry-After beside a window", throttled({ ["Retry-After"] = "3" },
            "limit:60,time:1 minute"), 3 },
    }
    for _, case in ipairs(STATED) do
        it("is obeyed and not shortened by cap: " .. case[1], function()
            local world, client = world_of({ case[2], "ok" }, { retry = { cap = 0.01 } })
            assert(backup(client))
            local pause = world.requests[2].submitted - world.requests[1].at
            assert.is_true(pause >= case[3] and pause < case[3] + 0.1)
        end)
    end

    it("holds back the client's other calls too", function()
        local world, client = world_of({ throttled { ["Retry-After"] = "7" }, "ok" },
            { retry = { attempts = 1 } })
        failure("throttled", backup(client))
        assert(backup(client))
        assert.is_true(world.requests[2].at - world.requests[1].at >= 7)
    end)

    it("that is longer than the deadline ends the call at once", function()
        local world, client = world_of({ throttled { ["Retry-After"] = "60" }, "ok" })
        local err = failure("throttled", backup(client, { deadline = 30 }))
        assert.same({ 429, 1, 1 }, { err.status, err.attempts, #world.requests })
        assert.is_true(world:elapsed() < 0.05)
    end)

    it("that is longer than the deadline takes nothing from the budget", function()
        local _, client = world_of({ throttled { ["Retry-After"] = "60" }, "ok" })
        failure("throttled", backup(client, { deadline = 30 }))
        assert.equal(500, client.budget.tokens)
    end)

    it("that is longer than the deadline makes no event of a retry", function()
        local world, client = world_of({ throttled { ["Retry-After"] = "60" }, "ok" })
        failure("throttled", backup(client, { deadline = 30 }))
        assert.equal(0, #world:events_of "retry")
    end)

    it("keeps the next call from being sent where its deadline comes before", function()
        local world, client = world_of({ throttled { ["Retry-After"] = "60" }, "ok" },
            { retry = { attempts = 1 } })
        failure("throttled", backup(client))
        local err = failure("throttled", backup(client, { deadline = 30 }))
        assert.same({ 0, 1 }, { err.attempts, #world.requests })
        assert.is_true(world:elapsed() < 0.05)
    end)
end)

describe("Retry-After of a service that fails", function()
    local function busy(seconds, status)
        return refuse(status or 503, "APIG.0613", "limit:20", { ["Retry-After"] = seconds })
    end

    it("is obeyed and not shortened by cap", function()
        for _, status in ipairs { 500, 502, 503, 408 } do
            local world, client = world_of({ busy("7", status), "ok" }, { retry = { cap = 0.01 } })
            assert(backup(client))
            local pause = world.requests[2].submitted - world.requests[1].at
            assert.is_true(pause >= 7 and pause < 7.1)
        end
    end)

    it("holds everybody back, and says nothing of a limit", function()
        local answers = { busy "30", "ok" }
        answers[1].delay = 0.1
        local world, client = world_of(answers)
        assert(backup(client))
        local report = assert(client:backup_many(nil, simulation.names(100)))
        assert.same({ 100, 0 }, { report.ok, report.throttled })
        assert.is_true(world:elapsed() < 32)
        world.service = function(request)
            -- the others are on their way meanwhile, and get through
            return request.number % 50 == 0 and busy "30" or simulation.serve(request)
        end
        report = assert(client:backup_many(nil, simulation.names(100)))
        assert.equal(100, report.ok)
        for index = 2, #world.requests do
            local before = world.requests[index - 1]
            if before.status == 503 then
                assert.is_true(world.requests[index].submitted < before.at + 0.02
                    or world.requests[index].submitted >= before.at + 30)
            end
        end
        assert.is_nil(client.limiter.pace)
    end)

    it("that is longer than the deadline ends the call at once, and the next one unsent", function()
        local world, client = world_of({ busy "60", "ok" })
        assert.equal(1, failure("service", backup(client, { deadline = 30 })).attempts)
        assert.equal(0, failure("service", backup(client, { deadline = 30 })).attempts)
        assert.equal(0, #world:events_of "retry")
        assert.is_true(world:elapsed() < 0.05)
    end)

    it("of more than 15 minutes ends a batch without a deadline", function()
        local world, client = world_of({ "ok", busy "901" })
        local report = assert(client:backup_many(nil, simulation.names(100)))
        assert.same({ 1, 99 }, { report.ok, report.failed })
        assert.is_true(world:elapsed() < 60)
    end)

    it("of more than 15 minutes holds others back for 15", function()
        local world, client = world_of({ busy "86400", "ok" })
        failure("service", backup(client))
        failure("service", backup(client))
        assert.equal(1, #world.requests)
        world.runtime:sleep(901)
        assert(backup(client))
        assert.equal(2, #world.requests)
        world, client = world_of({ busy "86400", "ok" })
        failure("service", backup(client))
        assert.equal(100, assert(client:backup_many(nil, simulation.names(100))).ok)
        assert.is_true(world:elapsed() > 899 and world:elapsed() < 902)
    end)

    it("is that attempt's alone", function()
        local world, client = world_of { busy "7", error_of("network", { sent = false }), "ok" }
        assert(backup(client))
        assert.is_true(world:elapsed() < 7 + 1)
        local kept = assert(csms.credentials.static { ak = "AK", sk = "SK" }:get())
        local asked = 0
        world, client = world_of({ busy "7", "ok" }, { credentials = { get = function()
            asked = asked + 1
            return asked ~= 2 and kept or nil, "the vault is sealed"
        end } })
        failure("credentials", backup(client))
        assert(backup(client))
        assert.is_true(world:elapsed() < 7 + 1)
    end)
end)

describe("a limit of IAM's", function()
    -- A client whose project IAM knows, once it has refused to say so.
    local function world_with_iam(refusal)
        local asked = 0
        local world = simulation.new(function(request)
            if not request.target:find("/v3/projects", 1, true) then
                return simulation.serve(request)
            end
            asked = asked + 1
            if asked == 1 then return refusal end
            return { status = 200, body = ('{"projects":[{"id":"%s"}]}')
                :format(simulation.PROJECT) }
        end)
        local client = world:client { region = "cn-north-4" }
        client.config.project = nil
        return world, client
    end

    it("is obeyed by the call that asks IAM, and teaches the service's pace nothing", function()
        local world, client = world_with_iam(refuse(429, "APIG.0308", "limit:1,time:1 minute"))
        assert(client:show(nil, "name"))
        assert.is_true(world.requests[2].submitted - world.requests[1].at >= 60)
        assert.is_nil(client.limiter.pace)
        assert.equal(100, assert(client:backup_many(nil, simulation.names(100))).ok)
        assert.is_true(world:elapsed() < 70)
    end)

    it("that lets a call through teaches the service's pace nothing either", function()
        local _, client = world_with_iam(refuse(500, "X"))
        assert.equal(simulation.PROJECT, client:project_id())
        assert.equal(0, client.limiter.succeeded_at)
    end)

    it("holds back no call that needs no answer of IAM's", function()
        local world, client = world_with_iam(refuse(429, "APIG.0308", "limit:1,time:1 day"))
        failure("throttled", client:show(nil, "name"))
        assert(client:show(simulation.PROJECT, "name"))
        assert.is_true(world:elapsed() < 1)
    end)
end)

describe("the deadline", function()
    it("ends an attempt that is on its way", function()
        local world, client = world_of { { status = 200, body = "{}", delay = 1000 } }
        local err = failure("timeout", backup(client, { deadline = 5 }))
        assert.is_false(err.retryable)
        assert.matches("deadline", err.message)
        assert.equal(1, err.attempts)
        assert.is_true(math.abs(world:elapsed() - 5) < 0.01)
    end)

    it("bounds the time of each attempt", function()
        local world, client = world_of({ { status = 200, body = "{}", delay = 1000 } },
            { timeout = 2, deadline = 5, retry = { base = 0 } })
        failure("timeout", backup(client))
        local timeouts = {}
        for index, request in ipairs(world.requests) do timeouts[index] = request.timeout end
        assert.same({ 2, 2, 1 }, timeouts)
    end)

    it("counts the waits between attempts", function()
        local world, client = world_of({ BUSY }, { deadline = 5,
            retry = { attempts = 1000, base = 0.5, cap = 1, budget = 100000 } })
        local err = failure("service", backup(client))
        assert.is_true(err.attempts > 5)
        assert.is_true(world:elapsed() <= 5.02 and world:elapsed() > 4)
    end)

    it("ends a call at once whose next wait would be longer", function()
        local ended_early = false
        for seed = 1, 20 do
            local world, client = world_of({ BUSY }, { deadline = 10,
                retry = { attempts = 1000, base = 100, cap = 100 } }, seed)
            assert.equal(503, failure("service", backup(client)).status)
            assert.is_true(world:elapsed() < 10.02)
            ended_early = ended_early or world:elapsed() < 1
        end
        assert.is_true(ended_early)
    end)

    it("is one for all pages of a listing", function()
        local page = '{"secrets":[{"name":"n%d"}],"page_info":{"next_marker":"n%d"}}'
        local world
        world = simulation.new(function(request)
            return { status = 200, body = page:format(request.number, request.number), delay = 2 }
        end)
        failure("timeout", world:client():list(nil, { deadline = 11 }))
        assert.is_true(math.abs(world:elapsed() - 11) < 0.01)
        assert.equal(6, #world.requests)
    end)

    it("of the opts wins over the config's", function()
        local world, client = world_of({ { status = 200, delay = 1000 } }, { deadline = 5 })
        failure("timeout", backup(client, { deadline = 7 }))
        assert.is_true(math.abs(world:elapsed() - 7) < 0.01)
    end)
end)

describe("retry", function()
    it("false means one attempt, whatever goes wrong", function()
        for _, answer in ipairs { BUSY, SLOW_DOWN, RESET, refuse(401, "APIG.0307"),
            refuse(401, "APIG.0303", "clock", { Date = simulation.http_date(1795280400) }) } do
            local world, client = world_of({ answer, "ok" }, { retry = false })
            local blob, err = backup(client)
            assert.is_nil(blob)
            assert.same({ 1, 1 }, { err.attempts, #world.requests })
            assert.equal(0, client.auth.offset)
            assert.equal(500, client.budget.tokens)
        end
    end)

    it("of the opts changes what it names and nothing else", function()
        local world, client = world_of({ BUSY }, { retry = { attempts = 6, base = 0 } })
        assert.equal(2, failure("service", backup(client, { retry = { attempts = 2 } })).attempts)
        assert.is_true(world:elapsed() < 0.05)
        assert.equal(6, failure("service", backup(client)).attempts)
        assert.equal(6, failure("service", backup(client, { retry = { cap = 1 } })).attempts)
    end)

    it("of the opts can switch it off and on", function()
        local _, on = world_of { BUSY }
        assert.equal(1, failure("service", backup(on, { retry = false })).attempts)
        assert.equal(4, failure("service", backup(on)).attempts)
        local _, off = world_of({ BUSY }, { retry = false })
        assert.equal(4, failure("service", backup(off, { retry = {} })).attempts)
        assert.equal(3, failure("service", backup(off, { retry = { attempts = 3 } })).attempts)
    end)
end)

describe("the budget of a client", function()
    -- What is left of it each time that a retry begins.
    local function levels(answers, config)
        local seen, client = {}, nil
        local world = simulation.new(simulation.script(answers))
        config = config or {}
        config.on_event = function(event)
            if event.event == "retry" then seen[#seen + 1] = client.budget.tokens end
        end
        client = world:client(config)
        return seen, client, world
    end

    it("pays 14 for a transient retry and 5 for a throttled one", function()
        local seen, client = levels { BUSY, SLOW_DOWN, RESET, BUSY }
        failure("service", backup(client))
        assert.same({ 486, 481, 467 }, seen)
        assert.equal(467, client.budget.tokens)
    end)

    it("gets back what a retry cost that succeeds, and 1 for a first try", function()
        local seen, client = levels { BUSY, "ok", BUSY, BUSY, BUSY, "ok", "ok" }
        assert(backup(client))
        assert.equal(500, client.budget.tokens)
        assert(backup(client))
        assert.same({ 486, 486, 472, 458 }, seen)
        assert.equal(472, client.budget.tokens)
        assert(backup(client))
        assert.equal(473, client.budget.tokens)
    end)

    it("is never more than it began with", function()
        local _, client = levels({ "ok" }, { retry = { budget = 30 } })
        for _ = 1, 5 do assert(backup(client)) end
        assert.equal(30, client.budget.tokens)
    end)

    it("that is empty fails a single call with its last error", function()
        local _, client, world = levels({ BUSY, RESET, BUSY }, { retry = { budget = 20 } })
        assert.equal(2, failure("network", backup(client)).attempts)
        assert.equal(1, failure("service", backup(client)).attempts)
        assert.equal(3, #world.requests)
        assert.equal(6, client.budget.tokens)
    end)

    it("of a client with none allows no retry", function()
        local _, client = levels({ BUSY }, { retry = { budget = 0 } })
        assert.equal(1, failure("service", backup(client)).attempts)
    end)

    it("comes back with successes", function()
        local answers = times(3, BUSY, "ok")
        for index = 5, 16 do answers[index] = "ok" end
        answers[17], answers[18] = BUSY, "ok"
        local _, client = levels(answers, { retry = { budget = 14, attempts = 2 } })
        failure("service", backup(client))
        failure("service", backup(client))
        for _ = 1, 12 do assert(backup(client)) end
        assert.equal(12, client.budget.tokens)
        for _ = 1, 1 do assert(backup(client)) end
        failure("service", backup(client))
    end)
end)

describe("a connection that dies under many calls", function()
    -- The tokens that each charge took, in a batch of 200 at 64 whose requests fail so.
    local function charges(service)
        local world = simulation.new(service)
        local client = world:client()
        assert(client:backup(nil, "first"))
        local taken = {}
        local charge = client.budget.charge
        client.budget.charge = function(...)
            local cost = charge(...)
            taken[#taken + 1] = cost
            return cost
        end
        local report = assert(client:backup_many(nil, simulation.names(200), { concurrency = 64 }))
        assert.equal(200, report.ok)
        local sum = 0
        for _, cost in ipairs(taken) do sum = sum + cost end
        return sum, #taken
    end

    it("is charged once", function()
        local sum, retries = charges(function(request)
            if request.number > 1 and request.number <= 65 then return RESET end
            return simulation.serve(request)
        end)
        assert.same({ 14, 64 }, { sum, retries })
    end)

    it("is charged once for each connection", function()
        local sum, retries = charges(function(request)
            if request.number > 1 and request.number <= 65 then
                return error_of("network", { port = 4000 + request.number % 3 })
            end
            return simulation.serve(request)
        end)
        assert.same({ 3 * 14, 64 }, { sum, retries })
    end)

    it("is charged for each call where no port tells connections apart", function()
        local sum, retries = charges(function(request)
            if request.number > 1 and request.number <= 11 then
                return error_of("network", { port = 0, sent = false })
            end
            return simulation.serve(request)
        end)
        assert.same({ 10 * 14, 10 }, { sum, retries })
    end)
end)

describe("restore", function()
    -- How often the service was asked, and the result.
    local function restores(answer, config)
        local world, client = world_of({ answer, "ok" }, config)
        local secret, err = client:restore(nil, "blob")
        return #world.requests, secret, err, world
    end

    local NOT_ACTED = {
        ["no connection came about"] = error_of("network", { sent = false, port = 0 }),
        ["the connect timed out"] = error_of("timeout", { sent = false, port = 0 }),
        ["the handshake failed"] = error_of("tls", { sent = false }),
        ["it was throttled"] = SLOW_DOWN,
    }
    for why, answer in pairs(NOT_ACTED) do
        it("is tried again where " .. why, function()
            local count, secret = restores(answer)
            assert.same({ 2, "restored" }, { count, secret and secret.name })
        end)
    end

    it("is tried again after a 401 to a stale credential", function()
        local current = assert(csms.credentials.token "old":get())
        local provider = { get = function(_, refused)
            if refused then current = csms.credentials.token "new":get() end
            return current
        end }
        local count, secret = restores(refuse(401, "APIG.0307"), { credentials = provider })
        assert.same({ 2, "restored" }, { count, secret and secret.name })
    end)

    it("is tried again after a 401 to a clock that is off", function()
        local count, secret = restores(refuse(401, "APIG.0303", "clock",
            { Date = simulation.http_date(1795276800 + 7200) }))
        assert.same({ 2, "restored" }, { count, secret and secret.name })
    end)

    local PERHAPS_ACTED = {
        ["the connection was reset after it was sent"] = RESET,
        ["the answer was cut"] = error_of("network", { delay = 0.1 }),
        ["the service answered 500"] = refuse(500), ["the service answered 502"] = refuse(502),
        ["the service answered 503"] = BUSY, ["the service answered 504"] = refuse(504),
        ["the service answered 408"] = refuse(408),
        ["its time ran out after it was sent"] = { status = 200, body = "{}", delay = 100 },
        ["a 200 is no JSON"] = { status = 200, body = "<html>" },
    }
    for why, answer in pairs(PERHAPS_ACTED) do
        it("is not tried again where " .. why, function()
            local count, secret, err, world = restores(answer)
            assert.is_nil(secret)
            assert.same({ 1, 1 }, { count, err.attempts })
            assert.equal(0, #world:events_of "retry")
        end)
    end

    it("is not tried again where a retry may have acted", function()
        local world, client = world_of { SLOW_DOWN, RESET, "ok" }
        assert.equal(2, failure("network", client:restore(nil, "blob")).attempts)
        assert.equal(2, #world.requests)
    end)

    it("goes over a fresh connection, and nothing else does", function()
        local world, client = world_of { SLOW_DOWN, "ok" }
        assert(client:restore(nil, "blob"))
        assert(backup(client))
        assert(client:list())
        local fresh = {}
        for index, request in ipairs(world.requests) do fresh[index] = request.fresh or false end
        assert.same({ true, true, false, false }, fresh)
    end)
end)

describe("restore over the wire", function()
    local emu

    setup(function() emu = emulator.start { secrets = 5 } end)
    teardown(function() emu:stop() end)
    before_each(function() emu:reset() end)

    local function deleted_blob(client)
        local blob = assert(client:backup(nil, "secret-0001"))
        emu:delete "secret-0001"
        return blob
    end

    for protocol, field in pairs { ["HTTP/2"] = "endpoint", ["HTTP/1.1"] = "http1_endpoint" } do
        local function open()
            return cases.client(emu, { endpoint = emu[field], retry = { base = 0 } })
        end

        for _, way in ipairs { "stream", "connection", "reset" } do
            it(("arrives once where its connection dies: %s, %s"):format(protocol, way), function()
                local client = open()
                local blob = deleted_blob(client)
                emu:fault { operation = "restore", act = true, close = way, times = 0 }
                local err = failure("network", client:restore(nil, blob))
                assert.equal(1, err.attempts)
                assert.equal(1, #emu:requests "restore")
                assert.is_table(emu:secret "secret-0001")
            end)
        end

        it("arrives once where its answer is cut: " .. protocol, function()
            local client = open()
            local blob = deleted_blob(client)
            emu:fault { operation = "restore", truncate = 20, close = "connection", times = 0 }
            failure("network", client:restore(nil, blob))
            assert.equal(1, #emu:requests "restore")
        end)

        it("arrives once after the connection in use was killed: " .. protocol, function()
            local client = open()
            local blob = deleted_blob(client)
            assert.is_true(emu:kill_connections() >= 1)
            assert.equal("secret-0001", assert(client:restore(nil, blob)).name)
            assert.equal(1, #emu:requests "restore")
        end)

        it("arrives again where the service said 429: " .. protocol, function()
            local client = open()
            local blob = deleted_blob(client)
            emu:fault { operation = "restore", status = 429, headers = { ["Retry-After"] = "0" } }
            assert(client:restore(nil, blob))
            assert.equal(2, #emu:requests "restore")
        end)
    end

    it("waits for a service that is down and then arrives once", function()
        local client = cases.client(emu, { retry = { attempts = 2, base = 0 } })
        local blob = deleted_blob(client)
        emu:down()
        local err = failure("network", client:restore(nil, blob))
        assert.equal(2, err.attempts)
        emu:up()
        emu:delete "secret-0001"
        assert(client:restore(nil, blob))
        assert.equal(1, #emu:requests "restore")
    end)
end)
