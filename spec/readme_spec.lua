-- The README's examples run as they stand, and it says what the code says.

local csms = require "csms"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local readme = require "spec.support.readme"

local interpreter = os.getenv "CSMS_SPEC_LUA" or arg[-1] or "lua5.4"

describe("the README", function()
    local service, text

    setup(function()
        service = emulator.start { secrets = 20 }
        text = files.read("README.md")
    end)
    teardown(function() service:stop() end)
    before_each(function() service:reset() end)

    local function environment(more)
        local words = { "env" }
        for key, value in pairs(service.env) do words[#words + 1] = key .. "='" .. value .. "'" end
        for key, value in pairs(more) do words[#words + 1] = key .. "='" .. value .. "'" end
        return table.concat(words, " ")
    end

    local function run(number, more)
        local command = ("%s %s spec/support/run_example.lua %d 2>&1; echo \"exit $?\"")
            :format(environment(more), interpreter, number)
        local pipe = assert(io.popen(command))
        local output = pipe:read("*a")
        pipe:close()
        return output
    end

    -- What the restore example is about: a blob whose secret is gone.
    local function lost_secret()
        local client = assert(csms.new {
            endpoint = service.endpoint, ca_file = service.ca_file, project = service.project,
            credentials = csms.credentials.static { ak = service.ak, sk = service.sk },
        })
        local blob = assert(client:backup(nil, "secret-0001"))
        client:close()
        service:delete("secret-0001")
        return blob
    end

    for number, block in ipairs(readme.blocks("lua")) do
        it("has an example at line " .. block.line .. " that runs", function()
            local more = { README_FOLDER = files.temporary() }
            if block.code:find("csms.restore", 1, true) then more.README_BLOB = lost_secret() end
            local output = run(number, more)
            assert.matches("exit 0\n$", output)
            assert.is_true(#service:requests() > 0)
            files.remove(more.README_FOLDER)
        end)
    end

    it("shows the error where an example fails", function()
        service:fault { operation = "backup", status = 403, times = 0 }
        local output = run(1, {})
        assert.matches("denied: ", output)
        assert.matches("csms:secret:get", output)
        assert.matches("exit 1\n$", output)
    end)

    it("names every function of the module", function()
        for name, value in pairs(csms) do
            if type(value) == "function" then
                local named = text:find("csms." .. name .. "(", 1, true)
                    or text:find("client:" .. name .. "(", 1, true)
                assert.is_truthy(named, name .. " is not in the README")
            end
        end
    end)

    it("has a row for every kind of error", function()
        for kind in ("argument config credentials auth denied not_found state throttled service "
            .. "rejected network tls timeout protocol cancelled storage"):gmatch("%S+") do
            assert.is_truthy(text:find("\n| `" .. kind .. "` |", 1, true), kind)
        end
    end)

    it("names every key of a config", function()
        local _, err = csms.new { no_such_key = 1 }
        for key in err.message:match("known are (.*)$"):gmatch("[%w_]+") do
            assert.is_truthy(text:find("`" .. key .. "`", 1, true), key .. " is not in the README")
        end
    end)
end)
