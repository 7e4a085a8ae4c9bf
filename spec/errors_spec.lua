-- Errors: their kinds, their fields and the bodies that they are read from.

local csms = require "csms"
local cases = require "spec.support.cases"
local emulator = require "spec.support.emulator"
local errors = require "csms.errors"
local fixed = require "csms.credentials.fixed"
local json = require "cjson"

local failure = cases.failure

local emu, client

setup(function() emu = emulator.start() end)
teardown(function() emu:stop() end)
before_each(function()
    emu:reset()
    -- a new one each time: a client remembers that it was throttled, or its keys refused
    client = cases.client(emu)
end)

-- The error of a backup that the emulator answers so.
local function backup_error(kind, fault)
    fault.operation, fault.times = "backup", 0
    emu:fault(fault)
    return failure(kind, client:backup(nil, "secret-0001"))
end

describe("the kind of an answer", function()
    local ANSWERS = {
        -- status, code, kind, retryable
        { 400, "CSMS.0002", "rejected", false }, { 400, "CSMS.0003", "rejected", false },
        { 400, "CSMS.0004", "rejected", false }, { 400, "CSMS.0202", "rejected", false },
        { 400, "CSMS.0401", "rejected", false }, { 400, "CSMS.0108", "rejected", false },
        { 400, "KMS.0209", "rejected", false }, { 400, "APIG.0201", "rejected", false },
        { 402, "X.1", "rejected", false }, { 405, "X.1", "rejected", false },
        { 409, "X.1", "rejected", false }, { 413, "APIG.0201", "rejected", false },
        { 414, "APIG.0201", "rejected", false }, { 418, "X.1", "rejected", false },
        { 401, "APIG.0301", "auth", false }, { 401, "APIGW.0301", "auth", false },
        { 401, "APIG.0303", "auth", false }, { 401, "APIG.0307", "auth", false },
        { 400, "CSMS.0301", "auth", false }, { 403, "KMS.0303", "auth", false },
        { 403, "APIG.0302", "denied", false }, { 403, "CSMS.0302", "denied", false },
        { 403, "KMS.0306", "denied", false }, { 403, "X.1", "denied", false },
        { 404, "APIG.0101", "not_found", false }, { 404, "KMS.0207", "not_found", false },
        { 400, "CSMS.0005", "not_found", false }, { 400, "CSMS.0106", "not_found", false },
        { 400, "CSMS.0103", "state", false }, { 400, "CSMS.0107", "state", false },
        { 403, "CSMS.0109", "state", false },
        { 429, "APIG.0308", "throttled", true }, { 429, "X.1", "throttled", true },
        { 500, "KMS.0101", "service", true }, { 500, "APIG.0601", "service", true },
        { 501, "X.1", "service", true }, { 502, "APIG.0201", "service", true },
        { 503, "APIG.0613", "service", true }, { 504, "APIG.0201", "service", true },
        { 599, "X.1", "service", true }, { 408, "X.1", "service", true },
        -- a code that the contract names wins over the status
        { 500, "CSMS.0106", "not_found", false }, { 403, "CSMS.0005", "not_found", false },
        { 429, "CSMS.0103", "state", false }, { 404, "CSMS.0109", "state", false },
        { 401, "CSMS.0107", "state", false }, { 503, "CSMS.0301", "auth", false },
        { 404, "KMS.0303", "auth", false },
        -- no other code does
        { 500, "APIG.0301", "service", true }, { 400, "APIG.0308", "rejected", false },
        { 403, "CSMS.01061", "denied", false }, { 400, "XCSMS.0106", "rejected", false },
    }

    for _, case in ipairs(ANSWERS) do
        local status, code, kind, retryable = case[1], case[2], case[3], case[4]
        it(("of %d with %s is %s"):format(status, code, kind), function()
            local err = backup_error(kind, { status = status, code = code, message = "why" })
            assert.same({ status, code, retryable, 1 },
                { err.status, err.code, err.retryable, err.attempts })
            assert.same({ emu.project, "secret-0001" }, { err.project, err.name })
            assert.matches("why", err.message, 1, true)
            assert.matches("^%x+$", err.request_id)
            assert.is_true(errors.is_error(err))
        end)
    end

    for _, status in ipairs { 300, 301, 302, 303, 304, 307, 308 } do
        it("of " .. status .. " is protocol, not to be retried", function()
            local err = backup_error("protocol", { status = status })
            assert.same({ status, false, 1 }, { err.status, err.retryable, err.attempts })
            assert.matches("; redirects are never followed; check the endpoint", err.message, 1,
                true)
        end)
    end
end)

describe("the service's own refusals", function()
    it("of a bad signature are auth", function()
        local function refused()
            local keys = csms.credentials.static { ak = emu.ak, sk = "wrong" }
            local other = cases.client(emu, { credentials = keys })
            return failure("auth", other:backup(nil, "secret-0001"))
        end
        local err = refused()
        assert.same({ 401, "APIG.0301", false, 1 },
            { err.status, err.code, err.retryable, err.attempts })
        emu:set { gateway_prefix = "APIGW." }
        assert.equal("APIGW.0301", refused().code)
    end)

    it("of tokens are auth", function()
        local function with(token)
            local err = failure("auth", cases.client(emu, {
                credentials = csms.credentials.token(token),
            }):backup(nil, "secret-0001"))
            return { err.status, err.code }
        end
        assert.same({ 401, "APIG.0301" }, with("unknown"))
        assert.same({ 400, "CSMS.0301" }, with(emu:issue_token({ global = true }).token))
        local token = emu:issue_token().token
        emu:revoke_tokens()
        assert.same({ 401, "APIG.0307" }, with(token))
    end)

    it("of another project are denied", function()
        local err = failure("denied", client:backup(("0"):rep(32), "secret-0001"))
        assert.same({ 403, "APIG.0310" }, { err.status, err.code })
        assert.matches("check the project id", err.message, 1, true)
    end)

    it("of a missing secret are not_found", function()
        for _, operation in ipairs { "backup", "show" } do
            local err = failure("not_found", client[operation](client, nil, "absent"))
            assert.same({ 400, "CSMS.0106", "absent" }, { err.status, err.code, err.name })
        end
    end)

    it("of a secret's state are state", function()
        for state, expected in pairs {
            PENDING_DELETE = { 400, "CSMS.0103" }, FROZEN = { 403, "CSMS.0109" },
        } do
            emu:change("secret-0001", { state = state })
            local err = failure("state", client:backup(nil, "secret-0001"))
            assert.same(expected, { err.status, err.code })
        end
    end)

    it("of too many requests are throttled and keep the stated window", function()
        emu:set { limits = { { requests = 1, seconds = 60 } } }
        assert.is_string(client:backup(nil, "secret-0001"))
        local err = failure("throttled", client:backup(nil, "secret-0001"))
        assert.same({ 429, "APIG.0308", true }, { err.status, err.code, err.retryable })
        assert.matches("limit:1,time:1 minute", err.message, 1, true)
    end)

    it("of a blob are rejected", function()
        local err = failure("rejected", client:restore(nil, "nonsense"))
        assert.same({ 400, "CSMS.0002" }, { err.status, err.code })
        assert.is_nil(err.name)
    end)

    it("of a path that it does not know name the endpoint", function()
        local err = backup_error("not_found", { status = 404, code = "APIG.0101" })
        assert.matches("endpoint", err.message, 1, true)
    end)
end)

describe("errors before anything is sent", function()
    it("have kind argument, no attempt and no status", function()
        for _, call in ipairs {
            function() return client:backup("short", "secret-0001") end,
            function() return client:backup(nil, "a b") end,
            function() return client:show(nil, "") end,
            function() return client:restore(nil, "") end,
            function() return client:restore(nil, ("x"):rep(16 * 1024 * 1024)) end, -- too long
            function() return client:list("short") end,
        } do
            local err = failure("argument", call())
            assert.same({ 0, false }, { err.attempts, err.retryable })
            assert.is_nil(err.status or err.code or err.request_id)
            assert.is_true(errors.is_error(err))
        end
        assert.equal(0, #emu:requests())
    end)

    it("have kind config for what cannot work", function()
        local closed = cases.client(emu)
        closed:close()
        for _, call in ipairs {
            function() return closed:backup(nil, "secret-0001") end,
            function() return client:backup(nil, "secret-0001", { tiemout = 1 }) end,
            function() return csms.new { endpoint = "ftp://x" } end,
            function() return csms.new { nonsense = 1 } end,
        } do
            local err = failure("config", call())
            assert.same({ 0, false }, { err.attempts, err.retryable })
            assert.is_true(errors.is_error(err))
        end
        assert.equal(0, #emu:requests())
    end)

    it("have kind credentials where the source has none", function()
        local empty = fixed.env(function() end)
        local err = failure("credentials",
            cases.client(emu, { credentials = empty }):backup(nil, "secret-0001"))
        assert.same({ 0, false, emu.project, "secret-0001" },
            { err.attempts, err.retryable, err.project, err.name })
        assert.equal(0, #emu:requests())
    end)

    it("have kind config where the CA file is missing", function()
        local broken = cases.client(emu, { ca_file = "/nonexistent/ca.crt" })
        local err = failure("config", broken:backup(nil, "secret-0001"))
        assert.matches("/nonexistent/ca.crt", err.message, 1, true)
        assert.is_false(err.retryable)
        assert.equal(0, #emu:requests())
    end)
end)

describe("errors without an answer", function()
    it("have kind network and can be retried", function()
        local err = backup_error("network", { close = "connection" })
        assert.same({ true, 1 }, { err.retryable, err.attempts })
        assert.is_nil(err.status or err.code or err.request_id)
        assert.is_string(err.cause)
    end)

    it("have kind tls", function()
        local endpoints = { wrong_host_endpoint = false, expired_endpoint = false,
            self_signed_endpoint = false, tls11_endpoint = true }
        for field, retryable in pairs(endpoints) do
            local other = cases.client(emu, { endpoint = emu[field] })
            local err = failure("tls", other:backup(nil, "secret-0001"))
            assert.same({ field, retryable, 1 }, { field, err.retryable, err.attempts })
            assert.is_string(err.cause)
            assert.is_nil(err.status)
        end
    end)

    it("have kind timeout and can be retried", function()
        emu:fault { operation = "backup", delay = cases.HELD }
        local err = failure("timeout", client:backup(nil, "secret-0001", { timeout = 0.1 }))
        assert.same({ true, 1 }, { err.retryable, err.attempts })
        assert.is_nil(err.status)
    end)
end)

describe("answers that break the promise", function()
    local BODIES = {
        -- body, retryable
        { "", true }, { "garbage", true }, { "<html></html>", true }, { '{"secret_blob":', true },
        { "{}", false }, { "[]", false }, { '{"secret_blob":null}', false },
        { '{"secret_blob":5}', false }, { '{"secret_blob":true}', false },
        { '{"secret_blob":{}}', false }, { '{"secret_blob":""}', false },
        { '{"error_code":"CSMS.0106","error_msg":"x"}', false },
    }

    for _, case in ipairs(BODIES) do
        it(("have kind protocol: 200 with '%s'"):format(case[1]), function()
            local err = backup_error("protocol", { body = case[1] })
            assert.same({ 200, case[2], 1 }, { err.status, err.retryable, err.attempts })
            assert.matches("^%x+$", err.request_id)
        end)
    end

    it("have kind protocol where restore and show get no secret", function()
        for _, body in ipairs { "{}", '{"secret":null}', '{"secret":5}', '{"secret":"x"}' } do
            for _, operation in ipairs { "restore", "show" } do
                emu:clear_faults()
                emu:fault { operation = operation, body = body }
                failure("protocol", client[operation](client, nil, "x"))
            end
        end
    end)

    it("have kind protocol where they are longer than max_response", function()
        local small = cases.client(emu, { max_response = 100 })
        local err = failure("protocol", small:backup(nil, "secret-0001"))
        assert.is_false(err.retryable)
        assert.matches("max_response", err.message, 1, true)
    end)
end)

describe("the body of an error", function()
    local SHAPES = {
        ["pair"] = '{"error_code":"C.1","error_msg":"text"}',
        ["pair in error"] = '{"error":{"error_code":"C.1","error_msg":"text"}}',
        ["IAM"] = '{"error":{"code":"C.1","message":"text","title":"Unauthorized"}}',
        ["code and message"] = '{"code":"C.1","message":"text"}',
        ["camel case"] = '{"errorCode":"C.1","errorMsg":"text"}',
        ["camel case in error"] = '{"error":{"errorCode":"C.1","errorMsg":"text"}}',
        ["policy"] = '{"error_code":"C.1","error_msg":"text",'
            .. '"encoded_authorization_message":"ZW4","details":[]}',
        ["policy in error"] = '{"error":{"error_code":"C.1","error_msg":"text",'
            .. '"encoded_authorization_message":"ZW4"}}',
        ["gateway"] = '{"error_msg":"text","error_code":"C.1","request_id":"r-1"}',
        ["with details"] = '{"error_code":"C.1","error_msg":"text",'
            .. '"details":[{"error_code":"C.2","error_msg":"inner"}]}',
        ["pair in another object"] = '{"data":{"error_code":"C.1","error_msg":"text"}}',
        ["spaced"] = ' \r\n\t{ "error_code" : "C.1" , "error_msg" : "text" } \n',
    }

    for shape, body in pairs(SHAPES) do
        it("is read in the shape: " .. shape, function()
            local found = errors.read_body(body)
            assert.same({ "C.1", "text" }, { found.code, found.message })
        end)
    end

    it("gives request id and policy where they are in it", function()
        assert.equal("r-1", errors.read_body(SHAPES.gateway).request_id)
        assert.equal("ZW4", errors.read_body(SHAPES.policy).policy)
        assert.equal("ZW4", errors.read_body(SHAPES["policy in error"]).policy)
    end)

    it("may have a number as its code", function()
        local found = errors.read_body '{"error":{"code":401,"message":"text"}}'
        assert.same({ "401", "text" }, { found.code, found.message })
    end)

    it("may have blank texts, which hide no others", function()
        local found = errors.read_body('{"error_code":"","error_msg":" ",'
            .. '"error":{"error_code":"APIG.0308","error_msg":"slow down"}}')
        assert.same({ "APIG.0308", "slow down" }, { found.code, found.message })
        assert.is_nil(errors.read_body('{"error_code":"C.1","error_msg":""}').message)
    end)

    it("may have a code alone, a message alone or a title alone", function()
        assert.equal("C.1", errors.read_body('{"error_code":"C.1"}').code)
        assert.equal("text", errors.read_body('{"error_msg":"text"}').message)
        assert.equal("text", errors.read_body('{"error":{"message":"text"}}').message)
        local found = errors.read_body '{"error":{"code":401,"title":"Unauthorized"}}'
        assert.same({ "401", "Unauthorized" }, { found.code, found.message })
    end)

    it("keeps its outer code where only an inner object has a message", function()
        local found = errors.read_body(
            '{"error_code":"C.1","error_msg":null,"details":[{"message":"inner"}]}')
        assert.equal("C.1", found.code)
    end)

    it("may be nulls, nonsense types or nothing at all", function()
        for _, body in ipairs { "", "null", "5", '"x"', "[]", "{}", '{"error":null}',
            '{"error_code":null,"error_msg":null}', '{"error_code":{},"error_msg":[]}',
            '{"code":true}' } do
            local found = errors.read_body(body)
            assert.is_nil(found.code)
        end
    end)

    it("may be a page of a proxy", function()
        local found = errors.read_body("<html><head><style>p { color: red }</style></head>\r\n"
            .. "<body><h1>502 Bad   Gateway</h1>\n</body></html>")
        assert.is_nil(found.code)
        assert.equal("502 Bad Gateway", found.message)
    end)

    it("does not take quadratic time where it is hostile", function()
        for _, piece in ipairs { "<", "<style>", "<style", "eyJ", " ", ")", "[", '{"a":' } do
            emu:fault { operation = "backup", status = 500, body = piece:rep(20000) }
            local before = os.clock()
            failure("service", client:backup(nil, "secret-0001"))
            local seconds = os.clock() - before -- of computing
            assert.is_true(seconds < 1.5, piece .. " takes " .. seconds .. " seconds")
        end
    end)

    for _, shape in ipairs { 1, 2, 3, 4, 5, 6, "camel" } do
        it("comes over the wire in shape " .. shape, function()
            local err = backup_error("rejected",
                { status = 400, code = "CSMS.0002", message = "why", shape = shape })
            assert.same({ 400, "CSMS.0002" }, { err.status, err.code })
            assert.matches("why", err.message, 1, true)
        end)
    end

    for _, shape in ipairs { 0, 7 } do
        it("may be missing or HTML over the wire: shape " .. shape, function()
            local err = backup_error("service", { status = 503, shape = shape })
            assert.equal(503, err.status)
            assert.is_nil(err.code)
            assert.is_true(#err.message > 5)
            assert.is_nil(err.message:find("[<>]"))
            assert.matches("^%x+$", err.request_id)
        end)
    end

    it("comes with its number as the code from IAM's shape", function()
        local err = backup_error("auth", { status = 401, code = "401", shape = 3 })
        assert.equal("401", err.code)
    end)

    it("of 5 MiB leaves a short message", function()
        local err = backup_error("service",
            { status = 500, body = json.encode { error_msg = ("long "):rep(1024 * 1024) } })
        assert.is_true(#err.message < 500)
    end)

    it("keeps whole UTF-8 characters where the message is cut", function()
        for length = 996, 1000 do -- 1000 bytes are kept, and no part of a character
            local start = ("x"):rep(length)
            local message = errors.new("service", start .. "\240\159\148\145 and on").message
            assert.equal(start .. (length == 996 and "\240\159\148\145..." or "..."), message)
        end
        assert.equal(("\128"):rep(997) .. "...",
            errors.new("service", ("\128"):rep(2000)).message)
    end)

    it("has no long run of characters in its texts, which may be of a token", function()
        local id = ("0aB-"):rep(10)
        for given, expected in pairs {
            [id] = id, [id .. "1"] = "<...>", ["is " .. id .. "1.x_Y+z, no"] = "is <...>, no",
            [id:rep(20)] = "<...>", [")CloudSecretManagementBackupV1.x"] = "<blob>",
        } do
            assert.equal(expected, errors.request_id { header = function() return given end })
        end
    end)
end)

describe("the copy of an error", function()
    it("is another call's, which has made no attempt", function()
        local first = errors.new("denied", "why", { status = 403, attempts = 3, name = "a",
            project = emu.project, cause = "x" })
        assert.same(errors.new("denied", "why", { status = 403, cause = "x" }),
            errors.copy(first))
        assert.same({ 3, "a" }, { first.attempts, first.name })
    end)
end)

describe("the request id", function()
    local function id_of(headers, body, status)
        return backup_error(status and "service" or "protocol", {
            status = status, headers = headers, body = body,
        }).request_id
    end

    it("comes from X-Request-Id first", function()
        assert.equal("h-1", id_of({ ["X-Request-Id"] = "h-1", ["X-IAM-Trace-Id"] = "i-1" },
            '{"request_id":"b-1"}', 500))
    end)

    it("comes from X-IAM-Trace-Id next", function()
        cases.with_server([[
            read_request(peer)
            answer(peer, "500 No", '{"request_id":"b-1"}', "x-iam-trace-id:  i-1 \r\n")
        ]], function(server)
            local other = cases.client(emu, { endpoint = server.endpoint })
            assert.equal("i-1", failure("service", other:backup(nil, "n")).request_id)
        end)
    end)

    it("comes from the body last", function()
        cases.with_server([[
            read_request(peer)
            answer(peer, "500 No", '{"error_msg":"x","request_id":"b-1"}')
        ]], function(server)
            local other = cases.client(emu, { endpoint = server.endpoint })
            assert.equal("b-1", failure("service", other:backup(nil, "n")).request_id)
        end)
    end)

    it("comes from the body where the header is empty", function()
        cases.with_server([[
            read_request(peer)
            answer(peer, "500 No", '{"error_msg":"x","request_id":"b-1"}', "X-Request-Id: \r\n")
        ]], function(server)
            local other = cases.client(emu, { endpoint = server.endpoint })
            assert.equal("b-1", failure("service", other:backup(nil, "n")).request_id)
        end)
    end)

    it("comes with a success that breaks the promise too", function()
        assert.equal("h-1", id_of({ ["X-Request-Id"] = "h-1" }, "garbage"))
    end)

    it("is not taken from an interim answer", function()
        cases.with_server([[
            read_request(peer)
            peer:send("HTTP/1.1 103 Early Hints\r\nX-Request-Id: early\r\n\r\n")
            answer(peer, "500 No", "{}", "X-Request-Id: final\r\n")
        ]], function(server)
            local other = cases.client(emu, { endpoint = server.endpoint })
            assert.equal("final", failure("service", other:backup(nil, "n")).request_id)
        end)
    end)
end)

describe("the remedy", function()
    local REMEDIES = {
        -- status, code, kind, what it says
        { 400, "CSMS.0401", "rejected", "check that the KMS key exists" },
        { 404, "KMS.0207", "not_found", "check that the KMS key exists" },
        { 400, "KMS.0209", "rejected", "is enabled, and that the user may use it" },
        { 404, "APIG.0101", "not_found", "is it the KMS endpoint" },
        { 403, "APIG.0310", "denied", "check the project id" },
        { 403, "APIG.0401", "denied", "IP address" }, { 403, "APIG.0402", "denied", "IP address" },
        { 403, "APIGW.0402", "denied", "IP address" },
        { 403, "APIG.0802", "denied", "check the region" },
    }

    for _, case in ipairs(REMEDIES) do
        local status, code, kind, remedy = case[1], case[2], case[3], case[4]
        it("of " .. code .. " is its own", function()
            local err = backup_error(kind, { status = status, code = code, message = "why" })
            assert.matches("^why; ", err.message)
            assert.matches(remedy, err.message, 1, true)
            -- A denied one names the IAM actions too.
            local actions = err.message:find("csms:secret:get", 1, true)
            assert.equal(kind == "denied", actions ~= nil)
        end)
    end
end)

describe("denied", function()
    it("names the IAM actions that backup needs", function()
        local err = backup_error("denied", { status = 403 })
        for _, action in ipairs { "csms:secret:get", "kms:cmk:createDataKey",
            "kms:cmk:decryptDataKey", "kms:cmk:list" } do
            assert.matches(action, err.message, 1, true)
        end
    end)

    it("names the IAM actions that show and list need", function()
        emu:fault { operation = "show", status = 403 }
        assert.matches("csms:secret:get", failure("denied", client:show(nil, "a")).message, 1, true)
        emu:fault { operation = "list", status = 403 }
        assert.matches("csms:secret:list", failure("denied", client:list()).message, 1, true)
    end)

    it("says for restore where to look", function()
        emu:fault { operation = "restore", status = 403 }
        assert.matches("IAM", failure("denied", client:restore(nil, "x")).message, 1, true)
    end)

    it("keeps the encoded authorization message", function()
        local err = backup_error("denied", { status = 403, shape = 5 })
        assert.equal("ZW11bGF0ZWQ", err.encoded_authorization_message)
    end)
end)

describe("tostring of an error", function()
    it("starts with the kind and holds every fact", function()
        local err = backup_error("rejected", { status = 400, code = "CSMS.0002", message = "why" })
        local text = tostring(err)
        assert.matches("^rejected: why", text)
        for _, fact in ipairs { "status 400", "code CSMS.0002", "request_id " .. err.request_id,
            "project " .. emu.project, "name secret-0001" } do
            assert.matches(fact, text, 1, true)
        end
    end)

    it("prints whole numbers as such on every Lua", function()
        assert.is_nil(tostring(backup_error("service", { status = 500 })):find("500.0", 1, true))
    end)

    it("is what error() and assert() show", function()
        local ok, err = pcall(function() assert(client:backup(nil, "")) end)
        assert.is_false(ok)
        assert.matches("^argument: ", tostring(err))
    end)

    it("is one line, whatever the caller or the server sent", function()
        emu:fault { operation = "backup", times = 0, status = 500,
            body = json.encode { error_code = "a\nb", error_msg = "c\r\nd\0e\27[31m" } }
        local texts = {}
        for _, call in ipairs {
            function() return client:backup(nil, "secret-0001") end,
            function() return client:backup(nil, "a\nb") end,
            function() return client:backup("a\nb", "secret-0001") end,
            function() return client:list("a\nb") end,
            function() return client:backup(nil, "a\nb", { x = 1 }) end,
            function() return client:backup(nil, "secret-0001", { ["a\nb"] = 1 }) end,
            function() return csms.new { ["a\nb"] = 1 } end,
            function() return csms.new { endpoint = "https://a\nb" } end,
            function() return csms.new { endpoint = "https://localhost", region = "a\nb" } end,
        } do
            local result, err = call()
            assert.is_nil(result)
            texts[#texts + 1] = tostring(err)
        end
        local wrong = {}
        for _, text in ipairs(texts) do
            if text:find("%c") then wrong[#wrong + 1] = text end
        end
        assert.same({}, wrong)
    end)

    it("has a refused name in ASCII, as it may be in any encoding", function()
        local err = failure("argument", client:backup(nil, "caf\195\169 \255"))
        assert.equal("caf\195\169 \255", err.name)
        assert.matches("name caf?? ?", tostring(err), 1, true)
        assert.is_nil(tostring(err):find("[\127-\255]"))
    end)

    it("is short, whatever the caller passed", function()
        local long = ("x"):rep(100000)
        for _, call in ipairs {
            function() return client:backup(nil, long) end,
            function() return client:backup(long, "secret-0001") end,
            function() return client:backup(nil, "secret-0001", { [long] = 1 }) end,
            function() return csms.new { endpoint = "ftp://" .. long } end,
        } do
            local _, err = call()
            assert.is_true(#tostring(err) < 2000, tostring(err):sub(1, 80))
        end
    end)
end)
