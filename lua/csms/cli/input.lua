-- SPDX-License-Identifier: MIT
-- Files that a command is given.

local errors = require "csms.errors"

local M = {}

local MOST = 16 * 1024 * 1024 -- bytes; no answer that a blob came in was longer

--- All bytes of a file, of stdin for "-", that may hold a blob; or nil and the error.
function M.read(path)
    local file, problem = io.stdin, nil
    if path ~= "-" then file, problem = io.open(path, "rb") end
    if not file then return nil, errors.new("argument", "cannot read " .. problem) end
    local bytes
    bytes, problem = file:read(MOST + 1)
    if path ~= "-" then file:close() end
    if problem then
        return nil, errors.new("argument", ("cannot read %s: %s"):format(path, problem))
    end
    if bytes and #bytes > MOST then
        return nil, errors.new("argument", path .. " is no blob: it is longer than 16 MiB")
    end
    return bytes or ""
end

return M
