-- SPDX-License-Identifier: MIT
-- csms show: what the service knows of a secret, but its value.

local connection = require "csms.cli.connection"
local exit_codes = require "csms.cli.exit_codes"
local times = require "csms.cli.times"

local M = {}

local FIRST = { "name", "id", "state", "secret_type", "kms_key_id", "description" }

local function text_of(out, key, value)
    if type(value) == "table" then return out.json_of(key, value) end
    if key:find "_time$" then return times.of_service(value) end
    return tostring(value)
end

local function rows_of(out, secret)
    local rows, others = {}, {}
    local shown = {}
    for _, key in ipairs(FIRST) do
        shown[key] = true
        if secret[key] ~= nil then rows[#rows + 1] = { key, text_of(out, key, secret[key]) } end
    end
    for key in pairs(secret) do
        if not shown[key] then others[#others + 1] = key end
    end
    table.sort(others)
    for _, key in ipairs(others) do rows[#rows + 1] = { key, text_of(out, key, secret[key]) } end
    return rows
end

function M.run(args, out)
    local client, err = connection.open(args, out)
    if not client then return out:failed(err) end
    local secret
    secret, err = client:show(nil, args.name)
    client:close()
    if not secret then return out:failed(err, true) end
    out:columns(rows_of(out, secret))
    secret.type = "secret"
    out:object(secret)
    return exit_codes.OK
end

return M
