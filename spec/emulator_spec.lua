-- The emulator itself: what it checks, serves and breaks. Requests are sent by the curl program
-- and signed by a few lines here, so that nothing of the library under test takes part. It runs on
-- the same Luas, whichever this is.
if rawget(_G, "jit") then return end

local cjson = require "cjson"
local digest = require "openssl.digest"
local hmac = require "openssl.hmac"
local pkey = require "openssl.pkey"

local crypto = require "spec.emulator.crypto"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local jwe = require "spec.emulator.jwe"
local signature = require "spec.emulator.signature"

local SCRIPT = "spec/emulator/emulator"

local output_of, quote, read, write = files.output_of, files.quote, files.read, files.write

local function now(offset)
    return os.date("!%Y%m%dT%H%M%SZ", os.time() + (offset or 0))
end

local function hex(bytes)
    return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function sha256(text)
    return hex(digest.new("sha256"):final(text))
end

local function mac(key, text)
    return hmac.new(key, "sha256"):final(text)
end

-- Headers of a signed request; o: {method, path, query, body, date, ak, sk, extra headers, unsigned
-- (a set of names), payload (in place of the body's hash)}
local function signed(emu, o)
    local headers = { ["x-sdk-date"] = o.date or now() }
    for name, value in pairs(o.extra or {}) do headers[name] = value end
    local names = {}
    for name in pairs(headers) do
        if not (o.unsigned or {})[name] then names[#names + 1] = name end
    end
    table.sort(names)
    local lines = {}
    for i, name in ipairs(names) do lines[i] = name .. ":" .. headers[name] .. "\n" end
    local canonical = table.concat({ o.method, o.path .. "/", o.query or "", table.concat(lines),
        table.concat(names, ";"), o.payload or sha256(o.body or "") }, "\n")
    local text = "SDK-HMAC-SHA256\n" .. headers["x-sdk-date"] .. "\n" .. sha256(canonical)
    headers.authorization = "SDK-HMAC-SHA256 Access=" .. (o.ak or emu.ak) .. ", SignedHeaders="
        .. table.concat(names, ";") .. ", Signature=" .. hex(mac(o.sk or emu.sk, text))
    return headers
end

-- o: {method, path, query, headers, body, endpoint, http, flags}
-- Answers {status, version, exit (curl's), headers (lower-case), body, json, seconds}
local function curl(emu, o)
    local folder = emu.dir .. "/tmp"
    local words = { "curl -s --max-time 20 --cacert", quote(emu.ca_file),
        o.http == "1.1" and "--http1.1" or "", "-X", o.method or "GET", o.flags or "",
        "-D", quote(folder .. "/head"), "-o", quote(folder .. "/body"),
        "-w '%{http_code} %{http_version} %{time_total} %{exitcode}'" }
    for name, value in pairs(o.headers or {}) do
        words[#words + 1] = "-H " .. quote(name .. ": " .. value)
    end
    write(folder .. "/body", "")
    if o.body then
        write(folder .. "/sent", o.body)
        words[#words + 1] = "--data-binary @" .. quote(folder .. "/sent")
    end
    local query = o.query and "?" .. o.query or ""
    words[#words + 1] = quote((o.endpoint or emu.endpoint) .. o.path .. query)
    local facts = output_of(table.concat(words, " "))
    local status, version, seconds, exit = facts:match("^(%d+) (%S+) (%S+) (%d+)")
    local answer = { status = tonumber(status), version = version, exit = tonumber(exit),
        seconds = tonumber(seconds), body = read(folder .. "/body"), headers = {} }
    for name, value in read(folder .. "/head"):gmatch("([^\r\n:]+): ([^\r\n]*)") do
        answer.headers[name:lower()] = value
    end
    local ok, json = pcall(cjson.decode, answer.body)
    if ok then answer.json = json end
    return answer
end

describe("emulator", function()
    local emu

    setup(function() emu = emulator.start({ secrets = 120 }) end)
    teardown(function() emu:stop() end)
    before_each(function() emu:reset() end)

    local function path(rest)
        return "/v1/" .. emu.project .. "/secrets" .. (rest or "")
    end

    -- One call with the start token.
    local function call(method, rest, o)
        o = o or {}
        o.method, o.path = method, path(rest)
        o.headers = o.headers or {}
        o.headers["X-Auth-Token"] = o.headers["X-Auth-Token"] or emu.token
        if o.body then o.headers["Content-Type"] = "application/json" end
        return curl(emu, o)
    end

    local function backup(name, o)
        return call("POST", "/" .. name .. "/backup", o)
    end

    -- One signed call; o as for `signed`.
    local function signed_call(o)
        o = o or {}
        o.method, o.path = o.method or "GET", o.path or path()
        o.headers = signed(emu, o)
        return curl(emu, o)
    end

    local function restore(blob, o)
        o = o or {}
        o.body = cjson.encode({ secret_blob = blob })
        return call("POST", "/restore", o)
    end

    describe("signature", function()
        for file in output_of("ls spec/data/signing/*.json"):gmatch("%S+") do
            local v = cjson.decode(read(file))
            it("agrees with vector " .. v.id, function()
                local headers = {}
                for _, pair in ipairs(v.headers) do headers[pair[1]:lower()] = pair[2] end
                local parsed = signature.parse(v.authorization)
                local request = { method = v.method, uri = v.url:match("^https?://[^/]+(.*)$"),
                    headers = headers, body = v.body }
                local result, canonical, text = signature.compute(parsed, request, v.sk)
                assert.equal(v.canonical_request, canonical)
                assert.equal(v.string_to_sign, text)
                assert.equal(v.signature, result)
                assert.equal(v.signature, parsed.signature)
            end)
        end

        it("reads no Authorization that is not one", function()
            assert.is_nil(signature.parse("Bearer x"))
            assert.is_nil(signature.parse("SDK-HMAC-SHA256 Credential=a, SignedHeaders=b, "
                .. "Signature=00"))
        end)
    end)

    describe("jwe", function()
        local key = pkey.new({ type = "RSA", bits = 2048 })
        local header = jwe.header("9f3efdc5-3f5e-4bed-a8d1-9616e50443ab")

        it("opens what it sealed", function()
            for _, size in ipairs({ 0, 1, 15, 16, 17, 5000 }) do
                local plain = ("\0x\255"):rep(size):sub(1, size)
                assert.equal(plain, jwe.decrypt(key, jwe.encrypt(key, header, plain)))
            end
        end)

        it("has the service's header and a fresh key each time", function()
            assert.equal('{"kid":"9f3efdc5-3f5e-4bed-a8d1-9616e50443ab","enc":"A128CBC-HS256",'
                .. '"alg":"RSA-OAEP-256"}', crypto.unbase64url(header))
            assert.not_equal(jwe.encrypt(key, header, "x"), jwe.encrypt(key, header, "x"))
        end)

        it("refuses a changed byte in any part", function()
            local text = jwe.encrypt(key, header, "some plain text")
            local at = 0
            for part in text:gmatch("[^.]+") do
                local i = at + math.floor(#part / 2)
                local other = text:sub(i, i) == "A" and "B" or "A"
                local changed = text:sub(1, i - 1) .. other .. text:sub(i + 1)
                assert.is_nil(jwe.decrypt(key, changed))
                at = at + #part + 1
            end
        end)

        it("is what another implementation of RSA-OAEP-256 opens", function()
            local encrypted = jwe.encrypt(key, header, "x"):match("^[^.]*%.([^.]*)")
            local folder = emu.dir .. "/tmp"
            write(folder .. "/key", key:toPEM("private"))
            write(folder .. "/cek", crypto.unbase64url(encrypted))
            local length = output_of("openssl pkeyutl -decrypt -inkey " .. folder .. "/key -in "
                .. folder .. "/cek -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256"
                .. " | wc -c")
            assert.equal(32, tonumber(length))
        end)

        it("is not opened by another key", function()
            local other = pkey.new({ type = "RSA", bits = 2048 })
            assert.is_nil(jwe.decrypt(other, jwe.encrypt(key, header, "x")))
        end)
    end)

    describe("gateway", function()
        it("takes a good signature, with query, body and host", function()
            local host = emu.endpoint:match("//(.*)$")
            local answer = signed_call({ query = "limit=2&marker=secret-0003",
                extra = { host = host, ["x-project-id"] = emu.project } })
            assert.equal(200, answer.status)
            assert.equal("secret-0004", answer.json.secrets[1].name)
            local body = '{"name":"made","secret_string":"päß"}'
            answer = signed_call({ method = "POST", body = body,
                extra = { ["content-type"] = "application/json" } })
            assert.equal(200, answer.status)
            assert.equal("päß", emu:secret("made").versions[1].secret_string)
            local entry = emu:requests("create")[1]
            assert.same({ "signature", emu.ak, "SDK-HMAC-SHA256" },
                { entry.auth, entry.access_key, entry.algorithm })
            assert.same({ "content-type", "x-sdk-date" }, entry.signed)
        end)

        it("takes V11-HMAC-SHA256 of its own region and of the date only", function()
            local function v11(region, day)
                local date = now()
                local info = (day or date:sub(1, 8)) .. "/" .. region .. "/csms"
                local canonical = "GET\n" .. path() .. "/\n\nx-sdk-date:" .. date
                    .. "\n\nx-sdk-date\n" .. sha256("")
                local text = "V11-HMAC-SHA256\n" .. date .. "\n" .. info .. "\n"
                    .. sha256(canonical)
                local key = hex(mac(mac(emu.ak, emu.sk), info .. "\1"))
                return curl(emu, { path = path(), headers = {
                    ["X-Sdk-Date"] = date, Authorization = "V11-HMAC-SHA256 Credential=" .. emu.ak
                        .. "/" .. info .. ", SignedHeaders=x-sdk-date, Signature="
                        .. hex(mac(key, text)),
                } })
            end
            assert.equal(200, v11(emu.region).status)
            assert.equal(401, v11("eu-west-101").status)
            local yesterday = now(-24 * 3600):sub(1, 8)
            assert.equal(401, v11(emu.region, yesterday).status)
            assert.equal("V11-HMAC-SHA256", emu:requests("list")[1].algorithm)
        end)

        it("takes SDK-HMAC-SM3", function()
            local date = now()
            local function sm3(text) return hex(digest.new("sm3"):final(text)) end
            local canonical = "GET\n" .. path() .. "/\n\nx-sdk-date:" .. date .. "\n\nx-sdk-date\n"
                .. sm3("")
            local text = "SDK-HMAC-SM3\n" .. date .. "\n" .. sm3(canonical)
            local answer = curl(emu, { path = path(), headers = {
                ["X-Sdk-Date"] = date, Authorization = "SDK-HMAC-SM3 Access=" .. emu.ak
                    .. ", SignedHeaders=x-sdk-date, Signature="
                    .. hex(hmac.new(emu.sk, "sm3"):final(text)),
            } })
            assert.equal(200, answer.status)
        end)

        it("refuses a wrong signature, in the gateway's shape", function()
            local answer = signed_call({ sk = "wrong" })
            assert.equal(401, answer.status)
            assert.equal("APIG.0301", answer.json.error_code)
            assert.matches("verify aksk signature fail", answer.json.error_msg, 1, true)
            assert.equal(answer.headers["x-request-id"], answer.json.request_id)
            emu:set({ gateway_prefix = "APIGW." })
            assert.equal("APIGW.0301", signed_call({ sk = "wrong" }).json.error_code)
        end)

        it("refuses a body, query or header that was changed after signing", function()
            local headers = signed(emu, { method = "GET", path = path(), query = "limit=1" })
            assert.equal(401, curl(emu, { path = path(), query = "limit=2", headers = headers })
                .status)
            headers = signed(emu, { method = "POST", path = path("/secret-0001/backup") })
            assert.equal(401, curl(emu, { method = "POST", path = path("/secret-0001/backup"),
                headers = headers, body = "x" }).status)
        end)

        it("compares the body with the hash that a header states", function()
            local function stated(payload)
                return signed_call({ payload = payload,
                    extra = { ["x-sdk-content-sha256"] = payload } }).status
            end
            assert.equal(200, stated(sha256("")))
            assert.equal(200, stated("UNSIGNED-PAYLOAD"))
            assert.equal(401, stated(sha256("another")))
        end)

        it("wants its own headers signed, and signed ones sent", function()
            local function unsigned(name, value)
                local answer = signed_call({ unsigned = { [name] = true },
                    extra = { [name] = value, ["x-odd"] = "1" } })
                assert.equal(401, answer.status)
                assert.matches("header not signed: " .. name, answer.json.error_msg, 1, true)
            end
            unsigned("x-sdk-date", now())
            unsigned("x-project-id", emu.project)
            unsigned("x-domain-id", emu.domain_id)
            unsigned("x-security-token", "a")
            local headers = signed(emu, { method = "GET", path = path(),
                extra = { ["x-odd"] = "" } })
            headers["x-odd"] = nil
            local answer = curl(emu, { path = path(), headers = headers })
            assert.equal(401, answer.status)
            assert.matches("signed header not sent: x-odd", answer.json.error_msg, 1, true)
        end)

        it("wants X-Project-Id to be the path's", function()
            assert.equal(200, signed_call({ extra = { ["x-project-id"] = emu.project } }).status)
            local answer = signed_call({ extra = { ["x-project-id"] = ("0"):rep(32) } })
            assert.same({ 403, "APIG.0310" }, { answer.status, answer.json.error_code })
        end)

        it("names an unknown key", function()
            local answer = signed_call({ ak = "NOBODY" })
            assert.matches("Get secretKey failed,ak:NOBODY,err:ak not exist",
                answer.json.error_msg, 1, true)
            assert.equal(401, curl(emu, { path = path() }).status)
        end)

        it("states both times where the clock is off", function()
            local date = now(-16 * 60)
            local answer = signed_call({ date = date })
            assert.equal(401, answer.status)
            assert.equal("APIG.0303", answer.json.error_code)
            assert.matches("client time:" .. date .. ",server time:%d+T%d+Z",
                answer.json.error_msg)
            emu:set({ clock_offset = -16 * 60 })
            answer = signed_call({ date = date })
            assert.equal(200, answer.status)
            local minute = answer.headers.date:match("%d%d:%d%d")
            assert.is_true(minute == os.date("!%H:%M", os.time() - 16 * 60)
                or minute == os.date("!%H:%M", os.time() - 17 * 60))
            assert.equal("APIG.0303", signed_call().json.error_code)
        end)

        it("locks a key after more than five bad signatures", function()
            for _ = 1, 2 do
                for _ = 1, 5 do signed_call({ sk = "wrong" }) end
                assert.equal(200, signed_call().status)
            end
            for _ = 1, 6 do signed_call({ sk = "wrong" }) end
            local answer = signed_call()
            assert.equal(401, answer.status)
            assert.matches("AK access failed to reach the limit,forbidden", answer.json.error_msg,
                1, true)
            emu:set({ clock_offset = 301 })
            assert.equal(200, signed_call({ date = now(301) }).status)
        end)

        it("wants the right security token of temporary keys", function()
            local key = emu:issue_key({ temporary = true, life = 60 })
            local function with(token)
                local extra = token and { ["x-security-token"] = token }
                return signed_call({ ak = key.access, sk = key.secret, extra = extra })
            end
            assert.equal(200, with(key.securitytoken).status)
            assert.equal("temporary", emu:requests("list")[1].auth)
            assert.equal(401, with(nil).status)
            assert.equal(401, with("other").status)
            emu:set({ clock_offset = 61 })
            assert.equal("APIG.0307", with(key.securitytoken).json.error_code)
            emu:revoke_keys()
            assert.matches("ak not exist", with(key.securitytoken).json.error_msg, 1, true)
        end)

        it("knows tokens: unknown, expired, used up, revoked, of another project", function()
            local function with(token)
                return call("GET", "", { headers = { ["X-Auth-Token"] = token } })
            end
            assert.equal(200, with(emu.token).status)
            assert.equal("token", emu:requests("list")[1].auth)
            assert.equal("APIG.0301", with("nonsense").json.error_code)
            local token = emu:issue_token({ life = 60 }).token
            assert.equal(200, with(token).status)
            emu:set({ clock_offset = 61 })
            local answer = with(token)
            assert.equal(401, answer.status)
            assert.equal("APIG.0307", answer.json.error_code)
            assert.equal("The token must be updated", answer.json.error_msg)
            token = emu:issue_token({ uses = 2 }).token
            assert.same({ 200, 200, 401 },
                { with(token).status, with(token).status, with(token).status })
            token = emu:issue_token({ global = true }).token
            assert.equal("CSMS.0301", with(token).json.error_code)
            token = emu:issue_token().token
            emu:revoke_tokens()
            assert.equal("APIG.0307", with(token).json.error_code)
            assert.equal(4, emu:counters().issued.tokens)
        end)

        it("takes a token of 8 KB", function()
            emu:set({ token_bytes = 8200 })
            local token = emu:issue_token().token
            for _, http in ipairs({ "2", "1.1" }) do
                local o = { http = http, headers = { ["X-Auth-Token"] = token } }
                assert.equal(200, call("GET", "", o).status)
            end
        end)

        local SEND_ERROR = 55

        -- Over HTTP/2 nginx ends the connection instead, which no directive changes.
        it("refuses a header over 32 KB, headers over 128 KB, and a URI over 32 KB", function()
            local function refused(status, o)
                o.http = "1.1"
                local answer
                for _ = 1, 20 do -- curl 8.14 reads no answer where it cannot send all
                    answer = call("GET", "", o)
                    if answer.exit ~= SEND_ERROR then break end
                end
                assert.same({ status, "APIG.0201" }, { answer.status, answer.json.error_code })
                assert.equal(answer.headers["x-request-id"], answer.json.request_id)
            end
            local function headers(count, size)
                local lines = {}
                for i = 1, count do
                    lines[i] = 'header = "X-' .. i .. ": " .. ("x"):rep(size) .. '"\n'
                end
                write(emu.dir .. "/tmp/headers", table.concat(lines))
                return { http = "1.1", flags = "-K " .. quote(emu.dir .. "/tmp/headers") }
            end
            assert.equal(200, call("GET", "", headers(4, 30000)).status)
            refused(494, headers(5, 30000))
            refused(494, headers(1, 33000))
            local filler = { query = "limit=1&marker=" .. ("x"):rep(30000), http = "1.1" }
            assert.equal(200, call("GET", "", filler).status)
            refused(414, { query = "limit=1&marker=" .. ("x"):rep(33000) })
        end)

        it("refuses bodies over 12 MB and paths it does not know", function()
            local answer = call("POST", "/restore", { body = ("x"):rep(12 * 1024 * 1024 + 1) })
            assert.equal(413, answer.status)
            assert.equal("APIG.0201", answer.json.error_code)
            answer = call("PATCH", "")
            assert.equal(404, answer.status)
            assert.equal("APIG.0101", answer.json.error_code)
            assert.equal(403, curl(emu, { path = "/v1/" .. ("0"):rep(32) .. "/secrets",
                headers = signed(emu, { method = "GET",
                    path = "/v1/" .. ("0"):rep(32) .. "/secrets" }) }).status)
        end)

        it("limits requests and states the limit in every way", function()
            local function refused(settings)
                emu:reset()
                settings.limits = { { requests = 1, seconds = 60 } }
                emu:set(settings)
                assert.equal(200, call("GET", "").status)
                local answer = call("GET", "")
                assert.equal(429, answer.status)
                assert.equal("APIG.0308", answer.json.error_code)
                return answer.json.error_msg, answer.headers["retry-after"]
            end
            local text, after = refused({})
            assert.matches("policy user over ratelimit,limit:1,time:1 minute", text, 1, true)
            assert.is_nil(after)
            text, after = refused({ limit_style = "both", limit_form = "short" })
            assert.matches(": limit:1,time:1 minute", text, 1, true)
            assert.is_true(tonumber(after) > 30 and tonumber(after) <= 60, after)
            assert.matches("limit:1$", (refused({ limit_form = "bare" })))
            text, after = refused({ limit_style = "date" })
            assert.is_nil(text:find("limit:", 1, true))
            assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", after)
            text, after = refused({ limit_style = "none" })
            assert.is_nil(text:find("limit:", 1, true) or after)
            assert.equal(200, signed_call({ path = "/v3/projects" }).status)
        end)
    end)

    describe("tls", function()
        local function exit_of(endpoint, flags)
            return call("GET", "", { endpoint = endpoint, flags = flags }).exit
        end

        it("speaks HTTP/2 and 1.1 where it should", function()
            assert.equal("2", call("GET", "").version)
            assert.equal("1.1", call("GET", "", { endpoint = emu.http1_endpoint }).version)
            assert.equal("1.1", call("GET", "", { endpoint = emu.http_endpoint }).version)
            assert.equal(200, call("GET", "", { flags = "--tls-max 1.2" }).status)
            local versions = {}
            for i, entry in ipairs(emu:requests("list")) do versions[i] = entry.protocol end
            assert.same({ "HTTP/2.0", "HTTP/1.1", "HTTP/1.1", "HTTP/2.0" }, versions)
        end)

        it("has certificates that must not verify", function()
            local CANNOT_VERIFY = 60
            for _, name in ipairs({ "wrong_host", "expired", "self_signed" }) do
                assert.equal(CANNOT_VERIFY, exit_of(emu[name .. "_endpoint"]))
                assert.equal(200, call("GET", "", { endpoint = emu[name .. "_endpoint"],
                    flags = "--insecure" }).status)
            end
            local by_address = emu.endpoint:gsub("localhost", "127.0.0.1")
            assert.equal(0, exit_of(by_address))
        end)

        it("has a port for TLS 1.1 alone", function()
            local HANDSHAKE_FAILED = 35
            assert.equal(HANDSHAKE_FAILED, exit_of(emu.tls11_endpoint))
            local old = "--tlsv1.1 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0"
            assert.equal(0, exit_of(emu.tls11_endpoint, old))
        end)
    end)

    describe("csms", function()
        local function names_of(answer)
            local names = {}
            for i, secret in ipairs(answer.json.secrets) do names[i] = secret.name end
            return names
        end

        it("lists pages by name", function()
            emu:create({ { name = "aaa" }, { name = "secret-0002x" }, { name = "with.period" } })
            emu:delete("secret-0003")
            local answer = call("GET", "", { query = "limit=5" })
            assert.same({ "aaa", "secret-0001", "secret-0002", "secret-0002x", "secret-0004" },
                names_of(answer))
            assert.same({ next_marker = "secret-0004", previous_marker = "aaa", current_count = 5 },
                answer.json.page_info)
            assert.equal(50, #call("GET", "").json.secrets)
            answer = call("GET", "", { query = "limit=1000&marker=secret-0119" })
            assert.same({ "secret-0120", "with.period" }, names_of(answer))
            assert.equal("with.period", answer.json.page_info.next_marker)
            answer = call("GET", "", { query = "limit=1000&marker=with.period" })
            assert.equal("{", answer.body:sub(1, 1))
            assert.matches('"secrets":[]', answer.body, 1, true)
            for _, limit in ipairs({ "1001", "0", "-1", "5.0", "5e0", "0x5", "%205", "" }) do
                assert.equal(400, call("GET", "", { query = "limit=" .. limit }).status, limit)
            end
            answer = call("GET", "", { query = "marker=secret-0119" })
            assert.same({ 400, "CSMS.0002" }, { answer.status, answer.json.error_code })
        end)

        it("has page quirks", function()
            emu:set({ page_clamp = 7 })
            assert.equal(7, #call("GET", "", { query = "limit=100" }).json.secrets)
            local last = { query = "limit=5&marker=secret-0118" }
            emu:set({ page_marker = "omit" })
            assert.is_nil(call("GET", "", last).json.page_info.next_marker)
            emu:set({ page_marker = "null" })
            assert.equal(cjson.null, call("GET", "", last).json.page_info.next_marker)
            emu:set({ page_marker = "repeat" })
            local answer = call("GET", "", { query = "limit=5&marker=secret-0120" })
            assert.equal("secret-0120", answer.json.page_info.next_marker)
            assert.equal(5, #answer.json.secrets)
        end)

        it("has deterministic secrets", function()
            local secret = emu:secret("secret-0003")
            assert.equal(3, #secret.versions)
            assert.equal("value of secret-0003 version 3", secret.versions[3].secret_string)
            assert.same({ "SYSCURRENT" }, secret.versions[3].version_stages)
            local shown = call("GET", "/secret-0003").json.secret
            assert.equal(secret.id, shown.id)
            assert.is_nil(shown.versions)
            assert.equal(13, #("%.0f"):format(shown.create_time))
        end)

        it("creates, versions, shows and deletes", function()
            local answer = call("POST", "", { body = '{"name":"n-1","secret_string":"one",'
                .. '"state":"DISABLED","create_time":1,"update_time":1}' })
            assert.equal(200, answer.status)
            local made = answer.json.secret
            assert.equal("ENABLED", made.state)
            assert.is_true(made.create_time > 1 and made.update_time > 1)
            answer = call("POST", "/n-1/versions", { body = '{"secret_string":"two"}' })
            assert.equal("v2", answer.json.version_metadata.id)
            answer = call("GET", "/n-1/versions")
            assert.same({ "SYSPREVIOUS" }, answer.json.version_metadatas[1].version_stages)
            assert.equal("two", call("GET", "/n-1/versions/latest").json.version.secret_string)
            assert.equal("one", call("GET", "/n-1/versions/v1").json.version.secret_string)
            answer = call("DELETE", "/n-1")
            assert.same({ 200, "" }, { answer.status, answer.body })
            answer = call("GET", "/n-1")
            assert.same({ 400, "CSMS.0106" }, { answer.status, answer.json.error_code })
            assert.equal("CSMS.0106", call("DELETE", "/n-1").json.error_code)
            assert.equal("CSMS.0005", call("GET", "/secret-0001/versions/v9").json.error_code)
        end)

        it("lists pages of versions by id", function()
            local answer = call("GET", "/secret-0003/versions", { query = "limit=1&marker=v1" })
            assert.equal("v2", answer.json.version_metadatas[1].id)
            assert.same({ next_marker = "v2", previous_marker = "v2", current_count = 1 },
                answer.json.page_info)
            answer = call("GET", "/secret-0003/versions", { query = "limit=1001" })
            assert.same({ 400, "CSMS.0002" }, { answer.status, answer.json.error_code })
        end)

        it("refuses what create must not take", function()
            local function code(body)
                return call("POST", "", { body = body }).json.error_code
            end
            assert.equal("CSMS.0002", code('{"name":"a.b","secret_string":"x"}'))
            assert.equal("CSMS.0002", code('{"name":"a"}'))
            assert.equal("CSMS.0002", code('{"name":"a","secret_string":"x","secret_binary":"eA"}'))
            assert.equal("CSMS.0110", code('{"name":"secret-0001","secret_string":"x"}'))
            assert.equal("CSMS.0004", code("nonsense"))
            for _, rest in ipairs({ "", "/restore", "/secret-0001/versions" }) do
                local answer = curl(emu, { method = "POST", path = path(rest), body = "{}",
                    headers = { ["X-Auth-Token"] = emu.token, ["Content-Type"] = "text/plain" } })
                assert.equal("CSMS.0004", answer.json.error_code)
            end
        end)

        it("has the documents' limits for what a secret and a version hold", function()
            local count = 0
            local function create(rest)
                count = count + 1
                return call("POST", "", { body = '{"name":"n-' .. count .. '",' .. rest .. "}" })
            end
            local function version(rest)
                return call("POST", "/secret-0001/versions", { body = "{" .. rest .. "}" })
            end
            local function text(name, size)
                return '"' .. name .. '":"' .. ("A"):rep(size) .. '"'
            end
            local K32, value = 32 * 1024, '"secret_string":"x",'
            for _, make in ipairs({ create, version }) do
                for right, wrong in pairs({
                    [text("secret_string", K32)] = text("secret_string", K32 + 1),
                    [text("secret_binary", K32)] = text("secret_binary", K32 + 4),
                    ['"secret_binary":"eA=="'] = '"secret_binary":"eA"',
                    ['"secret_binary":"+/A="'] = '"secret_binary":"-_A="',
                }) do
                    assert.equal(200, make(right).status)
                    assert.equal("CSMS.0002", make(wrong).json.error_code)
                end
            end
            for right, wrong in pairs({
                [text("description", 2048)] = text("description", 2049),
                [text("rotation_config", 1024)] = text("rotation_config", 1025),
                ['"auto_rotation":true,"rotation_period":"6h"'] = '"auto_rotation":true',
                ['"rotation_period":"365d"'] = '"rotation_period":"8761h"',
                ['"rotation_period":"360m"'] = '"rotation_period":"21599s"',
                ['"event_subscriptions":["a"]'] = '"event_subscriptions":["a","b"]',
            }) do
                assert.equal(200, create(value .. right).status)
                assert.equal("CSMS.0002", create(value .. wrong).json.error_code)
            end
            local twelve = ('"s",'):rep(11) .. '"s"'
            for right, wrong in pairs({
                [twelve] = twelve .. ',"s"', ['"SYSCURRENT"'] = "", ['"a_-9"'] = '"a.b"',
                ['"' .. ("s"):rep(64) .. '"'] = '"' .. ("s"):rep(65) .. '"',
            }) do
                local stages = value .. '"version_stages":['
                assert.equal(200, version(stages .. right .. "]").status)
                assert.equal("CSMS.0002", version(stages .. wrong .. "]").json.error_code)
            end
        end)

        it("backs up in the service's format, fresh each time", function()
            local first = backup("secret-0002").json.secret_blob
            local second = backup("secret-0002").json.secret_blob
            assert.not_equal(first, second)
            assert.matches("^%)CloudSecretManagementBackupV1%.huaweicloud%.comeyJ", first)
            local header, rest = first:match("(eyJ[^.]*)%.(.*)$")
            assert.matches('"kid":"' .. emu.kid, crypto.unbase64url(header), 1, true)
            assert.equal(3, select(2, rest:gsub("%.", "")))
        end)

        it("restores every version, once", function()
            local before = emu:secret("secret-0003")
            local blob = backup("secret-0003").json.secret_blob
            assert.equal("CSMS.0110", restore(blob).json.error_code)
            emu:delete("secret-0003")
            local answer = restore(blob)
            assert.equal(200, answer.status)
            assert.equal("secret-0003", answer.json.secret.name)
            assert.is_nil(answer.body:find("value of", 1, true))
            assert.same(before, emu:secret("secret-0003"))
        end)

        it("refuses blobs that are none, or were changed", function()
            local blob = backup("secret-0001").json.secret_blob
            emu:delete("secret-0001")
            assert.equal("CSMS.0002", restore("nonsense").json.error_code)
            assert.equal("CSMS.0002", restore(blob:sub(1, -10)).json.error_code)
            local i = blob:find("%.[^.]*$") + 3
            local other = blob:sub(i, i) == "A" and "B" or "A"
            local changed = blob:sub(1, i - 1) .. other .. blob:sub(i + 1)
            local answer = restore(changed)
            assert.same({ 400, "CSMS.0401" }, { answer.status, answer.json.error_code })
        end)

        it("goes by the secret's state", function()
            local function state(name, rest)
                emu:change("secret-0001", { state = name })
                local answer = call(rest == "/backup" and "POST" or "GET", "/secret-0001" .. rest)
                return answer.status, answer.json.error_code
            end
            assert.same({ 400, "CSMS.0103" }, { state("PENDING_DELETE", "/backup") })
            assert.same({ 403, "CSMS.0109" }, { state("FROZEN", "/backup") })
            assert.same({ 200 }, { state("DISABLED", "/backup") })
            assert.same({ 403, "CSMS.0109" }, { state("DISABLED", "/versions/v1") })
            local answer = call("POST", "/secret-0001/versions",
                { body = '{"secret_string":"x"}' })
            assert.same({ 403, "CSMS.0109" }, { answer.status, answer.json.error_code })
            emu:set({ disabled_backup = "refuse" })
            assert.same({ 403, "CSMS.0109" }, { state("DISABLED", "/backup") })
            assert.equal("DISABLED", call("GET", "/secret-0001").json.secret.state)
        end)
    end)

    describe("iam", function()
        local function ask(scope, password, kind)
            local body = { auth = { identity = { methods = { "password" }, password = { user = {
                name = emu.user, password = password or emu.password,
                domain = { name = emu.domain } } } }, scope = scope } }
            return curl(emu, { method = "POST", path = "/v3/auth/tokens", body = cjson.encode(body),
                headers = { ["Content-Type"] = kind or "application/json;charset=utf8" } })
        end

        it("gives tokens for a password", function()
            emu:set({ token_life = 100, token_bytes = 9000 })
            for _, project in ipairs({ { id = emu.project }, { name = emu.region } }) do
                local answer = ask({ project = project })
                assert.equal(201, answer.status)
                assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%dZ$",
                    answer.json.token.expires_at)
                assert.equal(emu.project, answer.json.token.project.id)
                assert.is_string(answer.headers["x-iam-trace-id"])
                local token = answer.headers["x-subject-token"]
                local list = call("GET", "", { headers = { ["X-Auth-Token"] = token } })
                assert.equal(200, list.status)
            end
            local global = ask(nil).headers["x-subject-token"]
            assert.equal(400, call("GET", "", { headers = { ["X-Auth-Token"] = global } }).status)
        end)

        it("refuses a wrong password in its own shape", function()
            local answer = ask({ project = { id = emu.project } }, "wrong")
            assert.equal(401, answer.status)
            assert.equal("Unauthorized", answer.json.error.title)
            assert.equal(401, ask({ project = { id = "nowhere" } }).status)
            assert.equal(400, ask({ project = { id = emu.project } }, nil, "text/plain").status)
        end)

        it("finds a region's projects: one, none, several", function()
            local function ids(region)
                local answer = signed_call({ path = "/v3/projects",
                    query = "name=" .. (region or emu.region) })
                assert.equal(200, answer.status)
                local list = {}
                for i, project in ipairs(answer.json.projects) do list[i] = project.id end
                return list
            end
            assert.equal(401, curl(emu, { path = "/v3/projects" }).status)
            assert.same({ emu.project }, ids())
            assert.same({}, ids("eu-west-101"))
            emu:set({ iam_projects = { "p1", "p2" } })
            assert.same({ "p1", "p2" }, ids())
            emu:set({ iam_projects = {} })
            assert.same({}, ids())
        end)
    end)

    describe("metadata", function()
        local TOKEN, KEYS = "/meta-data/latest/api/token", "/openstack/latest/securitykey"

        local function ask(method, where, headers)
            return curl(emu, { endpoint = emu.metadata_endpoint, method = method, path = where,
                headers = headers })
        end

        it("gives keys that the gateway takes", function()
            assert.equal(401, ask("GET", KEYS).status)
            assert.equal(400, ask("PUT", TOKEN).status)
            local token = ask("PUT", TOKEN, { ["X-Metadata-Token-Ttl-Seconds"] = "21600" })
            assert.equal(200, token.status)
            local answer = ask("GET", KEYS, { ["X-Metadata-Token"] = token.body })
            local key = answer.json.credential
            assert.matches("%.%d%d%d%d%d%dZ$", key.expires_at)
            assert.equal(200, signed_call({ ak = key.access, sk = key.secret,
                extra = { ["x-security-token"] = key.securitytoken } }).status)
            local again = ask("GET", KEYS, { ["X-Metadata-Token"] = token.body }).json.credential
            assert.equal(key.access, again.access)
            emu:revoke_keys()
            again = ask("GET", KEYS, { ["X-Metadata-Token"] = token.body }).json.credential
            assert.not_equal(key.access, again.access)
            assert.equal(2, emu:counters().issued.temporary_keys)
        end)

        it("gives tokens for at most six hours, and knows when they end", function()
            local function token(seconds)
                return ask("PUT", TOKEN, { ["X-Metadata-Token-Ttl-Seconds"] = seconds })
            end
            assert.equal(200, token("21600").status)
            assert.equal(400, token("21601").status)
            assert.equal(400, token("0").status)
            local header = { ["X-Metadata-Token"] = token("21600").body }
            assert.equal(200, ask("GET", KEYS, header).status)
            emu:set({ clock_offset = 21601 })
            assert.equal(401, ask("GET", KEYS, header).status)
        end)

        it("can be of version 1, or without an agency", function()
            emu:set({ metadata_version = 1, metadata_v1_status = 405 })
            assert.equal(405, ask("PUT", TOKEN, { ["X-Metadata-Token-Ttl-Seconds"] = "9" }).status)
            assert.equal(200, ask("GET", KEYS).status)
            emu:set({ agency = false })
            local answer = ask("GET", KEYS)
            assert.equal(401, answer.status)
            assert.equal("Please configure Cloud Service Agency first", answer.body)
        end)

        it("serves pods", function()
            local function pod(token, body)
                return curl(emu, { endpoint = emu.pod_identity_uri, path = "", method = "POST",
                    body = body or "{}", headers = { Authorization = token } })
            end
            assert.equal(emu.pod_identity_token, read(emu.pod_identity_token_file))
            assert.equal(401, pod("other").status)
            for _, body in ipairs({ "", "{", "[]", "null" }) do
                assert.equal(400, pod(emu.pod_identity_token, body).status)
            end
            assert.is_string(pod(emu.pod_identity_token).json.credential.securitytoken)
            emu:set({ pod_identity_form = "aliases" })
            assert.is_string(pod(emu.pod_identity_token).json.credential.secretAccessKey)
        end)
    end)

    describe("faults", function()
        local RESET_STREAM, EMPTY = 92, 52
        -- How curl says that a connection broke depends on whether it was writing or reading, and
        -- on its version.
        local BROKEN = { [16] = true, [18] = true, [52] = true, [55] = true, [56] = true }

        for _, http in ipairs({ "2", "1.1" }) do
            local over = " over HTTP/" .. http

            it("answer a status with a fitting body" .. over, function()
                emu:fault({ operation = "backup", status = 503, headers = { ["X-Odd"] = "1" } })
                local answer = backup("secret-0001", { http = http })
                assert.equal(503, answer.status)
                assert.equal(http, answer.version)
                assert.equal("APIG.0613", answer.json.error_code)
                assert.equal("1", answer.headers["x-odd"])
                assert.equal(200, backup("secret-0001", { http = http }).status)
            end)

            it("delay" .. over, function()
                emu:fault({ delay = 0.3 })
                local answer = call("GET", "", { http = http })
                assert.equal(200, answer.status)
                assert.is_true(answer.seconds >= 0.3)
            end)

            it("cut the right answer short" .. over, function()
                emu:fault({ operation = "backup", truncate = 100 })
                local answer = backup("secret-0001", { http = http })
                assert.equal(100, #answer.body)
                assert.is_true(tonumber(answer.headers["content-length"]) > 1000)
                assert.is_true(http == "2" and answer.exit == RESET_STREAM
                    or http == "1.1" and BROKEN[answer.exit], answer.exit)
            end)

            it("drip" .. over, function()
                emu:fault({ body = "12345", drip = 0.05 })
                local answer = call("GET", "", { http = http })
                assert.same({ "12345", 200 }, { answer.body, answer.status })
                assert.is_true(answer.seconds >= 0.2)
            end)

            it("stream a large body" .. over, function()
                local size = 20 * 1024 * 1024 + 3
                emu:fault({ body_size = size })
                local answer = call("GET", "", { http = http })
                assert.equal(size, #answer.body)
                assert.equal(size - 18, #answer.json.secret_blob)
            end)

            it("close a stream" .. over, function()
                emu:fault({ close = "stream" })
                local exit = call("GET", "", { http = http }).exit
                assert.is_true(http == "2" and exit == RESET_STREAM
                    or http == "1.1" and BROKEN[exit], exit)
                assert.equal(0, emu:requests("list")[1].status)
            end)

            it("close a connection" .. over, function()
                emu:fault({ close = "connection", times = 0 })
                local exit = call("GET", "", { http = http }).exit
                assert.is_true(BROKEN[exit], exit)
            end)

            it("reset a connection" .. over, function()
                emu:fault({ close = "reset", times = 0 })
                local exit = call("GET", "", { http = http }).exit
                assert.is_true(BROKEN[exit], exit)
                assert.not_equal(EMPTY, exit)
            end)

            it("reset a connection in the middle of an answer" .. over, function()
                emu:fault({ close = "reset", truncate = 10, body = ("x"):rep(50), times = 0 })
                local answer = call("GET", "", { http = http })
                assert.equal("50", answer.headers["content-length"])
                assert.is_true(BROKEN[answer.exit], answer.exit)
            end)
        end

        -- Three requests at once on one connection. Answers curl's exit code of each as it ends.
        local function three_at_once()
            local url = emu.endpoint .. path()
            return output_of("curl -s -Z --no-progress-meter --cacert " .. quote(emu.ca_file)
                .. " -H 'X-Auth-Token: " .. emu.token .. "' -o /dev/null -o /dev/null -o /dev/null"
                .. " -w '%{exitcode},' " .. url .. " " .. url .. "/secret-0001 " .. url
                .. "/secret-0002")
        end

        it("of one stream leave the connection's others alone", function()
            emu:fault({ name = "secret-0001", delay = 0.2, close = "stream" })
            emu:fault({ name = "secret-0002", delay = 0.4 })
            assert.equal("0,92,0,", three_at_once())
            assert.equal(1, emu:counters().connections)
        end)

        it("of a connection end all that is on it", function()
            emu:fault({ name = "secret-0001", delay = 0.2, close = "connection", times = 0 })
            emu:fault({ name = "secret-0002", delay = 60, times = 0 })
            local exits = three_at_once()
            assert.equal("0,", exits:sub(1, 2))
            assert.is_nil(exits:sub(3):find("^0,") or exits:find(",0,$"))
        end)

        it("come in every shape of error body", function()
            local seen = {}
            for shape = 1, 7 do
                emu:fault({ status = 400, code = "CSMS.0002", message = "m", shape = shape })
                seen[shape] = call("GET", "")
                assert.equal(400, seen[shape].status)
            end
            assert.same({ error_code = "CSMS.0002", error_msg = "m" }, seen[1].json)
            assert.equal("CSMS.0002", seen[2].json.error.error_code)
            assert.equal("m", seen[3].json.error.message)
            assert.same({ code = "CSMS.0002", message = "m" }, seen[4].json)
            assert.is_string(seen[5].json.encoded_authorization_message)
            assert.is_string(seen[6].json.request_id)
            assert.is_nil(seen[7].json)
            assert.matches("<html>", seen[7].body, 1, true)
            emu:fault({ status = 400, shape = "camel" })
            assert.is_string(call("GET", "").json.errorCode)
            emu:fault({ status = 500, shape = 0 })
            assert.equal("", call("GET", "").body)
        end)

        it("redirect, and answer raw bodies", function()
            emu:fault({ status = 302, headers = { Location = "https://elsewhere.invalid/" } })
            local answer = call("GET", "")
            assert.same({ 302, "https://elsewhere.invalid/" },
                { answer.status, answer.headers.location })
            emu:fault({ body = "not json" })
            assert.equal("not json", call("GET", "").body)
        end)

        it("choose by operation, name, method, turn and count", function()
            emu:fault({ { name = "secret-0002", status = 500 },
                { operation = "list", after = 1, times = 2, status = 500 },
                { method = "delete", times = 0, status = 500 } })
            local function statuses(method, rest, n)
                local list = {}
                for i = 1, n do list[i] = call(method, rest).status end
                return list
            end
            assert.same({ 200 }, statuses("GET", "/secret-0001", 1))
            assert.same({ 500, 200 }, statuses("GET", "/secret-0002", 2))
            assert.same({ 200, 500, 500, 200 }, statuses("GET", "", 4))
            assert.same({ 500, 500, 500 }, statuses("DELETE", "/secret-0001", 3))
            assert.equal(2, emu:faults()[2].used)
            emu:clear_faults()
            assert.same({ 200 }, statuses("DELETE", "/secret-0001", 1))
        end)

        it("answer in turn, and join where they do not collide", function()
            emu:fault({ { status = 500 }, { status = 429 }, { delay = 0.2 } })
            local first = call("GET", "")
            assert.equal(500, first.status)
            assert.is_true(first.seconds >= 0.2)
            assert.equal(429, call("GET", "").status)
            assert.equal(200, call("GET", "").status)
        end)

        it("happen with a probability", function()
            emu:fault({ probability = 0.5, times = 0, status = 500 })
            local failed = 0
            for _ = 1, 20 do
                if call("GET", "").status == 500 then failed = failed + 1 end
            end
            assert.is_true(failed > 2 and failed < 18)
        end)

        it("can act before they fail", function()
            emu:fault({ operation = "delete", status = 502, act = true })
            assert.equal(502, call("DELETE", "/secret-0001").status)
            assert.is_nil(emu:secret("secret-0001"))
        end)

        it("touch IAM and metadata too", function()
            emu:fault({ { operation = "iam_token", status = 503 },
                { operation = "metadata_token", delay = 0.01, status = 500 } })
            assert.equal(503, curl(emu, { method = "POST", path = "/v3/auth/tokens" }).status)
            assert.equal(500, curl(emu, { method = "PUT", endpoint = emu.metadata_endpoint,
                path = "/meta-data/latest/api/token" }).status)
        end)
    end)

    describe("control", function()
        it("says what is wrong with a call", function()
            local function message(fn, ...)
                local ok, err = pcall(fn, emu, ...)
                assert.is_false(ok)
                return tostring(err)
            end
            assert.matches("unknown fault field: oops", message(emu.fault, { oops = 1 }), 1, true)
            assert.matches("close must be", message(emu.fault, { close = "door" }), 1, true)
            assert.matches("unknown setting: oops", message(emu.set, { oops = 1 }), 1, true)
            assert.matches("must be a number", message(emu.set, { page_clamp = "x" }), 1, true)
            assert.matches("does not know", message(emu.set, { page_marker = "x" }), 1, true)
            assert.matches("no such control call", message(emu.call, "GET", "/oops"), 1, true)
            assert.matches("no such secret", message(emu.change, "oops", {}), 1, true)
        end)

        it("logs requests within its cap and counts them all", function()
            emu:set({ log_cap = 3, log_headers = true })
            for i = 1, 5 do call("GET", "/secret-000" .. i) end
            local list = emu:requests("show")
            assert.equal(3, #list)
            local entry = list[3]
            assert.same({ 5, "show", "GET", "secret-0005", "HTTP/2.0", 200, "token" },
                { entry.seq, entry.operation, entry.method, entry.name, entry.protocol,
                    entry.status, entry.auth })
            assert.equal("(hidden)", entry.headers["x-auth-token"])
            assert.is_number(entry.connection)
            assert.is_true(math.abs(entry.at - os.time()) < 60)
            local counters = emu:counters()
            assert.same({ 5, 5, 5 }, { counters.requests, counters.operations.show,
                counters.statuses["200"] })
            assert.same({}, emu:requests({ operation = "backup" }))
            assert.equal(1, #emu:requests({ name = "secret-0004" }))
            assert.equal(2, #emu:requests({ limit = 2 }))
        end)

        it("makes and removes many secrets", function()
            assert.equal(2000, emu:create({ prefix = "bulk-", count = 2000 }))
            assert.equal(2120, emu:counters().secrets)
            assert.equal(2, emu:delete({ "bulk-00001", "secret-0001", "nobody" }))
            assert.equal(2118, emu:counters().secrets)
            emu:create({ name = "v", values = { "1", "2" }, state = "DISABLED", kms_key_id = "k" })
            local secret = emu:secret("v")
            assert.same({ "2", "DISABLED", "k" }, { secret.versions[2].secret_string,
                secret.state, secret.kms_key_id })
            emu:reset()
            assert.equal(120, emu:counters().secrets)
        end)

        it("kills connections", function()
            local socket = require "socket"
            local client = assert(socket.connect("127.0.0.1",
                tonumber(emu.http_endpoint:match(":(%d+)$"))))
            client:settimeout(30)
            client:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert.matches("404", client:receive("*l"), 1, true)
            assert.is_true(emu:kill_connections() >= 1)
            local _, err
            repeat _, err = client:receive("*l") until err
            assert.equal("closed", err)
            client:close()
            assert.equal(200, call("GET", "").status)
        end)

        it("keeps values and keys out of nginx's log", function()
            call("GET", "/secret-0001/versions/v1")
            signed_call({ sk = "wrong" })
            local log = read(emu.dir .. "/error.log")
            for _, text in ipairs({ "value of", emu.sk, emu.token, emu.password }) do
                assert.is_nil(log:find(text, 1, true))
            end
        end)
    end)

    describe("instances", function()
        local function exists(name)
            return os.rename(name, name) ~= nil
        end

        local function is_alive(pid)
            local file = io.open("/proc/" .. pid .. "/stat", "rb")
            local state = file and file:read("*a"):match("%) (%a)")
            if file then file:close() end
            return state ~= nil and state ~= "Z"
        end

        local function wait_until(fn)
            for _ = 1, 1000 do
                if fn() then return true end
                os.execute("sleep 0.05")
            end
            return false
        end

        local function worker_of(emu_)
            return tonumber(emu_:call("GET", "/ping").pid)
        end

        it("refuse each other's blobs, keys and tokens", function()
            local other = emulator.start({ secrets = 3, region = "eu-west-101" })
            local blob = backup("secret-0001").json.secret_blob
            local function foreign(rest, o)
                o.method, o.path = "POST", "/v1/" .. other.project .. "/secrets" .. rest
                return curl(other, o)
            end
            local answer = foreign("/restore", { body = cjson.encode({ secret_blob = blob }),
                headers = { ["X-Auth-Token"] = other.token,
                    ["Content-Type"] = "application/json" } })
            local stranger = foreign("/secret-0001/backup",
                { headers = { ["X-Auth-Token"] = emu.token } })
            other:stop()
            assert.same({ 400, "CSMS.0401" }, { answer.status, answer.json.error_code })
            assert.equal(401, stranger.status)
        end)

        it("leave no process and no folder when stopped", function()
            local other = emulator.start({ secrets = 1 })
            local master, worker = other:pid(), worker_of(other)
            assert.is_true(is_alive(master) and is_alive(worker))
            other:stop()
            assert.is_false(is_alive(master) or is_alive(worker))
            assert.is_false(exists(other.dir))
        end)

        it("give a script's programs their environment, as the README says", function()
            local lines = read("spec/emulator/README.md"):match("In scripts:\n\n(.-)\n\n")
            local asks = "    sh -c 'echo \"$CSMS_ENDPOINT\"'\n    "
            local script = lines:gsub("    spec/emulator/emulator stop", asks .. "%0", 1)
            assert.matches("^https://localhost:%d+\n$", output_of(script))
        end)

        it("end with their parent", function()
            local output = output_of("sleep 600 >&- & pid=$!; " .. SCRIPT
                .. " start --parent $pid; echo $pid")
            local dir, parent = output:match("(%S+)%s+(%d+)")
            local pid = tonumber(read(dir .. "/nginx.pid"))
            assert.is_true(is_alive(pid))
            os.execute("kill " .. parent)
            assert.is_true(wait_until(function() return not is_alive(pid) and not exists(dir) end))
        end)

        it("start at once, many at a time", function()
            local output = output_of("for i in 1 2 3 4 5 6; do " .. SCRIPT
                .. " start --secrets 100000 & done; wait")
            local dirs = {}
            for dir in output:gmatch("%S+") do
                dirs[#dirs + 1] = dir
                assert.equal("", output_of(SCRIPT .. " stop " .. dir))
            end
            assert.equal(6, #dirs)
        end)

        it("go down and come back on the same ports, with their keys", function()
            local other = emulator.start({ secrets = 2 })
            local function ask(method, rest, body)
                return curl(other, { method = method, path = "/v1/" .. other.project .. "/secrets"
                    .. rest, body = body, headers = { ["X-Auth-Token"] = other.token,
                    ["Content-Type"] = "application/json" } })
            end
            local blob = ask("POST", "/secret-0001/backup").json.secret_blob
            other:down()
            local CANNOT_CONNECT = 7
            assert.equal(CANNOT_CONNECT, ask("GET", "").exit)
            other:up()
            assert.equal(200, ask("GET", "").status)
            other:delete("secret-0001")
            local answer = ask("POST", "/restore", cjson.encode({ secret_blob = blob }))
            other:stop()
            assert.equal(200, answer.status)
        end)

        it("run in the foreground until interrupted", function()
            local out = emu.dir .. "/tmp/run"
            local pid = output_of("setsid " .. SCRIPT .. " run --secrets 1 >" .. out
                .. " 2>&1 & echo $!"):match("%d+")
            assert.is_true(wait_until(function() return read(out):find("Ctrl-C", 1, true) end))
            local text = read(out)
            assert.matches("export CSMS_ENDPOINT=https://localhost:%d+\n", text)
            assert.matches("export HUAWEICLOUD_SDK_SK=", text)
            local dir = text:match("CSMS_CA_FILE=(.-)/ca.crt")
            os.execute("kill -TERM " .. pid)
            assert.is_true(wait_until(function() return not exists(dir) end))
        end)

        it("say what is wrong with their options", function()
            assert.matches("usage", output_of(SCRIPT .. " start --secrets x 2>&1"), 1, true)
            assert.matches("letters, digits", output_of(SCRIPT .. " start --dir '" .. emu.dir
                .. "/tmp/a b' 2>&1"), 1, true)
            assert.matches("no instance", output_of(SCRIPT .. " stop /nowhere 2>&1"), 1, true)
        end)
    end)
end)
