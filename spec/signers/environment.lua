-- luacheck: std max+busted
-- What the official Node SDK makes of an environment, and what we make of it: see the script `run`.
--
-- The Node SDK has one source of credentials, the environment. Each variable HUAWEICLOUD_SDK_X_Y
-- calls the method withXY of its credential, whatever the method is. A project that is not given is
-- looked up by region in both; where IAM has none, Node creates one, and we say so.

local config = require "csms.config"
local core = require "csms.core"
local credentials = require "csms.credentials"
local json = require "cjson"
local regions = require "csms.regions"

local AK, SK, TOKEN, PROJECT = "ACCESSACCESS", "SECRETSECRET", "TOKENTOKEN", ("0"):rep(32)
local REGION = "cn-north-4"
local GLOBAL, REGIONAL =
    "https://iam.myhuaweicloud.com", "https://iam.cn-north-4.myhuaweicloud.com"

local PROFILE = os.tmpname()

-- AK and SK, and others; `false` takes one away.
local function env(changes)
    local variables = { HUAWEICLOUD_SDK_AK = AK, HUAWEICLOUD_SDK_SK = SK }
    for name, value in pairs(changes or {}) do variables[name] = value or nil end
    return variables
end

-- AK, SK and others as an outcome.
local function keys(changes)
    local outcome = { ak = AK, sk = SK }
    for name, value in pairs(changes or {}) do outcome[name] = value end
    return outcome
end

-- A row: title, variables, what Node makes of them, what we make of them (nil: the same), and why
-- the two differ. An outcome has what is sent: ak, sk, security_token, project, token, domain; or
-- `fails`, a part of the error. iam: Node's endpoint, where it is not the global one.
local ROWS = {
    { "a key pair", env(), keys() },
    { "a security token", env { HUAWEICLOUD_SDK_SECURITY_TOKEN = TOKEN },
        keys { security_token = TOKEN } },
    { "a project", env { HUAWEICLOUD_SDK_PROJECT_ID = PROJECT }, keys { project = PROJECT } },
    { "an IAM endpoint", env { HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://iam.example" },
        keys { iam = "https://iam.example" } },
    { "all of them", env { HUAWEICLOUD_SDK_SECURITY_TOKEN = TOKEN,
        HUAWEICLOUD_SDK_PROJECT_ID = PROJECT,
        HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://iam.example" },
        keys { security_token = TOKEN, project = PROJECT, iam = "https://iam.example" } },

    { "nothing", {}, { fails = "AK cannot be empty" }, { fails = "HUAWEICLOUD_SDK_AK" },
        "both fail: Node at the first request, we at the first call, and name all sources" },
    { "no SK", env { HUAWEICLOUD_SDK_SK = false }, { fails = "SK cannot be empty" },
        { fails = "HUAWEICLOUD_SDK_SK is not set" }, "both fail, in their words" },
    { "no AK", env { HUAWEICLOUD_SDK_AK = false }, { fails = "AK cannot be empty" },
        { fails = "HUAWEICLOUD_SDK_AK is not set" }, "both fail, in their words" },
    { "an empty AK", env { HUAWEICLOUD_SDK_AK = "" }, { fails = "AK cannot be empty" },
        { fails = "HUAWEICLOUD_SDK_AK is not set" }, "both fail, in their words" },
    { "an empty SK", env { HUAWEICLOUD_SDK_SK = "" }, { fails = "SK cannot be empty" },
        { fails = "HUAWEICLOUD_SDK_SK is not set" }, "both fail, in their words" },
    { "an empty security token", env { HUAWEICLOUD_SDK_SECURITY_TOKEN = "" }, keys() },
    { "an empty project", env { HUAWEICLOUD_SDK_PROJECT_ID = "" }, keys() },
    { "an empty IAM endpoint", env { HUAWEICLOUD_SDK_IAM_ENDPOINT = "" }, keys() },

    { "the type of basic credentials", env { HUAWEICLOUD_SDK_TYPE = "BasicCredentials" }, keys() },
    { "the type of global credentials", env { HUAWEICLOUD_SDK_TYPE = "GlobalCredentials",
        HUAWEICLOUD_SDK_DOMAIN_ID = "a-domain", HUAWEICLOUD_SDK_PROJECT_ID = PROJECT },
        keys { domain = "a-domain" }, keys { project = PROJECT },
        "secrets belong to projects; a request for a domain has none" },
    { "a type of one's own", env { HUAWEICLOUD_SDK_TYPE = "Absent" },
        { fails = "Cannot find module" }, keys(),
        "Node loads a module of that name; we have providers for that" },
    { "a domain beside basic credentials", env { HUAWEICLOUD_SDK_DOMAIN_ID = "a-domain" }, keys() },
    { "an identity provider's token", env { HUAWEICLOUD_SDK_IDP_ID = "idp",
        HUAWEICLOUD_SDK_ID_TOKEN_FILE = "/nonexistent" }, { fails = "ENOENT" }, keys(),
        "federation is no source of ours; Node prefers it to keys" },
    { "half of an identity provider", env { HUAWEICLOUD_SDK_IDP_ID = "idp" }, keys() },
    { "a region for derived signatures", env { HUAWEICLOUD_SDK_REGION_ID = "x" }, keys() },
    { "a name that is none", env { HUAWEICLOUD_SDK_SECURITYTOKEN = TOKEN }, keys() },
    { "names without the prefix", { SDK_AK = AK, SDK_SK = SK, AK = AK, SK = SK },
        { fails = "AK cannot be empty" }, { fails = "HUAWEICLOUD_SDK_AK" },
        "both fail, in their words" },
    { "a prefix in lower case", { huaweicloud_sdk_ak = AK, huaweicloud_sdk_sk = SK },
        { fails = "AK cannot be empty" }, { fails = "HUAWEICLOUD_SDK_AK" },
        "both fail, in their words" },
    { "names in other spellings", { HUAWEICLOUD_SDK_ak = AK, HUAWEICLOUD_SDK_SK_ = SK },
        keys(), { fails = "HUAWEICLOUD_SDK_AK" },
        "only Node takes them: the Python and Go SDKs read the documented names" },
    { "the name of a method that is no setter", env { HUAWEICLOUD_SDK_DERIVED_PREDICATE = "x" },
        { fails = "derivedPredicate is not a function" }, keys(), "an accident of Node's" },

    { "a line end after the keys", { HUAWEICLOUD_SDK_AK = AK .. "\n",
        HUAWEICLOUD_SDK_SK = SK .. "\n" }, { ak = AK .. "\n", sk = SK .. "\n" },
        { fails = "stray newline" }, "no header can hold it, and Node's request fails later" },
    { "a blank for an AK", env { HUAWEICLOUD_SDK_AK = " " }, { ak = " ", sk = SK },
        { fails = "the access key" }, "no header can hold it" },
    { "an SK that is not ASCII", env { HUAWEICLOUD_SDK_SK = "S\195\164" },
        { ak = AK, sk = "S\195\164" }, { fails = "the secret key" },
        "no secret key of the service's is so: it was copied wrongly" },

    { "a token of ours", env { CSMS_AUTH_TOKEN = TOKEN }, keys(), { token = TOKEN },
        "a variable of ours, which wins because it says what to use" },
    { "a profile file", { HUAWEICLOUD_SDK_CREDENTIALS_FILE = PROFILE },
        { fails = "AK cannot be empty" }, keys { security_token = TOKEN },
        "Node has no profile; the Python and Go SDKs read it as we do" },
    { "a profile file beside keys", env { HUAWEICLOUD_SDK_CREDENTIALS_FILE = PROFILE }, keys() },
    { "half of a pair and a profile file", env { HUAWEICLOUD_SDK_SK = false,
        HUAWEICLOUD_SDK_CREDENTIALS_FILE = PROFILE }, { fails = "SK cannot be empty" },
        keys { security_token = TOKEN }, "Node has no profile" },
}

-- ---- what Node makes --------------------------------------------------------

local function outcomes_of_node()
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    for _, row in ipairs(ROWS) do
        file:write(next(row[2]) and json.encode(row[2]) or "{}", "\n")
    end
    file:close()
    local pipe = assert(io.popen("node spec/signers/environment.js <" .. path))
    local outcomes = {}
    for line in pipe:lines() do outcomes[#outcomes + 1] = json.decode(line) end
    pipe:close()
    os.remove(path)
    return outcomes
end

local function assert_node(outcome, expected)
    if expected.fails then
        return assert.matches(expected.fails, tostring(outcome.error), 1, true)
    end
    assert.is_nil(outcome.error)
    assert.equal(expected.iam or GLOBAL, outcome.iam_endpoint)
    for _, field in ipairs { "ak", "sk", "security_token", "project", "domain" } do
        assert.equal(expected[field], outcome[field], field)
    end
end

-- ---- what we make -----------------------------------------------------------

local function assert_ours(variables, expected)
    local function getenv(name)
        if name == "CSMS_METADATA_ENDPOINT" then return "http://127.0.0.1:1" end
        return variables[name]
    end
    local credential, err = credentials.default(getenv):get()
    if expected.fails then
        assert.is_nil(credential)
        return assert.matches(expected.fails, err.message, 1, true)
    end
    assert.is_nil(err)
    local same = expected.token and core.credential.token(expected.token)
        or core.credential.keys(expected.ak, expected.sk, expected.security_token)
    assert.is_true(credential:same(same))
    local checked = assert(config.client({ region = REGION }, getenv))
    assert.equal(expected.project, checked.project)
    -- Node asks the global endpoint where we, and the other SDKs, ask the region's.
    assert.equal(expected.iam or REGIONAL,
        checked.iam_endpoint or regions.iam_endpoint(checked.region))
end

-- ---- both -------------------------------------------------------------------

describe("of an environment with", function()
    local nodes

    setup(function()
        local file = assert(io.open(PROFILE, "wb"))
        file:write(("[basic]\nak = %s\nsk = %s\nsecurity_token = %s\n"):format(AK, SK, TOKEN))
        file:close()
        nodes = outcomes_of_node()
    end)

    teardown(function() os.remove(PROFILE) end)

    it("anything, Node makes something", function()
        assert.equal(#ROWS, #nodes)
    end)

    for index, row in ipairs(ROWS) do
        local title, variables, of_node, of_us, why = (rawget(table, "unpack") or unpack)(row)
        it(title .. (of_us and " the two make: " .. why or " both make the same"), function()
            assert.equal(of_us ~= nil, why ~= nil)
            assert_node(nodes[index], of_node)
            assert_ours(variables, of_us or of_node)
        end)
    end
end)
