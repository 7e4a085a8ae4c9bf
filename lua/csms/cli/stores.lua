-- SPDX-License-Identifier: MIT
-- The store that a command reads.

local csms = require "csms"
local errors = require "csms.errors"

local M = {}

--- A store that is there, or nil and the error: a folder that is not is a
--- mistake in the command, not an empty store.
function M.open(dir)
    local file = io.open(dir)
    if not file then
        return nil, errors.new("config", dir .. " is not there; name the folder that "
            .. "`csms backup -o DIR` filled")
    end
    file:close()
    return csms.store(dir)
end

return M
