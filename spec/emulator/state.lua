-- What every part of one running instance shares: its configuration, the settings that control can
-- change, and the clock. All of it lives in the single nginx worker.
local json = require "spec.emulator.json"

local state = { config = {}, settings = {} }

-- Every setting that control takes, with its start value. README.md says what each one means.
local DEFAULTS = {
    agency = true,
    blob_host = "huaweicloud.com",
    clock_offset = 0,
    disabled_backup = "serve",
    gateway_prefix = "APIG.",
    iam_projects = "default",
    limit_form = "full",
    limit_style = "text",
    limits = json.array(),
    lock_after = 5,
    lock_seconds = 300,
    log_cap = 10000,
    log_headers = false,
    metadata_version = 2,
    metadata_v1_status = 404,
    page_clamp = 0,
    page_marker = "last",
    pod_identity_form = "huawei",
    random_seed = 1,
    temporary_key_life = 86400,
    token_bytes = 1500,
    token_life = 86400,
    token_uses = 0,
}

local CHOICES = {
    disabled_backup = { serve = true, refuse = true },
    limit_form = { full = true, short = true, bare = true },
    limit_style = {
        text = true, retry_after = true, both = true, date = true, text_date = true, none = true,
    },
    page_marker = { last = true, omit = true, null = true, ["repeat"] = true },
    pod_identity_form = { huawei = true, aliases = true },
}

local resets = {}

function state.load(path)
    local file = assert(io.open(path, "rb"))
    state.config = assert(json.decode(file:read("*a")), "config.json is not JSON")
    file:close()
end

function state.now()
    return ngx.now() + state.settings.clock_offset
end

-- A module registers how it goes back to its start state, and is brought there at once.
function state.on_reset(fn)
    resets[#resets + 1] = fn
end

function state.reset()
    for name in pairs(state.settings) do state.settings[name] = nil end
    for name, value in pairs(DEFAULTS) do state.settings[name] = value end
    math.randomseed(DEFAULTS.random_seed)
    for _, fn in ipairs(resets) do fn() end
end

local function check(name, value)
    local default = DEFAULTS[name]
    if default == nil then return nil, "unknown setting: " .. tostring(name) end
    local free = name == "iam_projects" and type(value) == "table"
    if type(value) ~= type(default) and not free then
        return nil, "setting " .. name .. " must be a " .. type(default)
    end
    if CHOICES[name] and not CHOICES[name][value] then
        return nil, "setting " .. name .. " does not know the value " .. tostring(value)
    end
    return true
end

-- All or nothing: true | nil, what is wrong
function state.set(changes)
    for name, value in pairs(changes) do
        local ok, err = check(name, value)
        if not ok then return nil, err end
    end
    for name, value in pairs(changes) do state.settings[name] = value end
    if changes.random_seed then math.randomseed(changes.random_seed) end
    return true
end

return state
