-- Waiting: the blocking runtime over a simulated engine, and a little over the real one.

local core = require "csms.core"
local simulation = require "spec.support.simulation"
local real = require "csms.runtime"

local world, runtime

-- A service that answers after as many seconds as the secret's name says.
local function service(request)
    return { status = 200, body = request.name, delay = tonumber(request.name) or 0 }
end

before_each(function()
    world = simulation.new(service, { latency = 0 })
    runtime = world.runtime
end)

local function submit(name)
    return assert(runtime:submit(nil, nil, {
        method = "POST", target = "/v1/p/secrets/" .. name .. "/backup", timeout = 1000, time = 0,
    }))
end

local function fetch(name)
    local transfer = submit(name)
    runtime:await(transfer)
    local status, body = transfer:result()
    return status and body
end

-- What next_item of each() is made of.
local function iterate(items)
    local index = 0
    return function()
        index = index + 1
        return items[index]
    end
end

local function range(count)
    local items = {}
    for number = 1, count do items[number] = number end
    return iterate(items)
end

local function elapsed() return math.floor(world:elapsed() * 1000 + 0.5) / 1000 end

describe("await", function()
    it("returns when the transfer is done", function()
        assert.equal("3", fetch("3"))
        assert.equal(3, elapsed())
    end)

    it("returns at once for one that is done", function()
        local transfer = submit("3")
        runtime:await(transfer)
        runtime:await(transfer)
        assert.equal(3, elapsed())
    end)

    it("waits for one of many that are in flight, in any order", function()
        local slow, fast = submit("5"), submit("1")
        runtime:await(fast)
        assert.is_false(slow:done())
        assert.equal(1, elapsed())
        runtime:await(slow)
        assert.equal(5, elapsed())
    end)

    it("waits longer than one step of the engine", function()
        assert.equal("500", fetch("500"))
        assert.equal(500, elapsed())
    end)

    it("does not yield in a coroutine of the program's own", function()
        local result
        local thread = coroutine.create(function() result = fetch("2") end)
        assert.is_true(coroutine.resume(thread))
        assert.same({ "dead", "2" }, { coroutine.status(thread), result })
    end)

    it("does not yield in a coroutine of the program's own within each", function()
        local results, order = {}, {}
        runtime:each(iterate { "2", "1" }, 2, function(name)
            local wrapped = coroutine.wrap(function()
                coroutine.yield("started")
                return fetch(name)
            end)
            assert.equal("started", wrapped())
            results[name] = wrapped()
            order[#order + 1] = name
        end)
        assert.same({ ["1"] = "1", ["2"] = "2" }, results)
        assert.equal(2, #order)
    end)

    it("works in a gsub callback, in and out of each", function()
        assert.equal("1 2", (("1 2"):gsub("%d", fetch)))
        local texts = {}
        runtime:each(iterate { "1 2", "3 1", "2 2" }, 3, function(text)
            texts[text] = text:gsub("%d", fetch)
        end)
        assert.same({ ["1 2"] = "1 2", ["3 1"] = "3 1", ["2 2"] = "2 2" }, texts)
    end)

    it("works in table.sort, within each", function()
        runtime:each(iterate { 1 }, 1, function()
            local names = { "3", "1", "2" }
            table.sort(names, function(a, b) return fetch(a) < fetch(b) end)
            assert.same({ "1", "2", "3" }, names)
        end)
    end)
end)

describe("sleep", function()
    it("waits as long as it says", function()
        assert.is_true(runtime:sleep(2.5))
        assert.equal(2.5, elapsed())
        assert.is_true(runtime:sleep(200))
        assert.equal(202.5, elapsed())
    end)

    it("is not cut short by transfers that end meanwhile", function()
        submit("1")
        submit("2")
        assert.is_true(runtime:sleep(5))
        assert.equal(5, elapsed())
    end)

    it("lets the others of each go on", function()
        local order = {}
        runtime:each(iterate { 3, 1, 2 }, 3, function(seconds)
            assert.is_true(runtime:sleep(seconds))
            order[#order + 1] = seconds
        end)
        assert.same({ 1, 2, 3 }, order)
        assert.equal(3, elapsed())
    end)

    it("of no time returns", function()
        assert.is_true(runtime:sleep(0))
        runtime:each(range(3), 2, function() assert.is_true(runtime:sleep(0)) end)
        assert.equal(0, elapsed())
    end)
end)

describe("each", function()
    it("calls for every item once and returns when all have ended", function()
        local seen = {}
        runtime:each(range(50), 7, function(item)
            fetch(tostring(item % 5))
            seen[item] = (seen[item] or 0) + 1
        end)
        for item = 1, 50 do assert.equal(1, seen[item]) end
        assert.equal(0, world.in_flight)
    end)

    it("has at most n at once, and n where there are enough", function()
        for _, n in ipairs { 1, 2, 16, 64 } do
            world.peak = 0
            runtime:each(range(100), n, function() fetch("1") end)
            assert.equal(n, world.peak)
        end
    end)

    it("takes as long as the work shared out needs", function()
        runtime:each(range(30), 10, function() fetch("1") end)
        assert.equal(3, elapsed())
    end)

    it("does nothing for no items", function()
        runtime:each(function() return nil end, 5, function() error("called") end)
        assert.equal(0, elapsed())
    end)

    it("takes items that are false", function()
        local seen = 0
        runtime:each(iterate { false, false }, 1, function(item)
            assert.is_false(item)
            seen = seen + 1
        end)
        assert.equal(2, seen)
    end)

    it("lets next_item wait", function()
        local sum, index = 0, 0
        runtime:each(function()
            runtime:sleep(1)
            index = index + 1
            return index <= 10 and index or nil
        end, 3, function(item) sum = sum + item end)
        assert.equal(55, sum)
    end)

    it("works within itself", function()
        local seen = {}
        runtime:each(iterate { "1", "2", "3" }, 3, function(outer)
            runtime:each(iterate { "1", "2" }, 2, function(inner)
                fetch(inner)
                seen[#seen + 1] = outer .. inner
            end)
            seen[#seen + 1] = outer
        end)
        table.sort(seen)
        assert.equal("1 11 12 2 21 22 3 31 32", table.concat(seen, " "))
        assert.equal(2, elapsed())
    end)

    it("works within a coroutine of the program's own", function()
        local count = 0
        coroutine.wrap(function()
            runtime:each(range(10), 4, function()
                fetch("1")
                count = count + 1
            end)
        end)()
        assert.same({ 10, 3 }, { count, elapsed() })
    end)

    it("works within a gsub callback of an item", function()
        local count = 0
        runtime:each(iterate { "a", "b" }, 2, function(name)
            name:gsub(".", function()
                runtime:each(range(4), 2, function()
                    fetch("1")
                    count = count + 1
                end)
            end)
        end)
        assert.equal(8, count)
    end)
end)

describe("an error in each", function()
    it("is raised as it is, once the rest is cancelled", function()
        local problem, ended = { "a table" }, {}
        local good, caught = pcall(runtime.each, runtime, iterate { "1", "50", "60" }, 3,
            function(name)
                ended[name] = fetch(name) or false
                if name == "1" then error(problem) end
            end)
        assert.is_false(good)
        assert.equal(problem, caught)
        assert.same({ ["1"] = "1", ["50"] = false, ["60"] = false }, ended)
        assert.same({ 1, 0 }, { elapsed(), world.in_flight })
    end)

    it("keeps its message and position", function()
        local _, caught = pcall(runtime.each, runtime, range(1), 1, function() error("mine") end)
        assert.matches("^spec/runtime_spec%.lua:%d+: mine$", caught)
    end)

    it("is raised where it is false or nil", function()
        for _, problem in ipairs { false, true } do
            local good, caught = pcall(runtime.each, runtime, range(2), 2,
                function() error(problem) end)
            assert.same({ false, problem }, { good, caught })
        end
        assert.is_false((pcall(runtime.each, runtime, range(2), 2, function() error() end)))
    end)

    it("of next_item counts too", function()
        local good, caught = pcall(runtime.each, runtime, function() error("no more", 0) end, 3,
            function() end)
        assert.same({ false, "no more" }, { good, caught })
    end)

    it("starts no further item", function()
        local started = 0
        pcall(runtime.each, runtime, range(100), 4, function(item)
            started = started + 1
            fetch("1")
            if item == 2 then error("stop") end
        end)
        assert.is_true(started <= 8)
    end)

    it("ends the sleep of others, who learn of it", function()
        local slept = {}
        pcall(runtime.each, runtime, iterate { 1, 100, 200 }, 3, function(seconds)
            slept[seconds] = runtime:sleep(seconds)
            if seconds == 1 then error("stop") end
            slept[-seconds] = runtime:sleep(seconds)
        end)
        assert.same({ [1] = true, [100] = false, [-100] = false, [200] = false, [-200] = false },
            slept)
        assert.equal(1, elapsed())
    end)

    it("cancels what others start after it", function()
        local result = "not run"
        pcall(runtime.each, runtime, iterate { 1, 2 }, 2, function(item)
            runtime:sleep(item)
            if item == 1 then error("stop") end
            result = fetch("100")
        end)
        assert.is_nil(result)
        assert.equal(1, elapsed())
    end)

    it("is the first one where there are more", function()
        local _, caught = pcall(runtime.each, runtime, range(3), 3, function(item)
            fetch(tostring(4 - item))
            error(item, 0)
        end)
        assert.equal(3, caught)
    end)

    it("in an inner one reaches the outer one, which can catch it", function()
        local caught = {}
        runtime:each(range(3), 3, function(outer)
            local _, problem = pcall(runtime.each, runtime, range(2), 2, function(inner)
                fetch("1")
                if outer == 2 and inner == 1 then error("inner", 0) end
            end)
            caught[outer] = problem or "none"
        end)
        assert.same({ "none", "inner", "none" }, caught)
    end)

    it("in an inner one ends the outer one that does not catch it", function()
        local good, caught = pcall(runtime.each, runtime, range(3), 3, function(outer)
            runtime:each(range(2), 2, function()
                fetch(tostring(outer * 10))
                error("inner " .. outer, 0)
            end)
        end)
        assert.same({ false, "inner 1", 10, 0 }, { good, caught, elapsed(), world.in_flight })
    end)

    it("in the outer one cancels the inner ones at once", function()
        pcall(runtime.each, runtime, iterate { "fails", "works" }, 2, function(outer)
            if outer == "fails" then
                fetch("1")
                error("stop")
            end
            runtime:each(range(20), 2, function() fetch("100") end)
        end)
        assert.same({ 1, 0 }, { elapsed(), world.in_flight })
        assert.equal(3, #world.requests)
    end)

    it("in the outer one ends the sleep of the inner ones", function()
        pcall(runtime.each, runtime, iterate { "fails", "works" }, 2, function(outer)
            if outer == "fails" then
                fetch("1")
                error("stop")
            end
            runtime:each(range(2), 2, function() runtime:sleep(100) end)
        end)
        assert.equal(1, elapsed())
    end)

    it("in the outer one leaves nothing to do for an inner one that begins after it", function()
        local started = 0
        pcall(runtime.each, runtime, iterate { 1, 2 }, 2, function(item)
            runtime:sleep(item)
            if item == 1 then error("stop") end
            runtime:each(range(5), 1, function()
                started = started + 1
                fetch("100")
            end)
        end)
        assert.same({ 0, 1 }, { started, elapsed() })
    end)

    it("that is a callback's yield to a scheduler of the program's own is told", function()
        for _, yield in ipairs {
            function() coroutine.yield "mine" end,
            function() coroutine.yield() end,
            function() coroutine.yield(nil, "mine") end,
        } do
            assert.error_matches(function()
                runtime:each(iterate { 1, 2, 3, 4 }, 2, yield)
            end, "a callback of a batch yielded to a scheduler that is not csms's", 1, true)
        end
    end)

    it("leaves a runtime that works", function()
        pcall(runtime.each, runtime, range(20), 5, function(item)
            fetch("1")
            if item == 3 then error("stop") end
        end)
        local seen = 0
        runtime:each(range(20), 5, function()
            fetch("1")
            seen = seen + 1
        end)
        assert.equal(20, seen)
        assert.equal("2", fetch("2"))
        assert.is_nil(next(runtime.waiting))
        assert.is_nil(next(runtime.sleeping))
        assert.is_nil(next(runtime.flights))
        assert.equal(0, #runtime.ready)
    end)
end)

describe("once", function()
    it("runs the function while nobody else does", function()
        local runs = 0
        for _ = 1, 3 do runtime:once("key", nil, function() runs = runs + 1 end) end
        assert.equal(3, runs)
    end)

    it("runs one of many at a time, and the others wait for its end", function()
        local runs, value = 0, nil
        local found = {}
        runtime:each(range(10), 10, function(item)
            runtime:once("key", nil, function()
                runs = runs + 1
                fetch("5")
                value = "there"
            end)
            found[item] = value
        end)
        assert.same({ 1, 5 }, { runs, elapsed() })
        for item = 1, 10 do assert.equal("there", found[item]) end
    end)

    it("keeps keys apart", function()
        local runs = 0
        runtime:each(range(10), 10, function(item)
            runtime:once(item % 2, nil, function()
                runs = runs + 1
                fetch("1")
            end)
        end)
        assert.equal(2, runs)
    end)

    it("raises an error in the one that ran it, and lets the others go on", function()
        local caught, others = nil, 0
        runtime:each(range(5), 5, function(item)
            local good, problem = pcall(runtime.once, runtime, "key", nil, function()
                fetch("1")
                error("failed in " .. item, 0)
            end)
            if good then others = others + 1 else caught = problem end
        end)
        assert.same({ "failed in 1", 4 }, { caught, others })
        local ran = false
        runtime:once("key", nil, function() ran = true end)
        assert.is_true(ran)
    end)

    it("is waited for no longer than one may, and is no concern of theirs from then on", function()
        local ended, seconds = {}, {}
        runtime:each(iterate { 6, 1, false }, 3, function(limit)
            local ends_at = limit and runtime.now() + limit or nil
            local good = runtime:once("key", ends_at, function(given)
                assert.equal(ends_at, given)
                fetch("5")
            end)
            ended[limit], seconds[limit] = good, elapsed()
            if limit == 1 then
                runtime:sleep(10)
                assert.equal(11, elapsed())
            end
        end)
        assert.same({ [6] = true, [1] = false, [false] = true }, ended)
        assert.same({ [6] = 5, [1] = 1, [false] = 5 }, seconds)
    end)

    it("leaves nobody waiting where the one that ran it was cancelled", function()
        local good, caught = pcall(runtime.each, runtime, range(4), 4, function(item)
            if item == 4 then
                fetch("1")
                error("stop", 0)
            end
            runtime:once("key", nil, function() fetch("100") end)
        end)
        assert.same({ false, "stop", 1 }, { good, caught, elapsed() })
    end)

    it("is run again, for those who can go on, where whoever it ran for was cancelled", function()
        local runs, caught = {}, nil
        local function ask()
            runtime:once("key", nil, function() runs[#runs + 1] = fetch("5") or "cut" end)
        end
        runtime:each(iterate { "batch", "one", "another" }, 3, function(who)
            if who ~= "batch" then
                runtime:sleep(1)
                return ask()
            end
            caught = select(2, pcall(runtime.each, runtime, range(3), 3, function(item)
                if item < 3 then return ask() end
                runtime:sleep(2)
                error("stop", 0)
            end))
        end)
        assert.equal("stop", caught)
        assert.same({ "cut", "5" }, runs)
        assert.equal(7, elapsed())
    end)

    it("is run again, for those who have time left, where whoever it ran for has none", function()
        local runs, ended = {}, {}
        runtime:each(iterate { 2, 20, 30 }, 3, function(limit)
            ended[limit] = runtime:once("key", runtime.now() + limit, function(ends_at)
                runs[#runs + 1] = limit
                runtime:sleep(math.min(10, ends_at - runtime.now()))
            end)
        end)
        assert.same({ 2, 20 }, runs)
        assert.same({ [2] = true, [20] = true, [30] = true }, ended)
        assert.equal(12, elapsed())
    end)

    it("is run again where whoever ran it yielded to a scheduler of the program's own", function()
        local ended, runs = {}, 0
        runtime:each(iterate { "batch", "one", "another" }, 3, function(who)
            if who == "batch" then
                return pcall(runtime.each, runtime, range(1), 1, function()
                    runtime:once("key", nil, function()
                        runtime:sleep(2)
                        coroutine.yield "mine"
                    end)
                end)
            end
            runtime:sleep(1)
            ended[who] = runtime:once("key", runtime.now() + 10, function()
                runs = runs + 1
                runtime:sleep(1)
            end)
        end)
        assert.same({ one = true, another = true }, ended)
        assert.same({ 1, 3 }, { runs, elapsed() })
        assert.is_nil(next(runtime.flights))
    end)

    it("runs it where waiting for the other would be for ever", function()
        local runs = 0
        runtime:each(iterate { "leader", "gsub" }, 2, function(who)
            if who == "leader" then
                runtime:once("key", nil, function()
                    fetch("5")
                    runs = runs + 1
                end)
            else
                who:gsub("^.", function()
                    runtime:once("key", nil, function() runs = runs + 1 end)
                end)
            end
        end)
        assert.equal(2, runs)
    end)
end)

describe("every", function()
    it("is called at least so often while a call, a sleep or a group of calls waits", function()
        local calls = 0
        runtime:every(0.25, function() calls = calls + 1 end)
        fetch("3")
        assert.is_true(calls >= 12, calls .. " calls")
        calls = 0
        runtime:sleep(3)
        assert.is_true(calls >= 12, calls .. " calls")
        calls = 0
        runtime:each(range(5), 5, function() fetch("3") end)
        assert.is_true(calls >= 12, calls .. " calls")
    end)

    it("may raise, and leaves a runtime that works", function()
        runtime:every(0.25, function() error("enough", 0) end)
        assert.has_error(function()
            runtime:each(iterate { "3", "4" }, 2, fetch)
        end, "enough")
        assert.equal(0, runtime.running)
        runtime:every()
        local done = 0
        runtime:each(iterate { "3", "4" }, 2, function(name)
            fetch(name)
            done = done + 1
        end)
        assert.equal(2, done)
    end)

    it("may raise, and leaves nothing that would go on within a later each", function()
        local started, slept = {}, nil
        runtime:every(0.25, function() if elapsed() > 1.5 then error("enough", 0) end end)
        assert.has_error(function()
            runtime:each(iterate { "100", "1", "1", "1", "1" }, 3, function(name)
                started[#started + 1] = name
                fetch(name)
                runtime:each(iterate { "2", "3" }, 1, function(inner)
                    started[#started + 1] = inner
                    slept = runtime:sleep(tonumber(inner))
                end)
            end)
        end, "enough")
        runtime:every()
        assert.same({ false, 0 }, { slept, world.in_flight })
        assert.same({ "100", "1", "1", "2", "2" }, started)
        runtime:each(iterate { "3", "3", "3" }, 2, fetch)
        assert.equal(5, #started)
        for _, list in ipairs { runtime.waiting, runtime.sleeping, runtime.flights } do
            assert.is_nil(next(list))
        end
        assert.equal(0, #runtime.ready)
    end)

    it("may raise in the middle of what it leaves behind, and that ends even so", function()
        local calls = 0
        runtime:every(0.25, function()
            calls = calls + 1
            error("enough " .. calls, 0)
        end)
        local ended = 0
        assert.has_error(function()
            runtime:each(range(3), 3, function()
                fetch("9")
                -- what has no yield in between waits by steps, each of which calls it
                pcall(string.gsub, "1", ".", fetch)
                ended = ended + 1
            end)
        end, "enough 1")
        assert.equal(3, ended)
    end)

    -- Raises in a coroutine when it goes on, as lua itself does on Ctrl-C. LuaJIT's hooks
    -- are for all coroutines: one raises in whichever runs.
    local function interrupt(co)
        debug.sethook(co, function()
            debug.sethook(co)
            error("interrupted!", 0)
        end, "", 1)
    end

    it("is not the only one that may raise: a debug hook loses none either", function()
        if rawget(_G, "jit") then return end
        local main, ended = coroutine.running(), 0
        assert.has_error(function()
            runtime:each(range(3), 3, function(item)
                runtime:sleep(1)
                ended = ended + 1
                if item == 1 then interrupt(main) end
            end)
        end, "interrupted!")
        assert.equal(3, ended)
        assert.equal(0, #runtime.ready)
    end)

    it("nor does one that raises after some have ended", function()
        if rawget(_G, "jit") then return end
        local main, ended = coroutine.running(), 0
        assert.has_error(function()
            runtime:each(range(3), 3, function(item)
                if item == 3 then
                    runtime:each(range(1), 1, function() runtime:sleep(9) end)
                else
                    runtime:sleep(1)
                    if ended == 1 then interrupt(main) end
                end
                ended = ended + 1
            end)
        end, "interrupted!")
        assert.equal(3, ended)
        assert.equal(0, #runtime.ready)
    end)

    it("is called no more once it is taken off", function()
        local calls = 0
        runtime:every(0.25, function() calls = calls + 1 end)
        runtime:every()
        fetch("3")
        assert.equal(0, calls)
    end)
end)

describe("the runtime over the real engine", function()
    it("has a clock that goes on, a time and random numbers", function()
        local before, earliest = real.now(), os.time()
        local time = real.time()
        assert.is_true(time >= earliest - 1 and time <= os.time() + 1)
        for _ = 1, 100 do
            local number = real.random()
            assert.is_true(number >= 0 and number < 1)
        end
        assert.is_true(real.now() > before)
    end)

    it("sleeps as long as it says, alone and with others", function()
        local started = core.now()
        assert.is_true(real:sleep(0.05))
        local passed = core.now() - started
        assert.is_true(passed >= 0.05 and passed < 20)
        started = core.now()
        real:each(range(20), 20, function(item) real:sleep(item / 400) end)
        passed = core.now() - started
        assert.is_true(passed >= 0.05 and passed < 20)
    end)

    it("uses no processor time while it sleeps", function()
        local before = os.clock()
        real:sleep(0.2)
        assert.is_true(os.clock() - before < 0.15)
    end)

    it("cancels the sleep of others at an error", function()
        local started = core.now()
        local good = pcall(real.each, real, range(3), 3, function(item)
            if item == 1 then error("stop") end
            real:sleep(60)
        end)
        assert.is_false(good)
        assert.is_true(core.now() - started < 20)
    end)
end)
