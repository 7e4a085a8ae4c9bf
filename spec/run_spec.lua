-- What spec/run makes of files: what they see of the caller, and what counts as a failure.

local files = require "spec.support.files"

local folder

setup(function() folder = files.temporary() end)
teardown(function() files.remove(folder) end)

-- Runs a file of these lines on some Luas, and further files: the exit code, and the output.
local function run(text, luas, environment, more)
    local path = folder .. "/one_spec.lua"
    files.write(path, text)
    local build = package.cpath:match("([^;?]+)/5%.%d/%?%.so")
    local output = files.output_of(("env %s spec/run %s %s %s %s 2>&1; echo \"exit $?\"")
        :format(environment or "", files.quote(build), files.quote(luas), files.quote(path),
        more and files.quote(more) or ""))
    return tonumber(output:match("exit (%d+)\n$")), output
end

describe("spec/run", function()
    it("counts what passes", function()
        local code, output = run("it('passes', function() end)", "5.4 5.1")
        assert.equal(0, code)
        assert.matches("\n2 passed, 0 failed\n", output, 1, true)
    end)

    it("keeps the caller's keys, endpoints and proxies from a spec", function()
        local code, output = run([[
            it("sees none of them", function()
                for _, name in ipairs { "CSMS_AUTH_TOKEN", "HUAWEICLOUD_SDK_AK",
                    "HC_CONTAINER_CREDENTIALS_FULL_URI", "http_proxy", "ALL_PROXY" } do
                    assert.is_nil(os.getenv(name), name)
                end
                assert.equal("yes", os.getenv "OTHER")
            end)]], "5.4", "CSMS_AUTH_TOKEN=abc HUAWEICLOUD_SDK_AK=ak OTHER=yes "
            .. "HC_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1 "
            .. "http_proxy=http://127.0.0.1:1 ALL_PROXY=http://127.0.0.1:1")
        assert.equal(0, code, output)
    end)

    it("lets SIGINT come, which a shell's job in the background ignores", function()
        local lua = folder .. "/lua"
        files.write(lua, "#!/bin/sh\ngrep SigIgn /proc/self/status\nexec lua5.4 \"$@\"\n")
        files.output_of("chmod +x " .. files.quote(lua))
        local code, output = run("it('passes', function() end)", "5.4",
            "--ignore-signal=INT LUA_BIN=" .. files.quote(lua))
        assert.equal(0, code, output)
        local ignored = tonumber(output:match "SigIgn:%s*(%x+)", 16)
        assert.equal(0, math.floor(ignored / 2) % 2, output)
    end)

    it("ends a file that does not end by itself", function()
        local code, output = run("it('goes round', function() while true do end end)", "5.1",
            "LIMIT=1 AGAIN=1")
        assert.equal(1, code)
        assert.equal(3, select(2, output:gsub("It did not end within 1 s%.\nexit code 124", "")))
        assert.matches("\n0 passed, 1 failed\n", output, 1, true)
    end)

    it("takes what was not run to its end, or not at all, for a failure", function()
        local other = folder .. "/other_spec.lua"
        files.write(other, "it('passes', function() end)")
        local code, output = run([==[it("kills the shell that runs the file", function()
            os.execute [[up() { sed 's/.*) . //; s/ .*//' /proc/$1/stat; }
                kill -KILL $(up $(up $PPID))]]
        end)]==], "5.4", "JOBS=1 AGAIN=0", other)
        assert.equal(1, code, output)
        for _, name in ipairs { "one", "other" } do
            assert.matches(name .. "_spec.lua was not run to its end", output, 1, true)
        end
        assert.matches("\n%d passed, 1 failed\n", output)
    end)

    it("takes a file without a test for a failure", function()
        for _, luas in ipairs { "5.4", "5.1", "5.4 5.1" } do
            local code, output = run("describe('nothing', function() end)", luas)
            assert.equal(1, code)
            assert.matches("\n0 passed, 1 failed\n", output, 1, true)
        end
    end)

    it("lets a file be for one Lua, or skip all that it has", function()
        assert.equal(0, (run("if not rawget(_G, 'jit') then it('', function() end) end",
            "5.4 5.1")))
        assert.equal(0, (run("pending('not here')", "5.4")))
    end)

    it("says which of several files has no test", function()
        local empty = folder .. "/empty_spec.lua"
        files.write(empty, "")
        local code, output = run("it('passes', function() end)", "5.4 5.1", nil, empty)
        assert.equal(1, code)
        assert.matches(empty .. " has no test\n2 passed, 1 failed\n", output, 1, true)
    end)
end)
