-- The README's examples run as they stand, and it says what the code says.

local cli = require "spec.support.cli"
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
        return files.output_of(command)
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

    -- One command of the block, in a folder: its output, and "exit N".
    local function run_command(line, folder)
        local command = line:gsub("%s+#.*$", ""):gsub("DIR", folder .. "/store")
            :gsub("db%-password%.blob", folder .. "/blob"):gsub("db%-password", "secret-0001")
            :gsub("2026%-11%-20", (os.date "!%Y-%m-%d"))
        local target = command:match "> (%S+)$" or "/dev/stdout"
        local words = {}
        for word in command:gsub("%s*> %S+$", ""):gsub("^csms ", ""):gmatch "%S+" do
            words[#words + 1] = word
        end
        return files.output_of(cli.command(words, service.env) .. " 2>&1 >" .. target
            .. "; echo \"exit $?\"")
    end

    it("shows commands that work, one after the other", function()
        if _VERSION ~= "Lua 5.4" then return end
        local folder, count = files.temporary(), 0
        for _, block in ipairs(readme.blocks("sh")) do
            for line in (block.code:find("^csms doctor") and block.code or ""):gmatch("[^\n]+") do
                if line:find("^csms restore") and not line:find("dry%-run") then
                    service:delete("secret-0001")
                end
                assert.matches("exit 0\n$", run_command(line, folder), nil, nil, line)
                count = count + 1
            end
        end
        assert.is_true(count >= 10)
        files.remove(folder)
    end)

    it("names the Debian packages that the Makefile asks for", function()
        local makefile, named = files.read("Makefile"):gsub("\\\n", " "), 0
        for _, list in ipairs { "BUILD", "RUN" } do
            local packages = makefile:match("\n" .. list .. "_PACKAGES := ([^\n]*)")
            for package in packages:gmatch "%S+" do
                assert.matches("[`%s]" .. package:gsub("%p", "%%%0") .. "[`%s]", text)
                named = named + 1
            end
        end
        assert.is_true(named > 5)
    end)

    it("refers to sections that it has", function()
        for anchor in text:gmatch "%]%(#([^)]*)%)" do
            local heading = anchor:gsub("%-", " ")
            assert.is_truthy(text:lower():find("\n## " .. heading .. "\n", 1, true), anchor)
        end
    end)

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

    it("names every method of a store", function()
        local folder = files.temporary()
        local store = assert(csms.store(folder))
        for name in pairs(getmetatable(store).__index) do
            local named = name:find("^__") or text:find("`store:" .. name .. "(", 1, true)
            assert.is_truthy(named, name .. " is not in the README")
        end
        files.remove(folder)
    end)

    it("names no method of a client that is no function of the module", function()
        local count = 0
        for name in text:gmatch "\n| `client:([%w_]+)%(" do
            assert.is_function(csms[name], name)
            count = count + 1
        end
        assert.is_true(count > 0)
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

    -- The fields that a sentence of the README lists, `like`, `this`.
    local function listed(beginning)
        local fields, line = {}, text:gsub("\n", " ") .. " "
        local start = assert(line:find(beginning, 1, true), beginning)
        for code in line:sub(start, line:find("%.%s", start)):gmatch "`([^`]*)`" do
            for field in code:gmatch "[%w_]+" do fields[field] = true end
        end
        return fields
    end

    local function assert_listed(found, fields, what)
        for field in pairs(found) do
            assert.is_true(fields[field], what .. ": " .. field .. " is not in the README")
        end
    end

    it("names the fields of reports, facts and events", function()
        local events = {}
        local client = assert(csms.new {
            endpoint = service.endpoint, ca_file = service.ca_file, project = service.project,
            credentials = csms.credentials.static { ak = service.ak, sk = service.sk },
            on_event = function(event) events[#events + 1] = event end,
        })
        service:fault { operation = "backup", status = 503, times = 1, after = 3 }
        local facts = {}
        local report = assert(client:backup_all(nil, {
            on_result = function(_, _, _, given) facts[#facts + 1] = given end,
        }))
        client:close()
        assert.equal(20, #facts)
        assert_listed(report, listed "A report is", "report")
        for _, given in ipairs(facts) do assert_listed(given, listed "The facts are", "facts") end
        for _, event in ipairs(events) do
            assert_listed({ [event.event] = true }, listed "`event.event` is", "event.event")
            event.event = nil
            assert_listed(event, listed "Where they apply an event has", "event")
        end
    end)

    it("names the fields of a backup's --json", function()
        if _VERSION ~= "Lua 5.4" then return end
        local folder = files.temporary()
        service:fault { operation = "backup", name = "secret-0002", status = 403, times = 0 }
        local objects = cli.objects(cli.run({ "backup", "--all", "--json", "-o",
            folder .. "/store" }, { env = service.env }))
        assert.equal("summary", table.remove(objects).type)
        assert.equal(20, #objects)
        for _, object in ipairs(objects) do
            assert_listed(object, listed "With `--json`", "--json")
            assert_listed({ [object.outcome] = true }, listed "With `--json`", "outcome")
        end
        files.remove(folder)
    end)
end)
