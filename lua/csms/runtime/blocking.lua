-- SPDX-License-Identifier: MIT
-- Waiting in a plain Lua program: the caller's own thread drives the engine, but
-- while each() runs a thread of the engine's does, so that the network does not wait
-- for Lua. Coroutines that each() made wait by yielding to its loop, so that any
-- number of calls go on at once; anybody else (the main program, a user's coroutine,
-- a gsub callback) steps the engine in place.

local M = {}

-- Both Lua 5.4 and LuaJIT have it, Lua 5.1 has not, and nginx (init_by_lua) takes
-- it away: there, whoever is in a coroutine of each() is taken to be able to wait.
local isyieldable = coroutine.isyieldable -- luacheck: ignore 143
    or function() return true end

local MAX_STEP = 60 -- seconds; a step ends early when a transfer does
local ENDED = {}    -- what a coroutine of each() gives at its end,
local WAITS = {}    -- and while it waits; anything else is a callback's own yield

local Runtime = {}
Runtime.__index = Runtime

--- A runtime over an engine: csms.core, or a simulated one in specs. It gives
--- channel(), step(seconds), now(), time() and random() as csms.core does.
function M.new(engine)
    return setmetatable({
        engine = engine,
        channel = nil,   -- of this Lua state, made at the first request
        ready = {},      -- coroutines to resume, in order
        due = {},        -- those of this turn, or false where that is done
        waiting = {},    -- transfer id -> coroutine
        sleeping = {},   -- coroutine -> when to resume it
        groups = setmetatable({}, { __mode = "k" }), -- coroutine -> its group
        flights = {},    -- key of once() -> {leader, waiters: coroutines; done, cut}
        running = 0,     -- each() that have not ended
        on_wait = nil,   -- function, called at least every max_step seconds of a wait
        max_step = MAX_STEP,
        now = engine.now,       -- seconds of a clock that never jumps
        time = engine.time,     -- seconds since 1970
        random = engine.random, -- from 0 to below 1
    }, Runtime)
end

-- ---- the loop -------------------------------------------------------------

-- Whether the running code can wait by yielding to the loop. A coroutine of the
-- user's, or a C function in between such as gsub, makes that impossible.
function Runtime:_group()
    local co = coroutine.running()
    local group = co and self.groups[co]
    if group and isyieldable() then return group, co end
end

local function wake(self, co)
    self.sleeping[co] = nil
    self.ready[#self.ready + 1] = co
end

-- Moves whoever waits for a finished transfer to the ready list.
local function collect(self)
    if not self.channel then return end
    for id in self.channel.drain, self.channel do
        local co = self.waiting[id]
        self.waiting[id] = nil
        if co then wake(self, co) end
    end
end

-- One wait of at most so many seconds.
local function step(self, seconds)
    self.engine.step(math.min(seconds, self.max_step))
    collect(self)
    if self.on_wait then self.on_wait() end
end

local function cancel_group(self, group)
    if group.cancelled then return end
    group.cancelled = true
    for _, transfer in pairs(group.transfers) do
        if transfer then transfer:cancel() end
    end
    for inner in pairs(group.inner) do cancel_group(self, inner) end
    for co in pairs(self.sleeping) do
        if self.groups[co] == group then wake(self, co) end
    end
end

-- The end of a flight; cut: before fn's.
local function land(self, key, flight, cut)
    self.flights[key] = nil
    flight.done, flight.cut = true, cut
    for _, co in ipairs(flight.waiters) do
        if self.sleeping[co] then wake(self, co) end -- else it is awake already
    end
end

-- Nobody resumes it any more: others take up again what they waited for.
local function give_up(self, co)
    for key, flight in pairs(self.flights) do
        if flight.leader == co then land(self, key, flight, true) end
    end
end

local function resume(self, co)
    local group = self.groups[co]
    local good, given = coroutine.resume(co)
    if good and given ~= WAITS and given ~= ENDED then
        give_up(self, co)
        good, given = false, "a callback of a batch yielded to a scheduler that is not csms's"
    end
    if not good and not group.failed then
        group.failed, group.problem = true, given
        cancel_group(self, group)
    end
    if not good or given == ENDED then
        group.live = group.live - 1
        if group.live == 0 and group.parent then wake(self, group.parent) end
    end
end

-- Wakes who has slept enough; returns the seconds until the next one has.
local function check_sleepers(self)
    local now = self.now()
    local earliest = now + MAX_STEP
    local due
    for co, at in pairs(self.sleeping) do
        if at <= now then
            due = due or {}
            due[#due + 1] = co
        elseif at < earliest then
            earliest = at
        end
    end
    for _, co in ipairs(due or {}) do wake(self, co) end
    return earliest - now
end

local function turn(self)
    local pause = check_sleepers(self)
    collect(self) -- what ended while somebody else stepped
    if #self.ready == 0 then step(self, pause) end
    local ready = self.ready
    self.ready, self.due = {}, ready
    for index, co in ipairs(ready) do
        ready[index] = false
        resume(self, co)
    end
end

-- After an error that is not of the group's own, which would go on in somebody else's
-- each(). It may have come between two coroutines: Ctrl-C's may come anywhere, and may
-- so have left `live` too high.
local function abandon(self, group)
    for _, co in ipairs(self.due) do
        if co then wake(self, co) end
    end
    self.due = {}
    cancel_group(self, group)
    while group.live > 0 and (self.ready[1] or next(self.waiting) or next(self.sleeping)) do
        pcall(turn, self)
    end
end

-- ---- what the library calls -----------------------------------------------

--- Whether a call can be made here: true, or nil and what is wrong; then the
--- longest deadline that it may have, if there is one.
function Runtime.available()
    return true
end

local function channel_of(self)
    local err
    if not self.channel then self.channel, err = self.engine.channel() end
    return self.channel, err
end

--- Starts a request: transfer, or nil and the core's plain error.
function Runtime:submit(origin, credential, request)
    local channel, err = channel_of(self)
    if not channel then return nil, err end
    return channel:submit(origin, credential, request)
end

--- Waits until the transfer is done, however it ends.
function Runtime:await(transfer)
    local group, co = self:_group()
    if not group then
        while not transfer:done() do step(self, MAX_STEP) end
        return
    end
    if group.cancelled then transfer:cancel() end
    group.transfers[co] = transfer
    while not transfer:done() do
        self.waiting[transfer:id()] = co
        coroutine.yield(WAITS)
    end
    group.transfers[co] = false -- the key stays: see csms.client
end

--- Waits. Returns false where the wait was cut short, because the work that it
--- belongs to has been cancelled.
function Runtime:sleep(seconds)
    local at = self.now() + seconds
    local group, co = self:_group()
    if not group then
        while self.now() < at do step(self, at - self.now()) end
        return true
    end
    if not group.cancelled then
        self.sleeping[co] = at
        coroutine.yield(WAITS)
    end
    return not group.cancelled
end

--- While anything waits, fn() is called at least every so many seconds, and at
--- once where a signal has ended a wait; nil takes it off. For programs that
--- watch signals or show progress; fn does not wait itself.
function Runtime:every(seconds, fn)
    self.on_wait, self.max_step = fn, fn and seconds or MAX_STEP
end

-- While many calls are in flight both sides have enough to do, so libcurl works in
-- a thread of its own. Where there can be none, this one goes on doing it all.
local function enter_each(self)
    self.running = self.running + 1
    local channel = self.running == 1 and channel_of(self)
    if channel then channel:start() end
end

local function leave_each(self)
    self.running = self.running - 1
    if self.running == 0 and self.channel then self.channel:stop() end
end

--- Calls fn(item) for each item that next_item() gives until nil, at most `n`
--- at once, and returns when all have ended. Both may wait. An error in one of
--- them is raised here, after everything else that was in flight is cancelled.
function Runtime:each(next_item, n, fn)
    local outer, parent = self:_group()
    local group = { live = n, transfers = {}, parent = parent, inner = {},
        cancelled = outer and outer.cancelled }
    if outer then outer.inner[group] = true end

    local function work()
        while not group.cancelled do
            local item = next_item()
            if item == nil then return ENDED end
            fn(item)
        end
        return ENDED
    end

    for _ = 1, n do
        local co = coroutine.create(work)
        self.groups[co] = group
        wake(self, co)
    end
    enter_each(self)
    -- on_wait may raise, and so does lua itself on Ctrl-C.
    local good, problem = pcall(function()
        while group.live > 0 do
            if parent then coroutine.yield(WAITS) else turn(self) end
        end
    end)
    if not good and not parent then abandon(self, group) end
    leave_each(self)
    if outer then outer.inner[group] = nil end
    if not good then error(problem, 0) end
    if group.failed then error(group.problem, 0) end
end

-- Whether somebody may not go on: group: his, or nil; ends_at: his end, or nil.
local function is_over(self, group, ends_at)
    return group and group.cancelled or self.now() >= (ends_at or math.huge)
end

-- Whether the flight has ended in time.
local function wait_for_flight(self, flight, co, ends_at)
    local waiters = flight.waiters
    waiters[#waiters + 1] = co
    while not flight.done and self.now() < ends_at do
        self.sleeping[co] = ends_at
        coroutine.yield(WAITS)
    end
    for index = #waiters, 1, -1 do
        if waiters[index] == co then table.remove(waiters, index) end
    end
    return flight.done
end

--- Single flight: while fn(limit, ...) of a key runs, others that ask for the same key
--- wait for its end instead of calling theirs. Returns whether it has ended before
--- ends_at (nil: no such time); fn leaves its results where all can see them. An error
--- in fn is raised in its caller only. Where fn was cut short, because whoever it ran for
--- was cancelled or had no time left, one of those who can go on calls his.
-- limit: when fn must end, which is ends_at; nil where it runs apart from its caller
-- (nginx, cqueues) and serves others too, as long as it takes. There fn must not use
-- local variables of its caller: see nginx.lua.
function Runtime:once(key, ends_at, fn, ...)
    local flight = self.flights[key]
    if flight then
        local group, co = self:_group()
        if group then
            local ended = wait_for_flight(self, flight, co, ends_at or math.huge)
            if not flight.cut or is_over(self, group, ends_at) then return ended end
            return self:once(key, ends_at, fn, ...)
        end
        -- Whoever runs it cannot go on while this code waits: it does it itself.
        fn(ends_at, ...)
        return true
    end
    flight = { leader = coroutine.running(), waiters = {}, done = false }
    self.flights[key] = flight
    local good, problem = pcall(fn, ends_at, ...)
    land(self, key, flight, is_over(self, self:_group(), ends_at))
    if not good then error(problem, 0) end
    return true
end

--- The same for the coroutines of one each(), which end together: fn(), which may use
--- its caller's variables, always runs in the first of them that asks.
function Runtime:once_here(key, fn)
    self:once(key, nil, fn)
end

return M
