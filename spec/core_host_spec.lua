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

-- A comma in numbers, and one letter that is not ASCII's; or a decimal point of two bytes.
local POINTS = { comma = "<U002C>", wide = "<U066B>" }
local LOCALE = [[
LC_NUMERIC
decimal_point "%s"
thousands_sep ""
grouping -1
END LC_NUMERIC
LC_CTYPE
alpha <U0041>..<U005A>;<U0061>..<U007A>;<U00FC>
END LC_CTYPE
]]
local CHARACTERS = [[
<code_set_name> SPEC
<mb_cur_max> 2
<mb_cur_min> 1
<escape_char> /
CHARMAP
<U0000>..<U007F> /x00
<U00FC> /xfc
<U066B> /xd9/xab
END CHARMAP
]]

describe("a program that sets another locale", function()
    local folder

    setup(function()
        folder = files.temporary()
        files.write(folder .. "/characters", CHARACTERS)
        for name, point in pairs(POINTS) do
            files.write(folder .. "/source", LOCALE:format(point))
            os.execute(("cd %s && localedef -c -i ./source -f ./characters ./%s 2>/dev/null")
                :format(files.quote(folder), name))
        end
    end)

    teardown(function() files.remove(folder) end)

    -- What the lines print once `json` is loaded and the locale is set.
    local function output_in(locale, lines)
        local program = folder .. "/program.lua"
        files.write(program, ("local json = require 'csms.json'\n"
            .. "assert(os.setlocale '%s', 'no locale')\n%s"):format(locale, lines))
        -- glibc never frees what it makes of LOCPATH.
        local environment = ("LSAN_OPTIONS=detect_leaks=0 LOCPATH=%s LUA_PATH=%s LUA_CPATH=%s")
            :format(files.quote(folder), files.quote(package.path), files.quote(package.cpath))
        local output = run(environment .. " " .. interpreter .. " " .. program)
        if not output:find "no locale" then return output end
        return nil, "localedef makes no locale here"
    end

    it("gets the numbers of JSON as they are", function()
        local output, reason = output_in("comma", [[
            local value = json.decode '{"list": [1,2], "half": 0.5, "last": 3}'
            print(#value.list, value.list[2], value.half * 2 == 1, value.last)
            print(json.encode { 1.5, 2 })
            os.setlocale "C"
            print(json.encode { 1.5, json.decode("[2.5,3]")[2] })
        ]])
        if not output then return pending(reason) end
        assert.equal("2\t2\ttrue\t3\n[1.5,2]\n[1.5,3]\n", output)
    end)

    -- lua-cjson makes no instance there: it ends the process.
    it("gets whole numbers where the decimal point has several bytes", function()
        local output, reason = output_in("wide", [[
            print(json.encode(json.decode '{"list": [1,2]}'))
        ]])
        if not output then return pending(reason) end
        assert.equal('{"list":[1,2]}\n', output)
    end)

    it("gets no letter of that locale into a name, a project, a glob or a blob", function()
        local output, reason = output_in("comma", [[
            local arguments, blob = require "csms.arguments", require "csms.blob"
            print((arguments.argument("name", "schl\252ssel")))
            print((arguments.project(("\252"):rep(32))))
            print((require("csms.globs").check "schl\252ssel*"))
            local parts = assert(blob.inspect "CloudSecretManagementBackupV1eyJ\252.a.a.a.a")
            print(#parts.problems > 0)
        ]])
        if not output then return pending(reason) end
        assert.equal("nil\nnil\nfalse\ntrue\n", output)
    end)
end)

describe("curl_version()", function()
    it("names libcurl and the TLS that it has", function()
        assert.matches("^libcurl/%d+%.%d+%.%d+ ", core.curl_version())
    end)
end)
