-- Runs the command line for specs: `csms` of this checkout, in a process of its own.

local canaries = require "spec.support.canaries"
local files = require "spec.support.files"
local json = require "cjson"
local socket = require "socket"

local M = {}

-- Nothing of this machine's: no keys, no home, and a metadata service that refuses
-- connections instead of the real one's address.
local DEFAULTS = {
    PATH = os.getenv "PATH", LUA_PATH = os.getenv "LUA_PATH", LUA_CPATH = os.getenv "LUA_CPATH",
    HOME = "/nonexistent", CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1", TERM = "xterm",
}

local PATIENCE = 60 -- seconds

M.quote = files.quote

--- Waits until fn() gives a true value, and returns it.
function M.wait_for(what, fn)
    local ends_at = socket.gettime() + PATIENCE
    while true do
        local value = fn()
        if value then return value end
        if socket.gettime() > ends_at then error("waited in vain for " .. what, 2) end
        socket.sleep(0.02)
    end
end

--- The shell command of `csms ARGS`, with the signals as any program finds them.
-- environment: variables to set, false for one to leave out.
function M.command(args, environment)
    local variables, words = {}, { "env -i --default-signal=INT,TERM,PIPE" }
    for name, value in pairs(DEFAULTS) do variables[name] = value end
    for name, value in pairs(environment or {}) do variables[name] = value end
    for name, value in pairs(variables) do
        if value then words[#words + 1] = M.quote(name .. "=" .. value) end
    end
    words[#words + 1] = (os.getenv "CSMS_SPEC_LUA" or "lua5.4") .. " lua/csms/cli.lua"
    for _, arg in ipairs(args) do words[#words + 1] = M.quote(arg) end
    return table.concat(words, " ")
end

local Process = {}
Process.__index = Process

--- Starts `csms ARGS` in the background.
-- options: {env, stdin = text, stdout = a file instead, closed = "1" or "2"}
function M.start(args, options)
    options = options or {}
    local self = setmetatable({ folder = files.temporary() }, Process)
    for name, text in pairs { ["in"] = options.stdin or "", out = "", err = "" } do
        files.write(self.folder .. "/" .. name, text)
    end
    local command = ("exec %s <%s/in >%s 2>%s/err"):format(M.command(args, options.env),
        self.folder, options.stdout or self.folder .. "/out", self.folder)
    if options.closed then command = command .. " " .. options.closed .. ">&-" end
    self.pipe = assert(io.popen(("{ %s; } & echo $!; wait $!; echo $?"):format(command)))
    self.pid = assert(self.pipe:read("*n"))
    self.stdout = options.stdout
    self.command = args[1] or "alone"
    self.prints_blob = table.concat(args, " "):find("--stdout", 1, true)
    return self
end

function Process:signal(name)
    assert(os.execute(("kill -%s %d"):format(name, self.pid)))
end

--- What it has written to stderr so far.
function Process:err()
    return files.read(self.folder .. "/err")
end

--- The same for stdout.
function Process:out()
    return files.read(self.folder .. "/out")
end

--- Waits for its end: {exit, out, err, lines}, `lines` being stdout's lines.
function Process:wait()
    local result = { exit = self.pipe:read("*n") }
    self.pipe:close()
    result.out = self.stdout and "" or self:out()
    result.err = self:err()
    files.remove(self.folder)
    canaries.watch("the output of csms " .. self.command, result.out, self.prints_blob)
    canaries.watch("the messages of csms " .. self.command, result.err)
    return result
end

--- Runs `csms ARGS` to its end: as wait(). options: as start().
function M.run(args, options)
    return M.start(args, options):wait()
end

--- The objects of what --json wrote; the last one is the summary.
function M.objects(result)
    local objects = {}
    for line in result.out:gmatch("([^\n]*)\n") do objects[#objects + 1] = json.decode(line) end
    local summary = objects[#objects]
    assert(summary and summary.type == "summary", "no summary at the end: " .. result.out)
    assert(summary.exit == result.exit, "the summary names another exit code")
    return objects, summary
end

--- The objects of one outcome, by name.
function M.by_name(objects, outcome)
    local found, count = {}, 0
    for _, object in ipairs(objects) do
        if object.type == "secret" and object.outcome == outcome then
            found[object.name], count = object, count + 1
        end
    end
    return found, count
end

return M
