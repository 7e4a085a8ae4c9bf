-- SPDX-License-Identifier: MIT
-- Files that a command is given.

local errors = require "csms.errors"

local M = {}

--- All bytes of a file, of stdin for "-"; or nil and the error.
function M.read(path)
    local file, problem = io.stdin, nil
    if path ~= "-" then file, problem = io.open(path, "rb") end
    local bytes
    if file then bytes, problem = file:read("*a") end
    if file and path ~= "-" then file:close() end
    if not bytes then
        problem = tostring(problem):gsub("^" .. path:gsub("%p", "%%%0") .. ": ", "")
        return nil, errors.new("argument", ("cannot read %s: %s"):format(path, problem))
    end
    return bytes
end

return M
