-- Lua programs in processes of their own, for specs of files, locks and signals.

local files = require "spec.support.files"

local M = {}

local running = {} -- child -> true

local Child = {}
Child.__index = Child

--- What a shell line prints, without the line's end.
function M.shell(line)
    return (files.output_of(line .. " 2>&1"):gsub("%s+$", ""))
end

-- A child may run in another folder.
local function absolute(path)
    if path:sub(1, 1) == "/" then return path end
    return M.shell "pwd" .. "/" .. path
end

local function absolute_paths(paths)
    return (paths:gsub("[^;]+", absolute))
end

local function interpreter()
    local name = os.getenv "CSMS_SPEC_LUA" or M.shell "readlink /proc/$PPID/exe"
    return name:find("/", 1, true) and absolute(name) or name
end

local PREAMBLE = [[
package.path, package.cpath = %q, %q
local core = require "csms.core"
io.stdout:setvbuf "no"
print((select(2, core.process())))
]]

-- Readable for any user, because some children run as another one.
local function write_script(chunk)
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(PREAMBLE:format(absolute_paths(package.path),
        absolute_paths(package.cpath)), chunk)
    file:close()
    os.execute("chmod 644 " .. path)
    return path
end

--- Starts a chunk, which has `core`; what it prints is line() and rest().
-- wrap: a shell line in which COMMAND stands for the program, as "umask 0; exec COMMAND".
function M.start(chunk, wrap)
    local script = write_script(chunk)
    -- With the signals as any program finds them: a background job ignores SIGINT.
    local command = ("env --default-signal=INT,TERM,PIPE '%s' '%s' 2>&1")
        :format(interpreter(), script)
    local line = (wrap or "exec COMMAND"):gsub("COMMAND", function() return command end)
    local pipe = assert(io.popen(line, "r"))
    local self = setmetatable({ pipe = pipe, script = script }, Child)
    self.first = pipe:read("*l") or ""
    self.pid = tonumber(self.first)
    running[self] = true
    return self
end

--- The next line, nil at the end.
function Child:line()
    return self.pipe:read("*l")
end

--- All that is left, after the child has ended.
function Child:rest()
    local text = self.pipe:read("*a")
    self:close()
    return text
end

function Child:kill(signal)
    os.execute(("kill -%s %d 2>/dev/null"):format(signal, self.pid))
end

--- Waits for its end.
function Child:close()
    if self.pipe then self.pipe:close() end
    self.pipe = nil
    running[self] = nil
    os.remove(self.script)
end

--- Ends those that a failed case has left: for after_each.
function M.end_all()
    for left in pairs(running) do
        if left.pid then left:kill "KILL" end
        left:close()
    end
end

--- Runs a chunk to its end: all that it printed.
function M.run(chunk, wrap)
    local child = M.start(chunk, wrap)
    local rest = child:rest()
    return child.pid and rest or child.first .. "\n" .. rest
end

return M
