-- SPDX-License-Identifier: MIT
-- An IAM user's name and password: IAM gives a token for a project, which lives
-- 24 hours (csms-api.md 4.3).

local api = require "csms.api"
local arguments = require "csms.arguments"
local config = require "csms.config"
local core = require "csms.core"
local dates = require "csms.dates"
local errors = require "csms.errors"
local json = require "csms.json"
local regions = require "csms.regions"
local renewing = require "csms.credentials.renewing"
local source = require "csms.credentials.source"

local M = {}

local TIMEOUT = 30
local REFUSAL = 60 -- seconds that a refused password is not sent again

local SCHEMA = {
    domain = { "string" }, user = { "string" }, password = { "string" },
    project = { "string" }, project_id = { "string" }, iam_endpoint = { "string" },
}

local function fail(message)
    return source.fail("password", message)
end

-- IAM refuses a project that it does not know as it refuses a user.
local function named_project(self)
    local login = self.login()
    if login.project_id then return login.project_id end
    local hint = arguments.project(login.project) and " (an id goes into project_id)" or ""
    return login.project .. hint
end

local function read_token(self, answer, now)
    if answer.status == 401 then
        self.refused_until = now + REFUSAL
        return fail("IAM refused the user; check domain (the account), user, password and project "
            .. named_project(self))
    end
    if source.may_pass(answer) then return fail("IAM gives no token now; try again later") end
    if answer.status ~= 201 then
        return fail("IAM gave no token; check domain and project " .. named_project(self))
    end
    local text = answer.header("X-Subject-Token")
    if not text then return fail("IAM's answer has no X-Subject-Token; check iam_endpoint") end
    local body = json.decode(answer.body)
    local token = type(body) == "table" and type(body.token) == "table" and body.token or {}
    local expires = type(token.expires_at) == "string" and dates.parse_iso(token.expires_at)
    if not expires then return fail("IAM's answer has no expires_at") end
    self.project_id = type(token.project) == "table" and token.project.id or nil
    local credential, problem = core.credential.token(text)
    if not credential then return fail(problem.message) end
    return credential, expires
end

local function fetch(self, context)
    if self.refused_until and context.runtime.now() < self.refused_until then
        return fail(("IAM refused the user less than %d s ago; it is not asked again yet, because "
            .. "it locks users; check domain, user, password and project %s")
            :format(REFUSAL, named_project(self)))
    end
    local origin, err = source.origin("password", {
        url = self.iam_endpoint or context.iam_endpoint or self.env_iam_endpoint
            or regions.iam_endpoint(context.region),
        ca_file = context.ca_file or self.ca_file, proxy = context.proxy, connect_timeout = 5,
        max_response = 1024 * 1024,
    })
    if not origin then return nil, err end
    return source.request({
        source = "password", origin = origin, operation = api.iam.token, timeout = TIMEOUT,
        secret = self.login().password,
        call = { argument = self.login() },
    }, context, function(answer)
        local credential, expires, absent = read_token(self, answer, context.runtime.now())
        if not credential then return nil, expires, absent end
        local life = source.life(expires, answer, context)
        if life > 0 then return credential, life end
        return fail("IAM's token has expired already; is the clock of this machine right?")
    end)
end

--- password{domain =, user =, password =, project = | project_id =
--- [, iam_endpoint =]}: domain is the account's name, project a name such as the
--- region's.
function M.new(login, getenv)
    arguments.expect("table", 1, "login", login)
    local given, err = config.table("credentials.password", login, SCHEMA)
    if not given then return nil, err end
    for _, key in ipairs { "domain", "user", "password" } do
        if not given[key] then
            return nil, errors.new("config", "credentials.password: '" .. key .. "' is missing")
        end
    end
    if not (given.project or given.project_id) then
        return nil, errors.new("config", "credentials.password: 'project' or 'project_id' is "
            .. "missing; a token for CSMS is scoped to a project")
    end
    if given.iam_endpoint then
        local origin, problem = core.origin { url = given.iam_endpoint }
        if not origin then
            err = errors.from_core(problem)
            if err.kind == "config" then
                err.message = "credentials.password: iam_endpoint: " .. err.message
            end
            return nil, err
        end
    end
    return renewing.new("password", fetch, {
        iam_endpoint = given.iam_endpoint,
        env_iam_endpoint = config.variable("HUAWEICLOUD_SDK_IAM_ENDPOINT", getenv),
        ca_file = config.variable("CSMS_CA_FILE", getenv),
        login = function() return given end, -- not a field: nothing prints it
    })
end

return M
