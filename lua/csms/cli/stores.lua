-- SPDX-License-Identifier: MIT
-- The store that a command reads.

local csms = require "csms"
local errors = require "csms.errors"

local M = {}

local ENOENT = 2

--- A store that is there, or nil and the error: a folder that is not is a
--- mistake in the command, not an empty store.
function M.open(dir)
    local file, _, code = io.open(dir)
    if not file and code == ENOENT then
        return nil, errors.new("config", dir .. " is not there; name the folder that "
            .. "`csms backup -o DIR` filled")
    end
    if file then file:close() end
    return csms.store(dir)
end

return M
