-- Starts and steers the server that misbehaves (spec/support/hostile/server.lua).

local files = require "spec.support.files"
local list = require "spec.support.hostile.cases"
local socket = require "socket"

local Server = {}
Server.__index = Server

local function command(self, line)
    assert(self.control:send(line .. "\n"))
    return assert(self.control:receive("*l"))
end

function Server:port(case)
    return self.ports[case]
end

local function read_facts(line)
    local facts = {}
    for name, value in line:gmatch("(%w+)=(%d+)") do facts[name] = tonumber(value) end
    return facts
end

--- What was counted for a case: connections, requests, done (where it counts that), and
--- faults of the case itself.
function Server:facts(case)
    return read_facts(command(self, "facts " .. self.index[case]))
end

--- Lets a case behave from now on; what was counted until then.
function Server:mend(case)
    return read_facts(command(self, "mend " .. self.index[case]))
end

--- Ends all connections.
function Server:drop()
    command(self, "drop")
end

function Server:stop()
    self.control:close()
    self.pipe:close()
    files.remove(self.dir)
end

local M = { cases = list, good = list[1] }

function M.start()
    local self = setmetatable({ ports = {}, index = {} }, Server)
    self.dir = files.temporary()
    self.ca_file = self.dir .. "/ca.crt"
    self.pipe = assert(io.popen("exec lua5.4 spec/support/hostile/server.lua "
        .. files.quote(self.dir)))
    local ports = {}
    for port in assert(self.pipe:read("*l")):gmatch("%d+") do ports[#ports + 1] = port end
    for index, case in ipairs(list) do
        self.ports[case], self.index[case] = ports[index], index
    end
    self.control = assert(socket.connect("127.0.0.1", ports[#list + 1]))
    self.control:settimeout(30)
    return self
end

return M
