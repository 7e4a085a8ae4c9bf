-- SPDX-License-Identifier: MIT
-- Waiting inside nginx (OpenResty): libcurl runs in a thread of its own, and
-- the worker's event loop only hears of what has ended. One driver, in a timer,
-- reads the thread's wake-up socket and posts the semaphore of each waiter.
-- Where no driver can run, waiters look for themselves every few milliseconds.

local core = require "csms.core"
local blocking = require "csms.runtime.blocking"
local semaphore = require "ngx.semaphore"

local M = {}

local POLL = 0.005        -- seconds between looks without a driver
local SAFETY = 1          -- the same with one: it may have died
local DRIVER_RETRY = 1    -- seconds until a driver that failed is tried again
local READ_TIMEOUT = 3600000 -- ms; never reached, because the thread tells of idleness
local SHORTEST = 0.001    -- seconds: nginx counts milliseconds, and waits for none in vain
local LEASE = 40          -- seconds, longer than any source of credentials takes: see is_lost
local INIT_DEADLINE = 10  -- seconds that a call in init_by_lua may block nginx's start

-- Phases in which nginx lets Lua wait. init is another matter: see below.
local CAN_WAIT = {
    rewrite = true, server_rewrite = true, access = true, content = true, timer = true,
    ssl_cert = true, ssl_client_hello = true, ssl_session_fetch = true,
}

local channel                -- of this Lua VM, made at the first request
local waiting = {}           -- transfer id -> semaphore
local spare = {}             -- semaphores without a post on them
local driver = { running = false, ready = false, retry_at = 0 }
local flights = {}           -- key of once() -> the flight
local listings = setmetatable({}, { __mode = "k" }) -- key of once_here() -> the flight
local groups = setmetatable({}, { __mode = "k" }) -- light thread -> its group

M.now = core.now
M.time = core.time
M.random = core.random

-- ---- the driver -----------------------------------------------------------

-- Returns how many had ended.
local function post_finished()
    local count = 0
    for id in channel.drain, channel do
        local waiter = waiting[id]
        waiting[id] = nil
        if waiter then waiter:post(1) end
        count = count + 1
    end
    return count
end

local function connect()
    local path = channel:listen()
    local socket = path and ngx.socket.tcp()
    if not socket then return nil end
    socket:settimeouts(1000, 1000, READ_TIMEOUT)
    if not socket:connect("unix:" .. path) or not channel:accept() then
        channel:detach() -- and the path goes
        socket:close()
        return nil
    end
    return socket
end

-- Ends when nothing is in flight, so that no idle reader holds up a worker that
-- shuts down. It runs when its timer is premature too: handlers may be waiting.
local function drive()
    if driver.ready then return end -- another one, whose timer came late
    local socket = connect()
    if socket then
        driver.ready = true
        post_finished()
        while true do
            local news = socket:receiveany(64)
            if not news then break end
            -- In this order: what ends in between is there to be posted.
            local idle = (news:find("i", 1, true) or ngx.worker.exiting())
                and channel:in_flight() == 0
            post_finished()
            if idle then break end
        end
        channel:detach()
        socket:close()
    else
        driver.retry_at = M.now() + DRIVER_RETRY
    end
    driver.running, driver.ready = false, false
end

-- A timer that nginx drops (lua_max_running_timers) never runs: hence the time.
local function ensure_driver()
    local now = M.now()
    if driver.ready or now < driver.retry_at then return end
    if driver.running and now < driver.started_at + DRIVER_RETRY then return end
    driver.running, driver.started_at = true, now
    if not ngx.timer.at(0, drive) then
        driver.running, driver.retry_at = false, now + DRIVER_RETRY
    end
end

-- ---- semaphores -----------------------------------------------------------

local function take_semaphore()
    return table.remove(spare) or semaphore.new(0)
end

local function put_semaphore(waiter)
    waiter:wait(0) -- takes a post that came too late
    spare[#spare + 1] = waiter
end

-- Until it is posted or the time is over. Whoever has asked available() can wait; anybody
-- else would be told at once that he cannot, again and again.
local function wait(waiter, seconds)
    local posted, problem = waiter:wait(seconds)
    if not posted and problem ~= "timeout" then
        error("csms cannot wait here: " .. tostring(problem), 0)
    end
end

-- ---- init_by_lua: the master process, before the workers ------------------

-- It may block. Nothing of it may live on in the workers that are forked next,
-- so its channel is closed, and the connections with it, as soon as it is idle.
local init = blocking.new(core)

local function close_when_idle()
    -- While each() runs, coroutines may not have heard yet of what has ended.
    if init.running == 0 and init.channel and init.channel:in_flight() == 0 then
        init.channel:close()
        init.channel = nil
    end
end

local function in_init()
    return ngx.get_phase() == "init"
end

-- ---- what the library calls -----------------------------------------------

--- Whether a call can be made here: true, or nil and what is wrong; then the
--- longest deadline that it may have, if there is one.
function M:available()
    local phase = ngx.get_phase()
    if CAN_WAIT[phase] then
        if core.can_yield() then return true end
        return nil, "nginx cannot wait within a callback of gsub, sort, require and the like: "
            .. "make the call outside of it"
    end
    if phase == "init" then return true, INIT_DEADLINE end
    return nil, ("nginx cannot wait in the phase '%s': make the call in a timer, "
        .. "ngx.timer.at(0, function() ... end)"):format(phase)
end

--- See csms.runtime.blocking for these.
function M:submit(origin, credential, request)
    if in_init() then return init:submit(origin, credential, request) end
    if not channel then
        local made, err = core.channel()
        if not made then return nil, err end
        channel = made
    end
    local started, err = channel:start() -- again after a fork
    if not started then return nil, err end
    return channel:submit(origin, credential, request)
end

local function wait_for(transfer)
    local id = transfer:id()
    local waiter = take_semaphore()
    waiting[id] = waiter
    while not transfer:done() do
        ensure_driver()
        wait(waiter, driver.ready and SAFETY or POLL)
        if not driver.ready then post_finished() end
    end
    waiting[id] = nil
    put_semaphore(waiter)
end

function M:await(transfer)
    if in_init() then
        init:await(transfer)
        return close_when_idle()
    end
    local group = groups[coroutine.running()]
    if group then
        if group.cancelled then transfer:cancel() end
        group.transfers[transfer] = true
    end
    wait_for(transfer)
    if group then group.transfers[transfer] = nil end
end

function M:sleep(seconds)
    if in_init() then return init:sleep(seconds) end
    seconds = math.max(seconds, SHORTEST)
    local group = groups[coroutine.running()]
    if not group then
        ngx.sleep(seconds)
        return true
    end
    if not group.cancelled then
        local waiter = take_semaphore()
        group.sleepers[waiter] = true
        waiter:wait(seconds)
        group.sleepers[waiter] = nil
        put_semaphore(waiter)
    end
    return not group.cancelled
end

local function cancel_group(group, problem)
    if group.cancelled then return end
    group.cancelled, group.problem = true, problem
    for transfer in pairs(group.transfers) do transfer:cancel() end
    for waiter in pairs(group.sleepers) do waiter:post(1) end
    for inner in pairs(group.inner) do cancel_group(inner, problem) end
end

local function take_items(group, next_item, fn)
    while not group.cancelled do
        local item = next_item()
        if item == nil then return end
        fn(item)
    end
end

-- nginx runs other handlers in a coroutine whose light thread or timer has ended, so
-- what was known of it is forgotten then.
local function work(group, next_item, fn)
    local here = coroutine.running()
    groups[here] = group
    local good, problem = pcall(take_items, group, next_item, fn)
    groups[here] = nil
    if not good then cancel_group(group, { problem }) end
end

function M:each(next_item, n, fn)
    if in_init() then
        local good, problem = pcall(init.each, init, next_item, n, fn)
        close_when_idle()
        if not good then error(problem, 0) end
        return
    end
    local outer = groups[coroutine.running()]
    local group = { transfers = {}, sleepers = {}, inner = {},
        cancelled = outer and outer.cancelled }
    if outer then outer.inner[group] = true end
    local threads = {}
    for index = 1, n do threads[index] = ngx.thread.spawn(work, group, next_item, fn) end
    for _, thread in ipairs(threads) do ngx.thread.wait(thread) end
    if outer then outer.inner[group] = nil end
    if group.problem then error(group.problem[1], 0) end
end

-- ---- single flight ----------------------------------------------------------

-- Code that may outlive the handler that asked for it must have no upvalue on that
-- handler's stack: nginx runs other handlers in the coroutine of one that it killed,
-- and such an upvalue is then a local variable of theirs. What a flight, a timer or a
-- light thread needs comes as arguments, and what it finds goes into tables.
local function new_flight(key, fn, ...)
    return {
        key = key, fn = fn, count = select("#", ...), arguments = { ... },
        group = groups[coroutine.running()], waiters = {}, asked = M.now(),
    }
end

local function land(flight)
    flight.done = true
    for waiter in pairs(flight.waiters) do waiter:post(1) end
end

-- Whether somebody may not go on: group: his, or nil; ends_at: his end, or nil.
local function is_over(group, ends_at)
    return group and group.cancelled or M.now() >= (ends_at or math.huge)
end

-- limit: when it must end, or nil.
local function run(flight, limit)
    flight.started = M.now()
    flight.good, flight.problem = pcall(flight.fn, limit,
        unpack(flight.arguments, 1, flight.count))
    flight.cut = is_over(groups[coroutine.running()], limit)
    if flights[flight.key] == flight then flights[flight.key] = nil end
    land(flight)
end

local function run_in_timer(_, flight)
    if flight.started then return end
    local here = coroutine.running()
    groups[here] = flight.group -- what cancels the leader cancels it
    flight.apart = true
    run(flight, nil)
    groups[here] = nil
end

-- Whether nginx may have killed the handler that runs it.
local function is_lost(flight, now)
    return flight.started and not flight.apart and now >= flight.started + LEASE
end

-- Until it has ended, or ends_at (perhaps nil) has come; false where it is lost.
local function wait_for_flight(flight, ends_at)
    local latest = ends_at or math.huge
    local waiter = take_semaphore()
    flight.waiters[waiter] = true
    local now = M.now()
    while not flight.done and now < latest and not is_lost(flight, now) do
        -- A timer comes a hair early: whoever asked first would else wait twice.
        local next_look = (flight.started and now or flight.asked) + SAFETY
        wait(waiter, math.max(math.min(next_look, latest) - now, SHORTEST))
        now = M.now()
        -- nginx drops a timer over lua_max_running_timers: then it runs here.
        if not flight.started and now >= flight.asked + SAFETY then run(flight, ends_at) end
    end
    flight.waiters[waiter] = nil
    put_semaphore(waiter)
    return flight.done or now >= latest
end

-- The flight runs in a timer of its own: a handler that is killed in the middle
-- of it (a client that went away) leaves nobody waiting. Where there is no timer it
-- runs in a handler; when that is killed, another takes its place after LEASE.
function M:once(key, ends_at, fn, ...)
    if in_init() then return init:once(key, ends_at, fn, ...) end
    local flight, leader = flights[key], false
    if not flight or is_lost(flight, M.now()) then
        flight, leader = new_flight(key, fn, ...), true
        flights[key] = flight
        if not ngx.timer.at(0, run_in_timer, flight) then run(flight, ends_at) end
    end
    if not wait_for_flight(flight, ends_at) then return self:once(key, ends_at, fn, ...) end
    if leader and flight.done and not flight.good then error(flight.problem, 0) end
    if flight.cut and not is_over(groups[coroutine.running()], ends_at) then
        return self:once(key, ends_at, fn, ...)
    end
    return flight.done or false
end

-- nginx kills all light threads of a handler together.
function M:once_here(key, fn)
    if in_init() then return init:once_here(key, fn) end
    local flight = listings[key]
    if flight then return wait_for_flight(flight) end
    flight = { waiters = {}, started = M.now(), apart = true }
    listings[key] = flight
    local good, problem = pcall(fn)
    listings[key] = nil
    land(flight)
    if not good then error(problem, 0) end
end

return M
