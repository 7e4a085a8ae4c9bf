-- No key, token or blob gets out: not in an error, an event, a tostring or a table, whatever a
-- server does with what it was sent.

local csms = require "csms"
local cases = require "spec.support.cases"
local emulator = require "spec.support.emulator"
local fixed = require "csms.credentials.fixed"
local json = require "cjson"

local each_text = require("spec.support.canaries").each_text
local credentials = csms.credentials

local emu, canaries

setup(function() emu = emulator.start { secrets = 5 } end)
teardown(function() emu:stop() end)

before_each(function()
    emu:reset()
    local key = emu:issue_key()
    local temporary = emu:issue_key { temporary = true }
    canaries = {
        ak = key.access, sk = key.secret, temporary_ak = temporary.access,
        temporary_sk = temporary.secret, security_token = temporary.securitytoken,
        token = emu:issue_token().token,
    }
end)

-- Pieces of a blob of which any longer run holds one.
local PIECE = 24
local function pieces(blob)
    local list = {}
    for at = blob:find(".", 60, true), #blob - PIECE, PIECE do
        list[#list + 1] = blob:sub(at + 1, at + PIECE)
    end
    return list
end

-- The name of the canary that a text holds, or nil.
local function leak(text, blob)
    for name, value in pairs(canaries) do
        -- an access key may show its first four characters
        local least = name:find("ak$") and value:sub(1, 5) or value:sub(1, 12)
        if text:find(least, 1, true) then return name end
    end
    for _, piece in ipairs(blob and pieces(blob) or {}) do
        if text:find(piece, 1, true) then return "blob" end
    end
    return nil
end

local function assert_clean(what, value, blob)
    each_text(value, function(text)
        local name = leak(text, blob)
        assert.is_nil(name, ("%s: %s is in: %s"):format(what, tostring(name), text:sub(1, 300)))
    end)
end

local MAKERS = {
    keys = function() return credentials.static { ak = canaries.ak, sk = canaries.sk } end,
    temporary = function()
        return credentials.static { ak = canaries.temporary_ak, sk = canaries.temporary_sk,
            security_token = canaries.security_token }
    end,
    token = function() return credentials.token(canaries.token) end,
    env = function()
        local variables = { HUAWEICLOUD_SDK_AK = canaries.ak, HUAWEICLOUD_SDK_SK = canaries.sk }
        return fixed.env(function(name) return variables[name] end)
    end,
}

local function client_with(maker, changes)
    changes = changes or {}
    changes.credentials = MAKERS[maker]()
    return cases.client(emu, changes)
end

-- Those that a client of that maker has: nobody can know others' keys in what a server sends.
local function own(maker)
    if maker == "token" then return { token = canaries.token } end
    if maker == "temporary" then
        return { temporary_ak = canaries.temporary_ak, temporary_sk = canaries.temporary_sk,
            security_token = canaries.security_token }
    end
    return { ak = canaries.ak, sk = canaries.sk }
end

-- All secrets as a server might send them back.
local function echo(blob)
    local parts = { "sent:" }
    for name, value in pairs(canaries) do parts[#parts + 1] = name .. "=" .. value end
    parts[#parts + 1] = "blob=" .. blob
    return table.concat(parts, " ")
end

describe("the check of this file", function()
    it("finds what it looks for", function()
        local blob = assert(client_with("keys"):backup(nil, "secret-0001"))
        for name, value in pairs(canaries) do
            assert.equal(name, leak("x" .. value .. "x"))
        end
        assert.equal("blob", leak(blob, blob))
        assert.equal("blob", leak(blob:sub(-60, -5), blob))
        assert.is_nil(leak("sk token ak " .. canaries.ak:sub(1, 4), blob))
        assert.is_false((pcall(assert_clean, "x", { a = { [canaries.sk] = 1 } })))
        assert.is_false((pcall(assert_clean, "x",
            setmetatable({}, { __tostring = function() return canaries.ak end }))))
    end)
end)

describe("clients, providers and credentials", function()
    for maker in pairs(MAKERS) do
        it("hold and print no secret: " .. maker, function()
            local provider = MAKERS[maker]()
            assert_clean("provider", provider)
            assert_clean("credential", assert(provider:get()))
            local client = client_with(maker)
            local blob = assert(client:backup(nil, "secret-0001"))
            assert_clean("client", client, blob)
            assert(client:list())
            client:backup(nil, "absent")
            assert_clean("client", client, blob)
            client:close()
            assert_clean("closed client", client, blob)
            provider:close()
            assert_clean("closed provider", provider)
        end)
    end

    it("hold and print no secret of the environment", function()
        local output = cases.run(([[
            local csms = require "csms"
            local client = assert(csms.new { endpoint = %q, ca_file = %q, project = %q })
            assert(client:backup(nil, "secret-0001"))
            local function walk(value, seen)
                print(tostring(value))
                if type(value) ~= "table" or seen[value] then return end
                seen[value] = true
                for key, item in pairs(value) do walk(key, seen); walk(item, seen) end
            end
            walk(client, {})
            walk(package.loaded["csms.credentials"], {})
        ]]):format(emu.endpoint, emu.ca_file, emu.project), {
            HUAWEICLOUD_SDK_AK = canaries.temporary_ak, HUAWEICLOUD_SDK_SK = canaries.temporary_sk,
            HUAWEICLOUD_SDK_SECURITY_TOKEN = canaries.security_token,
        })
        assert.matches("csms client", output, 1, true)
        assert_clean("child", output)
    end)
end)

describe("errors of a value that is refused", function()
    it("do not repeat it", function()
        for name, value in pairs(canaries) do
            for _, bad in ipairs { value .. "\n", value .. " ", "\r" .. value } do
                for _, call in ipairs {
                    function() return credentials.static { ak = bad, sk = "s" } end,
                    function() return credentials.static { ak = "a", sk = bad } end,
                    function()
                        return credentials.static { ak = "a", sk = "s", security_token = bad }
                    end,
                    function() return credentials.token(bad) end,
                    function() return fixed.env(function() return bad end):get() end,
                } do
                    local _, err = call()
                    assert.is_table(err)
                    assert_clean(name, err)
                end
            end
        end
    end)

    it("do not repeat a wrong type's neighbours", function()
        local _, err = credentials.static { ak = canaries.ak, sk = canaries.sk, sekurity = "x" }
        assert.is_table(err)
        assert_clean("unknown key", err)
        _, err = credentials.static { ak = canaries.ak, sk = canaries.sk, security_token = 5 }
        assert.is_table(err)
        assert_clean("wrong type", err)
        _, err = csms.new { endpoint = "https://" .. canaries.ak .. ":" .. canaries.sk .. "@host" }
        assert.is_table(err)
        assert_clean("endpoint", err)
    end)

    it("do not repeat keys that were given as the table itself", function()
        local ok, made, err = pcall(csms.new, { endpoint = "https://localhost",
            credentials = { ak = canaries.ak, sk = canaries.sk } })
        assert.is_true(ok)
        assert.is_nil(made)
        assert_clean("credentials", err)
    end)
end)

describe("errors of failing calls", function()
    local FAULTS = {
        { status = 400 }, { status = 401 }, { status = 403 }, { status = 404 }, { status = 429 },
        { status = 500 }, { status = 302, headers = { Location = "https://nonexistent.invalid/" } },
        { body = "garbage" }, { body = "{}" }, { close = "connection" }, { close = "reset" },
        { truncate = 20 }, { delay = cases.HELD }, { body_size = 17 * 1024 * 1024 },
    }

    for maker in pairs(MAKERS) do
        it("hold no secret: " .. maker, function()
            local blob = assert(client_with(maker):backup(nil, "secret-0001"))
            for _, operation in ipairs { "backup", "restore", "show", "list" } do
                for _, fault in ipairs(FAULTS) do
                    fault.operation, fault.times = operation, 0
                    emu:clear_faults()
                    emu:fault(fault)
                    local argument = operation == "restore" and blob or "secret-0001"
                    if operation == "list" then argument = nil end
                    -- a new one each time: a client remembers that it was throttled
                    local client = client_with(maker, { timeout = 0.2 })
                    local result, err = client[operation](client, nil, argument)
                    assert.is_nil(result)
                    assert_clean(operation .. " " .. err.kind, err, blob)
                end
            end
        end)
    end

    it("hold no secret where the service really refuses", function()
        local blob = assert(client_with("keys"):backup(nil, "secret-0001"))
        local errs = {}
        local function keep(result, err)
            assert.is_nil(result)
            errs[#errs + 1] = err
        end
        keep(client_with("keys"):restore(nil, blob))
        keep(client_with("keys"):restore(nil, blob:sub(1, -2)))
        keep(client_with("keys"):backup(nil, "absent"))
        for _, field in ipairs { "wrong_host_endpoint", "expired_endpoint", "tls11_endpoint" } do
            keep(client_with("token", { endpoint = emu[field] }):backup(nil, "secret-0001"))
        end
        keep(client_with("keys", { endpoint = "https://nonexistent.invalid" }):restore(nil, blob))
        emu:revoke_tokens()
        emu:revoke_keys()
        keep(client_with("token"):restore(nil, blob))
        keep(client_with("temporary"):restore(nil, blob))
        -- "Get secretKey failed,ak:..."
        local unknown = credentials.static { ak = "UNKNOWN" .. canaries.ak, sk = canaries.sk }
        keep(cases.client(emu, { credentials = unknown }):restore(nil, blob))
        for index, err in ipairs(errs) do assert_clean(index .. " " .. err.kind, err, blob) end
        assert.matches("UNKN****", tostring(errs[#errs]), 1, true)
        assert.is_nil(tostring(errs[#errs]):find("UNKNO", 1, true))
    end)
end)

describe("a server that sends back what it got", function()
    local blob

    before_each(function() blob = assert(client_with("keys"):backup(nil, "secret-0001")) end)

    -- The errors of each kind of credential.
    local function check(what, fault)
        for maker in pairs(MAKERS) do
            local all = canaries
            canaries = own(maker)
            emu:clear_faults()
            local rule = fault(echo(blob))
            rule.operation = "restore"
            emu:fault(rule)
            local result, err = client_with(maker):restore(nil, blob)
            local ok, message = pcall(assert_clean, what .. ", " .. maker, err, blob)
            canaries = all
            assert.is_nil(result)
            if not ok then error(message, 0) end
        end
    end

    for _, shape in ipairs { 1, 2, 3, 4, 5, 6, "camel" } do
        it("gets none of it into an error's text: shape " .. shape, function()
            check("message", function(text)
                return { status = 400, code = "CSMS.0002", message = text, shape = shape }
            end)
        end)
    end

    it("gets none of it into an error's code", function()
        check("code", function(text)
            return { status = 400, body = json.encode { error_code = text, error_msg = "x" } }
        end)
    end)

    it("gets none of it into the encoded authorization message", function()
        check("policy", function(text)
            return { status = 403, body = json.encode { error_code = "X", error_msg = "x",
                encoded_authorization_message = text } }
        end)
    end)

    it("gets none of it into the request id of an error", function()
        check("header", function(text)
            return { status = 400, headers = { ["X-Request-Id"] = text } }
        end)
        check("body", function(text)
            return { status = 400, headers = { ["X-Request-Id"] = {} },
                body = json.encode { error_msg = "x", request_id = text } }
        end)
    end)

    it("gets none of it into the request id of an answer that breaks the promise", function()
        check("garbage", function(text)
            return { status = 200, body = "garbage", headers = { ["X-Request-Id"] = text } }
        end)
        check("no secret", function(text)
            return { status = 200, body = "{}", headers = { ["X-Request-Id"] = text } }
        end)
        check("redirect", function(text)
            return { status = 302, headers = { ["X-Request-Id"] = text, Location = text } }
        end)
    end)

    it("gets none of it out of pages that are no JSON", function()
        check("html", function(text)
            return { status = 502, body = "<html><b>" .. text .. "</b></html>" }
        end)
        check("plain", function(text) return { status = 502, body = text } end)
        check("cut JSON", function(text)
            return { status = 502, body = '{"error_msg":"' .. text }
        end)
    end)

    it("gets none of it out where each secret stands between quotes", function()
        check("quotes", function(text)
            return { status = 400, body = json.encode {
                error_msg = text:gsub("=(%S+)", "='%1'") } }
        end)
    end)

    it("gets none of it out where the text is long", function()
        for _, filler in ipairs { 250, 280, 290, 299 } do
            check("long", function(text)
                return { status = 400, body = json.encode {
                    error_msg = ("x"):rep(filler) .. " " .. text } }
            end)
        end
    end)

    it("gets no part of the blob out", function()
        local middle = blob:sub(math.floor(#blob / 2), math.floor(#blob / 2) + 120)
        for _, part in ipairs { blob:sub(-200), middle, blob:sub(blob:find(".", 50, true) + 1) } do
            check("part", function()
                return { status = 400, body = json.encode { error_msg = "bad text: " .. part } }
            end)
        end
    end)

    it("gets its own request's headers back and shows none of them", function()
        for maker in pairs(MAKERS) do
            for _, form in ipairs {
                [[answer(peer, "400 No", '{"error_msg":"' .. head:gsub("\n", " ") .. '"}')]],
                [[answer(peer, "401 No", "<pre>" .. head .. "</pre>")]],
                [[answer(peer, "403 No", head)]],
                [[answer(peer, "500 No", body)]],
                [[answer(peer, "200 OK", head .. body)]],
                [[answer(peer, "200 OK", "{}",
                    "X-Request-Id: " .. head:gsub("\n", " ") .. "\r\n")]],
                [[answer(peer, "302 No", "", "Location: /?" .. head:gsub("\n", " ") .. "\r\n")]],
                [[peer:send(head .. "\r\n\r\n" .. body)]],
            } do
                cases.with_server("local head, body = read_request(peer)\n" .. form,
                    function(server)
                        local client = client_with(maker, { endpoint = server.endpoint })
                        local result, err = client:restore(nil, blob)
                        assert.is_nil(result)
                        assert_clean(maker .. " " .. form, err, blob)
                    end)
            end
        end
    end)
end)

describe("events", function()
    it("hold no secret", function()
        local events = {}
        local client = client_with("temporary", { on_event = function(event)
            events[#events + 1] = event
        end })
        local blob = assert(client:backup(nil, "secret-0001"))
        canaries = own "temporary"
        emu:fault { operation = "backup", status = 500, message = echo(blob) }
        client:backup(nil, "secret-0001")
        emu:fault { operation = "backup", delay = cases.HELD }
        client:backup(nil, "secret-0001", { timeout = 0.3 })
        client:restore(nil, blob)
        emu:revoke_keys()
        client:list()
        assert.is_true(#events >= 5)
        assert_clean("events", events, blob)
    end)

    it("hold none that a server sends back as its request id", function()
        for maker in pairs(MAKERS) do
            local events = {}
            local client = client_with(maker, { on_event = function(event)
                events[#events + 1] = event
            end })
            local name = maker == "env" and "keys" or maker
            local sent = { keys = canaries.sk, temporary = canaries.security_token,
                token = canaries.token }
            emu:clear_faults()
            emu:fault { operation = "show", times = 0, headers = { ["X-Request-Id"] = sent[name] } }
            assert(client:show(nil, "secret-0001"))
            assert.is_true(#events > 0)
            assert_clean(maker, events)
        end
    end)
end)

describe("a proxy's password", function()
    it("is in no error and not in what a client prints", function()
        local client = client_with("keys", { endpoint = "https://nonexistent.invalid",
            proxy = "http://user:PROXYPASSWORD@127.0.0.1:1" })
        local _, err = client:backup(nil, "secret-0001")
        each_text(err, function(text)
            assert.is_nil(text:find("PROXYPASSWORD", 1, true))
        end)
        assert.is_nil(tostring(client):find("PROXYPASSWORD", 1, true))
    end)
end)
