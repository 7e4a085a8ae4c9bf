-- run.lua [quick]: throughput and CPU of the library in nginx handlers, and what others on the same
-- worker feel of it, against a cosocket exchange by hand and against blocking. Each has an nginx of
-- one worker for itself, and they share another as HTTPS upstream; ratios within a round
-- (spec.bench.measure), because machines differ.
-- Needs wrk, and csms.core built for LuaJIT.

local files = require "spec.support.files"
local rounds = require "spec.bench.measure"
local nginx = require "spec.support.nginx"
local socket = require "socket"

local quote, read = files.quote, files.read
local ratio, typical = rounds.ratio, rounds.typical

local quick = arg[1] == "quick"
local ROUNDS, SECONDS, WARM = quick and 3 or 9, 2, 1
local CANDIDATES = { "csms", "http1", "cosocket", "blocking" }
local TICKS = 100 -- a second, of /proc/PID/stat

local dir = files.temporary()
local pipes = {}

-- The worker of an nginx with that configuration: its process id.
local function start(name, configuration, values)
    values.NAME = name
    local text = read("spec/bench/openresty/" .. configuration):gsub("@([A-Z]+)@", values)
    local path = dir .. "/" .. name
    files.write(path .. ".conf", text)
    local root = files.output_of("id -u"):find "^0%s" and "user root;" or ""
    local pipe = io.popen(("exec setpriv --pdeathsig TERM nginx -p %s -e %s -c %s "
        .. "-g 'daemon off; %s' 2>>%s"):format(quote(dir), quote(path .. ".log"),
        quote(path .. ".conf"), root, quote(path .. ".log")))
    pipes[#pipes + 1] = { pipe = pipe, name = name }
    nginx.wait_until(name .. " runs", function()
        local pid = io.open(path .. ".pid")
        if pid then pid:close() end
        return pid
    end)
    local master = tonumber(read(path .. ".pid"))
    return tonumber(nginx.wait_until("it has a worker", function()
        return read(("/proc/%d/task/%d/children"):format(master, master)):match "%d+"
    end))
end

local function stop()
    for _, item in ipairs(pipes) do
        os.execute("kill $(cat " .. quote(dir .. "/" .. item.name .. ".pid") .. ")")
        item.pipe:close()
    end
    files.remove(dir)
end

-- CPU seconds of the worker's own thread, and of all its threads.
local function cpu(pid)
    local function of(path)
        local fields = {}
        for field in read(path):match("^.*%) (.*)$"):gmatch "%S+" do
            fields[#fields + 1] = field
        end
        return (tonumber(fields[12]) + tonumber(fields[13])) / TICKS
    end
    return of(("/proc/%d/task/%d/stat"):format(pid, pid)), of(("/proc/%d/stat"):format(pid))
end

-- A GET every 5 ms of a location that has nothing to do with it: its latencies.
local function probe(port, seconds)
    local latencies, deadline = {}, socket.gettime() + seconds
    local client
    while socket.gettime() < deadline do
        if not client then
            client = assert(socket.connect("127.0.0.1", port))
            client:setoption("tcp-nodelay", true)
            client:settimeout(5)
        end
        local begun = socket.gettime()
        client:send "GET /free HTTP/1.1\r\nHost: x\r\n\r\n"
        local length, line = 0, nil -- luacheck: ignore 311
        repeat
            line = client:receive()
            length = tonumber((line or ""):match "^Content%-Length: (%d+)") or length
        until not line or line == ""
        if line and client:receive(length) then
            latencies[#latencies + 1] = socket.gettime() - begun
        else
            latencies[#latencies + 1] = 5
            client:close()
            client = nil
        end
        socket.sleep(0.005)
    end
    if client then client:close() end
    table.sort(latencies)
    return latencies[math.max(1, math.floor(#latencies * 0.99))]
end

local function measure(worker, candidate, speed, concurrency)
    local pid, port = worker.pid, worker.port
    local url = ("http://127.0.0.1:%d/%s/%s"):format(port, candidate, speed)
    files.output_of(("wrk -t1 -c%d -d%ds %s"):format(concurrency, WARM, url))
    local main, all = cpu(pid)
    local pipe = io.popen(("wrk -t1 -c%d -d%ds --timeout 30s %s"):format(concurrency, SECONDS, url))
    local latency = probe(port, SECONDS - 0.2)
    local text = pipe:read "*a"
    pipe:close()
    local main_after, all_after = cpu(pid)
    local calls = tonumber(text:match "(%d+) requests in") or 0
    local failed = tonumber(text:match "Non%-2xx or 3xx responses: (%d+)") or 0
    if failed > 0 then io.stderr:write(candidate, " ", speed, ": ", failed, " failed\n") end
    return {
        rate = tonumber(text:match "Requests/sec:%s*([%d.]+)") or 0, failed = failed,
        main = (main_after - main) / math.max(calls, 1) * 1e6,
        all = (all_after - all) / math.max(calls, 1) * 1e6, p99 = latency * 1000,
    }
end

local function make_certificate()
    assert(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        .. "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
        .. "-keyout %s -out %s 2>/dev/null"):format(quote(dir .. "/server.key"),
        quote(dir .. "/server.crt"))))
end

local function show(seen, speed, concurrency)
    for _, candidate in ipairs(CANDIDATES) do
        if seen[candidate] then
            local function beside(what) return ratio(seen, candidate, "cosocket", what) end
            print(("%-8s %4d  %-9s %6.2f  %6.2f  %6.2f  %6.2f   (%.0f/s, %.0f us, %.2f ms)")
                :format(speed, concurrency, candidate, beside "rate", beside "main", beside "all",
                beside "p99", typical(seen, candidate, "rate"), typical(seen, candidate, "main"),
                typical(seen, candidate, "p99")))
        end
    end
    io.stdout:flush()
end

local function table_of(workers)
    print "Ratios to the cosocket exchange; medians; in brackets what was measured"
    print "upstream conc. candidate   calls   main    all    p99 of"
    print "                              /s    CPU    CPU   another"
    for _, speed in ipairs { "instant", "slow" } do
        for _, concurrency in ipairs { 32, 256 } do
            local takers = {}
            for _, name in ipairs(CANDIDATES) do
                -- Blocking takes its whole latency from the worker, one call after the other.
                takers[name] = (name ~= "blocking" or speed == "instant") and function()
                    return measure(workers[name], name, speed, concurrency)
                end or nil
            end
            show(rounds.in_rounds(ROUNDS, takers), speed, concurrency)
        end
    end
end

math.randomseed(os.time())
make_certificate()
local base = math.random(24000, 31000)
local values = { DIR = dir, UPSTREAM = tostring(base), SLOW = tostring(base + 1),
    ROOT = nginx.root():gsub("/$", ""), CPATH = nginx.cpath() }
local good, problem = pcall(function()
    start("upstream", "upstream.conf", values)
    local workers = {}
    for index, name in ipairs(CANDIDATES) do
        local port = base + 1 + index
        values.PORT = tostring(port)
        workers[name] = { pid = start(name, "worker.conf", values), port = port }
    end
    table_of(workers)
end)
if not good then
    io.stderr:write(tostring(problem), "\n")
    os.execute("tail -5 " .. quote(dir) .. "/*.log >&2")
end
stop()
os.exit(good)
