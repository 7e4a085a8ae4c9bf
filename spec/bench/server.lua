-- The service that benchmarks talk to: an nginx that answers every backup with the same 2 KB, at
-- once or after 20 ms, over TLS, HTTP/2 and HTTP/1.1. It checks nothing.

local files = require "spec.support.files"
local nginx = require "spec.support.nginx"

local M = {}

local Server = {}
Server.__index = Server

--- Ids of projects with that many secrets.
M.SMALL, M.LARGE = ("%032d"):format(5000), ("%032d"):format(100000)

local function make_certificate()
    local dir = files.temporary()
    assert(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        .. "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
        .. "-keyout %s -out %s 2>/dev/null"):format(files.quote(dir .. "/server.key"),
        files.quote(dir .. "/server.crt"))))
    return dir
end

--- A running server: `fast` and `slow` are URLs, `ca_file` verifies both.
function M.start()
    local certificate = make_certificate()
    local values = {
        CERTIFICATE = certificate, ANSWER = '{"secret_blob":"' .. ("x"):rep(2030) .. '"}',
    }
    local conf = files.read("spec/bench/nginx.conf"):gsub("@(%u+)@", values)
    local server = nginx.start { conf = conf }
    return setmetatable({
        nginx = server, certificate = certificate, ca_file = certificate .. "/server.crt",
        fast = "https://127.0.0.1:" .. server.ports[1],
        slow = "https://127.0.0.1:" .. server.ports[2],
    }, Server)
end

--- The environment in which the library finds it, for a shell.
function Server:environment(project, url)
    return ("CSMS_ENDPOINT=%s CSMS_CA_FILE=%s HUAWEICLOUD_SDK_PROJECT_ID=%s "
        .. "HUAWEICLOUD_SDK_AK=AKIDBENCHMARK0123456 "
        .. "HUAWEICLOUD_SDK_SK=0123456789abcdefghijklmnopqrstuvwxyzABCD "
        .. "CSMS_METADATA_ENDPOINT=http://127.0.0.1:9 "):format(url or self.fast,
        files.quote(self.ca_file), project or M.SMALL)
end

function Server:stop()
    self.nginx:quit()
    files.remove(self.certificate)
end

return M
