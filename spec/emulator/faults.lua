-- Faults on demand: rules that select requests, and what each rule does to them.
local answers = require "spec.emulator.answers"
local state = require "spec.emulator.state"

local faults = {}

-- field -> type; the first five select, the others act.
local FIELDS = {
    operation = "string", name = "string", method = "string", after = "number", times = "number",
    probability = "number",
    delay = "number", status = "number", code = "string", message = "string", shape = "any",
    headers = "table", body = "string", body_size = "number", truncate = "number", drip = "number",
    act = "boolean", close = "string",
}

local CLOSES = { stream = true, connection = true, reset = true }

-- A rule is passed over where an earlier one has decided something that it sets too, and then
-- it is not used up: {status=500} and {status=429} are two answers in turn, {delay=1} joins both.
local GROUPS = {
    delay = { "delay" },
    headers = { "headers" },
    drip = { "drip" },
    outcome = { "status", "code", "message", "shape", "body", "body_size", "truncate", "close" },
}

-- What the service says with a status where a rule gives no code of its own.
local CODES = {
    [400] = { "CSMS.0002", "a parameter value is invalid", 1 },
    [401] = { "0301", "Incorrect IAM authentication information: verify aksk signature fail", 6 },
    [403] = { "0302", "The IAM user is not allowed to access the API", 6 },
    [404] = { "0101", "The API does not exist or has not been published in the environment", 6 },
    [413] = { "0201", "Request entity too large", 6 },
    [429] = { "0308", "The throttling threshold has been reached", 6 },
    [500] = { "0601", "Internal server error", 6 },
    [502] = { "0201", "Backend unavailable", 6 },
    [503] = { "0613", "IAM is unavailable", 6 },
    [504] = { "0201", "Backend timeout", 6 },
}

local rules, next_id

local function clear() rules, next_id = {}, 1 end
state.on_reset(clear)
faults.clear = clear

local function check(rule)
    for field, value in pairs(rule) do
        local want = FIELDS[field]
        if not want then return nil, "unknown fault field: " .. tostring(field) end
        if want ~= "any" and type(value) ~= want then
            return nil, "fault field " .. field .. " must be a " .. want
        end
    end
    if rule.close and not CLOSES[rule.close] then
        return nil, "close must be stream, connection or reset"
    end
    if rule.shape ~= nil and not answers.knows_shape(rule.shape) then
        return nil, "shape must be 0 to 7, or camel"
    end
    return true
end

-- id | nil, what is wrong
function faults.add(rule)
    local ok, err = check(rule)
    if not ok then return nil, err end
    local kept = { id = next_id, matched = 0, used = 0, rule = rule }
    rules[#rules + 1] = kept
    next_id = next_id + 1
    return kept.id
end

function faults.list()
    local list = {}
    for i, kept in ipairs(rules) do
        list[i] = { id = kept.id, matched = kept.matched, used = kept.used, rule = kept.rule }
    end
    return list
end

local function selects(rule, request)
    return (not rule.operation or rule.operation == request.operation)
        and (not rule.name or rule.name == request.name)
        and (not rule.method or rule.method:upper() == request.method)
end

local function groups_of(rule)
    local list = {}
    for group, fields in pairs(GROUPS) do
        for _, field in ipairs(fields) do
            if rule[field] ~= nil then
                list[#list + 1] = group
                break
            end
        end
    end
    return list
end

local function is_free(rule, decided)
    for _, group in ipairs(groups_of(rule)) do
        if decided[group] then return false end
    end
    return true
end

-- Counts the match, and says whether it is the rule's turn.
local function takes(kept)
    local rule = kept.rule
    kept.matched = kept.matched + 1
    if kept.matched <= (rule.after or 0) then return false end
    return not rule.probability or math.random() < rule.probability
end

local function is_spent(kept)
    local times = kept.rule.times or 1
    return times > 0 and kept.used >= times
end

local function merge(into, rule, decided)
    for _, group in ipairs(groups_of(rule)) do decided[group] = true end
    for field, value in pairs(rule) do
        if into[field] == nil then into[field] = value end
    end
end

-- One table of everything that befalls this request, or nil.
function faults.match(request)
    if #rules == 0 then return nil end
    local fault, decided = {}, {}
    for _, kept in ipairs(rules) do
        local rule = kept.rule
        if selects(rule, request) and not is_spent(kept) and is_free(rule, decided) and takes(kept)
        then
            kept.used = kept.used + 1
            merge(fault, rule, decided)
        end
    end
    return next(fault) and fault or nil
end

-- Does the fault replace the right answer?
function faults.replaces(fault)
    return fault.status ~= nil or fault.body ~= nil or fault.body_size ~= nil
        or fault.code ~= nil or fault.shape ~= nil
        or (fault.close ~= nil and fault.truncate == nil)
end

local function default_code(status)
    local known = CODES[status] or { "0601", "The emulator was told to fail", 6 }
    local code = known[1]
    if known[3] == 6 then code = state.settings.gateway_prefix .. code end
    return code, known[2], known[3]
end

local function is_gateway_code(code)
    return code:find("^APIG") ~= nil
end

function faults.answer(fault)
    local status = fault.status or (fault.code or fault.shape) and 500 or 200
    if fault.body_size then
        return { status = status, size = fault.body_size,
            headers = { ["Content-Type"] = "application/json" } }
    end
    if fault.body then
        return { status = status, body = fault.body,
            headers = { ["Content-Type"] = "application/json" } }
    end
    if status < 400 and not (fault.code or fault.shape) then return answers.empty(status) end
    local code, message, shape = default_code(status)
    if fault.code then
        code, shape = fault.code, is_gateway_code(fault.code) and 6 or 1
    end
    return answers.error(status, code, fault.message or message, fault.shape or shape)
end

return faults
