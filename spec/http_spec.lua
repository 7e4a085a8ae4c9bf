-- The HTTP engine as a program sees it: what goes wrong between here and the service.

local csms = require "csms"
local cases = require "spec.support.cases"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"

local failure = cases.failure
local MIB = 1024 * 1024

local emu, client

setup(function()
    emu = emulator.start { secrets = 20 }
    client = cases.client(emu)
end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

local function backup_at(endpoint, changes)
    changes = changes or {}
    changes.endpoint = endpoint
    return cases.client(emu, changes):backup(nil, "secret-0001")
end

-- The error of a backup at a server that does so with each connection.
local function error_at(kind, body, changes)
    local err
    cases.with_server(body, function(server)
        err = failure(kind, backup_at(server.endpoint, changes))
    end)
    return err
end

-- A port of loopback on which nobody listens.
local function closed_port()
    local listener = assert(require("socket").bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    listener:close()
    return port
end

local function has_ipv6()
    local probe = assert(require("socket").tcp6())
    local bound = probe:bind("::1", 0)
    probe:close()
    return bound
end

-- A chunk for a child process: `client` is one of the emulator.
local function with_client(chunk)
    return ([[
        local csms = require "csms"
        local client = assert(csms.new { endpoint = %q, ca_file = %q, project = %q,
            credentials = csms.credentials.token(%q), retry = false })
    ]]):format(emu.endpoint, emu.ca_file, emu.project, emu.token) .. chunk
end

describe("no connection", function()
    it("to a port on which nobody listens is kind network", function()
        for _, scheme in ipairs { "https", "http" } do
            local err = failure("network", backup_at(scheme .. "://127.0.0.1:" .. closed_port()))
            assert.is_true(err.retryable)
            assert.matches("no connection to " .. scheme .. "://127.0.0.1:", err.message, 1, true)
            assert.is_string(err.cause)
        end
    end)

    it("to a name that does not resolve is kind network", function()
        local err = failure("network", backup_at("https://nonexistent.invalid"))
        assert.is_true(err.retryable)
        assert.matches("nonexistent.invalid", err.message, 1, true)
    end)

    it("that TLS completes within connect_timeout is kind timeout", function()
        cases.with_server("socket.sleep(60)", function(server)
            local seconds, blob, err = cases.within(1.9, function()
                return backup_at("https://" .. server.host, { connect_timeout = 0.2, timeout = 5 })
            end)
            failure("timeout", blob, err)
            assert.is_true(seconds >= 0.19)
        end)
    end)
end)

describe("TLS", function()
    it("refuses a certificate of another host, an expired and a self-signed one", function()
        for _, name in ipairs { "wrong_host", "expired", "self_signed" } do
            emu:clear_requests()
            local err = failure("tls", backup_at(emu[name .. "_endpoint"]))
            assert.is_false(err.retryable)
            assert.matches("ca_file", err.message, 1, true)
            assert.equal(0, #emu:requests())
        end
    end)

    it("refuses a certificate of a CA that it was not told of", function()
        local other = assert(csms.new { endpoint = emu.endpoint, project = emu.project,
            credentials = csms.credentials.token(emu.token), retry = false })
        local err = failure("tls", other:backup(nil, "secret-0001"))
        assert.is_false(err.retryable)
        assert.equal(0, #emu:requests())
    end)

    it("does not take a connection that another client verified with its own CA", function()
        assert.is_string(client:backup(nil, "secret-0001"))
        local other = assert(csms.new { endpoint = emu.endpoint, project = emu.project,
            credentials = csms.credentials.token(emu.token), retry = false })
        failure("tls", other:backup(nil, "secret-0001"))
        assert.equal(1, #emu:requests())
    end)

    it("is not spoken below 1.2, and the failed handshake can be retried", function()
        local err = failure("tls", backup_at(emu.tls11_endpoint))
        assert.is_true(err.retryable)
        assert.matches("handshake", err.message, 1, true)
    end)

    it("with a server that speaks plain text can be retried", function()
        cases.with_server([[peer:send("hello\r\n\r\n")]], function(server)
            local err = failure("tls", backup_at("https://" .. server.host))
            assert.is_true(err.retryable)
        end)
    end)

    it("verifies the host by its address too", function()
        assert.is_string(backup_at((emu.endpoint:gsub("localhost", "127.0.0.1"))))
    end)

    it("needs a CA file that is one", function()
        local path = os.tmpname()
        local err = failure("config", backup_at(emu.endpoint, { ca_file = path }))
        os.remove(path)
        assert.matches(path, err.message, 1, true)
        assert.is_false(err.retryable)
    end)
end)

describe("an answer that is cut", function()
    for _, endpoint in ipairs { "endpoint", "http1_endpoint", "http_endpoint" } do
        for _, fault in ipairs {
            { close = "stream" }, { close = "connection" }, { close = "reset" },
            { truncate = 0 }, { truncate = 10 }, { truncate = 10, close = "connection" },
            { truncate = 10, close = "reset" },
            { body_size = MIB, truncate = MIB - 1, close = "connection" },
        } do
            local what = {}
            for _, key in ipairs { "close", "body_size", "truncate" } do
                if fault[key] then what[#what + 1] = key .. " " .. fault[key] end
            end
            it(("is kind network: %s at %s"):format(table.concat(what, ", "), endpoint), function()
                fault.operation, fault.times = "backup", 0
                emu:fault(fault)
                local err = failure("network", backup_at(emu[endpoint]))
                assert.same({ true, 1 }, { err.retryable, err.attempts })
                assert.is_nil(err.status)
                emu:clear_faults()
                assert.is_string(backup_at(emu[endpoint]))
            end)
        end
    end

    it("is kind network in the middle of its headers", function()
        error_at("network", [[
            read_request(peer)
            peer:send("HTTP/1.1 200 OK\r\nContent-Le")
        ]])
    end)

    it("is kind network in the middle of a chunk", function()
        error_at("network", [[
            read_request(peer)
            peer:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")
        ]])
    end)

    it("is kind network where the server closes before it says anything", function()
        error_at("network", "read_request(peer)")
    end)
end)

describe("an answer that is no answer", function()
    for what, answer in pairs {
        ["no HTTP"] = "hello world, this is no HTTP\r\n\r\n",
        ["HTTP/0.9"] = '{"secret_blob":"x"}',
        ["a status that is none"] = "HTTP/1.1 abc\r\n\r\n{}",
        ["a negative length"] = "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        ["a chunk that is none"] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    } do
        it("is an error that says where it came from: " .. what, function()
            cases.with_server("read_request(peer) peer:send(" .. ("%q"):format(answer) .. ")",
                function(server)
                    local blob, err = backup_at(server.endpoint)
                    assert.is_nil(blob)
                    assert.is_true(err.kind == "network" or err.kind == "protocol")
                    assert.is_nil(tostring(err):find("%c"))
                end)
        end)
    end

    it("is kind protocol where it is not JSON", function()
        for _, body in ipairs { "garbage", "<html></html>", "{", '{"secret_blob":"x"', "\0\1\2",
            '{"secret_blob":"x"} trailing', "'x'", "NaN" } do
            emu:clear_faults()
            emu:fault { operation = "backup", body = body }
            local err = failure("protocol", client:backup(nil, "secret-0001"))
            assert.same({ 200, true }, { err.status, err.retryable })
        end
    end)

    it("is kind protocol where it is JSON but no object", function()
        for _, body in ipairs { "5", '"secret_blob"', "null", "true", "[]", "[[]]" } do
            emu:clear_faults()
            emu:fault { operation = "backup", body = body }
            failure("protocol", client:backup(nil, "secret-0001"))
        end
    end)

    it("is kind protocol where secret_blob is missing, empty or no string", function()
        for _, body in ipairs { "{}", '{"secret_blob":null}', '{"secret_blob":""}',
            '{"secret_blob":5}', '{"secret_blob":["x"]}', '{"Secret_Blob":"x"}' } do
            emu:clear_faults()
            emu:fault { operation = "backup", body = body }
            local err = failure("protocol", client:backup(nil, "secret-0001"))
            assert.is_false(err.retryable)
            assert.matches("secret_blob", err.message, 1, true)
        end
    end)

    it("is kind protocol where it is empty", function()
        for _, status in ipairs { 200, 201, 204 } do
            emu:clear_faults()
            emu:fault { operation = "backup", status = status }
            failure("protocol", client:backup(nil, "secret-0001"))
        end
    end)

    it("is kind protocol where JSON is nested too deep", function()
        emu:fault { operation = "backup", body = ("["):rep(100000) .. ("]"):rep(100000) }
        failure("protocol", client:backup(nil, "secret-0001"))
    end)

    it("is kind protocol where it is gzip'ed, which nobody asked for", function()
        emu:set { log_headers = true }
        emu:fault { operation = "backup", headers = { ["Content-Encoding"] = "gzip" },
            body = "\31\139\8\0\0\0\0\0\0\3\171\86\74\76" }
        failure("protocol", client:backup(nil, "secret-0001"))
        assert.is_nil(emu:requests()[1].headers["accept-encoding"])
    end)
end)

describe("a redirect", function()
    for _, status in ipairs { 301, 302, 303, 307, 308 } do
        it("of " .. status .. " is not followed", function()
            emu:fault { operation = "backup", name = "secret-0001", status = status, headers = {
                Location = emu.endpoint .. "/v1/" .. emu.project .. "/secrets/secret-0002/backup",
            } }
            local err = failure("protocol", client:backup(nil, "secret-0001"))
            assert.same({ status, false }, { err.status, err.retryable })
            assert.matches("redirects are never followed", err.message, 1, true)
            assert.equal(1, #emu:requests())
        end)
    end

    it("shows its target neither keys nor anything else", function()
        cases.with_server("note((read_request(peer))) answer(peer, '200 OK', '{}')",
            function(target)
                emu:fault { operation = "backup", status = 302,
                    headers = { Location = target.endpoint .. "/" } }
                failure("protocol", client:backup(nil, "secret-0001"))
                assert.equal("", target:log())
            end)
    end)
end)

describe("the size of an answer", function()
    -- A body of exactly that many bytes.
    local function body_of(size)
        local empty = #'{"secret_blob":""}'
        return size - empty
    end

    it("of 20 MiB is kind protocol and not to be retried", function()
        for _, endpoint in ipairs { "endpoint", "http1_endpoint" } do
            emu:clear_faults()
            emu:fault { operation = "backup", body_size = 20 * MIB }
            local err = failure("protocol", backup_at(emu[endpoint]))
            assert.is_false(err.retryable)
            assert.matches("max_response (16777216 bytes)", err.message, 1, true)
        end
    end)

    it("may be exactly 16 MiB and not a byte more", function()
        emu:fault { operation = "backup", body_size = 16 * MIB }
        assert.equal(body_of(16 * MIB), #assert(client:backup(nil, "secret-0001")))
        emu:fault { operation = "backup", body_size = 16 * MIB + 1 }
        failure("protocol", client:backup(nil, "secret-0001"))
    end)

    it("may be exactly max_response and not a byte more", function()
        local small = cases.client(emu, { max_response = 1000 })
        for _, size in ipairs { 999, 1000 } do
            emu:fault { operation = "backup", body_size = size }
            assert.equal(body_of(size), #assert(small:backup(nil, "secret-0001")))
        end
        emu:fault { operation = "backup", body_size = 1001 }
        local err = failure("protocol", small:backup(nil, "secret-0001"))
        assert.matches("1000", err.message, 1, true)
    end)

    it("is bounded for errors too", function()
        emu:fault { operation = "backup", status = 500, body_size = 20 * MIB }
        failure("protocol", client:backup(nil, "secret-0001"))
    end)

    it("is not bounded by a max_response beyond all memory", function()
        for _, size in ipairs { 2 ^ 40, 2 ^ 53, 2 ^ 64, 1e300 } do
            local large = csms.new { endpoint = emu.endpoint, ca_file = emu.ca_file, retry = false,
                credentials = csms.credentials.token(emu.token), max_response = size }
            -- it may be refused as a value
            if large then assert.is_string(large:backup(emu.project, "secret-0001")) end
        end
    end)

    it("is bounded where the server announces no length", function()
        local err = error_at("protocol", [[
            read_request(peer)
            peer:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while peer:send("1000\r\n" .. ("x"):rep(4096) .. "\r\n") do end
        ]], { max_response = 100000 })
        assert.is_false(err.retryable)
    end)

    it("is bounded for headers that never end", function()
        local seconds, blob, err
        cases.with_server([[
            read_request(peer)
            peer:send("HTTP/1.1 200 OK\r\n")
            while peer:send("X-Filler: " .. ("x"):rep(1000) .. "\r\n") do end
        ]], function(server)
            seconds, blob, err = cases.timed(backup_at, server.endpoint)
        end)
        failure("protocol", blob, err)
        assert.is_false(err.retryable)
        assert.is_true(seconds < cases.SOON)
    end)

    it("is bounded for one header line that never ends", function()
        local seconds, blob, err
        cases.with_server([[
            read_request(peer)
            peer:send("HTTP/1.1 200 OK\r\nX-Filler: ")
            while peer:send(("x"):rep(10000)) do end
        ]], function(server)
            seconds, blob, err = cases.timed(backup_at, server.endpoint)
        end)
        assert.is_nil(blob)
        assert.is_true(err.kind == "protocol" or err.kind == "network")
        assert.is_true(seconds < cases.SOON)
    end)

    it("is bounded for interim answers that never end", function()
        local seconds, blob, err
        cases.with_server([[
            read_request(peer)
            while peer:send(("HTTP/1.1 100 Continue\r\n\r\n"):rep(100)) do end
        ]], function(server)
            seconds, blob, err = cases.timed(backup_at, server.endpoint)
        end)
        assert.is_nil(blob)
        assert.is_string(err.kind)
        assert.is_true(seconds < cases.SOON)
    end)
end)

describe("a timeout", function()
    local function assert_ends_in_time(on, wanted)
        local seconds, blob, err = cases.within(wanted + 0.1, function()
            return on:backup(nil, "secret-0001", { timeout = wanted })
        end)
        failure("timeout", blob, err)
        assert.is_true(seconds >= wanted - 0.01, seconds .. " seconds")
    end

    it("ends a slow answer within 100 ms of it", function()
        for _, endpoint in ipairs { "endpoint", "http1_endpoint" } do
            emu:clear_faults()
            emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
            local slow = cases.client(emu, { endpoint = emu[endpoint] })
            assert(slow:show(nil, "secret-0001")) -- the connection is there
            for _, wanted in ipairs { 0.15, 0.3 } do
                assert_ends_in_time(slow, wanted)
            end
        end
    end)

    it("ends an answer that drips", function()
        emu:fault { operation = "backup", drip = 0.02, times = 0 }
        assert_ends_in_time(client, 0.3)
    end)

    it("says that the answer did not come, not that there is no connection", function()
        assert(client:show(nil, "secret-0001")) -- the connection is there
        emu:fault { operation = "backup", delay = cases.HELD }
        local err = failure("timeout", client:backup(nil, "secret-0001", { timeout = 0.1 }))
        assert.matches("no complete answer", err.message, 1, true)
    end)

    it("does not disturb the next call", function()
        emu:fault { operation = "backup", delay = cases.HELD }
        failure("timeout", client:backup(nil, "secret-0001", { timeout = 0.1 }))
        local seconds, blob = cases.timed(client.backup, client, nil, "secret-0001")
        assert.is_string(blob)
        assert.is_true(seconds < cases.SOON)
    end)

    it("as small as can be is still a timeout", function()
        emu:fault { operation = "backup", delay = cases.HELD }
        for _, timeout in ipairs { 1e-9, 0.001 } do
            local err = failure("timeout", client:backup(nil, "secret-0001", { timeout = timeout }))
            assert.equal(("the timeout of %g s is too short to send anything"):format(timeout),
                err.message)
            assert.same({ false, 0 }, { err.retryable, err.attempts })
        end
    end)
end)

describe("connections", function()
    it("speak HTTP/2 where the server does and 1.1 where not", function()
        for endpoint, protocol in pairs {
            endpoint = "HTTP/2.0", http1_endpoint = "HTTP/1.1", http_endpoint = "HTTP/1.1",
        } do
            emu:clear_requests()
            assert.is_string(backup_at(emu[endpoint]))
            assert.equal(protocol, emu:requests()[1].protocol)
        end
    end)

    it("speak HTTP/1.1 where http_version says so", function()
        assert.is_string(backup_at(emu.endpoint, { http_version = "1.1" }))
        assert.equal("HTTP/1.1", emu:requests()[1].protocol)
    end)

    it("are reused for many calls", function()
        for _, endpoint in ipairs { "endpoint", "http1_endpoint", "http_endpoint" } do
            emu:clear_requests()
            local many = cases.client(emu, { endpoint = emu[endpoint] })
            for number = 1, 20 do
                assert.is_string(many:backup(nil, ("secret-%04d"):format(number)))
            end
            assert.equal(1, emu:counters().connections)
        end
    end)

    it("are reused after answers that are errors", function()
        assert.is_string(client:backup(nil, "secret-0001"))
        emu:fault { operation = "backup", status = 500, times = 3 }
        for _ = 1, 3 do failure("service", client:backup(nil, "secret-0001")) end
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.equal(1, emu:counters().connections)
    end)

    it("that the server closed meanwhile are replaced without an error", function()
        for _, endpoint in ipairs { "endpoint", "http1_endpoint", "http_endpoint" } do
            local patient = cases.client(emu, { endpoint = emu[endpoint] })
            assert.is_string(patient:backup(nil, "secret-0001"))
            emu:kill_connections()
            assert.is_string(patient:backup(nil, "secret-0001"))
        end
    end)

    it("are new for each restore, which is never sent twice", function()
        for _, endpoint in ipairs { "endpoint", "http1_endpoint" } do
            emu:clear_requests()
            local careful = cases.client(emu, { endpoint = emu[endpoint] })
            local blob = assert(careful:backup(nil, "secret-0001"))
            emu:delete("secret-0001")
            assert(careful:restore(nil, blob))
            emu:delete("secret-0001")
            assert(careful:restore(nil, blob))
            assert.is_string(careful:backup(nil, "secret-0001"))
            local seen = {}
            for index, request in ipairs(emu:requests()) do seen[index] = request.connection end
            assert.equal(4, #seen)
            assert.equal(seen[1], seen[4])
            assert.is_true(seen[2] ~= seen[1] and seen[3] ~= seen[1] and seen[2] ~= seen[3])
        end
    end)

    it("of a restore are nobody else's afterwards", function()
        for _, endpoint in ipairs { "endpoint", "http1_endpoint" } do
            emu:reset()
            emu:kill_connections() -- what other clients left could be taken too
            local careful = cases.client(emu, { endpoint = emu[endpoint] })
            failure("rejected", careful:restore(nil, "x"))
            assert.is_string(careful:backup(nil, "secret-0001"))
            local requests = emu:requests()
            assert.is_true(requests[1].connection ~= requests[2].connection)
        end
    end)

    -- What joins it makes it a reused one for libcurl, which sends again when such a one dies.
    -- A process without other connections, so that the backup would wait for the restore's.
    it("of a restore are nobody else's meanwhile, so that it is sent once", function()
        for _, close in ipairs { "connection", "reset" } do
            emu:reset()
            emu:fault { operation = "restore", delay = 0.5, close = close, act = true, times = 0 }
            assert.equal("network true\n", (cases.run(with_client [[
                local calls, kind, blob = { "restore", "backup" }
                client.runtime:each(function() return table.remove(calls, 1) end, 2, function(call)
                    if call == "restore" then
                        kind = select(2, client:restore(nil, "x")).kind
                    else
                        blob = client:backup(nil, "secret-0001")
                    end
                end)
                print(kind, blob ~= nil)
            ]]):gsub("\t", " ")))
            local restore, backup = emu:requests "restore", emu:requests "backup"
            assert.same({ 1, 1 }, { #restore, #backup })
            assert.is_true(restore[1].connection ~= backup[1].connection)
        end
    end)

    it("are one for HTTP/2 calls that begin at once", function()
        emu:kill_connections()
        local many, left, connections = cases.client(emu), 20, {}
        many.runtime:each(function()
            left = left - 1
            return left >= 0 and left + 1 or nil
        end, 20, function(number)
            assert(many:backup(nil, ("secret-%04d"):format(number)))
        end)
        local requests = emu:requests()
        for _, request in ipairs(requests) do connections[request.connection] = true end
        assert.equal(20, #requests)
        assert.is_nil(next(connections, next(connections)))
    end)

    it("that die under a restore do not make libcurl send it again", function()
        for _, close in ipairs { "stream", "connection", "reset" } do
            emu:reset()
            assert.is_string(client:backup(nil, "secret-0001"))
            emu:fault { operation = "restore", close = close, act = true, times = 0 }
            failure("network", client:restore(nil, "x"))
            assert.equal(1, #emu:requests("restore"))
        end
    end)
end)

describe("a header", function()
    it("cannot be brought in by keys, tokens or names", function()
        for _, evil in ipairs { "a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b" } do
            for _, make in ipairs {
                function() return csms.credentials.static { ak = evil, sk = "s" } end,
                function() return csms.credentials.static { ak = "a", sk = evil } end,
                function()
                    return csms.credentials.static { ak = "a", sk = "s", security_token = evil }
                end,
                function() return csms.credentials.token(evil) end,
            } do
                failure("config", make())
            end
            failure("argument", client:backup(nil, evil))
            failure("argument", client:show(evil, "secret-0001"))
        end
        assert.equal(0, #emu:requests())
    end)

    it("cannot be brought in by user_agent", function()
        for _, evil in ipairs { "a\r\nX-Evil: 1", "a\nX-Evil: 1" } do
            failure("config", csms.new { endpoint = emu.http1_endpoint, ca_file = emu.ca_file,
                credentials = csms.credentials.token(emu.token), user_agent = evil, retry = false })
        end
    end)

    it("cannot be brought in by the signing scope", function()
        emu:set { log_headers = true }
        local other, err = csms.new { endpoint = emu.http1_endpoint, ca_file = emu.ca_file,
            region = emu.region, signing = "V11-HMAC-SHA256", signing_service = "x\r\nX-Evil: 1",
            credentials = csms.credentials.static { ak = emu.ak, sk = emu.sk }, retry = false }
        if other then
            local blob
            blob, err = other:backup(emu.project, "secret-0001")
            assert.is_nil(blob)
        end
        assert.is_true(err.kind == "config" or err.kind == "argument")
        assert.equal(0, #emu:requests())
    end)

    it("carries user_agent as it is, or csms with its version", function()
        emu:set { log_headers = true }
        assert.is_string(backup_at(emu.endpoint, { user_agent = "nightly/1.0 (host 5)" }))
        assert.is_string(client:backup(nil, "secret-0001"))
        local requests = emu:requests()
        assert.equal("nightly/1.0 (host 5)", requests[1].headers["user-agent"])
        assert.matches("^csms/" .. csms._VERSION:gsub("%p", "%%%0") .. " ",
            requests[2].headers["user-agent"])
    end)

    it("holds nothing of a .netrc", function()
        emu:set { log_headers = true }
        local folder = files.temporary()
        files.write(folder .. "/.netrc", "default login somebody password something\n")
        local output = cases.run(with_client [[print(type(client:backup(nil, "secret-0001")))]],
            { HOME = folder })
        files.remove(folder)
        assert.equal("string\n", output)
        assert.is_nil(emu:requests()[1].headers.authorization)
    end)

    it("says how long a body is, an empty one too, and nothing of it for a GET", function()
        emu:set { log_headers = true }
        for protocol, endpoint in pairs {
            ["HTTP/2.0"] = emu.endpoint, ["HTTP/1.1"] = emu.http1_endpoint,
        } do
            local other = cases.client(emu, { endpoint = endpoint })
            emu:clear_requests()
            assert.is_string(other:backup(nil, "secret-0001"))
            assert.is_table(other:show(nil, "secret-0001"))
            failure("rejected", other:restore(nil, "xyz"))
            local lengths = {}
            for index, request in ipairs(emu:requests()) do
                assert.equal(protocol, request.protocol)
                lengths[index] = request.headers["content-length"] or "none"
            end
            assert.same({ "0", "none", tostring(#[[{"secret_blob":"xyz"}]]) }, lengths)
        end
    end)

    it("asks for no 100 Continue, however large the body is", function()
        emu:set { log_headers = true }
        local other = cases.client(emu, { endpoint = emu.http1_endpoint })
        failure("rejected", other:restore(nil, ("x"):rep(3 * MIB)))
        assert.is_nil(emu:requests()[1].headers.expect)
    end)
end)

describe("a proxy", function()
    local PROXY = [[
        note((read_request(peer)))
        answer(peer, "503 No", "")
    ]]

    it("of the environment is not asked for loopback", function()
        cases.with_server(PROXY, function(proxy)
            local variables = {}
            for _, name in ipairs { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                "ALL_PROXY" } do
                variables[name] = proxy.endpoint
            end
            local output = cases.run(with_client(
                [[print(type(client:backup(nil, "secret-0001")))]]), variables)
            assert.equal("string\n", output)
            assert.equal("", proxy:log())
        end)
    end)

    it("of the config is not asked for loopback", function()
        cases.with_server(PROXY, function(proxy)
            assert.is_string(backup_at(emu.endpoint, { proxy = proxy.endpoint }))
            assert.equal("", proxy:log())
        end)
    end)

    it("of the environment is asked for anything else, and sees no keys", function()
        cases.with_server(PROXY, function(proxy)
            local output = cases.run([[
                local csms = require "csms"
                local client = assert(csms.new { endpoint = "https://nonexistent.invalid",
                    credentials = csms.credentials.token "TOKENTOKEN", retry = false })
                local _, err = client:backup(("0"):rep(32), "name")
                print(err.kind, err.retryable)
            ]], { https_proxy = proxy.endpoint })
            assert.equal("network\ttrue\n", output)
            assert.matches("^CONNECT nonexistent.invalid:443 HTTP/1.1\n", proxy:log())
            assert.is_nil(proxy:log():lower():find("token", 1, true))
        end)
    end)

    it("of the config is asked for anything else, and sees no keys", function()
        cases.with_server(PROXY, function(proxy)
            failure("network", backup_at("https://nonexistent.invalid", { proxy = proxy.endpoint }))
            assert.matches("^CONNECT nonexistent.invalid:443 HTTP/1.1\n", proxy:log())
            assert.is_nil(proxy:log():find(emu.ak, 1, true))
            assert.is_nil(proxy:log():lower():find("authorization: sdk", 1, true))
        end)
    end)

    it("that cannot be reached is kind network", function()
        failure("network", backup_at("https://nonexistent.invalid",
            { proxy = "http://127.0.0.1:" .. closed_port() }))
    end)

    it("of a scheme that there is not is kind config, and its password is not repeated", function()
        local err = failure("config", csms.new { endpoint = "https://nonexistent.invalid",
            proxy = "htttp://user:PASSWORD@127.0.0.1:1" })
        assert.matches("proxy is no URL of a proxy", err.message, 1, true)
        for _, text in pairs(err) do
            assert.is_nil(tostring(text):find("PASSWORD", 1, true))
        end
    end)

    it("of such a scheme in the environment is kind network, without its password", function()
        local output = cases.run([[
            local client = require("csms").new { endpoint = "https://nonexistent.invalid",
                retry = false, credentials = require("csms").credentials.token "x" }
            local _, err = client:backup(("0"):rep(32), "name")
            print(err.kind, err.message, err.cause)
        ]], { https_proxy = "htttp://user:PASSWORD@127.0.0.1:1" })
        assert.matches("^network\t", output)
        assert.is_nil(output:find("PASSWORD", 1, true))
    end)
end)

-- What the rest of the library does not let through stops here.
describe("the core", function()
    local channel, origin, keys

    before_each(function()
        channel = assert(core.channel())
        origin = assert(core.origin { url = emu.endpoint, ca_file = emu.ca_file })
        keys = assert(core.credential.keys(emu.ak, emu.sk))
    end)
    after_each(function() channel:close() end)

    local function submit(changes, credential, from)
        local request = {
            method = "GET", target = "/v1/" .. emu.project .. "/secrets/secret-0001",
            time = core.time(), project = emu.project, timeout = 10,
        }
        for name, value in pairs(changes) do request[name] = value end
        return channel:submit(from or origin, credential, request)
    end

    local function wait_for(transfer)
        while not transfer:done() do core.step(1) end
        return transfer:result()
    end

    local function many_headers(count)
        local headers = {}
        for index = 1, count do
            headers[2 * index - 1], headers[2 * index] = "X-" .. index, "1"
        end
        return headers
    end

    for what, changes in pairs {
        ["control character"] = { headers = { "X-A", "a\1" } },
        ["header X-Project-Id holds"] = { project = "a\nX-Evil: 1" },
        ["header X-B holds"] = { headers = { "X-A", "a\tb", "X-B", "\127" } },
        ["the request's head is over 81920 bytes"] = { headers = { "X-A", ("a"):rep(81920) } },
        ["a method has at most 7 letters"] = { method = "SUBSCRIBE" },
        ["at most 24 headers"] = { headers = many_headers(25) },
        ["the URL is over 8192 bytes"] = { target = "/" .. ("a"):rep(8192) },
        ["time 1000000000000 cannot be"] = { time = 1e12 },
        ["time 1000000000000000000 cannot be"] = { time = 1e18 },
    } do
        it("sends nothing, and says why: " .. what, function()
            local err = failure("argument", submit(changes, keys))
            assert.matches(what, err.message, 1, true)
            assert.equal(0, channel:in_flight())
            assert.equal(0, #emu:requests())
        end)
    end

    it("sends no signature whose scope is too long", function()
        local scoped = assert(core.origin { url = emu.endpoint, ca_file = emu.ca_file,
            signing = "V11-HMAC-SHA256", region = ("r"):rep(256), service = "s" })
        local err = failure("argument", submit({}, keys, scoped))
        assert.matches("credential scope is over 256 bytes", err.message, 1, true)
    end)

    it("sends as many headers as it says, signed", function()
        assert.equal(200, (wait_for(assert(submit({ headers = many_headers(24) }, keys)))))
    end)

    it("sends a header without a value too", function()
        emu:set { log_headers = true }
        assert.equal(200, (wait_for(assert(submit({ headers = { "X-A", " ", "X-B", "" } }, keys)))))
        local headers = emu:requests()[1].headers
        assert.same({ "", "" }, { headers["x-a"], headers["x-b"] })
    end)

    -- But for small letters of a path's escapes, which libcurl 8.21 writes as capitals: a
    -- signature is of what they stand for.
    it("sends a target to the letter, as it was signed, through a proxy too", function()
        local function in_capitals(text) return (text:gsub("%%%x%x", string.upper)) end
        local target = "/v1/a%2Fb%c3%A9/../x/./?y=%2f%2F&z=/../"
        cases.with_server([[
            note((read_request(peer)))
            answer(peer, "200 OK", "")
        ]], function(server)
            for prefix, config in pairs {
                [""] = { url = server.endpoint },
                ["http://kms.example.test"] = { url = "http://kms.example.test", allow_http = true,
                    proxy = server.endpoint },
            } do
                local plain = assert(core.origin(config))
                assert.equal(200, (wait_for(assert(submit({ target = target }, keys, plain)))))
                local line = in_capitals("GET " .. prefix .. target .. " HTTP/1.1")
                assert.is_truthy(in_capitals(server:log()):find(line, 1, true), server:log())
            end
        end)
    end)

    it("asks for no target that libcurl refuses", function()
        local err = failure("config", wait_for(assert(submit({ target = "/a b" }, keys))))
        assert.matches("libcurl refuses to speak to " .. emu.endpoint, err.message, 1, true)
    end)

    it("takes any time for a timeout", function()
        local patient = assert(core.origin { url = emu.endpoint, ca_file = emu.ca_file,
            connect_timeout = 1e12 })
        assert.equal(200, (wait_for(assert(submit({ timeout = 1e300 }, keys, patient)))))
    end)

    it("knows an endpoint, a proxy and a signing that cannot be", function()
        for what, changes in pairs {
            ["is not a URL"] = { url = "https://a:b:c" },
            ["has a host that is no plain name"] = { url = "https://m\195\188nchen.example" },
            ["proxy is no URL"] = { proxy = "http://[" },
            ["signing 'MD5' is unknown"] = { signing = "MD5" },
            ["needs `region` and `signing_service`"] = { signing = "V11-HMAC-SHA256" },
            ["and `signing_service` too"] = { signing = "V11-HMAC-SHA256", region = "r" },
        } do
            local config = { url = "https://example.com" }
            for name, value in pairs(changes) do config[name] = value end
            local err = failure("config", core.origin(config))
            assert.matches(what, err.message, 1, true)
        end
        assert.equal("https://example.com",
            tostring(core.origin { url = "https://example.com", proxy = "" }))
    end)

    it("may have its credential closed by a finalizer in the middle of a call", function()
        for _ = 1, 100 do
            local credential = core.credential.keys(emu.ak, emu.sk)
            cases.garbage(function() credential:close() end)
            local transfer, err = submit({}, credential)
            if transfer then transfer:cancel() else failure("credentials", transfer, err) end
        end
    end)

    it("raises for what is of another type, missing, closed or not done", function()
        local closed = core.credential.keys(emu.ak, emu.sk)
        closed:close()
        failure("credentials", submit({}, closed))
        assert.error_matches(function() submit({}, emu.ak) end, "csms.credential expected")
        assert.error_matches(function() submit({ timeout = "5" }) end, "'timeout' must be a number")
        assert.error_matches(function() submit({ body = 5 }) end, "'body' must be a string")
        for _, number in ipairs { -1, 1e300, 0 / 0 } do
            assert.error_matches(function() submit({ time = number }) end,
                "'time' must be from 0 to 9e18")
            assert.error_matches(function()
                core.origin { url = "https://localhost", max_response = number }
            end, "'max_response' must be from 0 to 9e18")
        end
        assert.error_matches(function() channel:submit(origin, nil, { target = "/" }) end,
            "'method' expected")
        assert.error_matches(function() core.origin {} end, "'url' expected")
        emu:fault { operation = "show", delay = 30 }
        local transfer = assert(submit({}, keys))
        for _, name in ipairs { "result", "header", "sent", "port" } do
            assert.error_matches(function() transfer[name](transfer, "Date") end, "is not done")
        end
        transfer:close()
        transfer:close()
        for _, name in ipairs { "id", "done", "result", "header", "sent", "port", "cancel" } do
            assert.error_matches(function() transfer[name](transfer, "Date") end, "is closed")
        end
        local collected = assert(core.origin { url = emu.endpoint })
        getmetatable(collected).__gc(collected)
        assert.error_matches(function() submit({}, keys, collected) end, "the origin is closed")
        channel:close()
        for _, name in ipairs { "drain", "in_flight", "start", "stop", "fd", "listen", "accept",
            "detach" } do
            assert.error_matches(function() channel[name](channel) end, "is closed")
        end
    end)

    it("leaves a connection over which more came than was asked for, by IPv6 too", function()
        if not has_ipv6() then return pending "this machine has no IPv6" end
        local SERVER = [[
            local listener6 = assert(socket.tcp6())
            assert(listener6:bind("::1", 0))
            assert(listener6:listen(5))
            peer:send(select(2, listener6:getsockname()) .. "\n")
            for number = 1, 2 do
                local client = assert(listener6:accept())
                read_request(client)
                client:send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" .. number)
                if peer:receive "*l" then
                    client:send "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
                end
                peer:send "said\n"
            end
        ]]
        cases.with_server(SERVER, function(server)
            local control = assert(require("socket").connect(server.host:match "^(.*):(%d+)$"))
            local six = assert(core.origin { url = "http://[::1]:" .. control:receive "*l" })
            for number = 1, 2 do
                local _, body = wait_for(assert(submit({}, nil, six)))
                assert.equal(tostring(number), body)
                control:send "say more\n"
                assert.equal("said", control:receive "*l")
            end
            control:close()
        end)
    end)
end)

describe("the process", function()
    -- A relay to the emulator that ends a connection, as `how` says, when the file `over` appears,
    -- and then removes that.
    local function relay(how, over)
        return ([[
            local how, over = %q, %q
            local upstream = assert(socket.connect("127.0.0.1", %s))
            peer:settimeout(0)
            upstream:settimeout(0)
            while not io.open(over) do
                local ready = socket.select({ peer, upstream }, nil, 0.02)
                for _, from in ipairs(ready) do
                    local data, why, rest = from:receive(65536)
                    data = data or rest
                    if data ~= "" then (from == peer and upstream or peer):send(data) end
                    if why == "closed" then return upstream:close() end
                end
            end
            upstream:close()
            if how == "fin and reset" then peer:shutdown("send") end
            if how ~= "fin" then peer:setoption("linger", { on = true, timeout = 0 }) end
            peer:close()
            os.remove(over)
        ]]):format(how, over, emu.endpoint:match(":(%d+)$"))
    end

    -- A child that makes a call, lets the relay end the connection, and does `more`.
    local function child_after(how, more)
        local output, status
        local over = os.tmpname()
        os.remove(over)
        cases.with_server(relay(how, over), function(server)
            output, status = cases.run(([[
                local csms = require "csms" -- and not LuaSocket, which ignores SIGPIPE
                local client = assert(csms.new { endpoint = %q, ca_file = %q, project = %q,
                    credentials = csms.credentials.token(%q), retry = false })
                assert(client:backup(nil, "secret-0001"))
                io.open(%q, "wb"):close()
                for _ = 1, 600 do
                    if not os.rename(%q, %q) then break end
                    os.execute("sleep 0.1")
                end
                %s
                print "done"
            ]]):format("https://" .. server.host, emu.ca_file, emu.project, emu.token, over, over,
                over, more))
        end)
        return output, status
    end

    for _, how in ipairs { "fin", "reset", "fin and reset" } do
        it("is not killed by SIGPIPE in the next call after: " .. how, function()
            local output, status = child_after(how,
                [[assert(client:backup(nil, "secret-0001"))]])
            assert.same({ "done\n", 0 }, { output, status })
        end)
    end

    it("is not killed by SIGPIPE when it ends", function()
        local output, status = child_after("fin and reset", "")
        assert.same({ "done\n", 0 }, { output, status })
    end)

    it("is not killed by SIGPIPE in the middle of an upload", function()
        local output, status
        cases.with_server([[
            peer:receive("*l")
            peer:setoption("linger", { on = true, timeout = 0 })
        ]], function(server)
            output, status = cases.run(([[
                local csms = require "csms"
                local client = assert(csms.new { endpoint = %q, project = %q, retry = false,
                    credentials = csms.credentials.token "t" })
                for _ = 1, 5 do
                    local _, err = client:restore(nil, ("x"):rep(8 * 1024 * 1024))
                    assert(err.kind == "network", err)
                end
                print "done"
            ]]):format(server.endpoint, emu.project))
        end)
        assert.same({ "done\n", 0 }, { output, status })
    end)

    it("keeps its own handling of SIGPIPE", function()
        local output, status = cases.run(with_client [[
            assert(client:backup(nil, "secret-0001"))
            local pipe = io.popen("exec true", "w")
            pipe:setvbuf("no")
            for _ = 1, 300 do -- once its reader has ended
                os.execute("sleep 0.1")
                pipe:write("x")
            end
            print "still there"
        ]])
        -- 128 + 13: the signal ends it, as it would have without the library
        assert.same({ "", 141 }, { output, status })
    end)

    -- What a child of a child inherits before and after calls; `pick` is a pattern of the links
    -- in /proc/self/fd, or "tcp" for connections.
    local function inherited_by_children(pick)
        return cases.run(with_client(([[
            local function output_of(command)
                local pipe = io.popen(command)
                local text = pipe:read("*a")
                pipe:close()
                return text
            end
            local pick = %q
            local function inherited()
                local count, tcp = 0, output_of("cat /proc/net/tcp /proc/net/tcp6 2>/dev/null")
                for link in output_of("ls -l /proc/self/fd"):gmatch("%%-> (%%S+)") do
                    local inode = link:match("socket:%%[(%%d+)")
                    local is_tcp = inode and tcp:find(" " .. inode .. " ", 1, true)
                    if pick == "tcp" and is_tcp or link:find(pick) then count = count + 1 end
                end
                return count
            end
            local before = inherited()
            assert(client:backup(nil, "secret-0001"))
            assert(client:list())
            print(inherited() - before)
        ]]):format(pick)))
    end

    it("leaves no connection to its children", function()
        assert.same({ "0\n", 0 }, { inherited_by_children("tcp") })
    end)

    -- But for the pair by which libcurl wakes its poll, of sockets in 7.88, a pipe in 8.5: it
    -- opens them itself, without CLOEXEC, and they lead nowhere.
    it("leaves no pipe to its children", function()
        local theirs = core.curl_version():find("^libcurl/8%.%d%.") and "2\n" or "0\n"
        for pick, most in pairs { ["^pipe:"] = theirs, ["^anon_inode:"] = "0\n" } do
            local count, status = inherited_by_children(pick)
            assert.is_true(status == 0 and (count == "0\n" or count == most), pick .. count)
        end
    end)

    it("holds no connection once its default client and Lua state are closed", function()
        local output, status = cases.run(with_client [[
            assert(client:backup(nil, "secret-0001"))
            client:close()
            collectgarbage()
            print "done"
            os.exit(0, true)
        ]])
        assert.same({ "done\n", 0 }, { output, status })
    end)

    it("may leave by os.exit in the middle", function()
        local output, status = cases.run(with_client [[
            assert(client:backup(nil, "secret-0001"))
            print "done"
            io.stdout:flush()
            os.exit(7)
        ]])
        assert.same({ "done\n", 7 }, { output, status })
    end)
end)
