-- Which backups prune() keeps: 400 days of them, against a second computation that
-- shares nothing with the first; and what it never removes.

local cases = require "spec.support.cases"
local child = require "spec.support.file_child"
local core = require "csms.core"
local folders = require "spec.support.store_folder"
local history = require "spec.support.store_history"

local failure, shell = cases.failure, child.shell

local PROJECT = "0123456789abcdef0123456789ABCDEF"
local OTHER = "fedcba9876543210fedcba9876543210"
local DAY = 86400

-- What csms.inspect calls complete.
local WHOLE = table.concat({ ")CloudSecretManagementBackupV1.com"
    .. "eyJraWQiOiJrIiwiZW5jIjoiQTEyOENCQy1IUzI1NiIsImFsZyI6IlJTQS1PQUVQLTI1NiJ9",
    ("A"):rep(342), ("A"):rep(22), ("A"):rep(43), ("A"):rep(22) }, ".")

local folder, root, store

before_each(function() folder, root, store = folders.with_store() end)

after_each(function()
    store:close()
    folders.remove(folder)
end)

local function exists(file)
    local handle = io.open(root .. "/" .. file, "rb")
    if handle then handle:close() end
    return handle ~= nil
end

-- ---- the second computation -----------------------------------------------------

-- A period's name, which sorts as time does.
local PERIODS = { daily = "!%Y-%m-%d", weekly = "!%G-W%V", monthly = "!%Y-%m" }

-- Of blobs (lines with `seconds`), the newest first, marks by file those that `keep`
-- keeps: for each period its last blob, of the last so many periods.
local function mark(by_age, keep, kept)
    for index, blob in ipairs(by_age) do
        if index <= (keep.last or 0) then kept[blob.file] = true end
    end
    for name, form in pairs(PERIODS) do
        local last_of, names = {}, {}
        for index = #by_age, 1, -1 do -- the oldest first: the last one stays
            local period = os.date(form, math.floor(by_age[index].seconds))
            if not last_of[period] then names[#names + 1] = period end
            last_of[period] = by_age[index].file
        end
        table.sort(names)
        for index = math.max(1, #names - (keep[name] or 0) + 1), #names do
            kept[last_of[names[index]]] = true
        end
    end
end

-- The blobs of one secret that stay, by file: what is damaged takes no place from others.
local function keepers(blobs, keep)
    local kept = {}
    local by_age = {}
    for index, blob in ipairs(blobs) do by_age[index] = blob end
    table.sort(by_age, function(a, b)
        if a.seconds ~= b.seconds then return a.seconds > b.seconds end
        return a.file > b.file
    end)
    mark(by_age, keep, kept)
    local whole = {}
    for _, blob in ipairs(by_age) do
        if blob.good ~= false then whole[#whole + 1] = blob end
    end
    mark(whole, keep, kept)
    return kept
end

-- The sorted files that may go, and how many stay.
local function expected(secrets, keep)
    local removed, stay = {}, 0
    for _, blobs in pairs(secrets) do
        local kept = keepers(blobs, keep)
        for _, blob in ipairs(blobs) do
            if kept[blob.file] then stay = stay + 1 else removed[#removed + 1] = blob.file end
        end
    end
    table.sort(removed)
    return removed, stay
end

local function assert_prunes(secrets, keep, dry_run)
    local removed, stay = expected(secrets, keep)
    local result = assert(store:prune(keep, dry_run))
    table.sort(result.removed)
    assert.same(removed, result.removed)
    assert.equal(stay, result.kept)
    return result
end

-- ---- 400 days -------------------------------------------------------------------

-- Numbers that look random, the same each time.
local function generator(seed)
    return function(count)
        seed = seed * 16807 % 2147483647
        return math.floor(seed / 1000) % count
    end
end

-- From a winter over a leap day to the spring of the year after: three years' ends
-- and every turn of an ISO week's year. Days without any, and days with several.
local START = 1702684800 -- 2023-12-16

local function times_of_day(random, day)
    local times = {}
    local kind = random(10)
    local count = kind < 2 and 0 or kind < 8 and 1 or 2 + random(5)
    for index = 1, count do
        times[index] = day + random(DAY) + random(1000) / 1000
    end
    if kind == 9 then -- the borders of a day, and two of the same moment
        times[1], times[2], times[3] = day, day + DAY - 0.001, day + DAY - 0.001
    end
    return times
end

-- name -> lines: two secrets with much, one without gaps, one that is long gone.
local function make_history(past)
    local random = generator(20261121)
    local secrets = { ["db-key"] = {}, Upper = {}, nightly = {}, gone = {} }
    for day = 0, 399 do
        local start = START + day * DAY
        if not (day > 100 and day < 117) then
            for name, limit in pairs { ["db-key"] = 400, gone = 200 } do
                for index, time in ipairs(day < limit and times_of_day(random, start) or {}) do
                    table.insert(secrets[name], { time, name .. day .. index })
                end
            end
        end
        if day % 40 == 3 then table.insert(secrets.Upper, { start + 60, "upper" .. day }) end
        table.insert(secrets.nightly, { start + 7200, "nightly" .. day })
    end
    local lines = {}
    for name, blobs in pairs(secrets) do
        for index, blob in ipairs(blobs) do
            blobs[index] = past:blob(PROJECT, name, blob[1], blob[2])
            lines[#lines + 1] = blobs[index]
        end
    end
    past:run(START - 1, {}, lines)
    return secrets, #lines
end

local KEEPS = {
    { last = 1 }, { last = 7 }, { last = 100000 }, { daily = 1 }, { daily = 7 }, { daily = 30 },
    { daily = 400 }, { weekly = 1 }, { weekly = 5 }, { weekly = 53 }, { weekly = 104 },
    { monthly = 1 }, { monthly = 12 }, { monthly = 100 },
    { last = 3, daily = 14 }, { daily = 7, weekly = 4 }, { weekly = 8, monthly = 24 },
    { daily = 7, weekly = 4, monthly = 12 }, { last = 10, daily = 30, weekly = 8, monthly = 6 },
    { last = 0, daily = 5 }, { last = 2, monthly = 0 }, { last = 1, weekly = 60, monthly = 2 },
}

describe("of 400 days of backups prune() removes what a second computation says:", function()
    local secrets, count, copy

    setup(function()
        copy = folders.new(true)
        secrets, count = make_history(history.new(copy .. "/store"))
    end)

    teardown(function() folders.remove(copy) end)

    before_each(function() folders.copy(copy .. "/store", root) end)

    it("the history has what it is to have", function()
        local stamps, twice, days, per_day = {}, 0, {}, {}
        for _, blob in ipairs(secrets["db-key"]) do
            local stamp = history.stamp(blob.seconds)
            twice = twice + (stamps[stamp] and 1 or 0)
            stamps[stamp] = true
            days[stamp:sub(1, 8)] = true
            per_day[stamp:sub(1, 8)] = (per_day[stamp:sub(1, 8)] or 0) + 1
        end
        local number, most = 0, 0
        for day in pairs(days) do
            number, most = number + 1, math.max(most, per_day[day])
        end
        assert.is_true(twice >= 10, twice .. " of one moment")
        assert.is_true(number > 200 and number < 384, number .. " days")
        assert.is_true(most >= 5, most .. " a day")
        assert.equal(400, #secrets.nightly)
        assert.is_true(count > 1000)
        local found = assert(store:verify())
        assert.same({}, found.problems)
        assert.same({}, found.interrupted)
        assert.equal(count, found.blobs)
    end)

    it("by each way to keep, and by combinations", function()
        for _, keep in ipairs(KEEPS) do
            local result = assert_prunes(secrets, keep, true)
            assert.equal(count, #result.removed + result.kept)
        end
    end)

    it("by any numbers", function()
        local random = generator(7)
        for _ = 1, 30 do
            local keep = { last = random(30) }
            for name, most in pairs { daily = 450, weekly = 70, monthly = 20 } do
                if random(2) == 0 then keep[name] = random(most) end
            end
            keep.last = keep.last + (next(keep, next(keep)) and 0 or 1)
            if keep.last > 0 then assert_prunes(secrets, keep, true) end
        end
    end)

    it("as it said before, and once", function()
        local keep = { last = 3, daily = 14, weekly = 8, monthly = 6 }
        local planned = assert(store:prune(keep, true))
        local before = folders.find(root, "%.blob$")
        local result = assert_prunes(secrets, keep)
        assert.same(planned.kept, result.kept)
        local gone = {}
        for _, file in ipairs(planned.removed) do gone[file] = true end
        local left = {}
        for _, file in ipairs(before) do
            if not gone[file] then left[#left + 1] = file end
        end
        assert.same(left, folders.find(root, "%.blob$"))
        assert.equal(#before, #planned.removed + #left)

        local found = assert(store:verify())
        assert.same({}, found.problems)
        assert.same({}, found.interrupted)
        assert.same({}, assert(store:prune(keep)).removed)
        assert.equal(#left, assert(store:prune(keep)).kept)
    end)

    it("in steps, each with less", function()
        for _, keep in ipairs {
            { daily = 200, weekly = 50 }, { daily = 20 }, { weekly = 3 }, { last = 1 },
        } do
            local result = assert_prunes(secrets, keep)
            for _, blobs in pairs(secrets) do
                for index = #blobs, 1, -1 do
                    if not exists(blobs[index].file) then table.remove(blobs, index) end
                end
            end
            assert.is_true(#result.removed > 0)
            assert.same({}, assert(store:verify()).problems)
        end
        for _, name in ipairs { "db-key", "Upper", "nightly", "gone" } do
            assert.is_string((assert(store:read(PROJECT, name))))
        end
        assert.equal(4, #folders.find(root, "%.blob$"))
        secrets, count = make_history(history.new(copy .. "/again"))
    end)

    it("in UTC, wherever the machine is", function()
        local keep = { daily = 20, weekly = 9, monthly = 7 }
        local removed = expected(secrets, keep)
        for _, zone in ipairs { "EAST-14", "WEST+12" } do
            local output = child.run(([[
                local store = assert(require("csms").store(%q))
                local keep = { daily = 20, weekly = 9, monthly = 7 }
                local removed = assert(store:prune(keep, true)).removed
                table.sort(removed)
                print(table.concat(removed, "\n"))
            ]]):format(root), "TZ=" .. zone .. " exec COMMAND")
            assert.equal(table.concat(removed, "\n") .. "\n", output)
        end
    end)

    it("changing nothing where it is only to say so", function()
        local before = folders.snapshot(root)
        for _, keep in ipairs { { last = 1 }, { daily = 3, monthly = 4 } } do
            assert.is_true(#assert(store:prune(keep, true)).removed > 100)
        end
        assert.equal(before, folders.snapshot(root))
    end)
end)

-- ---- what stays -------------------------------------------------------------------

describe("prune() never removes", function()
    local past

    before_each(function() past = history.new(root) end)

    it("the only backup of a secret, whatever its age", function()
        past:run(1, {}, {
            past:blob(PROJECT, "one", 1000, "a"), past:blob(PROJECT, "Two", 2000, "b"),
            past:blob(OTHER, "one", 3000, "c"),
        })
        for name in pairs { last = 1, daily = 1, weekly = 1, monthly = 1 } do
            assert.same({ removed = {}, kept = 3 }, assert(store:prune { [name] = 1 }))
        end
    end)

    it("the newest good one, where younger ones are damaged", function()
        local blobs = {}
        for index = 1, 6 do
            blobs[index] = past:blob(PROJECT, "one", 1000 * index, "blob " .. index)
        end
        past:run(1, {}, blobs)
        for index = 4, 6 do
            folders.write(root .. "/" .. blobs[index].file, "damaged")
            blobs[index].good = false
        end
        local result = assert_prunes({ blobs }, { last = 1 })
        assert.equal(4, #result.removed)
        assert.is_true(exists(blobs[3].file) and exists(blobs[6].file))
        assert.equal("blob 3", (assert(store:read(PROJECT, "one", "19700101T005000.000Z"))))
        assert.equal(blobs[3].file, assert(store:newest(PROJECT, "one")).file)
    end)

    it("a good one because a younger, damaged one has its place", function()
        local blobs = {}
        for index = 1, 12 do -- two a day
            blobs[index] = past:blob(PROJECT, "one", DAY / 2 * index - 1, "blob " .. index)
        end
        past:run(1, {}, blobs)
        for index = 8, 12 do
            folders.write(root .. "/" .. blobs[index].file, "damaged")
            blobs[index].good = false
        end
        for count = 1, 7 do
            assert_prunes({ blobs }, { daily = count }, true)
            assert_prunes({ blobs }, { last = count }, true)
        end
        local result = assert_prunes({ blobs }, { daily = 2 })
        assert.equal(4, result.kept)
        for _, index in ipairs { 6, 7, 10, 12 } do
            assert.is_true(exists(blobs[index].file), index)
        end
        assert.same({ removed = {}, kept = 4 }, assert(store:prune { daily = 2 }))
    end)

    it("a good one because a damaged one of its day, older than the newest good one, is younger",
        function()
            local blobs = {}
            for index = 1, 12 do -- three a day
                blobs[index] = past:blob(PROJECT, "one", DAY / 3 * index - 1, "blob " .. index)
            end
            past:run(1, {}, blobs)
            for _, index in ipairs { 5, 6, 7, 8, 9, 11 } do
                folders.write(root .. "/" .. blobs[index].file, "damaged")
                blobs[index].good = false
            end
            for count = 1, 12 do
                assert_prunes({ blobs }, { daily = count }, true)
                assert_prunes({ blobs }, { last = count }, true)
                assert_prunes({ blobs }, { last = count, weekly = 1, daily = 2 }, true)
            end
            assert_prunes({ blobs }, { daily = 3 })
            for _, index in ipairs { 3, 4, 12 } do
                assert.is_true(exists(blobs[index].file), index)
            end
        end)

    it("any of a secret that has no good one", function()
        local blobs = {}
        for index = 1, 4 do
            blobs[index] = past:blob(PROJECT, "one", 1000 * index, "blob " .. index)
            folders.write(root .. "/" .. blobs[index].file, "damaged" .. index)
        end
        past:run(1, {}, blobs)
        assert.same({ removed = {}, kept = 4 }, assert(store:prune { last = 1 }))
    end)

    it("the newest good one of what the service no longer lists", function()
        local old = past:blob(PROJECT, "gone", 1000, "old")
        local last = past:blob(PROJECT, "gone", 2000, "last")
        past:run(500, { project = PROJECT, asked = { all = true } }, { old, last })
        for index = 1, 9 do
            past:run(5000 * index, { project = PROJECT, asked = { all = true } },
                { past:blob(PROJECT, "there", 5000 * index + 1, "blob" .. index) })
        end
        assert.equal(9, #assert(store:prune { last = 1 }).removed)
        assert.equal("last", (assert(store:read(PROJECT, "gone"))))
        assert.is_false(exists(old.file))
    end)

    it("the last whole backup, whatever the service gave since", function()
        local lines = {
            past:blob(PROJECT, "one", 1000, WHOLE), past:blob(PROJECT, "one", 2000, WHOLE),
            past:blob(PROJECT, "one", 3000, WHOLE:sub(1, -20)),
            past:blob(PROJECT, "one", 4000, "garbage"), past:blob(PROJECT, "one", 5000, "garbage"),
        }
        past:run(1, {}, lines)
        local result = assert(store:prune { last = 1 })
        table.sort(result.removed)
        assert.same({ lines[1].file, lines[3].file, lines[4].file }, result.removed)
        assert.equal(2, result.kept)
        assert.is_true(exists(lines[2].file) and exists(lines[5].file))
        assert.same({}, assert(store:prune { last = 1 }).removed)
    end)

    it("any while one that the rules keep cannot be read", function()
        local blobs = {}
        for index = 1, 6 do -- three a day
            blobs[index] = past:blob(PROJECT, "one", DAY / 3 * index - 1, WHOLE)
        end
        past:run(1, {}, blobs)
        assert(store:list())
        folders.break_reads(store, "/19700101T235959")
        assert.equal("EIO", failure("storage", store:prune({ daily = 2 }, true)).code)
        assert.equal(5, #assert(store:prune({ daily = 1 }, true)).removed)
    end)

    it("a file that is not its own, and no run", function()
        local blobs = {}
        for index = 1, 3 do
            blobs[index] = past:blob(PROJECT, "one", 1000 * index, "blob " .. index)
        end
        local run = past:run(1, {}, blobs)
        local unnamed = past:blob(PROJECT, "one", 500, "good, and no run's")
        local inside = "blobs/" .. PROJECT .. "/one/"
        local strange = {
            inside .. "notes.txt", inside .. "19700101T000001.000Z.blob",
            inside .. "19700101T000001.000Z-0123456789ab.blob", -- not that digest
            inside .. "19700101T000001.000Z-0123456789ab.blob.gpg",
            inside .. ".tmp-00ff", inside .. ".hidden", ".tmp-00ff", "notes.txt",
            "blobs/" .. PROJECT .. "/notes.txt", "blobs/notes.txt", "runs/notes.txt",
            "runs/19700101T000001.000Z-0123456789ab.jsonl.bak",
            "blobs/short/one/19700101T000001.000Z-0123456789ab.blob",
            "blobs/" .. PROJECT .. "/a b/19700101T000001.000Z-0123456789ab.blob",
            "blobs/" .. PROJECT .. "/Upper/19700101T000001.000Z-0123456789ab.blob",
        }
        for _, file in ipairs(strange) do past:write(file, "text") end
        shell(("mkdir '%s/%s19700101T000002.000Z-0123456789ab.blob'"):format(root, inside))
        local result = assert(store:prune { last = 1 })
        table.sort(result.removed)
        assert.same({ unnamed.file, blobs[1].file, blobs[2].file }, result.removed)
        for _, file in ipairs(strange) do assert.is_true(exists(file), file) end
        assert.is_true(exists("runs/" .. run .. ".jsonl"))
        assert.is_true(exists(inside .. "19700101T000002.000Z-0123456789ab.blob"))
    end)

    it("what lies outside, though a link leads there", function()
        past:run(1, {}, {
            past:blob(PROJECT, "one", 1000, "a"), past:blob(PROJECT, "one", 2000, "b"),
        })
        shell(("mkdir '%s/outside' && mv '%s/blobs/%s/one' '%s/outside' && ln -s '%s/outside/one' "
            .. "'%s/blobs/%s/one'"):format(folder, root, PROJECT, folder, folder, root, PROJECT))
        assert.same({}, assert(store:prune { last = 1 }).removed)
        assert.equal(2, #folders.find(folder .. "/outside", "%.blob$"))
    end)
end)

-- ---- how it goes about it -----------------------------------------------------------

describe("prune()", function()
    local past, blobs

    before_each(function()
        past, blobs = history.new(root), {}
        for index = 1, 5 do
            blobs[index] = past:blob(PROJECT, "one", 1000 * index, "blob " .. index)
        end
        past:run(1, {}, blobs)
    end)

    it("writes a run that names what it removes, and leaves the secret to the rest", function()
        local result = assert(store:prune { last = 2 })
        assert.same({ blobs[3].file, blobs[2].file, blobs[1].file }, result.removed)
        assert.equal(2, result.kept)
        local runs = assert(store:runs())
        assert.equal(2, #runs)
        assert.same({ prune = { last = 2 } }, runs[2].asked)
        assert.equal(3, runs[2].counts.removed)
        assert.is_false(runs[2].interrupted)
        assert.equal("blob 5", (assert(store:read(PROJECT, "one"))))
        failure("not_found", store:read(PROJECT, "one", history.stamp(3500)))
        assert.equal("", folders.read(root .. "/lock"))
    end)

    it("removes nothing before the record is durable, and its name", function()
        local directory = require "csms.store.directory"
        local open, calls = directory.open, {}
        directory.open = function(...)
            local dir = assert(open(...))
            for _, name in ipairs { "append", "sync", "remove" } do
                local real = dir[name]
                dir[name] = function(self, path, ...)
                    calls[#calls + 1] = name .. " "
                        .. (type(path) == "table" and table.concat(path, " ") or path)
                    return real(self, path, ...)
                end
            end
            return dir
        end
        local result, err = store:prune { last = 4 }
        directory.open = open
        assert(result, tostring(err))
        for index, call in ipairs {
            "^sync runs$", "^append runs/[^/]+part$", "^sync runs/[^/]+part$", "^remove blobs/",
        } do
            assert.matches(call, calls[index])
        end
    end)

    it("that was killed once it had recorded all leaves nothing wrong", function()
        local lines = {}
        for index = 1, 3 do
            lines[index] = {
                outcome = "removed", project = PROJECT, name = "one", file = blobs[index].file,
            }
        end
        for removed = 0, 3 do
            past:run(10000 + removed, { asked = { prune = { last = 2 } } }, lines, false)
            if removed > 0 then os.remove(root .. "/" .. blobs[removed].file) end
            local found = assert(store:verify())
            assert.same({}, found.problems)
            assert.equal(1 + 3 - removed, #found.interrupted)
            assert.equal("blob 5", (assert(store:read(PROJECT, "one"))))
            if removed % 2 == 0 then
                -- The next writer closes that run, and the next prune takes the rest.
                assert(store:save(PROJECT, "two", "blob"))
                assert(store:close())
                assert.same({}, assert(store:verify()).problems)
            end
            os.remove(root .. "/runs/" .. history.stamp(10000 + removed) .. "-00c0ffee0000.part")
        end
        assert.same({}, assert(store:prune { last = 2 }).removed)
        assert.same({}, assert(store:verify()).problems)
    end)

    it("takes up what a killed one has left", function()
        local line = { outcome = "removed", project = PROJECT, name = "one", file = blobs[1].file }
        past:run(10000, { asked = { prune = { last = 2 } } }, { line }, false)
        assert.same({}, assert(store:prune { last = 5 }).removed)
        local found = assert(store:verify())
        assert.same({}, found.problems)
        assert.same({ { file = blobs[1].file,
            problem = "it was to be removed; the next prune that does not keep it removes it",
        } }, found.interrupted)
        assert.equal(3, #assert(store:prune { last = 2 }).removed)
        found = assert(store:verify())
        assert.same({}, found.problems)
        assert.same({}, found.interrupted)
        assert.is_true(assert(store:runs())[2].interrupted)
    end)

    it("of nothing that may go writes a run without lines", function()
        assert.same({ removed = {}, kept = 5 }, assert(store:prune { last = 5 }))
        assert.equal(0, assert(store:runs())[2].counts.removed)
        assert.same({}, assert(store:verify()).problems)
    end)

    it("refuses what would keep nothing, or says nothing", function()
        local before = folders.snapshot(root)
        for _, keep in ipairs {
            {}, { last = 0 }, { last = 0, daily = 0, weekly = 0, monthly = 0 }, { last = -1 },
            { last = 1.5 }, { last = 1, daily = -1 }, { last = "7" }, { last = true },
            { last = 1 / 0 }, { last = 0 / 0 }, { hourly = 3 }, { last = 3, yearly = 1 }, { 3 },
            { [true] = 1 },
        } do
            local err = failure("argument", store:prune(keep))
            assert.matches("^keep: ", err.message)
            failure("argument", store:prune(keep, true))
        end
        assert.equal(before, folders.snapshot(root))
    end)

    it("does not go on where the record cannot be written", function()
        shell(("mv '%s/runs' '%s/away' && echo text > '%s/runs'"):format(root, folder, root))
        failure("storage", store:prune { last = 1 })
        assert.equal(5, #folders.find(root, "%.blob$"))
    end)
end)

describe("a backup from the future", function()
    it("is no day that a rule could go by, so nothing is removed, and the cure is told", function()
        local past = history.new(root)
        local now = core.time()
        local blobs = {
            past:blob(PROJECT, "one", now - 3600, "older"), past:blob(PROJECT, "one", now, "now"),
            past:blob(PROJECT, "one", now + 3600, "from the future"),
            past:blob(PROJECT, "two", now + 7200, "from the future"),
            past:blob(PROJECT, "three", now - 3600, "three"),
        }
        past:run(now - 7200, {}, blobs)
        -- The last that was saved has the last stamp: it is not to go alone.
        assert(store:save(PROJECT, "one", "the last"))
        assert(store:close())
        local before = folders.find(root, "%.blob$")
        for _, dry_run in ipairs { true, false } do
            local err = failure("config", store:prune({ last = 1 }, dry_run))
            assert.matches(("in %s/blobs/%s/one and 1 more are from the future")
                :format(root, PROJECT), err.message, 1, true)
            assert.matches(("this passes by itself at %s; if that is too long, move each such "
                .. "folder as a whole out"):format(history.stamp(now + 7200)), err.message, 1, true)
        end
        assert.same(before, folders.find(root, "%.blob$"))
        for _, name in ipairs { "one", "two" } do
            os.rename(("%s/blobs/%s/%s"):format(root, PROJECT, name), folder .. "/" .. name)
            assert(store:save(PROJECT, name, "anew"))
        end
        assert(store:close())
        assert.equal(3, assert(store:prune { last = 1 }).kept)
        assert(store:forget_missing())
        assert.same({}, assert(store:verify()).problems)
    end)
end)

describe("a generated week of years' ends", function()
    it("has weeks that begin on Monday, and years of their own", function()
        local past = history.new(root)
        local blobs = {}
        -- Each noon from 24 December to 8 January, of seven years.
        for year = 2013, 2020 do
            local start = history.seconds(year, 12, 24, 12)
            for day = 0, 15 do
                blobs[#blobs + 1] = past:blob(PROJECT, "one", start + day * DAY, year .. "-" .. day)
            end
        end
        past:run(1, {}, blobs)
        for weeks = 1, 26 do assert_prunes({ blobs }, { weekly = weeks }, true) end
        for months = 1, 17 do assert_prunes({ blobs }, { monthly = months }, true) end
        for days = 1, 130, 7 do assert_prunes({ blobs }, { daily = days }, true) end
    end)
end)

describe("of one backup a year", function()
    it("each is a day, a week and a month of its own", function()
        local past = history.new(root)
        local blobs = {}
        for year = 2013, 2019 do
            local seconds = history.seconds(year, 3, 14)
            blobs[#blobs + 1] = past:blob(PROJECT, "one", seconds, "in " .. year)
        end
        past:run(1, {}, blobs)
        for _, period in ipairs { "daily", "weekly", "monthly" } do
            for count = 1, 8 do
                local removed = assert(store:prune({ [period] = count }, true)).removed
                assert.equal(math.max(0, 7 - count), #removed)
            end
            assert_prunes({ blobs }, { [period] = 3 }, true)
        end
    end)
end)

describe("prune() of a store with new backups", function()
    it("works on what save() has written", function()
        for index = 1, 5 do
            assert(store:save(PROJECT, "one", "blob " .. index))
            assert(store:save(OTHER, "Two", "blob " .. index))
        end
        assert.equal("config", select(2, store:prune { last = 1 }).kind)
        assert(store:close())
        local before = core.time()
        local result = assert(store:prune { last = 2 })
        assert.equal(6, #result.removed)
        assert.equal(4, result.kept)
        local run = assert(store:runs())[2]
        assert.is_true(run.started >= history.stamp(before - 0.001))
        for _, project in ipairs { PROJECT, OTHER } do
            assert.equal(2, assert(store:list(project))[1].count)
        end
        assert.equal("blob 5", (assert(store:read(OTHER, "Two"))))
    end)
end)
