-- SPDX-License-Identifier: MIT
-- Files that a command is given.

local errors = require "csms.errors"

local M = {}

--- All bytes of a file, of stdin for "-"; or nil and the error.
function M.read(path)
    local file, problem = io.stdin, nil
    if path ~= "-" then file, problem = io.open(path, "rb") end
    if not file then return nil, errors.new("argument", "cannot read " .. problem) end
    local bytes
    bytes, problem = file:read("*a")
    if path ~= "-" then file:close() end
    if bytes then return bytes end
    return nil, errors.new("argument", ("cannot read %s: %s"):format(path, problem))
end

return M
