-- SPDX-License-Identifier: MIT
-- The credentials file of the official SDKs. The C core reads it, so that its
-- keys are never Lua's.

local arguments = require "csms.arguments"
local config = require "csms.config"
local core = require "csms.core"
local errors = require "csms.errors"
local source = require "csms.credentials.source"

local M = {}

local Profile = { __name = "csms.provider" }
Profile.__index = Profile

local function read(self, context)
    local profile, problem = core.credential.profile(self.path)
    if not profile then
        return source.fail("profile", problem.message, false, problem.cause)
    end
    if not profile.found then
        return source.fail("profile", self.path .. " is not there or has no section [basic]", true)
    end
    if not profile.credential then
        return source.fail("profile", self.path .. ": [basic] needs both ak and sk", true)
    end
    if profile.loose then
        context.emit { event = "warning", message = self.path .. " can be read by others; "
            .. "run: chmod 600 " .. self.path }
    end
    return profile
end

--- The file's keys; read once, and again where they are named as refused, because they may
--- have been replaced. After a bad signature a client names only temporary ones (csms.auth).
function Profile:get(refused, context)
    if self.closed then return source.fail("profile", "the provider is closed") end
    if self.credential and self.credential ~= refused then return self.credential end
    if not self.path then
        return source.fail("profile", "neither HUAWEICLOUD_SDK_CREDENTIALS_FILE nor HOME is set",
            true)
    end
    local profile, err, absent = read(self, source.context(context))
    if not profile then return nil, err, absent end
    self.project_id, self.iam_endpoint = profile.project_id, profile.iam_endpoint
    if self.credential and self.credential:same(profile.credential) then
        profile.credential:close()
    else
        self.credential = profile.credential
    end
    return self.credential
end

function Profile:close()
    if self.credential then self.credential:close() end
    self.credential, self.closed = nil, true
end

function Profile:__tostring()
    return ("csms credentials.profile (%s)"):format(self.path or "no path")
end

--- A provider, or nil and an error of kind "config".
-- path: of the file; else HUAWEICLOUD_SDK_CREDENTIALS_FILE, else
--- $HOME/.huaweicloud/credentials, as the environment says now.
function M.new(path, getenv)
    arguments.expect("string", 1, "path", path, true)
    if path and path:find("\0", 1, true) then
        return nil, errors.new("config", "credentials.profile: the path holds a NUL")
    end
    local home = config.variable("HOME", getenv)
    path = path or config.variable("HUAWEICLOUD_SDK_CREDENTIALS_FILE", getenv)
        or home and home .. "/.huaweicloud/credentials"
    return setmetatable({ path = path }, Profile)
end

return M
