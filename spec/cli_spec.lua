-- The command line without a store: arguments, help, exit codes, what needs the
-- service alone. It is for Lua 5.4 only.

if rawget(_G, "jit") then return end

local cli = require "spec.support.cli"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"

local emu

setup(function() emu = emulator.start { secrets = 12 } end)
teardown(function() emu:stop() end)
before_each(function() emu:reset() end)

local function csms(args, options)
    options = options or {}
    local env = {}
    for name, value in pairs(emu.env) do env[name] = value end
    for name, value in pairs(options.env or {}) do env[name] = value end
    options.env = env
    return cli.run(args, options)
end

local function assert_exit(code, result)
    if result.exit ~= code then
        error(("exit code %s instead of %d; stdout: %s stderr: %s"):format(tostring(result.exit),
            code, result.out:sub(1, 500), result.err), 2)
    end
    return result
end

local COMMANDS = {
    "backup", "list", "show", "inspect", "restore", "status", "verify", "runs", "prune", "doctor",
}

describe("csms without a command", function()
    it("shows its usage on stderr", function()
        local result = assert_exit(2, csms {})
        assert.equal("", result.out)
        assert.matches("Usage: csms", result.err)
    end)

    it("has a version", function()
        local result = assert_exit(0, csms { "--version" })
        assert.equal("csms " .. core.version .. "\n", result.out)
    end)

    it("has a help that names every command, the environment and every exit code", function()
        local result = assert_exit(0, csms { "--help" })
        assert.equal("", result.err)
        for _, command in ipairs(COMMANDS) do
            assert.matches("\n   " .. command .. " ", result.out)
        end
        for _, code in ipairs { 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 130, 141, 143 } do
            assert.matches(("\n%5d   "):format(code), result.out)
        end
        assert.matches("HUAWEICLOUD_SDK_AK", result.out)
        assert.equal(result.out, csms({ "-h" }).out)
        assert.equal(result.out, csms({ "help" }).out)
    end)

    it("has a help with an example for each command, no line longer than 80", function()
        for _, command in ipairs(COMMANDS) do
            local result = assert_exit(0, csms { command, "--help" })
            assert.matches("\nExamples:\n   csms " .. command .. "[ \n]", result.out)
            assert.equal(result.out, csms({ "help", command }).out)
            for line in result.out:gmatch("[^\n]+") do assert.is_true(#line <= 80, line) end
            assert.matches("--deadline TIME    Give up on the service after", result.out, 1, true)
        end
    end)

    it("says of what looks after a folder that its project comes from --project alone", function()
        for _, command in ipairs { "status", "verify", "runs", "prune" } do
            assert.matches("HUAWEICLOUD_SDK_PROJECT_ID", csms({ command, "--help" }).out)
        end
    end)
end)

describe("wrong usage", function()
    local cases = {
        { { "bakup" }, "Did you mean 'backup'" },
        { { "help", "bakup" }, "unknown command 'bakup'" },
        { { "backup", "--al" }, "Did you mean '%-%-all'" },
        { { "backup" }, "name the secrets" },
        { { "backup", "a", "--all", "-o", "x" }, "either NAMEs or %-%-all" },
        { { "backup", "a" }, "where the backups go" },
        { { "backup", "a", "-o", "x", "--stdout" }, "either %-o DIR or %-%-stdout" },
        { { "backup", "a", "-o", "" }, "the value after '%-o' is empty" },
        { { "backup", "a", "-o=x" }, "'%-o=x': write '%-o x'" },
        { { "list", "-qp=x" }, "'%-qp=x': write '%-qp x'" },
        { { "backup", "", "-o", "x" }, "the value after 'backup' is empty" },
        { { "verify", "" }, "the value after 'verify' is empty" },
        { { "restore", "--from", "", "a" }, "the value after '%-%-from' is empty" },
        { { "list", "--ca-file", "" }, "the value after '%-%-ca%-file' is empty" },
        { { "--project=", "list" }, "the value after '%-%-project=' is empty" },
        { { "backup", "a", "b", "--stdout" }, "exactly one NAME" },
        { { "backup", "--all", "--stdout" }, "exactly one NAME" },
        { { "backup", "a", "--stdout", "--json" }, "the blob alone" },
        { { "backup", "a", "--stdout", "--max-age", "1h" }, "goes with %-o" },
        { { "backup", "a", "-o", "x", "--match", "a*" }, "goes with %-%-all" },
        { { "backup", "a", "-o", "x", "--max-age", "12 h" }, "no duration" },
        { { "backup", "a", "-o", "x", "--max-age", "0" }, "%-%-max%-age: '0' is no duration" },
        { { "backup", "a", "-o", "x", "--max-age", "999999999999999999d" }, "no duration" },
        { { "backup", "a", "-o", "x", "--max-age", "213503982334602d" }, "no duration" }, -- 2^64 s
        { { "backup", "a", "-o", "x", "--concurrency", "0" }, "%-%-concurrency: '0'" },
        { { "backup", "a", "-o", "x", "--concurrency", "1001" }, "no whole number" },
        { { "backup", "a", "-o", "x", "--rate", "fast" }, "%-%-rate: 'fast'" },
        { { "backup", "a", "-o", "x", "--rate", "0.0000001" }, "%-%-rate: '0.0000001' is no rate" },
        { { "backup", "a", "-o", "x", "--rate", ("9"):rep(310) }, "is no rate" },
        { { "backup", "--all", "-o", "x", "--match", "[a]*" }, "%-%-match: '%[a%]%*' matches" },
        { { "backup", "--all", "-o", "x", "--match", "a*", "--match", "" }, "only %* and %?" },
        { { "restore", "--from", "x", "--all", "--match", "{a,b}" }, "matches no name" },
        { { "list", "extra" }, "too many arguments" },
        { { "show" }, "missing argument 'NAME'" },
        { { "inspect" }, "missing argument 'FILE'" },
        { { "restore" }, "which FILE" },
        { { "restore", "a", "--all" }, "go with %-%-from" },
        { { "restore", "--from", "x" }, "name the secret" },
        { { "restore", "--from", "x", "a", "--all" }, "either NAME or %-%-all" },
        { { "restore", "--from", "x", "a", "--match", "*" }, "goes with %-%-all" },
        { { "prune", "x" }, "say what to keep" },
        { { "prune", "x", "--keep-last", "0" }, "%-%-keep%-last: '0'" },
        { { "status" }, "missing argument 'DIR'" },
        { { "list", "--deadline", "soon" }, "%-%-deadline: 'soon'" },
    }
    for _, case in ipairs(cases) do
        it("is told: " .. table.concat(case[1], " "), function()
            local result = assert_exit(2, csms(case[1]))
            assert.equal("", result.out)
            assert.matches(case[2], result.err)
            assert.matches("Usage: csms", result.err)
            assert.equal(0, #emu:requests())
        end)
    end
end)

describe("a short option", function()
    it("may have its value attached, whatever is in that", function()
        local result = assert_exit(7, csms { "list", "-pa=b" })
        assert.matches("this one has 3 characters", result.err)
    end)
end)

describe("csms with keys from a file", function()
    it("warns of one that others can read", function()
        local path = files.temporary() .. "/credentials"
        files.write(path, ("[basic]\nak = %s\nsk = %s\n"):format(emu.ak, emu.sk))
        local function list(mode)
            os.execute(("chmod %s '%s'"):format(mode, path))
            return assert_exit(0, csms({ "list" }, { env = {
                HUAWEICLOUD_SDK_AK = false, HUAWEICLOUD_SDK_SK = false,
                HUAWEICLOUD_SDK_CREDENTIALS_FILE = path,
            } })).err
        end
        assert.equal("", list "600")
        assert.matches(path .. " can be read by others; run: chmod 600", list "644", 1, true)
        files.remove((path:match "^(.*)/"))
    end)
end)

describe("csms list", function()
    it("prints name, state and time of each secret", function()
        emu:change("secret-0002", { state = "DISABLED" })
        local result = assert_exit(0, csms { "list" })
        assert.matches("secret%-0001  ENABLED   %d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ\n", result.out)
        assert.matches("secret%-0002  DISABLED  ", result.out)
        assert.equal("", result.err)
    end)

    it("prints the service's own fields as JSON", function()
        local objects, summary = cli.objects(assert_exit(0, csms { "list", "--json" }))
        assert.equal(12, summary.total)
        assert.equal("secret", objects[1].type)
        assert.equal(emu:secret("secret-0001").id, objects[1].id)
    end)

    it("prints a list of the service's as one, an empty one too", function()
        emu:change("secret-0002", { event_subscriptions = { "topic" } })
        local text = assert_exit(0, csms { "list", "--json" }).out
        assert.matches('"event_subscriptions":["topic"]', text, 1, true)
        assert.matches('"event_subscriptions":[]', text, 1, true)
        assert.is_nil(text:find("{}", 1, true))
        assert.matches("event_subscriptions +%[%]\n", csms({ "show", "secret-0001" }).out)
    end)

    it("keeps control characters of a name off the terminal", function()
        emu:create { name = "evil\27[2J\nsecret", value = "v" }
        local result = assert_exit(0, csms { "list" })
        assert.matches("evil%?%[2J%?secret", result.out)
    end)

    it("keeps control characters above ASCII off the terminal too", function()
        emu:change("secret-0002", { description = "a\u{9b}2Jb\u{e9}\u{a0}" })
        assert.matches("description +a%?2Jb\u{e9}\u{a0}\n",
            assert_exit(0, csms { "show", "secret-0002" }).out)
    end)

    it("writes JSON that is UTF-8 whatever it tells of", function()
        local bytes = "a\xffb\xc3c\xed\xa0\x80\xc0\xafd\u{e9}\u{1f600}"
        emu:change("secret-0002", { description = bytes })
        for _, args in ipairs { { "inspect", bytes }, { "show", bytes }, { "list" },
            { "show", "secret-0002" } } do
            args[#args + 1] = "--json"
            local result = csms(args)
            assert.is_truthy(utf8.len(result.out), result.out)
            cli.objects(result)
        end
        local said = cli.objects(csms { "show", "secret-0002", "--json" })[1].description
        local bad = "\u{FFFD}"
        assert.equal(("a%sb%sc%s%sd\u{e9}\u{1f600}"):format(bad, bad, bad:rep(3), bad:rep(2)), said)
    end)

    it("takes the options of every command before its name too", function()
        assert_exit(0, csms { "--region", "cn-north-4", "list", "-p", emu.project })
    end)
end)

describe("csms show", function()
    it("prints what the service knows, but no value", function()
        local result = assert_exit(0, csms { "show", "secret-0003" })
        assert.matches("name +secret%-0003\n", result.out)
        assert.matches("update_time +%d%d%d%d%-", result.out)
        assert.is_nil(result.out:find("value of", 1, true))
        local objects = cli.objects(assert_exit(0, csms { "show", "secret-0003", "--json" }))
        assert.equal("secret-0003", objects[1].name)
    end)

    it("takes a NAME that begins with '-' after '--'", function()
        emu:create { name = "-dash", value = "v" }
        assert_exit(2, csms { "show", "-dash" })
        assert.matches("name +%-dash\n", assert_exit(0, csms { "show", "--", "-dash" }).out)
    end)

    it("knows names with a period", function()
        emu:create { name = "with.period", value = "v" }
        assert_exit(0, csms { "show", "with.period" })
    end)
end)

describe("csms backup --stdout and inspect", function()
    it("prints the blob alone, which restores the secret", function()
        local blob = assert_exit(0, csms { "backup", "secret-0003", "--stdout" }).out
        local result = assert_exit(0, csms({ "inspect", "-" }, { stdin = blob }))
        assert.matches("complete +yes", result.out)
        local before = emu:secret("secret-0003")
        emu:delete "secret-0003"
        result = assert_exit(0, csms({ "restore", "-" }, { stdin = blob }))
        assert.matches("restored secret%-0003", result.err)
        local after = emu:secret("secret-0003")
        assert.same(before.versions, after.versions)
    end)

    it("tells of a blob that is cut, of another file, and of several", function()
        local blob = csms({ "backup", "secret-0003", "--stdout" }).out
        local result = assert_exit(8, csms({ "inspect", "-" }, { stdin = blob:sub(1, 700) }))
        assert.matches("problem +the tag is missing", result.out)
        assert_exit(3, csms({ "inspect", "-", "spec/data/blobs/s23.blob" }, { stdin = blob }))
        assert.matches("3 where another one is", csms({ "inspect", "--help" }).out)
        result = assert_exit(8, csms({ "inspect", "-" }, { stdin = "something else" }))
        assert.matches("no CSMS backup blob", result.err)
        assert.matches("No such file", assert_exit(7, csms { "inspect", "/nonexistent" }).err)
        result = assert_exit(3,
            csms({ "inspect", "-", "/nonexistent", "--json" }, { stdin = blob }))
        local objects, summary = cli.objects(result)
        assert.is_true(objects[1].complete)
        assert.is_false(objects[2].complete)
        assert.equal(1, summary.ok)
        assert.equal(1, summary.failed)
    end)

    it("keeps control characters of a file's name off the terminal", function()
        local folder = files.temporary()
        local file = folder .. "/a\27[2J"
        os.execute(cli.command({ "backup", "secret-0003", "--stdout" }, emu.env)
            .. " >" .. cli.quote(file))
        local result = assert_exit(0, csms { "inspect", file })
        files.remove(folder)
        assert.matches("/a?[2J:\n", result.out, 1, true)
    end)

    it("reads no more of a file than a blob can be long", function()
        for _, args in ipairs { { "inspect", "/dev/zero" }, { "restore", "/dev/zero" } } do
            local result = assert_exit(7, csms(args))
            assert.matches("/dev/zero is no blob: it is longer than 16 MiB", result.err, 1, true)
        end
        assert.matches("cannot read /tmp: Is a directory",
            assert_exit(7, csms { "inspect", "/tmp" }).err, 1, true)
        assert_exit(8, csms({ "inspect", "-" }, { stdin = "" }))
    end)

    it("does not send a blob that is cut, unless it is forced to", function()
        local blob = csms({ "backup", "secret-0003", "--stdout" }).out:sub(1, 700)
        emu:clear_requests()
        assert.matches("not whole", assert_exit(7, csms({ "restore", "-" }, { stdin = blob })).err)
        assert.equal(0, #emu:requests "restore")
        assert_exit(3, csms({ "restore", "-", "--force" }, { stdin = blob }))
        assert.equal(1, #emu:requests "restore")
    end)

    it("does so with what is no blob, and sends one of a format that it does not know", function()
        local text = "service:temporarily:out"
        local blob = csms({ "backup", "secret-0003", "--stdout" }).out:gsub("BackupV1", "BackupV2")
        emu:clear_requests()
        local result = assert_exit(7, csms({ "restore", "-" }, { stdin = text }))
        assert.matches("%-%-force tries", result.err)
        assert.equal(0, #emu:requests "restore")
        assert_exit(3, csms({ "restore", "-", "--force" }, { stdin = text }))
        result = assert_exit(3, csms({ "restore", "-" }, { stdin = blob }))
        assert.matches("warning: %-: its format is not known", result.err)
        assert.equal(2, #emu:requests "restore")
    end)

    it("restores nothing with --dry-run", function()
        local blob = csms({ "backup", "secret-0003", "--stdout" }).out
        local result = assert_exit(0, csms({ "restore", "-", "--dry-run" }, { stdin = blob }))
        assert.matches("would restore", result.out)
        result = assert_exit(7, csms({ "restore", "-", "--dry-run", "--force" }, { stdin = "" }))
        assert.matches("the blob is empty", result.err)
        assert.equal(0, #emu:requests "restore")
    end)
end)

describe("an exit code", function()
    local codes = require "csms.cli.exit_codes"

    it("is that of the failures where nothing is done and they are of one kind", function()
        assert.equal(0, codes.of_several(0, {}))
        assert.equal(5, codes.of_several(0, { [5] = true }))
        assert.equal(3, codes.of_several(1, { [5] = true }))
        assert.equal(3, codes.of_several(0, { [5] = true, [6] = true }))
    end)

    it("tells the deadline of a run from an attempt that took too long", function()
        local late, slow = { kind = "timeout" }, { kind = "timeout", retryable = true }
        assert.equal(10, codes.of_error(late, { deadline = true }))
        assert.equal(5, codes.of_error(slow, { deadline = true }))
        assert.equal(5, codes.of_error(late, {}))
    end)

    local function fault(fields)
        fields.times = 0
        emu:fault(fields)
    end

    it("is 1 for a mistake in csms, which is one line and what to do with it", function()
        local folder = files.temporary()
        for code, message in pairs {
            ["error {}"] = "table: [^\n]*",
            ["local x = [[x]] while true do x = x .. x end"] = "not enough memory",
        } do
            os.execute(("mkdir -p %s/csms/cli; echo '%s' > %s/csms/cli/list.lua")
                :format(folder, code, folder))
            local env = { LUA_PATH = folder .. "/?.lua;" .. os.getenv "LUA_PATH" }
            local pipe = io.popen(("ulimit -v 600000; %s 2>&1; echo $?")
                :format(cli.command({ "list" }, env)))
            assert.matches("^csms: internal error: " .. message
                .. "\ncsms: [^\n]* report this[^\n]*\n1\n$", pipe:read "*a")
            pipe:close()
        end
        files.remove(folder)
    end)

    -- The environment of a csms whose module fails to load.
    local function failing(module, problem)
        return { LUA_INIT = ("package.preload[%q] = function() error(%q, 0) end")
            :format(module, problem) }
    end

    it("is 130 for Ctrl-C while modules are loaded, without a word", function()
        for _, module in ipairs { "csms.cli.streams", "csms.cli.arguments", "csms.cli.output",
            "csms.cli.exit_codes", "csms.core", "csms.cli.list" } do
            local result = cli.start({ "list" }, { env = failing(module, "interrupted!") }):wait()
            assert.equal("", assert_exit(130, result).err)
        end
    end)

    it("is 1 where a module is not installed, which is named", function()
        local env = failing("argparse", "module 'argparse' not found:\n\tno file '/x'")
        local result = cli.start({ "list" }, { env = env }):wait()
        assert.matches("^csms: module 'argparse' not found: install it[^\n]*\n$",
            assert_exit(1, result).err)
    end)

    it("is 1 where stdout cannot be written to", function()
        for _, args in ipairs { { "list" }, { "list", "--json" }, { "--help" },
            { "backup", "secret-0001", "--stdout" } } do
            local result = assert_exit(1, csms(args, { stdout = "/dev/full" }))
            assert.matches("cannot write to standard output", result.err)
        end
    end)

    it("is 1 where stdout is closed, and nothing of it goes elsewhere", function()
        local result = assert_exit(1, csms({ "list" }, { closed = "1" }))
        assert.matches("standard output: it is closed", result.err)
    end)

    it("is 141 where the reader of stdout has gone, without a word", function()
        local folder = files.temporary()
        local status, err = folder .. "/status", folder .. "/err"
        for _, args in ipairs { { "list", "--json" }, { "list" }, { "--help" },
            { "backup", "secret-0001", "--stdout" } } do
            for _, signal in ipairs { "default", "ignore" } do
                local command = cli.command(args, emu.env)
                    :gsub("^env ", "%0--" .. signal .. "-signal=PIPE ")
                    :gsub("(default%-signal=INT,TERM),PIPE", "%1")
                -- The command waits for a reader that has closed its end, and the shell for it.
                os.remove(status)
                os.execute(("{ until [ -e %s ]; do sleep 0.01; done; %s 2>%s; echo $? >%s; } "
                    .. "| { exec <&-; >%s; }"):format(status, command, err, status, status))
                assert.equal("141\n", files.read(status))
                assert.equal("", files.read(err))
            end
        end
        files.remove(folder)
    end)

    it("is 4 for a secret that is not there", function()
        for _, args in ipairs { { "show", "nope" }, { "backup", "nope", "--stdout" } } do
            assert.matches("csms list", assert_exit(4, csms(args)).err)
        end
    end)

    it("is not 4 for what else is not there: the KMS key, the service at this endpoint", function()
        fault { operation = "show", status = 404, code = "KMS.0207" }
        fault { operation = "list", status = 404, code = "APIG.0101" }
        fault { operation = "backup", status = 404, code = "APIGW.0101" }
        assert.is_nil(assert_exit(3, csms { "show", "secret-0001" }).err:find "csms list")
        for _, args in ipairs { { "list" }, { "backup", "secret-0001", "--stdout" } } do
            assert.matches("csms doctor", assert_exit(7, csms(args)).err)
        end
    end)

    it("is 5 where it may pass", function()
        fault { operation = "show", status = 503 }
        fault { operation = "list", status = 429, headers = { ["Retry-After"] = "1000" } }
        fault { operation = "backup", close = "connection" }
        for _, args in ipairs { { "show", "secret-0001" }, { "list" },
            { "backup", "secret-0001", "--stdout" },
            { "list", "--endpoint", "https://localhost:1" } } do
            assert.matches("run the same command again", assert_exit(5, csms(args)).err)
        end
    end)

    it("is 6 for keys that are refused, missing, or lack a permission", function()
        fault { operation = "show", status = 403 }
        assert.matches("csms:secret:get", assert_exit(6, csms { "show", "secret-0001" }).err)
        assert_exit(6, csms({ "list" }, { env = { HUAWEICLOUD_SDK_SK = "wrong" } }))
        assert_exit(6, csms({ "list" }, { env = { HUAWEICLOUD_SDK_AK = false,
            CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1" } }))
    end)

    it("is 7 for configuration, arguments and TLS", function()
        local cases = {
            { { "list", "--region", "nowhere-1" }, { CSMS_ENDPOINT = false } },
            { { "list" }, { CSMS_ENDPOINT = false, CSMS_REGION = false } },
            { { "list", "--project", "short" } },
            { { "list", "--endpoint", "http://example.invalid" } },
            { { "show", "a/b" } },
            { { "list" }, { CSMS_CA_FILE = false } },
            { { "list", "--ca-file", "/nonexistent" } },
            { { "restore", "/nonexistent" } },
            { { "verify", "/nonexistent" } },
        }
        for _, case in ipairs(cases) do assert_exit(7, csms(case[1], { env = case[2] })) end
        assert.equal(0, #emu:requests())
    end)

    it("is 3 for any other kind of failure", function()
        fault { operation = "show", status = 400, code = "CSMS.0401" }
        fault { operation = "list", status = 200, body = '{"secrets": 7}' }
        assert_exit(3, csms { "show", "secret-0001" })
        local _, summary = cli.objects(assert_exit(3, csms { "list", "--json" }))
        assert.equal("protocol", summary.kind)
    end)

    it("is 10 where the deadline ended it", function()
        fault { operation = "list", delay = 60 }
        assert.matches("deadline", assert_exit(10, csms { "list", "--deadline", "1s" }).err)
    end)

    it("is 130 or 143 after a signal, whichever command it is", function()
        -- What is under way has 10 s to end, or until the deadline; where a machine that stands
        -- still lets this pass before the signal, a later one is tried.
        local function interrupted(signal)
            local result
            for _, deadline in ipairs { "2s", "10s", "30s" } do
                emu:clear_requests()
                local process = cli.start({ "list", "--deadline", deadline }, { env = emu.env })
                cli.wait_for("the request", function() return #emu:requests "list" > 0 end)
                process:signal(signal)
                result = process:wait()
                if result.exit ~= 10 then break end
            end
            return result
        end
        fault { delay = 60 }
        for signal, code in pairs { INT = 130, TERM = 143 } do
            assert.matches("interrupted", assert_exit(code, interrupted(signal)).err)
        end
    end)
end)

describe("csms doctor", function()
    local function checks(result)
        local found = {}
        for _, object in ipairs((cli.objects(result))) do
            if object.type == "check" then found[object.name] = object end
        end
        return found
    end

    it("finds nothing wrong with a good set-up", function()
        local found = checks(assert_exit(0, csms { "doctor", "--json" }))
        for _, name in ipairs { "endpoint", "clock", "credentials", "project", "list", "backup" } do
            assert.equal("ok", found[name].outcome, name)
        end
        assert.equal("not_checked", found.restore.outcome)
        assert.matches("env", found.credentials.message)
        assert.matches(emu.project, found.project.message, 1, true)
    end)

    it("never prints a key", function()
        local result = csms { "doctor" }
        assert.is_nil((result.out .. result.err):find(emu.sk, 1, true))
        assert.is_nil((result.out .. result.err):find(emu.ak, 1, true))
    end)

    it("looks up the project where none is named", function()
        local env = { HUAWEICLOUD_SDK_PROJECT_ID = false }
        local found = checks(assert_exit(0, csms({ "doctor", "--json" }, { env = env })))
        assert.equal(emu.project, found.project.message)
    end)

    it("tells how far the clock is off, and that 15 minutes are allowed", function()
        emu:set { clock_offset = 3600 }
        local result = assert_exit(7, csms { "doctor" })
        assert.matches("FAILED  clock +config: 3[56]%d%d s behind the service's", result.out)
        assert.matches("15 minutes", result.out)
        assert.matches("timedatectl", result.out)
    end)

    local cases = {
        { "configuration", 7, {}, { CSMS_ENDPOINT = false, CSMS_REGION = false } },
        { "endpoint", 5, { "--endpoint", "https://localhost:1" }, {} },
        { "endpoint", 7, {}, { CSMS_CA_FILE = false } },
        { "credentials", 6, {}, { HUAWEICLOUD_SDK_AK = false,
            CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1" } },
        { "project", 7, { "--project", "short" }, {} },
        { "list", 6, {}, { HUAWEICLOUD_SDK_SK = "wrong" } },
    }
    for _, case in ipairs(cases) do
        it(("names what is wrong: %s, exit code %d"):format(case[1], case[2]), function()
            local args = { "doctor", "--json" }
            for _, arg in ipairs(case[3]) do args[#args + 1] = arg end
            local found = checks(assert_exit(case[2], csms(args, { env = case[4] })))
            assert.equal("failed", found[case[1]].outcome)
            assert.is_string(found[case[1]].mend)
            assert.is_nil(found[case[1]].mend:find("csms doctor", 1, true))
            if found.backup then assert.matches("it needs", found.backup.message) end
        end)
    end

    it("is 10 where the deadline ended it, and names the one that was given", function()
        emu:fault { operation = "list", delay = 60, times = 0 }
        for _, deadline in ipairs { "0.001", "1" } do
            local result = assert_exit(10, csms { "doctor", "--deadline", deadline })
            assert.matches("FAILED +%a+ +timeout: the deadline of " .. deadline .. " s has passed",
                result.out)
            assert.matches("to mend it: .*allow more time with %-%-deadline", result.out)
        end
    end)

    it("asks for no permission where the service failed", function()
        for _, name in ipairs { "list", "backup" } do
            emu:fault { operation = name, status = 503, times = 0 }
            local found = checks(assert_exit(5, csms { "doctor", "--json" }))
            assert.equal("this may pass: run the same command again", found[name].mend)
            emu:reset()
        end
    end)

    it("says of a restore what no document says", function()
        assert.matches("which permission it needs is not documented", csms({ "doctor" }).out)
    end)

    it("has a help that tells how long a check may take", function()
        assert.matches("Each check has 30 seconds", csms({ "doctor", "--help" }).out)
    end)

    it("finds a missing permission to back up", function()
        emu:fault { operation = "backup", status = 403, times = 0 }
        local found = checks(assert_exit(6, csms { "doctor", "--json" }))
        assert.equal("ok", found.list.outcome)
        assert.equal("denied", found.backup.kind)
        emu:fault { operation = "list", status = 403, times = 0 }
        found = checks(assert_exit(6, csms { "doctor", "--json" }))
        assert.matches("try `csms backup NAME %-%-stdout`", found.backup.message)
    end)
end)
