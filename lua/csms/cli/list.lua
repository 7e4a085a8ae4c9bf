-- SPDX-License-Identifier: MIT
-- csms list: the secrets of a project.

local connection = require "csms.cli.connection"
local exit_codes = require "csms.cli.exit_codes"
local times = require "csms.cli.times"

local M = {}

function M.run(args, out)
    local client, err = connection.open(args, out)
    if not client then return out:failed(err) end
    local secrets
    secrets, err = client:list()
    client:close()
    if not secrets then return out:failed(err) end
    local rows = {}
    for index, secret in ipairs(secrets) do
        rows[index] = { secret.name, secret.state or "-", times.of_service(secret.update_time) }
        secret.type = "secret"
        out:object(secret)
    end
    out:columns(rows)
    out:note(#secrets .. " secrets")
    return exit_codes.OK, { total = #secrets }
end

return M
