-- A proxy's answers to CONNECT. As in http1_cases.lua; the request that is read is CONNECT.

local SHORT = 0.3
local FILLER = ("x"):rep(1000)
local REFUSED = "HTTP/1.1 407 Proxy Authentication Required\r\n"

local function floods(text, again)
    return function(peer) peer:answer_endlessly(text, again) end
end

local cases = {
    { name = "refuses with a body without end",
        serve = floods(REFUSED .. "Content-Length: 1000000000000000\r\n\r\n", FILLER),
        kind = "timeout", retryable = true },
    { name = "refuses with chunks without end",
        serve = floods(REFUSED .. "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        kind = "timeout", retryable = true },
    { name = "sends headers without end",
        serve = floods("HTTP/1.1 200 OK\r\n", "X-Filler: " .. FILLER .. "\r\n"),
        kind = { "network", "timeout" }, retryable = true },
    { name = "sends a header without end",
        serve = floods("HTTP/1.1 200 OK\r\nX-Filler: ", FILLER),
        kind = { "network", "timeout" }, retryable = true },
    { name = "says nothing", serve = function(peer) peer:silence() end,
        kind = "timeout", retryable = true },
}

for _, case in ipairs(cases) do
    case.scheme, case.timeout, case.proxy = "http", SHORT, true
end
return cases
