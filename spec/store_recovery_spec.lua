-- What the next writer makes of a run that a kill has left unfinished.

local child = require "spec.support.file_child"
local cjson = require "cjson"
local core = require "csms.core"
local csms = require "csms"
local directory = require "csms.store.directory"
local folders = require "spec.support.store_folder"
local history = require "spec.support.store_history"

local PROJECT = "0123456789abcdef0123456789ABCDEF"
local OTHER = "fedcba9876543210fedcba9876543210"

local folder, root, store

before_each(function() folder, root, store = folders.with_store() end)

after_each(function()
    store:close()
    folders.remove(folder)
end)

local function path_of(file) return root .. "/" .. file end

local function decode(text)
    local lines = {}
    for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = cjson.decode(line) end
    return lines
end

-- The next writer comes, and ends a run of its own, which is removed again.
local function recover()
    assert(store:open_run { asked = { all = true } })
    local own = folders.only(root, "%.part$"):gsub("%-.*", "")
    assert(store:close())
    os.remove(path_of(folders.only(root, own:gsub("%p", "%%%0"))))
end

local function faults(list)
    local files = {}
    for index, fault in ipairs(list) do files[index] = fault.file end
    return files
end

local function clean()
    local found = assert(store:verify())
    assert.same({}, faults(found.problems))
    assert.same({}, faults(found.interrupted))
end

-- ---- torn at every byte -----------------------------------------------------------

-- A store as a kill leaves it: a run with lines of all kinds, two blobs that have
-- their names and no line, and a temporary. {part, text, saved = {file = digest},
-- temporary}; `past` is the history that it is written with.
local function killed_store(past)
    local started = 1000000
    local saved = {}
    local function blob(project, name, seconds, data)
        local line = past:blob(project, name, seconds, data)
        saved[line.file] = line.sha256
        return line
    end
    local before = past:blob(PROJECT, "one", started - 5000, "of the run before")
    past:run(started - 6000, {}, { before })
    local id = past:run(started, { project = PROJECT, endpoint = "https://kms.example",
        asked = { all = true } }, {
            blob(PROJECT, "one", started + 1, "first"),
            blob(PROJECT, "Two", started + 2, "second"),
            { outcome = "failed", project = PROJECT, name = "x", kind = "denied", message = "\n" },
            { outcome = "skipped", project = PROJECT, name = "y", state = "FROZEN" },
            blob(PROJECT, "one", started + 3, "third"),
            { outcome = "current", project = PROJECT, name = "z", file = before.file },
        }, false)
    blob(PROJECT, "three", started + 4, "no line yet")
    blob(OTHER, "one", started + 4, "nor here")
    local part = "runs/" .. id .. ".part"
    return {
        part = part, text = folders.read(path_of(part)), saved = saved,
        temporary = "blobs/" .. PROJECT .. "/three/.tmp-0123456789abcdef",
    }
end

-- The files that whole lines of a record name.
local function named_in(text)
    local named = {}
    for _, line in ipairs(decode(text)) do
        if line.outcome == "saved" then named[line.file] = line.sha256 end
    end
    return named
end

-- What `text`, cut to any length, must become: its whole lines, one for each blob
-- that they do not name, and an end.
local function assert_recovered(killed, left, record)
    local whole = left:match "^(.*\n)" or ""
    if whole == "" then
        local header = decode(record)[1]
        assert.equal(("0123456789abcdef"):rep(2), header.store)
        assert.equal(history.stamp(1000000), header.started)
    else
        assert.equal(whole, record:sub(1, #whole))
    end
    local lines = decode(record:sub(#whole + 1))
    local first, named, added = whole == "" and 2 or 1, named_in(whole), 0
    for index = first, #lines - 1 do
        local line = lines[index]
        assert.equal("saved", line.outcome)
        assert.is_true(line.recovered)
        assert.is_nil(named[line.file])
        assert.equal(killed.saved[line.file], line.sha256)
        assert.equal(#folders.read(path_of(line.file)), line.bytes)
        named[line.file] = line.sha256
        added = added + 1
    end
    assert.equal("ended", lines[#lines].outcome)
    assert.is_true(lines[#lines].interrupted)
    assert.same(killed.saved, named)
    return added
end

-- Cuts `text` to each length, or each `step`th, and lets the next writer come.
local function try_each_cut(killed, text, step)
    local seen = {}
    for length = 0, #text, step or 1 do
        local left = text:sub(1, length)
        folders.write(path_of(killed.part), left)
        folders.write(path_of(killed.temporary), "half a bl")
        folders.write(path_of ".tmp-fedcba9876543210", "half an id")
        assert(store:save(PROJECT, "next", "of the next run"))
        assert(store:close())

        local runs = assert(store:runs())
        assert.equal(3, #runs)
        assert.is_true(runs[2].interrupted)
        assert.is_nil(runs[2].problem)
        local found = assert(store:verify())
        assert.equal(0, #found.problems + #found.interrupted, length)
        local file = "runs/" .. runs[2].id .. ".jsonl"
        seen[assert_recovered(killed, left, folders.read(path_of(file)))] = true
        local blob, facts = assert(assert(csms.store(root)):read(PROJECT, "one"))
        assert.equal("third", blob)
        assert.equal(runs[2].id, facts.run)

        os.remove(path_of(file))
        os.remove(path_of("runs/" .. runs[3].id .. ".jsonl"))
        os.remove(path_of(store:newest(PROJECT, "next").file))
    end
    return seen
end

describe("a run that was killed, cut at each byte of its record,", function()
    it("is closed with its whole lines and a line for each blob that they do not name", function()
        local killed = killed_store(history.new(root))
        local seen = try_each_cut(killed, killed.text)
        -- From none of the blobs named to all but those without a line.
        assert.same({ [2] = true, [3] = true, [4] = true, [5] = true }, seen)
    end)

    it("is closed once more, where its closing was cut", function()
        local killed = killed_store(history.new(root))
        folders.write(path_of(killed.part), killed.text:sub(1, 700))
        recover()
        local closed = folders.find(root, "^runs/")[2]
        local text = folders.read(path_of(closed))
        os.remove(path_of(closed))
        assert.is_true(#text > #killed.text)
        local seen = try_each_cut(killed, text, 5)
        assert.is_true(seen[0] and seen[5])
    end)
end)

-- ---- what is named ------------------------------------------------------------------

describe("the next writer", function()
    local past, killed

    before_each(function()
        past = history.new(root)
        killed = killed_store(past)
    end)

    local function recovered_lines()
        recover()
        local lines = decode(folders.read(path_of(folders.find(root, "^runs/.*%.jsonl$")[2])))
        local files = {}
        for _, line in ipairs(lines) do
            if line.recovered then files[#files + 1] = line.file end
        end
        table.sort(files)
        return files, lines
    end

    it("names good blobs without a line, with what the header says of them", function()
        local files = recovered_lines()
        local expected = {}
        for file in pairs(killed.saved) do
            if not killed.text:find(file, 1, true) then expected[#expected + 1] = file end
        end
        table.sort(expected)
        assert.equal(2, #files)
        assert.same(expected, files)
        local _, facts = assert(store:read(PROJECT, "three"))
        assert.equal("https://kms.example", facts.endpoint)
        clean()
    end)

    it("names blobs after the sync of the folders that they are in, and of those above", function()
        local methods = getmetatable(assert(directory.open(root)))
        local sync, append = methods.sync, methods.append
        local synced, before = {}, nil
        function methods.sync(dir, paths)
            for _, path in ipairs(paths) do synced[path] = true end
            return sync(dir, paths)
        end
        function methods.append(dir, path, text)
            if text:find('"recovered"', 1, true) then before, synced = synced, {} end
            return append(dir, path, text)
        end
        finally(function() methods.sync, methods.append = sync, append end)
        local expected = { blobs = true }
        for _, file in ipairs((recovered_lines())) do
            local secret = file:match "^(.*)/"
            expected[secret], expected[secret:match "^(.*)/"] = true, true
        end
        assert.same(expected, before)
    end)

    it("does not name a damaged blob, and verify() goes on naming it", function()
        local bad = past:blob(PROJECT, "three", 1000005, "good")
        folders.write(path_of(bad.file), "bad")
        local half = past:blob(PROJECT, "Two", 1000006, "good, and long")
        folders.write(path_of(half.file), "good")
        local files = recovered_lines()
        assert.equal(2, #files)
        local found = assert(store:verify())
        assert.same({ half.file, bad.file }, faults(found.problems))
        assert.same({}, faults(found.interrupted))
        assert.equal("no line yet", folders.read(path_of(store:newest(PROJECT, "three").file)))
    end)

    it("names neither what is older than the run, nor a stranger's", function()
        local older = past:blob(PROJECT, "two", 999999.999, "of a run that is gone")
        past:write("blobs/" .. PROJECT .. "/three/notes.txt", "text")
        past:write("blobs/" .. PROJECT .. "/Upper/" .. older.file:match "[^/]+$", "text")
        assert.equal(2, #(recovered_lines()))
        local found = assert(store:verify())
        assert.same({}, faults(found.problems))
        assert.same({ "blobs/" .. PROJECT .. "/Upper", "blobs/" .. PROJECT .. "/three/notes.txt",
            older.file }, faults(found.interrupted))
    end)

    it("does not name what an older run names, though a clock was set back", function()
        local theirs = past:blob(PROJECT, "one", 1000007, "of the older run")
        local id = past:run(999000, { endpoint = "https://theirs.example" }, { theirs })
        recover()
        local _, facts = assert(store:read(PROJECT, "one"))
        assert.same({ theirs.file, id, "https://theirs.example" },
            { facts.file, facts.run, facts.endpoint })
    end)

    it("names what has the very moment at which the run began", function()
        local first = past:blob(PROJECT, "two", 1000000, "first of all")
        local files = recovered_lines()
        assert.equal(3, #files)
        assert.equal(first.file, files[2])
    end)

    it("closes more than one, and names each blob once", function()
        local last = past:blob(PROJECT, "four", 1000011, "x")
        past:run(1000010, { project = PROJECT }, { last }, false)
        past:blob(PROJECT, "four", 1000012, "y")
        recover()
        local runs = folders.find(root, "^runs/")
        assert.equal(3, #runs)
        local named = {}
        for _, run in ipairs(runs) do
            for _, line in ipairs(decode(folders.read(path_of(run)))) do
                if line.outcome == "saved" then
                    assert.is_nil(named[line.file])
                    named[line.file] = true
                end
            end
        end
        for _, file in ipairs(folders.find(root, "%.blob$")) do
            assert.is_true(named[file], file)
        end
        clean()
    end)

    it("removes temporaries, its own alone", function()
        local gone = {
            ".tmp-0123456789abcdef", "blobs/" .. PROJECT .. "/one/.tmp-00000000ffffffff",
            "blobs/" .. OTHER .. "/one/.tmp-00000000ffffffff",
            "blobs/" .. PROJECT .. "/empty/.tmp-00000000ffffffff",
        }
        local kept = {
            ".tmp-short", "tmp-0123456789abcdef", "blobs/" .. PROJECT .. "/one/.tmp",
            "blobs/" .. PROJECT .. "/one/x.tmp-0123456789abcdef",
            "blobs/" .. PROJECT .. "/one/.tmp-0123456789abcdef.txt",
        }
        for _, list in ipairs { gone, kept } do
            for _, file in ipairs(list) do past:write(file, "text") end
        end
        assert.equal(1 + 2 + #gone + #kept, #assert(store:verify()).interrupted)
        recover()
        table.sort(kept)
        assert.same(kept, faults(assert(store:verify()).interrupted))
        for _, file in ipairs(kept) do assert.equal("text", folders.read(path_of(file))) end
        for _, file in ipairs(gone) do assert.is_nil((io.open(path_of(file)))) end
    end)

    it("removes a secret's temporaries also where no run was left, as verify() says", function()
        recover()
        for _, place in ipairs { "", "blobs/" .. PROJECT .. "/one/" } do
            past:write(place .. ".tmp-0123456789abcdef", "half a bl")
        end
        local left = assert(store:verify()).interrupted
        assert.matches("the next backup removes it", left[1].problem)
        assert.matches("the next backup of this secret removes it", left[2].problem)
        for _ = 1, 2 do assert(store:stage(PROJECT, "one", "blob", nil, function() end)) end
        assert(store:close())
        clean()
    end)

    it("says what to do with a record that is longer than any", function()
        local newest = past:blob(PROJECT, "one", 1000005, "newest")
        os.execute(("truncate -s 65M '%s'"):format(path_of(killed.part)))
        local saved, err = store:save(PROJECT, "four", "blob")
        assert.is_nil(saved)
        assert.matches(killed.part, tostring(err), 1, true)
        assert.matches("longer than any record that csms writes; move it out of the store",
            tostring(err), 1, true)
        os.rename(path_of(killed.part), folder .. "/moved")
        assert(store:save(PROJECT, "four", "blob"))
        assert(store:close())
        assert.equal(newest.file, select(2, assert(store:read(PROJECT, "one"))).file)
        assert.same({}, faults(assert(store:verify()).problems))
    end)

    it("leaves an unfinished run alone while another writer has the lock", function()
        local other = assert(csms.store(root))
        assert(other:open_run())
        local before = folders.snapshot(root)
        assert.equal("locked", select(2, store:save(PROJECT, "one", "blob")).code)
        assert.equal(before, folders.snapshot(root))
        assert.equal("an unfinished run; the next backup closes it, unless it still goes on",
            assert(store:verify()).interrupted[1].problem)
        other:close()
    end)

    it("may be a prune, which counts what it has recovered", function()
        folders.write(path_of(killed.part), killed.text:sub(1, -2))
        local result = assert(store:prune { last = 1 })
        assert.equal(4, result.kept)
        assert.equal(2, #result.removed)
        clean()
    end)

    it("makes nothing worse of a record that was not only cut", function()
        local texts = {
            "\n", "\n\n", "{}\n", "no JSON\n", ("\0"):rep(4096), ("\0"):rep(100) .. "\n",
            killed.text:gsub('"outcome"', '"outcame"'), killed.text:gsub("\n", "\r\n"),
            ("x"):rep(300000), killed.text:sub(300), killed.text:rep(2),
        }
        for _, text in ipairs(texts) do
            folders.write(path_of(killed.part), text)
            recover()
            assert.same({}, folders.find(root, "%.part$"))
            for file, digest in pairs(killed.saved) do
                assert.equal(digest, core.sha256(folders.read(path_of(file))))
            end
            assert.equal("third", (assert(store:read(PROJECT, "one"))))
            local run = folders.find(root, "^runs/")[2]
            for _, fault in ipairs(assert(store:verify()).problems) do
                assert.equal(run, fault.file)
            end
            assert(store:status())
            os.remove(path_of(run))
        end
    end)
end)

-- ---- writers that were really killed ------------------------------------------------

describe("a writer that ended without a word", function()
    local function die(text)
        child.run(([[
            local csms = require "csms"
            local root, PROJECT = %q, %q
            local store = assert(csms.store(root))
            %s
            io.popen("kill -KILL " .. select(2, core.process())):close()
        ]]):format(root, PROJECT, text), "COMMAND; true")
    end

    it("leaves what it reported, and its run is closed", function()
        die [[
            assert(store:save(PROJECT, "one", "first"))
            assert(store:note(PROJECT, "two", "failed", { kind = "denied" }))
            assert(store:stage(PROJECT, "three", "never flushed", nil, error))
        ]]
        assert.equal(2, #assert(store:verify()).interrupted)
        recover()
        local runs = assert(store:runs())
        assert.equal(1, #runs)
        assert.is_true(runs[1].interrupted)
        assert.equal(1, runs[1].counts.saved)
        assert.equal(1, runs[1].counts.failed)
        assert.equal(1, #folders.find(root, "%.blob$"))
        clean()
    end)

    it("leaves an empty store where it had only taken the lock", function()
        die ""
        assert.same({}, folders.entries(folder))
        die [[
            local dir = assert(core.directory(root, true))
            assert(dir:lock("lock", "text"))
            assert(dir:create(".tmp-0123456789abcdef", '{"format": 1, "id'))
        ]]
        assert.same({}, assert(store:list()))
        assert.same({}, faults(assert(store:verify()).problems))
        assert(store:save(PROJECT, "one", "blob"))
        assert(store:close())
        clean()
    end)

    it("can be followed by many that end so as well", function()
        for index = 1, 8 do
            die(([[assert(store:save(PROJECT, "n%d", "blob %d"))]]):format(index, index))
        end
        assert.equal(1, #folders.find(root, "%.part$"))
        recover()
        assert.equal(8, #assert(store:runs()))
        for index = 1, 8 do
            assert.equal("blob " .. index, (assert(store:read(PROJECT, "n" .. index))))
        end
        clean()
    end)
end)
