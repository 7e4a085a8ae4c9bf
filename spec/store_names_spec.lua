-- Names come from a server, and others may write into the store's folder: nothing
-- that they do leads out of it.

local cases = require "spec.support.cases"
local child = require "spec.support.file_child"
local cjson = require "cjson"
local core = require "csms.core"
local csms = require "csms"
local folders = require "spec.support.store_folder"

local failure, shell = cases.failure, child.shell

local PROJECT = "0123456789abcdef0123456789abcdef"

local folder, root, store

-- The store lies between other files, which every test leaves as they were.
before_each(function()
    folder, root, store = folders.with_store "above/store"
    shell(([[mkdir -p '%s/above/one' '%s/blobs/%s/one'
        for name in above/one/file above/file above/.tmp-00ff file csms-store.json lock; do
            echo "$name of another" > '%s/'"$name"
        done]]):format(folder, folder, PROJECT, folder))
end)

after_each(function()
    store:close()
    folders.remove(folder)
end)

-- All around the store, and not the store: what can be seen, and what is in it.
local function around()
    return shell(([[cd '%s' && find . -path ./above/store -prune -o -not -path ./above \
        -printf '%%P %%y %%m %%s %%T@ %%l\n' -type f -exec cat {} +]]):format(folder))
end

-- Calls fn, which must leave all around the store as it was.
local function contained(fn)
    local before = around()
    fn()
    assert.equal(before, around())
end

-- ---- names --------------------------------------------------------------------

-- What no folder is made for.
local REFUSED = {
    ["the folder itself"] = ".",
    ["the folder above"] = "..",
    ["a way up"] = "../../../one",
    ["a way up, as a suffix"] = "one/../../../../above",
    ["a path"] = "a/b",
    ["a path from the root"] = "/tmp",
    ["a slash"] = "/",
    ["a slash at the end"] = "one/",
    ["a backslash"] = "a\\b",
    ["nothing"] = "",
    ["a NUL"] = "one\0",
    ["a NUL before a way up"] = "one\0/../../..",
    ["a NUL alone"] = "\0",
    ["a line's end"] = "one\n",
    ["two lines"] = "one\n{\"outcome\":\"ended\"}\n",
    ["a carriage return"] = "one\r",
    ["an escape sequence"] = "\27[2Jone",
    ["a DEL"] = "one\127",
    ["65 characters"] = ("a"):rep(65),
    ["300 characters"] = ("a"):rep(300),
    ["300 periods"] = ("."):rep(300),
    ["a million characters"] = ("a"):rep(1000000),
    ["a blank"] = "a b",
    ["a blank at the end"] = "one ",
    ["letters beyond ASCII"] = "schl\195\188ssel",
    ["a letter of Latin-1"] = "schl\252ssel",
    ["bytes that are no UTF-8"] = "\255\254",
    ["a full-width slash"] = "a\239\188\143b",
    ["a one-dot leader, twice"] = "\226\128\164\226\128\164",
    ["a name with what looks like a digest"] = "one+01234567",
    ["an upper-case name with its digest"] = "One+" .. core.sha256("One"):sub(1, 8),
    ["a digest alone"] = "+01234567",
    ["a plus"] = "+",
    ["a colon"] = "one:stream",
    ["a tilde"] = "~root",
    ["a wildcard"] = "*",
    ["a shell's words"] = "$(touch /tmp/x);`id`|&",
    ["a percent sign"] = "%2e%2e%2f",
}

-- What a record has for those that JSON cannot hold: U+FFFD.
local NOT_UTF_8 = {
    ["schl\252ssel"] = "schl\239\191\189ssel", ["\255\254"] = ("\239\191\189"):rep(2),
}

-- What is a name to the service, and must be one here.
local ALLOWED = {
    ["a leading -"] = "-rf",
    ["a - alone"] = "-",
    ["an option"] = "--help",
    ["a leading period"] = ".hidden",
    ["a leading ..a"] = "..a",
    ["three periods"] = "...",
    ["64 periods"] = ("."):rep(64),
    ["a period at the end"] = "one.",
    ["a device of Windows"] = "CON",
    ["another, with a suffix"] = "nul.txt",
    ["a name of the store's own"] = "csms-store.json",
    ["another"] = "lock",
    ["a folder of its own"] = "blobs",
    ["a temporary's name"] = ".tmp-0123456789abcdef",
    ["a blob's name"] = "20260101T000000.000Z-0123456789ab.blob",
    ["64 characters"] = ("a"):rep(64),
    ["64 upper-case letters"] = ("A"):rep(64),
    ["a digest"] = ("0"):rep(64),
    ["an underscore"] = "_",
}

describe("a secret's name that is", function()
    for what, name in pairs(REFUSED) do
        it(what .. " is refused, by whatever takes names", function()
            contained(function()
                local function never() error "called" end
                local err = failure("argument", store:save(PROJECT, name, "blob"))
                assert.not_matches("[%c\127-\255]", tostring(err))
                assert.is_true(#tostring(err) < 400)
                failure("argument", store:stage(PROJECT, name, "blob", nil, never))
                assert.equal("", shell(("find '%s' -name store"):format(folder)))
                assert(store:save(PROJECT, "good", "blob"))
                failure("argument", store:save(PROJECT, name, "blob"))
                failure("argument", store:stage(PROJECT, name, "blob", nil, never))
                failure("argument", store:read(PROJECT, name))
                failure("argument", store:newest(PROJECT, name))
                assert(store:close())
            end)
            local names = assert(store:list())
            assert.equal(1, #names)
            assert.equal("good", names[1].name)
            assert.same({}, assert(store:verify()).interrupted)
        end)

        it(what .. " is noted in a run, as UTF-8, and told by status()", function()
            local told = NOT_UTF_8[name] or name
            contained(function()
                assert(store:open_run { project = PROJECT, asked = { all = true } })
                assert(store:note(PROJECT, name, "failed", { kind = name, message = name }))
                assert(store:note(PROJECT, name, "skipped", { state = name }))
                assert(store:close())
                local found = assert(store:verify())
                assert.same({}, found.problems)
                assert.same({}, found.interrupted)
                local text = folders.read(root .. "/" .. folders.only(root, "^runs/"))
                local lines = {}
                for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = cjson.decode(line) end
                assert.equal(4, #lines)
                assert.equal(told, lines[2].name)
                assert.equal(told, lines[2].message)
                assert.equal(told, lines[3].state)
                local status = assert(store:status())
                assert.equal(1, status.problems)
                assert.equal(told, status.secrets[1].name)
                assert.same({}, folders.find(root, "^blobs"))
            end)
        end)
    end

    for what, name in pairs(ALLOWED) do
        it(what .. " is kept like any other", function()
            contained(function()
                local saved = assert(store:save(PROJECT, name, "first"))
                local inner = saved.file:match("^blobs/" .. PROJECT .. "/([^/]+)/[^/]+%.blob$")
                assert.is_truthy(inner)
                assert.is_true(inner == name or inner:lower() ~= name:lower() and #inner <= 73)
                assert(store:save(PROJECT, name, "second"))
                assert(store:close())
                local blob, facts = assert(store:read(PROJECT, name))
                assert.equal("second", blob)
                assert.is_string(facts.run)
                local list = assert(store:list())
                assert.equal(1, #list)
                assert.equal(name, list[1].name)
                assert.equal(2, list[1].count)
                assert.equal(1, #assert(store:prune { last = 1 }).removed)
                local found = assert(store:verify())
                assert.same({}, found.problems)
                assert.same({}, found.interrupted)
                assert.equal(name, assert(store:status()).secrets[1].name)
            end)
        end)
    end
end)

describe("names that differ in case alone", function()
    local TWINS = { "db", "Db", "dB", "DB", "d.B", "D.b" }

    it("have folders that differ in more", function()
        local seen = {}
        for _, name in ipairs(TWINS) do
            local saved = assert(store:save(PROJECT, name, "blob of " .. name))
            local inner = saved.file:match("^blobs/" .. PROJECT .. "/([^/]+)/"):lower()
            assert.is_nil(seen[inner])
            seen[inner] = true
            if name:find "%u" then
                assert.equal(name .. "+" .. shell("printf " .. name .. " | sha256sum"):sub(1, 8),
                    saved.file:match("^blobs/" .. PROJECT .. "/([^/]+)/"))
            end
        end
        assert(store:close())
        for _, name in ipairs(TWINS) do
            assert.equal("blob of " .. name, (assert(store:read(PROJECT, name))))
        end
        assert.equal(#TWINS, #assert(store:list()))
    end)
end)

describe("a project that is", function()
    for what, project in pairs {
        ["nothing"] = "", ["a way up"] = "..", ["a path"] = "../../blobs/" .. PROJECT:sub(1, 20),
        ["32 characters of a path"] = ("../"):rep(10) .. "..", ["32 periods"] = ("."):rep(32),
        ["a NUL at its end"] = PROJECT:sub(2) .. "\0", ["a letter short"] = PROJECT:sub(2),
        ["a letter long"] = PROJECT .. "0", ["a line's end long"] = PROJECT .. "\n",
        ["a - in it"] = "-" .. PROJECT:sub(2), ["beyond ASCII"] = "\195\188" .. PROJECT:sub(3),
    } do
        it(what .. " is refused, by whatever takes projects", function()
            contained(function()
                failure("argument", store:save(project, "one", "blob"))
                failure("argument", store:stage(project, "one", "blob", nil, error))
                assert(store:save(PROJECT, "one", "blob"))
                failure("argument", store:read(project, "one"))
                failure("argument", store:newest(project, "one"))
                local list, err = store:list(project)
                assert.is_true(list == nil and err.kind == "argument" or #list == 0)
            end)
            assert.equal(1, #folders.find(root, "%.blob$"))
        end)
    end
end)

-- ---- links and other traps --------------------------------------------------------

describe("in a store with a link,", function()
    local SAVED -- the one blob that the store holds

    -- The same store lies outside too, for links to lead to.
    before_each(function()
        SAVED = assert(store:save(PROJECT, "one", "inside")).file
        assert(store:close())
        folders.copy(root, folder .. "/outside")
        shell(("touch -d '2020-01-01' '%s/outside/lock'"):format(folder))
        folders.write(folder .. "/outside/lock", "text of another program\n")
    end)

    -- Puts a link in the place of what the store has there.
    local function link(path, target)
        shell(("rm -rf '%s/%s' && ln -s '%s' '%s/%s'"):format(root, path,
            folder .. "/outside/" .. (target or path), root, path))
    end

    -- Every call, with its result: none may lead out. Returns the results of reading.
    local function call_all()
        local results = {}
        contained(function()
            local object, err = csms.store(root)
            results.open = object or err
            if not object then return end
            results.save = { object:save(PROJECT, "one", "ours") }
            results.save_another = { object:save(PROJECT, "two", "ours") }
            object:close()
            results.prune = { object:prune { last = 1 } }
            results.read = { object:read(PROJECT, "one") }
            results.newest = { object:newest(PROJECT, "one") }
            results.list = { object:list() }
            results.runs = { object:runs() }
            results.status = { object:status() }
            results.verify = { object:verify() }
        end)
        return results
    end

    local function refused(result, code)
        local err = failure("storage", result[1], result[2])
        assert.equal(code, err.code)
        assert.matches(root, err.message, 1, true)
    end

    local function told(result, file)
        local found = assert(result[1], tostring(result[2]))
        for _, list in ipairs { found.problems, found.interrupted } do
            for _, fault in ipairs(list) do
                if fault.file == file then return list == found.problems end
            end
        end
        error(file .. " is not told of")
    end

    it("blobs being one, nothing goes through it", function()
        link "blobs"
        local results = call_all()
        for _, name in ipairs {
            "save", "save_another", "prune", "read", "newest", "list", "status", "verify",
        } do
            refused(results[name], "ENOTDIR")
        end
    end)

    it("a project's folder being one, nothing goes through it", function()
        link("blobs/" .. PROJECT)
        local results = call_all()
        refused(results.save, "ENOTDIR")
        refused(results.save_another, "ENOTDIR")
        refused(results.read, "ENOTDIR")
        refused(results.newest, "ENOTDIR")
        assert.same({}, results.list[1])
        assert.is_false(told(results.verify, "blobs/" .. PROJECT))
        assert.is_true(told(results.verify, SAVED))
    end)

    it("a secret's folder being one, nothing goes through it", function()
        link(SAVED:match "^(.*)/")
        local results = call_all()
        refused(results.save, "ENOTDIR")
        assert.equal("ours", (assert(store:read(PROJECT, "two"))))
        refused(results.read, "ENOTDIR")
        assert.equal(1, #results.list[1])
        assert.is_false(told(results.verify, SAVED:match "^(.*)/"))
        assert.is_true(told(results.verify, SAVED))
    end)

    it("a blob being one, it is none", function()
        link(SAVED)
        local object = assert(csms.store(root))
        failure("not_found", object:read(PROJECT, "one"))
        assert.is_nil(object:newest(PROJECT, "one"))
        assert.same({}, assert(object:list()))
        local results = call_all()
        assert.equal("ours", results.read[1])
        assert.is_true(told(results.verify, SAVED))
        assert.equal("l", shell(("stat -c %%F '%s/%s'"):format(root, SAVED)):match "ymbolic (l)ink")
    end)

    it("csms-store.json being one, it is no store", function()
        link "csms-store.json"
        local err = failure("storage", nil, call_all().open)
        assert.equal("ELOOP", err.code)
        assert.matches(root .. "/csms-store.json", err.message, 1, true)
        failure("storage", store:save(PROJECT, "one", "blob"))
    end)

    it("csms-store.json being one to nowhere, it is no store", function()
        link("csms-store.json", "nowhere")
        assert.equal("ELOOP", failure("storage", nil, call_all().open).code)
    end)

    it("the lock being one, nothing is written, and its target stays", function()
        link "lock"
        local results = call_all()
        for _, name in ipairs { "save", "save_another", "prune" } do
            refused(results[name], "ELOOP")
        end
        assert.equal("inside", results.read[1])
        assert.same({}, results.verify[1].problems)
        assert.equal("text of another program\n", folders.read(folder .. "/outside/lock"))
    end)

    it("the lock being one to nowhere, nothing is made there", function()
        link("lock", "nowhere")
        refused(call_all().save, "ELOOP")
    end)

    it("runs being one, nothing goes through it", function()
        link "runs"
        local results = call_all()
        for _, name in ipairs { "save", "prune", "runs", "status", "verify" } do
            refused(results[name], "ENOTDIR")
        end
    end)

    it("a run being one, it is none", function()
        local run = folders.only(root, "^runs/")
        link(run)
        local results = call_all()
        assert.is_false(told(results.verify, run))
        for _, header in ipairs(results.runs[1]) do
            assert.is_not.equal(run:match "([^/]+)%.jsonl", header.id)
        end
    end)

    it("an unfinished run being one, it is not closed", function()
        local run = folders.only(root, "^runs/")
        local part = run:gsub("jsonl$", "part")
        shell(("cp '%s/outside/%s' '%s/outside/%s'"):format(folder, run, folder, part))
        link(part)
        local results = call_all()
        assert.is_false(told(results.verify, part))
        assert.equal("ours", results.read[1])
        for _, header in ipairs(results.runs[1]) do assert.is_false(header.interrupted) end
    end)

    it("temporaries being some, the links go and their targets stay", function()
        folders.write(folder .. "/outside/precious", "text")
        shell(("ln -s '%s/outside/precious' '%s/.tmp-0123456789abcdef'"):format(folder, root))
        shell(("ln -s '%s/outside' '%s/.tmp-fedcba9876543210'"):format(folder, root))
        local results = call_all()
        assert(results.save[1], tostring(results.save[2]))
        assert.equal("text", folders.read(folder .. "/outside/precious"))
        assert.same({}, folders.find(root, "%.tmp"))
    end)

    it("the store's folder itself being one, it is followed", function()
        shell(("rm -rf '%s' && mv '%s/outside' '%s/real' && ln -s ../real '%s'")
            :format(root, folder, folder, root))
        folders.write(folder .. "/real/lock", "")
        assert(store:save(PROJECT, "one", "ours"))
        assert(store:close())
        assert.equal(2, #folders.find(folder .. "/real", "%.blob$"))
        assert.same({}, assert(store:verify()).problems)
    end)
end)

describe("in a store with something else in a file's place,", function()
    -- A pipe would wait for its other end, and a folder cannot be read.
    local function put(kind, path)
        shell(("rm -rf '%s/%s'; %s '%s/%s'"):format(root, path, kind, root, path))
    end

    local saved

    before_each(function()
        saved = assert(store:save(PROJECT, "one", "inside")).file
        assert(store:close())
    end)

    for _, kind in ipairs { "mkfifo", "mkdir" } do
        local code = kind == "mkfifo" and "ENXIO" or "EISDIR"

        it("csms-store.json (" .. kind .. "), it is no store", function()
            put(kind, "csms-store.json")
            assert.equal(code, failure("storage", csms.store(root)).code)
            failure("storage", store:save(PROJECT, "one", "blob"))
        end)

        it("the lock (" .. kind .. "), nothing is written", function()
            put(kind, "lock")
            assert.equal(code, failure("storage", store:save(PROJECT, "one", "blob")).code)
            assert.equal("inside", (assert(store:read(PROJECT, "one"))))
        end)

        it("a blob (" .. kind .. "), it is none", function()
            put(kind, saved)
            failure("not_found", store:read(PROJECT, "one"))
            assert.same({}, assert(store:list()))
            assert.same({ saved }, { assert(store:verify()).problems[1].file })
            assert(store:save(PROJECT, "one", "ours"))
            assert(store:close())
            assert.equal("ours", (assert(store:read(PROJECT, "one"))))
        end)

        it("a run (" .. kind .. "), it is none", function()
            local run = folders.only(root, "^runs/")
            put(kind, run)
            put(kind, (run:gsub("%-.*", "-00ff.part")))
            assert.same({}, assert(store:runs()))
            assert(store:save(PROJECT, "one", "ours"))
            assert(store:close())
            assert.equal(1, #assert(store:runs()))
        end)

        it("a temporary (" .. kind .. "), the next backup works", function()
            put(kind, ".tmp-0123456789abcdef")
            assert(store:save(PROJECT, "one", "ours"))
            assert(store:close())
            assert.equal("ours", (assert(store:read(PROJECT, "one"))))
        end)
    end
end)
