-- How many instructions of our own one call takes: a slow-down that is seen without a clock.
-- callgrind counts what is executed in csms/core.so and in the Lua interpreter, and nothing of
-- libcurl, OpenSSL, cjson or libc, so that their updates change no figure. The difference between
-- N and 2 N calls leaves out the program's start.

local cjson = require "cjson"
local files = require "spec.support.files"
local server_of = require "spec.bench.server"

local M = {}

local FILE = "spec/bench/instructions.json"
local CALLS = 256
local TRIES = 3

--- The most that a figure may be above the one that is kept.
M.TOLERANCE = 0.05

local output_of, quote = files.output_of, files.quote

local WORK = {
    { name = "single call", command = "single %d" },
    { name = "backup of a batch", command = "batch 2 64 %d" },
}

local function read(path)
    local file = io.open(path, "rb")
    local text = file and file:read "*a"
    if file then file:close() end
    return text
end

local function core_path()
    return assert(package.searchpath("csms.core", package.cpath))
end

local function interpreter_path()
    return (output_of("readlink -f $(command -v lua5.4)"):gsub("%s+$", ""))
end

-- What the figures depend on besides the sources: other compilers and interpreters give others.
local function toolchain()
    local compiler = output_of("readelf --debug-dump=info " .. quote(core_path())
        .. " 2>/dev/null | sed -n '/DW_AT_producer.*: GNU C11/{s/.*: \\(GNU C11 .*\\)/\\1/p;q}'")
    return {
        compiler = compiler:gsub("%s+$", ""):gsub("^.*%): ", ""),
        lua = output_of("dpkg-query -W -f '${Version}' lua5.4 2>/dev/null || lua5.4 -v"),
        machine = (output_of("uname -m"):gsub("%s+$", "")),
    }
end

-- ---- counting -----------------------------------------------------------------

-- A profile's own cost a mapped object. Of a call's two lines the second is what the callee took.
local function costs_of(profile)
    local costs, object, skip = {}, nil, false
    for line in profile:gmatch "[^\n]+" do
        local cost = line:match "^[%d+*-]%S* (%d+)$"
        if line:find "^ob=" then
            object = line:sub(4)
        elseif line:find "^calls=" then
            skip = true
        elseif cost then
            if not skip then costs[object] = (costs[object] or 0) + tonumber(cost) end
            skip = false
        end
    end
    return costs
end

-- Without random addresses Lua's strings hash alike, but for the time in the seed.
local function no_randomization()
    return os.execute "setarch -R true 2>/dev/null" and "setarch -R " or ""
end

local function count(server, command, calls)
    local path = server.certificate .. "/callgrind.out"
    local text = output_of(server:environment() .. no_randomization()
        .. "valgrind --tool=callgrind --compress-strings=no --compress-pos=no --callgrind-out-file="
        .. path .. " lua5.4 spec/bench/library.lua " .. command:format(calls) .. " 2>&1")
    local profile = assert(read(path), text)
    os.remove(path)
    return costs_of(profile)
end

-- Instructions of the core and of the interpreter in one call.
local function instructions_of(server, command)
    local once, twice = count(server, command, CALLS), count(server, command, 2 * CALLS)
    local result = { core = 0, lua = 0 }
    for object, cost in pairs(twice) do
        local more = (cost - (once[object] or 0)) / CALLS
        if object:find "/csms/core%.so$" then result.core = result.core + more end
        if object == interpreter_path() then result.lua = result.lua + more end
    end
    assert(result.core > 0 and result.lua > 0, "callgrind saw neither core.so nor Lua")
    return result
end

-- On a busy machine answers come one by one, and each wakes the program, which takes more than
-- answers that come together. So what is above its limit is counted again: the least is kept.
local function measure(server, kept)
    local figures = {}
    for _, work in ipairs(WORK) do
        for _ = 1, TRIES do
            local good = true
            for part, number in pairs(instructions_of(server, work.command)) do
                local name = work.name .. ", " .. part
                figures[name] = math.min(figures[name] or math.huge, math.floor(number + 0.5))
                good = good and figures[name] <= (kept[name] or math.huge) * (1 + M.TOLERANCE)
            end
            if good then break end
        end
    end
    return figures
end

-- ---- keeping and comparing ----------------------------------------------------

local function sorted(figures)
    local names = {}
    for name in pairs(figures) do names[#names + 1] = name end
    table.sort(names)
    return names
end

--- Whether figures of this machine can be compared: true, or nil and why not.
function M.available()
    if not os.execute "command -v valgrind readelf >/dev/null" then
        return nil, "instructions are counted where valgrind and readelf are installed"
    end
    local kept = cjson.decode(assert(read(FILE))).toolchain
    for name, value in pairs(toolchain()) do
        if kept[name] ~= value then
            return nil, ("the figures are kept for another %s: %s, here %s"):format(name,
                tostring(kept[name]), value)
        end
    end
    return true
end

--- A list of {name, ratio, measured, kept}, or nil and why there is none.
function M.compare(server)
    local good, reason = M.available()
    if not good then return nil, reason end
    local kept, result = cjson.decode(read(FILE)).instructions, {}
    local figures = measure(server, kept)
    for _, name in ipairs(sorted(figures)) do
        local before = kept[name] or 0
        result[#result + 1] = { name = name, ratio = figures[name] / before,
            measured = figures[name], kept = before }
    end
    return result
end

local function write(figures)
    local function object(values)
        local lines = {}
        for _, name in ipairs(sorted(values)) do
            lines[#lines + 1] = ('        "%s": %s'):format(name, cjson.encode(values[name]))
        end
        return "{\n" .. table.concat(lines, ",\n") .. "\n    }"
    end
    local file = assert(io.open(FILE, "wb"))
    file:write(('{\n    "toolchain": %s,\n    "instructions": %s\n}\n'):format(
        object(toolchain()), object(figures)))
    file:close()
end

--- Runs `work` with a server of its own.
function M.with_server(work)
    local server = server_of.start()
    local good, problem = pcall(work, server)
    server:stop()
    if not good then error(problem, 0) end
end

--- The command spec/bench/instructions: shows the figures; "--update" keeps them.
function M.main(option)
    M.with_server(function(server)
        if option == "--update" then return write(measure(server, {})) end
        for _, item in ipairs(assert(M.compare(server))) do
            print(("%-28s %8d  kept %8d  %+.1f %%"):format(item.name, item.measured, item.kept,
                (item.ratio - 1) * 100))
        end
    end)
end

return M
