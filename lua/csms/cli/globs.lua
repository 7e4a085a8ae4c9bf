-- SPDX-License-Identifier: MIT
-- Shell globs (* and ?) on names, as --match takes them.

local M = {}

local function pattern_of(glob)
    local escaped = glob:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
    return "^" .. escaped .. "$"
end

--- A function(name) that tells whether any of the globs fits; all do without globs.
function M.matcher(globs)
    local patterns = {}
    for index, glob in ipairs(globs) do patterns[index] = pattern_of(glob) end
    return function(name)
        for _, pattern in ipairs(patterns) do
            if name:find(pattern) then return true end
        end
        return #patterns == 0
    end
end

return M
