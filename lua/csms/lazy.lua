-- SPDX-License-Identifier: MIT
-- A module that is loaded when a function of it is first asked for: a program that
-- makes one backup does not read what batches, listings and metadata need.

local path, cpath = package.path, package.cpath

-- Finds it where this module was found, though the program may have set other paths since.
local function load_module(name)
    local path_now, cpath_now = package.path, package.cpath
    package.path = path .. ";" .. (path_now or "")
    package.cpath = cpath .. ";" .. (cpath_now or "")
    local good, value = pcall(require, name)
    package.path, package.cpath = path_now, cpath_now
    if not good then error(value, 0) end
    return value
end

--- What `require(name)` gives, later. Only for fields, not for iteration.
return function(name)
    return setmetatable({}, { __index = function(self, key)
        local value = (package.loaded[name] or load_module(name))[key]
        self[key] = value
        return value
    end })
end
