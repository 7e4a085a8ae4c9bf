-- Answers over HTTP/1.1, and ends of connections before there is one. A case:
--   name       what the server does
--   serve      function(peer), for each connection
--   kind       of the error: a name, or an array where libcurl's version decides;
--              without it the answer is right and the blob must come
--   retryable  whether that error is
--   message    words of it
--   upload     bytes of a blob to restore; without it a secret is backed up
--   once       a backup comes first, over a connection that is kept; the upload must come once
--   timeout    seconds of the one attempt
--   scheme     "http" unless said; alpn: the server speaks TLS and that protocol
--   later      the server says more after its answer, which the next call must not take

local files = require "spec.support.files"

local PATIENCE = 5
local SHORT = 0.3

local OK = "HTTP/1.1 200 OK\r\n"
local CHUNKED = OK .. "Transfer-Encoding: chunked\r\n\r\n"
local FILLER = ("x"):rep(1000)

-- Reads a request, says that, and ends the connection.
local function says(text)
    return function(peer)
        local name = peer:request()
        peer:send((text:gsub("BODY", function() return peer.body(name) end)))
    end
end

local function floods(text, again)
    return function(peer) peer:answer_endlessly(text, again) end
end

local function drips(text, slowly)
    return function(peer)
        peer:request()
        peer:send(text)
        peer:drip(slowly:rep(20))
    end
end

-- 16 MiB of zeros: what takes memory once somebody inflates it.
local function bomb(headers, command, skip_head, skip_tail)
    return function(peer)
        peer:request()
        local body = files.output_of("head -c 16777216 /dev/zero | " .. command)
        body = body:sub(1 + (skip_head or 0), -1 - (skip_tail or 0))
        peer:send(OK .. headers .. "\r\n")
        if headers:find "chunked" then body = ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body) end
        peer:send(body)
    end
end

-- 64 MiB of zeros by brotli, which is seldom installed.
local BROTLI = ("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfb3f"
    .. "feffffc13f0110870500baf77ffcffff837f02200e0b0074effff8ffff07ff04401c1600e8defff1ffff0ffe"
    .. "0980382c00d0bdffcbffff3ffc1300715800a07bff07"):gsub("..", function(digits)
        return string.char(tonumber(digits, 16))
    end)

local cases = {
    -- no answer at all
    { name = "closes at once", serve = function() end, kind = "network", retryable = true },
    { name = "ends within the status line", serve = says "HTTP/1.1 20", kind = "network",
        retryable = true },
    { name = "ends within the blank line", serve = says(OK .. "\r"), kind = "network",
        retryable = true },
    { name = "ends within a chunk's size",
        serve = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1"), kind = "network",
        retryable = true },
    { name = "ends after an interim answer", serve = says "HTTP/1.1 100 Continue\r\n\r\n",
        kind = "network", retryable = true },

    -- without end
    { name = "sends blank lines without end", serve = floods("", "\r\n"), kind = "network",
        retryable = true },
    { name = "sends a reason without end", serve = floods("HTTP/1.1 200 ", FILLER),
        kind = "protocol", retryable = false, message = "headers" },
    { name = "sends headers without end", serve = floods(OK, "X-Filler: " .. FILLER .. "\r\n"),
        kind = "protocol", retryable = false, message = "headers" },
    { name = "sends a header without end", serve = floods(OK .. "X-Filler: ", FILLER),
        kind = "protocol", retryable = false, message = "headers" },
    { name = "folds a header without end",
        serve = floods(OK .. "X-Filler: a\r\n", " " .. FILLER .. "\r\n"),
        kind = "protocol", retryable = false, message = "headers" },
    { name = "sends interim answers without end",
        serve = floods("", "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"),
        kind = "protocol", retryable = false, message = "headers" },
    { name = "sends bare interim answers without end",
        serve = floods("", "HTTP/1.1 100 Continue\r\n\r\n"),
        kind = "protocol", retryable = false, message = "headers" },
    { name = "sends a body without end", serve = floods(OK .. "\r\n", FILLER),
        kind = "protocol", retryable = false, message = "max_response" },
    { name = "announces an exabyte",
        serve = floods(OK .. "Content-Length: 1000000000000000000\r\n\r\n", FILLER),
        kind = "protocol", retryable = false, message = "max_response" },
    { name = "sends chunks of one byte without end", serve = floods(CHUNKED, "1\r\nx\r\n"),
        kind = "protocol", retryable = false, message = "max_response" },
    { name = "extends a chunk without end", serve = floods(CHUNKED .. "1;", FILLER),
        kind = { "network", "timeout" }, retryable = true, timeout = SHORT },
    { name = "sends trailers without end",
        serve = floods(CHUNKED .. "0\r\n", "X-Filler: " .. FILLER .. "\r\n"),
        kind = "protocol", retryable = false },

    -- slowly
    { name = "drips its headers", serve = drips(OK, "X-Filler: x\r\n"),
        kind = "timeout", retryable = true, timeout = SHORT },
    { name = "drips its body", serve = drips(OK .. "Content-Length: 100\r\n\r\n", "x"),
        kind = "timeout", retryable = true, timeout = SHORT },
    { name = "drips a chunk's size", serve = drips(CHUNKED, "0"),
        kind = "timeout", retryable = true, timeout = SHORT },
    { name = "says nothing", serve = function(peer) peer:silence() end,
        kind = "timeout", retryable = true, timeout = SHORT },
    { name = "announces more than it sends", kind = "timeout", retryable = true, timeout = SHORT,
        serve = function(peer)
            peer:request()
            peer:send(OK .. "Content-Length: 10000\r\n\r\n{")
            peer:silence()
        end },

    -- what inflates; nobody asked for it
    { name = "bombs by gzip", serve = bomb("Content-Encoding: gzip\r\n", "gzip -9"),
        kind = "protocol", retryable = true, message = "not JSON" },
    { name = "bombs by deflate", serve = bomb("Content-Encoding: deflate\r\n", "gzip -9", 10, 8),
        kind = "protocol", retryable = true, message = "not JSON" },
    { name = "bombs by gzip within gzip",
        serve = bomb("Content-Encoding: gzip, gzip\r\n", "gzip -9 | gzip -9"),
        kind = "protocol", retryable = true, message = "not JSON" },
    { name = "bombs by br", serve = says(OK .. "Content-Encoding: br\r\n\r\n" .. BROTLI),
        kind = "protocol", retryable = true, message = "not JSON" },
    -- libcurl inflates this one, asked for or not
    { name = "bombs by a transfer encoding",
        serve = bomb("Transfer-Encoding: gzip, chunked\r\n", "gzip -9"),
        kind = { "protocol", "network" } },

    -- lengths
    { name = "announces less than it sends", serve = says(OK .. "Content-Length: 10\r\n\r\nBODY"),
        kind = "protocol", retryable = true, message = "not JSON" },
    { name = "announces two lengths",
        serve = says(OK .. "Content-Length: 10\r\nContent-Length: 12\r\n\r\nBODY"),
        kind = { "protocol", "network" }, retryable = true },
    { name = "announces a length and chunks",
        serve = says(OK .. "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            .. "2\r\n{}\r\n0\r\n\r\n"),
        kind = "protocol", retryable = false, message = "secret_blob" },
    { name = "announces a length beyond all integers",
        serve = says(OK .. "Content-Length: 99999999999999999999999\r\n\r\nBODY"),
        kind = { "none", "protocol", "network" } },
    { name = "announces a chunk beyond all integers",
        serve = says(CHUNKED .. "fffffffffffffffff\r\nBODY"), kind = "network", retryable = true },
    { name = "announces a chunk of less than nothing", serve = says(CHUNKED .. "-5\r\nBODY"),
        kind = "network", retryable = true },
    { name = "sends a chunk without a size", serve = says(CHUNKED .. "\r\nBODY\r\n0\r\n\r\n"),
        kind = "network", retryable = true },
    { name = "sends more than the chunk holds", serve = says(CHUNKED .. "2\r\nBODY\r\n0\r\n\r\n"),
        kind = "network", retryable = true },

    -- status lines
    { name = "has a status of two digits", serve = says "HTTP/1.1 99 Odd\r\n\r\nBODY",
        kind = "network", retryable = true },
    { name = "has a status of four digits", serve = says "HTTP/1.1 1000 Odd\r\n\r\nBODY",
        kind = "network", retryable = true },
    { name = "has a status of zeros", serve = says "HTTP/1.1 000 Odd\r\n\r\nBODY",
        kind = { "network", "protocol" } },
    { name = "has a status of 600", serve = says "HTTP/1.1 600 Odd\r\n\r\nBODY",
        kind = "service", retryable = true },
    { name = "has no blank in its status line", serve = says "HTTP/1.1200 OK\r\n\r\nBODY",
        kind = "network", retryable = true },
    { name = "speaks HTTP/9.9", serve = says "HTTP/9.9 200 OK\r\n\r\nBODY",
        kind = "network", retryable = true },
    { name = "says that it speaks HTTP/2", serve = says "HTTP/2 200 OK\r\n\r\nBODY",
        kind = { "none", "network" } },
    { name = "speaks ICY", serve = says "ICY 200 OK\r\n\r\nBODY", kind = "network",
        retryable = true },
    { name = "switches protocols",
        serve = says "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nBODY",
        kind = { "network", "protocol" } },
    { name = "puts a NUL into a header", serve = says(OK .. "X-Odd: a\0b\r\n\r\nBODY"),
        kind = { "network", "protocol" } },
    { name = "begins with a body", serve = says "BODY", kind = "network", retryable = true },

    -- odd, but answers
    { name = "speaks HTTP/1.0 and closes", serve = says "HTTP/1.0 200 OK\r\n\r\nBODY" },
    { name = "speaks HTTP/1.0 and keeps the connection", serve = function(peer)
        for _ = 1, 2 do
            local body = peer.body((peer:request()))
            peer:send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: "
                .. #body .. "\r\n\r\n" .. body)
        end
    end },
    { name = "ends lines by LF alone", serve = says "HTTP/1.1 200 OK\nX-Odd: 1\n\nBODY" },
    { name = "gives no reason", serve = says "HTTP/1.1 200\r\n\r\nBODY" },
    { name = "sends trailers", serve = function(peer)
        local body = peer.body((peer:request()))
        peer:send(CHUNKED .. ("%x\r\n%s\r\n0\r\nX-Odd: 1\r\nX-More: 2\r\n\r\n"):format(#body, body))
        peer:silence()
    end },
    { name = "answers before it has read the request", serve = function(peer)
        peer:send(peer.answer "first")
        peer:silence()
    end },
    { name = "refuses an upload that it has not read", upload = 262144,
        kind = { "rejected", "network" }, serve = function(peer)
            peer:send('HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}')
        end },
    { name = "closes after an upload", upload = 1000, kind = "network", retryable = true,
        once = true, serve = function(peer)
            local name = peer:request()
            while name do
                peer:send(peer.answer(name))
                name = peer:request()
            end
        end },
    { name = "never reads an upload", upload = 8 * 1024 * 1024, kind = "timeout", retryable = true,
        timeout = SHORT, serve = function(peer) peer.sleep(10) end },
}

-- Serves well, but says more a moment after each answer.
local function adds_later(text)
    return function(peer)
        while true do
            peer:send(peer.answer((peer:request())))
            peer.sleep(0.05)
            peer:send(text or peer.answer "another")
            peer:done()
        end
    end
end

for _, alpn in ipairs { false, "http/1.1" } do
    local scheme = alpn and "https" or "http"
    for _, case in ipairs {
        { name = "says more after its answer", serve = adds_later "x" },
        { name = "answers again after its answer", serve = adds_later() },
        { name = "times out after its answer",
            serve = adds_later "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n" },
    } do
        case.name = ("%s (%s)"):format(case.name, scheme)
        case.scheme, case.alpn, case.later = scheme, alpn or nil, true
        cases[#cases + 1] = case
    end
end

-- ---- TLS, as far as the emulator's ports have no case of it (spec/http_spec.lua) ----

-- A record of the handshake that holds a message of such a length.
local function server_hello(announced)
    return "\22\3\3\0\68\2" .. announced .. "\3\3" .. ("r"):rep(62)
end

-- Reads the client's first record, says that, and goes on as `after` does.
local function shakes(text, after)
    return function(peer)
        local head = peer:read(5)
        peer:read(head:byte(4) * 256 + head:byte(5))
        peer:send(text)
        if after then after(peer) end
    end
end

local function silence(peer) peer:silence() end

for _, case in ipairs {
    { name = "closes before TLS", serve = function() end, kind = "tls", retryable = true },
    { name = "closes within TLS", serve = shakes(server_hello("\0\0\80")), kind = "tls",
        retryable = true },
    { name = "refuses by an alert", serve = shakes "\21\3\3\0\2\2\40", kind = "tls",
        retryable = true },
    { name = "warns without end within TLS", kind = "tls", retryable = true,
        serve = shakes("", function(peer) peer:flood("\21\3\3\0\2\1\100") end) },
    { name = "announces a handshake of 16 MiB", kind = "tls", retryable = true,
        serve = shakes(server_hello("\255\255\255"), function(peer)
            peer:flood("\22\3\3\64\0" .. ("r"):rep(16384))
        end) },
    { name = "sends a record that is none", kind = "tls", retryable = true,
        serve = shakes("\22\3\3\255\255" .. ("r"):rep(70000)) },
    { name = "says nothing within TLS", serve = shakes("", silence), kind = "timeout",
        retryable = true, timeout = SHORT },
    { name = "drips its handshake", kind = "timeout", retryable = true, timeout = SHORT,
        serve = shakes("", function(peer) peer:drip(server_hello("\0\0\80")) end) },
    { name = "closes after TLS", alpn = "http/1.1", serve = function() end, kind = "network",
        retryable = true },
    { name = "sends a body without end in TLS", alpn = "http/1.1",
        serve = floods(OK .. "\r\n", FILLER),
        kind = "protocol", retryable = false, message = "max_response" },
} do
    case.scheme = "https"
    cases[#cases + 1] = case
end

for _, case in ipairs(cases) do
    case.name = "HTTP/1.1 " .. case.name
    case.scheme = case.scheme or "http"
    case.timeout = case.timeout or PATIENCE
end
return cases
