-- What a batch of 60 secrets at 16 at once has to come through whole. The fields of a case
-- are those of http1_cases.lua and http2_cases.lua, and
--   least   how often the server must have done it

-- Answers the requests that are in flight together, up to `count`; before that, or where
-- `act` returns true instead of it, does that to them.
local function gathers(count, act)
    return function(session, peer)
        session:start()
        session:answer((session:request())) -- the first one comes alone
        while true do
            local streams = session:gather(count)
            if not act(session, streams, peer) then
                for _, stream in ipairs(streams) do session:answer(stream) end
            end
        end
    end
end

-- Gives each stream its answer, piece by piece in turn, the last stream first.
local function interleave(session, streams, peer)
    for index = #streams, 1, -1 do
        session:headers(streams[index], { ":status", "200" }, "end_headers")
    end
    local bodies = {}
    for _, stream in ipairs(streams) do bodies[stream] = peer.body(session.names[stream]) end
    local left = #streams
    while left > 0 do
        for index = #streams, 1, -1 do
            local stream = streams[index]
            local body = bodies[stream]
            if body and #body > 7 then
                session:data(stream, body:sub(1, 7), "")
                bodies[stream] = body:sub(8)
            elseif body then
                session:data(stream, body)
                bodies[stream], left = nil, left - 1
            end
        end
    end
    peer:done()
    return true
end

-- Every third stream, twenty times in all.
local function resets(code)
    return gathers(6, function(session, streams, peer)
        for index, stream in ipairs(streams) do
            if index % 3 == 0 and peer:done() <= 20 then
                session:reset(stream, code)
            else
                session:answer(stream)
            end
        end
        return true
    end)
end

-- Does that after the first answer of the first connection, and serves as a good server does.
local function shrinks(act)
    return function(session, peer)
        session:start { max_concurrent_streams = 100 }
        session:answer((session:request()))
        if peer.facts.connections == 1 then
            act(session, peer)
            peer:done()
        end
        session:serve()
    end
end

-- Serves HTTP/1.1, and says that after each answer.
local function adds(text)
    return function(peer)
        while true do
            local name = peer:request()
            peer:done()
            peer:send(peer.answer(name) .. (text or peer.answer(name)))
        end
    end
end

local cases = {
    { name = "goes away after every ten answers", least = 5, serve = function(session, peer)
        session:start()
        local streams = { (session:request()) }
        session:answer(streams[1])
        while #streams < 10 do
            streams[#streams + 1] = session:request()
            if #streams == 10 then
                session:goaway(streams[10])
                peer:done()
            end
            session:answer(streams[#streams])
        end
    end },
    { name = "announces that it goes away, and does", least = 3, serve = gathers(8,
        function(session, streams, peer)
            peer:done()
            session:goaway(2 ^ 31 - 1)
            for _, stream in ipairs(streams) do session:answer(stream) end
            session:goaway(streams[#streams])
            error(peer.GONE, 0)
        end) },
    { name = "goes away and refuses half of what is in flight", least = 3,
        serve = gathers(8, function(session, streams, peer)
            peer:done()
            local half = math.ceil(#streams / 2)
            session:goaway(streams[half])
            for index = 1, half do session:answer(streams[index]) end
            error(peer.GONE, 0)
        end) },
    { name = "goes away with all that is in flight", least = 3,
        serve = gathers(16, function(session, _, peer)
            if peer:done() > 3 then return false end
            session:goaway(0, "internal_error")
            error(peer.GONE, 0)
        end) },
    { name = "goes away, to be left in peace", least = 3,
        serve = gathers(16, function(session, _, peer)
            if peer:done() > 3 then return false end
            session:goaway(0, "enhance_your_calm")
            error(peer.GONE, 0)
        end) },
    { name = "goes away without a word", least = 3,
        serve = gathers(16, function(_, _, peer)
            if peer:done() <= 3 then error(peer.GONE, 0) end
        end) },
    { name = "resets streams by REFUSED_STREAM", least = 15, serve = resets "refused_stream" },
    { name = "resets streams by INTERNAL_ERROR", least = 15, serve = resets "internal_error" },
    { name = "resets streams by ENHANCE_YOUR_CALM", least = 15,
        serve = resets "enhance_your_calm" },
    { name = "resets streams by CANCEL", least = 15, serve = resets "cancel" },
    { name = "allows one stream from now on", least = 1, serve = shrinks(function(session)
        session:settings { max_concurrent_streams = 1 }
    end) },
    { name = "allows no stream for a while", least = 1, serve = shrinks(function(session, peer)
        session:settings { max_concurrent_streams = 0 }
        peer.sleep(0.5)
        session:settings { max_concurrent_streams = 100 }
    end) },
    { name = "takes away windows and tables for a while", least = 1,
        serve = shrinks(function(session, peer)
            session:settings { initial_window_size = 0, header_table_size = 0 }
            peer.sleep(0.1)
            session:settings { initial_window_size = 65535, header_table_size = 4096 }
        end) },
    { name = "pings and changes settings all the time", least = 4,
        serve = gathers(8, function(session, _, peer)
            peer:done()
            for _ = 1, 50 do
                session:ping()
                session:settings { max_concurrent_streams = 100 }
            end
        end) },
    { name = "pushes", least = 3, serve = gathers(16, function(session, streams, peer)
        if peer:done() > 3 then return false end
        session:frame("push_promise", "end_headers", streams[1], "\0\0\0\2\130\134\132")
    end) },
    { name = "answers in another order, piece by piece", least = 4,
        serve = gathers(8, interleave) },
    { name = "sends DATA on streams that have ended", least = 4,
        serve = gathers(8, function(session, streams, peer)
            peer:done()
            for _, stream in ipairs(streams) do
                session:answer(stream)
                session:data(stream, peer.body "another")
            end
            return true
        end) },
    { name = "goes on over HTTP/1.1", least = 40,
        serve = function(session)
            session:start()
            session:answer((session:request()))
            for _, stream in ipairs(session:gather(8)) do session:answer(stream) end
        end,
        serve_later = function(peer)
            while true do
                peer:send(peer.answer((peer:request())))
                peer:done()
            end
        end },
    { name = "closes after every third answer", alpn = "http/1.1", least = 10,
        serve = function(peer)
            for _ = 1, 3 do peer:send(peer.answer((peer:request()))) end
            peer:done()
        end },
    { name = "answers everything twice", alpn = "http/1.1", least = 10, serve = adds() },
    { name = "sends more than it announces", alpn = "http/1.1", least = 10,
        serve = adds '{"secret_blob":"another"}' },
}

for _, case in ipairs(cases) do
    case.name = (case.alpn and "HTTP/1.1 " or "HTTP/2 ") .. case.name
    case.batch, case.scheme, case.alpn, case.timeout = true, "https", case.alpn or "h2", 5
end
return cases
