-- One side of an HTTP/2 connection, frame by frame (RFC 9113), so that a case can send
-- what no library would.

local hpack = require "spec.support.hostile.hpack"

local LULL = 0.05 -- seconds
local PREFACE = #"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

local TYPES = {
    data = 0, headers = 1, priority = 2, rst_stream = 3, settings = 4, push_promise = 5,
    ping = 6, goaway = 7, window_update = 8, continuation = 9,
}

local FLAGS = { end_stream = 1, ack = 1, end_headers = 4, padded = 8 }

local SETTINGS = {
    header_table_size = 1, enable_push = 2, max_concurrent_streams = 3,
    initial_window_size = 4, max_frame_size = 5, max_header_list_size = 6,
}

local CODES = {
    no_error = 0, protocol_error = 1, internal_error = 2, flow_control_error = 3,
    refused_stream = 7, cancel = 8, enhance_your_calm = 11, http_1_1_required = 13,
}

local Session = { hpack = hpack }
Session.__index = Session

local function flags_of(flags)
    local sum = 0
    for flag in (flags or ""):gmatch("[%w_]+") do sum = sum + assert(FLAGS[flag], flag) end
    return sum
end

-- ---- frames -----------------------------------------------------------------

--- The bytes of a frame. kind: a name above or a number; flags: names above, or none.
function Session.bytes(kind, flags, stream, payload)
    return string.pack(">I3BBI4", #payload, TYPES[kind] or kind, flags_of(flags), stream)
        .. payload
end

function Session:frame(kind, flags, stream, payload)
    self.peer:send(self.bytes(kind, flags, stream, payload or ""))
end

--- The next frame: its type's number, flags, stream and payload.
-- head: its first nine bytes, where those have been read.
function Session:read_frame(head)
    local length, kind, flags, stream = (">I3BBI4"):unpack(head or self.peer:read(9))
    return kind, flags, stream, length > 0 and self.peer:read(length) or ""
end

function Session.settings_bytes(settings)
    local payload = {}
    for name, value in pairs(settings) do
        payload[#payload + 1] = (">I2I4"):pack(SETTINGS[name], value)
    end
    return Session.bytes("settings", "", 0, table.concat(payload))
end

function Session:settings(settings)
    self.peer:send(self.settings_bytes(settings))
end

--- fields: a header block, or {name, value, name, value ...}; flags: both ends unless said.
function Session:headers(stream, fields, flags)
    local block = {}
    if type(fields) == "string" then block[1] = fields end
    for at = 1, type(fields) == "table" and #fields or 0, 2 do
        block[#block + 1] = hpack.field(fields[at], fields[at + 1])
    end
    self:frame("headers", flags or "end_headers end_stream", stream, table.concat(block))
end

function Session:data(stream, text, flags)
    self:frame("data", flags or "end_stream", stream, text)
end

function Session:reset(stream, code)
    self:frame("rst_stream", "", stream, (">I4"):pack(CODES[code]))
end

--- last: the last stream that is or will be answered.
function Session:goaway(last, code)
    self:frame("goaway", "", 0, (">I4I4"):pack(last, CODES[code or "no_error"]))
end

function Session:ping()
    self:frame("ping", "", 0, "12345678")
end

-- ---- requests ---------------------------------------------------------------

--- Reads the client's preface and sends these settings.
function Session:start(settings)
    self.peer:read(PREFACE)
    self:settings(settings or {})
end

-- Answers what a client expects to be answered.
function Session:_control(kind, flags, payload)
    if flags % 2 == 1 then return end -- an ACK
    if kind == TYPES.settings then self:frame("settings", "ack", 0) end
    if kind == TYPES.ping then self:frame("ping", "ack", 0, payload) end
end

-- What that frame means: the stream whose request it ends, or nil.
function Session:_take(kind, flags, stream, payload)
    if kind == TYPES.headers then
        -- a priority of 5 bytes may come first
        if flags // 32 % 2 == 1 then payload = payload:sub(6) end
        self.names[stream] = (hpack.path(payload) or ""):match("/secrets/([^/]+)/backup$")
    end
    if (kind == TYPES.headers or kind == TYPES.data) and flags % 2 == 1 then
        self.peer.facts.requests = self.peer.facts.requests + 1
        return stream
    end
    self:_control(kind, flags, payload)
end

--- Waits for a whole request: its stream, and the name of its secret or nil.
function Session:request()
    local stream
    repeat stream = self:_take(self:read_frame()) until stream
    return stream, self.names[stream]
end

--- The requests that come until there are `count`, or none has come for a while: an
--- array of their streams, of one at least.
function Session:gather(count)
    local streams = { (self:request()) }
    while #streams < count do
        local head = self.peer:read_within(LULL, 9)
        if not head then break end
        streams[#streams + 1] = self:_take(self:read_frame(head))
    end
    return streams
end

--- The whole right answer to a stream's request.
function Session:answer(stream)
    local body = self.peer.body(self.names[stream])
    self:headers(stream, { ":status", "200", "content-length", tostring(#body) }, "end_headers")
    self:data(stream, body)
end

--- Answers every request as it should be, from now on.
function Session:serve()
    while true do self:answer((self:request())) end
end

--- An HTTP/2 session on that peer.
return function(peer)
    return setmetatable({ peer = peer, names = {} }, Session)
end
