-- Programs that work on a store and are hindered: what they run on, and what must
-- be true of the store afterwards.

local core = require "csms.core"
local csms = require "csms"
local files = require "spec.support.files"

local quote = files.quote

local M = {
    PROJECT = ("0123456789abcdef"):rep(2),
    NAMES = { "alpha", "Beta.two" },
    STORAGE = 12, -- the exit code of a store that failed
}

--- Whether the whole is to be tried, not a part that is quick.
M.long = os.getenv "TORTURE" == "long"

function M.blob(name, version)
    return ("%s, version %s; "):format(name, version):rep(40)
end

-- ---- processes ----------------------------------------------------------------

--- Runs a shell line: its output, and its exit code.
function M.shell(line)
    local text = files.output_of("exec 2>&1; " .. line .. "; echo :$?")
    local output, code = text:match("^(.*):(%d+)\n$")
    return output, tonumber(code)
end

local function interpreter()
    return os.getenv "CSMS_SPEC_LUA" or (_VERSION == "Lua 5.4" and "lua5.4" or "luajit")
end

--- The shell line of one of these programs: its file's name and its arguments.
function M.program(name, ...)
    local words = { interpreter(), "spec/support/" .. name .. ".lua" }
    for index = 1, select("#", ...) do words[#words + 1] = quote((select(index, ...))) end
    return table.concat(words, " ")
end

--- The shell line of the command line `csms`, against an emulator.
function M.csms(emu, arguments)
    local words = { "env" }
    for key, value in pairs(emu.env) do words[#words + 1] = key .. "=" .. quote(value) end
    words[#words + 1] = interpreter() .. " lua/csms/cli.lua " .. arguments
    return table.concat(words, " ")
end

--- Builds the library of spec/support/fail_nth.c in a folder: its path.
function M.build_library(folder)
    local path = folder .. "/fail_nth.so"
    local output, code = M.shell("cc -std=c11 -D_GNU_SOURCE -O1 -shared -fPIC -o " .. path
        .. " spec/support/fail_nth.c -ldl")
    assert(code == 0, output)
    return path
end

--- Runs a command whose `at`-th call on the folder goes wrong: {output, exit, call,
--- path, calls}. how, on: FAIL_HOW and FAIL_ON of spec/support/fail_nth.c; at 0 counts:
--- `calls` has the names of all.
function M.hindered(library, command, folder, at, how, on)
    local log = os.tmpname()
    local line = ("env LD_PRELOAD=%s FAIL_UNDER=%s FAIL_AT=%d FAIL_HOW=%s %s FAIL_LOG=%s %s")
        :format(library, quote(folder), at, how or "", on and "FAIL_ON=" .. quote(on) or "", log,
            command)
    local result = { calls = {} }
    result.output, result.exit = M.shell(line)
    for number, call, path in files.read(log):gmatch("(%d+) (%S+) ([^\n]*)\n") do
        if tonumber(number) == at then result.call, result.path = call, path end
        result.calls[tonumber(number)] = call
    end
    os.remove(log)
    return result
end

-- ---- works -------------------------------------------------------------------------

local works = {}

-- What the command line does: groups, a note, the end.
function works.save(store, version, reported)
    for _, name in ipairs(M.NAMES) do
        local blob, problem = M.blob(name, version), nil
        local good, err = store:stage(M.PROJECT, name, blob, nil, function(saved, failure)
            if saved then
                reported[#reported + 1] = { file = saved.file, blob = blob }
            else
                problem = failure
            end
        end)
        if not good or problem then return nil, err or problem end
    end
    local good, err = store:note(M.PROJECT, "none", "failed", { kind = "not_found" })
    if not good then return nil, err end
    return store:flush()
end

function works.save_one(store, version, reported)
    local blob = M.blob(M.NAMES[1], version)
    local saved, err = store:save(M.PROJECT, M.NAMES[1], blob)
    if saved then reported[1] = { file = saved.file, blob = blob } end
    return saved, err
end

function works.prune(store)
    return store:prune { last = 1 }
end

-- What a reader says of what it could not read, and has gone on without; or nil.
local function named(found)
    for _, list in ipairs { found, found.problems or {}, found.secrets or {} } do
        for _, item in ipairs(type(list) == "table" and list or {}) do
            if (item.problem or ""):find "cannot" then return item.problem end
        end
    end
    return (found.unreadable or 0) > 0 and "the record of a run cannot be read" or nil
end

-- All that tells of a store.
function works.look(store)
    for _, method in ipairs { "runs", "list", "verify", "status" } do
        local found, err = store[method](store)
        if not found then return nil, err end
        if named(found) then return nil, named(found) end
    end
    for _, name in ipairs(M.NAMES) do
        local newest, err = store:newest(M.PROJECT, name)
        if not newest then return nil, err end
    end
    return true
end

-- What a restore reads.
function works.read(store)
    local list, err = store:list()
    if not list then return nil, err end
    if named(list) then return nil, named(list) end
    for _, name in ipairs(M.NAMES) do
        local blob
        blob, err = store:read(M.PROJECT, name, "2099-01-01")
        if not blob then return nil, err end
    end
    return true
end

--- Does a work on a store: what was reported as saved, an array of {file, blob},
--- and the first error or nil; a text where it was named by what went on without.
function M.work(folder, name, version)
    local reported = {}
    local store, err = csms.store(folder)
    if not store then return reported, err end
    local good, problem
    good, err = works[name](store, version, reported)
    if good then err = nil end
    good, problem = store:close()
    return reported, err or not good and problem or nil
end

--- Makes a store that has two whole runs, and one that was killed between the names
--- of its blobs and the record.
function M.make_base(folder, library)
    for version = 1, 2 do
        local _, err = M.work(folder, "save", version)
        assert(not err, tostring(err))
    end
    local fresh = folder .. "-counted"
    M.write_tree(fresh, M.read_tree(folder))
    local function save(into, at, how)
        return M.hindered(library, M.program("store_run_program", into, "save", "3"), into, at, how)
    end
    local renames = 0
    for number, call in ipairs(save(fresh, 0).calls) do
        if call == "renameat" then renames = renames + 1 end
        if renames == 2 then return save(folder, number, "kill") end
    end
end

-- ---- what is in a store ---------------------------------------------------------

local function read_below(dir, path, found)
    for _, entry in ipairs(assert(dir:entries(path))) do
        local below = (path and path .. "/" or "") .. entry.name
        if entry.type == "directory" then
            read_below(dir, below, found)
        else
            found[below] = assert(dir:read(below))
        end
    end
end

--- All files below a folder: path -> content.
function M.read_tree(folder)
    local dir, found = core.directory(folder), {}
    if dir then
        read_below(dir, nil, found)
        dir:close()
    end
    return found
end

--- Makes them again elsewhere.
function M.write_tree(folder, tree)
    local dir = assert(core.directory(folder, true))
    for path, content in pairs(tree) do assert(dir:create(path, content)) end
    dir:close()
end

--- The blobs below a store's folder: path -> content.
function M.blobs(folder)
    local found = {}
    for path, content in pairs(M.read_tree(folder)) do
        if path:find "%.blob$" then found[path] = content end
    end
    return found
end

--- Each of these files, path -> content, is there, byte for byte.
function M.assert_intact(folder, blobs)
    for path, content in pairs(blobs) do
        assert(files.read(folder .. "/" .. path) == content, path .. " is not what it was")
    end
end

--- What was reported as saved is there, byte for byte: reported is an array of
--- {file, blob}.
function M.assert_reported(folder, reported)
    for _, saved in ipairs(reported) do
        assert(files.read(folder .. "/" .. saved.file) == saved.blob, saved.file)
    end
end

local function describe(problems)
    local lines = {}
    for _, item in ipairs(problems) do lines[#lines + 1] = item.file .. ": " .. item.problem end
    return table.concat(lines, "\n")
end

--- verify() finds no damage; returns what it found. A folder that never became a
--- store is none.
function M.assert_undamaged(folder)
    local store, err = csms.store(folder)
    local found
    if store then found, err = store:verify() end
    if not found then
        assert(err.code == "ENOENT", tostring(err))
        return { blobs = 0, runs = 0, problems = {}, interrupted = {} }
    end
    store:close()
    assert(#found.problems == 0, describe(found.problems))
    return found
end

--- As above, and nothing is left of what was interrupted.
function M.assert_clean(folder)
    local found = M.assert_undamaged(folder)
    assert(#found.interrupted == 0, describe(found.interrupted))
end

return M
