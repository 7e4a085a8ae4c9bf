-- Each file-system call of a store goes wrong once, in turn.

local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local store_run = require "spec.support.store_run"

local scratch, library, base

setup(function()
    scratch = files.temporary(true)
    library = store_run.build_library(scratch)
    base = scratch .. "/base"
    store_run.make_base(base, library)
end)
teardown(function() files.remove(scratch) end)

it("the store to begin with has what a killed run leaves", function()
    local found = store_run.assert_undamaged(base)
    local left = {}
    for _, item in ipairs(found.interrupted) do left[item.problem:match "^%S+ %S+"] = true end
    assert.same({ ["a temporary"] = true, ["an unfinished"] = true, ["no run"] = true }, left)
end)

local function for_each_call(work, from, ways)
    local folder = scratch .. "/" .. ways
    local command = store_run.program("store_run_faults", folder, from, work, ways)
    local log = scratch .. "/log"
    local output, code = store_run.shell(("env LD_PRELOAD=%s FAIL_UNDER=%s FAIL_LOG=%s %s")
        :format(library, folder, log, command))
    files.remove(folder)
    assert.matches("^%d+ calls, %d+ faults\n$", output)
    assert.equal(0, code)
    if store_run.long then print(work, ways, output) end
end

for _, case in ipairs {
    { work = "save", title = "saving into a new store" },
    { work = "save", title = "saving after a killed run", from = true },
    { work = "save_one", title = "saving one blob after a killed run", from = true },
    { work = "prune", title = "pruning after a killed run", from = true },
    { work = "look", title = "looking after it", from = true },
    { work = "read", title = "reading", from = true },
} do
    describe(case.title, function()
        local function try(ways) for_each_call(case.work, case.from and base or "", ways) end

        it("tells each failure and loses nothing", function() try "once" end)

        it("tells failures that last, and loses nothing", function() try "for_good" end)

        if case.work:find "save" then
            it("is not misled by short writes", function() try "short" end)
        end
    end)
end

-- The command line is Lua 5.4's.
if _VERSION ~= "Lua 5.4" then return end

local EIO = 5

describe("csms", function()
    local emu, store

    setup(function()
        emu = emulator.start { secrets = 3 }
        store = scratch .. "/csms"
        local output, code = store_run.shell(store_run.csms(emu, "backup --all -o " .. store))
        assert(code == 0, output)
    end)
    teardown(function() emu:stop() end)

    local tree
    before_each(function() tree = store_run.read_tree(store) end)

    local function fresh_store(number)
        local folder = ("%s/csms-%d"):format(scratch, number)
        files.remove(folder)
        store_run.write_tree(folder, tree)
        return folder
    end

    local function is_named(output)
        return output:find "the device failed" or output:find "it cannot be read"
            or output:find "the record of a run is damaged"
    end

    local function try(command, at)
        local folder = fresh_store(at)
        local line = store_run.csms(emu, command[1]:format(folder))
        local result = store_run.hindered(library, line, folder, at, EIO)
        if result.exit == store_run.STORAGE then
            assert.matches(folder, result.output, 1, true)
            assert.matches("Input/output error", result.output, 1, true)
        elseif result.exit ~= 0 then
            assert.equal(command.goes_on, result.exit, result.output)
            assert.is_truthy(is_named(result.output), result.output)
        end
        store_run.assert_intact(folder, store_run.blobs(store))
        store_run.assert_undamaged(folder)
        local output, code = store_run.shell(line)
        assert.equal(0, code, output)
        store_run.assert_clean(folder)
        return result.exit
    end

    -- goes_on: the exit code where the fault is named and the rest is done.
    local COMMANDS = {
        { "backup --all --rate 0 -o %s", points = 25 },
        { "prune %s --keep-last 1", points = 8 }, { "verify %s", points = 8, goes_on = 8 },
        { "status %s", points = 8, goes_on = 3 }, { "runs %s", points = 5 },
        { "restore --from %s --all --dry-run", points = 8, goes_on = 3 },
    }
    for _, command in ipairs(COMMANDS) do
        it("ends with 12, the path and the reason: " .. command[1], function()
            local folder = fresh_store(0)
            local counted = store_run.hindered(library,
                store_run.csms(emu, command[1]:format(folder)), folder, 0)
            assert.equal(0, counted.exit, counted.output)
            local calls = #counted.calls
            local step = store_run.long and 1 or math.max(math.floor(calls / command.points), 1)
            local told = 0
            for at = 1, calls, step do
                if try(command, at) == store_run.STORAGE then told = told + 1 end
            end
            assert.is_true(told > 0)
        end)
    end
end)
