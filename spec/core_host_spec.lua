-- The program that loads the module is looked at first.

local core = require "csms.core"
local files = require "spec.support.files"

local interpreter = os.getenv "CSMS_SPEC_LUA" or "lua5.4"

local function run(command)
    return files.output_of(command .. " 2>&1")
end

describe("a program that exports an OpenSSL of its own", function()
    it("is refused, with what to do", function()
        local folder = files.temporary()
        local host = files.quote(folder .. "/host")
        local lua = _VERSION == "Lua 5.4" and "lua5.4" or "luajit"
        -- A module built with a sanitizer wants a program that is too.
        local sanitize = interpreter:find("asan") and "clang -fsanitize=address,undefined" or "cc"
        local built = run((sanitize .. " -Wl,-E -o %s spec/support/foreign_openssl.c "
            .. "$(pkg-config --cflags --libs %s) -lm -ldl"):format(host, lua))
        assert.equal("", built)
        local output = run(("LUA_CPATH='%s' %s"):format(package.cpath, host))
        files.remove(folder)
        assert.matches("OpenSSL of its own", output)
        assert.matches("Debian's nginx", output)
    end)

    it("is not what an ordinary Lua is", function()
        local output = run(("LUA_CPATH='%s' %s -e \"print(require('csms.core').version)\"")
            :format(package.cpath, interpreter))
        assert.matches("^%d+%.%d+%.%d+\n$", output)
    end)
end)

describe("curl_version()", function()
    it("names libcurl and the TLS that it has", function()
        assert.matches("^libcurl/%d+%.%d+%.%d+ ", core.curl_version())
    end)
end)
