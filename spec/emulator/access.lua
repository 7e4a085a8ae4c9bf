-- Who is asking: permanent and temporary keys, tokens, their ends, and the lock that follows bad
-- signatures.
local answers = require "spec.emulator.answers"
local crypto = require "spec.emulator.crypto"
local signature = require "spec.emulator.signature"
local state = require "spec.emulator.state"
local times = require "spec.emulator.times"

local access = {}

local SKEW = 15 * 60
-- Headers that, once sent, an SDK always signs.
local MUST_BE_SIGNED = { "x-sdk-date", "x-project-id", "x-domain-id", "x-security-token" }

local keys, tokens, temporary, issued

state.on_reset(function()
    local config = state.config
    keys = { [config.ak] = { sk = config.sk, failures = 0 } }
    tokens = { [config.token] = { project = config.project, expires = math.huge, uses = 0 } }
    temporary = nil
    issued = { tokens = 0, temporary_keys = 0 }
end)

function access.issued()
    return issued
end

local function random_token(prefix, kind)
    return prefix .. crypto.canary(kind, state.settings.token_bytes)
end

-- options: {project, life, uses}; without a project the token is a global one.
function access.issue_token(options)
    local token = random_token("MIIF", "TK")
    local expires = state.now() + (options.life or state.settings.token_life)
    tokens[token] = { project = options.project, expires = expires, uses = 0, limit = options.uses }
    issued.tokens = issued.tokens + 1
    return token, expires
end

function access.issue_key(options)
    local ak = crypto.access_key()
    local key = { sk = crypto.canary("SK", 40), failures = 0 }
    if options.temporary then
        key.token = random_token("ggpj", "ST")
        key.expires = state.now() + (options.life or state.settings.temporary_key_life)
        issued.temporary_keys = issued.temporary_keys + 1
    end
    keys[ak] = key
    return { access = ak, secret = key.sk, securitytoken = key.token, expires = key.expires }
end

-- The metadata service hands out the same keys until half their life is gone or they are revoked.
function access.current_temporary_key()
    local life = state.settings.temporary_key_life
    local usable = temporary and keys[temporary.access] and temporary.life == life
        and temporary.expires - state.now() > life / 2
    if not usable then
        temporary = access.issue_key({ temporary = true })
        temporary.life = life
    end
    return temporary
end

function access.revoke_tokens()
    for _, token in pairs(tokens) do token.revoked = true end
end

function access.revoke_keys()
    for ak, key in pairs(keys) do
        if key.token then keys[ak] = nil end
    end
end

local function check_token(value)
    local token = tokens[value]
    if not token then return nil, answers.unauthorized("0301", "decrypt token fail") end
    local limit = token.limit or state.settings.token_uses
    local spent = limit > 0 and token.uses >= limit
    if token.revoked or spent or state.now() >= token.expires then
        return nil, answers.gateway(401, "0307", "The token must be updated")
    end
    token.uses = token.uses + 1
    return { kind = "token", project = token.project, scoped = true }
end

local function check_clock(request)
    local client = request.headers["x-sdk-date"]
    local seconds = type(client) == "string" and times.parse_sdk(client)
    if not seconds then return answers.unauthorized("0301", "x-sdk-date is missing or wrong") end
    local server = state.now()
    if math.abs(server - seconds) <= SKEW then return nil end
    return answers.unauthorized("0303", "x-sdk-date is more than 15 minutes off, client time:"
        .. client .. ",server time:" .. times.sdk(server))
end

local function check_signed_names(parsed, request)
    local signed = {}
    for _, name in ipairs(parsed.signed) do
        if not request.headers[name] then return "signed header not sent: " .. name end
        signed[name] = true
    end
    for _, name in ipairs(MUST_BE_SIGNED) do
        if request.headers[name] and not signed[name] then return "header not signed: " .. name end
    end
    return nil
end

local function check_scope(parsed, request)
    if not parsed.info then return nil end
    local date, region = parsed.info:match("^(%d+)/([^/]+)/[^/]+$")
    if date == request.headers["x-sdk-date"]:sub(1, 8) and region == state.config.region then
        return nil
    end
    return "the credential's scope does not fit"
end

local function check_temporary(key, request)
    if not key.token then return nil end
    local token = request.headers["x-security-token"]
    if not token then return answers.unauthorized("0301", "x-security-token is missing") end
    if state.now() >= key.expires then
        return answers.gateway(401, "0307", "The token must be updated")
    end
    if token ~= key.token then return answers.unauthorized("0301", "decrypt token fail") end
    return nil
end

local function bad_signature(key)
    key.failures = key.failures + 1
    if key.failures > state.settings.lock_after then
        key.locked_until = state.now() + state.settings.lock_seconds
    end
    return answers.unauthorized("0301", "verify aksk signature fail")
end

local function is_locked(key)
    if not key.locked_until then return false end
    if state.now() < key.locked_until then return true end
    key.locked_until, key.failures = nil, 0
    return false
end

local function check_signature(authorization, request)
    local parsed = type(authorization) == "string" and signature.parse(authorization)
    if not parsed then return nil, answers.unauthorized("0301", "authorization is malformed") end
    local identity = { kind = "signature", access_key = parsed.ak, algorithm = parsed.algorithm,
        signed = parsed.signed }
    local key = keys[parsed.ak]
    if not key then
        local detail = "Get secretKey failed,ak:" .. parsed.ak .. ",err:ak not exist"
        return nil, answers.unauthorized("0301", detail), identity
    end
    if key.token then identity.kind = "temporary" end
    if is_locked(key) then
        local detail = "AK access failed to reach the limit,forbidden"
        return nil, answers.unauthorized("0301", detail), identity
    end
    local refused = check_clock(request)
    if refused then return nil, refused, identity end
    local wrong = check_signed_names(parsed, request) or check_scope(parsed, request)
    if wrong then return nil, answers.unauthorized("0301", wrong), identity end
    local expected = signature.compute(parsed, request, key.sk)
    if expected ~= parsed.signature or not signature.payload_fits(parsed.algorithm, request) then
        return nil, bad_signature(key), identity
    end
    key.failures = 0
    refused = check_temporary(key, request)
    if refused then return nil, refused, identity end
    return identity
end

-- identity | nil, the refusal, what is known of the asker
function access.authenticate(request)
    local token = request.headers["x-auth-token"]
    if token then
        local identity, refused = check_token(token)
        return identity, refused, { kind = "token" }
    end
    local authorization = request.headers["authorization"]
    if not authorization then
        return nil, answers.unauthorized("0301", "no authentication information"), { kind = "none" }
    end
    return check_signature(authorization, request)
end

return access
