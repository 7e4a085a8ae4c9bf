-- SPDX-License-Identifier: MIT
-- Temporary keys of an ECS instance with an agency, from the metadata service
-- (csms-api.md 4.2). Version 2 wants a token of its own first.

local api = require "csms.api"
local config = require "csms.config"
local core = require "csms.core"
local dates = require "csms.dates"
local json = require "csms.json"
local renewing = require "csms.credentials.renewing"
local source = require "csms.credentials.source"

local M = {}

local TIMEOUT = 3
local TOKEN_LIFE = 21600      -- seconds, asked for
local ONLY_VERSION_1 = 86400  -- seconds until version 2 is tried again
local NO_TOKEN = { [404] = true, [405] = true, [503] = true }

local function fail(message, absent)
    return source.fail("metadata", message, absent)
end

local function origin_of(self)
    local err, absent
    if not self.origin then
        self.origin, err, absent = source.origin("metadata", {
            url = self.endpoint, allow_http = true, no_proxy = true, connect_timeout = 1,
            max_response = 65536,
        })
    end
    return self.origin, err, absent
end

local function request(self, context, operation, headers, read)
    local origin, err, absent = origin_of(self)
    if not origin then return nil, err, absent end
    return source.request({
        source = "metadata", origin = origin, operation = operation, timeout = TIMEOUT,
        optional = true, secret = self.token,
        call = { headers = headers },
    }, context, read)
end

-- Sets self.token, which version 1 has not (""); true, or nil and the error.
local function get_token(self, context)
    local now = context.runtime.now()
    if self.token and now < self.token_until then return true end
    local headers = { "X-Metadata-Token-Ttl-Seconds", tostring(TOKEN_LIFE) }
    local token, err, absent = request(self, context, api.metadata.token, headers, function(answer)
        if answer.status == 200 then return answer.body end
        if NO_TOKEN[answer.status] then return "" end
        return fail("the metadata service gave no token")
    end)
    if not token then return nil, err, absent end
    self.token = token
    self.token_until = now + (token == "" and ONLY_VERSION_1 or TOKEN_LIFE - 60)
    return true
end

local NO_AGENCY = "Please configure Cloud Service Agency first"

-- The answer's keys: credential, life; or nil, the error and absent. A stale
-- token of version 2 answers nil and "token".
local function read_keys(answer, context)
    if answer.body:find(NO_AGENCY, 1, true) or answer.status == 404 then
        return fail("this instance has no agency; bind one to it in the console of ECS", true)
    end
    if answer.status == 401 then return nil, "token" end
    if answer.status ~= 200 then return fail("the metadata service gave no keys") end
    local body = json.decode(answer.body)
    return M.read_credential("metadata", type(body) == "table" and body.credential, answer, context)
end

--- A credential and its life of the form that metadata, pod identity and IAM
--- share, with either set of names; or nil and the error.
function M.read_credential(name, found, answer, context)
    if type(found) ~= "table" then
        return source.fail(name, "the answer has no credential; is the endpoint right?")
    end
    local ak = found.access or found.accessKeyId
    local sk = found.secret or found.secretAccessKey
    local token = found.securitytoken or found.securityToken
    local expires = found.expires_at or found.expiration
    expires = type(expires) == "string" and dates.parse_iso(expires)
    if type(ak) ~= "string" or type(sk) ~= "string" or type(token) ~= "string" or not expires then
        return source.fail(name, "the answer lacks a key, the security token or the expiry")
    end
    local life = source.life(expires, answer, context)
    if life <= 0 then
        return source.fail(name, "its keys have expired; is the clock of this machine right?")
    end
    local credential, problem = core.credential.keys(ak, sk, token)
    if not credential then return source.fail(name, problem.message) end
    return credential, life
end

local function fetch_once(self, context)
    local good, err, absent = get_token(self, context)
    if not good then return nil, err, absent end
    local headers = self.token ~= "" and { "X-Metadata-Token", self.token } or {}
    return request(self, context, api.metadata.keys, headers, function(answer)
        return read_keys(answer, context)
    end)
end

local function fetch(self, context)
    local credential, life, absent = fetch_once(self, context)
    if life == "token" then
        self.token = nil
        credential, life, absent = fetch_once(self, context)
    end
    if life == "token" then return fail("the metadata service refuses its own token") end
    return credential, life, absent
end

--- The endpoint is fixed, but for tests: CSMS_METADATA_ENDPOINT.
function M.new(getenv)
    return renewing.new("metadata", fetch, {
        endpoint = config.variable("CSMS_METADATA_ENDPOINT", getenv) or api.metadata.endpoint,
    })
end

return M
