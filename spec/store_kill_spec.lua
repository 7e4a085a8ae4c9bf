-- SIGKILL: between any two changes that a work makes to a store; and at random moments
-- of `csms backup --all`, half of them anywhere in the run's time, half at one of its
-- calls on the store. TORTURE=long kills 1,000 times; TORTURE_SEED repeats a run.

local cjson = require "cjson"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local store_run = require "spec.support.store_run"

-- ---- between any two changes -------------------------------------------------------

-- The states of a store that a kill can leave are those before one of these.
local CHANGES = { write = true, mkdirat = true, renameat = true, unlinkat = true, ftruncate = true }

describe("killed between any two changes, a store is whole:", function()
    local scratch, library, base
    local tree, before = {}, {}

    setup(function()
        scratch = files.temporary(true)
        library = store_run.build_library(scratch)
        base = scratch .. "/base"
        store_run.make_base(base, library)
        tree, before = store_run.read_tree(base), store_run.blobs(base)
    end)
    teardown(function() files.remove(scratch) end)

    local function fresh_store()
        local folder = scratch .. "/store"
        files.remove(folder)
        store_run.write_tree(folder, tree)
        return folder
    end

    local function try(work, at, how)
        local folder = fresh_store()
        local command = store_run.program("store_run_program", folder, work, "4")
        local killed = store_run.hindered(library, command, folder, at, how)
        assert.equal(128 + 9, killed.exit, killed.output)
        store_run.assert_undamaged(folder)
        if work ~= "prune" then store_run.assert_intact(folder, before) end
        local _, err = store_run.work(folder, work, "4")
        assert.is_nil(err)
        store_run.assert_clean(folder)
    end

    for _, work in ipairs { "save", "save_one", "prune" } do
        it(work, function()
            local folder = fresh_store()
            local command = store_run.program("store_run_program", folder, work, "4")
            local counted = store_run.hindered(library, command, folder, 0)
            local changes = 0
            for at, call in ipairs(counted.calls) do
                if CHANGES[call] then
                    changes = changes + 1
                    try(work, at, "kill")
                end
                if call == "write" then try(work, at, "killtorn") end
            end
            assert.is_true(changes > 10)
        end)
    end
end)

-- ---- the command line ---------------------------------------------------------------

-- It is Lua 5.4's.
if _VERSION ~= "Lua 5.4" then return end

local SECRETS = 200
local KILLS = store_run.long and 1000 or 40
local KILLS_OF_A_STORE = 10 -- then a run completes it, and a new store begins

local seed = tonumber(os.getenv "TORTURE_SEED") or os.time()
local emu, scratch, library, store, command

-- ---- runs -------------------------------------------------------------------------

-- The whole lines of what --json printed, or of a run's record.
local function decode_lines(text)
    local lines = {}
    for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = cjson.decode(line) end
    return lines
end

local function whole_run()
    local from = core.now()
    local output, code = store_run.shell(command)
    assert.equal(0, code, output)
    local lines = decode_lines(output)
    assert.equal(SECRETS, lines[#lines].ok)
    return core.now() - from
end

-- At a moment between 0 and `seconds`: what it had printed.
local function killed_by_clock(seconds)
    local out = scratch .. "/out"
    store_run.shell(("%s >%s & pid=$!; sleep %.4f; kill -9 $pid; wait $pid")
        :format(command, out, math.random() * seconds))
    return files.read(out)
end

-- Before a call on the store, or in the middle of a write.
local function killed_by_call(calls)
    local how = math.random(2) == 1 and "kill" or "killtorn"
    local at = math.random(calls)
    local out = scratch .. "/out"
    store_run.hindered(library, command .. " >" .. out, store, at, how)
    return files.read(out)
end

-- ---- what must be true afterwards ---------------------------------------------------

local function assert_there(line)
    local content = files.read(store .. "/" .. line.file)
    assert.equal(line.bytes, #content, line.file)
    assert.equal(line.sha256, core.sha256(content), line.file)
end

-- All that a kill can leave.
local LEFT = {
    "^a temporary file", "^an unfinished run", "^no run names it; it is whole",
}

local function is_known(problem)
    for _, pattern in ipairs(LEFT) do
        if problem:find(pattern) then return true end
    end
    return false
end

-- What the records of runs call saved, torn last lines aside.
local function assert_recorded_is_there()
    for path, content in pairs(store_run.read_tree(store)) do
        if path:find "^runs/" then
            for _, line in ipairs(decode_lines(content)) do
                if line.outcome == "saved" then assert_there(line) end
            end
        end
    end
end

-- Returns how many blobs the killed run had reported.
local function assert_whole(printed, before)
    local reported = 0
    local found = store_run.assert_undamaged(store)
    for _, item in ipairs(found.interrupted) do
        assert.is_true(is_known(item.problem), item.file .. ": " .. item.problem)
    end
    for _, line in ipairs(decode_lines(printed)) do
        if line.outcome == "saved" then
            reported = reported + 1
            assert_there(line)
        end
    end
    assert_recorded_is_there()
    store_run.assert_intact(store, before)
    return reported
end

-- ---- the kills ------------------------------------------------------------------------

-- kill() ends a run at a random moment and returns what it had printed. Returns how
-- many had reported some blobs, but not all.
local function kill_many(count, kill)
    local none, some, all = 0, 0, 0
    for number = 1, count do
        if number % KILLS_OF_A_STORE == 1 then files.remove(store) end
        local before = store_run.blobs(store)
        local good, reported = pcall(assert_whole, kill(), before)
        if not good then
            error(("kill %d, TORTURE_SEED=%d: %s"):format(number, seed, tostring(reported)))
        end
        if reported == 0 then
            none = none + 1
        elseif reported < SECRETS then
            some = some + 1
        else
            all = all + 1
        end
        if number % KILLS_OF_A_STORE == 0 then
            whole_run()
            store_run.assert_clean(store)
        end
    end
    if store_run.long then
        print(("%d kills: %d before anything was reported saved, %d in between, %d after all was")
            :format(count, none, some, all))
    end
    return some
end

describe("a backup that is killed loses nothing and can be run again", function()
    setup(function()
        math.randomseed(seed)
        emu = emulator.start { secrets = SECRETS }
        scratch = files.temporary()
        library = store_run.build_library(scratch)
        store = scratch .. "/store"
        command = store_run.csms(emu, "backup --all --rate 0 --json -o " .. store)
    end)
    teardown(function()
        emu:stop()
        files.remove(scratch)
    end)

    local some = 0

    it("at any moment", function()
        local seconds = whole_run()
        some = kill_many(KILLS / 2, function() return killed_by_clock(seconds) end)
    end)

    it("at its calls on the store", function()
        local counted = store_run.hindered(library, command, store, 0)
        assert.equal(0, counted.exit, counted.output)
        some = some + kill_many(KILLS / 2, function()
            return killed_by_call(#counted.calls)
        end)
    end)

    it("also where a part was reported already", function()
        assert.is_true(some > 0)
    end)
end)
