-- SPDX-License-Identifier: MIT
-- A module that is loaded when a function of it is first asked for: a program that
-- makes one backup does not read what batches, listings and metadata need.

--- What `require(name)` gives, later. Only for fields, not for iteration.
return function(name)
    return setmetatable({}, { __index = function(self, key)
        local value = require(name)[key]
        self[key] = value
        return value
    end })
end
