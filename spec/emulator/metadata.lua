-- The sources of temporary keys: an ECS's metadata service (versions 1 and 2) and pod identity.
local access = require "spec.emulator.access"
local answers = require "spec.emulator.answers"
local crypto = require "spec.emulator.crypto"
local json = require "spec.emulator.json"
local state = require "spec.emulator.state"
local times = require "spec.emulator.times"

local metadata = {}

local MAX_TTL = 21600

local sessions

state.on_reset(function() sessions = {} end)

local function text(status, body)
    return { status = status, body = body, headers = { ["Content-Type"] = "text/plain" } }
end

function metadata.token(request)
    if state.settings.metadata_version == 1 then
        return text(state.settings.metadata_v1_status, "not served by this version")
    end
    local ttl = tonumber(request.headers["x-metadata-token-ttl-seconds"] or "")
    if not ttl or ttl < 1 or ttl > MAX_TTL then
        return text(400, "X-Metadata-Token-Ttl-Seconds must be from 1 to " .. MAX_TTL)
    end
    local token = crypto.canary("MT", 52)
    sessions[token] = state.now() + ttl
    return text(200, token)
end

local function may_ask(request)
    if state.settings.metadata_version == 1 then return true end
    local ends = sessions[request.headers["x-metadata-token"] or ""]
    return ends ~= nil and state.now() < ends
end

local function keys_body(aliases)
    local key = access.current_temporary_key()
    local ends = times.iso(key.expires)
    if aliases then
        return { credential = {
            accessKeyId = key.access, secretAccessKey = key.secret,
            securityToken = key.securitytoken, expiration = ends,
        } }
    end
    return { credential = {
        access = key.access, secret = key.secret, securitytoken = key.securitytoken,
        expires_at = ends,
    } }
end

function metadata.keys(request)
    if not may_ask(request) then return text(401, "Unauthorized") end
    if not state.settings.agency then
        return text(401, "Please configure Cloud Service Agency first")
    end
    return answers.json(200, keys_body(false))
end

function metadata.pod_identity(request)
    if request.headers["authorization"] ~= state.config.pod_identity_token then
        return text(401, "Unauthorized")
    end
    if not request.body:find("^%s*{") or not json.decode(request.body) then
        return text(400, "the body is not a JSON object")
    end
    return answers.json(200, keys_body(state.settings.pod_identity_form == "aliases"))
end

return metadata
