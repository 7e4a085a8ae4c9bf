-- What a thread of thread_stress does: requests that are submitted, cancelled, closed and left to
-- the garbage collector at random moments, on channels that come and go, for STRESS_SECONDS. The
-- engine's thread is started and stopped by some of them, so that engines come and go too. Some
-- channels are an event loop's, which looks at nothing but their descriptor.

local core = require "csms.core"
local socket = require "socket"

local number = ...
local seconds = tonumber(os.getenv "STRESS_SECONDS" or 10)
local project = os.getenv "HUAWEICLOUD_SDK_PROJECT_ID"

math.randomseed(number * 7919)

local origin = assert(core.origin {
    url = os.getenv "CSMS_ENDPOINT", ca_file = os.getenv "CSMS_CA_FILE",
    user_agent = "stress",
})
local credential = assert(core.credential.keys(os.getenv "HUAWEICLOUD_SDK_AK",
    os.getenv "HUAWEICLOUD_SDK_SK"))

local counts = { done = 0, ok = 0, cancelled = 0, dropped = 0, channels = 0 }

local function submit(channel)
    return assert(channel:submit(origin, credential, {
        method = "POST", headers = { "Content-Type", "application/json" }, project = project,
        target = ("/v1/%s/secrets/secret-%04d/backup"):format(project, math.random(1, 20)),
        timeout = 5, time = core.time(), fresh = math.random(20) == 1,
    }))
end

local function finish(transfer)
    if not transfer:done() then return end
    counts.done = counts.done + 1
    local status, err = transfer:result()
    if status then
        counts.ok = counts.ok + 1
    elseif err.kind == "cancelled" then
        counts.cancelled = counts.cancelled + 1
    else
        error(err.message .. ": " .. tostring(err.cause))
    end
end

-- One of the things that a program may do to a transfer at any moment.
local function meddle(transfers)
    local index = math.random(#transfers)
    local transfer = transfers[index]
    local what = math.random(12)
    if what == 1 then
        transfer:cancel()
    elseif what == 2 then
        transfer:close()
        table.remove(transfers, index)
    elseif what == 3 then
        table.remove(transfers, index) -- and the collector finds it some day
        counts.dropped = counts.dropped + 1
    else
        finish(transfer)
        if transfer:done() then table.remove(transfers, index) end
    end
end

local function one_channel()
    local channel = assert(core.channel())
    counts.channels = counts.channels + 1
    local threaded = math.random(4) > 1
    if threaded then assert(channel:start()) end
    if math.random(2) == 1 then assert(channel:fd()) end
    local transfers = {}
    for _ = 1, math.random(100) do
        if #transfers < 20 then transfers[#transfers + 1] = submit(channel) end
        if math.random(3) == 1 then core.step(math.random() * 0.01) end
        meddle(transfers)
        if math.random(10) == 1 then while channel:drain() do counts.drained = true end end
        if math.random(40) == 1 then channel:detach() end
        if math.random(40) == 1 then channel:stop() end
        if math.random(40) == 1 then assert(channel:start()) end
        assert(channel:in_flight() >= 0)
        if math.random(50) == 1 then collectgarbage() end
    end
    if math.random(2) == 1 then
        -- what was not cancelled ends
        local deadline = core.now() + 10
        while channel:in_flight() > 0 do
            core.step(0.05)
            assert(core.now() < deadline, "transfers do not end")
        end
        for _, transfer in ipairs(transfers) do finish(transfer) end
    end
    channel:close()
    if math.random(3) == 1 then collectgarbage() end
end

-- A loop that hears of all that ends through the descriptor, or waits in vain.
local function one_loop()
    local channel = assert(core.channel())
    counts.channels = counts.channels + 1
    assert(channel:start())
    local fd = assert(channel:fd())
    local loop = { { getfd = function() return fd end } }
    local transfers, left = {}, 0
    for _ = 1, 100 do
        while left < 8 do
            local transfer = submit(channel)
            transfers[transfer:id()], left = transfer, left + 1
        end
        assert(socket.select(loop, nil, 30)[1], "nobody told of what has ended")
        for id in channel.drain, channel do
            finish(transfers[id])
            transfers[id], left = nil, left - 1
        end
    end
    channel:close()
end

local deadline = core.now() + seconds
while core.now() < deadline do
    if math.random(4) == 1 then one_loop() else one_channel() end
end
io.stderr:write(("thread %d: %d channels, %d ended, %d answered, %d cancelled, %d dropped\n")
    :format(number, counts.channels, counts.done, counts.ok, counts.cancelled, counts.dropped))
