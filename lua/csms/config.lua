-- SPDX-License-Identifier: MIT
-- A client's configuration: what keys there are, their types, defaults and
-- where the environment fills in. The only module that reads the environment
-- (credentials read theirs through it).

local errors = require "csms.errors"

local M = {}

local function positive(value) return value > 0 and value < math.huge, "must be above 0" end
local function count(value) return value >= 1 and value % 1 == 0, "must be a whole number from 1" end
local function not_negative(value) return value >= 0 and value < math.huge, "must not be negative" end

local function one_of(...)
    local allowed = { ... }
    local text = "must be one of " .. table.concat(allowed, ", ")
    return function(value)
        for _, item in ipairs(allowed) do
            if value == item then return true end
        end
        return false, text
    end
end

local function region_id(value)
    return value:find("^[a-z0-9-]+$") ~= nil, "must be a region id such as cn-north-4"
end

-- key = { type, default, env = variable that fills it in, check = function }
local CLIENT = {
    endpoint = { "string", env = "CSMS_ENDPOINT" },
    region = { "string", env = "CSMS_REGION", check = region_id },
    project = { "string", env = "HUAWEICLOUD_SDK_PROJECT_ID" },
    credentials = { "table" },
    iam_endpoint = { "string", env = "HUAWEICLOUD_SDK_IAM_ENDPOINT" },
    connect_timeout = { "number", 5, check = positive },
    timeout = { "number", 30, check = positive },
    deadline = { "number", 120, check = positive },
    retry = { "retry" },
    rate = { "number", check = positive },
    concurrency = { "number", 16, check = count },
    ca_file = { "string", env = "CSMS_CA_FILE" },
    proxy = { "string" },
    allow_http = { "boolean", false },
    allow_periods = { "boolean", false },
    max_response = { "number", 16 * 1024 * 1024, check = count },
    http_version = { "string", "2", check = one_of("2", "1.1") },
    signing = { "string", "SDK-HMAC-SHA256",
        check = one_of("SDK-HMAC-SHA256", "SDK-HMAC-SM3", "V11-HMAC-SHA256") },
    signing_service = { "string" },
    user_agent = { "string" },
    on_event = { "function" },
}

local RETRY = {
    attempts = { "number", check = count },
    base = { "number", 0.05, check = not_negative },
    throttle_base = { "number", 1, check = not_negative },
    cap = { "number", 20, check = not_negative },
    budget = { "number", 500, check = not_negative },
}

local CALL = {
    timeout = CLIENT.timeout, deadline = CLIENT.deadline, retry = CLIENT.retry,
}

local function sorted_keys(schema)
    local keys = {}
    for key in pairs(schema) do keys[#keys + 1] = key end
    table.sort(keys)
    return table.concat(keys, ", ")
end

local function refuse(what, key, problem)
    return nil, errors.new("config", ("%s: '%s' %s"):format(what, tostring(key), problem))
end

local check -- a retry table is checked by the same function

local function check_value(what, key, value, rule)
    if rule[1] == "retry" then
        if value == false then return false end
        if type(value) ~= "table" then return refuse(what, key, "must be a table or false") end
        return check(what .. "." .. key, value, RETRY)
    end
    if type(value) ~= rule[1] then
        return refuse(what, key, ("must be a %s, not a %s"):format(rule[1], type(value)))
    end
    if rule.check then
        local good, problem = rule.check(value)
        if not good then return refuse(what, key, problem) end
    end
    return value
end

-- A copy of `given` that has passed; `what` names the table in messages.
function check(what, given, schema)
    local result = {}
    for key, value in pairs(given) do
        local rule = schema[key]
        if not rule then
            return refuse(what, key, "is not known; known are " .. sorted_keys(schema))
        end
        local err
        result[key], err = check_value(what, key, value, rule)
        if err then return nil, err end
    end
    return result
end

local function fill_in(result, schema, getenv)
    for key, rule in pairs(schema) do
        if result[key] == nil then
            result[key] = rule.env and M.variable(rule.env, getenv) or rule[2]
        end
    end
    return result
end

--- An environment variable that is set and not empty, or nil.
function M.variable(name, getenv)
    local value = (getenv or os.getenv)(name)
    return value ~= "" and value or nil
end

--- Checks a client's config and fills in environment and defaults.
-- Returns a new table, or nil and an error of kind "config" that names the key.
function M.client(given, getenv)
    local result, err = check("config", given, CLIENT)
    if not result then return nil, err end
    fill_in(result, CLIENT, getenv)
    if result.retry ~= false then
        result.retry = fill_in(result.retry or {}, RETRY, getenv)
    end
    if result.region then -- may come from the environment
        local good, problem = region_id(result.region)
        if not good then return refuse("config", "region", problem) end
    end
    return result
end

--- Checks the opts of one call; nil gives an empty table.
function M.call(opts)
    return check("opts", opts or {}, CALL)
end

--- Checks a provider's own table against a schema of the form above.
function M.provider(name, given, schema)
    return check("credentials." .. name, given, schema)
end

return M
