-- The engine's thread in a plain program: who drives, who is woken, what is left.

local cases = require "spec.support.cases"
local core = require "csms.core"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local nginx = require "spec.support.nginx"
local shell = require("spec.support.file_child").shell

local emu, origin, credential, channel
local alone -- how many threads the process has without the engine's

local function own_pid()
    local file = assert(io.open "/proc/self/stat")
    local pid = file:read "*n"
    file:close()
    return pid
end

local function count_threads() return #nginx.threads(own_pid()) end

-- A thread that has been joined is listed a moment longer.
local function assert_threads(count)
    nginx.wait_until("there are " .. count .. " threads", function()
        return count_threads() == count
    end)
end

setup(function()
    alone = count_threads()
    emu = emulator.start { secrets = 20 }
    origin = assert(core.origin { url = emu.endpoint, ca_file = emu.ca_file })
    credential = assert(core.credential.keys(emu.ak, emu.sk))
end)
teardown(function() emu:stop() end)
before_each(function()
    emu:reset()
    assert_threads(alone)
    channel = assert(core.channel())
end)
after_each(function() channel:close() end)

local function submit(on, timeout)
    return assert((on or channel):submit(origin, credential, {
        method = "POST", target = "/v1/" .. emu.project .. "/secrets/secret-0001/backup",
        headers = { "Content-Type", "application/json" }, project = emu.project,
        timeout = timeout or 10, time = core.time(),
    }))
end

local function wait_until_done(transfer)
    nginx.wait_until("the transfer is done", function() return transfer:done() end)
end

describe("without start()", function()
    it("there is no thread", function()
        local transfer = submit()
        while not transfer:done() do core.step(1) end
        assert_threads(alone)
    end)

    it("a time-out that is over already, or no number, is the shortest, not none", function()
        emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
        for _, timeout in ipairs { 0, -1, 0 / 0 } do
            local transfer = submit(channel, timeout)
            while not transfer:done() do core.step(1) end
            local _, err = transfer:result()
            assert.equal("timeout", err.kind)
        end
    end)
end)

describe("start()", function()
    it("makes one thread, which drives without any step", function()
        assert.is_true(channel:start())
        assert.is_true(channel:start())
        assert_threads(alone + 1)
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
            while not transfer:done() do core.step(cases.HELD) end
        end)
        assert.is_true(seconds > 0.15 and seconds < cases.SOON)
    end)

    it("blocks signals in the thread only", function()
        local pid = own_pid()
        local known = {}
        for _, id in ipairs(nginx.threads(pid)) do known[id] = true end
        assert(channel:start())
        for _, id in ipairs(nginx.threads(pid)) do
            if not known[id] then
                -- A thread that begins has all of them blocked for a moment.
                nginx.wait_until("the thread has its own mask", function()
                    return nginx.status(pid, id, "SigBlk") == "fffffffe7ffbfa37"
                end)
            end
        end
    end)

    it("is over when the last channel is closed", function()
        local other = assert(core.channel())
        assert(channel:start())
        assert(other:start())
        channel:close()
        channel = other
        wait_until_done(submit())
        other:close()
        assert_threads(alone)
        channel = assert(core.channel())
        assert(channel:start())
        wait_until_done(submit())
    end)

    it("ends what is in flight when a channel is closed", function()
        emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
        assert(channel:start())
        local transfers = {}
        for index = 1, 10 do transfers[index] = submit() end
        local seconds = cases.timed(function() channel:close() end)
        assert.is_true(seconds < cases.SOON)
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
        emu:fault { operation = "backup", delay = cases.HELD }
        local transfer = submit()
        nginx.wait_until("it waits for its answer", function()
            return #emu:requests "backup" == 1
        end)
        assert.is_false(readable(fd, 0.02))
        emu:kill_connections()
        assert.is_true(readable(fd, cases.SOON))
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

-- How nginx is woken.
describe("the wake-up socket", function()
    local function listen_below(folder)
        local output = cases.run([[
            local channel = assert(require("csms.core").channel())
            local path, err = channel:listen()
            print(path and #path or err.kind .. ": " .. err.message)
        ]], { TMPDIR = folder })
        return output
    end

    it("is refused where its path is too long for one", function()
        local folder = os.tmpname()
        os.remove(folder)
        -- "/csms-XXXXXX/wake" follows.
        for length, answer in pairs {
            [83] = "100\n", [84] = "config: the folder for the wake-up socket is too long\n",
            [300] = "config: the folder for the wake-up socket is too long\n",
        } do
            local path = (folder .. ("/" .. ("d"):rep(99)):rep(3)):sub(1, length)
            os.execute("mkdir -p " .. path)
            assert.same({ length, answer }, { length, listen_below(path) })
        end
        os.execute("rm -r " .. folder)
    end)

    it("is below /tmp where TMPDIR is empty", function()
        local output = cases.run([[
            local channel = assert(require("csms.core").channel())
            print(channel:listen():match "^(.*)/csms%-%w+/wake$")
        ]], { TMPDIR = "" })
        assert.equal("/tmp\n", output)
    end)

    it("takes nobody but this process", function()
        local path = assert(channel:listen())
        local curl = io.popen("exec curl -sv --max-time 60 --unix-socket " .. path
            .. " http://localhost/ 2>&1")
        local line
        repeat line = curl:read "*l" until not line or line:find "^> GET"
        assert.is_string(line)
        local err = cases.failure("config", channel:accept())
        assert.matches("another process", err.message, 1, true)
        curl:close()
        local _, problem = channel:accept()
        assert.matches("nobody connected", problem.message, 1, true)
    end)
end)

describe("a channel", function()
    it("is none where no descriptor is free, and none of it is left", function()
        assert.equal("config\nchannel\n", (cases.run [[
            local core = require "csms.core"
            local held = {}
            while true do
                local file = io.open "/dev/null"
                if not file then break end
                held[#held + 1] = file
            end
            local channel, err = core.channel()
            print(err.kind)
            for _, file in ipairs(held) do file:close() end
            channel = assert(core.channel())
            assert(channel:start())
            channel:close()
            print "channel"
        ]]))
    end)
end)

-- Lua 5.4 has no fork, and the engine is the same for both.
if jit then
    describe("a forked child", function()
        -- A child of a child: busted's process is not forked. `before` and `after` are what
        -- the parent does before the fork, and what the child does after it.
        local function forked(before, after)
            local output = cases.run(([[
                local core = require "csms.core"
                local ffi = require "ffi"
                ffi.cdef "int fork(void); int waitpid(int, int *, int);"
                local origin = assert(core.origin { url = %q, ca_file = %q })
                local credential = assert(core.credential.keys(%q, %q))
                local channel = assert(core.channel())
                local function submit()
                    return assert(channel:submit(origin, credential, {
                        method = "GET", target = "/v1/%s/secrets/secret-0001", timeout = 10,
                        time = core.time(),
                    }))
                end
                local function wait_for(transfer)
                    local from = core.now()
                    while not transfer:done() and core.now() < from + 20 do core.step(1) end
                    local status, body = transfer:result()
                    return status or body.message
                end
                io.stdout:setvbuf "no"
                %s
                local pid = ffi.C.fork()
                if pid == 0 then
                    %s
                    os.exit(0, true)
                end
                ffi.C.waitpid(pid, nil, 0)
                print("parent", wait_for(submit()))
            ]]):format(emu.endpoint, emu.ca_file, emu.ak, emu.sk, emu.project, before, after))
            return output
        end

        it("starts an engine of its own, and the parent keeps its connection", function()
            assert.equal("child\t-1\t200\nparent\t200\n", forked([[
                local function sockets()
                    local _, pid = core.process()
                    local links = io.popen("ls -l /proc/" .. pid .. "/fd"):read "*a"
                    return select(2, links:gsub("socket:", ""))
                end
                wait_for(submit())
                local before = sockets()
            ]], [[
                print("child", sockets() - before, wait_for(submit()))
            ]]))
            assert.equal(2, emu:counters().connections)
        end)

        it("has the parent's calls as cancelled, at once", function()
            emu:fault { operation = "show", delay = 1 }
            assert.equal(("child\tthe process forked while the call was in flight\n"):rep(2)
                .. "child\t0\t200\nparent\t200\n", forked([[
                local first = submit()
                core.step(0)
                local second = submit()
            ]], [[
                assert(first:done() and second:done())
                print("child", wait_for(first))
                print("child", wait_for(second))
                assert(channel:drain() and channel:drain() and not channel:drain())
                print("child", channel:in_flight(), wait_for(submit()))
            ]]))
        end)

        it("starts a thread of its own", function()
            assert.equal("child\t200\nparent\t200\n", forked([[
                assert(channel:start())
                assert(channel:fd())
                wait_for(submit())
            ]], [[
                assert(channel:start())
                assert(channel:fd())
                print("child", wait_for(submit()))
                channel:close()
            ]]))
        end)

        it("leaves the parent's wake-up socket where it is", function()
            assert.equal("child\tsocket\nparent\t200\n", forked([[
                local path = assert(channel:listen())
            ]], [[
                channel:close()
                print("child", io.popen("stat -c %F " .. path):read "*l")
            ]]))
        end)
    end)
end

describe("stop()", function()
    it("ends the thread, and the next step goes on with what is in flight", function()
        emu:fault { operation = "backup", delay = 0.2 }
        assert(channel:start())
        local transfer = submit()
        channel:stop()
        channel:stop()
        assert_threads(alone)
        while not transfer:done() do core.step(1) end
        assert.equal(200, (transfer:result()))
    end)

    it("is each channel's own: the last one ends the thread", function()
        local other = assert(core.channel())
        assert(channel:start())
        assert(other:start())
        channel:stop()
        assert_threads(alone + 1)
        wait_until_done(submit())
        other:close()
        assert_threads(alone)
        assert(channel:start())
        wait_until_done(submit())
        channel:stop()
        assert_threads(alone)
    end)
end)

-- Lua 5.4 alone: its library is there for a program of ours to be built with.
if not jit then
    describe("several threads of a program, each with a Lua state", function()
        local folder = files.temporary()
        teardown(function() files.remove(folder) end)

        it("wait for no other answer than their own", function()
            -- A module built with a sanitizer wants a program that is too.
            local sanitized = (os.getenv "CSMS_SPEC_LUA" or ""):find "asan"
            assert.equal("", shell((sanitized and "clang -fsanitize=address,undefined" or "cc")
                .. " -std=c11 -D_GNU_SOURCE -O1 -pthread -Wl,-E -o " .. folder .. "/threads "
                .. "$(pkg-config --cflags lua5.4) spec/support/thread_stress.c "
                .. "spec/support/slow_trylock.c $(pkg-config --libs lua5.4) -ldl"))
            files.write(folder .. "/call.lua", [[
                local core = require "csms.core"
                local client = assert(require("csms").new { retry = false })
                assert(client:backup(nil, "secret-0001")) -- a connection that is warm
                core.step(math.max(tonumber(os.getenv "AT") - core.time(), 0))
                local blob, err = client:backup(nil, "secret-0001")
                io.write(blob and "answered\n" or tostring(err))
            ]])
            emu:fault { operation = "backup", delay = 0.05, probability = 1, times = 0 }
            local words = {}
            for name, value in pairs(emu.env) do words[#words + 1] = name .. "=" .. value end
            for _ = 1, 6 do
                -- All ask at once, and nothing that comes later wakes whoever sleeps on.
                local output = shell(("env %s AT=%f timeout 10 %s/threads %s/call.lua 16")
                    :format(table.concat(words, " "), core.time() + 0.5, folder, folder))
                assert.equal(("answered\n"):rep(16):sub(1, -2), output)
            end
        end)
    end)
end

describe("a batch in a plain program", function()
    local client

    before_each(function()
        client = assert(csms.new { endpoint = emu.endpoint, ca_file = emu.ca_file,
            project = emu.project,
            credentials = csms.credentials.static { ak = emu.ak, sk = emu.sk } })
    end)
    after_each(function() client:close() end)

    it("has the thread for as long as it runs, and a single call has none", function()
        local most = 0
        assert.is_string(client:backup(nil, "secret-0001"))
        assert_threads(alone)
        local report = assert(client:backup_all(nil, {
            on_result = function() most = math.max(most, count_threads()) end,
        }))
        assert.equal(20, report.ok)
        assert.equal(alone + 1, most)
        assert_threads(alone)
    end)

    it("loses it too where a callback raises", function()
        assert.has_error(function()
            client:backup_all(nil, { on_result = function() error("enough", 0) end })
        end, "enough")
        assert_threads(alone)
    end)

    it("ends it before the process ends, wherever it is told to", function()
        for count = 1, 8 do
            local output, status = cases.run(([[
                local csms = require "csms"
                local count = 0
                csms.backup_all(nil, { on_result = function()
                    count = count + 1
                    if count == %d then os.exit(7) end
                end })
            ]]):format(count), emu.env)
            assert.same({ "", 7 }, { output, status })
        end
    end)

    it("shares it with batches within it, which do not end it", function()
        local after_inner
        local report = assert(client:backup_all(nil, { on_result = function(name)
            if name ~= "secret-0010" then return end
            assert.equal(3, assert(client:backup_many(nil, { "secret-0001", "secret-0002",
                "secret-0003" })).ok)
            after_inner = count_threads()
        end }))
        assert.equal(20, report.ok)
        assert.equal(alone + 1, after_inner)
        assert_threads(alone)
    end)
end)
