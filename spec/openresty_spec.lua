-- The library inside nginx: every phase, the life of workers, what is left behind.
-- nginx is LuaJIT, so this runs with LuaJIT's specs only.

if not rawget(_G, "jit") then return end

local cases = require "spec.support.cases"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local json = require "cjson"
local nginx = require "spec.support.nginx"
local socket = require "socket"

local emu, server

require("socket.http").TIMEOUT = 15

setup(function() emu = emulator.start { secrets = 60 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)
after_each(function()
    if server then server:stop() end
    server = nil
end)

-- ---- nginx with the module --------------------------------------------------

-- Lua of init_by_lua: the default client is the emulator's; `probe` is a module whose
-- functions the locations call.
local INIT = [[
    lua_shared_dict notes 1m;
    init_by_lua_block {
        local csms = require "csms"
        local json = require "cjson"
        local probe = {}
        package.loaded.probe = probe
        probe.base = { endpoint = %q, iam_endpoint = %q, ca_file = %q, project = %q, retry = false }

        function probe.config(changes)
            local config = { credentials = csms.credentials.static { ak = %q, sk = %q } }
            for name, value in pairs(probe.base) do config[name] = value end
            for name, value in pairs(changes or {}) do config[name] = value end
            return config
        end

        function probe.password()
            return csms.credentials.password { domain = %q, user = %q, password = %q,
                iam_endpoint = %q, project_id = %q }
        end

        function probe.backup(name)
            local blob, err = csms.backup(nil, name or "secret-0001")
            if blob then return "ok " .. #blob end
            return err.kind .. " " .. err.message
        end

        -- Remembers how a phase went that cannot answer by itself.
        function probe.note(key)
            local good, text = pcall(probe.backup)
            ngx.shared.notes:set(key, text)
        end

        function probe.say() ngx.say(probe.backup()) end

        -- What the runtime keeps to itself.
        function probe.upvalue(name)
            for _, fn in pairs(require "csms.runtime.nginx") do
                for index = 1, type(fn) == "function" and 60 or 0 do
                    local found, value = debug.getupvalue(fn, index)
                    if found == name then return value end
                end
            end
        end

        -- After a full collection: transfers in flight, and those that a client still knows.
        function probe.left(client)
            collectgarbage()
            collectgarbage()
            local channel, known = probe.upvalue "channel", 0
            for _, transfer in pairs(client and client.in_flight or {}) do
                if transfer then known = known + 1 end
            end
            return channel and channel:in_flight() or 0, known
        end

        probe.client = assert(csms.new(probe.config()))
        assert(csms.configure(probe.config()))
        @INIT@
    }
    server {
        listen 127.0.0.1:@PORT@;
        default_type text/plain;
        location /backup { content_by_lua_block { require("probe").say() } }
        location /free { return 200 "free"; }
        location /note { content_by_lua_block {
            ngx.say(tostring(ngx.shared.notes:get(ngx.var.arg_key))) } }
        location /forget { content_by_lua_block {
            ngx.shared.notes:delete(ngx.var.arg_key) } }
        location /left { content_by_lua_block {
            local probe = require "probe"
            ngx.say(table.concat({ probe.left(probe.client) }, " ")) } }
        @SERVER@
    }
    @HTTP@
]]

-- options: those of nginx.start; init (Lua), server and http (configuration) are added.
local function start(options)
    options = options or {}
    local text = INIT:format(emu.endpoint, emu.iam_endpoint, emu.ca_file, emu.project, emu.ak,
        emu.sk, emu.domain, emu.user, emu.password, emu.iam_endpoint, emu.project)
    local parts = { INIT = options.init or "", SERVER = options.server or "",
        HTTP = options.http or "" }
    for name, part in pairs(parts) do
        text = text:gsub("@" .. name .. "@", function() return part end)
    end
    options.http = text
    server = nginx.start(options)
    return server
end

local function get(path) return (server:get(path):gsub("%s+$", "")) end

local function location(name, lua)
    return ("location /%s { content_by_lua_block { local probe = require 'probe' %s } }\n")
        :format(name, lua)
end

-- How often each answer ("200 ok 3072") came to `count` requests, `parallel` at once.
local function many(path, count, parallel, started)
    local url = ("%s%s?n=[1-%d]"):format(server.url, path, count)
    local pipe = assert(io.popen(("curl -sS -Z --parallel-immediate --parallel-max %d "
        .. "--max-time 60 -H 'Connection: close' -w ' %%{http_code}\\n' %s 2>/dev/null")
        :format(parallel, files.quote(url))))
    if started then started() end
    local answers = {}
    for line in pipe:lines() do
        if line:find "%d" then answers[line] = (answers[line] or 0) + 1 end
    end
    pipe:close()
    return answers
end

-- Number of requests that were answered 200.
local function served(path, count, parallel, started)
    return many(path, count, parallel, started)[" 200"] or 0
end

local function none_left()
    nginx.wait_until("nothing is left behind", function() return get "/left" == "0 0" end,
        cases.SOON)
end

local function assert_quiet(expected)
    assert.same({}, server:complaints(expected))
end

-- Lines of /proc/net/tcp: socket inodes of connections to a port of loopback.
local function inodes_to(port)
    local inodes = {}
    local pattern = "^%s*%d+: %x+:%x+ 0100007F:" .. ("%04X"):format(port) .. " 01 "
    for line in io.lines "/proc/net/tcp" do
        if line:find(pattern) then
            local fields = {}
            for field in line:gmatch "%S+" do fields[#fields + 1] = field end
            inodes[fields[10]] = true
        end
    end
    return inodes
end

local function count_of(links, inodes)
    local count = 0
    for inode in links:gmatch "socket:%[(%d+)%]" do
        if inodes[inode] then count = count + 1 end
    end
    return count
end

local function emulator_port() return tonumber(emu.endpoint:match ":(%d+)$") end

-- ---- phases -----------------------------------------------------------------

describe("phases of nginx", function()
    it("that can wait make calls", function()
        start {
            server = [[
                location /rewrite { rewrite_by_lua_block { require("probe").say() ngx.exit(200) } }
                location /access { access_by_lua_block { require("probe").say() ngx.exit(200) } }
                location /timer { content_by_lua_block {
                    ngx.timer.at(0, function() require("probe").note "timer" end)
                } }
            ]],
            http = [[
                server {
                    listen 127.0.0.1:@PORT2@;
                    server_rewrite_by_lua_block { require("probe").say() ngx.exit(200) }
                }
            ]],
        }
        for _, phase in ipairs { "rewrite", "access", "backup" } do
            assert.matches("^ok %d+$", get("/" .. phase))
        end
        assert.matches("^ok %d+", (server:get("/", server.ports[2])))
        get "/timer"
        nginx.wait_until("the timer has run", function() return get "/note?key=timer" ~= "nil" end)
        assert.matches("^ok %d+$", get "/note?key=timer")
        assert_quiet()
    end)

    -- ssl_client_hello_by_lua and ssl_session_fetch_by_lua can wait only where nginx itself has
    -- OpenResty's patches: Debian's closes the connection, with ngx.sleep just the same.
    it("of TLS make calls: ssl_certificate_by_lua", function()
        start { http = ([[
            server {
                listen 127.0.0.1:@PORT2@ ssl;
                ssl_certificate DIR/good.crt;
                ssl_certificate_key DIR/good.pem;
                ssl_certificate_by_lua_block { require("probe").note "certificate" }
                location / { return 200 "tls"; }
            }
        ]]):gsub("DIR", emu.dir) }
        local text = files.output_of("curl -sk https://127.0.0.1:" .. server.ports[2])
        assert.equal("tls", text)
        assert.matches("^ok %d+$", get "/note?key=certificate")
        assert_quiet()
    end)

    it("that cannot wait answer so, and send nothing", function()
        start {
            server = [[
                location /set { set_by_lua_block $x { require("probe").note "set" return "" }
                    return 200 "x"; }
                location /header { header_filter_by_lua_block { require("probe").note "header" }
                    return 200 "x"; }
                location /body { body_filter_by_lua_block { require("probe").note "body" }
                    return 200 "x"; }
                location /log { log_by_lua_block { require("probe").note "log" }
                    return 200 "x"; }
                location /balancer { proxy_pass http://balanced; }
            ]],
            http = [[
                init_worker_by_lua_block { require("probe").note "init_worker" }
                exit_worker_by_lua_block { ngx.log(ngx.NOTICE, "at exit: ",
                    require("probe").backup()) }
                upstream balanced {
                    server 127.0.0.1:@PORT@;
                    balancer_by_lua_block {
                        require("probe").note "balancer"
                        require("ngx.balancer").set_current_peer("127.0.0.1", @PORT@)
                    }
                }
            ]],
        }
        for _, key in ipairs { "init_worker", "set", "header", "body", "log", "balancer" } do
            if key ~= "init_worker" then get("/" .. key) end
            nginx.wait_until("there is a note", function()
                return get("/note?key=" .. key) ~= "nil"
            end)
            local text = get("/note?key=" .. key)
            assert.matches("^config nginx cannot wait", text, nil, nil, key)
            assert.matches("ngx.timer.at", text, 1, true)
        end
        server:quit()
        assert.matches("at exit: config nginx cannot wait", server:log())
        assert.equal(0, emu:counters().requests)
    end)

    it("that can wait cannot do so within a C function's callback, and send nothing", function()
        start { server = location("callbacks", [[
            local results = {}
            local function note() results[#results + 1] = probe.backup() end
            for _ = 1, 2 do -- two would end the worker
                local _ = ("a"):gsub("a", note)
                table.sort({ 1, 2 }, function() note() return false end)
                package.preload.caller, package.loaded.caller = note, nil
                require "caller"
            end
            pcall(note)
            coroutine.wrap(note)()
            ngx.say(table.concat(results, "\n"))
        ]]) }
        local seen = {}
        for line in server:get("/callbacks"):gmatch "[^\n]+" do
            seen[#seen + 1] = line:match "^config nginx cannot wait within" or line
        end
        for index = 1, #seen - 2 do
            assert.equal("config nginx cannot wait within", seen[index])
        end
        assert.is_true(#seen >= 8)
        assert.matches("^ok ", seen[#seen - 1])
        assert.matches("^ok ", seen[#seen])
        assert.equal(2, emu:counters().requests)
        assert_quiet()
    end)

    it("that cannot wait get no new credential of a provider that is asked by itself", function()
        start {
            main = "env CSMS_CA_FILE;", environment = { CSMS_CA_FILE = emu.ca_file },
            init = [[
                probe.provider = probe.password()
                function probe.ask(key)
                    local credential, err = probe.provider:get()
                    ngx.shared.notes:set(key, credential and "ok" or tostring(err))
                end
            ]],
            server = [[
                location /log { log_by_lua_block { require("probe").ask "log" }
                    return 200 "x"; }
                location /gsub { content_by_lua_block {
                    for _ = 1, 2 do -- two would end the worker
                        local _ = ("a"):gsub("a", function() require("probe").ask "gsub" end)
                    end
                } }
                location /content { content_by_lua_block { require("probe").ask "content" } }
                location /due { content_by_lua_block {
                    require("probe").provider.renew_at = 0 } }
            ]],
            http = [[ init_worker_by_lua_block { require("probe").ask "init_worker" } ]],
        }
        emu:fault { operation = "iam_token", delay = 1, times = 0 }
        local function note(key)
            if key ~= "init_worker" then get("/" .. key) end
            nginx.wait_until("there is a note", function()
                return get("/note?key=" .. key) ~= "nil"
            end)
            return get("/note?key=" .. key)
        end
        for _, key in ipairs { "init_worker", "log", "gsub" } do
            assert.matches("^config: nginx cannot wait", note(key), nil, nil, key)
        end
        assert.equal(0, #emu:requests "iam_token")
        assert.equal("ok", note "content")
        get "/due"
        for _, key in ipairs { "log", "gsub" } do
            server:get("/forget?key=" .. key)
            assert.equal("ok", note(key)) -- the old one, which is still good
        end
        assert.equal(1, #emu:requests "iam_token")
        assert_quiet()
    end)

    -- What asks nobody whether it can wait here would else ask the semaphore for ever.
    it("that cannot wait end a wait of the runtime's with an error", function()
        start { server = [[
            location /waits { log_by_lua_block {
                local runtime, asked = require "csms.runtime.nginx", 0
                local transfer = { id = function() return 0 end }
                function transfer.done()
                    asked = asked + 1
                    return asked > 1000
                end
                for name, problem in pairs {
                    once = select(2, pcall(runtime.once, runtime, "key", nil, function() end)),
                    await = select(2, pcall(runtime.await, runtime, transfer)),
                } do ngx.shared.notes:set(name, tostring(problem)) end
            } return 200 "x"; }
        ]] }
        get "/backup"
        get "/waits"
        for _, name in ipairs { "once", "await" } do
            nginx.wait_until("there is a note", function()
                return get("/note?key=" .. name) ~= "nil"
            end)
            assert.matches("^csms cannot wait here: API disabled", get("/note?key=" .. name))
        end
    end)

    it("before the fork: init_by_lua blocks, and leaves nothing to the workers", function()
        start { workers = 2, init = [[
            assert(csms.backup(nil, "secret-0001"))
            local report = assert(csms.backup_all())
            assert(report.ok == 60, report.ok)
            local _, err = csms.backup(nil, "no-such-secret")
            probe.at_init = err.kind
        ]], server = location("init", "ngx.say(probe.at_init)") }
        assert.equal("not_found", get "/init")
        assert.equal(1, #nginx.threads(server:master()))
        local inodes = inodes_to(emulator_port())
        assert.equal(0, count_of(nginx.links(server:master()), inodes))
        for _, pid in ipairs(server:workers()) do
            assert.equal(1, #nginx.threads(pid)) -- the thread comes with the first call
            assert.equal(0, count_of(nginx.links(pid), inodes))
        end
        assert.equal(40, served("/backup", 40, 8))
        server:reload()
        assert.equal(40, served("/backup", 40, 8))
        assert_quiet()
    end)

    it("init_by_lua has ten seconds for a call at most", function()
        emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
        local seconds = cases.timed(function()
            start { init = [[
                local _, err = csms.backup(nil, "secret-0001", { timeout = 60 })
                probe.at_init = err.kind
            ]], server = location("init", "ngx.say(probe.at_init)") }
        end)
        assert.equal("timeout", get "/init")
        assert.is_true(seconds > 9 and seconds < 30)
    end)
end)

-- ---- the store --------------------------------------------------------------

describe("the store", function()
    local SAVE = [[
        function probe.save(key)
            local store, err = require("csms").store "%s"
            local saved
            if store then saved, err = store:save(probe.base.project, "name", "blob") end
            if store then store:close() end
            ngx.shared.notes:set(key, saved and "saved " .. saved.bytes or tostring(err))
        end
    ]]

    it("refuses in a worker, in requests and in timers", function()
        local folder = files.temporary()
        start { init = SAVE:format(folder), server = location("save", [[
            probe.save "request"
            ngx.timer.at(0, function() probe.save "timer" end)
        ]]) }
        get "/save"
        nginx.wait_until("the timer has run", function() return get "/note?key=timer" ~= "nil" end)
        for _, key in ipairs { "request", "timer" } do
            assert.matches("^config: csms.store would block", get("/note?key=" .. key))
        end
        assert.same({}, files.list(folder, "."))
        files.remove(folder)
    end)

    -- A privileged agent needs OpenResty's patch of nginx, which Debian's has not.
end)

-- ---- calls ------------------------------------------------------------------

describe("calls in handlers", function()
    it("are answered by every worker", function()
        start { workers = 3 }
        assert.equal(150, served("/backup", 150, 30))
        assert_quiet()
    end)

    it("do not hold up the worker", function()
        emu:fault { operation = "backup", delay = 2, times = 0 }
        start()
        local seconds = cases.timed(function()
            assert.equal(50, served("/backup", 50, 50, function()
                socket.sleep(0.2)
                local took = cases.timed(function() assert.equal("free", get "/free") end)
                assert.is_true(took < cases.SOON)
            end))
        end)
        assert.is_true(seconds < 30)
    end)

    it("work with the code cache off", function()
        start { main = "", server = "lua_code_cache off;" .. location("heap", [[
            ngx.say(probe and probe.backup() or "no probe")]]) }
        server:get "/heap"
        local pid = server:workers()[1]
        for _ = 1, 20 do assert.matches("^ok %d+$", get "/heap") end
        socket.sleep(1.2) -- drivers of requests that are over end by themselves
        local before = nginx.descriptors(pid)
        for _ = 1, 40 do assert.matches("^ok %d+$", get "/heap") end
        assert.equal(30, served("/heap", 30, 5))
        nginx.wait_until("the descriptors are closed", function()
            return nginx.descriptors(pid) <= before + 2
        end)
        assert.same({ pid }, server:workers())
        assert_quiet { "lua_code_cache is off" }
    end)

    it("run batches, with callbacks that may wait themselves", function()
        start { server = location("all", [[
            local names, last = {}, nil
            local report, err = require("csms").backup_all(nil, { concurrency = 8,
                on_result = function(name, blob)
                    ngx.sleep(0.001)
                    if blob then names[#names + 1] = name end
                end,
                on_progress = function(done, total) last = done .. "/" .. total end })
            ngx.say(report and report.ok .. " " .. #names .. " " .. last or tostring(err))
        ]]) .. location("many", [[
            local report = require("csms").backup_many(nil, { "secret-0001", "nope",
                "secret-0003" })
            ngx.say(report.ok, " ", report.failed, " ", report.errors.nope.kind)
        ]]) }
        assert.equal("60 60 60/60", get "/all")
        assert.equal("2 1 not_found", get "/many")
        assert_quiet()
    end)

    it("raise an error in a callback once the rest is cancelled", function()
        emu:fault { operation = "backup", delay = cases.HELD, times = 0, after = 3 }
        start { server = location("raise", [[
            local good, problem = pcall(function()
                return probe.client:backup_all(nil, { concurrency = 8, on_result = function()
                    error("boom", 0)
                end })
            end)
            ngx.say(tostring(good), " ", tostring(problem))
        ]]) }
        local seconds = cases.timed(function() assert.equal("false boom", get "/raise") end)
        assert.is_true(seconds < cases.SOON)
        none_left()
        emu:clear_faults()
        assert.matches("^ok ", get "/backup")
        assert_quiet()
    end)

    it("renew a token once for a hundred requests", function()
        start { init = [[
            probe.tokens = assert(csms.new(probe.config { credentials = probe.password() }))
        ]], server = location("token", [[
            local blob, err = probe.tokens:backup(nil, "secret-0001")
            ngx.status = blob and 200 or 500
            ngx.print(tostring(err or ""))
        ]]) }
        emu:fault { operation = "iam_token", delay = 0.3, times = 0 }
        assert.equal(100, served("/token", 100, 100))
        assert.equal(1, #emu:requests "iam_token")
        assert_quiet()
    end)

    it("wait for a millisecond at least, the least that nginx can wait for", function()
        start { init = [[
            probe.hasty = assert(csms.new(probe.config { retry = { base = 0.001 } }))
        ]], server = location("hasty", [[
            local blob, err = probe.hasty:backup(nil, "secret-0001")
            ngx.say(blob and "ok" or tostring(err))
        ]]) }
        for _ = 1, 10 do
            emu:fault { operation = "backup", status = 503, times = 2 }
            assert.equal("ok", get "/hasty")
        end
        assert.equal(nil, server:complaints()[1]) -- nginx warns of each ngx.sleep(0)
    end)

    it("are told of the same faults as in a plain program", function()
        local json_body = { ["Content-Type"] = "application/json" }
        local listener = assert(socket.bind("127.0.0.1", 0))
        local closed = "https://127.0.0.1:" .. select(2, listener:getsockname())
        listener:close()
        local TABLE = {
            { "none" },
            { "not_found", { status = 404 } },
            { "denied", { status = 403 } },
            { "auth", { status = 401, code = "APIG.0301" } },
            { "auth, of a token", { status = 401, code = "APIG.0307" } },
            { "state", { status = 400, code = "CSMS.0103" } },
            { "throttled", { status = 429, headers = { ["Retry-After"] = "7" } } },
            { "service", { status = 500 } },
            { "service in HTML", { status = 502, shape = 7 } },
            { "service, no body", { status = 503, shape = 0 } },
            { "camel", { status = 500, shape = "camel" } },
            { "gateway", { status = 504, shape = 6 } },
            { "rejected", { status = 418 } },
            { "redirect", { status = 302, headers = { Location = "https://example.com/" } } },
            { "not JSON", { body = "<html>", headers = json_body } },
            { "no blob", { body = "{}" } },
            { "a number", { body = [[{"secret_blob":1}]] } },
            { "cut", { truncate = 20, close = "connection" } },
            { "stream reset", { close = "stream" } },
            { "connection closed", { close = "connection" } },
            { "connection reset", { close = "reset" } },
            { "slow", { delay = cases.HELD }, { timeout = 0.3 } },
            { "dripping", { drip = 0.2 }, { timeout = 0.5 } },
            { "too long", { body_size = 5000 }, { max_response = 2000 } },
            { "HTTP/1.1, cut", { truncate = 20, close = "connection" }, { http_version = "1.1" } },
            { "wrong host", nil, { endpoint = emu.wrong_host_endpoint } },
            { "expired", nil, { endpoint = emu.expired_endpoint } },
            { "self-signed", nil, { endpoint = emu.self_signed_endpoint } },
            { "old TLS", nil, { endpoint = emu.tls11_endpoint } },
            { "no CA", nil, { ca_file = "/nonexistent" } },
            { "nobody", nil, { endpoint = closed } },
            { "not TLS", nil, { endpoint = emu.http_endpoint:gsub("^http:", "https:") } },
            { "retried", { status = 503, times = 2 }, { retry = { attempts = 3, base = 0.01 } } },
            { "given up", { status = 503, times = 0 }, { retry = { attempts = 2, base = 0.01 } } },
        }
        local function outcome(client)
            local blob, err = client:backup(nil, "secret-0001")
            return { ok = blob ~= nil, bytes = blob and #blob, kind = err and err.kind,
                message = err and err.message:gsub("0x%x+", ""), retryable = err and err.retryable,
                attempts = err and err.attempts, status = err and err.status,
                code = err and err.code, name = err and err.name }
        end
        start { server = location("fault", [[
            ngx.req.read_body()
            local json = require "cjson"
            local changes = json.decode(ngx.req.get_body_data())
            local client = assert(require("csms").new(probe.config(changes)))
            local blob, err = client:backup(nil, "secret-0001")
            err = err or {}
            ngx.print(json.encode { ok = blob ~= nil, bytes = blob and #blob, kind = err.kind,
                message = err.message and err.message:gsub("0x%x+", ""),
                retryable = err.retryable, attempts = err.attempts, status = err.status,
                code = err.code, name = err.name })
        ]]) }
        local kinds = {}
        for _, case in ipairs(TABLE) do
            local what, fault, changes = case[1], case[2], case[3] or {}
            local function prepare()
                emu:reset()
                emu:kill_connections() -- libcurl 8 asks again where a reused one dies
                if fault then
                    fault.operation = "backup"
                    emu:fault(fault)
                end
            end
            prepare()
            local plain = outcome(cases.client(emu, changes))
            prepare()
            local parts = {}
            local body = next(changes) and json.encode(changes) or "{}"
            require("socket.http").request { url = server.url .. "/fault", method = "POST",
                source = require("ltn12").source.string(body),
                sink = require("ltn12").sink.table(parts),
                headers = { ["Content-Length"] = #body } }
            local inside = json.decode(table.concat(parts))
            assert.same(plain, inside, what)
            kinds[plain.kind or "none"] = true
        end
        for _, kind in ipairs { "none", "auth", "denied", "not_found", "state", "throttled",
            "service", "rejected", "network", "tls", "timeout", "protocol", "config" } do
            assert.is_true(kinds[kind], kind)
        end
    end)

    it("answer kind cancelled when their client is closed meanwhile", function()
        emu:fault { operation = "backup", delay = cases.HELD, times = 0 }
        start { server = location("close", [[
            local client = assert(require("csms").new(probe.config()))
            local thread = ngx.thread.spawn(function()
                return select(2, client:backup(nil, "secret-0001"))
            end)
            ngx.sleep(0.1)
            client:close()
            local _, err = ngx.thread.wait(thread)
            ngx.say(err.kind)
        ]]) }
        assert.equal("cancelled", get "/close")
    end)
end)

for operation, init in pairs {
    iam_token = "{ credentials = probe.password() }",
    iam_projects = ("{ project = false, region = %q }"):format("cn-north-4"),
} do
    describe("calls that share a request of their client's, " .. operation .. ",", function()
        local function start_shared(http)
            start { http = http, init = ([[
                local config = probe.config(%s)
                config.project = config.project or nil
                probe.shared = assert(csms.new(config))
            ]]):format(init), server = location("shared", [[
                local blob, err = probe.shared:backup(nil, "secret-0001",
                    { deadline = tonumber(ngx.var.arg_deadline) })
                ngx.say(blob and "ok" or tostring(err))
            ]]) .. location("batch", [[
                probe.client:backup(nil, "secret-0001") -- or the batch's first one went alone
                local good, problem = pcall(probe.client.backup_many, probe.client, nil,
                    { "secret-0001", "secret-0002" }, { on_result = function(name)
                        if name == "secret-0001" then return probe.shared:backup(nil, name) end
                        while not probe.joined do ngx.sleep(0.01) end
                        error("boom", 0)
                    end })
                ngx.say(tostring(problem))
            ]]) .. location("join", [[
                local thread = ngx.thread.spawn(function()
                    return probe.shared:backup(nil, "secret-0001")
                end)
                probe.joined = true
                local _, blob, err = ngx.thread.wait(thread)
                ngx.say(blob and "ok" or tostring(err))
            ]]) }
        end

        it("go on where the batch that asked first is cancelled", function()
            start_shared()
            emu:fault { operation = operation, delay = cases.HELD, times = 1 }
            local batch = server:open "/batch"
            nginx.wait_until("it is asked for", function()
                return #emu:requests(operation) == 1
            end)
            local seconds, body = cases.timed(get, "/join")
            assert.equal("ok", body)
            assert.is_true(seconds < cases.SOON)
            assert.matches("^boom", (server.finish(batch)))
            assert.equal(2, #emu:requests(operation))
        end)

        -- A handler runs it after a second: the first one, where it has time left.
        for what, deadline in pairs { ["before it runs"] = 0.5, ["while it runs"] = 2 } do
            it("go on without timers where the first one's time is over " .. what, function()
                start_shared [[
                    lua_max_running_timers 1;
                    init_worker_by_lua_block { ngx.timer.at(0, function() ngx.sleep(3600) end) }
                ]]
                if deadline == 2 then
                    emu:fault { operation = operation, delay = cases.HELD, times = 1 }
                end
                local hasty = server:open("/shared?deadline=" .. deadline)
                if deadline == 2 then
                    nginx.wait_until("the first one runs it", function()
                        return #emu:requests(operation) == 1
                    end)
                else
                    socket.sleep(0.1)
                end
                local patient = server:open "/shared?deadline=60"
                assert.matches("secret%-0001", (server.finish(hasty)))
                local seconds, body = cases.timed(server.finish, patient)
                assert.matches("^ok", body)
                assert.is_true(seconds < cases.SOON)
            end)
        end

        it("end by their own deadlines, not by that of the one that asked first", function()
            start_shared()
            emu:fault { operation = operation, delay = 2, times = 1 }
            local first = server:open "/shared?deadline=0.5"
            socket.sleep(0.1)
            local patient = server:open "/shared?deadline=60"
            assert.matches("^timeout: the deadline of 0.5 s has passed", (server.finish(first)))
            assert.matches("^ok", (server.finish(patient)))
            assert.equal(1, #emu:requests(operation))
        end)

        it("do not wait longer than they may for another's", function()
            start_shared()
            emu:fault { operation = operation, delay = cases.HELD, times = 0 }
            local first = server:open "/shared?deadline=60"
            socket.sleep(0.1)
            local hasty = server:open "/shared?deadline=0.5"
            local seconds, body = cases.timed(server.finish, hasty)
            assert.matches("^timeout: the deadline of 0.5 s has passed", body)
            assert.is_true(seconds < cases.SOON)
            first:close()
        end)
    end)
end

-- A handler may run in the coroutine of a light thread or a timer that has ended.
describe("a batch that is cancelled", function()
    local RAISE = location("raise", [[
        probe.seen, probe.inside = 0, 0
        pcall(probe.patient.backup_all, probe.patient, nil, { concurrency = 4,
            on_result = function()
                probe.seen = probe.seen + 1
                if probe.seen ~= 58 then return end
                while probe.inside < tonumber(ngx.var.arg_wait) do ngx.sleep(0.01) end
                error "boom"
            end })
        ngx.say "raised"
    ]]) .. location("seen", "ngx.say(probe.seen)") .. location("other", [[
        probe.inside = (probe.inside or 0) + 1
        ngx.sleep(0.1)
        probe.say()
    ]])
    -- Without a budget, what would be a retry is a probe.
    local INIT_PATIENT = "probe.patient = assert(csms.new(probe.config { retry = { budget = 0 } }))"

    it("cancels no other handler that runs meanwhile", function()
        start { init = INIT_PATIENT, server = RAISE }
        local ok = get "/backup"
        local raise = server:open "/raise?wait=30"
        nginx.wait_until("all but one have ended", function() return get "/seen" == "60" end)
        emu:fault { operation = "backup", delay = 0.5, times = 0 }
        local answers = many("/other", 30, 30)
        assert.equal(30, answers[ok] or 0)
        assert.matches("raised", (server.finish(raise)))
    end)

    it("cancels no handler that comes later, where it had a probe", function()
        start { init = INIT_PATIENT, server = RAISE }
        local ok = get "/backup"
        for _ = 1, 3 do
            emu:fault { operation = "backup", status = 503, times = 1, after = 5 }
            assert.equal("raised", get "/raise?wait=0")
            emu:clear_faults()
            assert.equal(30, many("/other", 30, 30)[ok] or 0)
        end
    end)
end)

-- ---- handlers that are killed -----------------------------------------------

describe("handlers that nginx kills", function()
    -- nginx does not see that a client has gone who went before its handler began.
    local function abort(work)
        return "lua_check_client_abort on;"
            .. location("abort", "probe.begun = (probe.begun or 0) + 1 " .. work)
            .. location("begun", "ngx.say(probe.begun or 0)")
    end

    local function wait_until_begun(count)
        nginx.wait_until("the handlers have begun", function()
            return get "/begun" == tostring(count)
        end, cases.SOON)
    end

    it("leave no descriptor and no transfer: a thousand aborted clients", function()
        start { server = abort "probe.client:backup(nil, 'secret-0001')" }
        get "/backup"
        socket.sleep(0.7) -- the driver ends, and its descriptors are closed
        local pid = server:workers()[1]
        local before = nginx.descriptors(pid)
        emu:fault { operation = "backup", delay = 60, times = 0 }
        for round = 1, 10 do
            local clients = {}
            for index = 1, 100 do clients[index] = server:open "/abort" end
            wait_until_begun(100 * round)
            for _, client in ipairs(clients) do client:close() end
        end
        none_left()
        -- Connections to the service are kept for other calls, unless they are dead.
        emu:clear_faults()
        emu:kill_connections()
        nginx.wait_until("the descriptors are closed", function()
            -- The probe makes one attempt, which may meet a connection that was cut.
            if not get("/backup"):find "^ok " then return false end
            socket.sleep(0.7)
            return nginx.descriptors(pid) <= before + 3
        end)
        assert.equal(2, #nginx.threads(pid))
        assert_quiet()
    end)

    it("leave nothing of a batch", function()
        start { server = abort "probe.client:backup_all(nil, { concurrency = 8 })" }
        emu:fault { operation = "backup", delay = 60, times = 0, after = 5 }
        for round = 1, 10 do
            local client = server:open "/abort"
            wait_until_begun(round)
            socket.sleep(0.05)
            client:close()
        end
        none_left()
        emu:clear_faults()
        assert.matches("^ok ", get "/backup")
    end)

    it("by ngx.exit in a light thread leave nothing", function()
        emu:fault { operation = "backup", delay = 60, times = 0 }
        start { server = location("exit", [[
            ngx.thread.spawn(function() probe.client:backup(nil, "secret-0001") end)
            ngx.thread.spawn(function() ngx.sleep(0.02) ngx.exit(204) end)
            ngx.sleep(10)
        ]]) }
        for _ = 1, 20 do
            local _, status = server:get "/exit"
            assert.equal(204, status)
        end
        none_left()
        assert_quiet()
    end)

    -- Each of many local variables of the next handler, until the flights have landed.
    local NEXT = location("next", [[
        local flights = probe.upvalue "flights"
        local VARIABLES
        while next(flights) do ngx.sleep(0.02) end
        local changed = 0
        for _, value in ipairs { VALUES } do
            if value ~= "x" then changed = changed + 1 end
        end
        ngx.say(changed)
    ]]):gsub("%u%u%u%u%u+", function(what)
        local text = {}
        for index = 1, 150 do
            text[index] = what == "VARIABLES" and ("v%d = 'x'"):format(index) or "v" .. index
        end
        return table.concat(text, what == "VARIABLES" and " local " or ", ")
    end)

    local function kill_once_asked(path, operation, count)
        local client = server:open(path)
        nginx.wait_until("it is asked for", function()
            return #emu:requests(operation) == count
        end)
        client:close()
        socket.sleep(0.1)
    end

    for _, case in ipairs {
        { "in the middle of a probe", "probe.patient:backup_many(nil, { 'secret-0001' })",
          "backup", { { status = 503, times = 1 }, { delay = 1, times = 0 } } },
        { "in the middle of a listing", "probe.patient:backup_all(nil, { concurrency = 4 })",
          "list", { { delay = 1, times = 0, after = 1 } } },
    } do
        local what, call, operation, faults = unpack(case)
        it(what .. " leave the next handler's variables alone", function()
            start { init = "probe.patient = assert(csms.new(probe.config { retry = {} }))",
                server = "lua_check_client_abort on;" .. location("killed", call) .. NEXT }
            for _, fault in ipairs(faults) do
                fault.operation = operation
                emu:fault(fault)
            end
            kill_once_asked("/killed", operation, 2)
            assert.equal("0", get "/next")
        end)
    end

    it("in the middle of a batch do not count as a batch that runs", function()
        start { server = "lua_check_client_abort on;"
            .. location("killed", "probe.client:backup_all()")
            .. location("running", [[
                collectgarbage()
                collectgarbage()
                local count = 0
                for _ in pairs(probe.client.batches) do count = count + 1 end
                ngx.say(count)
            ]]) .. location("others", "ngx.sleep(0.05)") }
        emu:fault { operation = "backup", delay = cases.HELD, times = 0, after = 1 }
        local client = server:open "/killed"
        nginx.wait_until("it runs", function() return get "/running" == "1" end)
        client:close()
        nginx.wait_until("it does not", function()
            many("/others", 4, 4) -- nginx keeps its coroutine, stack and all, until it is used
            return get "/running" == "0"
        end, cases.SOON)
    end)

    it("in the middle of a renewal leave nobody waiting", function()
        start { init = [[
            probe.tokens = assert(csms.new(probe.config { credentials = probe.password() }))
        ]], server = "lua_check_client_abort on;" .. location("token", [[
            local blob, err = probe.tokens:backup(nil, "secret-0001")
            ngx.say(blob and "ok" or tostring(err))
        ]]) }
        emu:fault { operation = "iam_token", delay = 0.6, times = 0 }
        local leader = server:open "/token"
        socket.sleep(0.2)
        local second = server:open "/token"
        socket.sleep(0.1)
        leader:close()
        local seconds, body = cases.timed(server.finish, second)
        assert.matches("^ok", body)
        assert.is_true(seconds < cases.SOON)
        assert.equal(1, #emu:requests "iam_token")
    end)

    it("in the middle of an early renewal do not end renewals", function()
        emu:set { token_life = 90 } -- renewed early after about 45 s: see below
        start { init = [[
            probe.provider = probe.password()
            probe.tokens = assert(csms.new(probe.config { credentials = probe.provider }))
        ]], server = "lua_check_client_abort on;" .. location("token", [[
            local blob, err = probe.tokens:backup(nil, "secret-0001")
            ngx.say(blob and "ok" or tostring(err))
        ]]) .. location("due", "probe.provider.renew_at = 0 ngx.say 'due'") }
        assert.equal("ok", get "/token")
        emu:fault { operation = "iam_token", delay = 1, times = 1 }
        assert.equal("due", get "/due")
        local killed = server:open "/token"
        socket.sleep(0.2)
        killed:close()
        nginx.wait_until("the token is renewed again", function()
            get "/due"
            assert.equal("ok", get "/token")
            return #emu:requests "iam_token" >= 3
        end, cases.SOON) -- after 60 s it would have to be anyway
    end)
end)

-- ---- where something is missing ---------------------------------------------

describe("where nginx has little to offer", function()
    it("calls are served without timers", function()
        start { init = [[
            probe.tokens = assert(csms.new(probe.config { credentials = probe.password() }))
        ]], http = [[
            lua_max_running_timers 1;
            init_worker_by_lua_block { ngx.timer.at(0, function() ngx.sleep(3600) end) }
        ]], server = location("token", [[
            local blob, err = probe.tokens:backup(nil, "secret-0001")
            ngx.say(blob and "ok" or tostring(err))
        ]]) .. location("all", "ngx.say(probe.client:backup_all().ok)") }
        socket.sleep(0.2)
        assert.equal(50, served("/backup", 50, 10))
        local token, all = server:open "/token", server:open "/all"
        token:settimeout(cases.SOON)
        all:settimeout(cases.SOON)
        assert.matches("^ok", (server.finish(token)))
        assert.matches("^60", (server.finish(all)))
        assert_quiet { "lua_max_running_timers are not enough" }
    end)

    for what, http in pairs {
        ["as a timer was dropped"] = [[
            lua_max_running_timers 1;
            init_worker_by_lua_block { ngx.timer.at(0, function() ngx.sleep(3600) end) }
        ]],
        ["as no timer could be had"] = [[
            lua_max_pending_timers 1;
            init_worker_by_lua_block { ngx.timer.at(3600, function() end) }
        ]],
    } do
        it("a renewal is taken over from a handler that was killed: " .. what, function()
            start { http = http, init = [[
                probe.tokens = assert(csms.new(probe.config { credentials = probe.password() }))
                local is_lost = probe.upvalue "is_lost"
                assert(debug.setupvalue(is_lost, 1, 0.5) == "LEASE")
            ]], server = "lua_check_client_abort on;" .. location("token", [[
                local blob, err = probe.tokens:backup(nil, "secret-0001")
                ngx.say(blob and "ok" or tostring(err))
            ]]) }
            emu:fault { operation = "iam_token", delay = cases.HELD, times = 1 }
            local killed = server:open "/token"
            nginx.wait_until("it is asked for", function()
                return #emu:requests "iam_token" == 1
            end)
            killed:close()
            local second = server:open "/token"
            second:settimeout(cases.SOON)
            assert.matches("^ok", (server.finish(second)))
        end)
    end

    it("calls are served without a writable temporary folder", function()
        start { main = "env TMPDIR;", environment = { TMPDIR = "/nonexistent" } }
        assert.equal(100, served("/backup", 100, 20))
        assert_quiet()
    end)

    it("calls are served where the temporary folder's path is too long", function()
        local long = "/tmp/" .. ("x"):rep(120)
        start { main = "env TMPDIR;", environment = { TMPDIR = long } }
        assert.equal(100, served("/backup", 100, 20))
        assert_quiet()
    end)

    it("the wake-up socket's folder is gone as soon as it is connected", function()
        local dir = files.temporary()
        start { main = "env TMPDIR;", environment = { TMPDIR = dir } }
        assert.equal(20, served("/backup", 20, 5))
        server:signal("KILL", server:workers()[1])
        assert.equal("", files.output_of("ls " .. dir))
        os.remove(dir)
    end)
end)

-- ---- the life of workers ----------------------------------------------------

describe("workers", function()
    it("are reloaded ten times under load, and nothing is lost", function()
        start { workers = 2 }
        emu:fault { operation = "backup", delay = 0.02, times = 0 }
        local answered = served("/backup", 6000, 40, function()
            for _ = 1, 10 do
                socket.sleep(0.1)
                server:reload(true)
            end
        end)
        assert.equal(6000, answered)
        nginx.wait_until("the old workers have gone", function() return #server:workers() == 2 end)
        assert_quiet()
    end)

    it("that are terminated or killed are replaced", function()
        start()
        for _, name in ipairs { "TERM", "KILL", "TERM", "KILL" } do
            assert.equal(10, served("/backup", 10, 5))
            emu:fault { operation = "backup", delay = cases.HELD, times = 3 }
            local clients = {}
            for index = 1, 3 do clients[index] = server:open "/backup" end
            socket.sleep(0.1)
            local pid = server:workers()[1]
            local seconds = cases.timed(function()
                server:signal(name, pid)
                nginx.wait_until("it has gone", function() return not nginx.alive(pid) end)
            end)
            assert.is_true(seconds < cases.SOON)
            nginx.wait_until("there is another", function() return #server:workers() == 1 end)
            for _, client in ipairs(clients) do client:close() end
            emu:clear_faults()
        end
        assert.equal(10, served("/backup", 10, 5))
        assert_quiet { "exited on signal 9" }
    end)

    it("finish what is in flight when they shut down, and then end at once", function()
        start { workers = 2 }
        get "/backup"
        emu:fault { operation = "backup", delay = 1, times = 0 }
        local clients = {}
        for index = 1, 20 do clients[index] = server:open "/backup" end
        nginx.wait_until("all are in flight", function() return #emu:requests "backup" == 21 end)
        local pids = server:workers()
        pids[#pids + 1] = server:master()
        server:signal "QUIT"
        for _, client in ipairs(clients) do
            local body, status = server.finish(client)
            assert.matches("200", status)
            assert.matches("^ok ", body)
        end
        local seconds = cases.timed(server.quit, server)
        assert.is_true(seconds < cases.SOON)
        for _, pid in ipairs(pids) do assert.is_false(nginx.alive(pid)) end
        assert_quiet()
    end)

    it("end soon when they are idle, even where the loop was blocked", function()
        start { server = location("block", [[
            ngx.thread.spawn(function() probe.backup() end)
            os.execute "sleep 1.3" -- bad code: nginx does nothing else meanwhile
            ngx.say "blocked"
        ]]) .. location("block-later", [[
            local thread = ngx.thread.spawn(function() probe.backup() end)
            ngx.sleep(0.05)
            os.execute "sleep 1.3"
            ngx.thread.wait(thread)
            ngx.say "blocked"
        ]]) }
        assert.equal("blocked", get "/block")
        emu:fault { operation = "backup", delay = 0.1, times = 0 }
        assert.equal("blocked", get "/block-later")
        socket.sleep(1)
        local pid = server:workers()[1]
        server:signal "QUIT"
        nginx.wait_until("the worker has ended", function() return not nginx.alive(pid) end,
            cases.SOON)
        assert_quiet()
    end)

    it("keep their memory and descriptors over many calls", function()
        start()
        served("/backup", 2000, 30)
        local pid = server:workers()[1]
        local resident, descriptors = nginx.resident(pid), nginx.descriptors(pid)
        for _ = 1, 2 do assert.equal(2000, served("/backup", 2000, 30)) end
        assert.same({ pid }, server:workers())
        assert.is_true(nginx.descriptors(pid) <= descriptors + 5)
        assert.is_true(nginx.resident(pid) - resident < 1000,
            "KiB more: " .. nginx.resident(pid) - resident)
        assert_quiet()
    end)
end)

describe("the thread", function()
    it("takes no signals, and the worker's own thread takes all", function()
        start()
        get "/backup"
        local pid = server:workers()[1]
        local threads = nginx.threads(pid)
        assert.equal(2, #threads)
        assert.equal("0000000000000000", nginx.status(pid, threads[1], "SigBlk"))
        -- all but those that say that the thread itself is broken, and the C library's own
        assert.equal("fffffffe7ffbfa37", nginx.status(pid, threads[2], "SigBlk"))
    end)

    it("survives connections that are cut under it", function()
        start()
        local pid = server:workers()[1]
        emu:fault { operation = "backup", delay = 0.01, times = 0 }
        local answers = many("/backup", 2000, 20, function()
            for _ = 1, 10 do
                socket.sleep(0.03)
                emu:kill_connections()
            end
        end)
        assert.equal(2000, answers[" 200"])
        assert.same({ pid }, server:workers())
        assert_quiet()
    end)

    it("leaves no connection to child processes", function()
        start { server = location("children", [[
            local pipe = io.popen "ls -l /proc/self/fd"
            ngx.print(pipe:read "*a")
            pipe:close()
            local child = require("ngx.pipe").spawn { "ls", "-l", "/proc/self/fd" }
            ngx.print(child:stdout_read_all())
        ]]) }
        get "/backup"
        local inodes = inodes_to(emulator_port())
        local pid = server:workers()[1]
        assert.is_true(count_of(nginx.links(pid), inodes) > 0)
        assert.equal(0, count_of(get "/children", inodes))
    end)
end)

-- ---- the example ------------------------------------------------------------

describe("the example nginx.conf", function()
    -- As it stands, with a server ("host:port") for the blobs.
    local function start_example(target)
        local environment = { LUA_PATH = nginx.root() .. "lua/?.lua;" .. nginx.root()
            .. "lua/?/init.lua;;", LUA_CPATH = nginx.cpath() .. ";;", BACKUP_TARGET = target }
        for name, value in pairs(emu.env) do
            if not name:find "^EMULATOR_" then environment[name] = value end
        end
        local conf = require("spec.support.readme").blocks("nginx")[1].code
        server = nginx.start { environment = environment,
            conf = (conf:gsub("127%.0%.0%.1:8080", "127.0.0.1:@PORT@")) }
    end

    local function wait_for_stored(count, total)
        local text = ("csms: %d of %d secrets stored"):format(count, total or 60)
        nginx.wait_until("all have been tried", function()
            return server:log():find(text, 1, true)
        end)
    end

    it("runs", function()
        local sink = cases.server [[
            local head, body = read_request(peer)
            local name = head:match("^PUT /secrets/(%S+)")
            note(name .. " " .. #body .. " " .. body:sub(1, 4))
            if name == "secret-0001" then return peer:send "HTTP/1.0 201 Created\r\n\r\n" end
            answer(peer, "201 Created", "")
        ]]
        start_example(sink.host)
        wait_for_stored(60)
        assert.equal(60, select(2, sink:log():gsub("secret%-%d+ %d+ [^\n]+\n", "")))
        sink:stop()
        local blob, status = server:get "/backup/secret-0002"
        assert.equal(200, status)
        assert.is_true(csms.inspect(blob).complete)
        local text, missing = server:get "/backup/nope"
        assert.same({ 404, "not_found\n" }, { missing, text })
        assert_quiet { "secret not exist", "nope", "not_found" }
        local asked = #emu:requests "backup"
        server:quit()
        assert.equal(asked, #emu:requests "backup") -- no backup because of the shutdown
    end)

    it("tells of a listing that broke off, and counts no secret that was skipped", function()
        local sink = cases.server [[
            read_request(peer)
            answer(peer, "201 Created", "")
        ]]
        emu:change("secret-0003", { state = "PENDING_DELETE" })
        emu:fault { operation = "list", status = 403, after = 1, times = 0 }
        start_example(sink.host)
        wait_for_stored(59, 59)
        sink:stop()
        assert.matches("%[error%][^\n]*csms: not all listed: denied", server:log())
    end)

    it("names what was not stored, and why", function()
        start_example "127.0.0.1:1"
        wait_for_stored(0)
        local _, named = server:log():gsub("csms: secret%-%d+ not stored: connection refused", "")
        assert.equal(60, named)
    end)
end)
