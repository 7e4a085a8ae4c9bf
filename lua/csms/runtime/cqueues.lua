-- SPDX-License-Identifier: MIT
-- Waiting in a cqueues program: libcurl runs in a thread of its own, a driver
-- polls the channel's descriptor, and each waiter has a condition variable.
--
--   local client = require("csms.client").new(config, require("csms.runtime.cqueues").new())
--   loop:wrap(function() print(client:backup(project, name)) end)
--
-- Calls are made from coroutines of one cqueues loop; one runtime a loop.

local condition = require "cqueues.condition"
local core = require "csms.core"
local cqueues = require "cqueues"

local M = {}

local Runtime = {}
Runtime.__index = Runtime

--- A runtime for the loop that its calls will be made in.
function M.new()
    return setmetatable({
        channel = nil,    -- made at the first request
        driving = false,
        waiting = {},     -- transfer id -> condition
        flights = {},     -- key of once() -> the flight
        groups = setmetatable({}, { __mode = "k" }), -- coroutine -> its group
        now = core.now, time = core.time, random = core.random,
    }, Runtime)
end

-- ---- the driver -----------------------------------------------------------

local function signal_finished(self)
    for id in self.channel.drain, self.channel do
        local waiter = self.waiting[id]
        self.waiting[id] = nil
        if waiter then waiter:signal() end
    end
end

-- Runs while anything is in flight, so that the loop can end when nothing is.
local function drive(self, fd)
    local poll = { pollfd = fd, events = "r" }
    while true do
        -- In this order: what ends in between is there to be signalled.
        local busy = self.channel:in_flight() > 0
        signal_finished(self)
        if not busy then break end
        cqueues.poll(poll)
    end
    cqueues.cancel(fd)
    self.driving = false
end

local function ensure_driver(self)
    if self.driving then return true end
    local fd, err = self.channel:fd()
    if not fd then return nil, err end
    self.driving = true
    cqueues.running():wrap(drive, self, fd)
    return true
end

-- ---- what the library calls: see csms.runtime.blocking ----------------------

function Runtime:available()
    local loop, can_wait = cqueues.running()
    if not loop or not can_wait then
        return nil, "this client waits in a cqueues loop: make the call in a function that "
            .. "loop:wrap runs, not in a coroutine of the program's own"
    end
    if core.can_yield() then return true end
    return nil, "a cqueues loop cannot wait within a callback of gsub, sort, require and the "
        .. "like: make the call outside of it"
end

function Runtime:submit(origin, credential, request)
    local err
    if not self.channel then
        self.channel, err = core.channel()
        if not self.channel then return nil, err end
    end
    local started
    started, err = self.channel:start()
    if not started then return nil, err end
    local transfer
    transfer, err = self.channel:submit(origin, credential, request)
    if not transfer then return nil, err end
    started, err = ensure_driver(self)
    if not started then return nil, err end
    return transfer
end

function Runtime:await(transfer)
    local group = self.groups[coroutine.running()]
    if group then
        if group.cancelled then transfer:cancel() end
        group.transfers[transfer] = true
    end
    local waiter = condition.new()
    self.waiting[transfer:id()] = waiter
    while not transfer:done() do waiter:wait() end
    self.waiting[transfer:id()] = nil
    if group then group.transfers[transfer] = nil end
end

function Runtime:sleep(seconds)
    local group = self.groups[coroutine.running()]
    if not group then
        cqueues.sleep(seconds)
        return true
    end
    if not group.cancelled then group.ended:wait(seconds) end
    return not group.cancelled
end

local function cancel_group(group, problem)
    if group.cancelled then return end
    group.cancelled, group.problem = true, problem
    for transfer in pairs(group.transfers) do transfer:cancel() end
    group.ended:signal()
    for inner in pairs(group.inner) do cancel_group(inner, problem) end
end

function Runtime:each(next_item, n, fn)
    local outer = self.groups[coroutine.running()]
    local group = { transfers = {}, inner = {}, ended = condition.new(), live = n,
        cancelled = outer and outer.cancelled }
    local over = condition.new()
    if outer then outer.inner[group] = true end

    local function work()
        self.groups[coroutine.running()] = group
        local good, problem = pcall(function()
            while not group.cancelled do
                local item = next_item()
                if item == nil then return end
                fn(item)
            end
        end)
        if not good then cancel_group(group, { problem }) end
        group.live = group.live - 1
        if group.live == 0 then over:signal() end
    end

    for _ = 1, n do cqueues.running():wrap(work) end
    while group.live > 0 do over:wait() end
    if outer then outer.inner[group] = nil end
    if group.problem then error(group.problem[1], 0) end
end

local function is_cancelled(group)
    return group and group.cancelled
end

local function run(self, key, flight, fn, ...)
    self.groups[coroutine.running()] = flight.group -- what cancels the leader cancels it
    flight.good, flight.problem = pcall(fn, nil, ...)
    flight.cut = is_cancelled(flight.group)
    self.flights[key] = nil
    flight.done = true
    flight.over:signal()
end

-- The flight has a coroutine of its own, so that no caller's deadline is the others'.
function Runtime:once(key, ends_at, fn, ...)
    local flight, leader = self.flights[key], false
    if not flight then
        flight, leader = { over = condition.new(), done = false }, true
        flight.group = self.groups[coroutine.running()]
        self.flights[key] = flight
        cqueues.running():wrap(run, self, key, flight, fn, ...)
    end
    local now = self.now()
    while not flight.done and now < (ends_at or math.huge) do
        flight.over:wait(ends_at and ends_at - now)
        now = self.now()
    end
    if leader and flight.done and not flight.good then error(flight.problem, 0) end
    if flight.cut and now < (ends_at or math.huge)
        and not is_cancelled(self.groups[coroutine.running()]) then
        return self:once(key, ends_at, fn, ...)
    end
    return flight.done
end

function Runtime:once_here(key, fn)
    self:once(key, nil, fn)
end

return M
