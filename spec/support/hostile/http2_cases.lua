-- Answers over HTTP/2; the fields of a case are those of http1_cases.lua, but for
--   serve         function(session, peer), see http2.lua
--   serve_later   function(peer): serves the connections after the first, over HTTP/1.1

local PATIENCE = 5
local SHORT = 0.3

local FILLER = ("x"):rep(1000)
local STATUS = { ":status", "200" }

-- Takes a request, does that on its stream, and then listens.
local function does(act, settings)
    return function(session, peer)
        session:start(settings)
        local stream, name = session:request()
        act(session, stream, peer, name)
        peer:silence()
    end
end

-- Takes a request, does `act` on its stream, and sends the bytes of `again` without end.
local function floods(act, again)
    return does(function(session, stream, peer)
        act(session, stream)
        peer:flood(again(session, stream))
    end)
end

local function nothing() end

local function open_answer(session, stream)
    session:headers(stream, STATUS, "end_headers")
end

-- Sends a header block that is one field.
local function field(name, value)
    return does(function(session, stream, peer, secret)
        session:headers(stream, { ":status", "200", name, value }, "end_headers")
        session:data(stream, peer.body(secret))
    end)
end

local function status(text)
    return does(function(session, stream, peer, secret)
        session:headers(stream, { ":status", text }, "end_headers")
        session:data(stream, peer.body(secret))
    end)
end

local function resets(code)
    return does(function(session, stream) session:reset(stream, code) end)
end

local function goes_away(last, code)
    return does(function(session) session:goaway(last, code) end)
end

-- Answers backups, and does that to anything else.
local function meets_upload(act)
    return function(session, peer)
        session:start()
        while true do
            local stream, name = session:request()
            if name then session:answer(stream) else act(session, stream, peer) end
        end
    end
end

-- Answers, but sends a frame that must not be first.
local function slips_in(kind, flags, stream, payload)
    return does(function(session, request)
        session:frame(kind, flags, stream or request, payload)
        session:answer(request)
    end)
end

-- One answer, and the end of its side of the connection: closed with something unread,
-- it would be reset, and the answer lost.
local function answers_once(session, peer)
    session:start()
    session:answer((session:request()))
    peer.socket:shutdown "w"
    peer:silence()
end

local cases = {
    -- before and around the answer
    { name = "goes on over HTTP/1.1", once = true, serve = answers_once,
        serve_later = function(peer) peer:serve() end },
    -- This line made libcurl write to memory that it had freed.
    { name = "goes on over HTTP/1.1 with a folded first header", once = true,
        serve = answers_once, kind = { "network", "none" },
        serve_later = function(peer)
            local answer = peer.answer((peer:request()))
            peer:send((answer:gsub("\r\n", "\r\n folded: line\r\n", 1)))
        end },
    { name = "speaks HTTP/1.1", serve = function(_, peer)
        peer:read(24)
        peer:send(peer.answer "x")
        peer:silence()
    end, kind = "network", retryable = true },
    { name = "closes after TLS", serve = nothing, kind = "network", retryable = true },
    { name = "closes after an upload", upload = 1000, kind = "network", retryable = true,
        once = true, serve = meets_upload(function(_, _, peer) error(peer.GONE, 0) end) },
    { name = "resets an upload", upload = 1000, kind = "network", retryable = true,
        once = true, serve = meets_upload(function(session, stream)
            session:reset(stream, "internal_error")
        end) },
    { name = "goes away over an upload", upload = 1000, kind = "network", retryable = true,
        once = true, serve = meets_upload(function(session, stream, peer)
            session:goaway(stream, "internal_error")
            error(peer.GONE, 0)
        end) },
    { name = "goes away and has not touched an upload", upload = 1000, kind = "network",
        retryable = true, serve = meets_upload(function(session)
            session:goaway(0, "internal_error")
        end) },
    { name = "closes after its settings", serve = function(session) session:start() end,
        kind = "network", retryable = true },
    { name = "closes after the request", serve = function(session)
        session:start()
        session:request()
    end, kind = "network", retryable = true },
    { name = "closes after its headers", serve = function(session)
        session:start()
        open_answer(session, (session:request()))
    end, kind = "network", retryable = true },
    { name = "closes within a frame", serve = function(session, peer)
        session:start()
        local stream = session:request()
        open_answer(session, stream)
        peer:send(session.bytes("data", "end_stream", stream, FILLER):sub(1, 500))
    end, kind = "network", retryable = true },
    { name = "answers before its settings", kind = "network", retryable = true,
        serve = function(session, peer)
            peer:read(24)
            session:answer((session:request()))
            peer:silence()
        end },
    { name = "says nothing", serve = function(session, peer)
        session:start()
        peer:silence()
    end, kind = "timeout", retryable = true, timeout = SHORT },
    { name = "drips its frames", kind = "timeout", retryable = true, timeout = SHORT,
        serve = does(function(session, stream, peer)
            peer:drip(session.bytes("headers", "end_headers", stream, "\136"):rep(2))
        end) },
    { name = "drips its body", kind = "timeout", retryable = true, timeout = SHORT,
        serve = does(function(session, stream, peer)
            open_answer(session, stream)
            while true do
                session:data(stream, "x", "")
                peer.sleep(1)
            end
        end) },

    -- RST_STREAM and GOAWAY
    { name = "resets by REFUSED_STREAM", serve = resets "refused_stream", kind = "network",
        retryable = true },
    { name = "resets by INTERNAL_ERROR", serve = resets "internal_error", kind = "network",
        retryable = true },
    { name = "resets by ENHANCE_YOUR_CALM", serve = resets "enhance_your_calm", kind = "network",
        retryable = true },
    { name = "resets by CANCEL", serve = resets "cancel", kind = "network", retryable = true },
    { name = "resets by NO_ERROR", serve = resets "no_error", kind = "network",
        retryable = true },
    { name = "asks for HTTP/1.1, and then speaks it", serve = resets "http_1_1_required" },
    { name = "resets within the body", kind = "network", retryable = true,
        serve = does(function(session, stream)
            open_answer(session, stream)
            session:data(stream, '{"secret_blob":"x"}', "")
            session:reset(stream, "internal_error")
        end) },
    { name = "resets by NO_ERROR within the body", kind = { "none", "network" },
        serve = does(function(session, stream)
            open_answer(session, stream)
            session:data(stream, '{"secret_blob":"blob of first"}', "")
            session:reset(stream, "no_error")
        end) },
    { name = "resets the stream before it answers", serve = does(function(session, stream)
        session:reset(stream, "cancel")
        session:answer(stream)
    end), kind = "network", retryable = true },
    { name = "goes away and refuses the stream", serve = goes_away(0), kind = "network",
        retryable = true },
    { name = "goes away, to be left in peace", serve = goes_away(0, "enhance_your_calm"),
        kind = "network", retryable = true },
    { name = "goes away without an answer", serve = function(session)
        session:start()
        session:goaway((session:request()), "internal_error")
    end, kind = "network", retryable = true },
    { name = "goes away before the request", serve = function(session, peer)
        session:start()
        session:goaway(0)
        peer:silence()
    end, kind = "network", retryable = true },
    { name = "goes away and answers", serve = does(function(session, stream)
        session:goaway(stream)
        session:answer(stream)
    end) },
    { name = "goes away without end", kind = { "network", "timeout" }, retryable = true,
        timeout = SHORT,
        serve = floods(nothing, function(session, stream)
            return session.bytes("goaway", "", 0, (">I4I4"):pack(stream, 0))
        end) },

    -- without end
    { name = "sends a header block without end", kind = { "network", "protocol" },
        serve = floods(function(session, stream)
            session:headers(stream, STATUS, "")
        end, function(session, stream)
            return session.bytes("continuation", "", stream,
                session.hpack.field("x-filler", FILLER))
        end) },
    { name = "continues with nothing without end", kind = { "network", "timeout" },
        retryable = true, timeout = SHORT,
        serve = floods(function(session, stream)
            session:headers(stream, STATUS, "")
        end, function(session, stream) return session.bytes("continuation", "", stream, "") end) },
    { name = "sends a header block that inflates", kind = { "network", "protocol" },
        serve = does(function(session, stream)
            local block = "\136" .. session.hpack.indexed_field("x-filler", ("x"):rep(4000))
            session:headers(stream, block .. ("\190"):rep(10000), "end_headers end_stream")
        end) },
    { name = "sends interim answers without end", kind = { "protocol", "network" },
        serve = floods(nothing, function(session, stream)
            return session.bytes("headers", "end_headers", stream,
                session.hpack.field(":status", "103") .. session.hpack.field("link", "</x>"))
        end) },
    { name = "sends a body without end", kind = "protocol", retryable = false,
        message = "max_response",
        serve = floods(open_answer, function(session, stream)
            return session.bytes("data", "", stream, FILLER)
        end) },
    { name = "sends empty pieces of a body without end", kind = { "network", "timeout" },
        retryable = true, timeout = SHORT,
        serve = floods(open_answer, function(session, stream)
            return session.bytes("data", "", stream, "")
        end) },
    { name = "sends padding alone without end", kind = { "network", "timeout" },
        retryable = true, timeout = SHORT,
        serve = floods(open_answer, function(session, stream)
            return session.bytes("data", "padded", stream, "\255" .. ("\0"):rep(255))
        end) },
    { name = "pings without end", kind = { "network", "timeout" }, retryable = true,
        timeout = SHORT,
        serve = floods(nothing, function(session)
            return session.bytes("ping", "", 0, "12345678")
        end) },
    { name = "answers pings of nobody without end", kind = { "network", "timeout" },
        retryable = true, timeout = SHORT,
        serve = floods(nothing, function(session)
            return session.bytes("ping", "ack", 0, "12345678")
        end) },
    { name = "sends settings without end", kind = { "network", "timeout" }, retryable = true,
        timeout = SHORT,
        serve = floods(nothing, function(session)
            return session.settings_bytes { max_concurrent_streams = 100 }
        end) },
    { name = "resets a stream without end", kind = { "network", "timeout" }, retryable = true,
        timeout = SHORT,
        serve = floods(nothing, function(session, stream)
            return session.bytes("rst_stream", "", stream, (">I4"):pack(2))
        end) },
    { name = "widens the window without end", kind = { "network", "timeout" }, retryable = true,
        timeout = SHORT,
        serve = floods(nothing, function(session, stream)
            return session.bytes("window_update", "", stream, (">I4"):pack(1))
        end) },
    { name = "sends frames of an unknown type without end", kind = { "network", "timeout" },
        retryable = true, timeout = SHORT,
        serve = floods(nothing, function(session)
            return session.bytes(200, "", 0, FILLER)
        end) },
    { name = "gives priorities without end", kind = { "network", "timeout" }, retryable = true,
        timeout = SHORT,
        serve = floods(nothing, function(session, stream)
            return session.bytes("priority", "", stream, "\0\0\0\0\16")
        end) },

    -- thousands of records that bring the answer no further, but not in one call of libcurl's
    { name = "pings for some seconds and answers", timeout = 20,
        serve = does(function(session, stream, peer)
            for _ = 1, 40 do
                for _ = 1, 100 do session:ping() end
                peer.sleep(0.1)
            end
            session:answer(stream)
        end) },

    -- settings
    { name = "allows no stream", kind = "timeout", retryable = true, timeout = SHORT,
        serve = function(session, peer)
            session:start { max_concurrent_streams = 0 }
            peer:silence()
        end },
    { name = "gives no window", upload = 262144, kind = "timeout", retryable = true,
        timeout = SHORT, serve = function(session, peer)
            session:start { initial_window_size = 0 }
            peer:silence()
        end },
    { name = "gives a window of a byte", upload = 262144, kind = "timeout",
        retryable = true, timeout = SHORT, serve = function(session, peer)
            session:start { initial_window_size = 1 }
            while true do
                local kind, _, stream = session:read_frame()
                if kind == 0 then session:frame("window_update", "", stream, "\0\0\0\1") end
                peer.sleep(0.01)
            end
        end },
    { name = "has a window beyond the limit", kind = "network", retryable = true,
        serve = does(nothing, { initial_window_size = 2 ^ 31 }) },
    { name = "has frames below the limit", kind = "network", retryable = true,
        serve = does(nothing, { max_frame_size = 100 }) },
    { name = "has settings that are cut", kind = "network", retryable = true,
        serve = slips_in("settings", "", 0, "\0\3\0\0\0") },
    { name = "has settings of a stream", kind = "network", retryable = true,
        serve = slips_in("settings", "", 1, "") },
    { name = "has settings that nobody knows", serve = slips_in("settings", "", 0,
        "\170\170\1\2\3\4") },
    { name = "takes no compression", serve = does(function(session, stream)
        session:answer(stream)
    end, { header_table_size = 0 }) },

    -- frames that are wrong
    { name = "pushes", kind = "network", retryable = true,
        serve = slips_in("push_promise", "end_headers", nil, "\0\0\0\2\130\134\132") },
    { name = "sends DATA before HEADERS", kind = "network", retryable = true,
        serve = does(function(session, stream, peer, name)
            session:data(stream, peer.body(name))
        end) },
    { name = "sends DATA on a stream that is idle", kind = "network", retryable = true,
        serve = slips_in("data", "", 99, "x") },
    { name = "sends DATA on no stream", kind = "network", retryable = true,
        serve = slips_in("data", "", 0, "x") },
    { name = "sends HEADERS on a stream of its own", kind = "network", retryable = true,
        serve = slips_in("headers", "end_headers", 2, "\136") },
    { name = "sends a CONTINUATION of nothing", kind = "network", retryable = true,
        serve = slips_in("continuation", "end_headers", nil, "\136") },
    { name = "breaks into a header block", kind = "network", retryable = true,
        serve = does(function(session, stream)
            session:headers(stream, STATUS, "")
            session:ping()
        end) },
    { name = "pads more than there is", kind = "network", retryable = true,
        serve = slips_in("data", "padded", nil, "\200x") },
    { name = "widens the window by nothing", kind = "network", retryable = true,
        serve = slips_in("window_update", "", 0, "\0\0\0\0") },
    { name = "widens the window beyond the limit", kind = "network", retryable = true,
        serve = slips_in("window_update", "", 0, "\127\255\255\255") },
    { name = "sends a frame of 16 MiB", kind = "network", retryable = true,
        serve = does(function(_, stream, peer)
            peer:send("\255\255\255\0\0" .. (">I4"):pack(stream))
            peer:flood(FILLER)
        end) },
    { name = "sends a ping of nine bytes", kind = "network", retryable = true,
        serve = slips_in("ping", "", 0, "123456789") },
    { name = "sends frames of an unknown type", serve = slips_in(200, "", nil, FILLER) },

    -- header blocks that are wrong
    { name = "names an index that is none", kind = "network", retryable = true,
        serve = does(function(session, stream) session:headers(stream, "\255\255\255\15") end) },
    { name = "cuts a header block", kind = "network", retryable = true,
        serve = does(function(session, stream) session:headers(stream, "\136\0\20abc") end) },
    { name = "has a table beyond the limit", kind = "network", retryable = true,
        serve = does(function(session, stream)
            session:headers(stream, "\63\255\255\255\7\136")
        end) },
    { name = "has no status", kind = "network", retryable = true,
        serve = does(function(session, stream) session:headers(stream, { "x-odd", "1" }) end) },
    { name = "has two statuses", kind = "network", retryable = true,
        serve = field(":status", "404") },
    { name = "has a status that is none", serve = status "abc", kind = "network",
        retryable = true },
    { name = "has a status of two digits", serve = status "99", kind = "network",
        retryable = true },
    { name = "has a status of four digits", serve = status "1000", kind = "network",
        retryable = true },
    { name = "switches protocols", serve = status "101", kind = "network", retryable = true },
    { name = "has upper case in a name", serve = field("X-Odd", "1"), kind = "network",
        retryable = true },
    { name = "has a header of the connection", serve = field("connection", "close"),
        kind = "network", retryable = true },
    { name = "has a line break in a header", kind = "network", retryable = true,
        serve = field("x-odd", "1\r\nx-evil: 2") },
    { name = "encodes as gzip what is not", serve = field("content-encoding", "gzip") },

    -- lengths
    { name = "announces more than it sends", serve = field("content-length", "1000"),
        kind = "network", retryable = true },
    { name = "announces less than it sends", serve = field("content-length", "10"),
        kind = "network", retryable = true },
    { name = "announces a length that is none", serve = field("content-length", "-1"),
        kind = "network", retryable = true },
    { name = "announces two lengths", kind = "network", retryable = true,
        serve = does(function(session, stream, peer, name)
            session:headers(stream, { ":status", "200", "content-length", "10",
                "content-length", tostring(#peer.body(name)) }, "end_headers")
            session:data(stream, peer.body(name))
        end) },

    -- odd, but answers
    { name = "sends trailers", serve = does(function(session, stream, peer, name)
        open_answer(session, stream)
        session:data(stream, peer.body(name), "")
        session:headers(stream, { "x-odd", "1" })
    end) },
    { name = "sends DATA after the end", serve = does(function(session, stream)
        session:answer(stream)
        for _ = 1, 3 do session:data(stream, FILLER, "") end
    end) },
    { name = "resets by NO_ERROR after the end", serve = does(function(session, stream)
        session:answer(stream)
        session:reset(stream, "no_error")
    end) },
    { name = "refuses an upload that it has not read", upload = 262144,
        kind = { "rejected", "network" }, serve = function(session, peer)
            session:start()
            local kind, _, stream
            repeat kind, _, stream = session:read_frame() until kind == 1
            session:headers(stream, { ":status", "413" })
            session:reset(stream, "no_error")
            peer:silence()
        end },
}

for _, case in ipairs(cases) do
    case.name = "HTTP/2 " .. case.name
    case.scheme, case.alpn = "https", "h2"
    case.timeout = case.timeout or PATIENCE
end
return cases
