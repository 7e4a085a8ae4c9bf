-- run.lua [quick]: what the library takes beside a C program on libcurl, other tools, and what an
-- algorithm cannot do without. All rows are measured in this run against one local server, each
-- beside what it is compared with (spec.bench.measure); ratios are the result, absolute times are
-- the machine's. Needs what `make bench` installs and builds; BUILD names the folder of the build.

local files = require "spec.support.files"
local instructions = require "spec.bench.instructions"
local measure = require "spec.bench.measure"
local nginx = require "spec.support.nginx"
local server_of = require "spec.bench.server"

local quick = arg[1] == "quick"
local ROUNDS, LONG_ROUNDS = quick and 5 or 15, quick and 3 or 5
local BATCH, CALLS, COLD = 5000, quick and 1000 or 3000, quick and 10 or 30

local build = os.getenv "BUILD" or ".build"
local programs = build .. "/bench"
local in_rounds, ratio, typical = measure.in_rounds, measure.ratio, measure.typical
local output_of, quote = files.output_of, files.quote
local server

local function run(command)
    local pipe = assert(io.popen(command))
    local text = pipe:read "*a"
    assert(pipe:close(), "this failed: " .. command)
    return text
end

-- ---- programs ---------------------------------------------------------------

local WRAPPED = { "malloc", "calloc", "realloc", "CRYPTO_malloc", "CRYPTO_zalloc",
    "CRYPTO_clear_realloc" }

local function compile(name, objects, libraries, more)
    local paths = {}
    for _, object in ipairs(objects) do
        paths[#paths + 1] = build .. "/engine/" .. object .. ".o"
    end
    run(("cc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wconversion -Werror -Isrc "
        .. "-o %s/%s spec/bench/%s.c %s $(pkg-config --cflags --libs %s) %s"):format(programs, name,
        name, table.concat(paths, " "), libraries, more or ""))
end

local function compile_all()
    local signature = { "csms_sign", "csms_encode", "csms_buf", "csms_err" }
    run("mkdir -p " .. programs)
    compile("client", signature, "libcurl libcrypto lua5.4")
    compile("signing", signature, "libcrypto", "-Wl,--wrap=" .. table.concat(WRAPPED, ",--wrap="))
    compile("spawn", {}, "libcurl")
end

-- ---- measuring --------------------------------------------------------------

local function numbers_of(text)
    local numbers = {}
    for number in text:gmatch "[%d.]+" do numbers[#numbers + 1] = tonumber(number) end
    return numbers
end

local function program(command, project, url)
    return function()
        return numbers_of(run(server:environment(project, url) .. command))
    end
end

local function backup_url(name)
    return ("%s/v1/%s/secrets/%s/backup"):format(server.fast, server_of.SMALL, name)
end

-- The headers of a signed request, for tools that do not sign.
local HEADERS = {
    "Content-Type: application/json", "X-Sdk-Date: 20261121T160000Z",
    "X-Project-Id: " .. server_of.SMALL, "Authorization: SDK-HMAC-SHA256 Access=AKIDBENCHMARK012345"
    .. "6, SignedHeaders=content-type;host;x-project-id;x-sdk-date, Signature=" .. ("0"):rep(64),
}

local function header_options()
    local options = {}
    for _, header in ipairs(HEADERS) do options[#options + 1] = "-H " .. quote(header) end
    return table.concat(options, " ")
end

-- Seconds and, as last number, requests a second.
local function h2load(options, count)
    return function()
        local text = run(("h2load -n %d %s -H ':method: POST' %s %s"):format(count, options,
            header_options(), quote(backup_url "secret-0001")))
        local amount, unit = text:match "finished in ([%d.]+)(%a+)"
        assert(text:find(count .. " succeeded", 1, true), text)
        return { tonumber(amount) * (unit == "ms" and 1e-3 or unit == "us" and 1e-6 or 1) }
    end
end

local function curl()
    return ("curl -sS --no-progress-meter -o /dev/null --cacert %s -X POST %s ")
        :format(server.ca_file, header_options())
end

-- ---- the table --------------------------------------------------------------

local missed = 0

-- A row that cannot be measured does not end the others.
local function try(part)
    local good, problem = pcall(part)
    if good then return end
    missed = missed + 1
    print("  not measured: " .. tostring(problem))
end

local function section(text)
    print("\n" .. text)
end

-- target: the most (or with `at_least` the least) that is promised, or nil.
local function row(text, value, format, target, at_least)
    local verdict = ""
    if target then
        local met = value <= target
        if at_least then met = value >= target end
        if not met then missed = missed + 1 end
        verdict = ("%s %-5g %s"):format(at_least and ">=" or "<=", target,
            met and "met" or "MISSED")
    end
    print((("  %-58s " .. format .. "  %s"):format(text, value, verdict):gsub("%s+$", "")))
    io.stdout:flush()
end

local function aside(text, ...)
    print(("    " .. text):format(...))
end

local function per_call(seconds, count)
    return seconds / count * 1e6
end

-- ---- rows 1, 2, 3 and 5 -----------------------------------------------------

local function c_client(arguments)
    return program(programs .. "/client " .. arguments)
end

local function library(arguments)
    return program("lua5.4 spec/bench/library.lua " .. arguments)
end

local function library_on_luajit(arguments)
    return program(("LUA_CPATH='%s;;' luajit spec/bench/library.lua %s"):format(nginx.cpath(),
        arguments))
end

local function batch(version, concurrency, h2load_options, name)
    local what = (" %s %d %d"):format(version, concurrency, BATCH)
    local seen = in_rounds(ROUNDS, {
        library = library("batch" .. what), dressed = c_client("dressed" .. what),
        bare = c_client("bare" .. what), h2load = h2load(h2load_options, BATCH),
    })
    section(("Batch of %d, %s: throughput as a share of"):format(BATCH, name))
    row("the dressed C program's", ratio(seen, "dressed", "library", 1), "%6.2f", 0.9, true)
    row("the same in CPU time", ratio(seen, "dressed", "library", 2), "%6.2f")
    row("the bare C program's", ratio(seen, "bare", "library", 1), "%6.2f", 0.8, true)
    row("h2load's (the server's ceiling)", ratio(seen, "h2load", "library", 1), "%6.2f")
    local function us(who) return per_call(typical(seen, who, 1), BATCH) end
    aside("us a backup: library %.0f, dressed %.0f, bare %.0f, h2load %.0f", us "library",
        us "dressed", us "bare", us "h2load")
end

local function batches()
    batch("2", 64, "-c1 -m64", "64 at once on one HTTP/2 connection")
    batch("1.1", 16, "--h1 -c16 -m1", "16 connections of HTTP/1.1")
end

local function single()
    local seen = in_rounds(ROUNDS, {
        library = library("single " .. CALLS), luajit = library_on_luajit("single " .. CALLS),
        dressed = c_client("dressed 2 1 " .. CALLS),
    })
    section "One call after another on a warm connection: time a call, in times"
    row("the dressed C program's", ratio(seen, "library", "dressed", 1), "%6.2f", 1.10)
    row("the same in CPU time", ratio(seen, "library", "dressed", 2), "%6.2f")
    row("the same on LuaJIT", ratio(seen, "luajit", "dressed", 1), "%6.2f")
    local function us(who) return per_call(typical(seen, who, 1), CALLS) end
    aside("us a call: library %.0f, on LuaJIT %.0f, dressed %.0f", us "library", us "luajit",
        us "dressed")
end

local function peers()
    local seen = in_rounds(LONG_ROUNDS, {
        batch = library("batch 2 64 " .. BATCH), single = library_on_luajit("single " .. CALLS),
        lua_curl = program("env -u LUA_PATH -u LUA_CPATH luajit spec/bench/lua_curl.lua " .. CALLS),
        node = program(("NODE_EXTRA_CA_CERTS=%s NODE_PATH=.build/signers/node_modules "
            .. "node spec/bench/node_sdk.js 64 %d"):format(server.ca_file, BATCH)),
        curl = program(programs .. "/spawn 1 -- " .. curl() .. "--parallel --parallel-max 64 "
            .. quote(backup_url "secret-[0001-5000]")),
    })
    section "Others on the same work: their time, in times ours"
    row("Node SDK core, 64 at once (ours: the batch)", ratio(seen, "node", "batch", 1),
        "%6.2f", 15, true)
    row("the same in CPU time", ratio(seen, "node", "batch", 2), "%6.2f")
    row("lua-curl and luaossl, one after another, both on LuaJIT",
        ratio(seen, "lua_curl", "single", 1), "%6.2f", 1, true)
    row("the same against our batch", ratio(seen, "lua_curl", "batch", 1) / CALLS * BATCH,
        "%6.2f", 1, true)
    row("curl --parallel, whole process, fixed headers, no JSON", ratio(seen, "curl", "batch", 1),
        "%6.2f", 1, true)
end

-- ---- row 4 ------------------------------------------------------------------

local function cold()
    local commands = {
        "lua5.4 -e 'assert(require\"csms\".backup(nil, \"secret-0001\"))'",
        curl() .. quote(backup_url "secret-0001"),
        "lua5.4 -e 'require \"csms\"'",
        "lua5.4 -e 'assert(package.loadlib(\"libcurl.so.4\", \"*\"))'",
    }
    local numbers = program(("%s/spawn %d -- %s"):format(programs, COLD,
        table.concat(commands, " -- ")))()
    local function of(command, what) return numbers[3 * (command - 1) + what] end
    section("Cold: whole processes, medians of " .. COLD .. " turns")
    row("backup of one secret, wall time in times curl's", of(1, 1) / of(2, 1), "%6.2f", 1.10)
    row("the same in CPU time", of(1, 2) / of(2, 2), "%6.2f")
    row("its peak memory in times curl's", of(1, 3) / of(2, 3), "%6.2f", 1.2)
    row("require \"csms\", ms over loading libcurl", (of(3, 1) - of(4, 1)) * 1000, "%6.2f", 2)
    aside("ms: backup %.1f, curl %.1f, require %.1f, libcurl alone %.1f; KiB: backup %d, curl %d",
        of(1, 1) * 1000, of(2, 1) * 1000, of(3, 1) * 1000, of(4, 1) * 1000, of(1, 3), of(2, 3))
end

-- ---- row 6 ------------------------------------------------------------------

local function signing()
    local seen = numbers_of(run(("%s/signing %d %d"):format(programs, quick and 5 or 11, 20000)))
    section(("Signing a backup: %d SHA-256 blocks"):format(seen[1]))
    row("time in times that of the blocks in one digest", seen[2] / seen[3], "%6.2f", 4)
    row("in times that of digests of the same messages", seen[2] / seen[4], "%6.2f")
    row("allocations of ours in all calls after the first", seen[5], "%6d", 0)
    aside("ns: signature %.0f, blocks %.0f, digests %.0f", seen[2], seen[3], seen[4])
end

-- ---- row 7 ------------------------------------------------------------------

local function many()
    local seen = in_rounds(LONG_ROUNDS, {
        all = program("lua5.4 spec/bench/library.lua all 64", server_of.LARGE),
    })
    section "100,000 secrets through backup_all with on_result"
    row("peak resident memory, MiB", typical(seen, "all", 2) / 1024, "%6.1f", 32)
    row("the last 10,000 in times the first 10,000", ratio(seen, "all", "all", 4, 3), "%6.2f", 1.1)
    aside("s: all %.1f, first 10,000 %.2f, last 10,000 %.2f", typical(seen, "all", 1),
        typical(seen, "all", 3), typical(seen, "all", 4))
end

-- ---- row 8 ------------------------------------------------------------------

-- Durable where the checkout is, not in a /tmp that may be memory.
local function to_disk()
    section(("csms backup --all of %d secrets to disk, answers after 20 ms"):format(BATCH))
    local dir = quote(build .. "/bench/stores")
    local spawn = programs .. "/spawn 1 -- "
    local round = 0
    -- Into a new folder each time, and none is removed before the end: for minutes ext4 gives no
    -- number of a removed file to another, and looks at each of them whenever one is made.
    run("rm -rf " .. dir)
    local seen = in_rounds(LONG_ROUNDS, {
        store = function()
            round = round + 1
            local store = dir .. "/" .. round
            local numbers = program(spawn .. "lua5.4 lua/csms/cli.lua backup --all --rate 0 "
                .. "--concurrency 64 --quiet -o " .. store, nil, server.slow)()
            local count = tonumber(output_of("find " .. store .. " -name '*.blob' | wc -l"))
            assert(count == BATCH, count .. " blobs in the store")
            return numbers
        end,
        none = program(spawn .. "lua5.4 spec/bench/library.lua all 64", nil, server.slow),
    })
    run("rm -rf " .. dir)
    row("wall time in times the same batch without a store", ratio(seen, "store", "none", 1),
        "%6.2f", 1.5)
    aside("s: with a store %.2f, without %.2f; CPU s: %.2f and %.2f", typical(seen, "store", 1),
        typical(seen, "none", 1), typical(seen, "store", 2), typical(seen, "none", 2))
end

-- ---- row 9 ------------------------------------------------------------------

local function count_instructions()
    section "Instructions a call, our own objects, against spec/bench/instructions.json"
    local result, reason = instructions.compare(server)
    if not result then return aside("%s", reason) end
    for _, item in ipairs(result) do
        row(item.name, item.ratio, "%6.3f", 1 + instructions.TOLERANCE)
    end
end

math.randomseed(os.time())
compile_all()
run "spec/signers/install"
server = server_of.start()
local good, problem = pcall(function()
    print(("Ratios within a round; medians of %d or %d rounds, in random turns"):format(ROUNDS,
        LONG_ROUNDS))
    local parts = { batches, single, peers, cold, signing, many, to_disk, count_instructions }
    for _, part in ipairs(parts) do
        try(part)
    end
    print(("\n%d missed"):format(missed))
end)
server:stop()
if not good then io.stderr:write(tostring(problem), "\n") end
os.exit(good)
