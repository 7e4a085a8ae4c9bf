-- The credentials file of the official SDKs: every form of it, every way in which it fails.

local cases = require "spec.support.cases"
local core = require "csms.core"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local runtime = require "csms.runtime"

local failure = cases.failure
local profile = require("csms.credentials.profile").new

local AK, SK, TOKEN = "AKIDEXAMPLE12345", "SKSECRETSECRET67890", "MIIETOKENTOKEN"
local BASIC = ("[basic]\nak = %s\nsk = %s\n"):format(AK, SK)

local folder

local function shell(command, ...)
    assert(os.execute(command:format(...)))
end

setup(function()
    folder = files.temporary()
end)

teardown(function() files.remove(folder) end)

-- Its permissions are the process's umask's, unless said.
local function write(text, name, mode)
    local path = folder .. "/" .. (name or "credentials")
    os.remove(path) -- it may be read-only
    files.write(path, text)
    if mode then shell("chmod %s '%s'", mode, path) end
    return path
end

local function nothing() end

-- A provider of a file, whatever the environment says.
local function of_text(text)
    return profile(write(text), nothing)
end

local function keys(ak, sk, token)
    return assert(core.credential.keys(ak, sk, token))
end

-- nil, or the error and whether the source has nothing to offer
local function refusal(provider)
    local credential, err, absent = provider:get()
    return failure("credentials", credential, err), absent or false
end

-- ---- the file's forms -------------------------------------------------------

-- What is made of a file: its keys, or what `knows` says besides.
local FORMS = {
    { "the plain form", BASIC },
    { "no blanks", ("[basic]\nak=%s\nsk=%s"):format(AK, SK) },
    { "colons", ("[basic]\nak: %s\nsk : %s\n"):format(AK, SK) },
    { "lines that end in CR LF", (BASIC:gsub("\n", "\r\n")) },
    { "blanks and tabs around everything",
        ("\t[ basic ] \n  ak\t =  %s\t\n sk =%s \n"):format(AK, SK) },
    { "upper-case names", ("[BASIC]\nAK = %s\nSk = %s\n"):format(AK, SK) },
    { "comments and empty lines",
        ("# a\n; b\n\n[basic]\n#ak = x\n  ; sk = x\nak = %s\n\n   \nsk = %s\n# sk = x"):format(
            AK, SK) },
    { "other sections before and after",
        ("[global]\nak = x\nsk = x\n%s[other]\nak = y\nsk = y\nproject_id = y\n"):format(BASIC) },
    { "names before any section", "ak = x\nsk = x\n" .. BASIC },
    { "keys of other programs",
        BASIC .. "domain_id = x\nidp_id = x\nnonsense =\nak_ = x\na = x\n" },
    { "the last of two", "[basic]\nak = x\nsk = x\n" .. BASIC },
    { "a section in two parts",
        ("[basic]\nak = %s\n[global]\nsk = x\n[basic]\nsk = %s\n"):format(AK, SK) },
    { "no line end at the end", BASIC:sub(1, -2) },
    { "an empty security token", BASIC .. "security_token =\n" },
    { "an empty project", BASIC .. "project_id =  \niam_endpoint:\n" },
    { "a security token", BASIC .. "security_token = " .. TOKEN, token = TOKEN },
    { "a project and an IAM endpoint",
        BASIC .. "project_id = abc\niam_endpoint = https://iam.example:8443/\n",
        project_id = "abc", iam_endpoint = "https://iam.example:8443/" },
    { "'=' and ':' in values", "[basic]\nak = a=b:c==\nsk: d:e=f:\nsecurity_token==:=\n",
        ak = "a=b:c==", sk = "d:e=f:", token = "=:=" },
    { "'#', ';' and brackets in values", "[basic]\nak = a#b;c\nsk = [d];#\n",
        ak = "a#b;c", sk = "[d];#" },
    { "quotes, which are part of a value", "[basic]\nak = \"a\"\nsk = 'b'\n",
        ak = '"a"', sk = "'b'" },
    { "a key of one character each", "[basic]\nak = a\nsk = b\n", ak = "a", sk = "b" },
    { "a long security token", BASIC .. "security_token = " .. ("t"):rep(60000),
        token = ("t"):rep(60000) },
    { "many lines", ("# filler\n"):rep(20000) .. BASIC },
}

describe("a profile file may have", function()
    for _, form in ipairs(FORMS) do
        it(form[1], function()
            local provider = of_text(form[2])
            local credential = assert(provider:get())
            assert.is_true(credential:same(keys(form.ak or AK, form.sk or SK, form.token)))
            assert.equal(form.token ~= nil, credential:temporary())
            assert.equal(form.project_id, provider.project_id)
            assert.equal(form.iam_endpoint, provider.iam_endpoint)
        end)
    end

    it("keys of which one character is another's", function()
        local credential = assert(of_text(BASIC):get())
        assert.is_false(credential:same(keys(AK, SK .. "x")))
        assert.is_false(credential:same(keys(AK .. "x", SK)))
        assert.is_false(credential:same(keys(AK, SK, TOKEN)))
    end)
end)

-- ---- what is not there ------------------------------------------------------

-- What another source of a chain may stand in for.
local ABSENT = {
    { "is empty", "", "no section [basic]" },
    { "has no section [basic]", "[global]\nak = x\nsk = x\n", "no section [basic]" },
    { "has keys in no section", "ak = x\nsk = x\n", "no section [basic]" },
    { "has a section [basics]", "[basics]\nak = x\nsk = x\n", "no section [basic]" },
    { "has an empty section [basic]", "[basic]\n", "needs both ak and sk" },
    { "lacks sk", "[basic]\nak = " .. AK, "needs both ak and sk" },
    { "lacks ak", "[basic]\nsk = " .. SK, "needs both ak and sk" },
    { "has an empty sk", "[basic]\nak = " .. AK .. "\nsk = \n", "needs both ak and sk" },
    { "has an empty ak", "[basic]\nak =\nsk = " .. SK, "needs both ak and sk" },
    { "has sk in another section only", "[basic]\nak = x\n[global]\nsk = x", "both ak and sk" },
}

describe("a profile has nothing to offer where its file", function()
    for _, form in ipairs(ABSENT) do
        it(form[1], function()
            local provider = of_text(form[2])
            local err, absent = refusal(provider)
            assert.is_true(absent)
            assert.matches("credentials.profile: " .. provider.path, err.message, 1, true)
            assert.matches(form[3], err.message, 1, true)
            assert.is_nil(tostring(err):find(SK, 1, true))
        end)
    end

    it("is not there", function()
        for _, path in ipairs { folder .. "/absent", folder .. "/absent/credentials",
            write(BASIC) .. "/credentials" } do
            local err, absent = refusal(profile(path, nothing))
            assert.is_true(absent)
            assert.matches(path .. " is not there", err.message, 1, true)
        end
    end)

    it("has no name, because neither variable is set", function()
        local err, absent = refusal(profile(nil, nothing))
        assert.is_true(absent)
        assert.matches("HUAWEICLOUD_SDK_CREDENTIALS_FILE", err.message, 1, true)
        assert.matches("HOME", err.message, 1, true)
    end)
end)

-- ---- what is broken ---------------------------------------------------------

-- line: the number that the message names
local BROKEN = {
    { "a line without a sign", "[basic]\nak = " .. AK .. "\n" .. SK .. "\n", line = 3 },
    { "a line without a name", "[basic]\n= " .. SK .. "\n", line = 2 },
    { "a line that begins with a colon", "[basic]\n\n\n: " .. SK .. "\n", line = 4 },
    { "a section without an end", "[basic\nak = " .. AK .. "\nsk = " .. SK, line = 1 },
    { "a section without a name", BASIC .. "[]\n", line = 4 },
    { "a bad line in another section", BASIC .. "[other]\n" .. SK, line = 5 },
    { "a bad line with lines that end in CR LF", "[basic]\r\n\r\n" .. SK .. "\r\n", line = 3 },
    { "a byte order mark", "\239\187\191" .. BASIC, line = 1 },
    { "a NUL", "[basic]\n\0\n", line = 2 },
}

describe("a profile fails, and stops a chain, where its file", function()
    local function broken(provider)
        local err, absent = refusal(provider)
        assert.is_false(absent)
        assert.matches("^credentials%.profile: ", err.message)
        assert.is_false(err.retryable)
        for _, secret in ipairs { SK, TOKEN, AK:sub(1, 5) } do
            assert.is_nil(tostring(err):find(secret, 1, true))
        end
        return err
    end

    for _, form in ipairs(BROKEN) do
        it("has " .. form[1], function()
            local provider = of_text(form[2])
            local err = broken(provider)
            assert.matches(provider.path, err.message, 1, true)
            assert.matches("line " .. form.line .. " is neither", err.message, 1, true)
        end)
    end

    it("is a folder", function()
        local err = broken(profile(folder, nothing))
        assert.matches(folder .. ": it is not a file", err.message, 1, true)
    end)

    it("is a device", function()
        assert.matches("it is not a file", broken(profile("/dev/null", nothing)).message, 1, true)
    end)

    it("is a pipe that nobody writes to, without waiting for somebody", function()
        local path = folder .. "/pipe"
        shell("mkfifo '%s'", path)
        local _, _, err = cases.within(2, function()
            -- opens the other end, so that this ends even where it does wait
            shell("(sleep 3; exec 3<>'%s') >/dev/null 2>&1 &", path)
            return profile(path, nothing):get()
        end)
        assert.matches("it is not a file", err.message, 1, true)
    end)

    it("cannot be opened", function()
        local path = folder .. "/loop"
        shell("ln -s loop '%s'", path)
        local err = broken(profile(path, nothing))
        assert.matches(path .. ": it cannot be opened; check its permissions", err.message, 1, true)
        assert.is_string(err.cause)
    end)

    it("cannot be read", function()
        local err = broken(profile("/proc/self/mem", nothing)) -- its first page is none
        assert.matches("/proc/self/mem: it cannot be read", err.message, 1, true)
        assert.is_string(err.cause)
    end)

    if files.read("/proc/self/status"):match("Uid:%s+(%d+)") == "0" then
        pending("is not the user's to read (root may read everything)")
    else
        it("is not the user's to read", function()
            local err = broken(profile(write(BASIC, "locked", "000"), nothing))
            assert.matches("check its permissions", err.message, 1, true)
        end)
    end

    it("is over 256 KiB", function()
        local err = broken(of_text(BASIC .. ("# filler\n"):rep(30000)))
        assert.matches("it is over 256 KiB", err.message, 1, true)
    end)

    it("is so large that it would take long to read", function()
        local path = write(BASIC, "huge")
        shell("truncate -s 32G %s", path)
        local from = core.now()
        local err = broken(profile(path, nothing))
        assert.matches("it is over 256 KiB", err.message, 1, true)
        assert.is_true(core.now() - from < 5)
    end)

    it("has a key that no header can hold", function()
        for part, text in pairs {
            ["secret key"] = "[basic]\nak = a\nsk = " .. SK .. " " .. SK,
            ["access key"] = "[basic]\nak = " .. AK .. "\195\169\nsk = b",
            ["security token"] = BASIC .. "security_token = " .. TOKEN .. "\1",
        } do
            assert.matches(part, broken(of_text(text)).message, 1, true)
        end
    end)

    it("has values that are too long", function()
        for part, text in pairs {
            ["secret key"] = "[basic]\nak = a\nsk = " .. ("s"):rep(65 * 1024),
            ["security token"] = BASIC .. "security_token = " .. ("s"):rep(65 * 1024),
            ["project_id"] = BASIC .. "project_id = " .. ("p"):rep(1025),
            ["iam_endpoint"] = BASIC .. "iam_endpoint = " .. ("i"):rep(1025),
        } do
            local err = broken(of_text(text))
            assert.matches(part, err.message, 1, true)
            assert.matches("over %d+ bytes", err.message)
        end
    end)
end)

-- ---- which file -------------------------------------------------------------

describe("the file's name", function()
    local function env(variables)
        return function(name) return variables[name] end
    end

    it("is the argument, else the variable, else below HOME", function()
        local variables = { HOME = "/home/x", HUAWEICLOUD_SDK_CREDENTIALS_FILE = "/a/file" }
        assert.equal("/an/argument", profile("/an/argument", env(variables)).path)
        assert.equal("/a/file", profile(nil, env(variables)).path)
        variables.HUAWEICLOUD_SDK_CREDENTIALS_FILE = ""
        assert.equal("/home/x/.huaweicloud/credentials", profile(nil, env(variables)).path)
    end)

    it("is read when the provider is made and never later", function()
        local variables = { HUAWEICLOUD_SDK_CREDENTIALS_FILE = write(BASIC) }
        local provider = profile(nil, env(variables))
        variables.HUAWEICLOUD_SDK_CREDENTIALS_FILE = nil
        assert(provider:get())
    end)

    it("comes from the process's environment", function()
        local show = [[print(require("csms").credentials.profile():get())]]
        local path = write(BASIC)
        local output = cases.run(show, { HUAWEICLOUD_SDK_CREDENTIALS_FILE = path })
        assert.equal("csms credential (AKID****)\n", output)
        shell("mkdir -p '%s/.huaweicloud'", folder)
        write("[basic]\nak = HOMEHOMEHOME\nsk = x\n", ".huaweicloud/credentials")
        output = cases.run(show, { HOME = folder, HUAWEICLOUD_SDK_CREDENTIALS_FILE = "" })
        assert.equal("csms credential (HOME****)\n", output)
    end)

    it("raises where it is no string", function()
        for _, value in ipairs { 5, true, {}, print } do
            local ok, message = pcall(function() return (csms.credentials.profile(value)) end)
            assert.is_false(ok)
            assert.matches("profile_spec%.lua:%d+: bad argument #1", message)
        end
    end)

    it("is looked at only when keys are wanted", function()
        local path = folder .. "/later"
        os.remove(path)
        local provider = profile(path, nothing)
        refusal(provider)
        write(BASIC, "later")
        assert(provider:get())
    end)
end)

-- ---- its life ---------------------------------------------------------------

describe("a profile", function()
    -- The warnings of one get.
    local function warnings_of(mode)
        local events = {}
        local provider = profile(write(BASIC, "mode", mode), nothing)
        local context = {
            runtime = runtime, emit = function(event) events[#events + 1] = event end,
        }
        assert(provider:get(nil, context))
        assert(provider:get(nil, context))
        return events, provider
    end

    it("warns once where others can read the file, and says what to do", function()
        for _, mode in ipairs { "640", "604", "644", "620", "602", "610", "601", "666" } do
            local events, provider = warnings_of(mode)
            assert.equal(1, #events)
            assert.equal("warning", events[1].event)
            assert.matches("chmod 600 " .. provider.path, events[1].message, 1, true)
        end
    end)

    it("does not warn where only the owner can read it", function()
        for _, mode in ipairs { "600", "400", "700" } do
            assert.same({}, (warnings_of(mode)))
        end
    end)

    it("keeps what it read", function()
        local provider = of_text(BASIC)
        local credential = assert(provider:get())
        os.remove(provider.path)
        assert.equal(credential, provider:get())
    end)

    it("reads the file again where its keys were refused", function()
        local provider = of_text(BASIC)
        local first = assert(provider:get())
        write("[basic]\nak = OTHER\nsk = OTHER\nproject_id = other\n")
        assert.equal(first, provider:get())
        local second = assert(provider:get(first))
        assert.is_false(second == first)
        assert.is_true(second:same(keys("OTHER", "OTHER")))
        assert.equal("other", provider.project_id)
        assert.equal(second, provider:get())
        assert.equal(second, provider:get(first)) -- a late refusal of the first
    end)

    it("cannot renew where the file has the same keys", function()
        local provider = of_text(BASIC)
        local first = assert(provider:get())
        write("# edited\n" .. BASIC)
        assert.equal(first, provider:get(first))
        assert.is_true(first:same(keys(AK, SK)))
    end)

    it("fails where the file that is read again is broken", function()
        local provider = of_text(BASIC)
        local first = assert(provider:get())
        write(SK)
        failure("credentials", provider:get(first))
    end)

    it("wipes its keys when it is closed, and answers an error from then on", function()
        local provider = of_text(BASIC)
        local credential = assert(provider:get())
        provider:close()
        provider:close()
        assert.equal("csms credential (closed)", tostring(credential))
        assert.matches("closed", refusal(provider).message, 1, true)
    end)

    it("shows its path and none of its keys", function()
        local provider = of_text(BASIC)
        assert(provider:get())
        assert.equal(("csms credentials.profile (%s)"):format(provider.path), tostring(provider))
        assert.equal("csms credentials.profile (no path)", tostring(profile(nil, nothing)))
    end)

    it("is not made for a path that C would cut", function()
        local _, err = profile("/nonexistent/credentials\0.production", nothing)
        assert.equal("config", err.kind)
        assert.matches("the path holds a NUL", err.message, 1, true)
    end)

    it("keeps no key in a table", function()
        local provider = of_text(BASIC .. "security_token = " .. TOKEN)
        assert(provider:get())
        for _, value in pairs(provider) do
            for _, secret in ipairs { AK, SK, TOKEN } do
                assert.is_true(type(value) ~= "string" or not value:find(secret, 1, true))
            end
        end
    end)
end)

-- ---- in a client ------------------------------------------------------------

describe("a client with a profile", function()
    local emu

    setup(function() emu = emulator.start { secrets = 3 } end)
    teardown(function() emu:stop() end)
    before_each(function() emu:reset() end)

    local function text_of(ak, sk, token, more)
        return ("[basic]\nak = %s\nsk = %s\nsecurity_token = %s\n%s"):format(ak, sk, token or "",
            more or "")
    end

    -- A client in a process of its own, with nothing but this file and what `changes` set.
    local function run(text, chunk, changes)
        local variables = {
            HUAWEICLOUD_SDK_CREDENTIALS_FILE = write(text), CSMS_ENDPOINT = emu.endpoint,
            CSMS_CA_FILE = emu.ca_file, CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1",
            HC_CONTAINER_CREDENTIALS_FULL_URI = "",
        }
        for name, value in pairs(changes or {}) do variables[name] = value end
        return cases.run("local csms = require 'csms'\n" .. chunk, variables)
    end

    local BACKUP = [[print(type(csms.backup(nil, "secret-0001")))]]

    it("takes keys and project from it", function()
        local output = run(text_of(emu.ak, emu.sk, nil, "project_id = " .. emu.project), BACKUP)
        assert.equal("string\n", output)
        assert.same({}, emu:requests("iam_projects"))
    end)

    it("prefers the environment's keys and project", function()
        local output = run(text_of("WRONGWRONG", "x", nil, "project_id = " .. ("0"):rep(32)),
            BACKUP, { HUAWEICLOUD_SDK_AK = emu.ak, HUAWEICLOUD_SDK_SK = emu.sk,
                HUAWEICLOUD_SDK_PROJECT_ID = emu.project })
        assert.equal("string\n", output)
    end)

    it("asks the IAM endpoint of it for the project", function()
        local text = text_of(emu.ak, emu.sk, nil, "iam_endpoint = " .. emu.iam_endpoint)
        assert.equal("string\n", run(text, BACKUP, { CSMS_REGION = emu.region }))
        assert.equal(1, #emu:requests("iam_projects"))
    end)

    it("asks that one before the environment's, and the config's before both", function()
        local environment = {
            CSMS_REGION = emu.region, HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://127.0.0.1:1",
        }
        local text = text_of(emu.ak, emu.sk, nil, "iam_endpoint = " .. emu.iam_endpoint)
        assert.equal("string\n", run(text, BACKUP, environment))
        text = text_of(emu.ak, emu.sk, nil, "iam_endpoint = https://127.0.0.1:1")
        assert.equal("string\n", run(text, ("assert(csms.configure { iam_endpoint = %q }) %s")
            :format(emu.iam_endpoint, BACKUP), environment))
        assert.equal(2, #emu:requests("iam_projects"))
    end)

    it("sends its security token", function()
        local key = emu:issue_key { temporary = true }
        local output = run(text_of(key.access, key.secret, key.securitytoken,
            "project_id = " .. emu.project), BACKUP)
        assert.equal("string\n", output)
        assert.equal("temporary", emu:requests("backup")[1].auth)
    end)

    it("goes on with the keys that replace temporary ones", function()
        local one = emu:issue_key { temporary = true }
        local path = write(text_of(one.access, one.secret, one.securitytoken))
        local events = {}
        local client = cases.client(emu, {
            credentials = profile(path, nothing), retry = { attempts = 4 },
            on_event = function(event) events[#events + 1] = event.event end,
        })
        assert.is_string(client:backup(nil, "secret-0001"))
        emu:revoke_keys()
        local two = emu:issue_key { temporary = true }
        write(text_of(two.access, two.secret, two.securitytoken))
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.equal(3, #emu:requests("backup"))
        assert.matches("renewed", table.concat(events, " "), 1, true)
    end)

    it("sends refused temporary keys once where the file has no others", function()
        local key = emu:issue_key { temporary = true }
        local client = cases.client(emu, {
            credentials = profile(write(text_of(key.access, key.secret, key.securitytoken)),
                nothing), retry = { attempts = 4 },
        })
        assert.is_string(client:backup(nil, "secret-0001"))
        emu:revoke_keys()
        failure("auth", client:backup(nil, "secret-0001"))
        assert.equal(2, #emu:requests("backup"))
    end)

    it("tells its program of a file that others can read", function()
        local path = write(text_of(emu.ak, emu.sk), "loose", "644")
        local events = {}
        local client = cases.client(emu, {
            credentials = profile(path, nothing),
            on_event = function(event)
                if event.event == "warning" then events[#events + 1] = event end
            end,
        })
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.is_string(client:backup(nil, "secret-0001"))
        assert.equal(1, #events)
        assert.matches(path, events[1].message, 1, true)
        assert.is_nil(events[1].message:find(emu.sk, 1, true))
    end)

    it("names the file and the remedy in the error of a call", function()
        local output = run("[basic]\nak = x\n", [[
            local _, err = csms.backup(("0"):rep(32), "name")
            print(err.kind, err.name, err.message)
        ]])
        assert.matches("^credentials\tname\t", output)
        assert.matches(folder .. "/credentials: [basic] needs both ak and sk", output, 1, true)
        assert.same({}, emu:requests())
    end)
end)
