-- SPDX-License-Identifier: MIT
-- Sources that have what they have: static, token and env. They cannot renew.

local lazy = require "csms.lazy"

local arguments = require "csms.arguments"
local config = lazy "csms.config"
local core = require "csms.core"
local errors = require "csms.errors"
local source = lazy "csms.credentials.source"

local M = {}

local Fixed = { __name = "csms.provider" }
Fixed.__index = Fixed

--- The credential that it was made with, always the same; or nil and the error
--- of kind "credentials" that says what is missing.
function Fixed:get()
    if self.credential then return self.credential end
    return source.fail(self.source, self.problem, self.absent)
end

--- Wipes the keys. Later calls of get() answer an error.
function Fixed:close()
    if self.credential then self.credential:close() end
    self.credential, self.problem = nil, "the provider is closed"
end

function Fixed:__tostring()
    local what = tostring(self.credential or self.problem)
    return ("csms credentials.%s (%s)"):format(self.source, what)
end

local function fixed(name, credential, problem, absent)
    return setmetatable({
        source = name, credential = credential, problem = problem, absent = absent,
    }, Fixed)
end

local STATIC = { ak = { "string" }, sk = { "string" }, security_token = { "string" } }

--- Keys in the program's own hands: static{ak =, sk = [, security_token =]}.
function M.static(keys)
    arguments.expect("table", 1, "keys", keys)
    local given, err = config.table("credentials.static", keys, STATIC)
    if not given then return nil, err end
    for _, key in ipairs { "ak", "sk" } do
        if not given[key] then
            return nil, errors.new("config", "credentials.static: '" .. key .. "' is missing")
        end
    end
    local credential, problem = core.credential.keys(given.ak, given.sk, given.security_token)
    if not credential then return nil, errors.from_core(problem) end
    return fixed("static", credential)
end

--- An X-Auth-Token, scoped to the project, from IAM.
function M.token(token)
    arguments.expect("string", 1, "token", token)
    local credential, problem = core.credential.token(token)
    if not credential then return nil, errors.from_core(problem) end
    return fixed("token", credential)
end

-- nginx gives its workers no environment but what the configuration names.
local function nginx_hint()
    return rawget(_G, "ngx") and "; inside nginx, name the variables with the `env` directive" or ""
end

local function credential_of(variable)
    local token = variable("CSMS_AUTH_TOKEN")
    if token then return core.credential.token(token) end
    local ak, sk = variable("HUAWEICLOUD_SDK_AK"), variable("HUAWEICLOUD_SDK_SK")
    if ak and sk then
        return core.credential.keys(ak, sk, variable("HUAWEICLOUD_SDK_SECURITY_TOKEN"))
    end
    if ak or sk then
        local missing = ak and "HUAWEICLOUD_SDK_SK" or "HUAWEICLOUD_SDK_AK"
        return nil, { message = missing .. " is not set", absent = true }
    end
    return nil, { message = "neither HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK nor "
        .. "CSMS_AUTH_TOKEN is set" .. nginx_hint(), absent = true }
end

--- The environment, read now: CSMS_AUTH_TOKEN, else HUAWEICLOUD_SDK_AK and _SK
--- with HUAWEICLOUD_SDK_SECURITY_TOKEN. What is missing shows at get().
-- getenv: for specs; os.getenv otherwise.
function M.env(getenv)
    local credential, problem = credential_of(function(name)
        return config.variable(name, getenv)
    end)
    return fixed("env", credential, problem and problem.message, problem and problem.absent)
end

return M
