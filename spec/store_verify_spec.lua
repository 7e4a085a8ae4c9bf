-- What verify() finds: every change, cut, swap and removal of what csms wrote, over
-- all bytes; and what it must not take for damage.

local cases = require "spec.support.cases"
local core = require "csms.core"
local errors = require "csms.errors"
local folders = require "spec.support.store_folder"
local history = require "spec.support.store_history"
local shell = require("spec.support.file_child").shell

local failure = cases.failure

local PROJECT = "0123456789abcdef0123456789ABCDEF"

local folder, root, store

before_each(function() folder, root, store = folders.with_store() end)

after_each(function()
    store:close()
    folders.remove(folder)
end)

local function path_of(file) return root .. "/" .. file end

-- The files that are named as damaged; `interrupted` must be empty unless expected.
local function damaged()
    local files = {}
    for index, fault in ipairs(assert(store:verify()).problems) do
        assert.is_true(#fault.problem > 10)
        files[index] = fault.file
    end
    return files
end

local function clean()
    local found = assert(store:verify())
    assert.same({}, found.problems)
    assert.same({}, found.interrupted)
    return found
end

-- A store of two closed runs and three blobs, and the paths of its files.
local function make()
    assert(store:open_run { endpoint = "https://kms.example", asked = { all = true } })
    local one = assert(store:save(PROJECT, "one", ("the first blob "):rep(10) .. "\0\255"))
    local two = assert(store:save(PROJECT, "Two", ("another blob "):rep(12)))
    assert(store:note(PROJECT, "three", "failed", { kind = "denied", message = "no" }))
    assert(store:close())
    local three = assert(store:save(PROJECT, "one", "a younger one"))
    assert(store:close())
    clean()
    return one.file, two.file, three.file
end

-- Whether verify() finds fault with what `bytes` make of a file.
local function finds(file, bytes)
    folders.write(path_of(file), bytes)
    local found = store:verify()
    if not found then return true end -- it is no store of this format any more
    for _, fault in ipairs(found.problems) do
        if fault.file == file then return true end
    end
    -- Another id is still a good one: then the runs are another store's.
    return file == "csms-store.json" and #found.problems > 0
end

-- Calls change(original, index) for each byte of a file, until it is nil; each that
-- differs from the original must be found. How many there were.
local function all_found(file, count, change)
    local original = folders.read(path_of(file))
    local tried = 0
    for index = 1, count(original) do
        local bytes = change(original, index)
        if bytes ~= original then
            tried = tried + 1
            if not finds(file, bytes) then
                error(("not found in %s: change %d"):format(file, index))
            end
        end
    end
    folders.write(path_of(file), original)
    clean()
    return tried
end

local function length(text) return #text end

local function replaced(text, index, byte)
    return text:sub(1, index - 1) .. string.char(byte) .. text:sub(index + 1)
end

-- ---- changes ------------------------------------------------------------------

-- What can happen to one file, as all_found() takes it.
local CHANGES = {
    ["each byte with another bit"] = { length, function(text, index)
        local byte = text:byte(index)
        local bit = 2 ^ (index % 8)
        return replaced(text, index, byte % (2 * bit) < bit and byte + bit or byte - bit)
    end },
    ["each byte the next one"] = { length, function(text, index)
        return replaced(text, index, (text:byte(index) + 1) % 256)
    end },
    ["each byte a NUL"] = { length, function(text, index) return replaced(text, index, 0) end },
    ["each byte a line's end"] = { length, function(text, index)
        return replaced(text, index, 10)
    end },
    ["each byte a blank"] = { length, function(text, index) return replaced(text, index, 32) end },
    ["each byte a digit"] = { length, function(text, index)
        return replaced(text, index, 48 + index % 10)
    end },
    ["cut at each length"] = { length, function(text, index) return text:sub(1, index - 1) end },
    ["cut at each beginning"] = { length, function(text, index) return text:sub(index + 1) end },
    ["each byte gone"] = { length, function(text, index)
        return text:sub(1, index - 1) .. text:sub(index + 1)
    end },
    ["each byte twice"] = { length, function(text, index)
        return text:sub(1, index) .. text:sub(index)
    end },
    ["each two neighbours swapped"] = { function(text) return #text - 1 end, function(text, index)
        return text:sub(1, index - 1) .. text:sub(index, index + 1):reverse()
            .. text:sub(index + 2)
    end },
    ["lengthened"] = { function() return 4 end, function(text, index)
        return text .. ({ "\0", "\n", "x", text })[index]
    end },
}

describe("verify() finds", function()
    for name, change in pairs(CHANGES) do
        it("a blob with " .. name, function()
            local one, two = make()
            for _, file in ipairs { one, two } do
                local tried = all_found(file, change[1], change[2])
                assert.is_true(tried > 100 or name == "lengthened")
            end
        end)

        it("a closed run with " .. name, function()
            make()
            local runs = folders.find(root, "^runs/.*%.jsonl$")
            assert.equal(2, #runs)
            for _, file in ipairs(runs) do
                local tried = all_found(file, change[1], change[2])
                assert.is_true(tried > 300 or name == "lengthened")
            end
        end)

        it("a csms-store.json with " .. name, function()
            make()
            local tried = all_found("csms-store.json", change[1], change[2])
            assert.is_true(tried > 25 or name == "lengthened")
        end)
    end

    it("a csms-store.json with any other value of any byte, tried by fives", function()
        make()
        local tried = all_found("csms-store.json", function(text) return #text * 51 end,
            function(text, index)
                local at = math.floor((index - 1) / 51) + 1
                local other = (index - 1) % 51 * 5 + at % 5 + 1
                return replaced(text, at, (text:byte(at) + other) % 256)
            end)
        assert.equal(56 * 51, tried)
    end)

    it("a blob that is gone, each of them", function()
        for _, file in ipairs { make() } do
            local bytes = folders.read(path_of(file))
            os.remove(path_of(file))
            assert.same({ file }, damaged())
            folders.write(path_of(file), bytes)
            clean()
        end
    end)

    it("folders that are gone, blob by blob", function()
        local one, two, three = make()
        shell(("rm -r '%s/blobs/%s/one'"):format(root, PROJECT))
        assert.same({ one, three }, damaged())
        shell(("rm -r '%s/blobs/%s'"):format(root, PROJECT))
        local expected = { one, two, three }
        table.sort(expected)
        assert.same(expected, damaged())
        shell(("rm -r '%s/blobs'"):format(root))
        assert.same(expected, damaged())
    end)

    it("a csms-store.json that is gone, or empty", function()
        make()
        local text = folders.read(path_of "csms-store.json")
        os.remove(path_of "csms-store.json")
        assert.same({ "csms-store.json" }, damaged())
        folders.write(path_of "csms-store.json", "")
        assert.same({ "csms-store.json" }, damaged())
        folders.write(path_of "csms-store.json", text)
        clean()
    end)

    it("a blob with another name", function()
        local one = make()
        for _, name in ipairs {
            (one:gsub("%d(%.%d%d%dZ)", "9%1")), (one:gsub("%x%.blob", "0.blob")),
            (one:gsub("/one/", "/four/")), one .. ".old",
        } do
            if name ~= one then
                shell(("mkdir -p '%s'"):format(path_of(name):match "^(.*)/"))
                assert(os.rename(path_of(one), path_of(name)))
                local files = table.concat(damaged(), " ")
                assert.matches(one, files, 1, true)
                assert(os.rename(path_of(name), path_of(one)))
            end
        end
    end)

    it("two blobs in each other's place", function()
        local files = { make() }
        for first = 1, 3 do
            for second = first + 1, 3 do
                local a, b = path_of(files[first]), path_of(files[second])
                for _ = 1, 2 do
                    assert(os.rename(a, folder .. "/aside"))
                    assert(os.rename(b, a))
                    assert(os.rename(folder .. "/aside", b))
                    if _ == 1 then
                        local expected = { files[first], files[second] }
                        table.sort(expected)
                        assert.same(expected, damaged())
                    end
                end
                clean()
            end
        end
    end)

    it("two runs in each other's place", function()
        make()
        local runs = folders.find(root, "^runs/")
        local a, b = path_of(runs[1]), path_of(runs[2])
        assert(os.rename(a, folder .. "/aside"))
        assert(os.rename(b, a))
        assert(os.rename(folder .. "/aside", b))
        assert.same(runs, damaged())
    end)

    it("a run of another store", function()
        make()
        local past = history.new(folder .. "/other")
        local id = past:run(1000000, {}, {})
        shell(("cp '%s/other/runs/%s.jsonl' '%s/runs'"):format(folder, id, root))
        assert.same({ "runs/" .. id .. ".jsonl" }, damaged())
        assert.matches("of another store %(" .. past.id .. "%)",
            assert(store:verify()).problems[1].problem)
    end)

    it("a changed run until it is moved out of the store, as it says", function()
        make()
        local run = folders.find(root, "^runs/")[1]
        folders.write(path_of(run), (folders.read(path_of(run)):gsub("denied", "Denied")))
        assert.same({ run }, damaged())
        assert.matches("it was changed; move it out of the store: the backups that it names count",
            assert(store:verify()).problems[1].problem, 1, true)
        assert(os.rename(path_of(run), folder .. "/moved"))
        assert.same({}, damaged())
        assert.equal(3, assert(store:verify()).blobs)
    end)

    it("a closed run that is not one, though its name has its digest", function()
        local past = history.new(root)
        local function closed(text)
            local file = ("runs/%s-%s.jsonl"):format(history.stamp(1000000),
                core.sha256(text):sub(1, 12))
            past:write(file, text)
            assert.same({ file }, damaged(), text)
            os.remove(path_of(file))
        end
        local header = ('{"store":"%s","started":"%s"}\n'):format(past.id, history.stamp(1000000))
        local ended = ('{"outcome":"ended","when":"%s"}\n'):format(history.stamp(1000000))
        closed ""
        closed(header)
        closed(header:sub(1, -2))
        closed(ended)
        closed(header .. ended:sub(1, -2))
        closed(header .. ended .. "x")
        closed(header .. "[]\n" .. ended)
        closed(header .. "5\n" .. ended)
        closed(header .. "\n" .. ended)
        closed(header .. "{}\n" .. ended)
        closed(header .. '{"outcome":5}\n' .. ended)
        closed(header .. '{"outcome":"saved"}\n' .. ended)
        closed(header .. '{"outcome":"saved","file":5,"sha256":"x"}\n' .. ended)
        closed(header .. '{"outcome":"failed","name":{}}\n' .. ended)
        closed(header .. header .. ended)
        closed('{"store":5,"started":"x"}\n' .. ended)
        closed(("["):rep(300000)) -- would take hours if its end were looked for at each byte
        past:write(("runs/%s-%s.jsonl"):format(history.stamp(1000000),
            core.sha256(header .. ended):sub(1, 12)), header .. ended)
        clean()
    end)

    it("a blob that is another one with the same name, by its whole digest", function()
        local past = history.new(root)
        local line = past:blob(PROJECT, "one", 1000000, "blob")
        line.sha256 = line.sha256:sub(1, 12) .. ("0"):rep(52)
        past:run(999000, {}, { line })
        assert.same({ line.file }, damaged())
        assert.matches("not the one in the run", store:verify().problems[1].problem)
    end)

    it("a blob that is longer than any backup, as do all readers", function()
        local past = history.new(root)
        local good = past:blob(PROJECT, "one", 1000000, "blob")
        local long = past:blob(PROJECT, "one", 2000000, "younger")
        past:run(900000, {}, { good, long }, false)
        -- With a hole, it takes no room; 64 MiB are read at most.
        shell(("truncate -s 65M '%s'"):format(path_of(long.file)))
        assert.same({ long.file }, damaged())
        assert.equal("damaged", failure("storage", store:read(PROJECT, "one")).code)
        assert.equal(good.file, assert(store:newest(PROJECT, "one")).file)
        assert.same({}, assert(store:prune { last = 1 }).removed)
        assert.same({ long.file }, damaged())
    end)

    it("a record that is longer than any, which is no obstacle to the others", function()
        local one = make()
        local run = folders.find(root, "^runs/")[2]
        shell(("truncate -s 65M '%s'"):format(path_of(run)))
        assert.same({ run }, damaged())
        assert.matches("it cannot be read: .*: it is longer than any record",
            assert(store:verify()).problems[1].problem)
        assert.matches("cannot be read", assert(store:runs())[2].problem)
        assert.equal(1, assert(store:status()).unreadable)
        assert.equal("a younger one", (assert(store:read(PROJECT, "one"))))
        assert.same({ one }, assert(store:prune { last = 1 }).removed)
    end)

    it("all that cannot be read, and goes on", function()
        local one, two, three = make()
        folders.write(path_of(three), "damaged")
        local runs = folders.find(root, "^runs/")
        for _, file in ipairs { one, "blobs/" .. PROJECT .. "/Two", runs[1], "csms-store.json" } do
            store:close()
            assert(store:list())
            folders.break_reads(store, file:gsub("%p", "%%%0"))
            local expected = { three, file:match "^.*/Two" and two:match "^(.*)/" or file }
            table.sort(expected)
            assert.same(expected, damaged())
            for _, fault in ipairs(assert(store:verify()).problems) do
                assert.matches(fault.file == three and "changed or cut"
                    or fault.file == "csms-store.json" and "cannot read"
                    or "it cannot be read: Input/output error", fault.problem)
            end
        end
    end)

    it("what this user may not read, and says that a run ends there", function()
        local one, two = make()
        local entries, read = store.dir.entries, store.dir.read
        local function denied(real, path)
            return function(dir, asked, ...)
                if asked ~= path then return real(dir, asked, ...) end
                return nil, errors.new("storage", "cannot read it",
                    { code = "EACCES", cause = "Permission denied" })
            end
        end
        store.dir.entries = denied(entries, two:match "^(.*)/")
        store.dir.read = denied(read, one)
        local found = assert(store:verify())
        local problem = "it cannot be read: Permission denied; make it readable for this user"
        table.sort(found.problems, function(a, b) return #a.problem < #b.problem end)
        assert.same({ { file = one, problem = problem }, { file = two:match "^(.*)/",
            problem = problem .. "; until that is mended, a run that comes to it ends there" } },
            found.problems)
        assert.equal(0, found.changed)
    end)

    it("several faults at once, in the order of their names", function()
        local one, two, three = make()
        os.remove(path_of(one))
        folders.write(path_of(two), "x")
        folders.write(path_of(three), "x")
        local run = folders.find(root, "^runs/")[2]
        folders.write(path_of(run), "x")
        local expected = { one, two, three, run }
        table.sort(expected)
        -- The younger one's run names nothing any more; its own name still does.
        assert.same(expected, damaged())
        assert.equal(2, store:verify().changed)
    end)
end)

-- ---- what is no damage ----------------------------------------------------------

describe("verify() takes for no damage", function()
    local function interrupted()
        local found, files = assert(store:verify()), {}
        assert.same({}, found.problems)
        for index, fault in ipairs(found.interrupted) do files[index] = fault.file end
        return files
    end

    it("an untouched store, and counts what is in it", function()
        make()
        local found = clean()
        assert.equal(3, found.blobs)
        assert.equal(2, found.runs)
    end)

    it("a good blob that no run names", function()
        make()
        local past = history.new(folder .. "/other")
        past.root = root
        local line = past:blob(PROJECT, "new", 1000000, "good")
        assert.same({ line.file }, interrupted())
        assert.matches("counts like any other", store:verify().interrupted[1].problem)
        folders.write(path_of(line.file), "gone")
        assert.same({ line.file }, damaged())
    end)

    it("a run that goes on, and one that a kill left", function()
        assert(store:save(PROJECT, "one", "blob"))
        local part = folders.only(root, "%.part$")
        assert.same({ part }, interrupted())
        local file = assert(io.open(path_of(part), "ab"))
        file:write '{"outcome":"sav'
        file:close()
        assert.same({ part }, interrupted())
        folders.write(path_of(part), "")
        assert.equal(2, #interrupted())
    end)

    it("temporaries, wherever they are", function()
        local one = make()
        local name = ".tmp-0123456789abcdef"
        local places = { name, one:match "^(.*)/" .. "/" .. name }
        for _, place in ipairs(places) do folders.write(path_of(place), "half a bl") end
        table.sort(places)
        assert.same(places, interrupted())
    end)

    it("a stranger's files and folders", function()
        local one = make()
        local places = {
            "notes.txt", "blobs/notes.txt", "blobs/lost+found", "blobs/" .. PROJECT .. "/notes.txt",
            "blobs/" .. PROJECT .. "/Upper", one:match "^(.*)/" .. "/notes.txt",
            "runs/notes.txt", "runs/20260101T000000.000Z-0123.jsonl", "snapshots",
            "runs/20260230T000000.000Z-0123456789ab.jsonl", "runs/20260230T000000.000Z-0f.part",
        }
        for _, place in ipairs(places) do
            if place:find "%.%a+$" then
                folders.write(path_of(place), "text")
            else
                shell(("mkdir '%s'"):format(path_of(place)))
            end
        end
        table.sort(places)
        assert.same(places, interrupted())
    end)

    it("what a prune that was killed has recorded and not yet removed", function()
        local past = history.new(root)
        local old = past:blob(PROJECT, "one", 1000000, "old")
        local new = past:blob(PROJECT, "one", 2000000, "new")
        past:run(900000, {}, { old, new })
        past:run(3000000, { asked = { prune = { last = 1 } } },
            { { outcome = "removed", project = PROJECT, name = "one", file = old.file } }, false)
        assert.equal(2, #interrupted())
        assert(store:prune { last = 2 })
        assert.same({ old.file }, interrupted())
        folders.write(path_of(old.file), "damaged") -- as long as it is there, it may be needed
        assert.same({ old.file }, damaged())
        os.remove(path_of(old.file))
        clean()
    end)

    it("a missing blob that a run has removed", function()
        make()
        local removed = assert(store:prune { last = 1 }).removed
        assert.equal(1, #removed)
        assert.equal(2, clean().blobs)
    end)
end)

-- ---- what is gone on purpose ------------------------------------------------------

describe("forget_missing()", function()
    local OTHER = ("e"):rep(32)

    it("notes what is not there as removed, and nothing else", function()
        local one = make()
        local gone = assert(store:save(OTHER, "gone", "blob")).file
        assert(store:close())
        for _, file in ipairs { one, gone } do assert(os.remove(path_of(file))) end
        local both = { one, gone }
        table.sort(both)
        assert.same(both, damaged())
        assert.same(both, assert(store:forget_missing(true)))
        assert.same(both, damaged())
        assert.same({ gone }, assert(store:forget_missing(false, OTHER)))
        assert.same({ one }, damaged())
        shell(("rm -r '%s'"):format(path_of("blobs/" .. PROJECT)))
        local all = damaged()
        assert.same(all, assert(store:forget_missing()))
        assert.equal(0, clean().blobs)
        assert.same({}, assert(store:forget_missing()))
        local runs = assert(store:runs())
        assert.same({ prune = { missing = true } }, runs[#runs].asked)
    end)

    it("forgets nothing that only cannot be read", function()
        local one = make()
        folders.write(path_of(one), "damaged")
        assert.same({}, assert(store:forget_missing()))
        assert.same({ one }, damaged())
    end)

    it("forgets nothing below a link in a folder's place, which verify names", function()
        local one, _, three = make()
        local place = one:match "^(.*)/"
        local both = { one, three }
        table.sort(both)
        for _, path in ipairs { place, place:match "^(.*)/" } do
            shell(("mv '%s' '%s/away' && ln -s '%s/away' '%s'")
                :format(path_of(path), folder, folder, path_of(path)))
            assert.same({}, assert(store:forget_missing(true)))
            assert.same({}, assert(store:forget_missing()))
            for _, fault in ipairs(assert(store:verify()).problems) do
                assert.matches(path .. " is no folder any more, and csms follows no link",
                    fault.problem, 1, true)
            end
            if path == place then assert.same(both, damaged()) end
            shell(("rm '%s' && mv '%s/away' '%s'"):format(path_of(path), folder, path_of(path)))
            clean()
        end
    end)

    it("refuses what prune() refuses", function()
        make()
        assert(store:open_run {})
        local _, err = store:forget_missing()
        assert.equal("config", err.kind)
        _, err = store:forget_missing(false, "nonsense")
        assert.equal("argument", err.kind)
        assert.has_error(function() store:forget_missing(1) end,
            "bad argument #1: dry_run (boolean or nil) expected, got number")
    end)
end)

-- ---- its cost -------------------------------------------------------------------

describe("verify()", function()
    it("of 500 blobs of 2 to 4 KiB takes less than a second", function()
        local block = {}
        for index = 1, 4096 do block[index] = string.char((index * 7919 + index % 251) % 256) end
        block = table.concat(block)
        for index = 1, 500 do
            assert(store:stage(PROJECT, ("secret-%04d"):format(index),
                index .. block:sub(1, 2048 + index * 4), nil, function() end))
        end
        assert(store:close())
        local _, result = cases.within(1, clean)
        assert.equal(500, result.blobs)
    end)

    it("changes nothing", function()
        make()
        folders.write(path_of ".tmp-0123456789abcdef", "x")
        assert(store:save(PROJECT, "one", "blob"))
        local before = folders.snapshot(root)
        for _ = 1, 3 do assert(store:verify()) end
        assert.equal(before, folders.snapshot(root))
    end)

    it("of what cannot be read is an error, not a clean bill", function()
        make()
        shell(("mv '%s/runs' '%s/runs.old' && echo text > '%s/runs'"):format(root, root, root))
        failure("storage", store:verify())
        shell(("rm '%s/runs'; mv '%s/runs.old' '%s/runs'"):format(root, root, root))
        clean()
        shell(("mv '%s/blobs' '%s/away' && echo text > '%s/blobs'"):format(root, root, root))
        failure("storage", store:verify())
    end)

    it("and all other readers survive any change of an unfinished run", function()
        assert(store:open_run { project = PROJECT, asked = { all = true }, endpoint = "e" })
        assert(store:save(PROJECT, "one", "blob"))
        assert(store:note(PROJECT, "two", "failed", { kind = "denied", message = "no" }))
        local part = folders.only(root, "%.part$")
        local original = folders.read(path_of(part))
        local function survive(text)
            folders.write(path_of(part), text)
            assert(store:verify())
            assert(store:status())
            assert(store:runs())
            assert.equal("blob", (assert(store:read(PROJECT, "one"))))
        end
        for index = 1, #original do
            survive(replaced(original, index, 34))
            survive(replaced(original, index, 48))
            survive(original:sub(1, index))
        end
        local header = '{"store":"x","started":"y","project":%s,"asked":%s}\n'
        local line = '{"outcome":"failed","project":"%s","name":"one","kind":%s,"message":%s}\n'
        for _, value in ipairs { "5", "true", "[]", "{}", "[1]", "null", '"text"', "1e300" } do
            survive(header:format(value, value) .. line:format(PROJECT, value, value))
        end
    end)
end)
