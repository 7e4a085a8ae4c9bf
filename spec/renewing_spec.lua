-- When credentials are renewed, by whom, and what is used meanwhile. Time is simulated, but for the
-- last block, where the emulator is asked.

local cases = require "spec.support.cases"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local errors = require "csms.errors"
local metadata = require "csms.credentials.metadata"
local renewing = require "csms.credentials.renewing"
local runtime = require "csms.runtime"
local simulation = require "spec.support.simulation"

local failure = cases.failure

local HOUR = 3600
local EARLY = 40 * 60
local AT_ONCE = 0.001 -- seconds of the simulated clock that are no wait

-- A provider in a simulated world. `fetch` takes `delay` seconds and gives keys with a life of
-- `life` seconds and a number of their own; options.answers are other results, by number.
local function world_of(options)
    local world = simulation.new(simulation.serve, { seed = options.seed })
    world.life, world.delay, world.fetches = options.life or 24 * HOUR, options.delay or 0, 0
    world.warnings = {}
    world.context = {
        runtime = world.runtime,
        emit = function(event)
            assert.equal("warning", event.event)
            world.warnings[#world.warnings + 1] = event.message
        end,
    }
    world.fails = options.fails or {}
    world.provider = renewing.new("source", function(_, context)
        world.fetches = world.fetches + 1
        local number = world.fetches
        if world.delay > 0 then context.runtime:sleep(world.delay) end
        if world.fails[number] or world.failing then
            return nil, errors.new("credentials", "it is broken"), options.absent
        end
        local name = world.same and "same" or tostring(number)
        return assert(core.credential.keys("ACCESSACCESS" .. name, "SECRET", "T")), world.life
    end, options.fields)
    return world
end

local function get(world, refused)
    return world.provider:get(refused, world.context)
end

local function advance(world, seconds)
    world.clock = world.clock + seconds
end

-- To when the first renewal is due, and a little more.
local function advance_to_renewal(world)
    advance(world, world.provider.renew_at - world.clock + 1)
end

-- fn(number) for 1 to n, all at once.
local function together(world, n, fn)
    local number = 0
    world.runtime:each(function()
        number = number + 1
        return number <= n and number or nil
    end, n, fn)
end

-- What a hundred calls at once get, and the simulated seconds that each of them took.
local function hundred(world, refused)
    local results, seconds = {}, {}
    together(world, 100, function(number)
        local started = world.clock
        local credential, err = get(world, refused)
        results[number], seconds[number] = credential or err, world.clock - started
    end)
    assert.equal(100, #results)
    return results, seconds
end

local function all_same(results)
    -- errors are copies: each caller adds to its own
    for _, result in ipairs(results) do assert.equal(tostring(results[1]), tostring(result)) end
    return results[1]
end

describe("a hundred calls at once", function()
    it("fetch once at the start, and all wait for it", function()
        local world = world_of { delay = 2 }
        local credential = all_same(hundred(world))
        assert.equal(1, world.fetches)
        assert.matches("csms credential", tostring(credential), 1, true)
    end)

    it("fetch once where the old one has expired", function()
        local world = world_of { delay = 2, life = HOUR }
        local first = assert(get(world))
        advance(world, HOUR + 1)
        local second = all_same(hundred(world))
        assert.is_false(first == second)
        assert.equal(2, world.fetches)
    end)

    it("fetch once where the old one was refused", function()
        local world = world_of { delay = 2 }
        local first = assert(get(world))
        local second = all_same(hundred(world, first))
        assert.is_false(first == second)
        assert.equal(2, world.fetches)
    end)

    it("fetch once where it is due, and all but one use the old one without a wait", function()
        local world = world_of { delay = 2 }
        local first = assert(get(world))
        advance_to_renewal(world)
        local results, seconds = hundred(world)
        local waited = 0
        for number, result in ipairs(results) do
            if seconds[number] > AT_ONCE then
                waited = waited + 1
            else
                assert.equal(first, result)
            end
        end
        assert.equal(1, waited)
        assert.equal(2, world.fetches)
        assert.is_false(first == get(world))
    end)

    it("wait for the one that fetches as long as they may", function()
        local world = world_of { delay = 4 }
        together(world, 2, function(number)
            local limit = number == 2 and world.clock + 1 or nil
            local credential, err, absent = world.provider:get(nil, world.context, limit)
            if number == 1 then return assert(credential) end
            failure("credentials", credential, err)
            assert.is_false(absent) -- so that a chain does not ask another source
            assert.equal(limit, world.clock)
        end)
        assert.equal(1, world.fetches)
    end)

    it("are told which source kept them waiting", function()
        local world = world_of { delay = 4 }
        local client = world:client { credentials = world.provider }
        local late = "credentials.source: no credential came in time"
        local opts = { {}, { deadline = 1 }, { timeout = 1 } }
        local seen = {}
        together(world, #opts, function(number)
            local blob, err = client:backup(nil, "name", opts[number])
            seen[number] = blob or { err.kind, err.message, err.cause }
        end)
        assert.same({ simulation.blob "name", { "timeout", "the deadline of 1 s has passed", late },
            { "credentials", late } }, seen)
    end)

    it("fetch once where it is due and refused at once", function()
        local world = world_of { delay = 2 }
        local first = assert(get(world))
        advance_to_renewal(world)
        together(world, 100, function(number)
            -- the first one begins the renewal; the others' keys are refused meanwhile
            local credential = get(world, number > 1 and first or nil)
            assert.is_false(number > 1 and credential == first)
        end)
        assert.equal(2, world.fetches)
    end)

    it("fetch once where it expires while it is renewed", function()
        local world = world_of { delay = 60, life = HOUR }
        assert(get(world))
        advance_to_renewal(world)
        world.clock = world.provider.expires_at - 40 -- MARGIN is 30
        together(world, 100, function(number)
            if number > 1 then world.runtime:sleep(20) end
            assert(get(world))
        end)
        assert.equal(2, world.fetches)
    end)

    it("fail together, after one request", function()
        local world = world_of { delay = 2, fails = { true } }
        local err = all_same(hundred(world))
        assert.matches("it is broken", err.message, 1, true)
        assert.equal(1, world.fetches)
        all_same(hundred(world))
        assert.equal(2, world.fetches)
    end)

    it("learn whether the source is absent", function()
        for _, absent in ipairs { true, false } do
            local world = world_of { delay = 2, fails = { true }, absent = absent }
            together(world, 100, function()
                local _, err, said = get(world)
                assert.equal("credentials", err.kind)
                assert.equal(absent, said)
            end)
        end
    end)

    it("fetch nothing where they may not wait, which is no absence", function()
        local world = world_of { absent = true }
        function world.runtime.available() return false, "not in this phase" end
        local results = hundred(world)
        assert.equal("config: not in this phase", tostring(all_same(results)))
        assert.is_false(select(3, get(world)))
        assert.equal(0, world.fetches)
    end)

    it("use the old one where they may not wait, though it is due", function()
        local world = world_of {}
        local first = assert(get(world))
        advance_to_renewal(world)
        function world.runtime.available() return false, "not in this phase" end
        assert.equal(first, all_same(hundred(world)))
        assert.equal(1, world.fetches)
    end)
end)

describe("a credential that is good", function()
    it("is not fetched again before its time", function()
        local world = world_of {}
        local first = assert(get(world))
        while world.clock < world.provider.renew_at - 60 do
            advance(world, 60)
            assert.equal(first, get(world))
        end
        assert.equal(1, world.fetches)
    end)

    it("is used where its renewal fails, with a warning that says why", function()
        local world = world_of { fails = { false, true } }
        local first = assert(get(world))
        advance_to_renewal(world)
        assert.equal(first, get(world))
        assert.equal(1, #world.warnings)
        assert.matches("renewal failed", world.warnings[1], 1, true)
        assert.matches("it is broken", world.warnings[1], 1, true)
        assert.equal(2, world.fetches)
    end)

    it("is tried to be renewed once in half a minute to one and a half, while it fails", function()
        local world = world_of { seed = 5 }
        local first = assert(get(world))
        advance_to_renewal(world)
        world.failing = true
        local last, gaps = nil, {}
        for _ = 1, 1800 do -- half an hour, a call a second
            local before = world.fetches
            assert.equal(first, get(world))
            if world.fetches > before then
                if last then gaps[#gaps + 1] = world.clock - last end
                last = world.clock
            end
            advance(world, 1)
        end
        table.sort(gaps)
        assert.is_true(#gaps >= 18 and #gaps <= 60)
        assert.is_true(gaps[1] >= 30 and gaps[#gaps] <= 91)
        assert.is_true(gaps[#gaps] - gaps[1] > 10) -- not in step
        assert.equal(#gaps + 1, #world.warnings)
    end)

    it("is replaced once its renewal succeeds", function()
        local world = world_of { fails = { false, true } }
        local first = assert(get(world))
        advance_to_renewal(world)
        assert.equal(first, get(world))
        advance(world, 91)
        assert.is_false(first == get(world))
        assert.equal(1, #world.warnings)
        assert.equal(3, world.fetches)
    end)

    it("is used after 5 s, or half of the call's time, where its renewal takes longer", function()
        for deadline, bound in pairs { [4] = 2, [120] = 5 } do
            local world = simulation.new(simulation.serve)
            local hangs = false
            local provider = renewing.new("source", function(_, context)
                if hangs then -- as csms.credentials.source bounds a request
                    context.runtime:sleep(math.min(30, context.ends_at - context.runtime.now()))
                    return nil, errors.new("credentials", "no answer in time")
                end
                return assert(core.credential.keys("ACCESSACCESS", "SECRET", "T")), HOUR
            end)
            local client = world:client { credentials = provider }
            assert(client:backup(nil, "name"))
            world.clock, hangs = provider.renew_at + 1, true
            local started = world.clock
            assert(client:backup(nil, "name", { deadline = deadline }))
            assert.is_true(world.clock - started < bound + 0.1)
            assert.equal(1, #world:events_of "warning")
        end
    end)

    it("is renewed by the next call where the first one was given up", function()
        local world = world_of { delay = 10 }
        assert(get(world))
        advance_to_renewal(world)
        pcall(together, world, 2, function(number)
            if number == 1 then return get(world) end
            error("given up")
        end)
        advance(world, 120)
        assert(get(world))
        assert.is_true(world.fetches >= 2)
        assert.is_nil(world.provider.renewing or nil)
    end)
end)

describe("a credential that has expired", function()
    it("is not used, 30 seconds before the end and from then on", function()
        for _, left in ipairs { 29, 1, 0, -1, -HOUR } do
            local world = world_of { life = HOUR, fails = { false, true, true } }
            assert(get(world))
            advance(world, HOUR - left)
            local credential, err = get(world)
            failure("credentials", credential, err)
            assert.matches("it is broken", err.message, 1, true)
        end
    end)

    it("is not used where its renewal fails again and again", function()
        local worst = 0
        for seed = 1, 50 do -- whatever the jitter does with the time of the next try
            local world = world_of { life = HOUR, seed = seed }
            assert(get(world))
            local ends = world.provider.expires_at
            advance_to_renewal(world)
            world.failing = true
            while world.clock < ends + 300 do
                if get(world) then worst = math.max(worst, world.clock - ends) end
                advance(world, 1)
            end
        end
        assert.is_true(worst == 0, ("used %.0f s after its end"):format(worst))
    end)

    it("is replaced at once when the source works again", function()
        local world = world_of { life = HOUR, fails = { false, true } }
        assert(get(world))
        advance(world, HOUR + 10)
        failure("credentials", get(world))
        assert(get(world))
        assert.equal(3, world.fetches)
    end)
end)

describe("the time of a renewal", function()
    -- When renewals are due, in seconds before the end, over many providers; sorted.
    local function leads(life)
        local list = {}
        for seed = 1, 300 do
            local world = world_of { life = life, seed = seed }
            assert(get(world))
            list[seed] = world.provider.expires_at - world.provider.renew_at
        end
        table.sort(list)
        return list
    end

    -- All of them within the bounds, and spread over them.
    local function assert_spread(list, lowest, highest)
        local width = highest - lowest
        assert.is_true(list[1] >= lowest and list[#list] <= highest)
        assert.is_true(list[1] < lowest + width * 0.1)
        assert.is_true(list[#list] > highest - width * 0.1)
        assert.is_true(math.abs(list[150] - (lowest + highest) / 2) < width * 0.15)
    end

    it("is about 40 minutes before the end, not the same for a whole fleet", function()
        assert_spread(leads(24 * HOUR), EARLY * 0.8, EARLY * 1.2)
    end)

    it("is about the half of a life of 15 minutes", function()
        assert_spread(leads(900), 450 * 0.8, 450 * 1.2)
    end)

    it("is before the end for any life", function()
        for _, life in ipairs { 1, 10, 30, 60, 61, 120, 600, 3600, 7 * 86400 } do
            local list = leads(life)
            assert.is_true(list[1] > 0 and list[#list] < life)
        end
    end)

    it("comes in time for lives of a minute and more, with a call every ten seconds", function()
        for _, life in ipairs { 120, 300, 900, HOUR } do
            local world = world_of { life = life }
            for _ = 1, 5 * life / 10 do
                assert(get(world))
                assert.is_true(world.clock < world.provider.expires_at - 30)
                advance(world, 10)
            end
            assert.is_true(world.fetches >= 5 and world.fetches <= 15)
        end
    end)
end)

describe("the same keys again", function()
    it("cannot renew: whoever was refused gets the same credential", function()
        local world = world_of {}
        world.same = true
        local first = assert(get(world))
        assert.equal(first, get(world, first))
        assert.equal(2, world.fetches)
        assert.matches("ACCE", tostring(first), 1, true) -- and it is not wiped
    end)

    it("count as renewed where they only live longer", function()
        local world = world_of { life = HOUR }
        world.same = true
        local first = assert(get(world))
        advance_to_renewal(world)
        assert.equal(first, get(world))
        assert.equal(world.clock + HOUR, world.provider.expires_at)
        assert.same({}, world.warnings)
    end)
end)

describe("a refused credential", function()
    it("is not fetched for where another one is there already", function()
        local world = world_of {}
        local first = assert(get(world))
        local second = assert(get(world, first))
        assert.equal(second, get(world, first))
        assert.equal(second, get(world))
        assert.equal(2, world.fetches)
    end)

    it("fails where the source fails, and stays what it was for others", function()
        local world = world_of { fails = { false, true } }
        local first = assert(get(world))
        failure("credentials", get(world, first))
        assert.equal(first, get(world))
    end)
end)

describe("close", function()
    it("wipes every credential that was given out", function()
        local world = world_of {}
        local list = { assert(get(world)) }
        for index = 2, 4 do list[index] = assert(get(world, list[index - 1])) end
        for _, credential in ipairs(list) do
            assert.matches("ACCE", tostring(credential), 1, true)
        end
        world.provider:close()
        world.provider:close()
        for _, credential in ipairs(list) do
            assert.equal("csms credential (closed)", tostring(credential))
        end
        local err = failure("credentials", get(world))
        assert.matches("credentials.source: the provider is closed", err.message, 1, true)
        assert.equal(4, world.fetches)
    end)

    it("wipes what comes afterwards, and everybody who waits gets an error", function()
        local world = world_of { delay = 2 }
        local made = {}
        local fetch = world.provider.fetch
        world.provider.fetch = function(...)
            local credential, life = fetch(...)
            made[#made + 1] = credential
            return credential, life
        end
        together(world, 10, function(number)
            if number == 10 then
                world.runtime:sleep(1)
                return world.provider:close()
            end
            local credential, err = get(world)
            failure("credentials", credential, err)
        end)
        assert.equal(1, #made)
        assert.equal("csms credential (closed)", tostring(made[1]))
    end)

    it("ends a renewal that is under way without a warning", function()
        local world = world_of { delay = 2 }
        assert(get(world))
        advance_to_renewal(world)
        world:at(world.clock + 1, nil, function() world.provider:close() end)
        local err = failure("credentials", get(world))
        assert.matches("the provider is closed", err.message, 1, true)
        assert.same({}, world.warnings)
    end)

    it("lets credentials go that nobody uses any more", function()
        local world = world_of {}
        local seen = setmetatable({}, { __mode = "k" })
        local last
        for _ = 1, 10 do
            last = assert(get(world, last))
            seen[last] = true
        end
        collectgarbage()
        collectgarbage()
        local count = 0
        for _ in pairs(seen) do count = count + 1 end
        assert.equal(1, count)
        assert.equal(last, get(world))
    end)
end)

describe("with the emulator, a hundred calls at once", function()
    local emu

    setup(function() emu = emulator.start { secrets = 3 } end)
    teardown(function() emu:stop() end)

    it("cause one request for a token and one for keys", function()
        emu:fault { operation = "metadata_keys", delay = 0.1 }
        local provider = metadata.new(function(name)
            return name == "CSMS_METADATA_ENDPOINT" and emu.metadata_endpoint or nil
        end)
        local context = { runtime = runtime, emit = function() end }
        local left, got = 100, {}
        runtime:each(function()
            left = left - 1
            return left >= 0 and left or nil
        end, 100, function()
            local credential = assert(provider:get(nil, context))
            got[#got + 1] = credential
        end)
        assert.equal(100, #got)
        all_same(got)
        assert.equal(1, #emu:requests("metadata_token"))
        assert.equal(1, #emu:requests("metadata_keys"))
    end)

    it("cause one more where all of them are refused", function()
        emu:reset()
        local provider = metadata.new(function(name)
            return name == "CSMS_METADATA_ENDPOINT" and emu.metadata_endpoint or nil
        end)
        local client = cases.client(emu, { credentials = provider, retry = {}, concurrency = 100 })
        assert.is_string(client:backup(nil, "secret-0001"))
        emu:create { prefix = "many-", count = 100 }
        emu:revoke_keys()
        local names = {}
        for number = 1, 100 do names[number] = ("many-%05d"):format(number) end
        local report = assert(client:backup_many(nil, names))
        assert.equal(100, report.ok)
        assert.equal(1, #emu:requests("metadata_token"))
        assert.equal(2, #emu:requests("metadata_keys"))
    end)
end)
