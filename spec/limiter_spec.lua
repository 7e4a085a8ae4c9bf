-- The limiter: what it makes of a limit that it does not know, through a real batch in simulated
-- time, and its parts alone.

local limiter = require "csms.limiter"
local simulation = require "spec.support.simulation"

local SEEDS = 3

local function status_counts(requests, from, to)
    local good, refused = 0, 0
    for _, request in ipairs(requests) do
        if request.at >= from and request.at < to then
            if request.status == 200 then good = good + 1 else refused = refused + 1 end
        end
    end
    return good, refused
end

-- From when to when is measured: whole windows, from the first that begins five seconds after
-- the start; without windows from then on to the last success. `skipped` windows are left out.
local function span(world, limit, skipped)
    local requests = world.requests
    local from = requests[1].at + 5 + skipped * limit.seconds
    if limit.window == "bucket" then
        local last = #requests
        while requests[last].status ~= 200 do last = last - 1 end
        return from, requests[last].at
    end
    local first
    for _, began in ipairs(limit.began) do
        if began >= from then first = first or began end
    end
    return first, limit.began[#limit.began]
end

-- {used, refused}: the share of the permitted rate that got through, and that of 429s.
local function measure(case, window, states, seed)
    local limit = simulation.limit {
        requests = case.requests, seconds = case.seconds, window = window, states = states,
        seed = seed,
    }
    local world = simulation.new(function(request, now)
        return limit.check(now) or simulation.serve(request)
    end, { seed = seed + 100, latency = 0.01 })
    local client = world:client { on_event = function() end }
    local report = assert(client:backup_many(nil, simulation.names(case.names)))
    assert.same({ case.names, 0 }, { report.ok, report.failed })
    for name, blob in pairs(report.blobs) do assert.equal(simulation.blob(name), blob) end
    local from, to = span(world, limit, window == "first" and 0 or case.skipped)
    local good, refused = status_counts(world.requests, from, to)
    return good / ((to - from) * case.requests / case.seconds), refused / (good + refused)
end

local function median(values)
    table.sort(values)
    return values[math.ceil(#values / 2)]
end

describe("a batch against a limit", function()
    -- skipped: a stated minute is obeyed in full, so that it takes in most of the next window
    -- where windows do not begin with the first request.
    local LIMITS = {
        { what = "20 a second", requests = 20, seconds = 1, names = 700, skipped = 0 },
        { what = "100 a second", requests = 100, seconds = 1, names = 2000, skipped = 0 },
        { what = "60 a minute", requests = 60, seconds = 60, names = 600, skipped = 2 },
    }
    local LEAST = { text = 0.9, retry_after = 0.9, date = 0.9, both = 0.9, none = 0.75 }

    for _, case in ipairs(LIMITS) do
        -- The windows that the emulator has, and the gateway's documents suggest: every seed.
        for states, least in pairs(LEAST) do
            it(("of %s uses it and loses nothing: stated by %s"):format(case.what, states),
                function()
                    for seed = 1, SEEDS do
                        local used, refused = measure(case, "first", states, seed)
                        assert.is_true(used >= least, "used " .. used)
                        assert.is_true(used <= 1.01, "used " .. used)
                        assert.is_true(refused <= 0.05, "refused " .. refused)
                    end
                end)
        end

        -- Others: medians, and no bound for the refusals by a minute that nothing states.
        for _, window in ipairs { "phase", "bucket" } do
            for states, least in pairs(LEAST) do
                it(("of %s (%s) uses it and loses nothing: stated by %s")
                    :format(case.what, window, states), function()
                    local used, refused = {}, {}
                    for seed = 1, SEEDS do
                        used[seed], refused[seed] = measure(case, window, states, seed)
                    end
                    assert.is_true(median(used) >= least, "used " .. median(used))
                    if states ~= "none" or case.seconds == 1 then
                        assert.is_true(median(refused) <= 0.05, "refused " .. median(refused))
                    end
                end)
            end
        end
    end

    it("that says Retry-After: 0 is not asked without end", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "none" }
        local world = simulation.new(function(request, now)
            local refusal = limit.check(now)
            if refusal then refusal.headers["Retry-After"] = "0" end
            return refusal or simulation.serve(request)
        end)
        local report = assert(world:client():backup_many(nil, simulation.names(400)))
        assert.equal(400, report.ok)
        local good, refused = status_counts(world.requests, world.requests[1].at + 5, math.huge)
        assert.is_true(refused <= 0.1 * good, ("%d refused, %d good"):format(refused, good))
    end)

    it("that said Retry-After: 0 once is still found", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "none" }
        local once = true
        local world = simulation.new(function(request, now)
            local refusal = limit.check(now)
            if refusal and once then
                once, refusal.headers["Retry-After"] = false, "0"
            end
            return refusal or simulation.serve(request)
        end)
        local report = assert(world:client():backup_many(nil, simulation.names(400)))
        assert.equal(400, report.ok)
        local good, refused = status_counts(world.requests, world.requests[1].at + 5, math.huge)
        assert.is_true(refused <= 0.1 * good, ("%d refused, %d good"):format(refused, good))
    end)

    it("loses nothing where the first answers are a 429 and a missing secret", function()
        local slow_down = simulation.refuse(429, "APIG.0308")
        local world = simulation.new(simulation.script { slow_down, slow_down,
            simulation.refuse(400, "CSMS.0106"), "ok" })
        local report = assert(world:client():backup_many(nil, simulation.names(30)))
        assert.same({ 29, 1 }, { report.ok, report.failed })
    end)

    it("of which others take a quarter settles below it", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "text" }
        local others = 0
        local world = simulation.new(function(request, now)
            -- five a second are somebody else's
            while others < (now - 1000) * 5 do
                others = others + 1
                limit.check(now)
            end
            return limit.check(now) or simulation.serve(request)
        end, { latency = 0.01 })
        local report = assert(world:client():backup_many(nil, simulation.names(1200)))
        assert.equal(1200, report.ok)
        local good, refused = status_counts(world.requests, 1060, math.huge)
        assert.is_true(refused <= 0.05 * good, ("%d refused, %d good"):format(refused, good))
    end)

    it("of which others take most for a while is used again afterwards", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "text" }
        local others = 0
        local world = simulation.new(function(request, now)
            while others < math.min(now - 1000, 60) * 16 do
                others = others + 1
                limit.check(now)
            end
            return limit.check(now) or simulation.serve(request)
        end, { latency = 0.01 })
        local report = assert(world:client():backup_many(nil, simulation.names(3000)))
        assert.equal(3000, report.ok)
        assert.is_true(world:elapsed() < 400, world:elapsed() .. " s")
        local good, refused = status_counts(world.requests, 1065, math.huge)
        assert.is_true(refused <= 0.01 * good, ("%d refused, %d good"):format(refused, good))
    end)

    it("is left to several clients", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "text" }
        local world = simulation.new(function(request, now)
            return limit.check(now) or simulation.serve(request)
        end, { latency = 0.01 })
        local started, ended = 0, math.huge
        world.runtime:each(function()
            started = started + 1
            return started <= 4 and started or nil
        end, 4, function()
            assert.equal(500, world:client():backup_many(nil, simulation.names(500)).ok)
            ended = math.min(ended, world.clock)
        end)
        local good, refused = status_counts(world.requests, 1005, ended)
        assert.is_true(refused <= 0.055 * good, ("%d refused, %d good"):format(refused, good))
        assert.is_true(good >= 0.75 * 20 * (ended - 1005), good .. " got through")
    end)

    it("that ends is left behind: the pace grows again", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "none" }
        local world = simulation.new(function(request, now)
            return now < 1020 and limit.check(now) or simulation.serve(request)
        end)
        local report = assert(world:client():backup_many(nil, simulation.names(6000)))
        assert.equal(6000, report.ok)
        assert.is_true(world:elapsed() < 0.8 * 6000 / 20)
    end)
end)

describe("single calls", function()
    it("find a limit that ends too, after refusals that no batch probes", function()
        local answer = simulation.refuse(429, "APIG.0308")
        local world, client
        world = simulation.new(function(request)
            return answer or simulation.serve(request)
        end)
        client = world:client()
        assert.is_nil(client:backup(nil, "a"))
        assert.is_true(client.limiter.closed)
        answer = simulation.refuse(429, "APIG.0308", "limit:20,time:1 second")
        for _ = 1, 30 do client:backup(nil, "a", { retry = false }) end
        local shared = client.limiter.pace
        assert.is_true(shared < 10, shared .. " a second")
        answer = nil
        for _ = 1, 10000 do assert(client:backup(nil, "a")) end
        assert.is_true(client.limiter.pace > 19, client.limiter.pace .. " a second")
    end)

    it("find it too where a batch gave up as it probed", function()
        local refuses = true
        local world, client
        world = simulation.new(function(request)
            return refuses and simulation.refuse(429, "APIG.0308") or simulation.serve(request)
        end)
        client = world:client()
        client:backup_many(nil, simulation.names(10), { deadline = 30 })
        assert.is_true(client.limiter.closed)
        refuses = false
        assert(client:backup(nil, "a"))
        assert.is_false(client.limiter.closed)
    end)
end)

describe("a request of a batch that has its slot after others were refused", function()
    it("is sent when a probe has got through, not at its slot", function()
        local world = simulation.new(function(request, now)
            if now >= 1001 and now < 1020 then return simulation.refuse(429, "APIG.0308") end
            return simulation.serve(request)
        end)
        assert.equal(60, world:client { rate = 10 }:backup_many(nil, simulation.names(60)).ok)
        local _, refused = status_counts(world.requests, 1000, math.huge)
        assert.is_true(refused <= 10, refused .. " refused")
    end)
end)

describe("time without requests", function()
    -- A world with an unstated limit of 20 a second, which may refuse everything.
    local function world_with_limit()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "none" }
        local world
        world = simulation.new(function(request, now)
            if world.refuses then return simulation.refuse(429, "APIG.0308") end
            return limit.check(now) or simulation.serve(request)
        end, { latency = 0.01 })
        return world, world:client()
    end

    local function run(world, client, count)
        local started = world.clock
        local report = assert(client:backup_many(nil, simulation.names(count)))
        assert.same({ count, 0 }, { report.ok, report.failed })
        return world.clock - started, report.throttled
    end

    it("does not count as time in which little got through", function()
        for _, quiet in ipairs { 10, 60, 3600, 86400 } do
            local world, client = world_with_limit()
            for _ = 1, 3 do
                assert(client:backup(nil, "a"))
                world.runtime:sleep(quiet)
            end
            local seconds = run(world, client, 500)
            assert.is_true(seconds < 40, seconds .. " s after " .. quiet)
        end
    end)

    it("is no sign that there is no limit any more", function()
        for _, quiet in ipairs { 60, 3600, 86400 } do
            local world, client = world_with_limit()
            run(world, client, 500)
            world.runtime:sleep(quiet)
            local seconds, throttled = run(world, client, 500)
            assert.is_true(seconds < 40, seconds .. " s after " .. quiet)
            assert.is_true(throttled <= 5, throttled .. " after " .. quiet)
        end
    end)

    it("is no sign of that after a refusal either", function()
        local world, client = world_with_limit()
        run(world, client, 500)
        world.refuses = true
        assert.is_nil(client:backup(nil, "a", { retry = false }))
        world.refuses = false
        world.runtime:sleep(86400)
        local _, throttled = run(world, client, 500)
        assert.is_true(throttled <= 5, throttled .. " refused")
    end)

    it("is no part of the refusals of two batches", function()
        local world, client = world_with_limit()
        world.refuses = true
        local report = assert(client:backup_many(nil, simulation.names(50), { deadline = 100 }))
        assert.equal(50, report.failed)
        world.runtime:sleep(86400)
        world:at(world.clock + 3, nil, function() world.refuses = false end)
        run(world, client, 500)
        assert.is_true(client.limiter.horizon < 60, client.limiter.horizon .. " s")
    end)
end)

describe("rate", function()
    local function arrivals(config, count, opts)
        local world = simulation.new(simulation.serve)
        local client = world:client(config)
        local report = assert(client:backup_many(nil, simulation.names(count), opts))
        assert.equal(count, report.ok)
        return world.requests, world, client
    end

    local function assert_spaced(requests, least)
        for index = 2, #requests do
            assert.is_true(requests[index].at - requests[index - 1].at >= least - 1e-6)
        end
    end

    it("spaces the requests of a batch evenly, from the first on", function()
        for _, rate in ipairs { 0.5, 10, 100 } do
            local requests, world = arrivals({ rate = rate }, 20)
            assert_spaced(requests, 1 / rate)
            assert.is_true(world:elapsed() < 19.5 / rate + 0.1)
        end
    end)

    it("holds for single calls and for pages too", function()
        local world = simulation.new(simulation.serve)
        local client = world:client { rate = 2 }
        assert(client:backup(nil, "a"))
        assert(client:list())
        assert(client:show(nil, "a"))
        assert(client:restore(nil, "blob"))
        assert_spaced(world.requests, 0.5)
    end)

    it("saves nothing up while the client is idle", function()
        local world = simulation.new(simulation.serve)
        local client = world:client { rate = 10 }
        assert(client:backup(nil, "a"))
        world.runtime:sleep(60)
        assert(client:backup_many(nil, simulation.names(5)))
        table.remove(world.requests, 1)
        assert_spaced(world.requests, 0.1)
    end)

    it("holds for attempts, not for calls", function()
        local world = simulation.new(simulation.script {
            simulation.refuse(503, "X"), simulation.refuse(503, "X"), "ok" })
        assert(world:client { rate = 1 }:backup(nil, "a"))
        assert.equal(3, #world.requests)
        assert_spaced(world.requests, 1)
    end)

    it("above what the service permits gives way to the service's limit", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "text" }
        local world = simulation.new(function(request, now)
            return limit.check(now) or simulation.serve(request)
        end)
        local report = assert(world:client { rate = 200 }
            :backup_many(nil, simulation.names(400)))
        assert.equal(400, report.ok)
        assert.is_true(world:elapsed() > 400 / 20.5)
        assert.is_true(report.throttled <= 0.06 * report.requests)
    end)

    it("below what the service permits is never exceeded", function()
        local limit = simulation.limit { requests = 20, seconds = 1, window = "first",
            states = "none" }
        local world = simulation.new(function(request, now)
            if request.number == 5 then return simulation.refuse(429, "APIG.0308") end
            return limit.check(now) or simulation.serve(request)
        end)
        assert.equal(100, world:client { rate = 10 }
            :backup_many(nil, simulation.names(100)).ok)
        assert_spaced(world.requests, 0.1)
    end)

    it("ends a call at once whose slot comes after its deadline", function()
        local world = simulation.new(simulation.serve)
        local client = world:client { rate = 0.1 }
        assert(client:backup(nil, "a"))
        local blob, err = client:backup(nil, "b", { deadline = 5 })
        assert.is_nil(blob)
        assert.same({ "timeout", false, 0 }, { err.kind, err.retryable, err.attempts })
        assert.is_true(world:elapsed() < 0.05)
        -- it took no slot: the next one comes in its turn
        assert(client:backup(nil, "c"))
        assert.is_true(world:elapsed() < 10.1)
    end)
end)

describe("a limiter", function()
    it("that knows no limit gives every slot at once", function()
        local self = limiter.new(nil, 20)
        for _ = 1, 100 do assert.equal(5, self:take(5)) end
    end)

    it("of a rate gives slots one after the other", function()
        local self = limiter.new(4, 20)
        assert.same({ 1, 1.25, 1.5 }, { self:take(1), self:take(1), self:take(1) })
        assert.equal(9, self:next_slot(9))
        assert.equal(9, self:next_slot(9))
    end)

    it("obeys a stated window a little below what it says", function()
        local self = limiter.new(nil, 20)
        self:throttled(10, { wait = 1, limit = 20, period = 1 })
        assert.is_true(self:is_blocked(10.9))
        assert.is_false(self:is_blocked(11))
        assert.equal(11, self:take(10))
        local gap = self:take(11) - 11
        assert.is_true(gap >= 1 / 20 and gap < 1 / 19)
    end)

    it("takes what gets through during a wait for the window's, where none is stated", function()
        for limit, rate in pairs { [false] = 11, [20] = 20 } do
            local self = limiter.new(nil, 20)
            self:succeeded(10)
            self:throttled(10, { wait = 1, limit = limit or nil, period = limit and 1 })
            for _ = 1, 10 do self:succeeded(10.5) end
            assert.equal(11, self:take(10.5))
            local gap = self:take(11) - 11
            assert.is_true(gap >= 1 / rate and gap < 1.06 / rate, "gap " .. gap)
        end
    end)

    it("never shortens a wait that was stated before", function()
        local self = limiter.new(nil, 20)
        self:throttled(10, { wait = 30 })
        self:throttled(11, { wait = 1 })
        assert.equal(40, self:next_slot(11))
        self:throttled(12, { wait = 60 })
        assert.equal(72, self:next_slot(12))
    end)

    it("keeps a pace above nothing and below everything, whatever it is told", function()
        local stated = { {}, { wait = 0 }, { wait = 0, limit = 5, period = 1 }, { wait = 3 } }
        for _, first in ipairs(stated) do
            for _, second in ipairs(stated) do
                local self = limiter.new(nil, 20)
                self:throttled(1, first)
                self:throttled(9, second)
                if self.closed then self:open(10) end
                local pace = self.pace or 1 -- none is learned from isolated refusals
                assert.is_true(pace > 0 and pace < math.huge, "pace " .. pace)
            end
        end
    end)

    it("cuts its pace where it is refused, and once for what was on its way", function()
        local self = limiter.new(nil, 20)
        for _ = 1, 3 do self:throttled(0, {}) end
        for tenth = 1, 40 do self:succeeded(tenth / 10) end
        self:open(4)
        local pace = self.pace
        assert.is_true(pace > 8 and pace < 11)
        self:throttled(8, {})
        local cut = self.pace
        assert.is_true(cut < pace and cut > 0.8 * pace)
        for _ = 1, 3 do self:throttled(8.1, {}) end
        assert.equal(cut, self.pace)
    end)

    it("closes at the third unstated refusal in a row while it knows no pace", function()
        local self = limiter.new(nil, 20)
        self:throttled(1, {})
        self:throttled(1, {})
        self:succeeded(1.1)
        self:throttled(1.2, {})
        self:throttled(1.2, {})
        assert.is_false(self.closed)
        self:throttled(1.2, {})
        assert.is_true(self.closed)
    end)

    it("closes after five refusals in a row and two seconds without a success", function()
        local self = limiter.new(nil, 20)
        for _ = 1, 3 do self:throttled(0, {}) end
        for tenth = 1, 40 do self:succeeded(tenth / 10) end
        self:open(4)
        for refusal = 1, 4 do self:throttled(4 + 2 * refusal, {}) end
        assert.is_false(self.closed)
        self:throttled(14, {})
        assert.is_true(self.closed)
    end)

    it("that a batch left before it had learned a pace begins anew with the next", function()
        local self = limiter.new(nil, 20)
        for _ = 1, 3 do self:throttled(0, {}) end
        self:restart()
        self:close()
        self:open(86400) -- by a probe after other failures
        assert.is_nil(self.pace)
        assert.equal(4, self.horizon)
    end)

    it("of a slow rate remembers from slot to slot how little gets through", function()
        local self = limiter.new(0.1, 20)
        for now = 0, 50, 10 do
            assert.equal(now, self:take(now))
            self:succeeded(now)
        end
        for now = 60, 80, 10 do
            self:take(now)
            self:throttled(now, {})
        end
        self:take(90)
        self:succeeded(90)
        self:open(90)
        assert.is_true(self.pace < 0.1, "pace " .. self.pace)
    end)

    it("waits for probes from 1 s on, doubling to cap, each at least half of that", function()
        local self = limiter.new(nil, 20)
        self:close()
        local sum = 0
        for _, bound in ipairs { 1, 2, 4, 8, 16, 20, 20, 20, 20, 20 } do
            assert.equal(bound / 2, self:probe_wait(0))
            assert.is_true(math.abs(self:probe_wait(0.999) - bound) < 0.01 * bound)
            sum = sum + bound
            self:probe_failed()
        end
        assert.equal(131, sum) -- so ten take one to two minutes
        self:open(100)
        self:close()
        assert.equal(0.5, self:probe_wait(0))
    end)

    it("is not closed anew, with shorter waits, while it is closed", function()
        local self = limiter.new(nil, 20)
        self:close()
        self:probe_failed()
        self:close()
        assert.equal(1, self:probe_wait(0))
    end)

    it("bounds a probe's wait by a small cap too", function()
        local self = limiter.new(nil, 0.3)
        assert.equal(0.15, self:probe_wait(0))
    end)
end)
