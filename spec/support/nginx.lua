-- Starts, steers and stops nginx with its Lua module for specs, on loopback only, in a temporary
-- folder of its own. nginx is always LuaJIT, whatever Lua the specs run on.
--
--   local nginx = require "spec.support.nginx"
--   local server = nginx.start { http = [[
--       init_by_lua_block { ... }
--       server { listen 127.0.0.1:@PORT@; location /x { ... } }
--   ]], workers = 2, environment = { NAME = "value" } }
--   local body, status = server:get "/x"
--   server:quit()
--
-- In `http` and `main`, @PORT@, @PORT2@ and @PORT3@ are free ports, @DIR@ is the folder.

local canaries = require "spec.support.canaries"
local files = require "spec.support.files"
local socket = require "socket"

local ROOT = debug.getinfo(1, "S").source:match("^@(.*)spec/support/nginx%.lua$") or ""
local MODULES = "/usr/lib/nginx/modules"
local LOWEST, HIGHEST = 32001, 32767 -- above the emulators', below outgoing connections

local output_of, quote = files.output_of, files.quote

local M = {}

local Server = {}
Server.__index = Server

local HEAD = [[
load_module @MODULES@/ndk_http_module.so;
load_module @MODULES@/ngx_http_lua_module.so;
worker_processes @WORKERS@;
worker_rlimit_nofile 8192;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log notice;
@MAIN@
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path @DIR@/tmp;
    proxy_temp_path @DIR@/tmp;
    fastcgi_temp_path @DIR@/tmp;
    uwsgi_temp_path @DIR@/tmp;
    scgi_temp_path @DIR@/tmp;
    lua_package_path '@ROOT@lua/?.lua;@ROOT@lua/?/init.lua;@ROOT@?.lua;;';
    lua_package_cpath '@CPATH@;;';
@HTTP@
}
]]

-- ---- helpers ----------------------------------------------------------------

-- Workers of root's nginx must read what is root's: an emulator's folder, a checkout.
local function is_root()
    return output_of("id -u"):find("^0%s") ~= nil
end

local function here()
    return (output_of("pwd"):gsub("%s+$", ""))
end

-- The folder of this checkout, with a slash at its end.
function M.root()
    local root = ROOT
    if not root:find("^/") then root = here() .. "/" .. root:gsub("^%./", "") end
    return root
end

-- Where this process finds csms.core, LuaJIT's in place of Lua 5.4's.
function M.cpath()
    for entry in package.cpath:gmatch("[^;]+") do
        local luajit = entry:gsub("/5%.4/%?%.so$", "/5.1/?.so"):gsub("^%./", here() .. "/")
        local file = io.open((luajit:gsub("%?", "csms/core")), "rb")
        if file then
            file:close()
            return luajit
        end
    end
    error("there is no csms/core.so for LuaJIT; build it with make")
end

-- Not math.random: on LuaJIT it gives every process the same numbers.
local function random_port()
    local source = assert(io.open("/dev/urandom", "rb"))
    local high, low = source:read(2):byte(1, 2)
    source:close()
    return LOWEST + (high * 256 + low) % (HIGHEST - LOWEST)
end

local function free_port()
    for _ = 1, 500 do
        local port = random_port()
        local listener = socket.tcp()
        listener:setoption("reuseaddr", true)
        local free = listener:bind("127.0.0.1", port)
        listener:close()
        if free then return port end
    end
    error "no free port"
end

local function fill(text, values)
    return (text:gsub("@([A-Z][A-Z0-9]*)@", values))
end

--- Looks every few milliseconds until fn() is true, and returns that; raises with `what`.
function M.wait_until(what, fn, seconds)
    local deadline = socket.gettime() + (seconds or 20)
    repeat
        local result = fn()
        if result then return result end
        socket.sleep(0.01)
    until socket.gettime() > deadline
    error("waited in vain until " .. what, 2)
end

-- ---- starting ---------------------------------------------------------------

local function write_configuration(server, options)
    local values = {
        MODULES = MODULES, DIR = server.dir, ROOT = M.root(), CPATH = M.cpath(),
        WORKERS = tostring(options.workers or 1),
    }
    for index = 1, 3 do
        local name = "PORT" .. (index > 1 and index or "")
        values[name] = tostring(server.ports[index])
    end
    local text
    if options.conf then
        text = fill(options.conf, values)
    else
        values.MAIN = fill(options.main or "", values)
        values.HTTP = fill(options.http, values)
        text = fill(HEAD, values)
    end
    local file = assert(io.open(server.dir .. "/nginx.conf", "wb"))
    file:write(text)
    file:close()
end

-- nginx stays in the foreground, so that it is this process's own child, and ends with it.
local function command(server, environment)
    local words = { "echo $$; exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin" }
    for name, value in pairs(environment or {}) do
        words[#words + 1] = quote(name .. "=" .. value)
    end
    local log = quote(server.dir .. "/error.log")
    words[#words + 1] = ("setpriv --pdeathsig TERM nginx -p %s -e %s -c %s -g 'daemon off; %s' "
        .. "2>>%s >&2"):format(quote(server.dir), log, quote(server.dir .. "/nginx.conf"),
        is_root() and "user root;" or "", log)
    return table.concat(words, " ")
end

local function answers(port)
    local client = socket.tcp()
    client:settimeout(5)
    local line = client:connect("127.0.0.1", port)
        and client:send("GET /is-it-up HTTP/1.0\r\n\r\n") and client:receive("*l")
    client:close()
    return line
end

local function launch(options)
    local server = setmetatable({ ports = { free_port(), free_port(), free_port() } }, Server)
    server.port = server.ports[1]
    server.url = "http://127.0.0.1:" .. server.port
    server.dir = files.temporary()
    write_configuration(server, options)
    server.pipe = assert(io.popen(command(server, options.environment), "r"))
    server.pid = assert(tonumber(server.pipe:read "*l")) -- of the master
    M.wait_until("nginx runs", function()
        return server:master() or server:log():find("%[emerg%]")
            or server:log():find("init_by_lua error")
    end, 60)
    return server
end

--- options: http (the content of http{}) or conf (a whole nginx.conf); main (beside them),
--- workers (1), environment (nginx's own; nothing else is in it).
function M.start(options)
    for _ = 1, 5 do
        local server = launch(options)
        local log = server:log()
        if not log:find("%[emerg%]") and not log:find("init_by_lua error") then
            M.wait_until("nginx answers", function() return answers(server.port) end)
            return server
        end
        server:kill()
        if not log:find("Address already in use", 1, true) then
            error("nginx does not start: " .. log, 2)
        end
    end
    error "nginx found no free ports"
end

-- ---- its life ---------------------------------------------------------------

local function read(path)
    local file = io.open(path, "rb")
    local text = file and file:read("*a")
    if file then file:close() end
    return text
end

function Server:master()
    return tonumber(read(self.dir .. "/nginx.pid") or "")
end

--- Pids of the workers, those that shut down too.
function Server:workers()
    local pids = {}
    local master = self:master()
    local children = master and read(("/proc/%d/task/%d/children"):format(master, master)) or ""
    for pid in children:gmatch("%d+") do pids[#pids + 1] = tonumber(pid) end
    return pids
end

function Server:signal(name, pid)
    os.execute(("kill -%s %d 2>&-"):format(name, pid or self.pid))
end

--- Loads the configuration again; returns when there are new workers only.
function Server:reload(no_wait)
    local old = {}
    for _, pid in ipairs(self:workers()) do old[pid] = true end
    self:signal "HUP"
    if no_wait then return end
    M.wait_until("all old workers have gone", function()
        local pids = self:workers()
        for _, pid in ipairs(pids) do if old[pid] then return false end end
        return #pids > 0
    end, 60)
end

--- Removes folder and process; `log_text` stays. Called by those below.
function Server:_gone()
    if not self.pipe then return end
    self.pipe:close() -- waits for the master's end
    self.pipe = nil
    self.log_text = canaries.watch("nginx's log", self:log())
    files.remove(self.dir)
end

local function stop(name)
    return function(self)
        if not self.pipe then return end
        self:signal(name)
        self:_gone()
    end
end

--- Ends as nginx does: at once; after what is in flight; as if it had crashed.
Server.stop = stop "TERM"
Server.quit = stop "QUIT"

function Server:kill()
    if not self.pipe then return end
    for _, pid in ipairs(self:workers()) do self:signal("KILL", pid) end
    self:signal "KILL"
    self:_gone()
end

-- ---- what it tells ----------------------------------------------------------

function Server:log()
    return self.log_text or read(self.dir .. "/error.log") or ""
end

--- Lines of error.log that tell of trouble, but for those that match a pattern of `expected`.
function Server:complaints(expected)
    local lines = {}
    for line in self:log():gmatch("[^\n]+") do
        if line:find("%[warn%]") or line:find("%[error%]") or line:find("%[crit%]")
            or line:find("%[alert%]") or line:find("%[emerg%]") then
            local known = line:find("is-it-up", 1, true)
            for _, pattern in ipairs(expected or {}) do known = known or line:find(pattern) end
            if not known then lines[#lines + 1] = line end
        end
    end
    return lines
end

--- The body of a GET, and its status.
function Server:get(path, port)
    local parts = {}
    local _, status = require("socket.http").request {
        url = "http://127.0.0.1:" .. (port or self.port) .. path,
        sink = require("ltn12").sink.table(parts),
    }
    return canaries.watch("an answer of nginx", table.concat(parts), true), status
end

--- Sends a GET and returns the connection without waiting for the answer.
function Server:open(path)
    local client = assert(socket.connect("127.0.0.1", self.port))
    client:settimeout(30)
    assert(client:send("GET " .. path .. " HTTP/1.0\r\n\r\n"))
    return client
end

--- The body that a connection of open() gets, and its status line.
function Server.finish(client)
    local text = client:receive("*a") or ""
    client:close()
    canaries.watch("an answer of nginx", text, true)
    local head, body = text:match("^(.-)\r\n\r\n(.*)$")
    return body or "", head and head:match("^[^\r]*") or ""
end

-- ---- a process, by its pid --------------------------------------------------

--- Whether it is there; the specs' own children that ended count as gone.
function M.alive(pid)
    local stat = read(("/proc/%d/stat"):format(pid))
    return stat ~= nil and not stat:match("^.*%) (%a)"):find("[ZX]")
end

--- Number of open descriptors.
function M.descriptors(pid)
    return tonumber(output_of(("ls /proc/%d/fd | wc -l"):format(pid)))
end

--- Resident memory in KiB.
function M.resident(pid)
    return tonumber(read(("/proc/%d/status"):format(pid)):match("VmRSS:%s*(%d+)"))
end

--- Thread ids, the main thread first.
function M.threads(pid)
    local ids = {}
    for id in output_of(("ls /proc/%d/task"):format(pid)):gmatch("%d+") do
        ids[#ids + 1] = tonumber(id)
    end
    table.sort(ids)
    return ids
end

--- A line of /proc/PID/task/TID/status, such as SigBlk.
function M.status(pid, thread, field)
    return read(("/proc/%d/task/%d/status"):format(pid, thread)):match("\n" .. field .. ":%s*(%S+)")
end

--- Sums of the readable symbolic links of a process's descriptors.
function M.links(pid)
    return output_of(("ls -l /proc/%d/fd 2>/dev/null"):format(pid))
end

return M
