-- What a 429 says of when to come back.

local dates = require "csms.dates"
local throttling = require "csms.throttling"

local function headers(fields)
    return function(name) return fields[name] end
end

local function read(fields, text, time)
    local stated = throttling.read(headers(fields), text or "", time or 0)
    return { wait = stated.wait, limit = stated.limit, period = stated.period }
end

describe("an HTTP date", function()
    local DATES = {
        ["Thu, 01 Jan 1970 00:00:00 GMT"] = 0,
        ["Sun, 06 Nov 1994 08:49:37 GMT"] = 784111777,
        ["Tue, 29 Feb 2000 23:59:59 GMT"] = 951868799,
        ["Wed, 01 Mar 2000 00:00:00 GMT"] = 951868800,
        ["Sat, 21 Nov 2026 16:00:00 GMT"] = 1795276800,
        ["Thu, 31 Dec 2026 23:59:60 GMT"] = 1798761600,
        ["Sun, 01 Mar 2099 12:00:00 GMT"] = 4076049600,
        ["Mon, 01 Mar 2100 00:00:00 GMT"] = 4107542400,
    }
    for text, seconds in pairs(DATES) do
        it("is read: " .. text, function()
            assert.equal(seconds, dates.parse_http(text))
        end)
    end

    it("agrees with the system's calendar over a hundred years", function()
        for day = 0, 36524, 13 do
            local seconds = day * 86400 + day % 86400
            local text = os.date("!%a, %d %b %Y %H:%M:%S GMT", seconds)
            assert.equal(seconds, dates.parse_http(text))
        end
    end)

    it("is nothing else", function()
        for _, text in ipairs { "", "0", "tomorrow", "Sun, 06 Xyz 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 06 Nov 1994 08:49:37 GMT and more", "2026-11-21T16:00:00Z" } do
            assert.is_nil(dates.parse_http(text))
        end
    end)
end)

describe("Retry-After", function()
    it("in seconds is the wait", function()
        assert.same({ wait = 120 }, read { ["Retry-After"] = "120" })
        assert.same({ wait = 1 }, read { ["Retry-After"] = "1" })
    end)

    it("of no time is no wait, be it 0 or nil", function()
        assert.equal(0, read { ["Retry-After"] = "0" }.wait or 0)
    end)

    it("as a date counts from the answer's own Date, not from our clock", function()
        assert.same({ wait = 30 }, read({
            ["Retry-After"] = "Sat, 21 Nov 2026 16:00:30 GMT",
            Date = "Sat, 21 Nov 2026 16:00:00 GMT",
        }, "", 1000))
    end)

    it("as a date counts from our clock where the answer has no Date, or a bad one", function()
        for _, date in ipairs { false, "yesterday" } do
            assert.same({ wait = 30 }, read({
                ["Retry-After"] = "Sat, 21 Nov 2026 16:00:30 GMT", Date = date or nil,
            }, "", 1795276800))
        end
    end)

    it("of the past is no wait, be it 0 or nil", function()
        for _, hour in ipairs { 15, 16 } do
            assert.equal(0, read {
                ["Retry-After"] = "Sat, 21 Nov 2026 15:00:00 GMT",
                Date = ("Sat, 21 Nov 2026 %d:00:00 GMT"):format(hour),
            }.wait or 0)
        end
    end)

    it("as a date may stand for up to a second less: both dates are cut to the second", function()
        local fields = { ["Retry-After"] = "Sat, 21 Nov 2026 16:00:30 GMT",
            Date = "Sat, 21 Nov 2026 16:00:00 GMT" }
        assert.equal(29, throttling.read(headers(fields), nil, 0).least)
        assert.is_nil(throttling.read(headers { ["Retry-After"] = "30" }, nil, 0).least)
    end)

    it("that is nonsense says nothing", function()
        for _, value in ipairs { "", "soon", "-5", "1.5", "1e9", "0x10", "5 seconds" } do
            assert.same({}, read { ["Retry-After"] = value })
        end
    end)
end)

describe("the gateway's text", function()
    local WINDOWS = {
        { "limit:20,time:1 second", 20, 1 }, { "limit:60,time:1 minute", 60, 60 },
        { "limit:1000,time:1 hour", 1000, 3600 }, { "limit:5000,time:1 day", 5000, 86400 },
        { "limit:5,time:5 second", 5, 5 }, { "limit:5,time:5 seconds", 5, 5 },
        { "limit:30,time:2 minutes", 30, 120 }, { "limit:2000,time:1 minute", 2000, 60 },
        { "limit:10", 10, 1 },
        { "policy user over ratelimit,limit:60,time:1 minute", 60, 60 },
        { "The throttling threshold has been reached: policy user over ratelimit,limit:60,"
            .. "time:1 minute; ask less often", 60, 60 },
    }
    for _, case in ipairs(WINDOWS) do
        it("states a window: " .. case[1], function()
            assert.same({ wait = case[3], limit = case[2], period = case[3] }, read({}, case[1]))
        end)
    end

    it("that names no limit says nothing", function()
        for _, text in ipairs { "", "slow down", "limit", "limit:", "limit:many", "limit:0",
            "time:1 minute" } do
            assert.same({}, read({}, text))
        end
    end)

    it("of no time at all is taken as a limit a second", function()
        for _, text in ipairs { "limit:20,time:0 second", "limit:20,time:", "limit:20,time:x" } do
            assert.same({ wait = 1, limit = 20, period = 1 }, read({}, text))
        end
    end)

    it("gives the window, and Retry-After the wait, where there are both", function()
        assert.same({ wait = 3, limit = 60, period = 60 },
            read({ ["Retry-After"] = "3" }, "limit:60,time:1 minute"))
    end)

    it("gives the wait where Retry-After says none", function()
        local date = "Sat, 21 Nov 2026 16:00:00 GMT"
        for _, value in ipairs { "0", date } do
            assert.same({ wait = 60, limit = 60, period = 60 }, read(
                { ["Retry-After"] = value, Date = date }, "limit:60,time:1 minute"))
        end
    end)
end)
