-- Folders for specs of the store: what is in them byte for byte, and file systems
-- that refuse. Nothing here but with_store() uses the store's own code.

local csms = require "csms"
local errors = require "csms.errors"
local files = require "spec.support.files"
local shell = require("spec.support.file_child").shell

local M = {
    new = files.temporary, remove = files.remove, read = files.read, write = files.write,
}

--- A new folder, in memory; the path of a store in it, which nothing has made yet; and
--- that store. The caller closes the store and removes the folder.
-- path: where in the folder; "store" by default.
function M.with_store(path)
    local folder = M.new(true)
    local root = folder .. "/" .. (path or "store")
    return folder, root, assert(csms.store(root))
end

--- Lets a store's reads of what matches a Lua pattern fail, as those of a broken disk do.
function M.break_reads(store, pattern)
    for _, name in ipairs { "read", "entries" } do
        local real = store.dir[name]
        store.dir[name] = function(dir, path, ...)
            if not (path and path:find(pattern)) then return real(dir, path, ...) end
            return nil, errors.new("storage", "cannot read " .. path,
                { code = "EIO", cause = "Input/output error" })
        end
    end
end

function M.copy(from, to)
    assert(shell(("rm -rf '%s' && cp -a '%s' '%s' && echo done"):format(to, from, to)) == "done")
end

--- All that can be seen of a folder: a text with each entry's path, type, mode, size,
--- time of change, link, and the SHA-256 of each file.
function M.snapshot(folder)
    return shell(([[cd '%s' && find . -printf '%%P %%y %%m %%s %%T@ %%l\n' | sort;
        find . -type f -exec sha256sum {} + | sort]]):format(folder))
end

--- The entries below a folder, sorted: "path type mode", such as "runs d 700".
function M.entries(folder)
    local entries = {}
    local text = shell(("cd '%s' && find . -mindepth 1 -printf '%%P %%y %%m\\n'"):format(folder))
    for line in text:gmatch "[^\n]+" do entries[#entries + 1] = line end
    table.sort(entries)
    return entries
end

--- The paths of the files below a folder that match a Lua pattern, sorted.
function M.find(folder, pattern)
    local paths = {}
    local text = shell(("cd '%s' && find . -not -type d -printf '%%P\\n'"):format(folder))
    for path in text:gmatch "[^\n]+" do
        if path:find(pattern) then paths[#paths + 1] = path end
    end
    table.sort(paths)
    return paths
end

--- The one file that matches.
function M.only(folder, pattern)
    local paths = M.find(folder, pattern)
    assert(#paths == 1, ("%d files match %s"):format(#paths, pattern))
    return paths[1]
end

-- ---- file systems of a process's own ------------------------------------------

local namespace -- how this user gets one; false where it is not permitted

local function find_namespace()
    for _, words in ipairs { "unshare -m", "unshare -rm" } do
        local text = shell(words .. " sh -c 'mount -t tmpfs tmpfs /mnt && echo mounted'")
        if text == "mounted" then return words end
    end
    return false
end

--- A wrap for spec.support.file_child: the child sees what these mount commands
--- make. nil, and the reason, where this user may not mount.
function M.mounting(commands)
    if namespace == nil then namespace = find_namespace() end
    if not namespace then return nil, "this user may not mount file systems (unshare -m)" end
    return ([[exec %s sh -c "%s && exec COMMAND"]]):format(namespace, commands)
end

return M
