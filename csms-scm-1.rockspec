rockspec_format = "3.0"
package = "csms"
version = "scm-1"

source = {
    -- A placeholder: no public address exists yet. `luarocks make` in a checkout
    -- does not use it.
    url = "git+https://example.invalid/csms.git",
}

description = {
    summary = "Encrypted backups of the secrets in Huawei Cloud CSMS",
    detailed = [[
        Downloads and restores the encrypted backups of secrets kept in Huawei
        Cloud CSMS (Cloud Secret Management Service). A C core signs requests
        and speaks HTTPS.
    ]],
    license = "MIT",
    labels = { "huawei-cloud", "secrets", "backup", "https" },
}

dependencies = {
    "lua >= 5.1, ~= 5.2, ~= 5.3, < 5.5", -- 5.4, or LuaJIT with its 5.1 interface
    "lua-cjson >= 2.1",
    "argparse >= 0.7", -- the command line
}

-- libcurl 7.84 and OpenSSL 3.0 or newer, with their headers; the Makefile finds
-- them by pkg-config, because Debian keeps curl/curl.h where LuaRocks does not look.
external_dependencies = {
    CURL = { library = "curl" },
    OPENSSL = { library = "crypto" },
}

-- The Makefile is the one place that knows how to build; it asks this Lua for
-- its version.
build = {
    type = "make",
    build_target = "rock",
    install_target = "rock-install",
    build_variables = {
        CC = "$(CC)", CFLAGS = "$(CFLAGS)", LUA = "$(LUA)", LUA_INCDIR = "$(LUA_INCDIR)",
    },
    install_variables = {
        LUA = "$(LUA)", INST_LIBDIR = "$(LIBDIR)", INST_LUADIR = "$(LUADIR)",
        INST_BINDIR = "$(BINDIR)",
    },
}
