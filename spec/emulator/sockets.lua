-- Breaks TCP connections under nginx's feet. nginx shows a handler no descriptor, so the one of a
-- connection is found by its two ports.
local ffi = require "ffi"

local sockets = {}

ffi.cdef [[
struct emulator_sockaddr { uint16_t family; uint16_t port; uint8_t rest[124]; };
struct emulator_linger { int on; int seconds; };
int getpeername(int fd, void *address, uint32_t *length);
int getsockname(int fd, void *address, uint32_t *length);
int setsockopt(int fd, int level, int name, const void *value, uint32_t length);
int shutdown(int fd, int how);
int connect(int fd, const void *address, uint32_t length);
int kill(int pid, int signal);
int getppid(void);
]]

local C = ffi.C
local AF_UNSPEC, AF_INET = 0, 2
local SOL_SOCKET, SO_LINGER, SHUT_RDWR = 1, 13, 2
local MAX_FD = 8192

local address = ffi.new("struct emulator_sockaddr")
local length = ffi.new("uint32_t[1]")

local function port_of(lookup, fd)
    length[0] = ffi.sizeof(address)
    if lookup(fd, address, length) ~= 0 or address.family ~= AF_INET then return nil end
    local network = address.port
    return (network % 256) * 256 + math.floor(network / 256)
end

-- Calls fn(fd, local port, peer port) for each TCP connection until it answers true.
local function each_connection(fn)
    for fd = 3, MAX_FD do
        local peer = port_of(C.getpeername, fd)
        if peer and fn(fd, port_of(C.getsockname, fd), peer) then return end
    end
end

local function find(server_port, remote_port)
    local found
    each_connection(function(fd, here, peer)
        if here == server_port and peer == remote_port then found = fd end
        return found ~= nil
    end)
    return found
end

function sockets.close(server_port, remote_port)
    local fd = find(server_port, remote_port)
    if fd then C.shutdown(fd, SHUT_RDWR) end
end

-- Connecting to "no address" makes Linux send RST at once, whatever nginx would still like to say;
-- SO_LINGER does the same at close where that is refused.
function sockets.reset(server_port, remote_port)
    local fd = find(server_port, remote_port)
    if not fd then return end
    local linger = ffi.new("struct emulator_linger", 1, 0)
    C.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, ffi.sizeof(linger))
    local nowhere = ffi.new("struct emulator_sockaddr", AF_UNSPEC)
    if C.connect(fd, nowhere, 16) ~= 0 then C.shutdown(fd, SHUT_RDWR) end
end

-- ports: a set of the server's ports. Answers how many connections were cut.
function sockets.close_all(ports)
    local count = 0
    each_connection(function(fd, here)
        if ports[here] then
            C.shutdown(fd, SHUT_RDWR)
            count = count + 1
        end
    end)
    return count
end

function sockets.stop_master()
    local SIGTERM = 15
    C.kill(C.getppid(), SIGTERM)
end

return sockets
