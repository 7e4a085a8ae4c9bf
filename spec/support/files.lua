-- Files for specs.

local M = {}

--- The whole content of a file; raises where it cannot be read.
function M.read(path)
    local file = assert(io.open(path, "rb"))
    local content = file:read("*a")
    file:close()
    return content
end

--- Sorted paths of the files in a folder whose names match a Lua pattern.
function M.list(folder, pattern)
    local listing = assert(io.popen("ls '" .. folder .. "'"))
    local paths = {}
    for name in listing:lines() do
        if name:find(pattern) then paths[#paths + 1] = folder .. "/" .. name end
    end
    listing:close()
    return paths
end

return M
