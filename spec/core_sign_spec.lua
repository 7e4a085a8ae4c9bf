-- The signing stages against known answers: every file of spec/data/signing is
-- one vector, and a new file needs no code here.

local cases = require "spec.support.cases"
local core = require "csms.core"
local files = require "spec.support.files"
local json = require "cjson"

local sign = core.sign

-- {{name, value}, ...} as the flat list that the core takes
local function flat(pairs_list)
    local list = {}
    for _, pair in ipairs(pairs_list) do
        list[#list + 1], list[#list + 2] = pair[1], pair[2]
    end
    return list
end

local function text_or_nil(value)
    return value ~= json.null and value or nil
end

local function request_of(vector)
    local path, query = vector.url:match("^https?://[^/]+([^?]*)%??(.*)$")
    return {
        algorithm = vector.algorithm, method = vector.method, path = path, query = query,
        headers = flat(vector.headers), body = vector.body, date = vector.date,
        region = text_or_nil(vector.region), service = text_or_nil(vector.service),
    }
end

-- The vector's canonical request, cut into its six lines and line groups.
local function stages_of(vector)
    local _, uri, query, headers, names, hash =
        vector.canonical_request:match("^(.-)\n(.-)\n(.-)\n(.*\n)\n(.-)\n(.-)$")
    return { uri = uri, query = query, headers = headers, names = names, hash = hash }
end

describe("signing vectors", function()
    local count = 0

    for _, path in ipairs(files.list("spec/data/signing", "%.json$")) do
        local vector = json.decode(files.read(path))
        count = count + 1

        it("agrees with " .. vector.id .. " at every stage", function()
            local request, stages = request_of(vector), stages_of(vector)
            assert.equal(stages.uri, sign.canonical_uri(request.path))
            assert.equal(stages.query, sign.canonical_query(request.query))
            assert.equal(stages.headers, sign.canonical_headers(request))
            assert.equal(table.concat(vector.signed_headers, ";"), sign.signed_headers(request))
            assert.equal(stages.names, sign.signed_headers(request))
            assert.equal(vector.payload_hash, sign.payload_hash(request))
            local canonical = sign.canonical_request(request)
            assert.equal(vector.canonical_request, canonical)
            local scope = sign.scope(request)
            assert.equal(vector.scope or "", scope)
            local text = sign.string_to_sign(request, canonical)
            assert.equal(vector.string_to_sign, text)
            local key = sign.key(request, vector.ak, vector.sk, scope)
            assert.equal(vector.derived_key_hex or vector.sk, key)
            assert.equal(vector.signature, sign.signature(request, key, text))
            local credential = core.credential.keys(vector.ak, vector.sk)
            assert.equal(vector.authorization, sign.authorization(request, credential))
            -- a second time, with the key schedule that it kept
            assert.equal(vector.authorization, sign.authorization(request, credential))
        end)
    end

    it("are all there", function()
        assert.is_true(count >= 27)
    end)
end)

describe("canonical_uri", function()
    local CASES = {
        { "", "/" }, { "/", "/" }, { "/a", "/a/" }, { "/a/", "/a/" }, { "/a//", "/a//" },
        { "/a b", "/a%20b/" }, { "/a%20b", "/a%20b/" }, { "/a%2fb", "/a%2Fb/" },
        { "/%", "/%25/" }, { "/%4", "/%254/" }, { "/%zz", "/%25zz/" }, { "/%41", "/A/" },
        { "/%4z%z4%!1%1!%:4%4:%@4%4@", "/%254z%25z4%25%211%251%21%25%3A4%254%3A%25%404%254%40/" },
        { "/\195\169", "/%C3%A9/" }, { "/\0", "/%00/" }, { "/-_.~", "/-_.~/" },
    }
    for _, case in ipairs(CASES) do
        it("makes " .. case[2] .. " of " .. ("%q"):format(case[1]), function()
            assert.equal(case[2], sign.canonical_uri(case[1]))
        end)
    end
end)

describe("canonical_query", function()
    local CASES = {
        { "", "" }, { "a", "a=" }, { "a=", "a=" }, { "=", "=" }, { "&&a=1&", "a=1" },
        { "b=1&a=2", "a=2&b=1" }, { "a=2&a=1&a=", "a=&a=1&a=2" }, { "a=1=2", "a=1%3D2" },
        { "a=%41", "a=A" }, { "a=+", "a=%2B" }, { "%C3%A9=1&z=2", "z=2&%C3%A9=1" },
    }
    for _, case in ipairs(CASES) do
        it("makes " .. case[2] .. " of " .. case[1], function()
            assert.equal(case[2], sign.canonical_query(case[1]))
        end)
    end

    it("refuses more parameters than it can sort, with a clear error", function()
        local result, err = sign.canonical_query(("a=1&"):rep(65))
        assert.is_nil(result)
        assert.equal("argument", err.kind)
        assert.matches("64 parameters", err.message)
    end)
end)

describe("a credential", function()
    local request = {
        algorithm = "V11-HMAC-SHA256", method = "GET", path = "/", date = "20260101T000000Z",
        region = "r", service = "s",
    }

    it("derives its key anew when the day, the region or the service changes", function()
        local used = core.credential.keys("AK", "SK")
        local changes = { { "date", "20260102T000000Z" }, { "region", "q" }, { "service", "t" } }
        for _, change in ipairs(changes) do
            sign.authorization(request, used)
            request[change[1]] = change[2]
            local fresh = core.credential.keys("AK", "SK")
            assert.equal(sign.authorization(request, fresh), sign.authorization(request, used))
        end
    end)

    it("changes the algorithm without mixing keys", function()
        local used = core.credential.keys("AK", "SK")
        for _, algorithm in ipairs { "SDK-HMAC-SHA256", "SDK-HMAC-SM3", "V11-HMAC-SHA256" } do
            request.algorithm = algorithm
            assert.equal(sign.authorization(request, core.credential.keys("AK", "SK")),
                sign.authorization(request, used))
        end
    end)

    it("says what is missing for V11", function()
        for _, scope in ipairs { {}, { "r" }, { "r", "" }, { "", "s" }, { nil, "s" } } do
            local result, err = sign.authorization({
                algorithm = "V11-HMAC-SHA256", method = "GET", path = "/",
                date = "20260101T000000Z", region = scope[1], service = scope[2],
            }, core.credential.keys("AK", "SK"))
            assert.is_nil(result)
            assert.equal("config", err.kind)
            assert.matches("region", err.message)
        end
    end)

    it("may be closed by a finalizer in the middle of a call", function()
        for _ = 1, 100 do
            local credential = core.credential.keys("AK", "SK")
            cases.garbage(function() credential:close() end)
            local result, err = sign.authorization(request, credential)
            if not result then cases.failure("credentials", result, err) end
        end
    end)

    it("with keys is what authorization() wants, and an open one", function()
        local closed = core.credential.keys("AK", "SK")
        closed:close()
        local result, err = sign.authorization(request, closed)
        assert.same({ nil, "credentials" }, { result, err.kind })
        for what, bad in pairs {
            ["with keys expected"] = core.credential.token "TOKEN",
            ["csms.credential expected"] = "AK:SK",
        } do
            assert.error_matches(function() sign.authorization(request, bad) end, what)
        end
        assert.error_matches(function() sign.authorization(request) end, "with keys expected")
    end)
end)

describe("a request", function()
    local credential = core.credential.keys("AK", "SK")

    local function authorize(changes)
        local request = { method = "GET", path = "/", date = "20260101T000000Z" }
        for name, value in pairs(changes) do request[name] = value end
        return sign.authorization(request, credential)
    end

    it("sorts its headers by lower-case name, those of one name as they came", function()
        local headers = { "x-b", "3", "X-A-b", "2", "X-a", "1", "X-B", "4", "x", "0" }
        assert.equal("x;x-a;x-a-b;x-b;x-b",
            sign.signed_headers { headers = headers, date = "20260101T000000Z" })
        assert.equal("x:0\nx-a:1\nx-a-b:2\nx-b:3\nx-b:4\n",
            sign.canonical_headers { headers = headers, date = "20260101T000000Z" })
    end)

    for what, case in pairs {
        ["field 'method' must be a string"] = { method = 5 },
        ["field 'body' must be a string"] = { body = {} },
        ["field 'region' must be a string"] = { region = true },
        ["field 'date' must be a string"] = { date = 20260101 },
        ["field 'date' holds a NUL"] = { date = "20260101T000000Z\0" },
        ["headers must be pairs of name and value"] = { headers = { "Host" } },
        ["headers%[2%] must be a string"] = { headers = { "Host", 5 } },
        ["at most 32 headers"] = { headers = flat((function()
            local many = {}
            for index = 1, 33 do many[index] = { "X-" .. index, "1" } end
            return many
        end)()) },
        ["unknown algorithm 'MD5'"] = { algorithm = "MD5" },
    } do
        it("is refused where it is none: " .. what, function()
            assert.error_matches(function() authorize(case) end, what)
        end)
    end

    it("has a date of the one form that is signed", function()
        for _, date in ipairs {
            "", "20260101", "20260101T0000000Z", "20260101 000000Z", "20260101T000000z",
            "2026-101T000000Z", "2026010aT000000Z", "20260101T00000:Z",
        } do
            assert.error_matches(function() authorize { date = date } end, "YYYYMMDDTHHMMSSZ")
        end
        assert.error_matches(function()
            sign.scope { method = "GET" }
        end, "YYYYMMDDTHHMMSSZ")
    end)

    it("of more than a mebibyte of text is refused, whichever part it is", function()
        local long = ("a"):rep(1024 * 1024 + 1)
        for _, case in ipairs {
            { method = long }, { path = long }, { path = "/%41" .. long }, { query = long },
            { query = "a=" .. long:sub(1, -3) }, { headers = { "X-A", long } },
            { headers = { long, "" } }, { headers = { long:sub(1, -20), "" } },
        } do
            local result, err = authorize(case)
            assert.is_nil(result)
            assert.equal("argument", err.kind)
            assert.matches("is over 1048576 bytes", err.message, 1, true)
        end
    end)

    it("has a scope of at most 256 bytes", function()
        local result, err = authorize { algorithm = "V11-HMAC-SHA256", region = ("r"):rep(256),
            service = "s" }
        assert.is_nil(result)
        assert.equal("argument", err.kind)
        assert.matches("credential scope is over 256 bytes", err.message, 1, true)
    end)
end)

describe("encode()", function()
    it("takes a part of a URL, of any length", function()
        assert.equal("a%2Fb%20%C3%A9", core.encode "a/b \195\169")
        assert.equal("A-z_0.9~", core.encode "A-z_0.9~")
        assert.equal(("%2F"):rep(1024 * 1024), core.encode(("/"):rep(1024 * 1024)))
    end)
end)
