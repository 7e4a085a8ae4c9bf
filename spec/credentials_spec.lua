-- Where keys come from: static, token, env, and a program's own provider.

local csms = require "csms"
local cases = require "spec.support.cases"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local fixed = require "csms.credentials.fixed"

local credentials = csms.credentials
local failure = cases.failure

local AK, SK, TOKEN = "AKIDEXAMPLE12345", "SKSECRETSECRET67890", "MIIETOKENTOKEN"

local function env_with(variables)
    return fixed.env(function(name) return variables[name] end)
end

describe("static", function()
    it("gives the same credential each time", function()
        local provider = assert(credentials.static { ak = AK, sk = SK })
        local credential = assert(provider:get())
        assert.equal(credential, provider:get())
        assert.equal(credential, provider:get(credential))
        assert.is_false(credential:uses_token())
        assert.is_false(credential:temporary())
    end)

    it("knows temporary keys by their security token", function()
        local provider = credentials.static { ak = AK, sk = SK, security_token = TOKEN }
        assert.is_true(assert(provider:get()):temporary())
        provider = credentials.static { ak = AK, sk = SK, security_token = "" }
        assert.is_false(assert(provider:get()):temporary())
    end)

    it("names the part that is missing or empty", function()
        for part, keys in pairs {
            sk = { ak = AK }, ak = { sk = SK }, ["(ak)"] = { ak = "", sk = SK },
            ["(sk)"] = { ak = AK, sk = "" },
        } do
            local err = failure("config", credentials.static(keys))
            assert.matches(part, err.message, 1, true)
            assert.equal(0, err.attempts)
        end
        failure("config", credentials.static {})
    end)

    it("answers an error for parts of wrong types", function()
        for _, value in ipairs { 5, true, {}, print } do
            for _, part in ipairs { "ak", "sk", "security_token" } do
                local keys = { ak = AK, sk = SK, [part] = value }
                local err = failure("config", credentials.static(keys))
                assert.matches("'" .. part .. "' must be a string", err.message, 1, true)
            end
        end
    end)

    it("names a key that it does not know", function()
        local err = failure("config", credentials.static { ak = AK, sk = SK, token = TOKEN })
        assert.matches("'token'", err.message, 1, true)
    end)

    it("refuses what cannot stand in a header, and does not repeat it", function()
        for _, bad in ipairs { "\n", "\r\nX-Evil: 1", "\0", " ", "\t", "\127", "\195\169" } do
            for _, part in ipairs { "ak", "sk", "security_token" } do
                local keys = { ak = AK, sk = SK, [part] = "SECRETPART" .. bad }
                local err = failure("config", credentials.static(keys))
                assert.is_nil(tostring(err):find("SECRETPART", 1, true))
            end
        end
    end)

    it("refuses parts that no header can hold", function()
        failure("config", credentials.static { ak = AK, sk = ("s"):rep(65 * 1024) })
    end)

    it("raises for an argument of a wrong type", function()
        for _, value in ipairs { 5, "AK:SK", true, print } do
            local ok, message = pcall(function() return (credentials.static(value)) end)
            assert.is_false(ok)
            assert.matches("credentials_spec%.lua:%d+: bad argument #1", message)
        end
    end)

    it("does not change or keep the table that was passed", function()
        local keys = { ak = AK, sk = SK }
        local provider = credentials.static(keys)
        assert.same({ ak = AK, sk = SK }, keys)
        for _, value in pairs(provider) do
            assert.is_true(value ~= keys and value ~= SK and value ~= AK)
        end
    end)
end)

describe("token", function()
    it("gives a credential that uses it", function()
        local provider = assert(credentials.token(TOKEN))
        assert.is_true(assert(provider:get()):uses_token())
        assert.equal(provider:get(), provider:get())
    end)

    it("refuses an empty one and one that cannot stand in a header", function()
        for _, bad in ipairs { "", TOKEN .. "\n", TOKEN .. "\r\nX-Evil: 1", "a b", "a\0b" } do
            local err = failure("config", credentials.token(bad))
            assert.is_nil(tostring(err):find(TOKEN, 1, true))
        end
    end)

    it("raises for an argument of a wrong type", function()
        for _, value in ipairs { 5, true, {}, print } do
            local ok, message = pcall(function() return (credentials.token(value)) end)
            assert.is_false(ok)
            assert.matches("credentials_spec%.lua:%d+: bad argument #1", message)
        end
        assert.is_false((pcall(credentials.token)))
    end)
end)

describe("env", function()
    it("takes keys, with a security token where there is one", function()
        local provider = env_with { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK }
        local credential = assert(provider:get())
        assert.is_false(credential:uses_token() or credential:temporary())
        provider = env_with { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK,
            HUAWEICLOUD_SDK_SECURITY_TOKEN = TOKEN }
        assert.is_true(assert(provider:get()):temporary())
    end)

    it("takes a token, and prefers it where both are set", function()
        assert.is_true(assert(env_with({ CSMS_AUTH_TOKEN = TOKEN }):get()):uses_token())
        local both = env_with { CSMS_AUTH_TOKEN = TOKEN, HUAWEICLOUD_SDK_AK = AK,
            HUAWEICLOUD_SDK_SK = SK }
        assert.is_true(assert(both:get()):uses_token())
    end)

    it("names the variable that is missing at get", function()
        for name, variables in pairs {
            HUAWEICLOUD_SDK_SK = { HUAWEICLOUD_SDK_AK = AK },
            HUAWEICLOUD_SDK_AK = { HUAWEICLOUD_SDK_SK = SK },
            CSMS_AUTH_TOKEN = {},
        } do
            local provider = env_with(variables)
            local err = failure("credentials", provider:get())
            assert.matches(name .. "%f[^%w_]", err.message)
            assert.is_false(err.retryable)
        end
    end)

    it("counts an empty variable as unset", function()
        failure("credentials", env_with({ CSMS_AUTH_TOKEN = "", HUAWEICLOUD_SDK_AK = "" }):get())
        local provider = env_with { CSMS_AUTH_TOKEN = "", HUAWEICLOUD_SDK_AK = AK,
            HUAWEICLOUD_SDK_SK = SK, HUAWEICLOUD_SDK_SECURITY_TOKEN = "" }
        assert.is_false(assert(provider:get()):temporary())
    end)

    it("answers an error for values that cannot stand in a header", function()
        local provider = env_with { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK .. "\n" }
        local err = failure("credentials", provider:get())
        assert.is_nil(tostring(err):find(SK, 1, true))
        assert.matches("newline", err.message, 1, true)
    end)

    it("is read when it is made and never later", function()
        local variables = { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK }
        local provider = env_with(variables)
        variables.HUAWEICLOUD_SDK_AK, variables.HUAWEICLOUD_SDK_SK = nil, nil
        assert(provider:get())
    end)

    it("reads the process's own environment", function()
        local output = cases.run([[print(require("csms").credentials.env())]],
            { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK })
        assert.matches("AKID****", output, 1, true)
    end)
end)

describe("a provider", function()
    local MAKERS = {
        static = function() return credentials.static { ak = AK, sk = SK } end,
        token = function() return credentials.token(TOKEN) end,
        env = function()
            return env_with { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK }
        end,
    }

    for name, make in pairs(MAKERS) do
        it("answers an error once it is closed: " .. name, function()
            local provider = make()
            provider:close()
            provider:close()
            local err = failure("credentials", provider:get())
            assert.matches("closed", err.message, 1, true)
        end)

        it("shows at most four characters of its keys: " .. name, function()
            local provider = make()
            for _, value in ipairs { provider, provider:get() } do
                local text = tostring(value)
                assert.is_nil(text:find(AK:sub(1, 5), 1, true))
                assert.is_nil(text:find(SK:sub(1, 3), 1, true))
                assert.is_nil(text:find(TOKEN:sub(1, 3), 1, true))
            end
            provider:close()
            assert.is_nil(tostring(provider):find(AK:sub(1, 4), 1, true))
        end)
    end

    it("is taken out of a text, but for the four characters that it shows", function()
        for ak, shown in pairs { [AK] = "AKID****", AKIDSHRT = "****" } do
            local credential = credentials.static({ ak = ak, sk = SK }):get()
            assert.equal("key " .. shown .. ", secret ****.",
                credential:redact("key " .. ak .. ", secret " .. SK .. "."))
            assert.equal("AKI SKS", credential:redact "AKI SKS")
        end
    end)

    it("shows four characters of a long access key and none of a short one", function()
        local long = credentials.static { ak = AK, sk = SK }
        assert.matches("AKID****", tostring(long), 1, true)
        for length = 1, 8 do
            local short = credentials.static { ak = AK:sub(1, length), sk = SK }
            assert.is_nil(tostring(short):find("AKID", 1, true))
            if length >= 2 then assert.is_nil(tostring(short):find("AK", 1, true)) end
        end
    end)
end)

describe("a program's own provider", function()
    local emu

    setup(function() emu = emulator.start { secrets = 3 } end)
    teardown(function() emu:stop() end)
    before_each(function() emu:reset() end)

    local function backup_with(get)
        return cases.client(emu, { credentials = { get = get } }):backup(nil, "secret-0001")
    end

    it("may return what static's get returns", function()
        assert.is_string(backup_with(function()
            return credentials.static({ ak = emu.ak, sk = emu.sk }):get()
        end))
    end)

    it("is asked at each call", function()
        local asked = 0
        local client = cases.client(emu, { credentials = { get = function()
            asked = asked + 1
            return credentials.static({ ak = emu.ak, sk = emu.sk }):get()
        end } })
        assert(client:backup(nil, "secret-0001"))
        assert(client:backup(nil, "secret-0001"))
        assert.equal(2, asked)
    end)

    it("of the environment may be made with a colon, which some write", function()
        for _, name in ipairs { "env", "metadata", "pod_identity" } do
            assert.is_table(credentials[name](credentials))
        end
    end)

    it("passes on its error", function()
        local err = failure("credentials", backup_with(function()
            return fixed.env(function() end):get()
        end))
        assert.same({ emu.project, "secret-0001" }, { err.project, err.name })
    end)

    it("may fail with a plain text", function()
        local err = failure("credentials", backup_with(function() return nil, "vault is shut" end))
        assert.matches("vault is shut", err.message, 1, true)
    end)

    it("may fail without a reason", function()
        local blob, err = backup_with(function() return nil end)
        failure("credentials", blob, err)
    end)

    it("may not return what is no credential", function()
        for _, value in ipairs { "AK:SK", 5, true, {} } do
            local ok, blob, err = pcall(backup_with, function() return value end)
            assert.is_true(ok, tostring(blob))
            failure("credentials", blob, err)
        end
        assert.equal(0, #emu:requests())
    end)

    it("may not return a credential that is closed", function()
        local ok, blob, err = pcall(backup_with, function()
            local provider = credentials.static { ak = emu.ak, sk = emu.sk }
            local credential = provider:get()
            provider:close()
            return credential
        end)
        assert.is_true(ok, tostring(blob))
        failure("credentials", blob, err)
    end)
end)

describe("a closed credential", function()
    local keys, token

    before_each(function()
        keys = assert(core.credential.keys(AK, SK, TOKEN))
        token = assert(core.credential.token(TOKEN))
        keys:close()
        keys:close()
        token:close()
    end)

    it("holds nothing any more, and says so", function()
        assert.equal("csms credential (closed)", tostring(keys))
        assert.is_false(keys:temporary() or keys:uses_token() or token:uses_token())
        assert.is_false(core.credential.is_open(keys) or core.credential.is_open(AK))
    end)

    it("is the same as none, itself included", function()
        local open = assert(core.credential.keys(AK, SK, TOKEN))
        assert.is_false(keys:same(open) or open:same(keys) or keys:same(keys))
        assert.is_true(open:same(open))
    end)

    it("lets no text through that it can no longer look into", function()
        local text = keys:redact("the secret is " .. SK)
        assert.is_nil(text:find(SK, 1, true))
        assert.matches("closed", text, 1, true)
    end)
end)
