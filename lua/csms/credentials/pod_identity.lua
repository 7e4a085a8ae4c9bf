-- SPDX-License-Identifier: MIT
-- Temporary keys of a container (csms-api.md 4.1, pod identity): the platform
-- names a URL and a file with the text that authorizes.

local api = require "csms.api"
local config = require "csms.config"
local json = require "csms.json"
local metadata = require "csms.credentials.metadata"
local renewing = require "csms.credentials.renewing"
local source = require "csms.credentials.source"

local M = {}

local URI = "HC_CONTAINER_CREDENTIALS_FULL_URI"
local FILE = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"
local TIMEOUT = 5

local function fail(message, absent)
    return source.fail("pod_identity", message, absent)
end

-- The platform replaces the file from time to time, so it is read each time.
local function read_authorization(path)
    local file = io.open(path, "rb")
    local text = file and file:read("*a")
    if file then file:close() end
    if not text then return fail(path .. " (" .. FILE .. ") cannot be read") end
    text = text:match("^.*%S")
    if not text then return fail(path .. " (" .. FILE .. ") is empty") end
    if text:find("[%c\128-\255]") then
        return fail(path .. " (" .. FILE .. ") holds what no header can hold; is it that file?")
    end
    return text
end

-- The exception that design 2.1 makes for plain http: link-local addresses.
local function is_link_local(base)
    local host = base:match("^http://([%d.]+)")
    return host ~= nil and base:find("^http://[%d.]+:?%d*$") ~= nil
        and host:find("^169%.254%.%d+%.%d+$") ~= nil
end

local function split(uri)
    local base, target = uri:match("^(https?://[^/?#]+)([^#]*)")
    return base, target ~= "" and target or "/"
end

local function origin_of(self, context)
    local base = split(self.uri)
    if not base then return fail(URI .. " is not a URL") end
    return source.origin("pod_identity", {
        url = base, allow_http = is_link_local(base), no_proxy = true,
        connect_timeout = TIMEOUT, max_response = 65536, ca_file = context.ca_file,
    })
end

local function read_answer(answer, context)
    if source.may_pass(answer) then
        return fail("the credentials endpoint gives no keys now; try again later")
    end
    if answer.status ~= 200 then
        return fail("the credentials endpoint gives no keys; check the pod's service account")
    end
    local body = json.decode(answer.body)
    local found = type(body) == "table" and (body.credential or body.credentials or body)
    return metadata.read_credential("pod_identity", found, answer, context)
end

local function fetch(self, context)
    if not (self.uri or self.file) then
        return fail(URI .. " and " .. FILE .. " are not set", true)
    end
    -- One alone is a mistake: the next source, such as the node's agency, is another user.
    if not (self.uri and self.file) then
        return fail((self.uri and FILE or URI) .. " is not set")
    end
    local authorization, err, absent = read_authorization(self.file)
    if not authorization then return nil, err, absent end
    local origin
    origin, err, absent = origin_of(self, context)
    if not origin then return nil, err, absent end
    local _, target = split(self.uri)
    return source.request({
        source = "pod_identity", origin = origin, operation = api.pod_identity.keys,
        timeout = TIMEOUT, secret = authorization,
        call = {
            target = target,
            headers = { "Content-Type", "application/json", "Authorization", authorization },
        },
    }, context, function(answer) return read_answer(answer, context) end)
end

--- As the environment says now.
function M.new(getenv)
    return renewing.new("pod_identity", fetch, {
        uri = config.variable(URI, getenv), file = config.variable(FILE, getenv),
    })
end

return M
