-- Several sources in order: which one is asked, which one ends the search, what the error says.

local cases = require "spec.support.cases"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local errors = require "csms.errors"
local fixed = require "csms.credentials.fixed"
local metadata = require "csms.credentials.metadata"
local pod_identity = require "csms.credentials.pod_identity"
local profile = require "csms.credentials.profile"
local shared = require "csms.credentials.source"
local runtime = require "csms.runtime"

local chain = csms.credentials.chain
local failure = cases.failure

local function nothing() end

local KEYS = csms.credentials.static { ak = "ACCESSACCESS", sk = "SECRET" }:get()
local OTHER = csms.credentials.static { ak = "OTHEROTHER", sk = "SECRET" }:get()

-- A source that writes down when it is asked, and how.
local function source(name, log, result)
    local self = { asked = 0 }
    function self.get(_, refused, context)
        self.asked = self.asked + 1
        self.refused, self.context = refused, context
        log[#log + 1] = name
        if result.credential then return result.credential end
        local err = errors.new("credentials", ("credentials.%s: %s"):format(name, result.says))
        return nil, err, result.absent
    end
    function self.close() self.closed = true end
    return self
end

local ABSENT = { says = "nothing here", absent = true }
local BROKEN = { says = "it is broken", absent = false }
local GOOD = { credential = KEYS }

-- A chain of such sources, by what they do: its sources by name, and the log.
local function chain_of(...)
    local log, sources, list = {}, {}, {}
    for index, result in ipairs { ... } do
        local name = ("s%d"):format(index)
        sources[name] = source(name, log, result)
        list[index] = sources[name]
    end
    return assert(chain(list)), sources, log
end

describe("a chain", function()
    it("takes the first that has something, and asks no other", function()
        local made, _, log = chain_of(ABSENT, ABSENT, GOOD, { credential = OTHER })
        assert.equal(KEYS, made:get())
        assert.same({ "s1", "s2", "s3" }, log)
    end)

    it("asks the chosen one alone from then on", function()
        local made, sources, log = chain_of(ABSENT, GOOD, GOOD)
        for _ = 1, 3 do assert.equal(KEYS, made:get()) end
        assert.same({ "s1", "s2", "s2", "s2" }, log)
        assert.equal(0, sources.s3.asked)
    end)

    it("stays with the chosen one where that fails later", function()
        local made, sources, log = chain_of(ABSENT, GOOD, { credential = OTHER })
        assert(made:get())
        for _, absent in ipairs { true, false } do
            sources.s2.get = function()
                return nil, errors.new("credentials", "gone"), absent
            end
            assert.equal("gone", failure("credentials", made:get()).message)
        end
        assert.same({ "s1", "s2" }, log)
        assert.equal(0, sources.s3.asked)
    end)

    it("ends its search at a source that is broken", function()
        local made, sources, log = chain_of(ABSENT, BROKEN, GOOD)
        local credential, err, absent = made:get()
        failure("credentials", credential, err)
        assert.equal("credentials.s2: it is broken", err.message)
        assert.is_falsy(absent)
        assert.same({ "s1", "s2" }, log)
        assert.equal(0, sources.s3.asked)
    end)

    it("searches again at the next call where nothing was found", function()
        local made, sources, log = chain_of(ABSENT, BROKEN, GOOD)
        failure("credentials", made:get())
        sources.s2.get = function() return nil, errors.new("credentials", "s2"), true end
        assert.equal(KEYS, made:get())
        assert.same({ "s1", "s2", "s1", "s3" }, log)
    end)

    it("says what each source said, and offers nothing itself", function()
        local made = chain_of(ABSENT, { says = "no file", absent = true }, ABSENT)
        local credential, err, absent = made:get()
        failure("credentials", credential, err)
        assert.equal("no source has credentials: credentials.s1: nothing here; "
            .. "credentials.s2: no file; credentials.s3: nothing here", err.message)
        assert.is_true(absent)
        assert.is_false(err.retryable)
    end)

    it("tells its source of refused keys and of who asks", function()
        local made, sources = chain_of(ABSENT, GOOD)
        local context = { runtime = runtime, emit = nothing }
        made:get(KEYS, context)
        assert.equal(KEYS, sources.s1.refused)
        assert.equal(context, sources.s1.context)
        made:get(OTHER, context)
        assert.equal(OTHER, sources.s2.refused)
        assert.equal(context, sources.s2.context)
    end)

    it("may be part of another chain", function()
        local inner, _, log = chain_of(ABSENT, GOOD)
        local empty = chain_of(ABSENT)
        local made = assert(chain { empty, inner })
        assert.equal(KEYS, made:get())
        assert.same({ "s1", "s2" }, log)
    end)

    it("knows what its source knows of project and IAM", function()
        local made, sources = chain_of(ABSENT, GOOD)
        sources.s2.project_id, sources.s2.iam_endpoint = "a project", "https://iam"
        assert.is_nil(shared.known(made, "project_id"))
        assert(made:get())
        assert.equal("a project", shared.known(made, "project_id"))
        assert.equal("https://iam", shared.known(made, "iam_endpoint"))
        local outer = assert(chain { made })
        assert(outer:get())
        assert.equal("a project", shared.known(outer, "project_id"))
    end)

    it("may hold a program's own source, whatever that answers", function()
        local own = { get = function() return nil, "vault is shut" end }
        local credential, err = assert(chain { own }):get()
        assert.is_nil(credential)
        assert.matches("vault is shut", tostring(err), 1, true)
        for _, results in ipairs { {}, { nil, "vault is shut", true }, { nil, nil, true } } do
            local silent = { get = function() return results[1], results[2], results[3] end }
            local done, problem = pcall(function()
                return (assert(chain { silent }):get())
            end)
            assert.is_true(done, tostring(problem))
        end
    end)

    it("closes all its sources, and answers an error from then on", function()
        local made, sources = chain_of(ABSENT, GOOD, GOOD)
        assert(made:get())
        made:close()
        made:close()
        for _, one in pairs(sources) do assert.is_true(one.closed) end
        assert.matches("closed", failure("credentials", made:get()).message, 1, true)
    end)

    it("closes where one source cannot be closed", function()
        local made, sources = chain_of(GOOD, GOOD)
        sources.s1.close = nil
        made:close()
        assert.is_true(sources.s2.closed)
    end)

    it("shows which source it chose, and four characters of its key", function()
        local made = assert(chain {
            fixed.env(nothing), csms.credentials.static { ak = "ACCESSACCESS", sk = "SECRET" },
        })
        assert.equal("csms credentials.chain (nothing chosen yet)", tostring(made))
        assert(made:get())
        assert.equal("csms credentials.chain (csms credentials.static "
            .. "(csms credential (ACCE****)))", tostring(made))
    end)
end)

describe("the list of a chain", function()
    it("must hold providers", function()
        assert.matches("the list is empty", failure("config", chain {}).message, 1, true)
        for _, value in ipairs { 5, "env", true, {}, print, KEYS } do
            local err = failure("config", chain { fixed.env(nothing), value })
            assert.matches("element 2 is no provider", err.message, 1, true)
        end
    end)

    it("has no hole, where a provider could not be made, and no names", function()
        local env = fixed.env(nothing)
        for _, list in ipairs { { env, nil, env }, { nil, env }, { env, profile = env } } do
            local err = failure("config", chain(list))
            assert.matches("use assert() on each", err.message, 1, true)
        end
    end)

    it("raises where it is no table", function()
        for _, value in ipairs { 5, "env", true, print } do
            local ok, message = pcall(function() return (chain(value)) end)
            assert.is_false(ok)
            assert.matches("chain_spec%.lua:%d+: bad argument #1", message)
        end
    end)

    it("is copied", function()
        local list = { csms.credentials.static { ak = "ACCESSACCESS", sk = "SECRET" } }
        local made = assert(chain(list))
        list[1] = nil
        assert(made:get())
    end)
end)

-- ---- the default ------------------------------------------------------------

describe("the default chain", function()
    local emu, folder

    setup(function()
        emu = emulator.start { secrets = 3 }
        folder = files.temporary()
        assert(os.execute("mkdir '" .. folder .. "/.huaweicloud'"))
    end)

    teardown(function()
        emu:stop()
        files.remove(folder)
    end)

    before_each(function()
        emu:reset()
        os.remove(folder .. "/.huaweicloud/credentials")
    end)

    local function write_profile(text)
        files.write(folder .. "/.huaweicloud/credentials", text)
    end

    -- Every source has something; `changes` take some away.
    local function default(changes)
        local variables = {
            HUAWEICLOUD_SDK_AK = "ENVIRONMENT", HUAWEICLOUD_SDK_SK = "SECRET", HOME = folder,
            HC_CONTAINER_CREDENTIALS_FULL_URI = emu.pod_identity_uri,
            HC_CONTAINER_AUTHORIZATION_TOKEN_FILE = emu.pod_identity_token_file,
            CSMS_METADATA_ENDPOINT = emu.metadata_endpoint,
        }
        for name, value in pairs(changes or {}) do variables[name] = value or nil end
        return assert(csms.credentials.default(function(name) return variables[name] or nil end))
    end

    local NO_ENVIRONMENT = { HUAWEICLOUD_SDK_AK = false, HUAWEICLOUD_SDK_SK = false }
    local NO_POD = {
        HUAWEICLOUD_SDK_AK = false, HUAWEICLOUD_SDK_SK = false,
        HC_CONTAINER_CREDENTIALS_FULL_URI = false, HC_CONTAINER_AUTHORIZATION_TOKEN_FILE = false,
    }

    local function chosen(made)
        assert(made:get())
        local text = tostring(made)
        return text:match("chain %(csms credentials%.([%w_]+)")
            or text:match("csms credentials%.([%w_]+)")
    end

    it("is env, profile, pod_identity, metadata, in this order", function()
        write_profile "[basic]\nak = PROFILEPROFILE\nsk = SECRET\n"
        assert.equal("env", chosen(default()))
        assert.equal("profile", chosen(default(NO_ENVIRONMENT)))
        assert.same({}, emu:requests())
        os.remove(folder .. "/.huaweicloud/credentials")
        assert.equal("pod_identity", chosen(default(NO_ENVIRONMENT)))
        assert.same({}, emu:requests("metadata_token"))
        assert.equal("metadata", chosen(default(NO_POD)))
    end)

    it("goes on where the environment has half of a pair", function()
        write_profile "[basic]\nak = PROFILEPROFILE\nsk = SECRET\n"
        assert.equal("profile", chosen(default { HUAWEICLOUD_SDK_SK = false }))
    end)

    it("goes on where a profile has half of a pair", function()
        write_profile "[basic]\nak = PROFILEPROFILE\n"
        assert.equal("pod_identity", chosen(default(NO_ENVIRONMENT)))
    end)

    it("stops at a profile that is broken", function()
        write_profile "[basic]\nnonsense\n"
        local err = failure("credentials", default(NO_ENVIRONMENT):get())
        assert.matches("line 2", err.message, 1, true)
        assert.same({}, emu:requests())
    end)

    it("stops at a pod identity that is refused", function()
        emu:fault { operation = "pod_identity", status = 403, body = "no" }
        local err = failure("credentials", default(NO_ENVIRONMENT):get())
        assert.matches("credentials.pod_identity", err.message, 1, true)
        assert.same({}, emu:requests("metadata_token"))
    end)

    it("stops at a pod identity whose settings are wrong", function()
        local changes = { HC_CONTAINER_AUTHORIZATION_TOKEN_FILE = "/nonexistent/token" }
        for name, value in pairs(NO_ENVIRONMENT) do changes[name] = changes[name] or value end
        local err = failure("credentials", default(changes):get())
        assert.matches("/nonexistent/token", err.message, 1, true)
        changes.HC_CONTAINER_AUTHORIZATION_TOKEN_FILE = nil
        for name, value in pairs(NO_ENVIRONMENT) do changes[name] = value end
        changes.HC_CONTAINER_CREDENTIALS_FULL_URI = "http://example.com/x"
        err = failure("credentials", default(changes):get())
        assert.matches("plain http", err.message, 1, true)
        assert.same({}, emu:requests("metadata_token"))
    end)

    it("stops at a pod identity that does not answer", function()
        local changes = { HC_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:1/x" }
        for name, value in pairs(NO_ENVIRONMENT) do changes[name] = value end
        local err = failure("credentials", default(changes):get())
        assert.matches("credentials.pod_identity", err.message, 1, true)
        assert.same({}, emu:requests("metadata_token"))
    end)

    it("says what each of the four said where none has anything", function()
        local changes = { CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1" }
        for name, value in pairs(NO_POD) do changes[name] = value end
        local err = failure("credentials", default(changes):get())
        local said = {}
        for name in err.message:gmatch("credentials%.([%w_]+): ") do said[#said + 1] = name end
        assert.same({ "env", "profile", "pod_identity", "metadata" }, said)
        for _, remedy in ipairs { "HUAWEICLOUD_SDK_AK", "CSMS_AUTH_TOKEN",
            folder .. "/.huaweicloud/credentials", "HC_CONTAINER_CREDENTIALS_FULL_URI" } do
            assert.matches(remedy, err.message, 1, true)
        end
    end)

    it("says so in the error of a client's call too", function()
        emu:set { agency = false }
        local made = cases.client(emu, { credentials = default(NO_POD) })
        local err = failure("credentials", made:backup(nil, "secret-0001"))
        assert.equal(emu.project, err.project)
        assert.matches("no agency; bind one", err.message, 1, true)
        assert.same({}, emu:requests("backup"))
    end)

    it("is what a client without credentials has, and wipes when it is closed", function()
        local output = cases.run(([[
            local csms = require "csms"
            local made = csms.new { endpoint = %q, ca_file = %q, project = %q, retry = false }
            assert(made:backup(nil, "secret-0001"))
            local credential = made.credentials:get()
            print(tostring(made.credentials):match("credentials%%.metadata"))
            made:close()
            print(credential)
            print(made:backup(nil, "secret-0001"))
        ]]):format(emu.endpoint, emu.ca_file, emu.project), {
            CSMS_METADATA_ENDPOINT = emu.metadata_endpoint, HOME = folder,
            HUAWEICLOUD_SDK_CREDENTIALS_FILE = "", HC_CONTAINER_CREDENTIALS_FULL_URI = "",
        })
        assert.matches("^credentials.metadata\ncsms credential %(closed%)\nnil\tconfig: ", output)
    end)

    it("makes one request for keys for a hundred calls", function()
        emu:fault { operation = "metadata_keys", delay = 0.1 }
        local made = default(NO_POD)
        local left = 100
        runtime:each(function()
            left = left - 1
            return left >= 0 and left or nil
        end, 100, function() assert(made:get(nil, { runtime = runtime, emit = nothing })) end)
        assert.equal(1, #emu:requests("metadata_keys"))
    end)
end)

describe("inside nginx", function()
    local function message_of()
        local made = assert(chain {
            fixed.env(nothing), profile.new(nil, nothing), pod_identity.new(nothing),
            metadata.new(function(name)
                return name == "CSMS_METADATA_ENDPOINT" and "http://127.0.0.1:1" or nil
            end),
        })
        return failure("credentials", made:get()).message
    end

    after_each(function() rawset(_G, "ngx", nil) end)

    it("the error reminds of the `env` directive where the environment is empty", function()
        rawset(_G, "ngx", {})
        assert.matches("`env` directive", message_of(), 1, true)
    end)

    it("the error does not where it has one half, which came through", function()
        rawset(_G, "ngx", {})
        local half = fixed.env(function(name)
            return name == "HUAWEICLOUD_SDK_AK" and "x" or nil
        end)
        local message = failure("credentials", half:get()).message
        assert.matches("HUAWEICLOUD_SDK_SK is not set", message, 1, true)
        assert.is_nil(message:find("directive", 1, true))
    end)

    it("the error says nothing of it elsewhere", function()
        assert.is_nil(message_of():find("directive", 1, true))
    end)
end)
