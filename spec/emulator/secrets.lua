-- The secrets of each project: the seeded ones, laid over with what was made, changed or deleted.
local crypto = require "spec.emulator.crypto"
local json = require "spec.emulator.json"
local seeds = require "spec.emulator.seeds"
local state = require "spec.emulator.state"

local secrets = {}

local MAX_VERSIONS = 20

local stores

state.on_reset(function() stores = {} end)

local function store_of(project)
    local store = stores[project]
    if not store then
        local count = project == state.config.project and state.config.secrets or 0
        store = {
            seeded = count, format = seeds.name_format(count),
            kept = {}, gone = {}, extra = {}, sorted = true,
        }
        stores[project] = store
    end
    return store
end

local function millis()
    return math.floor(state.now() * 1000)
end

local function seeded_index(store, name)
    return store.seeded > 0 and seeds.index(name, store.seeded) or nil
end

local function seeded(store, i)
    return seeds.make(i, store.format:format(i), state.config.kms_key_id)
end

function secrets.get(project, name)
    local store = store_of(project)
    local kept = store.kept[name]
    if kept then return kept end
    local i = seeded_index(store, name)
    if i and not store.gone[i] then return seeded(store, i) end
    return nil
end

-- The same, for a caller who will change it: from now on it is kept.
function secrets.own(project, name)
    local secret = secrets.get(project, name)
    if secret then store_of(project).kept[name] = secret end
    return secret
end

function secrets.put(project, secret)
    local store = store_of(project)
    local i = seeded_index(store, secret.name)
    if i then
        store.gone[i] = nil
    elseif not store.kept[secret.name] then
        store.extra[#store.extra + 1] = secret.name
        store.sorted = false
    end
    store.kept[secret.name] = secret
end

local function sort(store)
    if not store.sorted then table.sort(store.extra) end
    store.sorted = true
end

-- Index of the first item after `marker` among n sorted ones that name(i) gives.
local function first_after(marker, n, name)
    if not marker then return 1 end
    local low, high = 1, n + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if name(middle) > marker then high = middle else low = middle + 1 end
    end
    return low
end

function secrets.delete(project, name)
    local store = store_of(project)
    if not secrets.get(project, name) then return false end
    store.kept[name] = nil
    local i = seeded_index(store, name)
    if i then
        store.gone[i] = true
        return true
    end
    sort(store)
    local function extra(n) return store.extra[n] end
    table.remove(store.extra, first_after(name, #store.extra, extra) - 1)
    return true
end

-- Up to `limit` secrets whose names follow `marker`, in the order of names.
function secrets.page(project, marker, limit)
    local store = store_of(project)
    sort(store)
    local function seeded_name(i) return store.format:format(i) end
    local function extra_name(i) return store.extra[i] end
    local i = first_after(marker, store.seeded, seeded_name)
    local j = first_after(marker, #store.extra, extra_name)
    local list = {}
    while #list < limit do
        while store.gone[i] do i = i + 1 end
        local a = i <= store.seeded and seeded_name(i) or nil
        local b = store.extra[j]
        if not a and not b then break end
        if a and (not b or a < b) then
            list[#list + 1] = store.kept[a] or seeded(store, i)
            i = i + 1
        else
            list[#list + 1] = store.kept[b]
            j = j + 1
        end
    end
    return list
end

function secrets.count(project)
    local store = store_of(project)
    local count = store.seeded + #store.extra
    for _ in pairs(store.gone) do count = count - 1 end
    return count
end

-- What the API shows of a secret: all but its versions.
function secrets.metadata(secret)
    local shown = {}
    for field, value in pairs(secret) do
        if field ~= "versions" then shown[field] = value end
    end
    if shown.scheduled_delete_time == nil then shown.scheduled_delete_time = json.null end
    return shown
end

-- fields: what a client may say of it; its state and times are the service's own
function secrets.make(fields)
    local now = millis()
    return {
        id = crypto.uuid(), name = fields.name, state = "ENABLED",
        kms_key_id = fields.kms_key_id or state.config.kms_key_id,
        description = fields.description or "", secret_type = fields.secret_type or "COMMON",
        create_time = now, update_time = now,
        auto_rotation = fields.auto_rotation or false,
        rotation_period = fields.rotation_period, rotation_config = fields.rotation_config,
        enterprise_project_id = fields.enterprise_project_id or "0",
        event_subscriptions = json.array(fields.event_subscriptions),
        versions = { {
            id = "v1", create_time = now, version_stages = json.array({ "SYSCURRENT" }),
            secret_string = fields.secret_string, secret_binary = fields.secret_binary,
        } },
    }
end

local function without(stages, names)
    local left = json.array()
    for _, stage in ipairs(stages) do
        if not names[stage] then left[#left + 1] = stage end
    end
    return left
end

-- A stage sits on one version only; SYSPREVIOUS goes where SYSCURRENT was.
local function move_stages(secret, wanted)
    local names = {}
    for _, stage in ipairs(wanted) do names[stage] = true end
    if names.SYSCURRENT then names.SYSPREVIOUS = true end
    for _, version in ipairs(secret.versions) do
        local was_current = false
        for _, stage in ipairs(version.version_stages) do
            was_current = was_current or stage == "SYSCURRENT"
        end
        version.version_stages = without(version.version_stages, names)
        if was_current and names.SYSCURRENT then
            table.insert(version.version_stages, "SYSPREVIOUS")
        end
    end
end

-- version | nil where the secret has as many as it may
function secrets.add_version(secret, fields)
    if #secret.versions >= MAX_VERSIONS then return nil end
    local wanted = fields.version_stages or { "SYSCURRENT" }
    move_stages(secret, wanted)
    local version = {
        id = "v" .. #secret.versions + 1, create_time = millis(), expire_time = fields.expire_time,
        version_stages = json.array(wanted), secret_string = fields.secret_string,
        secret_binary = fields.secret_binary,
    }
    table.insert(secret.versions, version)
    secret.update_time = version.create_time
    return version
end

-- id: v1, v2 ... or "latest"
function secrets.version(secret, id)
    if id == "latest" then return secret.versions[#secret.versions] end
    for _, version in ipairs(secret.versions) do
        if version.id == id then return version end
    end
    return nil
end

function secrets.version_metadata(secret, version)
    return {
        id = version.id, create_time = version.create_time, expire_time = version.expire_time,
        kms_key_id = secret.kms_key_id, secret_name = secret.name,
        version_stages = version.version_stages,
    }
end

return secrets
