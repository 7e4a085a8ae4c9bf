-- Error answers: whatever a server sends becomes an error of one line, of a known kind,
-- not too long and without a key. An input is lines: status, X-Request-Id, X-IAM-Trace-Id;
-- the rest is the body. It is sent once with keys, once with a token.

local core = require "csms.core"
local errors = require "csms.errors"
local text = require "spec.fuzz.text"

local KINDS = {
    auth = true, denied = true, not_found = true, state = true, throttled = true,
    service = true, rejected = true, protocol = true,
}
local RETRYABLE = { throttled = true, service = true }
local OPERATION = { actions = { "csms:secret:get", "kms:cmk:list" } }

local keys = assert(core.credential.keys("AKIDEXAMPLE", text.sk, text.security_token))
local token = assert(core.credential.token(text.token))

local function parse(data)
    local status, id, trace, body = data:match("^(%d*)\n([^\n]*)\n([^\n]*)\n(.*)$")
    local headers = { ["X-Request-Id"] = id, ["X-IAM-Trace-Id"] = trace }
    return {
        status = 300 + (tonumber(status) or 200) % 300, body = body or data,
        header = function(name) return headers[name] end,
    }
end

local function check_fields(err, answer)
    assert(errors.is_error(err) and KINDS[err.kind], "no error of a known kind")
    assert(err.retryable == (RETRYABLE[err.kind] or false), "retryable")
    assert(err.attempts == 0 and err.status == answer.status, "attempts or status")
    text.check_line("message", err.message, 1003)
    text.check_line("tostring", tostring(err), 2000)
    for field, most in pairs { code = 303, request_id = 303,
        encoded_authorization_message = 8195 } do
        if err[field] ~= nil then text.check_line(field, err[field], most) end
    end
    assert(errors.gateway_code(err):find("^%d*$"))
end

local function check_secrets(err, secrets, data)
    for _, field in ipairs { "message", "code", "request_id", "encoded_authorization_message" } do
        for _, secret in ipairs(err[field] and secrets or {}) do
            text.check_secret(field, err[field], secret, data)
        end
    end
end

-- A long text of whole characters is cut, not lost, and between two characters.
local function check_text(found, err, data)
    if not text.is_utf8(data) then return end
    assert(text.is_utf8(err.message), "the message is cut within a character")
    if found and #found > 300 and not found:find("[%w_%c)-]") then
        assert(#err.message >= 290, "a long message is lost")
    end
end

local function check_body(found)
    for _, field in ipairs { "code", "message", "request_id", "policy" } do
        assert(found[field] == nil or type(found[field]) == "string", field .. " is no string")
    end
end

return function(input)
    local data = text.expand(input)
    local answer = parse(data)
    local found = errors.read_body(answer.body)
    check_body(found)
    for credential, secrets in pairs { [keys] = { text.sk, text.security_token },
        [token] = { text.token } } do
        local err = errors.from_answer(OPERATION, answer, credential)
        check_fields(err, answer)
        if data ~= input then check_secrets(err, secrets, text.repeats(input)) end
        check_text(found.message, err, data)
    end
end
