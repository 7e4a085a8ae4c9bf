-- What the specs of the client share: clients, child processes, servers that misbehave.

local canaries = require "spec.support.canaries"
local csms = require "csms"
local files = require "spec.support.files"

local output_of, quote = files.output_of, files.quote

local M = {}

-- A machine that others use too may stand still for seconds. So what must not wait for a server
-- has one that holds its answer back for HELD seconds, and is through in SOON.
M.HELD = 60
M.SOON = 20

--- A client of the emulator that tries once; `changes` are further config keys.
function M.client(emu, changes)
    local config = {
        endpoint = emu.endpoint, ca_file = emu.ca_file, project = emu.project,
        credentials = csms.credentials.static { ak = emu.ak, sk = emu.sk }, retry = false,
        connect_timeout = M.SOON,
    }
    for key, value in pairs(changes or {}) do config[key] = value end
    return assert(csms.new(config))
end

--- Makes garbage whose finalizer calls fn, for the collector to find in the next call.
function M.garbage(fn)
    local newproxy = rawget(_G, "newproxy") -- LuaJIT's tables have no __gc
    local proxy = newproxy and newproxy(true)
    if proxy then getmetatable(proxy).__gc = fn else setmetatable({}, { __gc = fn }) end
end

--- The error of a call that must have failed with that kind.
function M.failure(kind, result, err)
    if result ~= nil then error("no error, but a result of type " .. type(result), 2) end
    if type(err) ~= "table" or err.kind ~= kind then
        error("kind " .. kind .. " expected, got: " .. tostring(err), 2)
    end
    return err
end

--- How many transfers a client knows to be in flight.
function M.in_flight(client)
    local count = 0
    for _, transfer in pairs(client.in_flight) do
        if transfer then count = count + 1 end
    end
    return count
end

--- The results of fn(...), after the seconds that it took.
function M.timed(fn, ...)
    local now = require("socket").gettime
    local start = now()
    local first, second = fn(...)
    return now() - start, first, second
end

--- The results of timed(fn) of the first of ten tries that took at most `limit` seconds: those
--- in which the machine stood still are not looked at. Raises where all of them took longer.
function M.within(limit, fn)
    local best = math.huge
    for _ = 1, 10 do
        local seconds, first, second = M.timed(fn)
        if seconds <= limit then return seconds, first, second end
        best = math.min(best, seconds)
    end
    error(("%.3f s instead of at most %g s"):format(best, limit), 2)
end

-- ---- child processes --------------------------------------------------------

local VARIABLES = {
    "CSMS_AUTH_TOKEN", "CSMS_CA_FILE", "CSMS_ENDPOINT", "CSMS_REGION", "HUAWEICLOUD_SDK_AK",
    "HUAWEICLOUD_SDK_IAM_ENDPOINT", "HUAWEICLOUD_SDK_PROJECT_ID", "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    "HUAWEICLOUD_SDK_SK", "ALL_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy",
    "NO_PROXY", "no_proxy", "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
    "HC_CONTAINER_CREDENTIALS_FULL_URI", "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE",
}

-- No source of credentials but those that a case names: no home, and a metadata
-- service that refuses connections instead of the real one's address.
local DEFAULTS = { HOME = "/nonexistent", CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1" }

local function interpreter()
    return os.getenv "CSMS_SPEC_LUA" or (output_of("readlink /proc/$PPID/exe"):gsub("%s+$", ""))
end

-- A script with this process's module paths; the caller removes it.
local function write_script(chunk)
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    local paths = ("package.path, package.cpath = %q, %q\n"):format(package.path, package.cpath)
    file:write(paths, chunk)
    file:close()
    return path
end

-- The command that runs it on this Lua, with SIGPIPE as any program finds it.
local function command_of(path, environment)
    local words = { "env --default-signal=PIPE" }
    for _, name in ipairs(VARIABLES) do words[#words + 1] = "-u " .. name end
    local variables = {}
    for name, value in pairs(DEFAULTS) do variables[name] = value end
    for name, value in pairs(environment or {}) do variables[name] = value end
    for name, value in pairs(variables) do
        words[#words + 1] = quote(name .. "=" .. value)
    end
    words[#words + 1] = quote(interpreter())
    words[#words + 1] = quote(path)
    return table.concat(words, " ")
end

--- Runs a chunk in a process of its own: all that it wrote, and its exit status.
-- environment: variables to set; those that the library reads are unset else.
function M.run(chunk, environment)
    local path = write_script(chunk)
    local text = output_of(command_of(path, environment) .. " 2>&1; echo \" exit $?\"")
    os.remove(path)
    local output, status = text:match("^(.*) exit (%d+)%s*$")
    return canaries.watch("the output of a child", output, true), tonumber(status)
end

-- ---- servers ----------------------------------------------------------------

local SERVER = [[
local socket = require "socket"
local listener = assert(socket.bind("127.0.0.1", 0))
local log = io.open(LOG, "ab")

local function note(text)
    log:write(text, "\n")
    log:flush()
end

local function read_request(peer)
    local lines = {}
    repeat
        lines[#lines + 1] = assert(peer:receive("*l"))
    until lines[#lines] == ""
    local head = table.concat(lines, "\n")
    local length = tonumber(head:lower():match("\ncontent%-length: (%d+)") or 0)
    return head, length > 0 and peer:receive(length) or ""
end

local function answer(peer, status, body, headers)
    peer:send("HTTP/1.1 " .. status .. "\r\nContent-Length: " .. #body
        .. "\r\nConnection: close\r\n" .. (headers or "") .. "\r\n" .. body)
end

local function serve(peer)
    BODY
end

local pid = io.open("/proc/self/stat"):read("*n")
print(("%d %d"):format(select(2, listener:getsockname()), pid))
io.stdout:flush()
listener:settimeout(60)
while true do
    local peer = listener:accept()
    if not peer then break end
    peer:settimeout(10)
    pcall(serve, peer)
    peer:close()
end
]]

local Server = {}
Server.__index = Server

--- What the server noted so far.
function Server:log()
    return files.read(self.log_path)
end

function Server:stop()
    if not self.pipe then return end
    os.execute("kill " .. self.pid)
    self.pipe:close()
    self.pipe = nil
    os.remove(self.script)
    os.remove(self.log_path)
end

--- A server on loopback, one connection after the other. `body` is the Lua text
-- of a function that is called with each: it has `peer` (a LuaSocket client),
-- `socket`, note(text), read_request(peer) -> head, body and
-- answer(peer, "200 OK", body [, header lines]).
function M.server(body)
    local log_path = os.tmpname()
    local text = "local LOG = " .. ("%q"):format(log_path) .. "\n"
        .. SERVER:gsub("BODY", function() return body end)
    local script = write_script(text)
    local pipe = assert(io.popen("exec " .. command_of(script), "r"))
    local port, pid = (pipe:read("*l") or ""):match("^(%d+) (%d+)$")
    assert(port, "the server did not start")
    return setmetatable({
        pipe = pipe, pid = pid, script = script, log_path = log_path,
        host = "127.0.0.1:" .. port, endpoint = "http://127.0.0.1:" .. port,
    }, Server)
end

--- Calls fn(server) and stops the server, whatever happens.
function M.with_server(body, fn)
    local server = M.server(body)
    local ok, err = pcall(fn, server)
    server:stop()
    if not ok then error(err, 0) end
end

return M
