-- The engine's thread in a plain program: who drives, who is woken, what is left.

local cases = require "spec.support.cases"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local nginx = require "spec.support.nginx"

local emu, origin, credential, channel

setup(function()
    emu = emulator.start { secrets = 20 }
    origin = assert(core.origin { url = emu.endpoint, ca_file = emu.ca_file })
    credential = assert(core.credential.keys(emu.ak, emu.sk))
end)
teardown(function() emu:stop() end)
before_each(function()
    emu:reset()
    channel = assert(core.channel())
end)
after_each(function() channel:close() end)

local function own_pid()
    local file = assert(io.open "/proc/self/stat")
    local pid = file:read "*n"
    file:close()
    return pid
end

local function submit(on)
    return assert((on or channel):submit(origin, credential, {
        method = "POST", target = "/v1/" .. emu.project .. "/secrets/secret-0001/backup",
        headers = { "Content-Type", "application/json" }, project = emu.project,
        timeout = 10, time = core.time(),
    }))
end

local function wait_until_done(transfer)
    nginx.wait_until("the transfer is done", function() return transfer:done() end)
end

describe("without start()", function()
    it("there is no thread", function()
        local before = #nginx.threads(own_pid())
        local transfer = submit()
        while not transfer:done() do core.step(1) end
        assert.equal(before, #nginx.threads(own_pid()))
    end)
end)

describe("start()", function()
    it("makes one thread, which drives without any step", function()
        local before = #nginx.threads(own_pid())
        assert.is_true(channel:start())
        assert.is_true(channel:start())
        assert.equal(before + 1, #nginx.threads(own_pid()))
        local transfer = submit()
        wait_until_done(transfer)
        assert.equal(200, (transfer:result()))
        assert.equal(transfer:id(), channel:drain())
        assert.is_nil(channel:drain())
    end)

    it("takes over what was in flight already", function()
        emu:fault { operation = "backup", delay = 0.2 }
        local transfer = submit()
        core.step(0)
        assert(channel:start())
        wait_until_done(transfer)
    end)

    it("leaves step() as the way to wait", function()
        assert(channel:start())
        emu:fault { operation = "backup", delay = 0.2 }
        local transfer = submit()
        local seconds = cases.timed(function()
            while not transfer:done() do core.step(1) end
        end)
        assert.is_true(seconds > 0.15 and seconds < 0.95)
    end)

    it("blocks signals in the thread only", function()
        local pid = own_pid()
        local known = {}
        for _, id in ipairs(nginx.threads(pid)) do known[id] = true end
        assert(channel:start())
        for _, id in ipairs(nginx.threads(pid)) do
            if not known[id] then
                assert.equal("fffffffe7ffbfa37", nginx.status(pid, id, "SigBlk"))
            end
        end
    end)

    it("is over when the last channel is closed", function()
        local before = #nginx.threads(own_pid())
        local other = assert(core.channel())
        assert(channel:start())
        assert(other:start())
        channel:close()
        channel = other
        wait_until_done(submit())
        other:close()
        assert.equal(before, #nginx.threads(own_pid()))
        channel = assert(core.channel())
        assert(channel:start())
        wait_until_done(submit())
    end)

    it("ends what is in flight when a channel is closed", function()
        emu:fault { operation = "backup", delay = 30, times = 0 }
        assert(channel:start())
        local transfers = {}
        for index = 1, 10 do transfers[index] = submit() end
        local seconds = cases.timed(function() channel:close() end)
        assert.is_true(seconds < 10)
        for _, transfer in ipairs(transfers) do
            assert.is_true(transfer:done())
            cases.failure("cancelled", transfer:result())
        end
        channel = assert(core.channel())
    end)

    it("leaves its child processes without its thread and its connections", function()
        assert(channel:start())
        wait_until_done(submit())
        assert.is_true(os.execute "true" ~= nil)
        wait_until_done(submit())
    end)
end)

describe("the descriptor", function()
    -- A luasocket-like object that select() takes.
    local function readable(fd, seconds)
        local object = { getfd = function() return fd end, dirty = function() return false end }
        local ready = require("socket").select({ object }, nil, seconds)
        return ready[1] == object
    end

    it("is readable once something has ended, until that is drained", function()
        local fd = assert(channel:fd())
        assert.equal(fd, channel:fd())
        assert(channel:start())
        emu:fault { operation = "backup", delay = 0.1 }
        local transfer = submit()
        assert.is_false(readable(fd, 0.02))
        assert.is_true(readable(fd, 5))
        assert.is_true(transfer:done())
        assert.equal(transfer:id(), channel:drain())
        assert.is_nil(channel:drain())
        assert.is_false(readable(fd, 0))
    end)

    it("tells of what had ended before anybody asked for it", function()
        assert(channel:start())
        wait_until_done(submit())
        assert.is_true(readable(assert(channel:fd()), 1))
    end)

    it("tells once of half a second of idleness", function()
        assert(channel:start())
        local fd = assert(channel:fd())
        wait_until_done(submit())
        while channel:drain() do assert.is_true(true) end
        assert.is_nil(channel:drain())
        assert.is_true(readable(fd, 2))
        assert.is_nil(channel:drain())
        assert.is_false(readable(fd, 1))
    end)

    it("may be detached and asked for again", function()
        assert(channel:start())
        assert(channel:fd())
        channel:detach()
        wait_until_done(submit())
        local fd = assert(channel:fd())
        assert.is_true(readable(fd, 1))
        assert.is_number(channel:drain())
    end)
end)
