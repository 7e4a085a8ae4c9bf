-- What a run touches, as the kernel sees it: no file but those listed here, nothing written outside
-- the store, no connection but to the service. For Lua 5.4 only, as the command line is.

if rawget(_G, "jit") then return end

local cli = require "spec.support.cli"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local nginx = require "spec.support.nginx"

local SECRETS = 5

local emu, home, store

setup(function()
    emu = emulator.start { secrets = SECRETS }
    home = files.temporary()
    store = home .. "/store"
    local profile = home .. "/.huaweicloud/credentials"
    assert(os.execute(("mkdir -m 700 %s/.huaweicloud"):format(cli.quote(home))))
    local file = assert(io.open(profile, "wb"))
    file:write(("[basic]\nak = %s\nsk = %s\n"):format(emu.ak, emu.sk))
    file:close()
    assert(os.execute("chmod 600 " .. cli.quote(profile)))
end)

teardown(function()
    emu:stop()
    files.remove(home)
end)

-- ---- what may be touched ----------------------------------------------------

local function literal(path)
    return (path:gsub("%p", "%%%0"))
end

local function exactly(path)
    return "^" .. literal(path) .. "$"
end

-- A reason, and patterns of the paths that are read, or asked for, for that reason.
local function known_files()
    local root = literal(nginx.root())
    local build = package.cpath:match("([^;?]+)/5%.4/%?%.so"):gsub("^%./", nginx.root())
    return {
        { "the keys", exactly(home .. "/.huaweicloud/credentials") },
        { "the certificates that are trusted", exactly(emu.ca_file) },
        { "the library", "^" .. root .. "lua/", "^" .. literal(build) .. "/" },
        { "where Lua looks for modules, the folder that it runs in among them",
            "^/usr/.*/lua/5%.%d/", "^" .. root .. "c%l+/[%l/]+%.lua$",
            "^" .. root .. "c%l+/[%l/]+%.so$" },
        { "the program and the system's libraries", "^/usr/bin/lua5%.4$", "^/lib.*%.so[.%d]*$",
            "^/usr/lib.*%.so[.%d]*$", "^/etc/ld%.so%.%l+$", "^/lib.*/glibc%-hwcaps/" },
        { "what OpenSSL reads by itself, and GnuTLS, which libcurl's LDAP is linked with",
            "^/usr/lib/ssl/openssl%.cnf$", "^/etc/ssl/openssl%.cnf$", "^/etc/gnutls/config$" },
        { "the time zone, which the C library reads before it writes any date",
            "^/etc/localtime$", "^/usr/share/zoneinfo/" },
        { "addresses of names, where libcurl does not know them itself", "^/etc/hosts$",
            "^/etc/host%.conf$", "^/etc/nsswitch%.conf$", "^/etc/resolv%.conf$",
            "^/etc/gai%.conf$" },
    }
end

local function is_store(path)
    return (path .. "/"):find(store .. "/", 1, true) == 1
end

-- Each folder on the way to the store is opened for itself.
local function leads_to_store(path)
    return path == "/" or store:find(path .. "/", 1, true) == 1
end

local function is_known(path, known)
    for _, class in ipairs(known) do
        for index = 2, #class do
            if path:find(class[index]) then return true end
        end
    end
    return is_store(path) or leads_to_store(path)
end

-- ---- what was touched -------------------------------------------------------

local CHANGING = {
    "^creat", "^rename", "^unlink", "^rmdir", "^mkdir", "^mknod", "^link", "^symlink", "chmod",
    "chown", "truncate", "^utime", "^futime", "setxattr", "removexattr",
    "^open.*O_WRONLY", "^open.*O_RDWR", "^open.*O_CREAT", "^open.*O_TRUNC",
}

local function changes(line)
    for _, pattern in ipairs(CHANGING) do
        if line:find(pattern) then return true end
    end
    return false
end

-- The paths of a call; strace -y says what folder a relative one is below: 5</folder>, "name".
local function paths_of(line)
    local paths = {}
    for at, name in line:gmatch('()"([^"]+)"') do
        local folder = line:sub(1, at - 1):match("<([^<>]*)>, $") or nginx.root()
        local path = name:find("^/") and name or folder .. "/" .. name
        path = (path .. "/"):gsub("/%./", "/"):gsub("//+", "/"):gsub("(.)/$", "%1")
        paths[#paths + 1] = path
    end
    return paths
end

local PEERS = {
    'sa_family=AF_INET, .*inet_addr%("127%.0%.0%.1"%)',     -- the service, and nobody else
    'sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"',   -- a cache of names, where there is one
    "sa_family=AF_NETLINK",                                 -- the kernel: which addresses there are
}

local function is_known_peer(line)
    for _, pattern in ipairs(PEERS) do
        if line:find(pattern) then return true end
    end
    return false
end

local function complaint(line, known)
    if line:find("sa_family=", 1, true) then
        return not is_known_peer(line) and "talks to: " .. line
    end
    if line:find("^getcwd") then return false end
    for _, path in ipairs(paths_of(line)) do
        if changes(line) and not is_store(path) then return "changes: " .. line end
        if not is_known(path, known) then return "reads: " .. line end
    end
    return false
end

-- The calls of a log, one after another.
local function calls_of(text)
    return text:gmatch("%d+ +(%l[%w_]*%([^\n]*)")
end

-- Runs Lua under strace: the calls that are about files and the network, and those among them
-- that are not as they should be.
local function trace(words)
    local log = home .. "/trace"
    local command = { "env -i" }
    for name, value in pairs {
        PATH = os.getenv "PATH", LUA_PATH = "./lua/?.lua;./lua/?/init.lua;;",
        LUA_CPATH = os.getenv "LUA_CPATH", HOME = home, CSMS_ENDPOINT = emu.endpoint,
        CSMS_CA_FILE = emu.ca_file, HUAWEICLOUD_SDK_PROJECT_ID = emu.project,
        CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1",
    } do
        command[#command + 1] = cli.quote(name .. "=" .. value)
    end
    command[#command + 1] = "strace -f -y -s 0 -o " .. cli.quote(log)
        .. " -e trace=%file,%network,write,fsync,syncfs,rt_sigaction"
    command[#command + 1] = "/usr/bin/lua5.4"
    for _, word in ipairs(words) do command[#command + 1] = cli.quote(word) end
    local output = files.output_of(table.concat(command, " ") .. " 2>&1; echo \"exit $?\"")
    assert.matches("exit 0%s*$", output)

    local text, complaints, known = files.read(log), {}, known_files()
    for line in calls_of(text) do
        complaints[#complaints + 1] = complaint(line, known) or nil
    end
    return text, complaints
end

local function count(text, pattern)
    return select(2, text:gsub(pattern, ""))
end

-- ---- the runs ---------------------------------------------------------------

local permitted = os.execute "strace -o /dev/null true 2>/dev/null"

local function test(name, fn)
    if permitted then return it(name, fn) end
    pending(name .. ": strace cannot run here (it needs ptrace)", fn)
end

describe("under strace", function()
    test("csms backup --all writes into its store alone, and reads what it must", function()
        local text, complaints = trace { "lua/csms/cli.lua", "backup", "--all", "-o", store }
        assert.same({}, complaints)
        assert.equal(SECRETS, count(text, "renameat[^\n]*%.blob\""))
        assert.equal(1, count(text, "openat[^\n]*/%.huaweicloud/credentials\""))
        assert.is_true(count(text, 'connect[^\n]*inet_addr%("127%.0%.0%.1"%)') > 0)
    end)

    test("a call of the library leaves SIGPIPE as it is, which is all threads'", function()
        local text, complaints = trace { "-e",
            'assert(require("csms").backup(nil, "secret-0001"))' }
        assert.same({}, complaints)
        assert.is_true(count(text, 'connect[^\n]*inet_addr%("127%.0%.0%.1"%)') > 0)
        assert.is_true(count(text, "rt_sigaction%(SIGINT") > 0) -- lua's own
        assert.equal(0, count(text, "rt_sigaction%(SIGPIPE")) -- libcurl's, if it is let
    end)

    -- "[1]" holds back what is sent on a connection, "[0]" lets it go.
    local function corks(version)
        local text = trace { "-e", ([[
            local client = assert(require("csms").new { http_version = %q })
            assert(client:backup(nil, "secret-0001"))
            local names = {}
            for index = 1, %d do names[index] = ("secret-%%04d"):format(index) end
            for _ = 1, 20 do assert(client:backup_many(nil, names).ok == #names) end]])
            :format(version, SECRETS) }
        local seen = {}
        for value in text:gmatch "TCP_CORK, %[(%d)%]" do seen[#seen + 1] = value end
        return table.concat(seen)
    end

    test("requests that go out at once over HTTP/2 share packets, and none is kept", function()
        local seen = corks "2"
        assert.is_true(#seen > 0)
        assert.equal(("10"):rep(#seen / 2), seen)
        assert.equal("", corks "1.1")
    end)

    test("csms prune removes what its record names on the disk, and makes that last too", function()
        for _ = 1, 2 do trace { "lua/csms/cli.lua", "backup", "--all", "-o", store } end
        local text, complaints = trace { "lua/csms/cli.lua", "prune", store, "--keep-last", "1" }
        assert.same({}, complaints)
        local recorded, removed, unsynced = false, 0, {}
        for line in calls_of(text) do
            local synced = line:match("^fsync%(%d+<([^>]*)>%) += 0$")
            local folder = line:match('^unlinkat%(%d+<([^>]*)>, "[^"]*%.blob", 0%) += 0$')
            if line:find("^write%(%d+<" .. literal(store) .. "/runs/") then
                recorded = false
            elseif synced and synced:find(store .. "/runs/", 1, true) then
                recorded = true
            elseif folder then
                assert.is_true(recorded, line)
                removed, unsynced[folder] = removed + 1, true
            elseif synced then
                unsynced[synced] = nil
            elseif line:find("^syncfs%(.*= 0$") then
                recorded, unsynced = true, {}
            end
        end
        assert.is_true(removed >= SECRETS)
        assert.same({}, unsynced)
    end)

    test("csms.backup writes nothing", function()
        local text, complaints = trace { "-e",
            [[assert(require("csms").backup(nil, "secret-0001"))]] }
        assert.same({}, complaints)
        for line in calls_of(text) do
            assert.is_false(changes(line), line)
        end
        assert.is_true(count(text, 'connect[^\n]*inet_addr%("127%.0%.0%.1"%)') > 0)
    end)

    test("other files and peers are seen", function()
        for what, code in pairs {
            ["^reads: .*/etc/passwd"] = [[io.open("/etc/passwd"):close()]],
            ["^reads: .*absent"] = [[io.open("absent")]],
            ["^changes: .*/other"] = ([[io.open(%q, "w"):close()]]):format(home .. "/other"),
            ["^changes: unlink"] = ([[os.remove(%q)]]):format(store .. "-absent"),
            ["^talks to: connect.*127%.0%.0%.2"] = [[
                require("csms").new { endpoint = "https://127.0.0.2:1", retry = false }
                    :backup(nil, "secret-0001")]],
        } do
            local _, complaints = trace { "-e", code }
            assert.equal(1, #complaints, what)
            assert.matches(what, complaints[1])
        end
    end)
end)
