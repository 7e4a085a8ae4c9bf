-- What was asked: a bounded log of the newest requests, and counters that never forget.
local state = require "spec.emulator.state"
local access = require "spec.emulator.access"

local requests = {}

local log, first, last
local counters

local function clear()
    log, first, last = {}, 1, 0
    counters = {
        requests = 0, operations = {}, statuses = {}, faults = 0, in_flight = 0, peak = 0,
        connections = 0,
    }
    requests.seen = {}
end
state.on_reset(clear)
requests.clear = clear

local function bump(counts, key)
    counts[key] = (counts[key] or 0) + 1
end

local function trim()
    while last - first + 1 > state.settings.log_cap do
        log[first] = nil
        first = first + 1
    end
end

local function count_arrival(entry)
    counters.requests = counters.requests + 1
    counters.in_flight = counters.in_flight + 1
    counters.peak = math.max(counters.peak, counters.in_flight)
    bump(counters.operations, entry.operation)
    if not requests.seen[entry.connection] then
        requests.seen[entry.connection] = true
        counters.connections = counters.connections + 1
    end
end

-- Logged as it comes, so that requests still in flight can be seen too (status 0).
function requests.arrive(entry)
    last = last + 1
    log[last] = entry
    count_arrival(entry)
    entry.seq, entry.status, entry.at = counters.requests, 0, ngx.now()
    entry.counters = counters
    trim()
end

-- status 0: no answer was given.
function requests.leave(entry, status, faulty)
    entry.status = status
    -- A reset while the request was in flight began new counters, which it must not touch.
    if entry.counters ~= counters then return end
    entry.counters = nil
    counters.in_flight = counters.in_flight - 1
    bump(counters.statuses, tostring(status))
    if faulty then counters.faults = counters.faults + 1 end
end

-- The newest `limit` entries that fit, oldest first.
function requests.list(operation, name, limit)
    local found = {}
    for i = first, last do
        local entry = log[i]
        local fits = (not operation or entry.operation == operation)
            and (not name or entry.name == name)
        if fits then found[#found + 1] = entry end
    end
    local list = {}
    for i = math.max(1, #found - (limit or #found) + 1), #found do
        local copy = {}
        for key, value in pairs(found[i]) do copy[key] = value end
        copy.counters = nil
        list[#list + 1] = copy
    end
    return list
end

function requests.counters()
    local all = { issued = access.issued() }
    for key, value in pairs(counters) do all[key] = value end
    return all
end

return requests
