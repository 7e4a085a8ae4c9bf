-- soak.lua [COUNT]: a million calls through one client of plain Lua, and as many in nginx with two
-- workers. Prints resident memory, descriptors and threads at each tenth; what matters is that they
-- do not grow once the first is over. Exit code 1 where one of them does.

local files = require "spec.support.files"
local nginx = require "spec.support.nginx"
local server_of = require "spec.bench.server"
local socket = require "socket"

local count = tonumber(arg[1]) or 1000000
local tenth = math.floor(count / 10)
local MOST_GROWTH = 1024 -- KiB of resident memory, from the first half to the second

local function sample(pid)
    return { memory = nginx.resident(pid), descriptors = nginx.descriptors(pid),
        threads = #nginx.threads(pid) }
end

local function show(what, part, seen)
    print(("%-16s %3d0 %%  %7d KiB  %3d descriptors  %2d threads"):format(what, part, seen.memory,
        seen.descriptors, seen.threads))
    io.stdout:flush()
end

local failed = false

local function most_memory(samples, from, to)
    local most = 0
    for part = from, to do most = math.max(most, samples[part].memory) end
    return most
end

-- A single sample may be a megabyte less than the next: what was free has been given back.
local function judge(what, samples)
    local second, last = samples[2], samples[10]
    local growth = most_memory(samples, 6, 10) - most_memory(samples, 2, 5)
    local flat = growth <= MOST_GROWTH and last.descriptors <= second.descriptors + 2
        and last.threads <= second.threads
    print(("%-16s %s: %+d KiB from the first half to the second"):format(what,
        flat and "flat" or "NOT FLAT", growth))
    failed = failed or not flat
end

-- ---- plain Lua ----------------------------------------------------------------

local CHILD = [[
local csms, tenth = require "csms", %d
local client = assert(csms.new { deadline = 1e6 })
local names = {}
for index = 1, 1000 do names[index] = ("secret-%%04d"):format(index) end
for _ = 1, 10 do
    for _ = 1, tenth / 1000 do
        local report = assert(client:backup_many(nil, names, { on_result = function(_, blob, err)
            assert(blob, err)
        end }))
        assert(report.ok == 1000)
    end
    io.stdout:write("part\n")
    io.stdout:flush()
    io.stdin:read "*l"
end
]]

-- A child that waits for a line after each tenth, so that it can be looked at.
local function plain(server)
    local dir = files.temporary()
    files.write(dir .. "/child.lua", CHILD:format(tenth))
    os.execute("mkfifo " .. files.quote(dir .. "/go"))
    local pipe = assert(io.popen(
        ("env %s sh -c 'echo $$; exec lua5.4 \"$0/child.lua\" <\"$0/go\"' %s")
        :format(server:environment(), files.quote(dir))))
    local pid = tonumber(pipe:read "*l")
    local go = assert(io.open(dir .. "/go", "w"))
    local samples = {}
    for part = 1, 10 do
        assert(pipe:read "*l" == "part", "the child has failed")
        samples[part] = sample(pid)
        show("plain Lua", part, samples[part])
        go:write "\n"
        go:flush()
    end
    go:close()
    pipe:close()
    files.remove(dir)
    judge("plain Lua", samples)
end

-- ---- nginx --------------------------------------------------------------------

local HTTP = [[
    access_log off;
    init_by_lua_block {
        assert(require("csms").configure { endpoint = %q, ca_file = %q, project = %q,
            credentials = require("csms").credentials.static { ak = "AK", sk = "SK" } })
    }
    server {
        listen 127.0.0.1:@PORT@;
        location = /pid { content_by_lua_block { ngx.print(ngx.worker.pid()) } }
        location / { content_by_lua_block {
            local blob, err = require("csms").backup(nil, "secret-0001")
            if not blob then ngx.log(ngx.ERR, tostring(err)) ngx.exit(502) end
            ngx.print(#blob)
        } }
    }
]]

-- wrk counts by time: short runs until the tenth is reached.
local function drive(url, calls)
    while calls > 0 do
        local text = files.output_of("wrk -t1 -c64 -d5s " .. url)
        assert(not text:find "Non%-2xx", text)
        local done = tonumber(text:match "(%d+) requests in")
        assert(done > 0, text)
        calls = calls - done
    end
end

local function workers(server)
    local host = nginx.start { workers = 2,
        http = HTTP:format(server.fast, server.ca_file, server_of.SMALL) }
    local samples = {}
    for part = 1, 10 do
        drive(host.url .. "/", tenth)
        socket.sleep(0.5) -- wrk's connections are closed by then
        for index, pid in ipairs(host:workers()) do
            samples[index] = samples[index] or {}
            samples[index][part] = sample(pid)
            show("nginx worker " .. index, part, samples[index][part])
        end
    end
    local complaints = host:complaints()
    host:stop()
    assert(#complaints == 0, complaints[1])
    for index, list in ipairs(samples) do judge("nginx worker " .. index, list) end
end

local server = server_of.start()
local good, problem = pcall(function()
    plain(server)
    workers(server)
end)
server:stop()
if not good then error(problem, 0) end
os.exit(not failed)
