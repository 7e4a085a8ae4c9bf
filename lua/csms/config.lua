-- SPDX-License-Identifier: MIT
-- A client's configuration: what keys there are, their types, defaults and
-- where the environment fills in. The only module that reads the environment
-- (credentials read theirs through it).

local lazy = require "csms.lazy"

local errors = require "csms.errors"
local globs = lazy "csms.globs"

local M = {}

local function positive(value)
    return value > 0 and value < math.huge, "must be a finite number above 0"
end

local function not_negative(value)
    return value >= 0 and value < math.huge, "must be a finite number, not negative"
end

-- The slots of slower ones come to times that are not finite.
local function rate(value)
    return value >= 1e-6 and value < math.huge, "must be a finite number from 0.000001"
end

local function count(value)
    return value >= 1 and value < 2 ^ 53 and value % 1 == 0, "must be a whole number from 1"
end

local function up_to(most)
    return function(value)
        return count(value) and value <= most, "must be a whole number from 1 to " .. most
    end
end

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

local function provider(value)
    return type(value.get) == "function", "must be a provider: csms.credentials.static{...}, "
        .. "or an object with a method get"
end

-- key = { type, default, env = variable that fills it in, check = function }
local CLIENT = {
    endpoint = { "string", env = "CSMS_ENDPOINT" },
    region = { "string", env = "CSMS_REGION", check = region_id },
    project = { "string", env = "HUAWEICLOUD_SDK_PROJECT_ID" },
    credentials = { "table", check = provider },
    iam_endpoint = { "string", env = "HUAWEICLOUD_SDK_IAM_ENDPOINT" },
    connect_timeout = { "number", 5, check = positive },
    timeout = { "number", 30, check = positive },
    deadline = { "number", 120, check = positive },
    rate = { "number", check = rate },
    concurrency = { "number", 16, check = up_to(1000) },
    ca_file = { "string", env = "CSMS_CA_FILE" },
    proxy = { "string" },
    allow_http = { "boolean", false },
    allow_periods = { "boolean", false },
    max_response = { "number", 16 * 1024 * 1024, check = up_to(1024 * 1024 * 1024) },
    http_version = { "string", "2", check = one_of("2", "1.1") },
    signing = { "string", "SDK-HMAC-SHA256",
        check = one_of("SDK-HMAC-SHA256", "SDK-HMAC-SM3", "V11-HMAC-SHA256") },
    signing_service = { "string" },
    user_agent = { "string" },
    on_event = { "function" },
}

-- The budget is a client's; in the opts of a call it has no effect.
local RETRY = {
    attempts = { "number", check = count }, -- 4; 10 an item in a batch
    base = { "number", 0.05, check = not_negative },
    throttle_base = { "number", 1, check = not_negative },
    cap = { "number", 20, check = not_negative },
    budget = { "number", 500, check = not_negative },
}
CLIENT.retry = { RETRY }

local function with(schema, more)
    local result = {}
    for key, rule in pairs(schema) do result[key] = rule end
    for key, rule in pairs(more) do result[key] = rule end
    return result
end

local CALL = {
    timeout = CLIENT.timeout, deadline = CLIENT.deadline, retry = CLIENT.retry,
}

local BATCH = with(CALL, {
    concurrency = CLIENT.concurrency, on_result = { "function" }, on_progress = { "function" },
})

local function match(value)
    local text = "must be a glob, a list of globs without a hole, or a function"
    if type(value) == "function" then return true end
    if type(value) == "string" then return globs.check(value) end
    if type(value) ~= "table" then return false, text end
    local found = 0
    for index, glob in pairs(value) do
        if type(index) ~= "number" or type(glob) ~= "string" then return false, text end
        local good, problem = globs.check(glob)
        if not good then return false, problem end
        found = found + 1
    end
    return found == #value, text
end

local BATCH_ALL = with(BATCH, { match = { "any", check = match } })

local function sorted_keys(schema)
    local keys = {}
    for key in pairs(schema) do keys[#keys + 1] = key end
    table.sort(keys)
    return table.concat(keys, ", ")
end

-- variable: that may have filled it in, or nil.
local function refuse(what, key, problem, variable)
    local also = variable and " (or " .. variable .. ")" or ""
    return nil, errors.new("config", ("%s: '%s'%s %s"):format(what, tostring(key), also, problem))
end

local check -- a table within the table is checked by the same function

local function check_value(what, key, value, rule)
    local expected = rule[1]
    if type(expected) == "table" then
        if value == false then return false end
        if type(value) ~= "table" then return refuse(what, key, "must be a table or false") end
        return check(what .. "." .. key, value, expected)
    end
    if expected ~= "any" and type(value) ~= expected then
        return refuse(what, key, ("must be a %s, not a %s"):format(expected, type(value)))
    end
    if expected == "string" and value:find("%c") then
        return refuse(what, key, "holds a control character; check for a stray newline",
            rule.env)
    end
    if rule.check then
        local good, problem = rule.check(value)
        if not good then return refuse(what, key, problem, rule.env) end
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

local function fill_in(result, schema)
    for key, rule in pairs(schema) do
        if result[key] == nil then result[key] = rule[2] end
    end
    return result
end

local function environment(schema, getenv)
    local result = {}
    for key, rule in pairs(schema) do
        if rule.env then result[key] = M.variable(rule.env, getenv) end
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
    local result, err = check("config", with(environment(CLIENT, getenv), given), CLIENT)
    if not result then return nil, err end
    fill_in(result, CLIENT)
    if result.retry ~= false then result.retry = fill_in(result.retry or {}, RETRY) end
    return result
end

--- The retry policy where a config says nothing.
function M.default_retry()
    return fill_in({}, RETRY)
end

-- opts over the client's config; a batch's deadline is its own or none.
local function check_opts(opts, schema, config, is_batch)
    local result, err = check("opts", opts or {}, schema)
    if not result then return nil, err end
    result.timeout = result.timeout or config.timeout
    result.deadline = result.deadline or not is_batch and config.deadline or nil
    if result.retry == nil then
        result.retry = config.retry
    elseif result.retry then
        for key, value in pairs(config.retry or M.default_retry()) do
            if result.retry[key] == nil then result.retry[key] = value end
        end
    end
    return result
end

--- Checks the opts of one call: {timeout, deadline, retry}, complete.
function M.call(opts, config)
    return check_opts(opts, CALL, config, false)
end

local function batch_checker(schema)
    return function(opts, config)
        local result, err = check_opts(opts, schema, config, true)
        if result then result.concurrency = result.concurrency or config.concurrency end
        return result, err
    end
end

--- Check the opts of backup_many and backup_all; `concurrency` is complete too.
M.batch = batch_checker(BATCH)
M.batch_all = batch_checker(BATCH_ALL)

--- Checks any other table against a schema of the form above; `what` names it.
M.table = check

return M
