-- SIGINT and SIGTERM as a flag, and what else the process is asked.

local cases = require "spec.support.cases"
local child = require "spec.support.file_child"
local core = require "csms.core"
local nginx = require "spec.support.nginx"

-- io.popen, because os.execute ignores SIGINT while it waits.
local function signal(name)
    local _, pid = core.process()
    io.popen(("kill -%s %d"):format(name, pid)):close()
end

after_each(function()
    core.release_signals()
    child.end_all()
end)

describe("catch_signals()", function()
    it("catches both, and the first one counts", function()
        assert.is_nil(core.caught_signal())
        assert.is_true(core.catch_signals())
        assert.is_nil(core.caught_signal())
        signal "TERM"
        assert.equal(15, core.caught_signal())
        signal "INT"
        assert.equal(15, core.caught_signal())
        core.release_signals()
        assert.is_nil(core.caught_signal())
    end)

    it("catches SIGINT first as well", function()
        assert.is_true(core.catch_signals())
        signal "INT"
        assert.equal(2, core.caught_signal())
        signal "TERM"
        assert.equal(2, core.caught_signal())
    end)

    it("twice forgets nothing", function()
        assert.is_true(core.catch_signals())
        signal "TERM"
        assert.is_true(core.catch_signals())
        assert.equal(15, core.caught_signal())
    end)

    it("starts afresh after a release", function()
        assert.is_true(core.catch_signals())
        signal "TERM"
        core.release_signals()
        assert.is_true(core.catch_signals())
        assert.is_nil(core.caught_signal())
        signal "INT"
        assert.equal(2, core.caught_signal())
    end)

    it("lets a second SIGINT end the process, and SIGTERM come again", function()
        for name, ending in pairs { INT = "exit 130", TERM = "still there\nexit 0" } do
            local output = child.run(([[
                assert(core.catch_signals())
                local pid = select(2, core.process())
                io.popen("kill -%s " .. pid):close()
                print("caught " .. core.caught_signal())
                io.popen("kill -%s " .. pid):close()
                print "still there"
            ]]):format(name, name), "COMMAND; echo exit $?")
            assert.matches("^caught %d+\n", output)
            assert.equal(ending, output:match("^caught %d+\n(.-)\n?$"))
        end
    end)

    it("leaves a signal alone that the program ignores", function()
        -- Not SIGINT, which lua5.4 and luajit themselves catch.
        local output = child.run([[
            assert(core.catch_signals())
            local pid = select(2, core.process())
            io.popen("kill -TERM " .. pid):close()
            print(core.caught_signal())
            core.release_signals()
            io.popen("kill -TERM " .. pid):close()
            print "still there"
        ]], "trap '' TERM; set -- COMMAND; shift 2; \"$@\"; echo exit $?") -- without env's defaults
        assert.equal("nil\nstill there\nexit 0\n", output)
    end)

    it("twice is as once: the former handlers are still known", function()
        local output = child.run([[
            assert(core.catch_signals() and core.catch_signals())
            local pid = select(2, core.process())
            io.popen("kill -TERM " .. pid):close()
            print("caught " .. core.caught_signal())
            assert(core.catch_signals())
            core.release_signals()
            io.popen("kill -TERM " .. pid):close()
            print "still there"
        ]], "COMMAND; echo exit $?")
        assert.matches("^caught 15\n.*exit 143\n$", output)
        assert.not_matches("still there", output)
    end)

    it("release puts the interpreter's own handler of SIGINT back", function()
        local output = child.run([[
            assert(core.catch_signals())
            core.release_signals()
            core.release_signals()
            local _, pid = core.process()
            print(pcall(function()
                io.popen("kill -INT " .. pid):close()
                for _ = 1, 1e6 do local _ = #tostring(pid) end
            end))
        ]], "COMMAND; echo exit $?")
        -- Lua's own program raises an error; one that has no handler ends.
        assert.is_number(output:find "^false\t.*interrupted!" or output:find "exit 130\n$", output)
    end)

    it("release without catch changes nothing", function()
        local output = child.run([[
            local function caught()
                for line in io.lines "/proc/self/status" do
                    if line:find "^SigCgt" then return line end
                end
            end
            local before = caught()
            core.release_signals()
            print(before == caught())
            io.popen("kill -TERM " .. select(2, core.process())):close()
            print "still there"
        ]], "COMMAND; echo exit $?")
        assert.matches("^true\n.*exit 143\n$", output)
        assert.not_matches("still there", output)
    end)
end)

describe("a signal", function()
    -- A child that waits, and gets a signal, then SIGTERM until it ends: one alone may come just
    -- before the wait, which is why callers look at the flag every quarter second.
    local function seconds_to_end(chunk, name)
        local waiter = child.start("assert(core.catch_signals())\n" .. chunk)
        assert.equal("ready", waiter:line())
        local seconds = cases.timed(function()
            os.execute(("kill -%s %d; while kill -TERM %d 2>/dev/null; do sleep 0.1; done & exit")
                :format(name, waiter.pid, waiter.pid))
            assert.matches("^caught %d+\n$", waiter:rest())
        end)
        return seconds
    end

    it("ends a step with nothing to do", function()
        for _, name in ipairs { "TERM", "INT" } do
            assert.is_true(seconds_to_end([[
                print "ready"
                while not core.caught_signal() do core.step(60) end
                print("caught " .. core.caught_signal())
            ]], name) < 30)
        end
    end)

    it("ends a step that waits for an answer", function()
        cases.with_server("socket.sleep(120)", function(server)
            assert.is_true(seconds_to_end(([[
                local origin = assert(core.origin { url = %q, allow_http = true })
                local channel = assert(core.channel())
                local transfer = assert(channel:submit(origin, nil,
                    { method = "GET", target = "/", timeout = 120 }))
                while channel:in_flight() == 0 do core.step(0.1) end
                for _ = 1, 5 do core.step(0.05) end
                print "ready"
                while not core.caught_signal() and not transfer:done() do core.step(60) end
                print("caught " .. core.caught_signal())
            ]]):format(server.endpoint), "TERM") < 30)
        end)
    end)
end)

-- One that another process sends cannot be told from one of libcurl's making.
describe("SIGPIPE", function()
    it("that comes while a step waits ends nothing", function()
        cases.with_server("read_request(peer) note 'asked' socket.sleep(120)", function(server)
            local waiter = child.start(([[
                local origin = assert(core.origin { url = %q, allow_http = true })
                local channel = assert(core.channel())
                local transfer = assert(channel:submit(origin, nil,
                    { method = "GET", target = "/", timeout = 120 }))
                while not transfer:done() do core.step(60) end
                print "still there"
            ]]):format(server.endpoint))
            nginx.wait_until("SIGPIPE is blocked", function()
                local mask = nginx.status(waiter.pid, waiter.pid, "SigBlk")
                return server:log() == "asked\n" and mask == "0000000000001000"
            end)
            waiter:kill "PIPE"
            server:stop()
            assert.equal("still there\n", waiter:rest())
        end)
    end)
end)

describe("the process", function()
    it("knows its host and its number", function()
        local host, pid = core.process()
        assert.equal(child.shell "uname -n", host)
        local file = assert(io.open "/proc/self/stat")
        assert.equal(file:read "*n", pid)
        file:close()
    end)

    it("knows a terminal and its width", function()
        local null = child.run([[
            print(core.is_terminal(0), core.terminal_width(0), core.is_terminal(99),
                core.terminal_width(99), core.is_terminal(-1))
        ]], "exec COMMAND </dev/null")
        assert.equal("false\tnil\tfalse\tnil\tfalse\n", null)
    end)

    it("knows one that is, and one that does not know its width", function()
        for columns, answer in pairs { [123] = "true 123", [0] = "true nil" } do
            local name = os.tmpname()
            local output = child.run(([[
                local file = io.open(%q, "w")
                file:write(tostring(core.is_terminal(0)), " ", tostring(core.terminal_width(0)))
                file:close()
            ]]):format(name), ("script -qec \"stty cols %d rows 40; COMMAND\" /dev/null")
                :format(columns))
            local file = assert(io.open(name))
            local text = file:read("*a")
            file:close()
            os.remove(name)
            assert.equal(answer, text, output)
        end
    end)
end)

describe("sha256()", function()
    it("is SHA-256 (FIPS 180-2, appendix B)", function()
        assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            core.sha256(""))
        assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            core.sha256("abc"))
        assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            core.sha256(("a"):rep(1000000)))
    end)

    it("counts NULs", function()
        assert.not_equal(core.sha256("a"), core.sha256("a\0"))
        assert.equal("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            core.sha256("\0"))
    end)

    it("wants a string", function()
        assert.has_error(function() core.sha256() end)
        assert.has_error(function() core.sha256({}) end)
    end)
end)

describe("random_hex()", function()
    it("is as long as asked, and never the same", function()
        local seen = {}
        for _ = 1, 100 do
            local text = core.random_hex(8)
            assert.matches("^[0-9a-f]+$", text)
            assert.equal(16, #text)
            assert.is_nil(seen[text])
            seen[text] = true
        end
        assert.equal(2, #core.random_hex(1))
        assert.equal(128, #core.random_hex(64))
    end)

    it("refuses other lengths", function()
        for _, bytes in ipairs { 0, -1, 65, 1e9, 0 / 0, "x" } do
            assert.has_error(function() core.random_hex(bytes) end)
        end
        assert.has_error(function() core.random_hex() end)
    end)
end)
