-- A server that misbehaves: a port of loopback for each case (see cases.lua), and one to
-- steer it by. Runs on Lua 5.4:  lua5.4 spec/support/hostile/server.lua DIR
--
-- DIR gets the CA's and the server's certificates. The first line of output holds the
-- ports, the control port last. A line "facts N" on the control connection answers what
-- was counted for case N, as "name=value ..."; "mend N" does too, ends the connections of
-- the case and lets it behave from now on; "drop" ends all connections. The server ends
-- with the control connection.

local certificates = require "spec.emulator.certificates"
local cqueues = require "cqueues"
local files = require "spec.support.files"
local list = require "spec.support.hostile.cases"
local net = require "cqueues.socket"
local Peer = require "spec.support.hostile.peer"
local pkey = require "openssl.pkey"
local ssl_context = require "openssl.ssl.context"
local x509 = require "openssl.x509"

local DIR = assert(arg[1])
local PATIENCE = 30 -- seconds for the control connection to come

local loop = cqueues.new()

-- ---- TLS --------------------------------------------------------------------

certificates.write(DIR)
local certificate = x509.new(files.read(DIR .. "/good.crt"))
local key = pkey.new(files.read(DIR .. "/good.pem"))

local function context_for(protocol)
    local context = ssl_context.new("TLS", true)
    context:setCertificate(certificate)
    context:setPrivateKey(key)
    context:setAlpnSelect(function(_, offered)
        for _, name in ipairs(offered) do
            if name == protocol then return name end
        end
    end)
    return context
end

local contexts = { h2 = context_for("h2"), ["http/1.1"] = context_for("http/1.1") }

-- ---- cases ------------------------------------------------------------------

local function listen()
    local listener = assert(net.listen { host = "127.0.0.1", port = 0 })
    assert(listener:listen())
    local _, _, port = listener:localname()
    return listener, port
end

local function behave(case, peer)
    if case.scheme == "http" then return peer:serve() end
    peer:start_tls(contexts.h2)
    local session = peer:http2()
    session:start()
    session:serve()
end

local function serve(case, peer)
    if case.mended then return behave(case, peer) end
    local later = case.serve_later and case.facts.connections > 1
    local alpn = later and "http/1.1" or case.alpn
    local protocol = alpn and peer:start_tls(contexts[alpn])
    if later then return case.serve_later(peer) end
    if case.alpn ~= "h2" then return case.serve(peer) end
    if protocol ~= "h2" then return peer:serve() end
    case.serve(peer:http2(), peer)
end

local function handle(case, socket)
    local peer = Peer.new(socket, case.facts)
    case.facts.connections = case.facts.connections + 1
    case.peers[peer] = true
    local good, problem = pcall(serve, case, peer)
    if not good and problem ~= Peer.GONE then
        case.facts.faults = (case.facts.faults or 0) + 1
        io.stderr:write(case.name, ": ", tostring(problem), "\n")
    end
    case.peers[peer] = nil
    socket:close()
end

local function open(case)
    local listener, port = listen()
    case.facts, case.peers = { connections = 0, requests = 0 }, {}
    loop:wrap(function()
        for socket in listener:clients() do loop:wrap(handle, case, socket) end
    end)
    return port
end

-- Whoever serves them then finds them closed.
local function drop(case)
    for peer in pairs(case.peers) do peer.socket:shutdown("rw") end
end

-- ---- control ----------------------------------------------------------------

local function facts_of(case)
    local words = {}
    for name, value in pairs(case.facts) do words[#words + 1] = name .. "=" .. value end
    return table.concat(words, " ")
end

local commands = { facts = facts_of }

function commands.mend(case)
    case.mended = true
    drop(case)
    return facts_of(case)
end

function commands.drop()
    for _, case in ipairs(list) do drop(case) end
    return ""
end

local function obey(line)
    local command, index = line:match("^(%l+) ?(%d*)$")
    return commands[command](list[tonumber(index)])
end

local ports = {}
for index, case in ipairs(list) do ports[index] = open(case) end
local control
control, ports[#ports + 1] = listen()
print(table.concat(ports, " "))
io.stdout:flush()

loop:wrap(function()
    local master = control:accept { timeout = PATIENCE } or os.exit(1)
    for line in master:lines("*l") do
        master:xwrite(obey(line) .. "\n", "bn")
    end
    os.exit(0)
end)
assert(loop:loop())
