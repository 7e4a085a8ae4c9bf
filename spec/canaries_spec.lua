-- The search for secrets itself (spec/support/canaries.lua): a run of specs fails where one gets
-- out, and passes where none does.

local canaries = require "spec.support.canaries"
local cases = require "spec.support.cases"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"

local emu, blob, folder

setup(function()
    emu = emulator.start { secrets = 3 }
    blob = assert(cases.client(emu):backup(nil, "secret-0003"))
    folder = files.temporary()
end)

teardown(function()
    emu:stop()
    files.remove(folder)
end)

-- Runs a spec of one test, which has `SECRET`, as spec/run runs all of them.
local function run(body, secret)
    local path = folder .. "/leaking_spec.lua"
    files.write(path,
        ("local SECRET = %q\nit('passes', function()\n%s\nend)\n"):format(secret, body))
    local build = package.cpath:match("([^;?]+)/5%.%d/%?%.so")
    local lua = _VERSION:match("[%d.]+")
    local output = files.output_of(("spec/run %s %s %s 2>&1; echo \"status $?\"")
        :format(build, lua, path))
    local status = tonumber(output:match("status (%d+)%s*$"))
    return status, output
end

local function assert_found(kind, body, secret)
    local status, output = run(body, secret)
    assert.matches("1 success", output, 1, true) -- of the test itself
    assert.equal(1, status, output)
    assert.matches("LEAK: " .. kind, output, 1, true)
    assert.matches("1 passed, 1 failed", output, 1, true)
    for at = 1, #secret - 12, 12 do
        assert.is_nil(output:find(secret:sub(at, at + 11), 1, true), "the secret is shown")
    end
end

describe("the search for secrets", function()
    it("knows every kind that the emulator makes", function()
        local key = emu:issue_key { temporary = true }
        for kind, value in pairs {
            ["access key"] = key.access, ["secret key"] = key.secret,
            ["security token"] = key.securitytoken, ["token"] = emu:issue_token().token,
            ["password"] = emu.password, ["pod identity token"] = emu.pod_identity_token,
            ["part of a blob"] = blob,
        } do
            assert.equal(kind, canaries.find("x " .. value .. " y"))
        end
        for kind, value in pairs {
            ["access key"] = emu.ak, ["secret key"] = emu.sk, ["token"] = emu.token,
        } do
            assert.equal(kind, canaries.find(value))
        end
    end)

    it("finds any part of some length", function()
        for _, secret in ipairs { emu.token, emu:issue_token().token } do
            for at = 1, #secret - 31 do assert(canaries.find(secret:sub(at, at + 31)), at) end
        end
        for at = 1, #blob - 255 do assert(canaries.find(blob:sub(at, at + 255)), at) end
    end)

    it("leaves alone what is none", function()
        for _, text in ipairs {
            emu.ak:sub(1, 4) .. "****", ("0123456789abcdef"):rep(4), emu.project, emu.kid,
            "20261121T160000.123Z-0123456789ab.blob", "/tmp/csms-emulator.Xy12Ab/ca.crt",
            "a-name-of-sixty-four-characters-" .. ("x"):rep(32), ("-"):rep(200),
        } do
            assert.is_nil(canaries.find(text))
        end
        assert.is_nil(canaries.find(blob, true))
    end)
end)

describe("a spec that passes fails the run where a secret is", function()
    it("not, as long as there is none", function()
        local status, output = run("print 'all is well'", emu.sk)
        assert.equal(0, status, output)
        assert.matches("all is well", output, 1, true)
        assert.matches("1 passed, 0 failed", output, 1, true)
    end)

    it("in its output", function()
        assert_found("token", "print('here: ' .. SECRET)", emu.token)
        assert_found("part of a blob", "io.stderr:write(SECRET)", blob)
    end)

    it("in an error, in any field", function()
        assert_found("secret key in an error", [[
            require("csms.errors").new("network", "it failed", { cause = "sent " .. SECRET })
        ]], emu.sk)
        assert_found("access key in an error", [[
            require("csms.errors").new("auth", "it failed", { facts = { [SECRET] = 1 } })
        ]], emu.ak)
    end)

    it("in an event", function()
        assert_found("part of a blob in an event", [[
            local client = assert(require("csms").new {
                endpoint = "https://localhost:1", on_event = function() end })
            client.emit { event = "warning", message = SECRET }
        ]], blob)
    end)

    if not rawget(_G, "jit") then
        it("in what the command line prints, which is for Lua 5.4", function()
            assert_found("part of a blob in the messages of csms inspect", [[
                require("spec.support.cli").run { "inspect", SECRET }
            ]], blob:sub(-120, -60))
        end)
    else
        it("in a log of nginx, which is for LuaJIT", function()
            assert_found("secret key in nginx's log", [[
                local server = require("spec.support.nginx").start { http = "server { "
                    .. "listen 127.0.0.1:@PORT@; location / { return 200; } location /log { "
                    .. "content_by_lua_block { ngx.log(ngx.ERR, '" .. SECRET .. "') } } }" }
                server:get "/log"
                server:quit()
            ]], emu.sk)
        end)
    end
end)
