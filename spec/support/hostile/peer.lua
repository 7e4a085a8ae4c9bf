-- The server's side of one connection, for the coroutine that serves it.

local cqueues = require "cqueues"
local errno = require "cqueues.errno"
local http2 = require "spec.support.hostile.http2"

local PIECE = 65536

local Peer = {}
Peer.__index = Peer

-- How a case ends whose client is gone; every other error is a fault of the case.
Peer.GONE = setmetatable({}, { __tostring = function() return "the client is gone" end })

local function alive(result)
    if not result then error(Peer.GONE, 0) end
    return result
end

-- cqueues raises where a socket is used again after its first error.
local function try(socket, method, ...)
    local good, result, problem = pcall(socket[method], socket, ...)
    return good and result, problem
end

--- Counts that the server has done what its case is about; how often by now.
function Peer:done()
    self.facts.done = (self.facts.done or 0) + 1
    return self.facts.done
end

--- Sends it all, and lets the other connections have their turn.
function Peer:send(text)
    alive(try(self.socket, "xwrite", text, "bn"))
    cqueues.sleep(0)
end

--- Exactly that many bytes.
function Peer:read(count)
    local text = alive(try(self.socket, "xread", count, "b"))
    if #text < count then error(Peer.GONE, 0) end
    return text
end

--- The same, or nil where it has not come after so many seconds.
function Peer:read_within(seconds, count)
    local text, problem = try(self.socket, "xread", count, "b", seconds)
    if problem ~= errno.ETIMEDOUT then return alive(text) end
    self.socket:clearerr("r")
end

--- Sends that again and again for as long as the client listens.
function Peer:flood(text)
    text = text:rep(math.max(1, PIECE // #text))
    while true do self:send(text) end
end

--- Reads a request, says `text`, and then `again` without end.
function Peer:answer_endlessly(text, again)
    self:request()
    self:send(text)
    self:flood(again)
end

--- Sends a byte a second.
function Peer:drip(text)
    for char in text:gmatch(".") do
        self:send(char)
        self.sleep(1)
    end
end

--- Reads, and says nothing, until the client leaves.
function Peer:silence()
    while true do alive(try(self.socket, "xread", -PIECE, "b")) end
end

Peer.sleep = cqueues.sleep

--- Reads an HTTP/1.1 request: the name of its secret or nil, and its body.
function Peer:request()
    local name, length
    repeat
        local line = alive(try(self.socket, "xread", "*L", "b"))
        name = name or line:match("/secrets/([^/]+)/backup ")
        length = length or tonumber(line:lower():match("^content%-length: (%d+)"))
    until line == "\r\n"
    local body = length and length > 0 and self:read(length) or ""
    self.facts.requests = self.facts.requests + 1
    return name, body
end

--- The right body for the secret of that name.
function Peer.body(name)
    return ('{"secret_blob":"blob of %s"}'):format(name)
end

--- The whole right HTTP/1.1 answer, with these further header lines.
function Peer.answer(name, headers)
    local body = Peer.body(name)
    return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s"):format(#body, headers or "", body)
end

--- Agrees on TLS; returns the protocol that was agreed on, if any.
function Peer:start_tls(context)
    alive(try(self.socket, "starttls", context))
    return self.socket:checktls():getAlpnSelected()
end

--- Serves HTTP/1.1 as a good server does.
function Peer:serve()
    while true do self:send(self.answer((self:request()))) end
end

Peer.http2 = http2

--- facts: what the server counts for the case that this connection is of.
function Peer.new(socket, facts)
    socket:setmode("bn", "bn")
    socket:setmaxline(65536)
    return setmetatable({ socket = socket, facts = facts }, Peer)
end

return Peer
