-- The library's real code over a simulated engine: time is virtual, the network is a function.
--
--   local world = simulation.new(function(request, now)
--       return { status = 200, body = simulation.blob_body(request.name), delay = 0.1 }
--   end)
--   local client = world:client { rate = 10 }
--   local report = client:backup_many(nil, { "a", "b" })
--
-- The service is called when a request arrives. request: operation, name, method, target, body,
-- timeout, fresh, time (its signature's), project, credential, number (how many came before, plus
-- one). It answers {status, body, headers, delay, port}; or {error = {kind, message, retryable},
-- sent, port, delay} for a transfer that ends without an answer. `sent` is true unless said.
-- world.requests has them all, with `at`, `status` and `kind`; world.events what clients emitted.

local blocking = require "csms.runtime.blocking"
local client = require "csms.client"
local credentials = require "csms.credentials"
local json = require "cjson"

local M = {}

local START = 1000            -- what now() begins with
local EPOCH = 1795276800      -- time() when now() is START
local LATENCY = 0.005         -- seconds from here to the service, and back
local HORIZON = 10 * 86400    -- what takes longer is not going to end

M.PROJECT = ("0123456789abcdef"):rep(2)

--- Numbers from 0 to below 1, the same for the same seed on every Lua.
function M.random(seed)
    local state = (seed or 1) * 7919 % 2147483646 + 1
    return function()
        state = state * 16807 % 2147483647
        return state / 2147483647
    end
end

function M.http_date(time)
    return os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(time))
end

-- ---- what a service answers -----------------------------------------------

--- The blob that simulated secrets have.
function M.blob(name)
    return "blob of " .. name
end

function M.blob_body(name)
    return json.encode { secret_blob = M.blob(name) }
end

--- A right answer to any operation; the listing is empty.
function M.serve(request)
    if request.operation == "backup" then
        return { status = 200, body = M.blob_body(request.name) }
    elseif request.operation == "list" then
        return { status = 200, body = '{"secrets":[],"page_info":{}}' }
    end
    return { status = 200, body = json.encode { secret = { name = request.name or "restored" } } }
end

--- An error as the gateway words it.
function M.refuse(status, code, message, headers)
    return {
        status = status, headers = headers,
        body = json.encode { error_code = code, error_msg = message or "no" },
    }
end

--- Names "secret-00001" and on.
function M.names(count)
    local names = {}
    for number = 1, count do names[number] = ("secret-%05d"):format(number) end
    return names
end

--- A service that gives these answers in turn, the last one for ever. An answer is a table, or
--- "ok"; `also` sees each request.
function M.script(answers, also)
    return function(request, now)
        local answer = answers[math.min(request.number, #answers)]
        if also then also(request, now) end
        return answer == "ok" and M.serve(request) or answer
    end
end

-- ---- limits ---------------------------------------------------------------

local UNITS = { [1] = "second", [60] = "minute", [3600] = "hour", [86400] = "day" }

-- Each gives: the seconds until the limit lets the next one through, or 0 for now.
local WINDOWS = {
    -- begins with the first request after the last one's end
    first = function(limit)
        local ends, used = 0, 0
        return function(now)
            if now >= ends then
                ends, used = now + limit.seconds, 0
                limit.began[#limit.began + 1] = now
            end
            if used >= limit.requests then return ends - now end
            used = used + 1
            return 0
        end
    end,
    -- begins on the clock, at a phase of its own
    phase = function(limit, random)
        local phase = random() * limit.seconds
        local current, used
        return function(now)
            local index = math.floor((now + phase) / limit.seconds)
            if index ~= current then
                current, used = index, 0
                limit.began[#limit.began + 1] = index * limit.seconds - phase
            end
            if used >= limit.requests then return (index + 1) * limit.seconds - phase - now end
            used = used + 1
            return 0
        end
    end,
    -- no window at all
    bucket = function(limit)
        local per_second = limit.requests / limit.seconds
        local tokens, last = limit.requests, nil
        return function(now)
            tokens = math.min(limit.requests, tokens + (now - (last or now)) * per_second)
            last = now
            if tokens < 1 then return (1 - tokens) / per_second end
            tokens = tokens - 1
            return 0
        end
    end,
}

local STATES_TEXT = { text = true, both = true }

local function refusal(limit, left, time)
    local headers, text = { Date = M.http_date(time) }, "The throttling threshold has been reached"
    if STATES_TEXT[limit.states] then
        text = ("%s: policy user over ratelimit,limit:%d,time:1 %s")
            :format(text, limit.requests, UNITS[limit.seconds])
    end
    if limit.states == "retry_after" or limit.states == "both" then
        headers["Retry-After"] = ("%d"):format(math.ceil(left))
    elseif limit.states == "date" then
        headers["Retry-After"] = M.http_date(math.ceil(time + left))
    end
    return M.refuse(429, "APIG.0308", text, headers)
end

--- A limit: {requests, seconds, window = "first" | "phase" | "bucket",
--- states = "text" | "retry_after" | "date" | "both" | "none", seed}.
--- limit.check(now) -> nil, or the answer that refuses; limit.began: when windows began.
function M.limit(limit)
    limit.began = {}
    local wait = WINDOWS[limit.window](limit, M.random(limit.seed))
    limit.check = function(now)
        local left = wait(now)
        return left > 0 and refusal(limit, left, now - START + EPOCH) or nil
    end
    return limit
end

-- ---- the queue of what happens, by time -----------------------------------

local function before(a, b)
    return a.at < b.at or a.at == b.at and a.order < b.order
end

local function push(heap, event)
    local index = #heap + 1
    while index > 1 do
        local parent = math.floor(index / 2)
        if not before(event, heap[parent]) then break end
        heap[index], index = heap[parent], parent
    end
    heap[index] = event
end

local function pop(heap)
    local top, last = heap[1], table.remove(heap)
    local count, index = #heap, 1
    while count > 0 do
        local child = 2 * index
        if child > count then break end
        if child < count and before(heap[child + 1], heap[child]) then child = child + 1 end
        if not before(heap[child], last) then break end
        heap[index], index = heap[child], child
    end
    if count > 0 then heap[index] = last end
    return top
end

-- ---- transfers ------------------------------------------------------------

local Transfer = {}
Transfer.__index = Transfer

function Transfer:id() return self.number end
function Transfer:done() return self.answer ~= nil end
function Transfer:sent() return self.answer.sent ~= false end
function Transfer:port() return self.answer.port or 0 end

function Transfer:header(name)
    return self.answer.headers and self.answer.headers[name]
end

function Transfer:result()
    local plain = self.answer.error
    if not plain then return self.answer.status, self.answer.body or "" end
    return nil, {
        kind = plain.kind, message = plain.message or "simulated", cause = plain.cause,
        retryable = plain.retryable == nil and plain.kind ~= "cancelled" or plain.retryable,
    }
end

function Transfer:finish(answer)
    if self.answer then return end
    self.answer = answer
    self.entry.status, self.entry.kind = answer.status, answer.error and answer.error.kind
    self.world.in_flight = self.world.in_flight - 1
    self.channel.finished[#self.channel.finished + 1] = self.number
end

function Transfer:cancel()
    self:finish { error = { kind = "cancelled", message = "cancelled" }, sent = self.arrived }
end

function Transfer:close()
    self:cancel()
end

-- ---- the engine -----------------------------------------------------------

local World = {}
World.__index = World

function World:at(when, transfer, run)
    self.order = self.order + 1
    push(self.heap, { at = when, order = self.order, transfer = transfer, run = run })
end

local function operation_of(request)
    local rest = request.target:match("^/v1/[^/]+/secrets(.*)$") or ""
    if rest == "/restore" then return "restore" end
    local name = rest:match("^/([^/]+)/backup$")
    if name then return "backup", name end
    name = rest:match("^/([^/?]+)$")
    if name then return "show", name end
    return "list"
end

-- What the service sees, and the log keeps.
local function seen(world, request, credential)
    local operation, name = operation_of(request)
    local entry = {
        operation = operation, name = name, credential = credential, submitted = world.clock,
        method = request.method, target = request.target, body = request.body,
        timeout = request.timeout, fresh = request.fresh, time = request.time,
        project = request.project,
    }
    return entry
end

local function arrive(world, transfer)
    local entry = transfer.entry
    transfer.arrived, entry.at = true, world.clock
    world.arrived = world.arrived + 1
    entry.number = world.arrived
    world.requests[entry.number] = entry
    local answer = world.service(entry, world.clock)
    if answer.status then
        answer.headers = answer.headers or { Date = M.http_date(world:time()) }
    end
    world:at(world.clock + (answer.delay or 0) + world.latency, transfer, function()
        transfer:finish(answer)
    end)
end

local function submit(world, channel, credential, request)
    world.submitted = world.submitted + 1
    world.in_flight = world.in_flight + 1
    world.peak = math.max(world.peak, world.in_flight)
    local transfer = setmetatable({
        world = world, channel = channel, number = world.submitted,
        entry = seen(world, request, credential), arrived = false,
    }, Transfer)
    world:at(world.clock + world.latency, transfer, function() arrive(world, transfer) end)
    world:at(world.clock + request.timeout, transfer, function()
        transfer:finish { error = { kind = "timeout" }, sent = transfer.arrived, port = 1 }
    end)
    return transfer
end

local function make_channel(world)
    local channel = { finished = {} }
    world.channel = channel
    function channel:submit(_, credential, request)
        return submit(world, self, credential, request)
    end
    -- Time passes in step(), with a thread or without.
    function channel.start() return true end
    function channel.stop() end
    function channel:drain()
        return table.remove(self.finished, 1)
    end
    return channel
end

local function next_event(world)
    local heap = world.heap
    while heap[1] and heap[1].transfer and heap[1].transfer:done() do pop(heap) end
    return heap[1]
end

local function step(world, seconds)
    local ends = world.clock + seconds
    local channel = world.channel
    while not channel or #channel.finished == 0 do
        local event = next_event(world)
        if not event or event.at > ends then
            world.clock = math.max(world.clock, ends)
            break
        end
        pop(world.heap)
        world.clock = math.max(world.clock, event.at)
        event.run()
    end
    if world.clock > START + HORIZON then error("this takes for ever", 0) end
end

--- Seconds since 1970, virtual.
function World:time()
    return self.clock - START + EPOCH
end

--- Virtual seconds since the start.
function World:elapsed()
    return self.clock - START
end

--- A client in this world; `changes` are config keys.
function World:client(changes)
    local config = {
        endpoint = "https://simulated", project = M.PROJECT,
        on_event = function(event)
            event.at = self.clock
            self.events[#self.events + 1] = event
        end,
    }
    for key, value in pairs(changes or {}) do config[key] = value end
    config.credentials = config.credentials or credentials.static { ak = "AK", sk = "SK" }
    return assert(client.new(config, self.runtime))
end

--- The events of one kind, in order.
function World:events_of(kind)
    local found = {}
    for _, event in ipairs(self.events) do
        if event.event == kind then found[#found + 1] = event end
    end
    return found
end

--- options: latency (seconds one way), seed.
function M.new(service, options)
    options = options or {}
    local world = setmetatable({
        service = service, clock = START, heap = {}, order = 0, requests = {}, events = {},
        arrived = 0, submitted = 0, in_flight = 0, peak = 0,
        latency = options.latency or LATENCY,
    }, World)
    world.engine = {
        channel = function() return make_channel(world) end,
        step = function(seconds) step(world, seconds) end,
        now = function() return world.clock end,
        time = function() return world:time() end,
        random = M.random(options.seed),
    }
    world.runtime = blocking.new(world.engine)
    return world
end

return M
