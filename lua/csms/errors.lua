-- SPDX-License-Identifier: MIT
-- The one error value of the library: a table with kind, message, retryable and
-- attempts always; status, code and request_id where a server answered; project
-- and name where they apply; cause for a library's or the system's own text;
-- past_deadline where the deadline left no time for another attempt;
-- encoded_authorization_message where the service told so of a policy that denied.

local json = require "csms.json"

local M = {}

local Error = { __name = "csms.error" }

-- The first `max` bytes, or up to three fewer where that is within a character
-- of UTF-8. By steps: a pattern that ends in $ takes quadratic time.
local function cut(text, max)
    local last = max
    while last > max - 3 and text:find("^[\128-\191]", last + 1) do last = last - 1 end
    return text:sub(1, last)
end

-- Printable, on one line and not too long, whoever the text is from.
local function printable(text, max)
    text = text:gsub("%c+", " ")
    return #text <= max and text or cut(text, max) .. "..."
end

--- One line, without secrets: what happened, then what tells it apart.
function Error.__tostring(err)
    local facts = {}
    for _, field in ipairs { "status", "code", "request_id", "project", "name", "cause" } do
        local text = err[field] and tostring(err[field])
        -- A refused name may hold anything, in any encoding.
        if text and field == "name" then text = text:gsub("[\127-\255]", "?") end
        if text then facts[#facts + 1] = field .. " " .. printable(text, 100) end
    end
    local text = err.kind .. ": " .. err.message
    return #facts == 0 and text or text .. " (" .. table.concat(facts, ", ") .. ")"
end

local MAX_MESSAGE = 1000

local RETRYABLE = { throttled = true, service = true, network = true, timeout = true }

--- An error of `kind`. `fields` (status, code, retryable, ...) is taken over.
function M.new(kind, message, fields)
    local err = fields or {}
    err.kind, err.message = kind, printable(message, MAX_MESSAGE)
    if err.retryable == nil then
        err.retryable = RETRYABLE[kind] or false
    end
    err.attempts = err.attempts or 0
    return setmetatable(err, Error)
end

--- The plain table that the C core fails with, as an error. It may quote a path
--- or an endpoint of the environment.
function M.from_core(plain)
    plain.message = printable(plain.message, MAX_MESSAGE)
    plain.cause = plain.cause and printable(plain.cause, MAX_MESSAGE)
    plain.attempts = 0
    return setmetatable(plain, Error)
end

--- The same error for another call, which has made no attempt of its own.
function M.copy(err)
    local copy = {}
    for field, value in pairs(err) do copy[field] = value end
    copy.project, copy.name, copy.attempts = nil, nil, 0
    return setmetatable(copy, Error)
end

function M.is_error(value)
    return getmetatable(value) == Error
end

-- ---- a server's answer ----------------------------------------------------

-- design 2.2: a code named here wins over the status
local KIND_OF_CODE = {
    ["CSMS.0301"] = "auth", ["KMS.0303"] = "auth",
    ["CSMS.0005"] = "not_found", ["CSMS.0106"] = "not_found",
    ["CSMS.0103"] = "state", ["CSMS.0107"] = "state", ["CSMS.0109"] = "state",
}

local KIND_OF_STATUS = {
    [401] = "auth", [403] = "denied", [404] = "not_found", [408] = "service",
    [429] = "throttled",
}

local function kind_of(status, code)
    local kind = KIND_OF_CODE[code] or KIND_OF_STATUS[status]
    if kind then return kind end
    if status >= 500 then return "service" end
    return status >= 400 and "rejected" or "protocol"
end

-- The pairs of names that the seven body shapes use (csms-api.md 6.2).
local PAIRS = { { "error_code", "error_msg" }, { "errorCode", "errorMsg" }, { "code", "message" } }

-- A blank one is none: the real one may stand further in.
local function text_of(value)
    local kind = type(value)
    local text = (kind == "string" or kind == "number") and tostring(value) or ""
    return text:find("%S") and text or nil
end

-- Nested objects in a fixed order: `error` first, as that is where they are.
local function nested(body)
    local keys = {}
    for key, value in pairs(body) do
        if type(value) == "table" and key ~= "error" then keys[#keys + 1] = key end
    end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    if type(body.error) == "table" then table.insert(keys, 1, "error") end
    return keys
end

-- Fills `found`, outside in; what is found first stays.
local function search(body, found)
    found.request_id = found.request_id or text_of(body.request_id)
    found.policy = found.policy or text_of(body.encoded_authorization_message)
    for _, names in ipairs(PAIRS) do
        found.code = found.code or text_of(body[names[1]])
        found.message = found.message or text_of(body[names[2]])
    end
    found.title = found.title or text_of(body.title)
    for _, key in ipairs(nested(body)) do search(body[key], found) end
    return found
end

-- What a person can use of an answer that is no JSON: HTML of a proxy, mostly.
-- Cut first: the patterns take quadratic time where tags are never closed.
local function plain_text(body)
    local text = cut(body, 2048):gsub("<[sS][tT][yY][lL][eE].-</[sS][tT][yY][lL][eE]>", " ")
    text = text:gsub("<[^>]*>", " "):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    return text ~= "" and text or nil
end

-- Without keys and tokens.
local function redact(text, credential)
    return credential and credential:redact(text) or text
end

--- Reads an error body of any of the seven shapes: code, message, request_id
--- and policy (the encoded authorization message), each or nil.
-- credential: what was sent, or nil; its keys go first, before anything is cut.
function M.read_body(body, credential)
    body = redact(body, credential)
    local value = json.decode(body)
    if type(value) ~= "table" then
        return { message = plain_text(body) }
    end
    local found = search(value, {})
    found.message = found.message or found.title
    return found
end

local MAX_TEXT = 300
local MAX_POLICY = 8192

-- Without whole blobs.
local function without_blobs(text, max)
    return printable((text:gsub("%)?CloudSecretManagementBackup%S*", "<blob>")), max)
end

-- A server may repeat what it was sent; so no part of a blob or a token either.
-- Ids are shorter than what is taken for one here.
local function safe_text(text, credential)
    text = redact(text, credential)
    if #text <= 40 and text:find("^[%w-]+$") then return text end -- a plain id
    text = without_blobs(text, 65536):gsub(("[%w_+-]"):rep(41) .. "[%w_.+-]*", "<...>")
    return printable(text, MAX_TEXT)
end

local KMS_KEY = "check that the KMS key exists in this account and region and is enabled, and that "
    .. "the user may use it"
local ADDRESS = "this machine's IP address is not let in; check the access control in IAM"

-- csms-api.md 6.1 and 6.3; APIGW. is the same as APIG.
local HINT_OF_CODE = {
    ["CSMS.0401"] = KMS_KEY, ["KMS.0207"] = KMS_KEY, ["KMS.0209"] = KMS_KEY,
    ["APIG.0101"] = "the endpoint does not know this path; is it the KMS endpoint of the region?",
    ["APIG.0310"] = "check the project id, and that it is the region's own",
    ["APIG.0401"] = ADDRESS, ["APIG.0402"] = ADDRESS,
    ["APIG.0802"] = "the user may not use this region; check the region, and the user in IAM",
}

local function denied_hint(operation)
    if not operation.actions then return "check the policies of this user in IAM" end
    return "the user needs the IAM actions " .. table.concat(operation.actions, ", ")
end

local HINT_OF_KIND = {
    auth = function() return "check the keys or the token, and this machine's clock" end,
    denied = denied_hint,
    throttled = function() return "ask less often; see `rate`" end,
    protocol = function() return "redirects are never followed; check the endpoint" end,
}

local function with_hints(text, kind, operation, code)
    local of_code = code and HINT_OF_CODE[code:gsub("^APIGW%.", "APIG.")]
    local of_kind = HINT_OF_KIND[kind] and HINT_OF_KIND[kind](operation)
    if of_code then text = text .. "; " .. of_code end
    if of_kind then text = text .. "; " .. of_kind end
    return text
end

local DEFAULT_TEXT = {
    auth = "authentication was refused", denied = "permission was refused",
    not_found = "not found", throttled = "too many requests", service = "the service failed",
    rejected = "the request was refused", protocol = "the answer is not one that the API knows",
    state = "the secret is not in a usable state",
}

--- The error of an answer that is not a success.
-- answer: {status, body, header = function(name)}; credential: what it was sent
-- with, or nil, to keep its keys out of the text.
function M.from_answer(operation, answer, credential)
    local found = M.read_body(answer.body, credential)
    local kind = kind_of(answer.status, found.code)
    local text = safe_text(found.message or DEFAULT_TEXT[kind], credential)
    return M.new(kind, with_hints(text, kind, operation, found.code), {
        status = answer.status,
        code = found.code and safe_text(found.code, credential),
        request_id = M.request_id(answer, found, credential),
        encoded_authorization_message = found.policy
            and without_blobs(redact(found.policy, credential), MAX_POLICY),
    })
end

local function header(answer, name)
    local value = answer.header(name)
    return value ~= "" and value or nil
end

--- The id to quote to the service's support: from the header or the body.
-- found: what read_body() found, or nil.
function M.request_id(answer, found, credential)
    local id = header(answer, "X-Request-Id") or header(answer, "X-IAM-Trace-Id")
        or found and found.request_id
    return id and safe_text(id, credential)
end

--- An answer with a good status that breaks the API's promise.
function M.protocol(answer, credential, message, retryable)
    return M.new("protocol", message, {
        status = answer.status, retryable = retryable or false,
        request_id = M.request_id(answer, nil, credential),
    })
end

--- "APIG." and "APIGW." are one prefix (csms-api.md 6.2); "" without a code.
function M.gateway_code(err)
    return err.code and err.code:match("^APIGW?%.(%d+)$") or ""
end

return M
