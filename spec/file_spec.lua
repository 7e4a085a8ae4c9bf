-- Files that last: every call, what it refuses, and what it leaves after a failure.

local cases = require "spec.support.cases"
local child = require "spec.support.file_child"
local core = require "csms.core"
local files = require "spec.support.files"

local shell = child.shell
local unpack = unpack or table.unpack

local folder, root, dir

before_each(function()
    folder = files.temporary()
    root = folder .. "/store"
    dir = assert(core.directory(root, true))
end)
after_each(function()
    child.end_all()
    dir:close()
    files.remove(folder)
end)

-- What every error of this module is; `path` is relative to the root.
local function failure(code, path, result, err)
    cases.failure("storage", result, err)
    assert.equal(code, err.code)
    assert.is_false(err.retryable)
    if path then assert.matches(root .. "/" .. path, err.message, 1, true) end
    assert.not_matches("[%c]", err.message)
    return err
end

local function mode_of(path)
    return shell("stat -c %a '" .. path .. "'")
end

local function write(path, content)
    files.write(root .. "/" .. path, content)
end

local function exists(path)
    return os.execute("test -e '" .. root .. "/" .. path .. "'") == (jit and 0 or true)
end

-- The open descriptors, one of the look itself included.
local function descriptors()
    collectgarbage()
    collectgarbage()
    local open = assert(core.directory "/proc/self/fd")
    local count = #assert(open:entries())
    open:close()
    return count
end

-- A chunk's beginning for children: the store, and how a result prints.
local function store_chunk()
    return ("local root = %q\nlocal dir = assert(core.directory(root, true))\n"):format(root) .. [[
        local function tell(result, err)
            print(err and err.code or result, err and err.message or "")
        end
    ]]
end

describe("core.directory", function()
    it("opens one that is there", function()
        assert.is_true(dir:create("f", "x"))
        local again = assert(core.directory(root))
        assert.equal("x", again:read "f")
        assert.equal("userdata", type(again))
        again:close()
    end)

    it("makes one and its parents, for the owner alone", function()
        local path = folder .. "/a/b//c/"
        local made = assert(core.directory(path, true))
        for _, part in ipairs { "/a", "/a/b", "/a/b/c" } do
            assert.equal("700", mode_of(folder .. part))
        end
        assert.is_true(made:create("f", "x"))
        assert.equal("x", files.read(folder .. "/a/b/c/f"))
        made:close()
    end)

    it("makes a relative one", function()
        local output = child.run([[
            local made = assert(core.directory("one/two", true))
            assert(made:create("f", "x"))
        ]], ("cd '%s' && exec COMMAND"):format(folder))
        assert.equal("", output)
        assert.equal("x", files.read(folder .. "/one/two/f"))
    end)

    it("makes one below a directory that may be searched but not read", function()
        local wrap = "umask 077; cd '" .. folder .. "' && exec COMMAND"
        if shell "id -u" == "0" then
            wrap = "exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \""
                .. wrap .. "\""
        end
        shell(("mkdir -p '%s/closed/own'; chmod 777 '%s/closed/own'; chmod 711 '%s/closed' '%s'")
            :format(folder, folder, folder, folder))
        local output = child.run([[
            local made = assert(core.directory("closed/own/one/two", true))
            assert(made:create("f", "x"))
        ]], wrap)
        if output:find "module 'csms.core'" then
            return pending "another user cannot read the module here"
        end
        assert.equal("", output)
        assert.equal("x", files.read(folder .. "/closed/own/one/two/f"))
    end)

    it("makes one whose path ends in what is there by then, to be used as any other", function()
        for index, path in ipairs { "new1/.", "new2/../store", "new3/.." } do
            local made = assert(core.directory(folder .. "/" .. path, true))
            local file = "f" .. index
            assert(made:create(file, "x"))
            assert(made:sync { file })
            assert(#assert(made:entries()) > 0)
            made:close()
        end
    end)

    it("makes none unless asked to", function()
        local err = cases.failure("storage", core.directory(folder .. "/none"))
        assert.equal("ENOENT", err.code)
        assert.matches(folder .. "/none", err.message, 1, true)
        assert.is_string(err.cause)
        assert.equal("ENOENT", cases.failure("storage", core.directory("")).code)
        assert.equal("ENOENT", cases.failure("storage", core.directory("", true)).code)
    end)

    it("leaves the modes of what was there", function()
        shell(("mkdir -p -m 755 '%s/open'"):format(folder))
        assert(core.directory(folder .. "/open/x", true)):close()
        assert(core.directory(folder .. "/open", true)):close()
        assert.equal("755", mode_of(folder .. "/open"))
    end)

    it("may be a link, and its path may hold some", function()
        shell(("ln -s store '%s/link'; mkdir '%s/real'; ln -s real '%s/way'"):format(folder,
            folder, folder))
        local linked = assert(core.directory(folder .. "/link"))
        assert.is_true(linked:create("f", "through"))
        assert.equal("through", files.read(root .. "/f"))
        linked:close()
        assert(core.directory(folder .. "/link", true)):close()
        assert(core.directory(folder .. "/way/../way/new", true)):close()
        assert.equal("700", mode_of(folder .. "/real/new"))
    end)

    it("is no file, no dangling link, and nothing below a file", function()
        write("f", "x")
        shell(("ln -s nothing '%s/dangling'"):format(folder))
        for _, create in ipairs { false, true } do
            for path, code in pairs { [root .. "/f"] = "ENOTDIR", [root .. "/f/x"] = "ENOTDIR",
                [folder .. "/dangling"] = create and "ENOTDIR" or "ENOENT",
                [root .. "/" .. ("n"):rep(256)] = "ENAMETOOLONG" } do
                assert.equal(code, cases.failure("storage", core.directory(path, create)).code)
            end
        end
        assert.equal("x", files.read(root .. "/f"))
    end)

    it("makes what it can of a path whose end has too long a name", function()
        local path = root .. "/new/" .. ("n"):rep(256)
        assert.equal("ENOENT", cases.failure("storage", core.directory(path)).code)
        assert.equal("ENAMETOOLONG", cases.failure("storage", core.directory(path, true)).code)
        assert.equal("700", mode_of(root .. "/new"))
    end)

    it("takes no NUL, and wants a string", function()
        cases.failure("storage", core.directory("/tmp\0/x", true))
        assert.has_error(function() core.directory() end)
        assert.has_error(function() core.directory({}) end)
    end)

    it("leaks no descriptor where it fails", function()
        write("f", "x")
        local before = descriptors()
        for _ = 1, 20 do
            core.directory(root .. "/f/x/y", true)
            core.directory(folder .. "/none")
            core.directory(folder .. "/" .. ("x"):rep(300) .. "/y", true)
        end
        assert.equal(before, descriptors())
    end)
end)

describe("a closed directory", function()
    it("fails every call, and closing again does nothing", function()
        local calls = {
            create = { "f", "x" }, append = { "f", "x" }, sync = { { "f" } },
            rename = { "f", "g" }, read = { "f" }, truncate = { "f", 0 }, remove = { "f" },
            entries = {}, stat = { "f" }, lock = { "f", "x" },
        }
        dir:close()
        dir:close()
        for name, arguments in pairs(calls) do
            local result, err = dir[name](dir, unpack(arguments))
            err = cases.failure("storage", result, err)
            assert.matches("closed", err.message)
            assert.is_nil(err.code)
        end
        cases.failure("storage", dir:entries("f"))
    end)

    it("has given its descriptor back; so has one that is collected", function()
        local before = descriptors()
        for _ = 1, 50 do assert(core.directory(root)):close() end
        assert.equal(before, descriptors())
        for _ = 1, 50 do assert(core.directory(root)) end
        assert.equal(before, descriptors())
    end)

    it("may be what a finalizer leaves, in the middle of a call", function()
        assert(dir:create("f", "data"))
        local calls = {
            read = { "f" }, entries = {}, sync = { { "f" } }, stat = { "f" }, append = { "f", "" },
        }
        for name, arguments in pairs(calls) do
            for _ = 1, 100 do
                local other = assert(core.directory(root))
                cases.garbage(function() other:close() end)
                local result, err = other[name](other, unpack(arguments))
                if not result then
                    assert.matches("closed", cases.failure("storage", result, err).message)
                end
            end
        end
    end)

    it("is what <close> leaves, on a Lua that has it", function()
        local close = getmetatable(dir).__close
        assert.equal("function", type(close))
        close(dir)
        cases.failure("storage", dir:entries())
    end)
end)

describe("a path", function()
    local REFUSED = { "", "/", "/etc", "a/", "/a", "a//b", ".", "..", "./a", "a/.", "../a", "a/..",
        "a/../b", "a/./b" }
    local CALLS = {
        create = function(path) return dir:create(path, "x") end,
        append = function(path) return dir:append(path, "x") end,
        sync = function(path) return dir:sync { path } end,
        sync_two = function(path) return dir:sync { path, path } end,
        rename = function(path) return dir:rename(path, "new") end,
        rename_to = function(path) return dir:rename("kept", path) end,
        read = function(path) return dir:read(path) end,
        truncate = function(path) return dir:truncate(path, 0) end,
        remove = function(path) return dir:remove(path) end,
        entries = function(path) return dir:entries(path) end,
        stat = function(path) return dir:stat(path) end,
        lock = function(path) return dir:lock(path, "x") end,
    }

    local function tree()
        return shell(("cd '%s' && find . -printf '%%p %%y %%s %%m\\n' | sort"):format(folder))
    end

    before_each(function()
        shell(("mkdir '%s/a' '%s/b' '%s/out'"):format(root, root, folder))
        write("kept", "kept")
    end)

    it("stays below the root: any other is refused, and nothing is done", function()
        local before, open = tree(), descriptors()
        for name, call in pairs(CALLS) do
            for _, path in ipairs(REFUSED) do
                local err = failure(nil, path, call(path))
                assert.matches("components", err.message, 1, true, name)
            end
            failure("ENAMETOOLONG", nil, call(("x"):rep(256)))
            failure("ENAMETOOLONG", nil, call(("x"):rep(5000)))
            failure("ENAMETOOLONG", nil, call("a/" .. ("x"):rep(256) .. "/x"))
            for _, path in ipairs { "a\0b", "kept\0", "\0", "a\0/../../etc" } do
                assert.matches("NUL", cases.failure("storage", call(path)).message)
            end
        end
        assert.equal(before, tree())
        assert.equal(open, descriptors())
    end)

    it("must be a string", function()
        for _, call in pairs(CALLS) do
            for _, path in ipairs { true, {}, print } do
                assert.has_error(function() call(path) end)
            end
        end
        for name, call in pairs(CALLS) do
            if name ~= "entries" and not name:find "^sync" then
                assert.has_error(function() call(nil) end)
            end
        end
    end)

    it("goes through no link, at any step", function()
        shell(("mkdir -p '%s/out/deep'; echo secret > '%s/out/deep/f'"):format(folder, folder))
        shell(("ln -s '%s/out' '%s/way'; ln -s ../../out/deep '%s/a/way'"):format(folder, root,
            root))
        local before, open = tree(), descriptors()
        for _, call in pairs(CALLS) do
            failure("ENOTDIR", "way/deep/f", call "way/deep/f")
            failure("ENOTDIR", "way/new", call "way/new")
            failure("ENOTDIR", "a/way/f", call "a/way/f")
            failure("ENOTDIR", "a/way/x/y", call "a/way/x/y")
        end
        assert.equal(before, tree())
        assert.equal(open, descriptors())
    end)

    it("ends at no link either", function()
        shell(("echo secret > '%s/out/f'; ln -s '%s/out/f' '%s/f'; ln -s ../out '%s/d'"):format(
            folder, folder, root, root))
        shell(("ln -s nothing '%s/dangling'"):format(root))
        local before = tree()
        for _, link in ipairs { "f", "dangling" } do
            failure("EEXIST", link, dir:create(link, "x"))
            failure("ELOOP", link, dir:append(link, "x"))
            failure("ELOOP", link, dir:read(link))
            failure("ELOOP", link, dir:truncate(link, 0))
            failure("ELOOP", link, dir:sync { link })
            failure("ELOOP", link, dir:sync { link, link })
            failure("ELOOP", link, dir:lock(link, "x"))
            assert.equal("link", dir:stat(link).type)
        end
        failure("ENOTDIR", "d", dir:entries "d")
        assert.equal(before, tree())
        assert.is_true(dir:rename("f", "g"))
        assert.is_true(dir:remove("g"))
        assert.is_true(dir:remove("d"))
        assert.equal("secret", shell(("cat '%s/out/f'"):format(folder)))
    end)

    it("may be anything else", function()
        for _, name in ipairs { "...", "..a", ".a", "a b", "a\nb", "\255\254", "ä", "*", "-rf",
            "~", "a\\b", ("x"):rep(255) } do
            assert.is_true(dir:create(name .. "/" .. name, name))
            assert.equal(name, dir:read(name .. "/" .. name))
            assert.is_true(dir:remove(name .. "/" .. name))
            assert.same({}, dir:entries(name))
        end
    end)

    it("is one line in a message, cut at its start where it is long", function()
        local err = cases.failure("storage", dir:read "a\nb\27[31m\127")
        assert.matches(root .. "/a b [31m ", err.message, 1, true)
        assert.not_matches("%c", err.message)
        local long = ("d"):rep(200) .. "/" .. ("e"):rep(100) .. "/end-of-it"
        err = cases.failure("storage", dir:read(long))
        assert.matches("eee/end%-of%-it: it does not exist$", err.message)
        assert.is_true(#err.message < 300)
        long = ("d"):rep(130) .. "/end-of-it"
        for count = 1, 120 do
            err = cases.failure("storage", dir:read(("x"):rep(count) .. long))
            assert.matches("x" .. long, err.message, 1, true)
        end
    end)
end)

describe("create", function()
    it("writes a file that only the owner may read, and its directories", function()
        assert.is_true(dir:create("p/n/f", "a\0b\n"))
        assert.equal("a\0b\n", files.read(root .. "/p/n/f"))
        assert.equal("600", mode_of(root .. "/p/n/f"))
        assert.equal("700", mode_of(root .. "/p/n"))
        assert.equal("700", mode_of(root .. "/p"))
        assert.is_true(dir:create("p/n/empty", ""))
        assert.equal("", files.read(root .. "/p/n/empty"))
    end)

    it("does so whatever the umask", function()
        for _, mask in ipairs { "0", "077", "022", "0277", "0377" } do
            local name = "umask" .. mask
            assert.equal("true\t\n", child.run(store_chunk()
                .. ("tell(dir:create('%s/d/f', 'x'))"):format(name),
                "umask " .. mask .. "; exec COMMAND"))
            assert.equal("600", mode_of(root .. "/" .. name .. "/d/f"))
            assert.equal("700", mode_of(root .. "/" .. name .. "/d"))
            assert.equal("700", mode_of(root .. "/" .. name))
        end
        assert.equal("true\n", child.run(("print(core.directory(%q, true) ~= nil)"):format(
            folder .. "/masked/x"), "umask 0277; exec COMMAND"))
        assert.equal("700", mode_of(folder .. "/masked/x"))
    end)

    it("does so for a user whom the umask keeps out of what he makes", function()
        local wrap = "umask 0777; exec COMMAND"
        if shell "id -u" == "0" then
            wrap = "umask 0777; exec setpriv --reuid=65534 --regid=65534 --clear-groups COMMAND"
            shell(("chown -R 65534:65534 '%s'"):format(folder))
        end
        assert.equal("true\t\n", child.run(store_chunk() .. "tell(dir:create('d/f', 'x'))", wrap))
        assert.equal("700", mode_of(root .. "/d"))
        assert.equal("600", mode_of(root .. "/d/f"))
    end)

    it("sets the mode of no link that took a new directory's place", function()
        local log = folder .. "/strace"
        child.run(("assert(core.directory(%q, true):create('d/f', 'x'))"):format(folder .. "/new"),
            "exec strace -f -o '" .. log .. "' -e trace=chmod,fchmod,fchmodat COMMAND")
        local calls = files.read(log)
        local _, count = calls:gsub("fchmod%(%d+, 0700%) += 0", "")
        assert.equal(2, count)
        assert.not_matches("fchmodat", calls)
    end)

    it("changes no mode of a directory that was there", function()
        shell(("mkdir -m 755 '%s/open'"):format(root))
        assert.is_true(dir:create("open/f", "x"))
        assert.equal("755", mode_of(root .. "/open"))
    end)

    it("writes large files whole", function()
        local data = ("0123456789abcdef"):rep(1024 * 1024)
        assert.is_true(dir:create("large", data))
        assert.is_true(data == dir:read("large"))
        assert.equal(16 * 1024 * 1024, dir:stat("large").size)
    end)

    it("takes the place of nothing", function()
        write("f", "old")
        shell(("mkdir '%s/d'; mkfifo '%s/pipe'"):format(root, root))
        for _, name in ipairs { "f", "d", "pipe" } do
            local err = failure("EEXIST", name, dir:create(name, "new"))
            assert.matches("cannot write", err.message)
            assert.equal("File exists", err.cause)
        end
        assert.equal("old", files.read(root .. "/f"))
        failure("ENOTDIR", "f/x", dir:create("f/x", "new"))
        failure("ENOTDIR", "f/x/y", dir:create("f/x/y", "new"))
    end)

    it("wants a string", function()
        for _, data in ipairs { {}, true, print } do
            assert.has_error(function() dir:create("f", data) end)
        end
        assert.has_error(function() dir:create("f") end)
        assert.is_false(exists "f")
    end)
end)

describe("read", function()
    it("gives what is there", function()
        write("f", "a\0b\r\n")
        assert.equal("a\0b\r\n", dir:read "f")
        write("f", "")
        assert.equal("", dir:read "f")
    end)

    it("gives no more than asked for", function()
        write("f", "12345")
        assert.equal("12345", dir:read("f", 5))
        local err = failure("EFBIG", "f", dir:read("f", 4))
        assert.matches("cannot read", err.message)
        failure("EFBIG", "f", dir:read("f", 0))
        write("f", "")
        assert.equal("", dir:read("f", 0))
    end)

    it("gives at most 64 MiB unless asked for more", function()
        shell(("truncate -s 67108864 '%s/f'"):format(root))
        assert.equal(67108864, #dir:read "f")
        shell(("truncate -s 67108865 '%s/f'"):format(root))
        failure("EFBIG", "f", dir:read "f")
        assert.equal(67108865, #dir:read("f", 2 ^ 53))
    end)

    it("refuses another maximum", function()
        write("f", "x")
        for _, max in ipairs { -1, 0.5, 0 / 0, 1 / 0, 2 ^ 54, "x", {} } do
            assert.has_error(function() dir:read("f", max) end)
        end
    end)

    it("reads nothing but files, and waits for none", function()
        shell(("mkdir '%s/d'; mkfifo '%s/pipe'"):format(root, root))
        failure("EISDIR", "d", dir:read "d")
        assert.matches("not a regular file", failure("ENXIO", "pipe", dir:read "pipe").message)
        failure("ENXIO", "pipe", dir:append("pipe", "x"))
        failure("ENXIO", "pipe", dir:truncate("pipe", 0))
        failure("ENXIO", "pipe", dir:lock("pipe", "x"))
        failure("EISDIR", "d", dir:append("d", "x"))
        failure("EISDIR", "d", dir:truncate("d", 0))
        failure("EISDIR", "d", dir:lock("d", "x"))
        failure("ENOENT", "none", dir:read "none")
        failure("ENOENT", "none/x", dir:read "none/x")
        failure("ENOENT", "none", dir:truncate("none", 0))
    end)

    it("tells what the system says of a file that cannot be read", function()
        local proc = assert(core.directory "/proc/self")
        local err = cases.failure("storage", proc:read "mem")
        assert.equal("EIO", err.code)
        assert.matches("cannot read /proc/self/mem", err.message)
        assert.equal("Input/output error", err.cause)
        proc:close()
    end)
end)

describe("append", function()
    it("adds to the end of a file, and leaves its mode", function()
        write("f", "one\n")
        shell(("chmod 640 '%s/f'"):format(root))
        assert.is_true(dir:append("f", "two\0\n"))
        assert.is_true(dir:append("f", ""))
        assert.equal("one\ntwo\0\n", files.read(root .. "/f"))
        assert.equal("640", mode_of(root .. "/f"))
    end)

    it("makes no file, and no directories", function()
        failure("ENOENT", "f", dir:append("f", "x"))
        failure("ENOENT", "d/f", dir:append("d/f", "x"))
        assert.is_false(exists "f")
        assert.is_false(exists "d")
    end)
end)

describe("truncate", function()
    it("cuts and lengthens", function()
        write("f", "12345")
        assert.is_true(dir:truncate("f", 3))
        assert.equal("123", files.read(root .. "/f"))
        assert.is_true(dir:truncate("f", 5))
        assert.equal("123\0\0", files.read(root .. "/f"))
        assert.is_true(dir:truncate("f", 0))
        assert.equal("", files.read(root .. "/f"))
    end)

    it("refuses what is no size", function()
        write("f", "x")
        for _, size in ipairs { -1, 0.5, 0 / 0, 1 / 0, "x", {} } do
            assert.has_error(function() dir:truncate("f", size) end)
        end
        assert.has_error(function() dir:truncate("f") end)
        local made, err = dir:truncate("f", 2 ^ 53)
        if made then return end -- tmpfs has room for it
        failure("EFBIG", "f", made, err)
        assert.equal("x", files.read(root .. "/f"))
    end)
end)

describe("rename", function()
    it("moves, and takes the place of what is there", function()
        write("a", "new")
        write("b", "old")
        assert.is_true(dir:rename("a", "b"))
        assert.equal("new", files.read(root .. "/b"))
        assert.is_false(exists "a")
        assert.is_true(dir:create("d/x", "x"))
        assert.is_true(dir:rename("b", "d/y"))
        assert.equal("new", files.read(root .. "/d/y"))
        assert.is_true(dir:rename("d", "e"))
        assert.equal("x", dir:read "e/x")
    end)

    it("fails where it cannot", function()
        write("a", "x")
        shell(("mkdir -p '%s/d' '%s/full/x'"):format(root, root))
        failure("ENOENT", "none", dir:rename("none", "b"))
        failure("ENOENT", "no/b", dir:rename("a", "no/b"))
        failure("ENOENT", "no/a", dir:rename("no/a", "b"))
        failure("EISDIR", "d", dir:rename("a", "d"))
        failure("ENOTDIR", "a", dir:rename("d", "a"))
        failure("ENOTEMPTY", "full", dir:rename("d", "full"))
        failure("EINVAL", "d/x", dir:rename("d", "d/x"))
        assert.equal("x", files.read(root .. "/a"))
        assert.is_false(exists "no")
    end)
end)

describe("remove", function()
    it("takes files, and no directory", function()
        assert.is_true(dir:create("d/f", "x"))
        failure("EISDIR", "d", dir:remove "d")
        assert.is_true(dir:remove "d/f")
        assert.is_false(exists "d/f")
        failure("ENOENT", "d/f", dir:remove "d/f")
        failure("EISDIR", "d", dir:remove "d")
        assert.is_true(exists "d")
    end)
end)

describe("entries", function()
    it("are sorted by name, each with its type", function()
        write("b", "")
        write("B", "")
        write("a-", "")
        write(".hidden", "")
        shell(("cd '%s' && mkdir a && ln -s b l && mkfifo p"):format(root))
        local expected = {
            { name = ".hidden", type = "file" }, { name = "B", type = "file" },
            { name = "a", type = "directory" }, { name = "a-", type = "file" },
            { name = "b", type = "file" }, { name = "l", type = "link" },
            { name = "p", type = "other" },
        }
        assert.same(expected, dir:entries())
        assert.same({}, dir:entries "a")
        assert.same(expected, dir:entries(nil))
    end)

    it("are those of a directory", function()
        write("f", "")
        failure("ENOTDIR", "f", dir:entries "f")
        failure("ENOENT", "none", dir:entries "none")
        assert.is_true(dir:create("d/e/f", ""))
        assert.same({ { name = "f", type = "file" } }, dir:entries "d/e")
    end)

    it("are all there, however many", function()
        shell(("cd '%s' && seq -f 'name-%%05g' 1 2000 | xargs touch"):format(root))
        local entries = assert(dir:entries())
        assert.equal(2000, #entries)
        for number, entry in ipairs(entries) do
            assert.equal(("name-%05d"):format(number), entry.name)
        end
        assert.equal(2000, #dir:entries())
    end)

    it("take names that are no text", function()
        write("\255\n\1", "")
        assert.same({ { name = "\255\n\1", type = "file" } }, dir:entries())
    end)

    it("leave no descriptor", function()
        write("f", "")
        local open = descriptors()
        for _ = 1, 50 do assert(dir:entries()) end
        for _ = 1, 50 do failure("ENOTDIR", "f", dir:entries "f") end
        assert.equal(open, descriptors())
    end)
end)

describe("stat", function()
    it("tells type and size", function()
        write("f", "12345")
        assert(dir:create("d/f", ""))
        assert.same({ type = "file", size = 5 }, dir:stat "f")
        assert.equal("directory", dir:stat("d").type)
        failure("ENOENT", "none", dir:stat "none")
        shell(("mkfifo '%s/p'"):format(root))
        assert.equal("other", dir:stat("p").type)
    end)
end)

describe("sync", function()
    it("takes files and directories, one or many or none", function()
        assert.is_true(dir:create("d/e/f", "x"))
        write("g", "x")
        assert.is_true(dir:sync {})
        for _, paths in ipairs { { "g" }, { "d" }, { "d/e/f" }, { "d/e" },
            { "d/e/f", "d/e", "d", "g" }, { "g", "g" } } do
            assert.is_true(dir:sync(paths))
        end
        local many = {}
        for number = 1, 200 do
            many[number] = "many/" .. number
            assert(dir:create(many[number], "x"))
        end
        assert.is_true(dir:sync(many))
    end)

    it("fails where one is missing", function()
        write("f", "x")
        failure("ENOENT", "none", dir:sync { "none" })
        failure("ENOENT", "none", dir:sync { "f", "none" })
        failure("ENOENT", "none/x", dir:sync { "none/x", "f" })
        failure("ENOTDIR", "f/x", dir:sync { "f", "f/x" })
    end)

    it("wants an array of strings", function()
        assert.has_error(function() dir:sync() end)
        assert.has_error(function() dir:sync "f" end)
        for _, paths in ipairs { { 1 }, { true }, { {} }, { "f", 2 } } do
            assert.has_error(function() dir:sync(paths) end)
        end
    end)

    it("tells what the system says", function()
        local proc = assert(core.directory("/proc/self"))
        assert.equal("EINVAL", cases.failure("storage", proc:sync { "status" }).code)
        -- Here a directory cannot be synced: there is no more to be had.
        assert.is_true(proc:sync { "task" })
        assert.is_true(proc:sync { "task", "fd" })
        proc:close()
    end)

    -- fsync(2) of a pipe fails, and syncfs(2) does not care what is in the file system.
    it("is one call for many where that is sure, and a call each elsewhere", function()
        shell(("mkfifo '%s/p' '%s/q'"):format(root, root))
        failure("EINVAL", "p", dir:sync { "p" })
        local old = child.run(store_chunk() .. "tell(dir:sync { 'p', 'q' })",
            "exec setarch --uname-2.6 COMMAND")
        if not old:find "EINVAL" and old:find "setarch" then
            return pending("no kernel can be an old one here: " .. old)
        end
        assert.matches("^EINVAL\tcannot sync .*/p\n$", old)
        local kind = shell(("stat -f -c %%T '%s'"):format(root))
        if kind == "ext2/ext3" or kind == "xfs" then
            assert.is_true(dir:sync { "p", "q" })
        else
            failure("EINVAL", "p", dir:sync { "p", "q" })
        end
    end)

    it("leaves out no other file system below", function()
        local system = assert(core.directory "/")
        local status = ("proc/%d/status"):format(select(2, core.process()))
        assert.equal("EINVAL", cases.failure("storage", system:sync { status, "tmp" }).code)
        system:close()
    end)
end)

-- ---- the lock ---------------------------------------------------------------

local HOLDER = [[
    local lock, err = dir:lock("lock", TEXT)
    print(lock and "held" or err.code)
    while true do core.step(60) end
]]

local function hold(text)
    local holder = child.start(store_chunk()
        .. HOLDER:gsub("TEXT", function() return ("%q"):format(text) end))
    assert.equal("held", holder:line())
    return holder
end

local function let_go(holder)
    holder:kill "KILL"
    holder:close()
end

describe("lock", function()
    it("is one at a time, and tells who has it", function()
        local lock = assert(dir:lock("lock", "host 7"))
        assert.equal("host 7", files.read(root .. "/lock"))
        assert.equal("600", mode_of(root .. "/lock"))
        local err = failure("locked", "lock", dir:lock("lock", "another"))
        assert.equal("host 7", err.cause)
        assert.matches("cannot lock", err.message)
        assert.equal("host 7", files.read(root .. "/lock"))
        lock:close()
        lock:close()
        assert.equal("", files.read(root .. "/lock"))
        lock = assert(dir:lock("lock", "next"))
        assert.equal("next", files.read(root .. "/lock"))
        lock:close()
    end)

    it("keeps other processes out until it is freed", function()
        local chunk = store_chunk() .. "tell(dir:lock('lock', 'child'))"
        local lock = assert(dir:lock("lock", "parent"))
        assert.matches("^locked\t", child.run(chunk))
        lock:close()
        assert.matches("^%S+: 0x", child.run(chunk))
    end)

    it("ends with its process, however that ends", function()
        local holder = hold "child"
        local err = failure("locked", "lock", dir:lock("lock", "parent"))
        assert.equal("child", err.cause)
        let_go(holder)
        assert.equal("child", files.read(root .. "/lock"))
        local lock = assert(dir:lock("lock", "p"))
        assert.equal("p", files.read(root .. "/lock"))
        lock:close()
    end)

    it("tells of the holder what fits into a line", function()
        local holder = hold(("a\nb\0c\27[31m\127"))
        assert.equal("a b c [31m ", failure("locked", "lock", dir:lock("lock", "x")).cause)
        let_go(holder)
        holder = hold(("y"):rep(5000))
        assert.equal(("y"):rep(200), failure("locked", "lock", dir:lock("lock", "x")).cause)
        let_go(holder)
        holder = hold ""
        assert.is_nil(failure("locked", "lock", dir:lock("lock", "x")).cause)
        let_go(holder)
    end)

    it("is freed when it is collected", function()
        local open = descriptors()
        for number = 1, 20 do
            assert(dir:lock("lock", "round " .. number))
            collectgarbage()
            collectgarbage()
            assert.equal("", files.read(root .. "/lock"))
        end
        assert.equal(open, descriptors())
    end)

    it("stays when the directory is closed, and opens none that is missing", function()
        local other = assert(core.directory(root))
        local lock = assert(other:lock("lock", "x"))
        other:close()
        failure("locked", "lock", dir:lock("lock", "y"))
        lock:close()
        failure("ENOENT", "d/lock", dir:lock("d/lock", "x"))
    end)

    it("leaks no descriptor where it fails", function()
        local lock = assert(dir:lock("lock", "x"))
        local open = descriptors()
        for _ = 1, 20 do failure("locked", "lock", dir:lock("lock", "y")) end
        assert.equal(open, descriptors())
        lock:close()
    end)

    it("is handed to no program that is started, nor is the directory", function()
        local lock = assert(dir:lock("lock", "x"))
        assert.not_matches(folder, shell "ls -l /proc/self/fd", 1, true)
        lock:close()
    end)

    it("wants a text", function()
        assert.has_error(function() dir:lock("lock") end)
        assert.has_error(function() dir:lock("lock", {}) end)
        assert.is_false(exists "lock")
    end)

    -- Lua 5.4 has no fork, and the engine is the same for both.
    if jit then
        local FORK = [[
            local ffi = require "ffi"
            ffi.cdef "int fork(void); int waitpid(int, int *, int);"
            ffi.cdef "void _exit(int); int pause(void);"
            local lock = assert(dir:lock("lock", "parent"))
            local pid = ffi.C.fork()
        ]]

        it("is not freed by a forked child, however that ends", function()
            assert.equal("locked\tparent\n", child.run(store_chunk() .. FORK .. [[
                if pid == 0 then
                    lock:close()
                    ffi.C._exit(0)
                end
                ffi.C.waitpid(pid, nil, 0)
                local _, err = dir:lock("lock", "x")
                print(err.code, err.cause)
            ]]))
        end)

        it("is freed for all when its owner closes it, while a forked child lives", function()
            assert.equal("userdata\n", child.run(store_chunk() .. FORK .. [[
                if pid == 0 then
                    ffi.C.pause()
                    ffi.C._exit(0)
                end
                lock:close()
                local again, err = dir:lock("lock", "x")
                io.popen("kill -KILL " .. pid):close()
                ffi.C.waitpid(pid, nil, 0)
                print(again and type(again) or err.code)
            ]]))
        end)
    end
end)

describe("no call", function()
    it("leaves a descriptor open, whether it works or not", function()
        assert(dir:create("a/b/f", "x"))
        shell(("mkfifo '%s/a/p'"):format(root))
        local open = descriptors()
        for number = 1, 10 do
            local name = "new/" .. number .. "/f"
            assert(dir:create(name, "x") and dir:append(name, "x") and dir:truncate(name, 1))
            assert(dir:read(name) and dir:stat(name) and dir:entries("new"))
            assert(dir:sync { name } and dir:sync { name, "new" } and dir:sync {})
            assert(dir:rename(name, "new/g") and dir:remove("new/g"))
            assert(dir:lock("a/lock", "x")):close()
            failure("EEXIST", "a/b/f", dir:create("a/b/f", "x"))
            for _, path in ipairs { "a/b", "a/p", "a/b/none/x", "a/b/f/x" } do
                assert.is_nil((dir:read(path)))
                assert.is_nil((dir:append(path, "x")))
                assert.is_nil((dir:truncate(path, 0)))
                assert.is_nil((dir:lock(path, "x")))
                assert.is_nil((dir:rename("a/b/f", path .. "/x/y")))
                assert.is_nil((dir:rename(path .. "/x/y", "a/c")))
            end
            assert.is_nil((dir:read("a/b/f", 0)))
            assert.is_nil((dir:entries("a/b/f")))
            assert.is_nil((dir:sync { "a/p" }))
        end
        assert.equal(open, descriptors())
    end)
end)

-- ---- what can go wrong ------------------------------------------------------

describe("where files may not grow", function()
    -- Blocks of 512 or of 1024 bytes, as the shell likes it.
    local LIMITED = "ulimit -f 16; exec env --ignore-signal=XFSZ COMMAND"

    it("create leaves no file", function()
        local output = child.run(store_chunk() .. [[
            tell(dir:create("d/small", ("x"):rep(4000)))
            tell(dir:create("d/large", ("x"):rep(100000)))
        ]], LIMITED)
        assert.matches("^true\t\nEFBIG\tcannot write .*/d/large: .*ulimit", output)
        assert.same({ { name = "small", type = "file" } }, dir:entries "d")
    end)

    it("append adds the whole or nothing", function()
        assert(dir:create("there", ("a"):rep(3000)))
        local output = child.run(store_chunk() .. [[
            tell(dir:append("there", ("b"):rep(100000)))
            tell(dir:append("there", ("c"):rep(1000)))
        ]], LIMITED)
        assert.matches("^EFBIG\t.-\ntrue\t\n$", output)
        assert.equal(("a"):rep(3000) .. ("c"):rep(1000), dir:read "there")
    end)

    it("a lock that cannot be written is none", function()
        local output = child.run(store_chunk() .. [[
            tell(dir:lock("lock", ("x"):rep(100000)))
            local lock = assert(dir:lock("lock", "x"))
            lock:close()
        ]], LIMITED)
        assert.matches("^EFBIG\t", output)
        assert.equal("", dir:read "lock")
    end)
end)

describe("where no more files may be open", function()
    it("every call fails, leaves nothing and leaks nothing", function()
        assert(dir:create("d/f", "x"))
        local output = child.run(store_chunk() .. [[
            local open = {}
            repeat
                local file = io.open "/dev/null"
                open[#open + 1] = file
            until not file
            local full = #open
            local function try_all()
                tell(dir:create("d/new", "x"))
                tell(dir:create("new/new", "x"))
                tell(dir:append("d/f", "x"))
                tell(dir:append("d/new", "x"))
                tell(dir:read("d/f"))
                tell(dir:truncate("d/f", 0))
                tell(dir:stat("d/f"))
                tell(dir:entries("d"))
                tell(dir:sync { "d/f" })
                tell(dir:rename("d/f", "d/g"))
                tell(dir:remove("d/f"))
                tell(dir:lock("d/lock", "x"))
                tell(core.directory(root))
            end
            for _ = 1, 20 do try_all() end
            open[#open]:close() -- one is enough for the way, not for what it leads to
            open[#open] = nil
            print "one"
            for _ = 1, 20 do tell(dir:create("new/new/new", "x")) end
            for _ = 1, 20 do tell(dir:append("d/new", "x")) end
            for _ = 1, 20 do tell(dir:lock("d/lock", "x")) end
            open[full] = io.open "/dev/null"
            print(open[full] and not io.open "/dev/null")
        ]], "ulimit -n 40; exec COMMAND")
        local first, second = output:match "^(.*)one\n(.*)true\n$"
        assert.is_string(first, output)
        local _, refused = first:gsub("EMFILE\tcannot [^\n]* too many open files; raise", "")
        assert.equal(20 * 13, refused, first)
        _, refused = second:gsub("EMFILE\t", "")
        assert.equal(20 * 3, refused, second)
        assert.equal("x", dir:read "d/f")
        assert.is_false(exists "d/lock")
        assert.same({ { name = "f", type = "file" } }, dir:entries "d")
        assert.is_false(exists "new/new")
    end)
end)

-- A file system of 64 KiB, which only the child and its children see.
local SMALL = "unshare -m%s sh -c 'mount -t tmpfs -o size=64k none \"%s\" && exec \"$@\"' sh "
    .. "COMMAND"

local function on_small(chunk)
    local user = shell "id -u" == "0" and "" or "r"
    local output = child.run(store_chunk() .. chunk, SMALL:format(user, root))
    if output:find "unshare:" or output:find "mount:" then
        return nil, "no file system can be mounted here: " .. output
    end
    return output
end

describe("where the disk is full", function()
    it("create and append leave nothing, and say what to do", function()
        local output, why = on_small [[
            assert(dir:create("d/f", ("a"):rep(5000)))
            tell(dir:create("d/large", ("x"):rep(100000)))
            tell(dir:append("d/f", ("x"):rep(100000)))
            tell(dir:lock("lock", ("x"):rep(100000)))
            print(#dir:read("d/f"), dir:stat("lock").size, #dir:entries("d"))
            tell(dir:create("d/fits", ("x"):rep(40000)))
        ]]
        if not output then return pending(why) end
        local lines = {}
        for line in output:gmatch "[^\n]+" do lines[#lines + 1] = line end
        for number = 1, 3 do
            assert.matches("^ENOSPC\tcannot .*: the disk is full; free some space$", lines[number])
        end
        assert.equal("5000\t0\t1", lines[4])
        assert.equal("true\t", lines[5])
    end)
end)

describe("where a file system is read-only", function()
    it("nothing is changed, and it says so", function()
        local output, why = on_small [[
            assert(dir:create("d/f", "x"))
            assert(os.execute("mount -o remount,ro '" .. root .. "'"))
            tell(dir:create("d/new", "x"))
            tell(dir:create("new/new", "x"))
            tell(dir:append("d/f", "x"))
            tell(dir:truncate("d/f", 0))
            tell(dir:rename("d/f", "d/g"))
            tell(dir:remove("d/f"))
            tell(dir:lock("lock", "x"))
            tell(core.directory(root .. "/a/b", true))
            print(dir:read("d/f"))
        ]]
        if not output then return pending(why) end
        local _, refused = output:gsub("EROFS\tcannot [^\n]*: the file system is read%-only\n", "")
        assert.equal(8, refused, output)
        assert.matches("\nx\n$", output)
    end)
end)

describe("where another file system is mounted below", function()
    it("a file cannot be renamed there, and it is synced too", function()
        local output, why = on_small [[
            assert(dir:create("mounted/x", "x"))
            assert(dir:create("f", "x"))
            assert(os.execute("mount -t tmpfs none '" .. root .. "/mounted'"))
            assert(dir:create("mounted/y", "y"))
            tell(dir:rename("f", "mounted/f"))
            tell(dir:sync { "mounted/y", "f" })
        ]]
        if not output then return pending(why) end
        assert.matches("^EXDEV\t[^\n]*different file systems\ntrue\t\n$", output)
    end)
end)

describe("where a user may not", function()
    it("nothing is changed, and it says so", function()
        local wrap = "exec COMMAND"
        if shell "id -u" == "0" then
            wrap = "exec setpriv --reuid=65534 --regid=65534 --clear-groups COMMAND"
            shell(("chown -R 65534:65534 '%s'"):format(folder))
        end
        local output = child.run(store_chunk() .. [[
            assert(dir:create("d/f", "x") and dir:create("closed/f", "x"))
            os.execute("cd '" .. root .. "' && chmod 500 d && chmod 0 closed && chmod 400 d/f")
            tell(dir:create("d/new", "x"))
            tell(dir:create("d/new/new", "x"))
            tell(dir:append("d/f", "x"))
            tell(dir:truncate("d/f", 0))
            tell(dir:rename("d/f", "g"))
            tell(dir:remove("d/f"))
            tell(dir:lock("d/f", "x"))
            tell(dir:read("closed/f"))
            tell(dir:stat("closed/f"))
            tell(dir:entries("closed"))
            tell(core.directory(root .. "/d/a/b", true))
            print(dir:read("d/f"))
        ]], wrap)
        if output:find "module 'csms.core'" then
            return pending "another user cannot read the module here"
        end
        local _, refused = output:gsub("EACCES\tcannot [^\n]*: no permission; check", "")
        assert.equal(11, refused, output)
        assert.matches("\nx\n", output)
    end)
end)
