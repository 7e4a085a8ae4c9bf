-- The handlers that are compared: the library's, the smallest exchange that does the same over a
-- cosocket by hand, and the library blocking the worker. All sign with the same function, decode
-- with the same cjson, verify the same certificate over HTTP/1.1, and keep their connections.

local cjson = require "cjson"
local core = require "csms.core"
local csms = require "csms"
local blocking = require "csms.runtime.blocking"
local new_client = require("csms.client").new

local bench = rawget(_G, "BENCH")
local PROJECT = ("0123456789abcdef"):rep(2)
local TARGET = "/v1/" .. PROJECT .. "/secrets/secret-0001/backup"

local M = {}

local function client(port, runtime, http_version)
    return assert(new_client({
        endpoint = "https://localhost:" .. port, ca_file = bench.ca_file, project = PROJECT,
        credentials = csms.credentials.static { ak = "AK", sk = "SK" }, retry = false,
        http_version = http_version,
    }, runtime))
end

local function answer(blob, err)
    if blob then return ngx.print(#blob) end
    ngx.log(ngx.ERR, tostring(err))
    ngx.exit(500)
end

local function library(port, runtime, http_version)
    local own = client(port, runtime, http_version)
    return function() answer(own:backup(nil, "secret-0001")) end
end

-- ---- by hand ----------------------------------------------------------------

local function read_head(socket)
    local length
    while true do
        local line, err = socket:receive()
        if not line then return nil, err end
        if line == "" then return length end
        length = length or tonumber(line:match "^[Cc]ontent%-[Ll]ength: (%d+)")
    end
end

local function exchange(port, host)
    local credential = assert(core.credential.keys("AK", "SK"))
    return function()
        local date = os.date("!%Y%m%dT%H%M%SZ", ngx.time())
        local authorization = assert(core.sign.authorization({
            method = "POST", path = TARGET, body = "", date = date,
            headers = { "Content-Type", "application/json", "Host", host, "X-Sdk-Date", date,
                "X-Project-Id", PROJECT },
        }, credential))
        local socket = ngx.socket.tcp()
        socket:settimeouts(5000, 30000, 30000)
        local good, err = socket:connect("127.0.0.1", port, { pool_size = 512 })
        if good and socket:getreusedtimes() == 0 then
            good, err = socket:sslhandshake(nil, "localhost", true)
        end
        if not good then return answer(nil, err) end
        good, err = socket:send { "POST ", TARGET, " HTTP/1.1\r\nHost: ", host,
            "\r\nContent-Type: application/json\r\nContent-Length: 0\r\nX-Sdk-Date: ", date,
            "\r\nX-Project-Id: ", PROJECT, "\r\nAuthorization: ", authorization, "\r\n\r\n" }
        local line, length, body
        if good then line, err = socket:receive() end
        if line then length, err = read_head(socket) end
        if length then body, err = socket:receive(length) end
        if not body then return answer(nil, err) end
        socket:setkeepalive(600000)
        answer(cjson.decode(body).secret_blob)
    end
end

for _, speed in ipairs { "instant", "slow" } do
    local port = bench[speed]
    M["/csms/" .. speed] = library(port)
    M["/http1/" .. speed] = library(port, nil, "1.1")
    M["/cosocket/" .. speed] = exchange(port, "localhost:" .. port)
    M["/blocking/" .. speed] = library(port, blocking.new(core))
end

return M
