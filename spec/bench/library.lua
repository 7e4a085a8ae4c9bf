-- The library at work, configured by the environment:
--
--   library.lua batch VERSION CONCURRENCY COUNT   backup_many, on warm connections
--   library.lua single COUNT                      one call after another, on a warm connection
--   library.lua all CONCURRENCY                   backup_all, blobs thrown away
--
-- batch and single print seconds and CPU seconds; all prints seconds, peak resident KiB, and the
-- seconds of the first and of the last 10,000 secrets.

local core = require "csms.core"
local csms = require "csms"

local WARM = 128
local TENTH = 10000

local function new_client(version)
    return assert(csms.new { http_version = version, deadline = 1e6 })
end

local function names_to(count)
    local names = {}
    for index = 1, count do names[index] = ("secret-%04d"):format(index - 1) end
    return names
end

local function backup_many(client, names, concurrency)
    local report = assert(client:backup_many(nil, names, { concurrency = concurrency }))
    assert(report.ok == #names, "not all were backed up")
    return report
end

local function measure(work)
    local wall, cpu = core.now(), os.clock()
    work()
    print(("%.6f %.6f"):format(core.now() - wall, os.clock() - cpu))
end

local function peak()
    for line in io.lines "/proc/self/status" do
        local kib = line:match "^VmHWM:%s*(%d+)"
        if kib then return tonumber(kib) end
    end
end

local modes = {}

function modes.batch(version, concurrency, count)
    local client, names = new_client(version), names_to(tonumber(count))
    concurrency = tonumber(concurrency)
    backup_many(client, names_to(WARM), concurrency)
    measure(function() backup_many(client, names, concurrency) end)
end

function modes.single(count)
    local client, names = new_client("2"), names_to(tonumber(count))
    for _ = 1, WARM do assert(client:backup(nil, "warm")) end
    measure(function()
        for _, name in ipairs(names) do assert(client:backup(nil, name)) end
    end)
end

function modes.all(concurrency)
    local client = new_client("2")
    local started, done, times = core.now(), 0, {}
    local report = assert(client:backup_all(nil, {
        concurrency = tonumber(concurrency),
        on_result = function(_, blob, err)
            assert(blob, err)
            done = done + 1
            if done % TENTH == 0 then times[#times + 1] = core.now() end
        end,
    }))
    assert(report.ok == done and not report.incomplete, "not all were backed up")
    local first, last = (times[1] or started) - started, 0
    if #times > 1 then last = times[#times] - times[#times - 1] end
    print(("%.6f %d %.6f %.6f"):format(core.now() - started, peak(), first, last))
end

modes[arg[1]](arg[2], arg[3], arg[4])
