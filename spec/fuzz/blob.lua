-- Blob inspection: an account of any text, or an error that says it is no blob.

local blob = require "csms.blob"
local errors = require "csms.errors"
local text = require "spec.fuzz.text"

local function check_problems(problems)
    for index, problem in ipairs(problems) do
        text.check_line("problem " .. index, problem, 120)
    end
    assert(#problems <= 12, "too many problems")
end

-- What RFC 7516, 7.1 asks of any JWE in compact form.
local function check_complete(data)
    local jwe = data:match("CloudSecretManagementBackupV1.-(eyJ.*)$")
    local part = "%.[%w_-]+"
    assert(jwe:find("^[%w_-]+" .. part:rep(4) .. "$"), "complete, but no JWE")
end

local function check_found(found, data)
    assert(found.format:find("^CloudSecretManagementBackupV%d+$") and found.bytes == #data)
    for _, field in ipairs { "kid", "enc", "alg" } do
        if found[field] ~= nil then text.check_line(field, found[field], 1000) end
    end
    check_problems(found.problems)
    assert(found.complete == (#found.problems == 0), "complete, or problems")
    if found.complete then check_complete(data) end
end

-- Few copies of the blob and no more; in Lua's own count, so without what C holds.
local function inspect(data)
    if #data < 16384 then return blob.inspect(data) end
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    local found, err = blob.inspect(data)
    local used = (collectgarbage("count") - before) * 1024
    collectgarbage("restart")
    assert(used <= 4 * #data + 65536, "it takes " .. used .. " bytes to inspect " .. #data)
    return found, err
end

return function(data)
    data = text.expand(data)
    local found, err = inspect(data)
    if found then
        check_found(found, data)
    else
        assert(errors.is_error(err) and err.kind == "argument" and not err.retryable)
        text.check_line("message", err.message, 1003)
        assert(not data:find("CloudSecretManagementBackupV1.-eyJ"), "a blob that was refused")
    end
end
