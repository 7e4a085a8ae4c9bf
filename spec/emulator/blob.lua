-- Backup blobs: a prefix of the service, and a JWE that only the instance which made it can open.
local json = require "spec.emulator.json"
local jwe = require "spec.emulator.jwe"
local pkey = require "openssl.pkey"
local state = require "spec.emulator.state"

local blob = {}

local MAGIC = ")CloudSecretManagementBackupV1."

local key, header

local function own_key()
    if not key then
        local file = assert(io.open(state.config.dir .. "/blob.key", "rb"))
        key = pkey.new(file:read("*a"))
        file:close()
        header = jwe.header(state.config.kid)
    end
    return key, header
end

function blob.seal(project, secret)
    local rsa, head = own_key()
    local content = json.encode({ region = state.config.region, project_id = project,
        secret = secret })
    return MAGIC .. state.settings.blob_host .. jwe.encrypt(rsa, head, content)
end

local function restore_arrays(secret)
    secret.event_subscriptions = json.array(secret.event_subscriptions)
    for _, version in ipairs(secret.versions) do
        version.version_stages = json.array(version.version_stages)
    end
    return secret
end

-- secret | nil, "malformed" or "foreign"
function blob.open(text)
    if text:sub(1, #MAGIC) ~= MAGIC then return nil, "malformed" end
    local start = text:find("eyJ", #MAGIC + 1, true)
    local compact = start and text:sub(start)
    local head = compact and jwe.inspect(compact)
    if not head then return nil, "malformed" end
    if head.kid ~= state.config.kid then return nil, "foreign" end
    local plain = jwe.decrypt(own_key(), compact)
    local content = plain and json.decode(plain)
    if not content then return nil, "foreign" end
    return restore_arrays(content.secret)
end

return blob
