-- Lets each file-system call of a work on a store go wrong in turn, in this one
-- process, which has spec/support/fail_nth.c preloaded:
-- store_run_faults.lua SCRATCH BASE WORK WAYS, BASE being a store to begin with, or "".
-- Prints what is not as it should be, and in the end "COUNT faults".

local core = require "csms.core"
local store_run = require "spec.support.store_run"

local scratch, base, work, ways = arg[1], arg[2], arg[3], arg[4]
local log = os.getenv "FAIL_LOG"

local EIO, EACCES, EMFILE, ENOSPC, EROFS = 5, 13, 24, 28, 30
local ERRNOS = { EIO, EACCES, EMFILE, ENOSPC, EROFS }

-- ---- plans ----------------------------------------------------------------------

local function plan(at, how, on)
    core.directory(("/fail_nth/%d/%s/%s"):format(at, how or "", on or ""))
end

-- What was counted: an array of the names of calls; and the path of the last.
local function logged()
    local calls, last = {}, nil
    for line in io.lines(log) do
        local call, path = line:match "^%d+ (%S+) (.*)"
        calls[#calls + 1], last = call, path
    end
    return calls, last
end

-- What of the folders is open, once the collector has run.
local function left_open()
    collectgarbage()
    collectgarbage()
    local pipe = assert(io.popen "readlink /proc/$PPID/fd/*")
    local paths = {}
    for path in pipe:lines() do
        if path:find(scratch .. "/", 1, true) then paths[#paths + 1] = path end
    end
    pipe:close()
    return paths
end

-- ---- one fault --------------------------------------------------------------------

local before = base ~= "" and store_run.blobs(base) or {}
local tree = base ~= "" and store_run.read_tree(base) or {}
local number_of_folder = 0

local function fresh_folder()
    number_of_folder = number_of_folder + 1
    local folder = ("%s/%s-%d/store"):format(scratch, ways, number_of_folder)
    if next(tree) then store_run.write_tree(folder, tree) end
    return folder
end

local WRITES = { save = true, save_one = true, prune = true }

local READS = { openat = true, read = true, fstat = true, fdopendir = true, readdir = true }

-- What need not be read: what names the store, where it is opened by a reader; for a
-- restore, what the runs say; for a writer, what other runs say.
local function is_not_needed(call, path)
    local file = path:match "[^/]+$"
    if not READS[call] then return false end
    return file == "csms-store.json" or work == "read" and path:find "/runs"
        or WRITES[work] and (file:find "%.jsonl$" or file == "runs" and call == "openat")
end

-- What fails here changes nothing: the closing of what was read, the choice of how
-- to sync, the lock's text, the unlocking before its file is closed, and the removal
-- of a temporary file, which is left to the next writer. A new folder that the umask
-- keeps from being opened is made accessible.
local function is_harmless(call, path, how)
    local file = path:match "[^/]+$"
    if call == "openat" and how == EACCES and not file:find "%.%a+$" then return true end
    return is_not_needed(call, path) or call == "close" or call == "fstatfs" or call == "unlock"
        or call == "close_written" and file == "lock"
        or call == "ftruncate" and file == "lock"
        or call == "unlinkat" and file:find "^%.tmp%-" ~= nil
end

local function assert_told(err)
    if type(err) == "string" then return end
    assert(err.kind == "storage", tostring(err))
    assert(err.message:find(scratch, 1, true), "without its path: " .. err.message)
    assert(err.cause and err.code, "without its reason: " .. err.message)
end

local function try(at, how, on)
    local folder = fresh_folder()
    plan(at, how, on)
    local reported, err = store_run.work(folder, work, "4")
    local calls, path = logged()
    plan(-1)
    assert(calls[1], "no call " .. at)
    if err then
        assert_told(err)
    elseif not on and how ~= "short" and not is_harmless(calls[1], path, how) then
        error(("%s of %s failed, and nobody says so"):format(calls[1], path), 0)
    end
    store_run.assert_undamaged(folder)
    store_run.assert_reported(folder, reported)
    if work ~= "prune" then store_run.assert_intact(folder, before) end
    local problem = select(2, store_run.work(folder, work, "4"))
    assert(not problem, "then: " .. tostring(problem))
    if WRITES[work] then store_run.assert_clean(folder) end
end

-- ---- all of them --------------------------------------------------------------------

local function calls_of_work()
    local folder = fresh_folder()
    plan(0)
    local _, err = store_run.work(folder, work, "4")
    local calls = logged()
    plan(-1)
    assert(not err, tostring(err))
    assert(#calls > 20, "only " .. #calls .. " calls")
    return calls
end

local CREATES = { write = true, mkdirat = true }

-- For a call: an array of {how, on}.
local ways_of = {}

-- In the short form each call has one errno, and its neighbours have the others.
function ways_of.once(_, number)
    if not store_run.long then return { { ERRNOS[number % #ERRNOS + 1] } } end
    local list = {}
    for index, errno in ipairs(ERRNOS) do list[index] = { errno } end
    return list
end

-- The disk stays full, or the device stays broken.
function ways_of.for_good(call, number)
    local list = CREATES[call] and { { ENOSPC, call } } or {}
    if store_run.long or number % 5 == 0 then list[#list + 1] = { EIO, "*" } end
    return list
end

function ways_of.short(call)
    return call == "write" and { { "short" }, { "torn" } } or {}
end

assert(core.directory(scratch, true)):close()
local count = 0
local calls = calls_of_work()
for at, call in ipairs(calls) do
    for _, way in ipairs(ways_of[ways](call, at)) do
        count = count + 1
        local good, problem = pcall(try, at, way[1], way[2])
        plan(-1)
        if not good then
            print(("call %d (%s), %s %s: %s"):format(at, call, way[1], way[2] or "",
                tostring(problem)))
        end
    end
end
for _, path in ipairs(left_open()) do print(path .. " stays open") end
print(("%d calls, %d faults"):format(#calls, count))
