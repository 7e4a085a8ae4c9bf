-- The operations of CSMS itself. Each takes a request and gives an answer.
local answers = require "spec.emulator.answers"
local blob = require "spec.emulator.blob"
local json = require "spec.emulator.json"
local secrets = require "spec.emulator.secrets"
local state = require "spec.emulator.state"

local csms = {}

local DEFAULT_LIMIT, MAX_LIMIT = 50, 1000
local MAX_VALUE = 32 * 1024
local MAX_STAGES = 12

local function refuse(code, message, status)
    return answers.error(status or 400, "CSMS." .. code, message)
end

local function not_found(name)
    return refuse("0106", "secret " .. name .. " does not exist")
end

local function read_json(request)
    if not json.is_declared(request) then
        return nil, refuse("0004", "the Content-Type of the body must be application/json")
    end
    local body = json.decode(request.body)
    if type(body) ~= "table" then return nil, refuse("0004", "the body is not a JSON object") end
    return body
end

-- nil, or why a secret in this state cannot be used
local function unusable(secret)
    if secret.state == "PENDING_DELETE" then
        return refuse("0103", "the secret is in scheduled deletion")
    end
    if secret.state ~= "ENABLED" then
        return refuse("0109", "the secret is not ENABLED: " .. secret.state, 403)
    end
    return nil
end

local function value_of(body)
    local text, binary = body.secret_string, body.secret_binary
    if (text == nil) == (binary == nil) then
        return refuse("0002", "exactly one of secret_string and secret_binary is needed")
    end
    local value = text or binary
    if type(value) ~= "string" or #value > MAX_VALUE then
        return refuse("0002", "the value must be a string of at most 32K")
    end
    if binary and (#binary % 4 > 0 or not binary:find("^[%w+/]*=?=?$")) then
        return refuse("0002", "secret_binary must be base64")
    end
    return nil
end

local function text_of_at_most(bytes)
    return function(value) return type(value) == "string" and #value <= bytes end
end

local UNITS = { d = 24, h = 1, m = 1 / 60, s = 1 / 3600 } -- in hours

local function is_period(value)
    local count, unit = tostring(value):match("^(%d+)([dhms])$")
    local hours = count and count * UNITS[unit]
    return hours ~= nil and hours >= 6 and hours <= 8760
end

local function are_stages(value)
    if type(value) ~= "table" or #value < 1 or #value > MAX_STAGES then return false end
    for _, stage in ipairs(value) do
        if type(stage) ~= "string" or #stage > 64 or not stage:find("^[%w_-]+$") then
            return false
        end
    end
    return true
end

-- The optional fields of bodies that have a limit: what each must be.
local FIELDS = {
    { "description", text_of_at_most(2048), "a string of at most 2048 bytes" },
    { "rotation_config", text_of_at_most(1024), "a string of at most 1024 characters" },
    { "rotation_period", is_period, "an integer with d, h, m or s, from 6h to 8760h" },
    { "event_subscriptions", function(value) return type(value) == "table" and #value <= 1 end,
        "an array of at most 1" },
    { "version_stages", are_stages, "an array of 1 to 12 names of 1 to 64 characters" },
}

-- nil, or the refusal
local function check_fields(body)
    for _, field in ipairs(FIELDS) do
        local name, fits, what = field[1], field[2], field[3]
        if body[name] ~= nil and not fits(body[name]) then
            return refuse("0002", name .. " must be " .. what)
        end
    end
    if body.auto_rotation == true and body.rotation_period == nil then
        return refuse("0002", "auto_rotation needs a rotation_period")
    end
    return nil
end

local function limit_of(request)
    local text = request.args.limit
    if text == nil then return DEFAULT_LIMIT end
    local limit = text:find("^%d+$") and tonumber(text)
    if not limit or limit < 1 or limit > MAX_LIMIT then
        return nil, refuse("0002", "limit must be an integer from 1 to 1000")
    end
    return limit
end

local function clamp(limit)
    local most = state.settings.page_clamp
    return most > 0 and math.min(limit, most) or limit
end

-- The last page carries next_marker too, unless a setting says otherwise.
local function page_info(first, last, count, more)
    local marker, style = last, state.settings.page_marker
    if not more and style == "omit" then marker = nil end
    if not more and style == "null" then marker = json.null end
    return { next_marker = marker, previous_marker = first, current_count = count }
end

local function last_page(project, limit)
    local all = secrets.page(project, nil, math.huge)
    local list = {}
    for i = math.max(1, #all - limit + 1), #all do list[#list + 1] = all[i] end
    return list
end

function csms.list(request)
    if request.args.marker and not request.args.limit then
        return refuse("0002", "marker and limit must be used together")
    end
    local asked, refused = limit_of(request)
    if refused then return refused end
    local limit = clamp(asked)
    local list = secrets.page(request.project, request.args.marker, limit)
    if #list == 0 and state.settings.page_marker == "repeat" then
        list = last_page(request.project, limit)
    end
    local last = list[#list] and list[#list].name
    local more = last and #secrets.page(request.project, last, 1) > 0
    local shown = json.array()
    for i, secret in ipairs(list) do shown[i] = secrets.metadata(secret) end
    local info = page_info(list[1] and list[1].name, last, #list, more)
    return answers.json(200, { secrets = shown, page_info = info })
end

function csms.show(request)
    local secret = secrets.get(request.project, request.name)
    if not secret then return not_found(request.name) end
    return answers.json(200, { secret = secrets.metadata(secret) })
end

function csms.create(request)
    local body, refused = read_json(request)
    if not body then return refused end
    local name = body.name
    if type(name) ~= "string" or not name:find("^[%w_-]+$") or #name > 64 then
        return refuse("0002", "name must fit ^[a-zA-Z0-9_-]{1,64}$")
    end
    refused = value_of(body) or check_fields(body)
    if refused then return refused end
    -- The code for a name that is taken is in no document; this one is made up.
    if secrets.get(request.project, name) then return refuse("0110", "the name is taken") end
    local secret = secrets.make(body)
    secrets.put(request.project, secret)
    return answers.json(200, { secret = secrets.metadata(secret) })
end

function csms.delete(request)
    if not secrets.delete(request.project, request.name) then return not_found(request.name) end
    return answers.empty(200)
end

function csms.backup(request)
    local secret = secrets.get(request.project, request.name)
    if not secret then return not_found(request.name) end
    local served = secret.state == "DISABLED" and state.settings.disabled_backup == "serve"
    local refused = not served and unusable(secret)
    if refused then return refused end
    return answers.backup(blob.seal(request.project, secret))
end

function csms.restore(request)
    local body, refused = read_json(request)
    if not body then return refused end
    if type(body.secret_blob) ~= "string" then return refuse("0002", "secret_blob is missing") end
    local secret, why = blob.open(body.secret_blob)
    if why == "malformed" then return refuse("0002", "secret_blob is not a backup") end
    if not secret then return refuse("0401", "secret_blob was not made here, or was changed") end
    -- As in create: no document gives the code.
    if secrets.get(request.project, secret.name) then
        return refuse("0110", "a secret of that name exists")
    end
    secrets.put(request.project, secret)
    return answers.json(200, { secret = secrets.metadata(secret) })
end

function csms.create_version(request)
    local body, refused = read_json(request)
    if not body then return refused end
    local secret = secrets.get(request.project, request.name)
    if not secret then return not_found(request.name) end
    refused = unusable(secret) or value_of(body) or check_fields(body)
    if refused then return refused end
    secret = secrets.own(request.project, request.name)
    local version = secrets.add_version(secret, body)
    if not version then return refuse("0002", "the secret has 20 versions already") end
    return answers.json(200, { version_metadata = secrets.version_metadata(secret, version) })
end

local function versions_after(secret, marker, limit)
    local list, passed = json.array(), marker == nil
    for _, version in ipairs(secret.versions) do
        if passed and #list < limit then
            list[#list + 1] = secrets.version_metadata(secret, version)
        end
        passed = passed or version.id == marker
    end
    return list
end

function csms.list_versions(request)
    local limit, refused = limit_of(request)
    if refused then return refused end
    local secret = secrets.get(request.project, request.name)
    if not secret then return not_found(request.name) end
    local list = versions_after(secret, request.args.marker, clamp(limit))
    local last = list[#list] and list[#list].id
    local more = last and #versions_after(secret, last, 1) > 0
    local info = page_info(list[1] and list[1].id, last, #list, more)
    return answers.json(200, { version_metadatas = list, page_info = info })
end

function csms.show_version(request)
    local secret = secrets.get(request.project, request.name)
    if not secret then return not_found(request.name) end
    local refused = unusable(secret)
    if refused then return refused end
    local version = secrets.version(secret, request.version)
    if not version then return refuse("0005", "the version does not exist") end
    return answers.json(200, { version = {
        version_metadata = secrets.version_metadata(secret, version),
        secret_string = version.secret_string, secret_binary = version.secret_binary,
    } })
end

return csms
