-- Secrets that exist without being kept: everything about number i follows from i, so an instance
-- with 100,000 of them starts as fast as one with ten.
local crypto = require "spec.emulator.crypto"
local json = require "spec.emulator.json"

local seeds = {}

local FIRST_TIME = 1767225600000 -- 2026-01-01, milliseconds
local HOUR, MINUTE = 3600000, 60000
local MAX_VERSIONS = 3

-- Wide enough that the order of names is the order of numbers.
function seeds.name_format(count)
    return "secret-%0" .. math.max(4, #tostring(count)) .. "d"
end

-- number of the seeded secret of that name | nil
function seeds.index(name, count)
    local digits = name:match("^secret%-(%d+)$")
    local i = tonumber(digits or "")
    if not i or i < 1 or i > count then return nil end
    return seeds.name_format(count):format(i) == name and i or nil
end

function seeds.value(name, version)
    return "value of " .. name .. " version " .. version
end

local function stages(version, count)
    if version == count then return json.array({ "SYSCURRENT" }) end
    if version == count - 1 then return json.array({ "SYSPREVIOUS" }) end
    return json.array()
end

local function versions(name, count, created)
    local list = {}
    for v = 1, count do
        list[v] = {
            id = "v" .. v, create_time = created + (v - 1) * MINUTE,
            version_stages = stages(v, count), secret_string = seeds.value(name, v),
        }
    end
    return list
end

function seeds.make(i, name, kms_key_id)
    local created = FIRST_TIME + i * HOUR
    local count = (i - 1) % MAX_VERSIONS + 1
    return {
        id = crypto.uuid(crypto.digest("sha256", name):sub(1, 16)), name = name, state = "ENABLED",
        kms_key_id = kms_key_id, description = "seeded secret " .. i, secret_type = "COMMON",
        create_time = created, update_time = created + (count - 1) * MINUTE, auto_rotation = false,
        enterprise_project_id = "0", event_subscriptions = json.array(),
        versions = versions(name, count, created),
    }
end

return seeds
