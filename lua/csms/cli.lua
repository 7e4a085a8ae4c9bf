#!/usr/bin/env lua5.4
-- SPDX-License-Identifier: MIT
-- The command `csms`: reads its arguments, runs one command, exits with its code.

-- Lua also looks for modules in the folder that it runs in, which may be anybody's.
for variable, list in pairs { LUA_PATH = "path", LUA_CPATH = "cpath" } do
    if not os.getenv(variable) and not os.getenv(variable .. "_5_4") then
        package[list] = (";" .. package[list]):gsub(";%./[^;]*", ""):sub(2)
    end
end

-- Installed below a PREFIX that Lua does not search, it finds its modules there.
local prefix = (arg[0]:match("^.*/") or "./") .. "../"
local share = prefix .. "share/lua/5.4/"
package.path = share .. "?.lua;" .. share .. "?/init.lua;" .. package.path
package.cpath = prefix .. "lib/lua/5.4/?.so;" .. package.cpath

local function run(argv)
    require("csms.cli.streams").fill()
    local args, instead = require("csms.cli.arguments").parse(argv)
    local out = require("csms.cli.output").new(args or {})
    if not args then return out:text(instead.text, instead.exit) end
    return out:finish(require("csms.cli." .. args.command).run(args, out))
end

-- As csms.cli.exit_codes has them, which may be what could not be loaded.
local INTERNAL, INTERRUPTED = 1, 130

-- Ctrl-C where nothing waits for the network is an error that lua5.4 raises.
local function on_error(problem)
    problem = tostring(problem)
    if problem:find("interrupted!$") then return { exit = INTERRUPTED } end
    local missing = problem:match("module '[^']+' not found")
    if missing then
        return { exit = INTERNAL, text = ("csms: %s: install it, or name its place in LUA_PATH or "
            .. "LUA_CPATH\n"):format(missing) }
    end
    return { exit = INTERNAL, text = "csms: internal error: " .. problem
        .. "\ncsms: this is a mistake in csms; please report this line, the command, and what "
        .. "`csms --version` says\n" }
end

-- No message handler: Lua calls none for "not enough memory".
local good, result = pcall(run, arg)
if not good then
    local ended = on_error(result)
    if ended.text then io.stderr:write(ended.text) end
    result = ended.exit
end
os.exit(result, true)
