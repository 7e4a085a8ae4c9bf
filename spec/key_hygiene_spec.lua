-- Where keys are not: in the memory of a process after it closed its client, in a Lua table, in
-- what anything prints. What is looked for is never in the process that is looked at, but as the
-- library keeps it: that process reads its profile in C, and this one reads its memory.

local cases = require "spec.support.cases"
local csms = require "csms"
local emulator = require "spec.support.emulator"
local files = require "spec.support.files"
local fixed = require "csms.credentials.fixed"
local json = require "cjson"
local metadata = require "csms.credentials.metadata"
local password = require "csms.credentials.password"
local pod_identity = require "csms.credentials.pod_identity"
local socket = require "socket"

local credentials = csms.credentials

local emu, folder

local function shell(command, ...)
    assert(os.execute(command:format(...)))
end

setup(function()
    emu = emulator.start { secrets = 30 }
    folder = files.temporary()
    shell("mkdir -m 700 '%s/.huaweicloud'", folder)
end)

teardown(function()
    emu:stop()
    files.remove(folder)
end)

before_each(function() emu:reset() end)

local function write(name, text)
    files.write(folder .. "/" .. name, text)
    return folder .. "/" .. name
end

local function write_profile(key, more)
    write(".huaweicloud/credentials", ("[basic]\nak = %s\nsk = %s\nsecurity_token = %s\n%s")
        :format(key.access, key.secret, key.securitytoken or "", more or ""))
end

-- ---- the memory of a process ------------------------------------------------

local interpreter

-- A process that runs a chunk up to each stop(), where it waits to be looked at.
local Child = {}
Child.__index = Child

local PRELUDE = [[
package.path, package.cpath = %q, %q
local status = %q
local function stop(stage)
    local file = assert(io.open(status .. ".new", "wb"))
    file:write(stage)
    file:close()
    assert(os.rename(status .. ".new", status))
    assert(io.read("*l") == "go on")
end
local file = io.open("/proc/self/stat")
local pid = file:read("*n")
file:close()
stop(("%%d"):format(pid))
]]

local function wait_for(self)
    local give_up = socket.gettime() + 60
    repeat
        local file = io.open(self.status, "rb")
        if file then
            local text = file:read("*a")
            file:close()
            os.remove(self.status)
            return text
        end
        socket.sleep(0.005)
    until socket.gettime() > give_up
    error("the child ended: " .. files.read(self.status .. ".log"), 0)
end

-- Lets it go on to its next stop, of that name.
function Child:go_to(stage)
    self.pipe:write("go on\n")
    self.pipe:flush()
    assert.equal(stage, wait_for(self))
end

function Child:close()
    self.pipe:close() -- an end of input ends it too
end

local function child_of(chunk)
    if not interpreter then
        local pipe = assert(io.popen("readlink /proc/$PPID/exe"))
        interpreter = pipe:read("*l")
        pipe:close()
    end
    local self = setmetatable({ status = folder .. "/status" }, Child)
    local script = write("script.lua", PRELUDE:format(package.path, package.cpath, self.status)
        .. "local csms = require 'csms'\n" .. chunk)
    self.pipe = assert(io.popen(("exec env -i HOME='%s' CSMS_ENDPOINT='%s' CSMS_CA_FILE='%s' "
        .. "HUAWEICLOUD_SDK_PROJECT_ID='%s' CSMS_METADATA_ENDPOINT=http://127.0.0.1:1 "
        .. "'%s' '%s' >'%s.log' 2>&1"):format(folder, emu.endpoint, emu.ca_file, emu.project,
        interpreter, script, self.status), "w"))
    self.pid = wait_for(self)
    return self
end

local CHUNK = 1024 * 1024
local pages = assert(io.popen("getconf PAGESIZE"))
local PAGE = pages:read("*n")
pages:close()
local LARGEST = 2 ^ 29 -- a sanitizer's shadow is larger, and holds no data

local function count_in(text, secret)
    local count, at = 0, text:find(secret, 1, true)
    while at do
        count, at = count + 1, text:find(secret, at + 1, true)
    end
    return count
end

-- Whether any page of a piece was ever touched, as its entries in pagemap tell (a file of which
-- not all processes may read): a sanitizer has far more than it uses.
local function is_used(pagemap, from, size)
    if not pagemap then return true end
    pagemap:seek("set", from / PAGE * 8)
    local entries = pagemap:read(size / PAGE * 8) or ""
    for at = 8, #entries, 8 do
        if entries:byte(at) >= 0x40 then return true end -- present, or swapped out
    end
    return false
end

-- How often each of the secrets is in the memory that the process may write to.
function Child:count(...)
    local secrets, counts, bytes = { ... }, {}, 0
    local memory = assert(io.open("/proc/" .. self.pid .. "/mem", "rb"))
    memory:setvbuf("no")
    local pagemap = io.open("/proc/" .. self.pid .. "/pagemap", "rb")
    for from, to in files.read("/proc/" .. self.pid .. "/maps"):gmatch("(%x+)%-(%x+) rw") do
        from, to = tonumber(from, 16), tonumber(to, 16)
        local at = to - from <= LARGEST and from or to
        local tail = ""
        while at < to do
            local size = math.min(CHUNK, to - at)
            if is_used(pagemap, at, size) then
                assert(memory:seek("set", at))
                local text = memory:read(size)
                if not text then break end -- a page that cannot be read, such as a device's
                for index, secret in ipairs(secrets) do
                    local seam = tail:sub(1 - #secret)
                    counts[index] = (counts[index] or 0) + count_in(seam .. text, secret)
                end
                at, bytes, tail = at + #text, bytes + #text, text:sub(-100)
            else
                at, tail = at + size, ""
            end
        end
    end
    memory:close()
    if pagemap then pagemap:close() end
    assert(bytes > 256 * 1024, "this is not its memory")
    return (rawget(table, "unpack") or rawget(_G, "unpack"))(counts)
end

-- Runs a chunk that stops at "open" and at "closed", and looks at both.
local function look(chunk, ...)
    local child = child_of(chunk)
    local before, after
    local done, problem = pcall(function(...)
        child:go_to("open")
        before = { child:count(...) }
        child:go_to("closed")
        after = { child:count(...) }
    end, ...)
    child:close()
    if not done then error(problem, 0) end
    return before, after
end

describe("the memory of a process with keys from a profile", function()
    local key

    before_each(function()
        key = emu:issue_key()
        write_profile(key)
    end)

    it("holds the secret key while the client is open, and nowhere after close", function()
        local before, after = look([[
            assert(csms.backup(nil, "secret-0001"))
            local client = assert(csms.new {})
            assert(client:backup(nil, "secret-0001"))
            assert(client:restore(nil, client:backup(nil, "absent") or "x") == nil)
            stop "open"
            client:close()
            csms.close()
            collectgarbage()
            collectgarbage()
            stop "closed"
        ]], key.secret, key.secret:sub(1, 12), key.secret:sub(-12)) -- nor a part of it
        assert.is_true(before[1] >= 1 and before[2] >= 1 and before[3] >= 1)
        assert.same({ 0, 0, 0 }, after)
    end)

    it("holds it nowhere after a batch", function()
        local before, after = look([[
            local client = assert(csms.new { retry = { base = 0.001 } })
            assert(client:backup_all().ok > 20)
            stop "open"
            client:close()
            collectgarbage()
            collectgarbage()
            stop "closed"
        ]], key.secret)
        assert.is_true(before[1] >= 1)
        assert.same({ 0 }, after)
    end)

    it("holds it nowhere where other algorithms sign", function()
        for _, config in ipairs { "{ signing = 'SDK-HMAC-SM3' }",
            "{ signing = 'V11-HMAC-SHA256', region = 'cn-north-4', signing_service = 'csms' }" } do
            local before, after = look(([[
                local client = assert(csms.new(%s))
                assert(client:show(nil, "secret-0001") or true)
                stop "open"
                client:close()
                collectgarbage()
                collectgarbage()
                stop "closed"
            ]]):format(config), key.secret)
            assert.is_true(before[1] >= 1)
            assert.same({ 0 }, after)
        end
    end)

    it("holds it nowhere after a client was dropped without close", function()
        local before, after = look([[
            local client = assert(csms.new {})
            assert(client:backup(nil, "secret-0001"))
            stop "open"
            client = nil
            collectgarbage()
            collectgarbage()
            stop "closed"
        ]], key.secret)
        assert.is_true(before[1] >= 1)
        assert.same({ 0 }, after)
    end)

    it("holds neither the old nor the new ones after keys were replaced", function()
        local one = emu:issue_key { temporary = true }
        write_profile(one)
        local child = child_of [[
            local client = assert(csms.new {})
            assert(client:backup(nil, "secret-0001"))
            stop "open"
            assert(client:backup(nil, "secret-0001"))
            stop "renewed"
            client:close()
            collectgarbage()
            collectgarbage()
            stop "closed"
        ]]
        local done, problem = pcall(function()
            child:go_to("open")
            emu:revoke_keys()
            local two = emu:issue_key { temporary = true }
            write_profile(two)
            child:go_to("renewed")
            local _, second = child:count(one.secret, two.secret)
            assert.is_true(second >= 1)
            child:go_to("closed")
            assert.same({ 0, 0 }, { child:count(one.secret, two.secret) })
        end)
        child:close()
        if not done then error(problem, 0) end
    end)

    -- Of one that went out, the copies that libcurl wrote to a connection stay.
    it("holds a security token that could not be sent nowhere after close", function()
        key = emu:issue_key { temporary = true }
        write_profile(key)
        local token = key.securitytoken
        local before, after = look([[
            local client = assert(csms.new { endpoint = "https://127.0.0.1:1", retry = false })
            assert(not client:backup(nil, "secret-0001"))
            stop "open"
            client:close()
            collectgarbage()
            collectgarbage()
            stop "closed"
        ]], token, token:sub(1, 12), token:sub(-12))
        assert.is_true(before[1] >= 1)
        assert.same({ 0, 0, 0 }, after)
    end)

    it("holds it nowhere where the file is broken", function()
        for _, more in ipairs { "nonsense\n", "project_id = " .. ("x"):rep(2000),
            "security_token = a b", ("# filler\n"):rep(40000) } do
            write_profile(key, more)
            local before, after = look([[
                local provider = csms.credentials.profile()
                local credential, err = provider:get()
                assert(not credential and err.kind == "credentials")
                stop "open"
                collectgarbage()
                collectgarbage()
                stop "closed"
            ]], key.secret)
            assert.same({ 0, 0 }, { before[1], after[1] })
        end
    end)

    it("would show it if a string of Lua's held it", function()
        write("secret", key.secret:reverse())
        local before, after = look(([[
            local file = io.open(%q, "rb")
            KEEP = file:read("*a"):reverse()
            file:close()
            stop "open"
            collectgarbage()
            collectgarbage()
            stop "closed"
        ]]):format(folder .. "/secret"), key.secret)
        assert.is_true(before[1] >= 1 and after[1] >= 1)
    end)

    it("would show it across the seam of two reads, and as often as it is there", function()
        write("secret", key.secret:reverse())
        local before = look(([[
            local file = io.open(%q, "rb")
            KEEP = file:read("*a"):reverse():rep(200000) -- several times as much as a read
            file:close()
            stop "open"
            stop "closed"
        ]]):format(folder .. "/secret"), key.secret)
        assert.is_true(before[1] >= 200000)
    end)
end)

-- ---- Lua tables -------------------------------------------------------------

-- In a process of its own, whose every table is looked at; only then does it learn, from a file,
-- what was to be looked for.
local WALK = [[
local csms = require "csms"
local strings, seen = {}, {}
local getuservalue = debug.getuservalue or debug.getfenv

local function walk(value)
    local kind = type(value)
    if kind == "string" then strings[value] = true end
    if kind ~= "table" and kind ~= "function" and kind ~= "userdata" or seen[value] then return end
    seen[value] = true
    walk(debug.getmetatable(value))
    if kind == "table" then
        for key, item in next, value do
            walk(key)
            walk(item)
        end
    elseif kind == "function" then
        local index = 1
        while true do
            local name, item = debug.getupvalue(value, index)
            if not name then break end
            if item ~= strings and item ~= seen then walk(item) end
            index = index + 1
        end
    else
        walk((getuservalue(value)))
    end
end

local function leaks()
    local found, count = {}, 0
    for text in pairs(strings) do count = count + 1 end
    local file = io.open(%q, "rb")
    for secret in file:read("*a"):gmatch("%%S+") do
        for text in pairs(strings) do
            if text:find(secret, 1, true) then found[#found + 1] = secret end
        end
    end
    print(count > 500 and "walked" or "not walked", #found, table.concat(found, " "))
end

local client = assert(csms.new { retry = false, credentials = %s })
%s
walk(client)
walk(client.credentials)
walk(package.loaded)
walk(debug.getregistry())
leaks()
]]

-- What a client holds after it used a provider (Lua text) in its way.
local function leaks_of(provider, use, secrets, environment)
    local variables = { HOME = folder, CSMS_METADATA_ENDPOINT = emu.metadata_endpoint,
        HUAWEICLOUD_SDK_CREDENTIALS_FILE = "", HC_CONTAINER_CREDENTIALS_FULL_URI = "",
        HUAWEICLOUD_SDK_PROJECT_ID = emu.project, CSMS_ENDPOINT = emu.endpoint,
        CSMS_CA_FILE = emu.ca_file }
    for name, value in pairs(environment or {}) do variables[name] = value end
    local path = write("secrets", table.concat(secrets, "\n"))
    return (cases.run(WALK:format(path, provider, use), variables))
end

local BACKUP = [[assert(client:backup(nil, "secret-0001"))]]

describe("no Lua table holds", function()
    -- What the metadata service gives out, as anybody on the machine could ask.
    local function current_keys()
        emu:set { metadata_version = 1 }
        local body = require("socket.http").request(
            emu.metadata_endpoint .. "/openstack/latest/securitykey")
        local found = json.decode(body).credential
        return { found.secret, found.securitytoken, found.access }
    end

    it("keys of the metadata service", function()
        local secrets = current_keys()
        assert.equal("walked\t0\t\n",
            leaks_of("csms.credentials.metadata()", BACKUP, secrets))
        assert.equal("temporary", emu:requests("backup")[1].auth)
    end)

    it("keys of pod identity", function()
        local secrets = current_keys()
        assert.equal("walked\t0\t\n", leaks_of("csms.credentials.pod_identity()", BACKUP, secrets, {
            HC_CONTAINER_CREDENTIALS_FULL_URI = emu.pod_identity_uri,
            HC_CONTAINER_AUTHORIZATION_TOKEN_FILE = emu.pod_identity_token_file,
        }))
        assert.equal("temporary", emu:requests("backup")[1].auth)
    end)

    it("keys of a profile", function()
        local key = emu:issue_key { temporary = true }
        write_profile(key)
        assert.equal("walked\t0\t\n", leaks_of("csms.credentials.profile()", BACKUP,
            { key.access, key.secret, key.securitytoken }))
    end)

    it("keys of the default chain, renewed ones included", function()
        os.remove(folder .. "/.huaweicloud/credentials")
        local secrets = current_keys()
        emu:set { temporary_key_life = 1000 } -- others from now on
        for _, secret in ipairs(current_keys()) do secrets[#secrets + 1] = secret end
        assert.equal(6, #secrets)
        assert.equal("walked\t0\t\n", leaks_of("csms.credentials.chain { "
            .. "csms.credentials.env(), csms.credentials.profile(), csms.credentials.metadata() }",
            BACKUP, secrets))
    end)

    it("a token of IAM", function()
        local token = ("MIIF" .. emu.token):sub(1, 500)
        emu:fault { operation = "iam_token", status = 201, times = 0,
            headers = { ["X-Subject-Token"] = token },
            body = json.encode { token = { expires_at = "2099-01-08T02:56:19.587000Z" } } }
        local output = leaks_of(([[csms.credentials.password { domain = "d", user = "u",
            password = "p", project = "x", iam_endpoint = %q }]]):format(emu.iam_endpoint),
            "assert(client.credentials:get(nil, client.auth.context))", { token })
        assert.equal("walked\t0\t\n", output)
        assert.equal(1, #emu:requests("iam_token"))
    end)

    it("what this spec would find in a field, an upvalue or a metatable", function()
        local secret = "S3CR3T-S3CR3T"
        for _, use in ipairs {
            "client.x = { { ('S3CR3T-'):rep(2):sub(1, -2) } }",
            "local s = 'x' .. ('S3CR3T-'):rep(2); client.x = function() return s end",
            "setmetatable(client.in_flight, { x = ('S3CR3T-'):rep(2) })",
            "package.loaded.x = { [('S3CR3T-'):rep(2)] = 1 }",
        } do
            local output = leaks_of([[csms.credentials.token("T")]], use, { secret })
            assert.matches("^walked\t[1-9]%d*\tS3CR3T%-S3CR3T", output)
        end
    end)
end)

-- ---- what is printed --------------------------------------------------------

describe("what prints shows at most four characters of the access key:", function()
    local key

    before_each(function()
        key = emu:issue_key { temporary = true }
        write_profile(key)
    end)

    local function assert_clean(value)
        local text = tostring(value)
        for _, secret in ipairs { key.access:sub(1, 5), key.secret:sub(1, 5),
            key.securitytoken:sub(1, 8), emu.token:sub(1, 8), emu.password:sub(1, 8) } do
            assert.is_nil(text:find(secret, 1, true), text)
        end
        return text
    end

    local function env_of(variables)
        return function(name) return variables[name] end
    end

    -- Sources whose keys are `key`, or the token, or the user.
    local MAKERS = {
        static = function()
            return credentials.static { ak = key.access, sk = key.secret,
                security_token = key.securitytoken }
        end,
        token = function() return credentials.token(emu.token) end,
        env = function()
            return fixed.env(env_of { HUAWEICLOUD_SDK_AK = key.access,
                HUAWEICLOUD_SDK_SK = key.secret,
                HUAWEICLOUD_SDK_SECURITY_TOKEN = key.securitytoken })
        end,
        profile = function()
            return credentials.profile(folder .. "/.huaweicloud/credentials")
        end,
        metadata = function()
            emu:fault { operation = "metadata_keys", times = 0, body = json.encode {
                credential = { access = key.access, secret = key.secret,
                    securitytoken = key.securitytoken, expires_at = key.expires_at } } }
            return metadata.new(env_of { CSMS_METADATA_ENDPOINT = emu.metadata_endpoint })
        end,
        pod_identity = function()
            emu:fault { operation = "pod_identity", times = 0, body = json.encode {
                accessKeyId = key.access, secretAccessKey = key.secret,
                securityToken = key.securitytoken, expiration = key.expires_at } }
            return pod_identity.new(env_of {
                HC_CONTAINER_CREDENTIALS_FULL_URI = emu.pod_identity_uri,
                HC_CONTAINER_AUTHORIZATION_TOKEN_FILE = emu.pod_identity_token_file })
        end,
        password = function()
            return password.new({ domain = emu.domain, user = emu.user,
                password = emu.password, project = emu.region,
                iam_endpoint = emu.iam_endpoint }, env_of {})
        end,
        chain = function()
            return credentials.chain { fixed.env(env_of {}),
                credentials.profile(folder .. "/.huaweicloud/credentials") }
        end,
    }

    for name, make in pairs(MAKERS) do
        it("a provider, its credential, its client and its errors: " .. name, function()
            local events = {}
            local provider = assert(make())
            assert_clean(provider)
            local client = cases.client(emu, {
                credentials = provider,
                on_event = function(event)
                    for field, value in pairs(event) do
                        events[#events + 1] = assert_clean(field) .. assert_clean(value)
                    end
                end,
            })
            assert.is_string(client:backup(nil, "secret-0001"))
            local text = assert_clean(provider)
            assert.matches("^csms credentials%." .. name .. " ", text)
            local credential = assert(provider:get())
            assert.matches("^csms credential %(.*%)$", assert_clean(credential))
            assert_clean(client)
            -- a token's client does not know these keys
            local has_key = name ~= "token" and name ~= "password"
            emu:fault { operation = "backup", status = 403, code = "X", times = 0,
                message = "who is " .. (has_key and key.access .. " with " .. key.secret
                    .. key.securitytoken or emu.token) }
            local _, err = client:backup(nil, "secret-0001")
            assert.equal("denied", err.kind)
            assert_clean(err)
            for _, value in pairs(err) do assert_clean(value) end
            assert.is_true(#events > 10)
            client:close()
            assert_clean(client)
            provider:close()
            assert.is_nil(assert_clean(provider):find(key.access:sub(1, 4), 1, true))
            assert.equal("csms credential (closed)", tostring(credential))
        end)
    end
end)
