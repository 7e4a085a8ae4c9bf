-- When to come back after a refusal: whatever the answer says, waits and rates are
-- numbers that a program can wait for. An input is lines: Retry-After, Date; the rest is
-- the error's text. The last part of it checks the dates too.

local dates = require "csms.dates"
local limiter = require "csms.limiter"
local text = require "spec.fuzz.text"
local throttling = require "csms.throttling"

local NOW = 1795276800 -- 2026-11-21T16:00:00Z
local SECONDS = { second = 1, minute = 60, hour = 3600, day = 86400 }

local function parse(data)
    local retry_after, date, message = data:match("^([^\n]*)\n([^\n]*)\n(.*)$")
    local headers = {
        ["Retry-After"] = retry_after ~= "" and retry_after or nil,
        Date = date ~= "" and date or nil,
    }
    return function(name) return headers[name] end, message or data, headers
end

local function check_number(what, value, least)
    if value == nil then return end
    assert(text.is_finite(value), what .. " is not finite: " .. tostring(value))
    assert(value >= least, what .. " is negative: " .. tostring(value))
end

local function check_stated(stated)
    for _, field in ipairs { "wait", "least", "limit", "period" } do
        check_number(field, stated[field], 0)
    end
    assert(stated.wait ~= 0 and stated.limit ~= 0 and stated.period ~= 0, "zero says nothing")
    assert(not stated.least or stated.least <= stated.wait)
end

-- The window as the text has it, read once more.
local function check_window(stated, message)
    local limit = tonumber(message:match("limit:(%d+)") or 0)
    if limit == 0 or limit > 1e9 then return end
    assert(stated.limit == limit, "another limit")
    local count, unit = message:match("time:(%d+) (%a+)")
    local seconds = unit and SECONDS[(unit:gsub("s$", ""))]
    count = tonumber(count or 0) + 0.0
    if not seconds or count == 0 then return end
    if count > 1e9 then return assert(stated.period >= 1e9, "a period that is shortened") end
    assert(math.abs(stated.period / (count * seconds) - 1) < 1e-9, "another period")
end

-- A seconds' count is obeyed to the letter.
local function check_wait(stated, headers)
    local seconds = (headers["Retry-After"] or ""):match("^%d+$")
    if seconds and #seconds < 10 and tonumber(seconds) > 0 then
        assert(stated.wait == tonumber(seconds), "another wait")
    end
end

-- Refusals with such answers, and successes between, leave the limiter usable.
local function check_limiter(stated)
    for _, rate in ipairs { false, 10 } do
        local paced = limiter.new(rate or nil, 20)
        local now = 100
        for turn = 1, 6 do
            local at = paced:take(now)
            check_number("the next slot", at, now)
            now = math.min(at, now + 1e6)
            if turn % 3 == 0 then paced:succeeded(now) else paced:throttled(now, stated) end
            if paced.pace then
                check_number("the pace", paced.pace, 0)
                assert(paced.pace > 0, "the pace is zero")
            end
            check_number("the probe's wait", paced:probe_wait(0.5), 0)
        end
    end
end

local function check_dates(value)
    local http = dates.parse_http(value)
    check_number("an HTTP date", http, -1e12)
    local iso = dates.parse_iso(value)
    check_number("an ISO date", iso, -1e12)
    local year, month, day, hour, minute, second =
        value:match("^(%d+)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)")
    if iso and tonumber(year) >= 1970 and tonumber(month) >= 1 and tonumber(month) <= 12
        and tonumber(day) >= 1 and tonumber(day) <= 28 and tonumber(hour) < 24
        and tonumber(minute) < 60 and tonumber(second) < 60 then
        assert(os.date("!%Y-%m-%dT%H:%M:%S", iso) == value:sub(1, 19), "another date")
    end
end

return function(data)
    data = text.expand(data, 8192)
    local header, message, headers = parse(data)
    local stated = throttling.read(header, message, NOW)
    check_stated(stated)
    check_window(stated, message)
    check_wait(stated, headers)
    check_limiter(stated)
    for line in data:gmatch("[^\n]+") do check_dates(line) end
end
