-- nginx.conf of one instance. It uses nothing of the system's own configuration.
local conf = {}

local MODULES = "/usr/lib/nginx/modules"

local HEAD = [[
load_module @MODULES@/ndk_http_module.so;
load_module @MODULES@/ngx_http_lua_module.so;
@USER@
worker_processes 1;
worker_rlimit_nofile 8192;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log error;
events { worker_connections 4096; multi_accept on; }
http {
    access_log off;
    server_tokens off;
    default_type application/json;
    client_body_temp_path @DIR@/tmp;
    proxy_temp_path @DIR@/tmp;
    fastcgi_temp_path @DIR@/tmp;
    uwsgi_temp_path @DIR@/tmp;
    scgi_temp_path @DIR@/tmp;
    client_max_body_size 12m;
    client_body_buffer_size 1m;
    large_client_header_buffers 4 32k;
    http2_max_concurrent_streams @STREAMS@;
    keepalive_requests @KEEPALIVE@;
    keepalive_timeout 600s;
    tcp_nodelay on;
    reset_timedout_connection off;
    lingering_close off;
    ssl_protocols TLSv1.2 TLSv1.3;
    lua_package_path "@ROOT@/?.lua;;";
    lua_socket_log_errors off;
    init_by_lua_block { require("spec.emulator.worker").init("@DIR@/config.json") }
    init_worker_by_lua_block { require("spec.emulator.worker").start() }
]]

local SERVER = [[
    server {
        listen 127.0.0.1:@PORT@@OPTIONS@;
@TLS@
        error_page 400 413 414 /rejected;
        error_page 494 =494 /rejected;
        location / { content_by_lua_block { require("spec.emulator.worker").@SERVE@() } }
        location = /rejected {
            internal;
            client_max_body_size 0;
            content_by_lua_block { require("spec.emulator.worker").gateway.rejected() }
        }
    }
]]

local TLS = [[
        ssl_certificate @DIR@/@CERTIFICATE@.crt;
        ssl_certificate_key @DIR@/@CERTIFICATE@.pem;]]

-- OpenSSL 3 allows TLS 1.1 only at its lowest security level.
local TLS11 = [[

        ssl_protocols TLSv1.1;
        ssl_ciphers ALL:@SECLEVEL=0;]]

-- Every port of an instance, by the name that config.json and the env file use.
conf.PORTS = {
    { name = "https", options = " ssl http2", certificate = "good" },
    { name = "https1", options = " ssl", certificate = "good" },
    { name = "http", options = "" },
    { name = "wrong_host", options = " ssl http2", certificate = "wrong_host" },
    { name = "expired", options = " ssl http2", certificate = "expired" },
    { name = "self_signed", options = " ssl http2", certificate = "self_signed" },
    { name = "tls11", options = " ssl", certificate = "good", extra = TLS11 },
    { name = "metadata", options = "", serve = "gateway.serve_metadata" },
    { name = "control", options = "", serve = "control.serve" },
}

local function fill(text, values)
    return (text:gsub("@([A-Z]+)@", values))
end

local function server(port, config)
    local tls = port.certificate
        and fill(TLS, { DIR = config.dir, CERTIFICATE = port.certificate }) .. (port.extra or "")
        or ""
    return fill(SERVER, {
        PORT = tostring(config.ports[port.name]), OPTIONS = port.options, TLS = tls,
        SERVE = port.serve or "gateway.serve",
    })
end

function conf.text(config)
    local parts = { fill(HEAD, {
        MODULES = MODULES, USER = config.user_line, DIR = config.dir, ROOT = config.root,
        STREAMS = tostring(config.streams), KEEPALIVE = tostring(config.keepalive_requests),
    }) }
    for _, port in ipairs(conf.PORTS) do parts[#parts + 1] = server(port, config) end
    parts[#parts + 1] = "}\n"
    return table.concat(parts)
end

return conf
