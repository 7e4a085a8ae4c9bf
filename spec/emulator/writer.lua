-- Puts an answer on the wire, whole or spoilt.
local sockets = require "spec.emulator.sockets"

local writer = {}

-- nginx's own status for "say nothing more": over HTTP/2 the stream is reset, over HTTP/1.1 the
-- connection ends.
local DROP = 444
local CHUNK = ("A"):rep(65536)
-- A client that learns of a broken connection while it writes may not read what had come before.
local SETTLE = 0.05

local function cut(how)
    local here, peer = tonumber(ngx.var.server_port), tonumber(ngx.var.remote_port)
    if how == "connection" then sockets.close(here, peer) end
    if how == "reset" then sockets.reset(here, peer) end
    return ngx.exit(DROP)
end

local function start(answer, length)
    ngx.status = answer.status
    for name, value in pairs(answer.headers) do ngx.header[name] = value end
    if answer.status ~= 204 and answer.status ~= 304 then ngx.header["Content-Length"] = length end
end

-- A JSON object of exactly that many bytes, never held in memory as a whole. Answers whether the
-- first `stop` bytes went out.
local function stream(size, stop)
    local head, tail = '{"secret_blob":"', '"}'
    local filler = math.max(0, size - #head - #tail)
    local sent = 0
    local function out(text)
        text = text:sub(1, math.max(0, stop - sent))
        sent = sent + #text
        if text == "" then return true end
        return ngx.print(text) and ngx.flush(true)
    end
    if not out(head) then return false end
    while filler > 0 and sent < stop do
        local piece = CHUNK:sub(1, math.min(filler, #CHUNK))
        if not out(piece) then return false end
        filler = filler - #piece
    end
    return out(tail:sub(1, math.max(0, size - sent)))
end

local function drip(body, seconds)
    for i = 1, #body do
        if not (ngx.print(body:sub(i, i)) and ngx.flush(true)) then return false end
        ngx.sleep(seconds)
    end
    return true
end

local function put(answer, fault, stop)
    if answer.size then return stream(answer.size, stop) end
    local body = answer.body:sub(1, stop)
    if fault.drip then return drip(body, fault.drip) end
    if body ~= "" then ngx.print(body) end
    return ngx.flush(true)
end

local function put_spoilt(answer, fault)
    local size = answer.size or #answer.body
    start(answer, size)
    ngx.send_headers()
    local went = put(answer, fault, fault.truncate or size)
    if went and (fault.truncate or size) >= size then return ngx.eof() end
    if fault.close then ngx.sleep(SETTLE) end
    return cut(fault.close)
end

-- answer nil: break off without one.
function writer.send(answer, fault)
    if not answer then return cut(fault.close) end
    if fault and (fault.truncate or fault.drip or answer.size) then
        return put_spoilt(answer, fault)
    end
    start(answer, #answer.body)
    if answer.body ~= "" then ngx.print(answer.body) else ngx.send_headers() end
end

return writer
