-- SPDX-License-Identifier: MIT
-- Shell globs (* and ?) on names, as `match` and --match take them.

local M = {}

local function pattern_of(glob)
    local escaped = glob:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
    return "^" .. escaped .. "$"
end

--- Whether a name can match it, or false and why not. Shells know more than * and
--- ?; a glob that means more would leave secrets out in silence.
function M.check(glob)
    if glob:find "^[a-zA-Z0-9_.*?-]+$" then return true end
    return false, ("'%s' matches no name: names have letters, digits, '_', '-' and '.', and "
        .. "in a glob only * and ? are special"):format(glob)
end

--- A function(name, ...) that tells whether a name is asked for.
-- match: a glob, a list of them, such a function itself, or nil for every name.
function M.matcher(match)
    if not match then return function() return true end end
    if type(match) == "function" then return match end
    local patterns = {}
    for index, glob in ipairs(type(match) == "table" and match or { match }) do
        patterns[index] = pattern_of(glob)
    end
    return function(name)
        for _, pattern in ipairs(patterns) do
            if name:find(pattern) then return true end
        end
        return false
    end
end

return M
