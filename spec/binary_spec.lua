-- The module as the linker left it: what it exports, and how it is hardened.

local files = require "spec.support.files"

local function output(command)
    return files.output_of(command .. " 2>&1")
end

local function module_path()
    return (assert(package.searchpath("csms.core", package.cpath)))
end

local function readelf(options)
    return output(("readelf --wide %s '%s'"):format(options, module_path()))
end

-- The names that the dynamic linker sees, each on a line of its own.
local function symbols(which)
    local names = {}
    local listing = output(("nm -D --%s-only '%s'"):format(which, module_path()))
    for name in listing:gmatch "%s([%w_]+)[@%w_.]*\n" do names[#names + 1] = name end
    return names
end

local function imports(pattern)
    for _, name in ipairs(symbols "undefined") do
        if name:find(pattern) then return true end
    end
    return false
end

-- A sanitizer's build is made without the hardening: its checks are its own.
local sanitized = imports "^__asan_" or imports "^__tsan_"
local hardened = sanitized and pending or it

describe("csms/core.so", function()
    it("is the one that this Lua loads", function()
        require "csms.core"
        local maps = files.read "/proc/self/maps"
        local path = output(("realpath '%s'"):format(module_path())):match "^[^\n]+"
        assert.is_truthy(maps:find(path, 1, true))
    end)

    it("exports its opening function alone", function()
        assert.same({ "luaopen_csms_core" }, symbols "defined")
    end)

    it("needs no program's libraries by a path of its own", function()
        assert.not_matches("R[UN]*PATH", readelf "--dynamic")
    end)

    it("has all its imports bound before it runs, and read-only then", function()
        assert.matches("GNU_RELRO", readelf "--segments")
        assert.matches("BIND_NOW", readelf "--dynamic")
    end)

    it("has no executable stack", function()
        assert.matches("GNU_STACK[^\n]* RW ", readelf "--segments")
    end)

    it("has no segment that is both writable and executable", function()
        local count = 0
        for flags in readelf("--segments"):gmatch "LOAD%s+0x%x+ 0x%x+ 0x%x+ 0x%x+ 0x%x+ (...)" do
            assert.is_falsy(flags:find "W" and flags:find "E")
            count = count + 1
        end
        assert.is_true(count >= 2) -- code and data
    end)

    it("has no relocation in its code", function()
        assert.not_matches("TEXTREL", readelf "--dynamic")
    end)

    it("stays once it is loaded: a thread of libcurl's may outlive the Lua state", function()
        assert.matches("NODELETE", readelf "--dynamic")
    end)

    hardened("guards its stack frames", function()
        assert.is_true(imports "^__stack_chk_fail$")
    end)

    hardened("checks the sizes of buffers (FORTIFY)", function()
        assert.is_true(imports "^__[%w_]+_chk$")
    end)
end)
