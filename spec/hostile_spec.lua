-- A service that means harm, or is broken: each oddity ends in bounded time and memory
-- with the right error, and the client works on. What the emulator's ports have (wrong
-- host, expired, self-signed, TLS 1.1) and answers that are cut are in http_spec.lua.

local csms = require "csms"
local cases = require "spec.support.cases"
local hostile = require "spec.support.hostile"

local timed = cases.timed

local MIB = 1024 * 1024
local MAX_RESPONSE = 65536
local UPLOAD = 8 * MIB
-- What a call may take beyond its timeout on a machine that does other things.
local GRACE = 5
-- AddressSanitizer keeps what is freed for a while.
local ALLOWED = (os.getenv "CSMS_SPEC_LUA" or ""):find("asan") and 256 * MIB or 4 * MIB

local server, good

local function client_of(case, changes)
    local config = {
        endpoint = case.scheme .. "://localhost:" .. server:port(case), ca_file = server.ca_file,
        project = ("0"):rep(32), credentials = csms.credentials.token "token", retry = false,
        max_response = MAX_RESPONSE, timeout = case.timeout,
    }
    for key, value in pairs(changes or {}) do config[key] = value end
    return assert(csms.new(config))
end

setup(function()
    server = hostile.start()
end)
teardown(function() server:stop() end)

-- ---- memory and descriptors ---------------------------------------------------

local function status_bytes(field)
    for line in io.lines "/proc/self/status" do
        local kib = line:match("^" .. field .. ":%s*(%d+) kB")
        if kib then return tonumber(kib) * 1024 end
    end
end

-- The most that this process grew while fn ran; then fn's results.
local function grown_by(fn)
    collectgarbage()
    collectgarbage()
    local file = io.open("/proc/self/clear_refs", "wb")
    if file then -- the peak begins anew
        file:write "5"
        file:close()
    end
    local before = status_bytes "VmHWM"
    local seconds, result, err = timed(fn)
    return status_bytes "VmHWM" - before, seconds, result, err
end
