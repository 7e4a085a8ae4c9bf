-- Makes an instance's folder ready and starts nginx in it. Called by the `emulator` script:
--   lua5.4 launch.lua new DIR [key=value ...]     a new instance
--   lua5.4 launch.lua again DIR                   the one of that folder, on the same ports
-- The ports are bound here and handed to nginx as open sockets (its NGINX variable), so that
-- nobody can take one in between, however many instances start at once.
local root = arg[0]:match("^(.*)/spec/emulator/launch%.lua$")
package.path = root .. "/?.lua;" .. package.path

local certificates = require "spec.emulator.certificates"
local conf = require "spec.emulator.conf"
local crypto = require "spec.emulator.crypto"
local json = require "spec.emulator.json"
local socket = require "socket"
local watch = require "spec.emulator.watch"

-- Below the range from which Linux takes the ports of outgoing connections: a client that tries a
-- port while nobody listens there could otherwise connect to itself.
local LOWEST, HIGHEST = 15000, 32000
local TRIES = 500

local function fail(message)
    io.stderr:write("emulator: ", message, "\n")
    os.exit(1)
end

local function write(path, text)
    local file = assert(io.open(path, "wb"))
    assert(file:write(text))
    assert(file:close())
end

local function listen(port)
    local server = socket.tcp4()
    server:setoption("reuseaddr", true)
    if server:bind("127.0.0.1", port) and server:listen(511) then return server end
    server:close()
    return nil
end

local function listen_anywhere()
    for _ = 1, TRIES do
        local port = math.random(LOWEST, HIGHEST)
        local server = listen(port)
        if server then return server, port end
    end
    fail("no free port between " .. LOWEST .. " and " .. HIGHEST)
end

-- known: ports by name, or nil to choose. Answers the sockets and the ports.
local function open_ports(known)
    local servers, ports = {}, {}
    for i, port in ipairs(conf.PORTS) do
        if known then
            servers[i] = listen(known[port.name])
                or fail("port " .. known[port.name] .. " was taken meanwhile")
            ports[port.name] = known[port.name]
        else
            servers[i], ports[port.name] = listen_anywhere()
        end
    end
    return servers, ports
end

local function read_options(list)
    local options = {}
    for i = 3, #list do
        local key, value = list[i]:match("^([%w_]+)=(.*)$")
        options[key] = value
    end
    return options
end

local function is_root()
    local pipe = io.popen("id -u")
    local id = pipe:read("*l")
    pipe:close()
    return id == "0"
end

local function new_config(dir, options, ports)
    local parent = tonumber(options.parent or "")
    return {
        dir = dir, root = root, ports = ports, parent = parent,
        parent_started = parent and watch.started(parent) or parent and "gone",
        region = options.region or "cn-north-4",
        secrets = tonumber(options.secrets or "") or 10,
        streams = tonumber(options.streams or "") or 128,
        keepalive_requests = tonumber(options.keepalive_requests or "") or 1000000000,
        user_line = is_root() and "user root;" or "",
        project = crypto.random_hex(16), domain = "emulator-domain",
        domain_id = crypto.random_hex(16), user = "emulator-user", user_id = crypto.random_hex(16),
        password = "pw-" .. crypto.canary("PW", 20),
        ak = crypto.access_key(), sk = crypto.canary("SK", 40),
        token = "MIIE" .. crypto.canary("TK", 2000),
        pod_identity_token = crypto.canary("PT", 80),
        kid = crypto.uuid(), kms_key_id = crypto.uuid(),
    }
end

local function env_lines(config)
    local ports, dir = config.ports, config.dir
    local function url(scheme, host, name, path)
        return scheme .. "://" .. host .. ":" .. ports[name] .. (path or "")
    end
    local endpoint = url("https", "localhost", "https")
    return {
        { "CSMS_ENDPOINT", endpoint },
        { "CSMS_CA_FILE", dir .. "/ca.crt" },
        { "CSMS_REGION", config.region },
        { "HUAWEICLOUD_SDK_AK", config.ak },
        { "HUAWEICLOUD_SDK_SK", config.sk },
        { "HUAWEICLOUD_SDK_PROJECT_ID", config.project },
        { "HUAWEICLOUD_SDK_IAM_ENDPOINT", endpoint },
        { "CSMS_METADATA_ENDPOINT", url("http", "127.0.0.1", "metadata") },
        { "EMULATOR_CONTROL", url("http", "127.0.0.1", "control") },
        { "EMULATOR_HTTP1_ENDPOINT", url("https", "localhost", "https1") },
        { "EMULATOR_HTTP_ENDPOINT", url("http", "127.0.0.1", "http") },
        { "EMULATOR_WRONG_HOST_ENDPOINT", url("https", "localhost", "wrong_host") },
        { "EMULATOR_EXPIRED_ENDPOINT", url("https", "localhost", "expired") },
        { "EMULATOR_SELF_SIGNED_ENDPOINT", url("https", "localhost", "self_signed") },
        { "EMULATOR_TLS11_ENDPOINT", url("https", "localhost", "tls11") },
        { "EMULATOR_POD_IDENTITY_URI", url("http", "127.0.0.1", "metadata", "/pod-identity") },
        { "EMULATOR_POD_IDENTITY_TOKEN_FILE", dir .. "/pod-identity-token" },
        { "EMULATOR_TOKEN", config.token },
        { "EMULATOR_DOMAIN", config.domain },
        { "EMULATOR_DOMAIN_ID", config.domain_id },
        { "EMULATOR_USER", config.user },
        { "EMULATOR_PASSWORD", config.password },
        { "EMULATOR_KMS_KEY_ID", config.kms_key_id },
        { "EMULATOR_KID", config.kid },
    }
end

local function write_env(config)
    local lines = {}
    for i, pair in ipairs(env_lines(config)) do lines[i] = pair[1] .. "=" .. pair[2] .. "\n" end
    write(config.dir .. "/env", table.concat(lines))
end

local function prepare(dir, options, ports)
    local config = new_config(dir, options, ports)
    certificates.write(dir)
    certificates.write_blob_key(dir .. "/blob.key")
    write(dir .. "/config.json", json.encode(config))
    write(dir .. "/nginx.conf", conf.text(config))
    write(dir .. "/pod-identity-token", config.pod_identity_token)
    write_env(config)
    return config
end

local function read_config(dir)
    local file = io.open(dir .. "/config.json", "rb") or fail("no instance in " .. dir)
    local config = json.decode(file:read("*a"))
    file:close()
    return config
end

-- nginx inherits the sockets and, having done so, does not go into the background by itself.
local function start_nginx(dir, servers)
    local fds = {}
    for i, server in ipairs(servers) do fds[i] = string.format("%d;", server:getfd()) end
    local quoted = "'" .. dir .. "'"
    os.execute("NGINX='" .. table.concat(fds) .. "' setsid nginx -p " .. quoted .. " -e " .. quoted
        .. "/error.log -c " .. quoted .. "/nginx.conf </dev/null >/dev/null 2>>" .. quoted
        .. "/error.log &")
    for _, server in ipairs(servers) do server:close() end
end

-- The sockets listen already, so one request is enough: it waits in the backlog for the worker.
local function answers(port)
    local client = socket.tcp4()
    client:settimeout(10)
    local ok = client:connect("127.0.0.1", port)
        and client:send("GET /ping HTTP/1.0\r\nHost: localhost\r\n\r\n")
    local line = ok and client:receive("*l")
    client:close()
    return line and line:find(" 200 ", 1, true)
end

local function show_log(dir)
    for line in io.lines(dir .. "/error.log") do io.stderr:write(line, "\n") end
end

local function main()
    local mode, dir = arg[1], arg[2]
    if dir:find("[^%w/._+-]") then
        fail("the folder's name may hold letters, digits and /._+- only: " .. dir)
    end
    local config = mode == "again" and read_config(dir) or nil
    local servers, ports = open_ports(config and config.ports)
    config = config or prepare(dir, read_options(arg), ports)
    start_nginx(dir, servers)
    if not answers(config.ports.control) then
        show_log(dir)
        fail("nginx did not start")
    end
end

main()
