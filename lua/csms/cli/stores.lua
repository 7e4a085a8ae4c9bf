-- SPDX-License-Identifier: MIT
-- The store that a command reads.

local core = require "csms.core"
local csms = require "csms"
local errors = require "csms.errors"

local M = {}

--- A store that is there, or nil and the error: a folder that is not is a
--- mistake in the command, not an empty store.
function M.open(dir)
    local handle, err = core.directory(dir)
    if handle then
        handle:close()
    elseif err.code == "ENOENT" then
        return nil, errors.new("config", dir .. " is not there; name the folder that "
            .. "`csms backup -o DIR` filled")
    end
    return csms.store(dir)
end

return M
