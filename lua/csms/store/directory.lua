-- SPDX-License-Identifier: MIT
-- The store's folder: the C core's directory (csms_dir.h), whose methods here
-- answer nil and an error of kind "storage" as the library knows them.

local core = require "csms.core"
local errors = require "csms.errors"

local M = {}

local Directory = {}
Directory.__index = Directory

local function pass(result, err)
    if err then return nil, errors.from_core(err) end
    return result
end

--- Opens the folder; `create` makes it, with what is missing above it.
function M.open(path, create)
    local handle, err = pass(core.directory(path, create))
    return handle and setmetatable({ handle = handle, root = path }, Directory), err
end

for _, name in ipairs {
    "create", "sync", "rename", "read", "append", "truncate", "remove", "entries", "lock",
    "stat",
} do
    Directory[name] = function(self, ...)
        return pass(self.handle[name](self.handle, ...))
    end
end

--- The entries of a folder, as above; none where it is not there.
function Directory:entries_if_any(path)
    local entries, err = self:entries(path)
    if err and err.code == "ENOENT" then return {} end
    return entries, err
end

function Directory:close()
    self.handle:close()
end

return M
