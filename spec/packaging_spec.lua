-- What is installed, and that the version is one.

local core = require "csms.core"
local csms = require "csms"
local files = require "spec.support.files"

local quote = files.quote
local abi = _VERSION:match("%d%.%d")

local function run(command)
    return files.output_of(command .. " 2>&1; echo \"exit $?\"")
end

-- A folder with a space in its path, as a person's may have.
local function with_folder(fn)
    local base = files.temporary()
    local folder = base .. "/a folder"
    run("mkdir " .. quote(folder))
    local good, problem = pcall(fn, folder)
    files.remove(base)
    if not good then error(problem, 0) end
end

-- Installs for this Lua, below a folder that stands for the root.
local function install_below(folder)
    return run(("make install LUAS=%s PREFIX=/usr DESTDIR=%s"):format(abi, quote(folder)))
end

-- Installs into a folder for Lua 5.4; returns its command line, for a shell.
local function install_command(folder)
    assert.matches("exit 0\n$", run("make install LUAS=5.4 PREFIX=" .. quote(folder)))
    return "env -u LUA_PATH -u LUA_CPATH " .. quote(folder .. "/bin/csms")
end

describe("packaging", function()
    it("has one version", function()
        local version = files.read("src/csms_version.h"):match('CSMS_VERSION "([%d.]+)"')
        assert.equal(version, core.version)
        assert.equal(version, csms._VERSION)
        assert.matches("(" .. version:gsub("%.", "%%.") .. ")", files.read("CHANGELOG.md"))
    end)

    it("builds from what git archives alone, and to the same bytes in any folder", function()
        if abi ~= "5.4" then return end -- it builds for both
        if not run("git rev-parse --git-dir"):find("exit 0\n$") then
            pending("this is no git checkout")
        end
        with_folder(function(folder)
            local sums = {}
            for index, name in ipairs { "one", "another/folder" } do
                local copy = quote(folder .. "/" .. name)
                local output = run(("mkdir -p %s && git archive HEAD | tar -x -C %s && "
                    .. "env -u MAKEFLAGS -u BUILD -u LUAS make -j 2 -C %s")
                    :format(copy, copy, copy))
                assert.matches("exit 0\n$", output)
                sums[index] = run(("cd %s/.build && sha256sum 5.4/csms/core.so 5.1/csms/core.so")
                    :format(copy))
                assert.matches("exit 0\n$", sums[index])
            end
            assert.equal(sums[1], sums[2])
        end)
    end)

    it("installs with make into a folder, and works from there", function()
        with_folder(function(folder)
            assert.matches("exit 0\n$", install_below(folder))
            local lua = abi == "5.4" and "lua5.4" or "luajit"
            local share = folder .. "/usr/share/lua/" .. abi
            local loaded = run(("cd / && LUA_PATH='%s/?.lua;%s/?/init.lua;;' "
                .. "LUA_CPATH='%s/usr/lib/lua/%s/?.so;;' %s -e 'local csms = require \"csms\" "
                .. "print(csms._VERSION, package.loaded[\"csms.core\"].version)'")
                :format(share, share, folder, abi, lua))
            assert.equal(csms._VERSION .. "\t" .. csms._VERSION .. "\nexit 0\n", loaded)
        end)
    end)

    it("installs the command line, which finds its modules", function()
        if abi ~= "5.4" then return end
        with_folder(function(folder)
            local command = install_command(folder)
            assert.equal("csms " .. csms._VERSION .. "\nexit 0\n",
                run("cd / && " .. command .. " --version"))
            for directory, name in pairs { [""] = "bin/csms", ["/bin"] = "./csms" } do
                assert.equal("csms " .. csms._VERSION .. "\nexit 0\n",
                    run(("cd %s && env -u LUA_PATH -u LUA_CPATH %s --version")
                        :format(quote(folder .. directory), name)))
            end
        end)
    end)

    it("installs below the home that a ~ stands for, whatever the shell", function()
        with_folder(function(folder)
            local plan = run(("HOME=%s make -n install LUAS=%s PREFIX='~/x' DESTDIR='~/y'")
                :format(quote(folder), abi))
            assert.matches(folder .. "/y" .. folder .. "/x/lib/lua/", plan, 1, true)
            assert.is_nil(plan:find("~", 1, true))
        end)
    end)

    it("installs a command line that takes no module from the folder that it runs in", function()
        if abi ~= "5.4" then return end
        with_folder(function(folder)
            local command = install_command(folder)
            files.write(folder .. "/cjson.lua", "os.exit(66)")
            run("mkdir " .. quote(folder .. "/cjson"))
            files.write(folder .. "/cjson/safe.lua", "os.exit(66)")
            assert.matches("no CSMS backup blob.*exit 8\n$",
                run("cd " .. quote(folder) .. " && " .. command .. " inspect cjson.lua"))
        end)
    end)

    it("installs every Lua module of the checkout", function()
        with_folder(function(folder)
            install_below(folder)
            local list = " && find csms -name '*.lua' | sort"
            assert.equal(run("cd lua" .. list),
                run("cd " .. quote(folder .. "/usr/share/lua/" .. abi) .. list))
        end)
    end)

    it("removes nothing but its own folder before it checks what is installed", function()
        with_folder(function(folder)
            local removed = {}
            local plan = run(("cp -r Makefile src lua %s && env -u MAKEFLAGS -u BUILD "
                .. "make -n -C %s check-install"):format(quote(folder), quote(folder)))
            for line in plan:gmatch "rm %-rf ([^\n]*)" do removed[#removed + 1] = line end
            assert.same({ quote(folder .. "/.build/installed") }, removed)
        end)
    end)

    it("needs no environment and does no I/O when it is required", function()
        local trace = run("env -i PATH=\"$PATH\" LUA_PATH='" .. package.path .. "' LUA_CPATH='"
            .. package.cpath .. "' " .. (os.getenv "CSMS_SPEC_LUA" or "lua5.4")
            .. " -e 'os.getenv = error; io.open = error; io.popen = error; require \"csms\"'")
        assert.equal("exit 0\n", trace)
    end)
end)
