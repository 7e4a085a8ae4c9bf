-- Files for specs.

local M = {}

--- A text as one word of a shell line.
function M.quote(text)
    return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- What a shell line prints.
function M.output_of(line)
    local pipe = assert(io.popen(line))
    local text = pipe:read("*a")
    pipe:close()
    return text
end

--- The whole content of a file; raises where it cannot be read.
function M.read(path)
    local file = assert(io.open(path, "rb"))
    local content = file:read("*a")
    file:close()
    return content
end

--- Writes a file, in place where it is there.
function M.write(path, content)
    local file = assert(io.open(path, "wb"))
    assert(file:write(content))
    assert(file:close())
end

--- Sorted paths of the files in a folder whose names match a Lua pattern.
function M.list(folder, pattern)
    local listing = assert(io.popen("ls " .. M.quote(folder)))
    local paths = {}
    for name in listing:lines() do
        if name:find(pattern) then paths[#paths + 1] = folder .. "/" .. name end
    end
    listing:close()
    return paths
end

--- A new, empty folder; the caller removes it. in_memory: where there is such a file
--- system, so that thousands of small changes do not wait for a disk.
function M.temporary(in_memory)
    local first = in_memory and "mktemp -d -p /dev/shm 2>/dev/null || " or ""
    return M.output_of(first .. "mktemp -d"):match("^[^\n]+")
end

--- Whatever a spec has forbidden there.
function M.remove(folder)
    os.execute(("chmod -R u+rwX %s 2>/dev/null; rm -rf %s"):format(M.quote(folder),
        M.quote(folder)))
end

return M
