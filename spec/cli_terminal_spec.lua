-- The command line as a person drives it: at a terminal, which script(1) makes. It is
-- for Lua 5.4 only.

if rawget(_G, "jit") then return end

local canaries = require "spec.support.canaries"
local cli = require "spec.support.cli"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"

local SECRETS = 40

local emu, folder

setup(function() emu = emulator.start { secrets = SECRETS } end)
teardown(function() emu:stop() end)
before_each(function()
    emu:reset()
    folder = files.temporary()
end)
after_each(function() files.remove(folder) end)

local Terminal = {}
Terminal.__index = Terminal

-- A terminal of that width that runs `csms ARGS`. The shell in between (script takes $SHELL,
-- else sh) catches Ctrl-C itself: dash would end of it before it says the exit code.
local function open(args, width)
    local log = folder .. "/typescript"
    local command = ("trap : INT; stty cols %d; %s; echo \"exit code $?\""):format(width or 80,
        cli.command(args, emu.env))
    local pipe = assert(io.popen(("script -qefc %s %s >/dev/null")
        :format(cli.quote(command), log), "w"))
    return setmetatable({ log = log, pipe = pipe }, Terminal)
end

function Terminal:press(key)
    self.pipe:write(key)
    self.pipe:flush()
end

-- All that was on the screen, once the command has ended.
function Terminal:screen()
    cli.wait_for("the end", function() return self:shows "exit code %d+" end)
    self.pipe:close()
    canaries.watch("what csms shows", self:shows "\n.*") -- script's first line has the command
    return self:shows ".*"
end

-- What the pattern finds on the screen, or nil.
function Terminal:shows(pattern)
    local file = io.open(self.log, "rb")
    local text = file and file:read("*a") or ""
    if file then file:close() end
    return text:match(pattern)
end

local CTRL_C = "\3"

describe("at a terminal, csms backup", function()
    it("paints how far it is, wipes that, and ends with a summary", function()
        emu:fault { operation = "backup", delay = 0.4, times = 0 }
        emu:fault { operation = "backup", name = "secret-0002", status = 403, times = 0 }
        local screen = open({ "backup", "--all", "-o", folder .. "/store", "--rate", "0",
            "--concurrency", "4" }):screen()
        local count, rate, left = screen:match(
            "\r(csms: %d+ of 40), ([%d.]+ a second), (%d+ s left), 1 failed")
        assert.is_truthy(count and rate and left, screen)
        assert.matches("\r +\rcsms: 39 saved, 1 failed, of 40, in %d+ s\r\n", screen)
        assert.matches("exit code 3", screen)
    end)

    it("goes on painting while nothing ends", function()
        emu:fault { operation = "backup", name = "secret-0002", delay = 60 }
        local terminal = open { "backup", "--all", "-o", folder .. "/store", "--rate", "0" }
        cli.wait_for("four lines", function()
            return terminal:shows(("\rcsms: 39 of 40.*"):rep(4))
        end)
        emu:kill_connections() -- and then it is asked for again
        assert.matches("exit code 0", terminal:screen())
    end)

    it("fits the line to the terminal's width", function()
        emu:fault { operation = "backup", delay = 0.2, times = 0 }
        local screen = open({ "backup", "--all", "-o", folder .. "/store", "--rate", "0",
            "--concurrency", "4" }, 20):screen()
        local painted = 0
        for line in screen:gmatch("\r(csms: %d+ of[^\r\n]*)") do
            if not line:find "saved" then
                painted = painted + 1
                assert.is_true(#line <= 19, line)
            end
        end
        assert.is_true(painted > 0, screen)
    end)

    it("stops on Ctrl-C, and says what is done and what to do next", function()
        emu:fault { operation = "backup", delay = 0.5, times = 0 }
        local store = folder .. "/store"
        local terminal = open { "backup", "--all", "-o", store, "--rate", "0",
            "--concurrency", "4" }
        cli.wait_for("progress", function() return terminal:shows "csms: [1-9]%d* of 40" end)
        terminal:press(CTRL_C)
        local screen = terminal:screen()
        local saved, left = screen:match("csms: (%d+) saved, (%d+) not done, of 40")
        assert.equal(#emu:requests "backup", tonumber(saved))
        assert.equal(SECRETS, saved + left)
        assert.matches("csms: interrupted: what is under way has 10 s to end", screen)
        assert.is_nil(screen:match("has 10 s to end.*"):find "\rcsms: %d+ of 40")
        assert.matches("csms: interrupted: run it again, with %-%-max%-age", screen)
        assert.matches("exit code 130", screen)

        emu:clear_faults()
        screen = open({ "backup", "--all", "-o", store, "--rate", "0", "--max-age", "1h" }):screen()
        assert.matches(("csms: %d saved, %d current, of 40"):format(left, saved), screen)
        assert.matches("exit code 0", screen)
    end)

    it("paints nothing with --quiet", function()
        emu:fault { operation = "backup", delay = 0.2, times = 0 }
        local screen = open({ "backup", "--all", "-o", folder .. "/store", "--rate", "0",
            "--quiet" }):screen()
        assert.is_nil(screen:find("csms:", 1, true))
        assert.matches("exit code 0", screen)
    end)

    it("paints nothing where stderr is no terminal", function()
        emu:fault { operation = "backup", delay = 0.2, times = 0 }
        local result = cli.run({ "backup", "--all", "-o", folder .. "/store", "--rate", "0" },
            { env = emu.env })
        assert.equal("", result.err)
        assert.equal(0, result.exit)
    end)
end)

describe("at a terminal, Ctrl-C", function()
    it("ends a command that makes no request", function()
        assert(os.execute("mkfifo " .. cli.quote(folder .. "/fifo")))
        local terminal = open { "inspect", folder .. "/fifo", folder .. "/fifo" }
        -- Opening the other end waits until csms reads from it.
        local writer = assert(io.open(folder .. "/fifo", "wb"))
        terminal:press(CTRL_C)
        writer:close()
        assert.matches("exit code 130", terminal:screen())
    end)
end)
