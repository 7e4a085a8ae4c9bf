-- Answers as tables {status, headers, body}, and every shape of error body that the service and
-- what stands in front of it are known to send.
local json = require "spec.emulator.json"
local state = require "spec.emulator.state"

local answers = {}

local TITLES = {
    [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found",
    [409] = "Conflict", [429] = "Too Many Requests", [500] = "Internal Server Error",
    [502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Timeout",
}

local GATEWAY = 6

local function html(status)
    local title = status .. " " .. (TITLES[status] or "Error")
    return "<html><head><title>" .. title .. "</title></head><body><h1>" .. title
        .. "</h1></body></html>\n"
end

-- Numbered as the README numbers them.
local SHAPES = {
    [0] = function() return "" end,
    [1] = function(e) return { error_code = e.code, error_msg = e.message } end,
    [2] = function(e) return { error = { error_code = e.code, error_msg = e.message } } end,
    [3] = function(e)
        local title = TITLES[e.status] or "Error"
        return { error = { code = tonumber(e.code) or e.code, message = e.message, title = title } }
    end,
    [4] = function(e) return { code = e.code, message = e.message } end,
    [5] = function(e)
        return {
            error_code = e.code, error_msg = e.message, details = json.array(),
            encoded_authorization_message = "ZW11bGF0ZWQ",
        }
    end,
    [GATEWAY] = function(e)
        return { error_code = e.code, error_msg = e.message, request_id = e.request_id }
    end,
    [7] = function(e) return html(e.status) end,
    camel = function(e) return { errorCode = e.code, errorMsg = e.message } end,
}

function answers.knows_shape(shape)
    return SHAPES[shape] ~= nil
end

function answers.json(status, body, headers)
    headers = headers or {}
    headers["Content-Type"] = headers["Content-Type"] or "application/json"
    return { status = status, body = json.encode(body), headers = headers }
end

-- The busiest answer. A blob has nothing that JSON would escape.
function answers.backup(blob)
    return {
        status = 200, body = '{"secret_blob":"' .. blob .. '"}',
        headers = { ["Content-Type"] = "application/json" },
    }
end

function answers.empty(status)
    return { status = status, body = "", headers = {} }
end

function answers.error(status, code, message, shape)
    local body = SHAPES[shape or 1]({
        status = status, code = code, message = message, request_id = ngx.ctx.request_id,
    })
    if type(body) == "table" then return answers.json(status, body) end
    return { status = status, body = body, headers = { ["Content-Type"] = "text/html" } }
end

-- number: "0301", without the prefix that varies between regions.
function answers.gateway(status, number, message, headers)
    local answer = answers.error(status, state.settings.gateway_prefix .. number, message, GATEWAY)
    for name, value in pairs(headers or {}) do answer.headers[name] = value end
    return answer
end

function answers.unauthorized(number, detail)
    return answers.gateway(401, number, "Incorrect IAM authentication information: " .. detail)
end

return answers
