-- Dates as the service writes them.

local dates = require "csms.dates"

local KNOWN = { -- seconds since 1970, as date(1) has them
    { 0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z" },
    { 951782400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00Z" },
    { 951868800, "Wed, 01 Mar 2000 00:00:00 GMT", "2000-03-01T00:00:00Z" },
    { 1578452179, "Wed, 08 Jan 2020 02:56:19 GMT", "2020-01-08T02:56:19Z" },
    { 1709251199, "Thu, 29 Feb 2024 23:59:59 GMT", "2024-02-29T23:59:59Z" },
    { 1795276800, "Sat, 21 Nov 2026 16:00:00 GMT", "2026-11-21T16:00:00Z" },
    { 4107542400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00Z" },
    { -86400, "Wed, 31 Dec 1969 00:00:00 GMT", "1969-12-31T00:00:00Z" },
}

describe("dates", function()
    for _, known in ipairs(KNOWN) do
        it("reads " .. known[3], function()
            assert.equal(known[1], dates.parse_http(known[2]))
            assert.equal(known[1], dates.parse_iso(known[3]))
        end)
    end

    it("agrees with the system on every day of 150 years", function()
        for day = 0, 150 * 365 do
            local time = day * 86400 + (day * 7919) % 86400
            assert.equal(time, dates.parse_http(os.date("!%a, %d %b %Y %H:%M:%S GMT", time)))
            assert.equal(time, dates.parse_iso(os.date("!%Y-%m-%dT%H:%M:%SZ", time)))
        end
    end)

    it("takes any fraction of a second, and leaves it out", function()
        for _, fraction in ipairs { "", ".5", ".587", ".587000", ".000000", ".999999999" } do
            assert.equal(1578452179, dates.parse_iso("2020-01-08T02:56:19" .. fraction .. "Z"))
        end
    end)

    it("is nil for what is no HTTP date", function()
        for _, text in ipairs { "", "x", "0", "120", "Sat, 21 Nov 2026 16:00:00",
            "Sat, 21 Nov 2026 16:00:00 UTC", "Sat, 21 Nov 2026 16:00:00 +0100",
            "Saturday, 21-Nov-26 16:00:00 GMT", "Sat Nov 21 16:00:00 2026",
            "Sat, 1 Nov 2026 16:00:00 GMT", "Sat, 21 Nox 2026 16:00:00 GMT",
            "Sat, 21 nov 2026 16:00:00 GMT", "Sat, 21 Nov 2026 6:00:00 GMT",
            " Sat, 21 Nov 2026 16:00:00 GMT", "Sat, 21 Nov 2026 16:00:00 GMT ",
            "2026-11-21T16:00:00Z" } do
            assert.is_nil(dates.parse_http(text))
        end
    end)

    it("is nil for what is no ISO date in UTC", function()
        for _, text in ipairs { "", "x", "2020-01-08", "2020-01-08T02:56:19",
            "2020-01-08 02:56:19Z", "2020-01-08T02:56Z", "2020-01-08T02:56:19+00:00",
            "2020-01-08T02:56:19.587", "2020-01-08T02:56:19,587Z", "2020-01-08T02:56:19.5.5Z",
            "20200108T025619Z", "2020-1-8T02:56:19Z", " 2020-01-08T02:56:19Z",
            "2020-01-08T02:56:19Zx", "1578452179", "Wed, 08 Jan 2020 02:56:19 GMT" } do
            assert.is_nil(dates.parse_iso(text))
        end
    end)
end)
