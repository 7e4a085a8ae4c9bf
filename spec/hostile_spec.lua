-- A service that means harm, or is broken: each oddity ends in bounded time and memory
-- with the right error, and the same client works on once the service behaves. Certificates
-- that do not verify, TLS 1.1 and answers that are cut: http_spec.lua, by the emulator.

local csms = require "csms"
local cases = require "spec.support.cases"
local hostile = require "spec.support.hostile.control"
local socket = require "socket"

local MIB = 1024 * 1024
local GRACE = 20 -- seconds beyond its timeout that a call may take on a busy machine
-- AddressSanitizer keeps what is freed for a while, so no bound holds there.
local IS_ASAN = (os.getenv "CSMS_SPEC_LUA" or ""):find("asan")
local MAX_GROWTH = IS_ASAN and math.huge or 8 * MIB

local server, descriptors

-- ---- what this process uses ---------------------------------------------------

local function memory_peak()
    local file = assert(io.open "/proc/self/status")
    local kib = file:read("*a"):match("VmHWM:%s*(%d+) kB")
    file:close()
    return tonumber(kib) * 1024
end

-- Lets the peak begin anew at what is used now; else it only grows, which is as good.
local function reset_peak()
    collectgarbage()
    collectgarbage()
    local file = io.open("/proc/self/clear_refs", "wb")
    if not file then return end
    file:write "5"
    file:close()
end

local function count_descriptors()
    local file = assert(io.open "/proc/self/stat")
    local pid = file:read("*n")
    file:close()
    local pipe, count = assert(io.popen(("ls /proc/%d/fd"):format(pid))), 0
    for _ in pipe:lines() do count = count + 1 end
    pipe:close()
    return count
end

-- Waits until fn() is true; the seconds are those of a hopeless case.
local function wait_for(fn)
    local give_up = socket.gettime() + 60
    while not fn() do
        assert.is_true(socket.gettime() < give_up)
        socket.sleep(0.02)
    end
end

-- ---- one case -----------------------------------------------------------------

local function client_of(case, changes)
    local config = {
        endpoint = case.scheme .. "://localhost:" .. server:port(case), ca_file = server.ca_file,
        project = ("0"):rep(32), credentials = csms.credentials.token "token",
        max_response = 65536, timeout = case.timeout, connect_timeout = 20,
    }
    for key, value in pairs(changes or {}) do config[key] = value end
    return assert(csms.new(config))
end

local function call(client, blob)
    if blob then return client:restore(nil, blob) end
    return client:backup(nil, "first")
end

-- The results of fn(), which must have taken bounded time and memory; `sent` bytes are
-- the caller's own.
local function bounded(case, sent, fn)
    reset_peak()
    local before = memory_peak()
    local seconds, result, err = cases.timed(fn)
    local growth = memory_peak() - before
    assert.is_true(seconds < case.timeout + GRACE, seconds .. " seconds")
    -- copies of the body: its JSON, libcurl's, the sockets' ones
    assert.is_true(growth <= MAX_GROWTH + 6 * sent, growth .. " bytes more")
    return seconds, result, err
end

-- Once the service behaves, the client works on; returns what the server counted.
local function finish(case, client)
    local facts = server:mend(case)
    assert.is_nil(facts.faults)
    local opts = { timeout = 30, retry = { attempts = 3 } }
    assert.equal("blob of second", client:backup(nil, "second", opts))
    client:close()
    return facts
end

local function kinds_of(case)
    local kinds = {}
    for _, kind in ipairs(type(case.kind) == "table" and case.kind or { case.kind or "none" }) do
        kinds[kind] = true
    end
    return kinds
end

local function assert_outcome(case, seconds, result, err)
    local kind = err and err.kind or "none"
    assert.is_true(kinds_of(case)[kind], ("%s: %s"):format(kind, tostring(err or result)))
    if not err then return assert.equal("blob of first", result) end
    assert.equal(1, err.attempts)
    assert.is_nil(tostring(err):find("%c"))
    if case.retryable ~= nil then assert.equal(case.retryable, err.retryable) end
    if case.message then assert.matches(case.message, err.message, 1, true) end
    if kind == "timeout" then assert.is_true(seconds >= case.timeout - 0.01) end
end

-- A server that was held up may come to the client's connection when that has timed out.
local function wait_until_seen(case)
    wait_for(function()
        local facts = server:facts(case)
        return facts.connections >= 1 and (not case.once or facts.requests >= 2)
    end)
end

local function run_single(case)
    local client = client_of(case, { retry = false })
    local blob = case.upload and ("x"):rep(case.upload)
    if case.once then assert.equal("blob of first", client:backup(nil, "first")) end
    local seconds, result, err = bounded(case, case.upload or 0, function()
        return call(client, blob)
    end)
    assert_outcome(case, seconds, result, err)
    wait_until_seen(case)
    local facts = finish(case, client)
    -- libcurl sends again what a server says it has not touched, five times
    assert.is_true(facts.connections <= 6)
    if case.once then assert.equal(2, facts.requests) end
end

-- The second call may fail, but gets no answer that is not its own.
local function run_later(case)
    local client = client_of(case, { retry = false })
    assert.equal("blob of first", client:backup(nil, "first"))
    wait_for(function() return server:facts(case).done end)
    local blob, err = client:backup(nil, "second")
    if blob then
        assert.equal("blob of second", blob)
    else
        assert.is_true(err.retryable, tostring(err))
    end
    finish(case, client)
end

local function run_proxy(case)
    local client = client_of(case, {
        retry = false, endpoint = "https://kms.example.invalid",
        proxy = "http://localhost:" .. server:port(case),
    })
    assert_outcome(case, bounded(case, 0, function() return call(client) end))
    client:close()
    wait_until_seen(case)
end

local TOTAL = 60

local function run_batch(case)
    local client, names = client_of(case), {}
    for number = 1, TOTAL do names[number] = "secret-" .. number end
    local _, report, err = bounded({ timeout = 60 }, 0, function()
        return client:backup_many(nil, names, { deadline = 60 })
    end)
    assert.is_nil(err)
    assert.same({ {}, TOTAL, 0 }, { report.errors, report.ok, report.failed })
    for _, name in ipairs(names) do assert.equal("blob of " .. name, report.blobs[name]) end
    assert.is_true((finish(case, client).done or 0) >= case.least)
end

-- ---- all cases ----------------------------------------------------------------

setup(function()
    server = hostile.start()
    local client = client_of(hostile.good)
    assert.equal("blob of first", client:backup(nil, "first"))
    client:close()
    descriptors = count_descriptors()
end)
teardown(function() if server then server:stop() end end)

local function describe_cases(title, run, belongs)
    describe(title, function()
        for _, case in ipairs(hostile.cases) do
            if belongs(case) then
                it(case.name, function() run(case) end)
            end
        end
    end)
end

describe_cases("A call is bounded where the service", run_single, function(case)
    return not case.later and not case.batch and not case.proxy
end)

describe_cases("A call is bounded where the proxy", run_proxy, function(case)
    return case.proxy
end)

describe_cases("A call takes no answer of another where the service", run_later, function(case)
    return case.later
end)

describe_cases("A batch loses nothing where the service", run_batch, function(case)
    return case.batch
end)

describe("After all that", function()
    it("no more descriptors are open than before", function()
        server:drop()
        wait_for(function()
            -- libcurl looks for dead connections about once a second, when it needs one
            local client = client_of(hostile.good)
            assert.equal("blob of first", client:backup(nil, "first"))
            client:close()
            return count_descriptors() <= descriptors
        end)
    end)
end)
