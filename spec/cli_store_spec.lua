-- The command line with a store: backup, restore, status, verify, runs, prune, and
-- what ends a run. It is for Lua 5.4 only.

if rawget(_G, "jit") then return end

local cli = require "spec.support.cli"
local core = require "csms.core"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local folders = require "spec.support.store_folder"
local history = require "spec.support.store_history"

local SECRETS = 12

local emu, store

setup(function() emu = emulator.start { secrets = SECRETS } end)
teardown(function() emu:stop() end)
before_each(function()
    emu:reset()
    store = files.temporary()
end)
after_each(function() files.remove(store) end)

local function start(args, env)
    local variables = {}
    for name, value in pairs(emu.env) do variables[name] = value end
    for name, value in pairs(env or {}) do variables[name] = value end
    return cli.start(args, { env = variables })
end

-- Runs `csms ARGS`, which must end with that code.
local function csms(code, args, env)
    local result = start(args, env):wait()
    if result.exit ~= code then
        error(("exit code %s instead of %d; stdout: %s stderr: %s"):format(tostring(result.exit),
            code, result.out:sub(1, 500), result.err), 2)
    end
    return result
end

local function back_up(more)
    local args = { "backup", "--all", "-o", store, "--rate", "0", "--json" }
    for _, arg in ipairs(more or {}) do args[#args + 1] = arg end
    return cli.objects(csms(0, args))
end

local function seeded(number)
    return ("secret-%04d"):format(number)
end

-- The environments of a csms that has one second where it has ten, and of one that asks as often
-- with --all as it likes.
local IMPATIENT = { LUA_INIT = 'require("csms.cli.interrupt").GRACE = 1' }
local UNLIMITED = { LUA_INIT = 'require("csms.cli.connection").RATE_OF_ALL = 0' }

-- The environment of a csms whose reads of what matches a pattern fail.
local function broken_disk(pattern)
    return { LUA_INIT = ([[
        local directory = require "csms.store.directory"
        local open = directory.open
        function directory.open(...)
            local dir, err = open(...)
            if dir then
                require("spec.support.store_folder").break_reads({ dir = dir }, %q)
            end
            return dir, err
        end
    ]]):format(pattern) }
end

local function runs()
    local objects = cli.objects(csms(0, { "runs", store, "--json" }))
    objects[#objects] = nil
    return objects
end

describe("csms backup", function()
    it("saves every secret, and says nothing where nobody watches", function()
        local result = csms(0, { "backup", "--all", "-o", store, "--rate", "0" })
        assert.equal("", result.out)
        assert.equal("", result.err)
        assert.equal(SECRETS, #emu:requests "backup")
        csms(0, { "verify", store })
    end)

    it("tells of each saved secret as JSON what is on the disk", function()
        local objects, summary = back_up()
        local saved, count = cli.by_name(objects, "saved")
        assert.equal(SECRETS, count)
        for number = 1, SECRETS do
            local object = saved[seeded(number)]
            local blob = files.read(store .. "/" .. object.file)
            assert.equal(#blob, object.bytes)
            assert.equal(core.sha256(blob), object.sha256)
            assert.equal(emu.project, object.project)
        end
        for key, value in pairs { ok = SECRETS, total = SECRETS, failed = 0, skipped = 0,
            current = 0, not_done = 0, project = emu.project } do
            assert.equal(value, summary[key], key)
        end
        assert.same({}, summary.errors)
        assert.is_nil(summary.blobs)
    end)

    it("tells it of each as it ends", function()
        emu:fault { operation = "backup", name = seeded(1), delay = 60 }
        local process = start { "backup", "nope", seeded(1), "-o", store, "--json" }
        cli.wait_for("the first line", function() return process:out():find "\n" end)
        assert.matches('"name":"nope","outcome":"failed"', process:out())
        process:signal "KILL"
        process:wait()
    end)

    it("asks at most ten times a second with --all", function()
        local _, summary = cli.objects(csms(0, { "backup", "--all", "-o", store, "--json" }))
        assert.is_true(summary.seconds > 1) -- 13 requests
    end)

    it("takes what --match says, and 4 tells that nothing did", function()
        local args = { "--match", "*-0003", "--match", "secret-001?" }
        local _, count = cli.by_name(back_up(args), "saved")
        assert.equal(4, count)
        local result = csms(4, { "backup", "--all", "--match", "x*", "-o", store })
        assert.matches("nothing matched", result.err)
    end)

    it("goes on after one that fails, which is 3", function()
        emu:fault { operation = "backup", name = seeded(5), status = 403, times = 0 }
        local result = csms(3, { "backup", "--all", "-o", store, "--rate", "0", "--json" })
        local objects, summary = cli.objects(result)
        local failed, count = cli.by_name(objects, "failed")
        assert.equal(1, count)
        assert.equal("denied", failed[seeded(5)].kind)
        assert.equal("denied", summary.errors[seeded(5)].kind)
        assert.equal(SECRETS - 1, summary.ok)
        assert.matches("secret%-0005: denied", result.err)
        assert.matches("11 saved, 1 failed, of 12", result.err)
    end)

    it("goes on after one that the store does not take, which is 3 too", function()
        history.new(store):blob(emu.project, seeded(5), 253402300799.999, "of a wrong clock")
        local objects = cli.objects(csms(3, { "backup", "--all", "-o", store, "--rate", "0",
            "--json" }))
        local failed, count = cli.by_name(objects, "failed")
        assert.equal(1, count)
        assert.equal("config", failed[seeded(5)].kind)
        assert.matches(seeded(5) .. " holds a backup from the end of the year 9999",
            failed[seeded(5)].message, 1, true)
        assert.equal(SECRETS - 1, select(2, cli.by_name(objects, "saved")))
        local status = cli.objects(csms(3, { "status", store, "--json" }))
        assert.equal("failed", status[5].outcome)
    end)

    it("is 4 where the one NAME is not there, and 3 where several are not", function()
        csms(4, { "backup", "nope", "-o", store })
        csms(4, { "backup", "nope", "nope", "-o", store })
        csms(3, { "backup", "nope", "neither", "-o", store })
        csms(3, { "backup", "nope", seeded(1), "-o", store })
        csms(7, { "backup", "a/b", "-o", store })
    end)

    it("shows the first 20 failures and counts the others", function()
        local args = { "backup", "-o", store }
        for number = 1, 30 do args[#args + 1] = "nope-" .. number end
        local result = csms(3, args)
        local _, shown = result.err:gsub("csms: nope%-", "")
        assert.equal(20, shown)
        assert.matches("10 more failed", result.err)
    end)

    it("says once that the deadline ended it, and which that was", function()
        emu:fault { operation = "backup", delay = 60, times = 0 }
        local args = { "backup", "-o", store, "--deadline", "2s", "--json" }
        for number = 1, SECRETS do args[#args + 1] = seeded(number) end
        local result = csms(10, args)
        local _, said = result.err:gsub("the deadline of 2 s has passed", "")
        assert.equal(1, said)
        assert.matches("11 more failed", result.err)
        local failed, count = cli.by_name(cli.objects(result), "failed")
        assert.equal(SECRETS, count)
        assert.equal("the deadline of 2 s has passed", failed[seeded(1)].message)
    end)

    it("names the deadline that was given where the listing met it", function()
        local said = "the deadline of 2 s has passed"
        local args = { "backup", "--all", "-o", store, "--deadline", "2s", "--json" }
        emu:fault { operation = "list", delay = 60, times = 0 }
        local result = csms(10, args)
        assert.matches(said, result.err)
        assert.equal(said, select(2, cli.objects(result)).message)
        emu:clear_faults()
        emu:set { page_clamp = 5 }
        emu:fault { operation = "list", after = 1, delay = 60, times = 0 }
        result = csms(10, args)
        assert.matches(said, result.err)
        local _, summary = cli.objects(result)
        assert.equal(said, (summary.incomplete or summary).message)
    end)

    it("advises to try again only where that may help", function()
        local again = "run it again, with %-%-max%-age"
        assert.not_matches(again, csms(3, { "backup", "nope", "a/b", "-o", store }).err)
        emu:fault { operation = "backup", name = seeded(1), status = 429, times = 0,
            headers = { ["Retry-After"] = "1000" } } -- which is not waited for
        assert.matches(again, csms(3, { "backup", "nope", seeded(1), "-o", store }).err)
    end)

    it("skips what cannot be backed up; --strict makes that a failure", function()
        emu:change(seeded(2), { state = "PENDING_DELETE" })
        emu:change(seeded(3), { state = "FROZEN" })
        emu:change(seeded(4), { state = "DISABLED" })
        for _, age in ipairs { {}, { "--max-age", "1h" } } do
            local objects, summary = back_up(age)
            local skipped = cli.by_name(objects, "skipped")
            assert.equal("its state is PENDING_DELETE", skipped[seeded(2)].message)
            assert.equal(2, summary.skipped)
            assert.equal(SECRETS, summary.total)
        end
        csms(3, { "backup", "--all", "-o", store, "--rate", "0", "--strict" })
        local result = csms(3, { "backup", "--all", "--match", seeded(2), "-o", store, "--strict" })
        assert.matches("1 skipped", result.err)
    end)

    it("lets no name that a server made up leave the store", function()
        local names = { "..", ".", "a/b", "../../out", "a\0b", "a\nb", "CON", "Twin", "twin",
            ("x"):rep(300), "-leading", "sp ace", "\27[2J" }
        local good = { CON = true, Twin = true, twin = true, ["-leading"] = true }
        for _, name in ipairs(names) do emu:create { name = name, value = "v" } end
        for _, age in ipairs { {}, { "--max-age", "1h" } } do
            local args = { "backup", "--all", "-o", store .. "/in", "--rate", "0", "--json" }
            for _, arg in ipairs(age) do args[#args + 1] = arg end
            local objects, summary = cli.objects(csms(3, args))
            local failed = cli.by_name(objects, "failed")
            for _, name in ipairs(names) do
                assert.equal(not good[name] and "argument" or nil,
                    failed[name] and failed[name].kind, name)
            end
            assert.equal(#names - 4, summary.failed)
            assert.equal(SECRETS + 4, summary.ok + summary.current)
        end
        csms(0, { "verify", store .. "/in" })
        local listing = assert(io.popen("ls -A " .. cli.quote(store)))
        assert.equal("in\n", listing:read("*a"))
        listing:close()
    end)

    it("is 6 once for keys that are refused", function()
        local result = csms(6, { "backup", seeded(1), seeded(2), "-o", store },
            { HUAWEICLOUD_SDK_SK = "wrong" })
        local _, shown = result.err:gsub("verify aksk", "")
        assert.equal(1, shown)
        assert.equal(1, #emu:requests "backup")
    end)

    it("is 3 where a later page of the listing fails", function()
        emu:set { page_clamp = 5 }
        emu:fault { operation = "list", after = 1, times = 0, status = 403 }
        local result = csms(3, { "backup", "--all", "-o", store, "--rate", "0", "--json" })
        local _, summary = cli.objects(result)
        assert.equal("denied", summary.incomplete.kind)
        assert.equal(5, summary.ok)
        assert.matches("listing broke off", result.err)
        assert.is_true(runs()[1].incomplete)
    end)

    it("is 10 where the deadline ends it while the service is down", function()
        emu:fault { operation = "backup", status = 503, times = 0 }
        csms(10, { "backup", "--all", "-o", store, "--rate", "0", "--deadline", "3s" })
    end)

    it("is 10 where its deadline ends it", function()
        local saved
        for _, deadline in ipairs { "2s", "10s", "30s" } do -- the longer ones for a slow machine
            emu:clear_faults()
            emu:fault { operation = "backup", delay = 60, times = 0, after = 3 }
            local result = csms(10,
                { "backup", "--all", "-o", store, "--rate", "0", "--deadline", deadline })
            assert.matches("%-%-deadline", result.err)
            saved = runs()[1] and runs()[1].counts.saved
            if saved == 3 then break end
        end
        assert.equal(3, saved)
    end)

    it("records what was asked, where, and how it ended", function()
        back_up { "--match", "*" }
        csms(0, { "backup", seeded(1), "-o", store })
        local found = runs()
        assert.same({ all = true, match = { "*" } }, found[1].asked)
        assert.same({ names = { seeded(1) } }, found[2].asked)
        assert.equal(emu.endpoint, found[1].endpoint)
        assert.equal("cn-north-4", found[1].region)
        assert.equal(emu.project, found[1].project)
        assert.equal(0, found[1].exit)
        assert.equal(SECRETS, found[1].counts.saved)
        local text = csms(0, { "runs", store }).out
        assert.matches("  %-%-all %-%-match %*  12 saved  exit 0\n", text)
        assert.matches("  1 by name +1 saved   exit 0\n", text)
    end)

    it("writes into nothing else where stderr is closed", function()
        emu:fault { operation = "backup", name = seeded(5), status = 403, times = 0 }
        local result = cli.run({ "backup", "--all", "-o", store, "--rate", "0" },
            { env = emu.env, closed = "2" })
        assert.equal(3, result.exit)
        csms(0, { "verify", store })
    end)
end)

describe("csms backup --max-age", function()
    it("asks for nothing that is young enough", function()
        back_up()
        emu:create { name = "new", value = "v" }
        emu:clear_requests()
        local objects, summary = back_up { "--max-age", "1h" }
        local current = cli.by_name(objects, "current")
        assert.equal(SECRETS, summary.current)
        assert.equal(SECRETS + 1, summary.total)
        assert.equal(1, summary.ok)
        assert.is_string(current[seeded(1)].file)
        assert.equal(1, #emu:requests "backup")
        assert.equal(SECRETS, runs()[2].counts.current)
    end)

    it("does so for NAMEs too", function()
        csms(0, { "backup", seeded(1), "-o", store })
        emu:clear_requests()
        local _, summary = cli.objects(csms(0, { "backup", seeded(1), seeded(1), seeded(2),
            "-o", store, "--max-age", "1d", "--json" }))
        assert.equal(1, summary.current)
        assert.equal(2, summary.total)
        local requests = emu:requests()
        assert.equal(1, #requests)
        assert.equal(seeded(2), requests[1].name)
    end)

    it("asks again for what cannot be read", function()
        back_up()
        emu:clear_requests()
        local result = csms(0, { "backup", "--all", "-o", store, "--rate", "0", "--json",
            "--max-age", "1h" }, broken_disk "/secret%-0002/.*blob$")
        local objects, summary = cli.objects(result)
        assert.is_table(cli.by_name(objects, "saved")[seeded(2)])
        assert.equal(SECRETS - 1, summary.current)
    end)

    it("asks again for what is older, damaged, or from the future", function()
        local args = { "backup", seeded(1), "-o", store, "--json", "--max-age" }
        local function outcome(age)
            args[#args + 1] = age
            local objects = cli.objects(csms(0, args))
            args[#args] = nil
            return objects[1]
        end
        local first = outcome "1h"
        assert.equal("saved", first.outcome)
        assert.equal("current", outcome("1h").outcome)
        assert.equal("saved", outcome("0.001s").outcome)
        for _, path in ipairs(files.list((store .. "/" .. first.file):match("^(.*)/"), "blob$")) do
            files.write(path, "damaged")
        end
        local good = outcome "1h"
        assert.equal("saved", good.outcome)
        local path = store .. "/" .. good.file
        assert(os.rename(path, (path:gsub("/%d%d%d%d(%d+T[%d.]+Z%-%x+%.blob)$", "/2999%1"))))
        assert.equal("saved", outcome("1h").outcome)
    end)
end)

describe("csms, where the store fails,", function()
    it("is 12 with the path and the reason, and keeps what was saved before", function()
        csms(0, { "backup", seeded(1), "-o", store })
        files.write(("%s/blobs/%s/%s"):format(store, emu.project, seeded(2)), "in the way")
        emu:clear_requests()
        local result = csms(12, { "backup", "--all", "-o", store, "--rate", "0", "--json",
            "--concurrency", "1" })
        local _, summary = cli.objects(result)
        assert.equal("storage", summary.kind)
        assert.is_true(#emu:requests "backup" < 5) -- it ends the run
        assert.equal(SECRETS, summary.ok + summary.not_done)
        assert.matches(seeded(2), result.err, 1, true)
        assert.matches("Not a directory", result.err)
        csms(0, { "verify", store })
    end)

    it("is 12 where the folder cannot be made", function()
        csms(12, { "backup", seeded(1), "-o", "/dev/null/store" })
        csms(12, { "verify", "/dev/null" })
    end)

    it("is 7 for a store of another format, and for a folder of something else", function()
        local strange = files.temporary()
        files.write(strange .. "/csms-store.json", '{"format": 2, "id": "00"}\n')
        for _, args in ipairs { { "backup", seeded(1), "-o", strange }, { "verify", strange },
            { "status", strange }, { "runs", strange }, { "prune", strange, "--keep-last", "1" },
            { "restore", "--from", strange, "--all" } } do
            assert.matches("format 2", csms(7, args).err)
        end
        os.remove(strange .. "/csms-store.json")
        files.write(strange .. "/else", "")
        csms(7, { "backup", seeded(1), "-o", strange })
        files.remove(strange)
    end)

    it("is 7 for a folder that is not there, where one is only read", function()
        for _, args in ipairs { { "verify" }, { "status" }, { "runs" },
            { "prune", "--keep-last", "1" }, { "restore", "--all", "--from" } } do
            args[#args + 1] = store .. "/nowhere"
            assert.matches("is not there", csms(7, args).err)
        end
    end)

    it("is 12 for a pipe, which nobody waits for", function()
        os.execute("mkdir -p '" .. store .. "' && mkfifo '" .. store .. "/pipe'")
        assert.matches("Not a directory", csms(12, { "status", store .. "/pipe" }).err)
    end)

    it("is 11 while another one writes, whose process it names", function()
        emu:fault { operation = "backup", delay = 60, times = 0 }
        local other = start { "backup", seeded(1), "-o", store }
        cli.wait_for("the first writer", function() return #emu:requests "backup" > 0 end)
        local result = csms(11, { "backup", seeded(2), "-o", store })
        assert.matches("pid " .. other.pid, result.err)
        csms(11, { "prune", store, "--keep-last", "1" })
        csms(0, { "verify", store })
        other:signal "KILL"
        assert.equal(137, other:wait().exit)
        emu:clear_faults()
        assert.matches("unfinished", csms(0, { "runs", store }).out)
        csms(0, { "backup", seeded(1), "-o", store })
        assert.is_true(runs()[1].interrupted)
    end)
end)

describe("a signal", function()
    -- A whole-project run that is slow, with that many requests on their way.
    local function start_slow_run(delay, requests, env)
        emu:fault { operation = "backup", delay = delay, times = 0 }
        local process = start({ "backup", "--all", "-o", store, "--rate", "0", "--json",
            "--concurrency", "4" }, env)
        cli.wait_for("requests", function() return #emu:requests "backup" >= requests end)
        return process
    end

    for signal, code in pairs { INT = 130, TERM = 143 } do
        it("SIG" .. signal .. " lets what is under way end, which is saved", function()
            local process = start_slow_run(1.5, 4)
            process:signal(signal)
            local result = process:wait()
            assert.equal(code, result.exit)
            local objects, summary = cli.objects(result)
            local _, saved = cli.by_name(objects, "saved")
            assert.equal(#emu:requests "backup", saved)
            assert.equal(saved, summary.ok)
            assert.equal(SECRETS - saved, summary.not_done)
            assert.is_true(summary.not_done > 0)
            assert.equal(0, summary.failed)
            assert.same({}, summary.errors)
            assert.matches("interrupted", result.err)
            assert.matches(saved .. " saved, " .. SECRETS - saved .. " not done", result.err)
            csms(0, { "verify", store })
            local run = runs()[1]
            assert.is_true(run.interrupted)
            assert.equal(code, run.exit)
            assert.equal(saved, run.counts.saved)

            emu:clear_faults()
            local _, again = back_up { "--max-age", "1h" }
            assert.equal(saved, again.current)
            assert.equal(SECRETS - saved, again.ok)
        end)
    end

    it("does not wait for long", function()
        local process = start_slow_run(300, 4, IMPATIENT)
        process:signal "TERM"
        local result = process:wait()
        assert.equal(143, result.exit)
        local _, summary = cli.objects(result)
        assert.equal(SECRETS, summary.not_done)
        csms(0, { "verify", store })
    end)

    it("cancels a restore that takes too long, which is no failure", function()
        back_up()
        emu:delete { seeded(1), seeded(2) }
        emu:fault { operation = "restore", delay = 300, times = 0 }
        local process = start({ "restore", "--from", store, "--all", "--json" }, IMPATIENT)
        cli.wait_for("a restore", function() return #emu:requests "restore" > 1 end)
        process:signal "TERM"
        local result = process:wait()
        assert.equal(143, result.exit)
        local _, summary = cli.objects(result)
        assert.equal(0, summary.failed)
        assert.equal(2, summary.not_done)
    end)

    it("ends a restore too, which goes on when it is run again", function()
        back_up()
        local names = {}
        for number = 1, SECRETS do names[number] = seeded(number) end
        emu:delete(names)
        emu:fault { operation = "restore", delay = 1.5, times = 0 }
        emu:clear_requests()
        local process = start { "restore", "--from", store, "--all", "--json" }
        cli.wait_for("a restore", function() return #emu:requests "restore" > 0 end)
        process:signal "INT"
        local result = process:wait()
        assert.equal(130, result.exit)
        local _, summary = cli.objects(result)
        assert.is_true(summary.ok > 0 and summary.not_done > 0)
        assert.equal(0, summary.failed)
        emu:clear_faults()
        local _, again = cli.objects(csms(0, { "restore", "--from", store, "--all", "--json" }))
        assert.equal(summary.ok, again.exists)
        assert.equal(SECRETS - summary.ok, again.ok)
    end)
end)

describe("csms status", function()
    it("is 0 while every backup is young enough, and 3 where one is not", function()
        back_up()
        local result = csms(0, { "status", store })
        assert.matches("secret%-0001  %d+ s  20[%d%-]+T[%d:]+Z  ok\n", result.out)
        assert.equal("", result.err)
        result = csms(3, { "status", store, "--max-age", "0.001s" })
        assert.matches("12 of 12 secrets", result.err)
        local objects = cli.objects(csms(3, { "status", store, "--max-age", "0.001s", "--json" }))
        assert.equal(SECRETS + 1, #objects)
        assert.is_true(objects[1].judged)
        assert.is_string(objects[1].problem)
    end)

    it("tells an age in what people count it in", function()
        local past = history.new(store)
        for name, hours in pairs { minutes = 0.5, hours = 30, days = 12 * 24 + 1 } do
            past:blob(emu.project, name, core.time() - hours * 3600 - 1, "blob of " .. name)
        end
        local out = csms(0, { "status", store, "--max-age", "99d" }).out
        assert.matches("days +12%.0 d ", out)
        assert.matches("hours +30%.0 h ", out)
        assert.matches("minutes +30 min ", out)
    end)

    it("tells of a backup from the future until when it is", function()
        csms(0, { "backup", seeded(1), "-o", store })
        local file = folders.only(store, "%.blob$")
        local later = os.date("!%Y%m%dT%H%M%S", os.time() + 29520)
        local moved = file:gsub("%d+T%d+", later)
        assert(os.rename(store .. "/" .. file, store .. "/" .. moved))
        local result = csms(3, { "status", store })
        assert.matches("secret%-0001  %-8%.%d h  .* this passes by itself at " .. later, result.out)
        assert.matches("1 of 1 secrets have no backup younger than 26.0 h, or one from the future",
            result.err, 1, true)
    end)

    it("says nothing of a backup that is not there", function()
        csms(7, { "backup", "db\255", "-o", store })
        local objects = cli.objects(csms(3, { "status", store, "--json" }))
        assert.equal("db\239\191\189", objects[1].name)
        assert.is_nil(objects[1].newest)
        assert.is_nil(objects[1].age)
    end)

    it("is 3 for one that the last run left out", function()
        back_up()
        emu:fault { operation = "backup", name = seeded(5), status = 403, times = 0 }
        csms(6, { "backup", seeded(5), "-o", store })
        assert.matches("secret%-0005 .* the last run failed: denied",
            csms(3, { "status", store }).out)
    end)

    it("does not take a run for whole that a mistake in csms ended", function()
        local result = csms(1, { "backup", "--all", "-o", store, "--rate", "0" }, { LUA_INIT = [[
            local tally = require "csms.cli.tally"
            local new = tally.new
            function tally.new(outcomes)
                local self = new(outcomes)
                function self.add() error "a mistake" end
                return self
            end
        ]] })
        assert.matches("a mistake", result.err)
        assert.is_true(runs()[1].interrupted)
        local message = "no `csms backup %-%-all` of it has come to its end"
        assert.matches(emu.project .. ": " .. message, csms(3, { "status", store }).err)
        local objects = cli.objects(csms(3, { "status", store, "--json" }))
        assert.same({ "project", emu.project }, { objects[#objects - 1].type,
            objects[#objects - 1].project })
        assert.matches(message, objects[#objects - 1].problem)
    end)

    it("judges what the last whole run listed, not what one listed that broke off", function()
        back_up()
        local obstacle = ("%s/blobs/%s/in-the-way"):format(store, emu.project)
        files.write(obstacle, "")
        emu:create { name = "in-the-way", value = "v" }
        csms(12, { "backup", "--all", "-o", store, "--rate", "0", "--concurrency", "1" })
        os.remove(obstacle)
        emu:delete "in-the-way"
        emu:fault { operation = "list", status = 403, times = 0 }
        csms(6, { "backup", "--all", "-o", store })
        emu:clear_faults()
        emu:fault { operation = "list", status = 403, times = 0, after = 1 }
        emu:set { page_clamp = 5 }
        csms(3, { "backup", "--all", "-o", store, "--rate", "0" })
        local _, summary = cli.objects(csms(0, { "status", store, "--json" }))
        assert.equal(SECRETS, summary.judged)
    end)

    it("shows one that is no longer listed, and does not judge it", function()
        back_up()
        emu:delete(seeded(5))
        back_up { "--max-age", "1h" }
        assert.matches("secret%-0005 .* not judged\n", csms(0, { "status", store }).out)
    end)

    it("is 3 where there is nothing to judge", function()
        local none = "no backup to judge: no run has saved one"
        assert.matches(none, csms(3, { "status", store }).err)
        assert.matches(none, csms(3, { "status", store, "-p", ("x"):rep(32) }).err)
        csms(4, { "backup", "no-such-secret", "-o", store })
        local result = csms(3, { "status", store })
        assert.matches("no%-such%-secret .* not judged\n", result.out)
        assert.matches("no backup to judge: what is here was skipped, not found", result.err)
    end)
end)

describe("csms verify", function()
    it("is 8 and names what is damaged", function()
        local object = back_up()[1]
        files.write(store .. "/" .. object.file, "damaged")
        local result = csms(8, { "verify", store })
        assert.matches("damaged: " .. object.file, result.out, 1, true)
        local objects, summary = cli.objects(csms(8, { "verify", store, "--json" }))
        assert.equal("damaged", objects[1].outcome)
        assert.equal(object.file, objects[1].file)
        assert.equal(1, summary.problems)
        assert.equal(SECRETS, summary.blobs)
        -- as it advises
        assert.matches("the next `csms backup` saves a damaged secret anew", result.err, 1, true)
        local again
        again, summary = back_up { "--max-age", "1h" }
        assert.equal(1, summary.ok)
        assert.is_table(cli.by_name(again, "saved")[object.name])
        csms(0, { "prune", store, "--keep-last", "1" })
        -- which a backup does not mend
        os.remove(store .. "/" .. folders.find(store, "%.blob$")[1])
        result = csms(8, { "verify", store })
        assert.matches("1 damaged, missing or unreadable", result.err, 1, true)
        assert.not_matches("the next `csms backup`", result.err, 1, true)
    end)

    it("names a damaged record, and status is 3 until a whole run", function()
        back_up()
        local record = folders.only(store, "^runs/")
        files.write(store .. "/" .. record, "{}\n")
        local result = csms(8, { "verify", store })
        assert.matches("damaged: " .. record, result.out, 1, true)
        assert.not_matches("the next `csms backup`", result.err, 1, true) -- which mends blobs
        assert.matches("what it left out is not known", csms(3, { "status", store }).err, 1, true)
        back_up()
        csms(0, { "status", store })
    end)

    it("names what an interrupted run left, which is no damage", function()
        back_up()
        files.write(store .. "/.tmp-00", "left")
        assert.matches("interrupted: %.tmp%-00: ", csms(0, { "verify", store }).out)
    end)
end)

describe("csms prune", function()
    it("removes what no rule keeps, after telling with --dry-run", function()
        for _ = 1, 3 do csms(0, { "backup", seeded(1), "-o", store }) end
        local told = csms(0, { "prune", store, "--keep-last", "1", "--dry-run" }).out
        assert.equal(3, runs()[3].counts.saved * 3)
        local removed = csms(0, { "prune", store, "--keep-last", "1" }).out
        assert.equal(told:gsub("would remove", "removed"), removed)
        local _, lines = removed:gsub("removed blobs/", "")
        assert.equal(2, lines)
        csms(0, { "verify", store })
        assert.matches("  prune +2 removed", csms(0, { "runs", store }).out)
        local _, summary = cli.objects(csms(0, { "prune", store, "--keep-daily", "5", "--json" }))
        assert.equal(0, summary.removed)
        assert.equal(1, summary.kept)
    end)

    it("forgets with --forget-missing what somebody removed by hand", function()
        csms(0, { "backup", seeded(1), "-o", store })
        os.execute("rm -r '" .. store .. "/blobs'")
        assert.matches("`csms prune %-%-forget%-missing`", csms(8, { "verify", store }).out)
        local told = csms(0, { "prune", store, "--forget-missing", "--dry-run" })
        assert.matches("^would forget blobs/", told.out)
        local _, summary = cli.objects(csms(0, { "prune", store, "--forget-missing", "--json" }))
        assert.equal(1, summary.forgotten)
        assert.matches("  forget%-missing +1 removed", csms(0, { "runs", store }).out)
        csms(0, { "verify", store })
        assert.matches("no backup to judge: .* forgotten by", csms(3, { "status", store }).err)
        csms(0, { "backup", seeded(2), "-o", store })
        local object = cli.objects(csms(0, { "status", store, "--json" }))[1]
        assert.same({ seeded(1), false }, { object.name, object.judged })
        csms(0, { "backup", seeded(1), "-o", store })
        assert.is_true(cli.objects(csms(0, { "status", store, "--json" }))[1].judged)
        assert.matches("without %-%-keep", csms(2, { "prune", store, "--forget-missing",
            "--keep-last", "1" }).err)
    end)
end)

describe("--project", function()
    it("is obeyed by what looks after a store, and named where it is none", function()
        local none = ("x"):rep(32)
        for _ = 1, 2 do csms(0, { "backup", seeded(1), "-o", store }) end
        local object = cli.objects(csms(0, { "status", store, "--json", "-p", emu.project }))[1]
        assert.equal(seeded(1), object.name)
        assert.equal("", csms(0, { "runs", store, "-p", none }).out)
        assert.equal("", csms(0, { "prune", store, "--keep-last", "1", "-p", none }).out)
        local result = csms(0, { "verify", store, "-p", none, "--json" })
        assert.matches("there is no backup of project " .. none, result.err, 1, true)
        local _, summary = cli.objects(result)
        assert.equal(0, summary.blobs)
        _, summary = cli.objects(csms(0, { "verify", store, "-p", emu.project, "--json" }))
        assert.equal(2, summary.blobs)
        for _, args in ipairs { { "status" }, { "verify" }, { "runs" },
            { "prune", "--keep-last", "1" } } do
            for _, more in ipairs { store, "-p", "nonsense" } do args[#args + 1] = more end
            assert.matches("'nonsense' is no project id", csms(7, args).err)
        end
    end)
end)

describe("csms restore --from", function()
    -- `csms restore --from STORE ...`
    local function restore(code, ...)
        return csms(code, { "restore", "--from", store, ... })
    end

    it("brings one secret back", function()
        back_up()
        local before = emu:secret(seeded(3))
        emu:delete(seeded(3))
        assert.matches("restored secret%-0003", restore(0, seeded(3)).err)
        assert.same(before.versions, emu:secret(seeded(3)).versions)
        assert.equal(1, #emu:requests "restore")
    end)

    it("shows the first 20 failures and counts the others", function()
        local past = history.new(store)
        for number = 1, 22 do past:blob(emu.project, "nope-" .. number, 1000000, "no blob") end
        local result = csms(7, { "restore", "--from", store, "--all" }, UNLIMITED)
        local _, shown = result.err:gsub("csms: nope%-", "")
        assert.equal(20, shown, result.err)
        assert.matches("csms: 2 more failed; --json names each", result.err, 1, true)
    end)

    it("takes the backup that --at says", function()
        emu:create { name = "changing", value = "first" }
        csms(0, { "backup", "changing", "-o", store })
        emu:delete "changing"
        emu:create { name = "changing", value = "second" }
        csms(0, { "backup", "changing", "-o", store })
        for at, value in pairs { [runs()[1].id] = "first", [runs()[2].id] = "second",
            ["2999-01-01"] = "second" } do
            emu:delete "changing"
            restore(0, "changing", "--at", at)
            assert.equal(value, emu:secret("changing").versions[1].secret_string)
        end
        restore(4, "changing", "--at", "2020-01-01T00:00Z")
        restore(7, "changing", "--at", "yesterday")
    end)

    it("is 4 for a secret that has no backup", function()
        back_up()
        restore(4, "nope")
        restore(4, "--all", "--match", "nope*")
        emu:delete(seeded(3))
        restore(4, "--all", "--match", "*3", "--at", "2020-01-01")
    end)

    it("is not 0 with --all where the folder has lost what a run saved", function()
        back_up()
        for number = 1, 3 do emu:delete(seeded(number)) end
        os.execute(("rm -r '%s/blobs/%s/%s'"):format(store, emu.project, seeded(2)))
        local objects, summary = cli.objects(restore(3, "--all", "--json"))
        assert.equal(2, summary.ok)
        assert.equal(1, summary.failed)
        assert.equal("not_found", cli.by_name(objects, "failed")[seeded(2)].kind)
        restore(3, "--all", "--at", runs()[1].id)
    end)

    it("leaves alone with --all what is still there, unless it is forced to", function()
        back_up()
        emu:delete(seeded(3))
        local result = restore(0, "--all", "--json")
        local objects, summary = cli.objects(result)
        assert.equal(SECRETS - 1, summary.exists)
        assert.equal(1, summary.ok)
        assert.is_table(cli.by_name(objects, "restored")[seeded(3)])
        assert.matches("1 restored, 11 still there", result.err)
        assert.equal(1, #emu:requests "restore")
        restore(3, "--all", "--force", "--match", "*-000?")
    end)

    it("says what to do about a secret that is pending deletion", function()
        back_up()
        emu:change(seeded(3), { state = "PENDING_DELETE" })
        assert.matches("cancel that", restore(3, "--all").err)
        assert.equal(0, #emu:requests "restore")
    end)

    it("restores nothing with --dry-run, but checks all", function()
        local objects = back_up()
        emu:delete { seeded(2), seeded(3) }
        local saved = cli.by_name(objects, "saved")
        files.write(store .. "/" .. saved[seeded(2)].file, "damaged")
        local result = restore(3, "--all", "--dry-run")
        assert.matches("would restore secret%-0003 from blobs/", result.out)
        assert.matches("secret%-0002: storage", result.err)
        assert.equal(0, #emu:requests "restore")
        restore(8, seeded(2), "--dry-run")
    end)

    it("refuses a backup from elsewhere, unless it is forced to", function()
        back_up()
        emu:delete(seeded(3))
        local result = restore(7, seeded(3), "--endpoint", emu.http1_endpoint)
        assert.matches("only the account and region", result.err)
        restore(7, seeded(3), "--region", "cn-south-1")
        restore(7, "--all", "--match", "*3", "--endpoint", emu.http1_endpoint)
        assert.equal(0, #emu:requests "restore")
        result = restore(0, seeded(3), "--endpoint", emu.http1_endpoint, "--force")
        assert.matches("warning: secret%-0003: it was saved from", result.err)
    end)

    it("names --at where a backup is no whole one, and sends it where it is forced to", function()
        emu:fault { operation = "backup", name = seeded(3), status = 200,
            body = '{"secret_blob":"service:temporarily:out"}' }
        back_up()
        emu:delete(seeded(3))
        assert.matches("an older backup may be whole: %-%-at; %-%-force", restore(7, seeded(3)).err)
        assert.equal(0, #emu:requests "restore")
        restore(3, seeded(3), "--force")
        assert.equal(1, #emu:requests "restore")
    end)

    it("warns of a blob that no run names", function()
        back_up()
        emu:delete(seeded(3))
        os.execute("rm " .. cli.quote(store) .. "/runs/*")
        assert.matches("warning: secret%-0003: no run names this blob", restore(0, seeded(3)).err)
    end)

    it("warns where the secret is under another KMS key now", function()
        back_up { "--max-age", "1h" }
        emu:change(seeded(3), { kms_key_id = "another-key" })
        local result = restore(0, seeded(3), "--dry-run")
        assert.matches("warning: secret%-0003: .* is under another%-key now", result.err)
        assert.is_nil(restore(0, seeded(4), "--dry-run").err:find("KMS", 1, true))
        assert.equal("", restore(0, seeded(3), "--dry-run", "--quiet").err)
    end)

    it("works for who may not list", function()
        back_up()
        emu:delete(seeded(3))
        emu:fault { operation = "list", status = 403, times = 0 }
        assert.matches("warning: what the service has now", restore(0, seeded(3)).err)
    end)

    it("does not overrule with --all what it cannot list, unless it is forced to", function()
        back_up()
        emu:delete(seeded(3))
        emu:fault { operation = "list", status = 403, times = 0 }
        assert.matches("csms:secret:list.*restore by NAME, or %-%-force", restore(6, "--all").err)
        assert.equal(0, #emu:requests "restore")
        assert.matches("12 would be restored", restore(0, "--all", "--dry-run").err)
        restore(0, "--all", "--match", "*3", "--force")
        assert.equal(1, #emu:requests "restore")
    end)

    it("sends bad keys once", function()
        back_up()
        emu:clear_requests()
        csms(6, { "restore", "--from", store, "--all" }, { HUAWEICLOUD_SDK_SK = "wrong" })
        assert.equal(1, #emu:requests())
    end)

    it("is 12 where the folder cannot be read", function()
        back_up()
        emu:delete { seeded(2), seeded(3) }
        assert(os.execute(("rm -r %s/blobs && touch %s/blobs"):format(store, store)))
        restore(12, "--all")
        restore(12, seeded(2))
        assert.equal(0, #emu:requests "restore")
    end)

    it("brings back what can be read, with a warning where no run can", function()
        back_up()
        emu:delete { seeded(2), seeded(3) }
        local broken = broken_disk "/secret%-0002/.*blob$"
        local result = csms(3, { "restore", "--from", store, "--all", "--json" }, broken)
        local objects, summary = cli.objects(result)
        assert.equal("storage", cli.by_name(objects, "failed")[seeded(2)].kind)
        assert.same({ 1, 1, 0 }, { summary.ok, summary.failed, summary.not_done })
        assert.matches("secret%-0002: storage: .*Input/output error", result.err)
        csms(12, { "restore", "--from", store, seeded(2) }, broken)
        result = csms(0, { "restore", "--from", store, seeded(2) }, broken_disk "^runs/")
        assert.matches("warning: secret%-0002: no run", result.err)
    end)

    it("goes on after one that fails, which is 3", function()
        back_up()
        emu:delete { seeded(2), seeded(3) }
        emu:fault { operation = "restore", status = 400, code = "CSMS.0401" }
        local _, summary = cli.objects(restore(3, "--all", "--json"))
        assert.equal(1, summary.ok)
        assert.equal(1, summary.failed)
    end)
end)

describe("the bad morning", function()
    it("gets every version of 200 secrets back", function()
        local many = emulator.start { secrets = 200 }
        local before, names = {}, {}
        for number = 1, 200 do
            names[number] = seeded(number)
            before[number] = many:secret(names[number]).versions
        end
        csms(0, { "backup", "--all", "-o", store, "--rate", "0" }, many.env)
        many:delete(names)
        many.env.LUA_INIT = UNLIMITED.LUA_INIT
        local result = csms(0, { "restore", "--from", store, "--all" }, many.env)
        assert.matches("200 restored, of 200", result.err)
        for number = 1, 200 do
            assert.same(before[number], many:secret(names[number]).versions)
        end
        many:stop()
    end)
end)
