-- SPDX-License-Identifier: MIT
-- csms backup: secrets from the service into a store, or one blob to stdout.
-- No blob stays in memory, and no result either: only counts.

local connection = require "csms.cli.connection"
local core = require "csms.core"
local csms = require "csms"
local exit_codes = require "csms.cli.exit_codes"
local globs = require "csms.globs"
local tally = require "csms.cli.tally"
local times = require "csms.cli.times"

local M = {}

-- ---- one blob to stdout -------------------------------------------------------

local function to_stdout(args, out, client)
    local blob, err = client:backup(nil, args.names[1], { deadline = out:left() })
    client:close()
    if not blob then return out:failed(err, true) end
    out:write(blob)
    return exit_codes.OK
end

-- ---- what becomes of each secret of a run -----------------------------------------

local OUTCOMES = {
    { "saved", "saved", true }, { "current", "current", true }, { "skipped", "skipped" },
    { "failed", "failed" },
}

-- A store that fails ends the run: nothing new is asked for.
local function store_failed(run, err)
    run.tally.store_error = run.tally.store_error or err
    run.client:stop()
end

local function note(run, name, outcome, fields)
    local good, err = run.store:note(run.project, name, outcome, fields)
    if not good then store_failed(run, err) end
end

local function fail(run, name, err)
    run.told = err
    run.tally:fail(name, err, {})
    note(run, name, "failed", { kind = err.kind, code = err.code, message = err.message })
end

local function skip(run, name, state)
    note(run, name, "skipped", { state = state })
    run.tally:add(name, "skipped", { message = "its state is " .. tostring(state) })
end

local function save(run, name, blob, facts)
    local good, err = run.store:stage(run.project, name, blob, facts, function(saved, problem)
        if not saved then return store_failed(run, problem) end
        run.tally:add(name, "saved",
            { file = saved.file, sha256 = saved.sha256, bytes = saved.bytes })
    end)
    if err and err.kind ~= "storage" then
        fail(run, name, err)
    elseif not good then
        store_failed(run, err)
    end
end

-- Called for each secret that the library is done with. What a signal or the
-- store's failure left undone is only counted.
local function result(run, name, blob, err, facts)
    if run.tally.store_error or err and err.kind == "cancelled" then return end
    if facts.skipped then
        skip(run, name, facts.state)
    elseif err then
        fail(run, name, err)
    else
        save(run, name, blob, facts)
    end
end

-- ---- what to ask for ------------------------------------------------------------

-- Whether --max-age leaves it out, because a backup is young enough; one that cannot be
-- read is saved anew.
local function is_current(run, name)
    if not run.args.max_age then return false end
    local newest = run.store:newest(run.project, name)
    local age = newest and core.time() - newest.saved_at
    -- One from the future is from a clock that was wrong.
    if not age or age < 0 or age >= run.args.max_age then return false end
    note(run, name, "current", { file = newest.file })
    run.tally:add(name, "current",
        { file = newest.file, sha256 = newest.sha256, bytes = newest.bytes })
    return true
end

-- What --match and --max-age leave of the listing, asked for each secret of it.
local function wanted(run)
    local matches = globs.matcher(#run.args.match > 0 and run.args.match or nil)
    return function(name) return matches(name) and not is_current(run, name) end
end

-- The same for each NAME.
local function wanted_names(run)
    local names = {}
    for _, name in ipairs(run.args.names) do
        if not is_current(run, name) then names[#names + 1] = name end
    end
    return names
end

-- ---- the whole ------------------------------------------------------------------

-- The library's report, or nil and the error.
local function back_up(run)
    local counts = run.tally.counts
    local opts = {
        deadline = run.out:left(),
        on_result = function(name, blob, err, facts) result(run, name, blob, err, facts) end,
        on_progress = function(done, total)
            run.out:progress(counts.current + done, counts.current + total, counts.failed)
        end,
    }
    if run.args.all then
        opts.match = wanted(run)
        return run.client:backup_all(run.project, opts)
    end
    return run.client:backup_many(run.project, wanted_names(run), opts)
end

local function exit_of(run, summary, err)
    local broke_off = summary.incomplete and run.out:exit_of(summary.incomplete)
    -- The deadline ends the run, wherever that stands.
    if broke_off == exit_codes.DEADLINE then run.tally.failures[broke_off] = true end
    local exit = run.tally:exit(err)
    if exit ~= exit_codes.OK then return exit end
    if summary.total == 0 and not summary.incomplete then return exit_codes.NOT_FOUND end
    local strict = run.args.strict and summary.skipped > 0
    return (strict or summary.incomplete) and exit_codes.PARTIAL or exit_codes.OK
end

local NOTHING = { total = 0, requests = 0, retries = 0, throttled = 0, errors = {} }

-- library: its report; what is not done is no error.
local function summary_of(run, library, err)
    local counts = run.tally.counts
    local total = counts.current + library.total
    for name, item in pairs(library.errors) do
        if item.kind == "cancelled" then library.errors[name] = nil end
    end
    return {
        project = run.project, total = total, ok = counts.saved, failed = counts.failed,
        skipped = counts.skipped, current = counts.current, not_done = total - run.tally.ended,
        requests = library.requests, retries = library.retries, throttled = library.throttled,
        errors = library.errors, incomplete = library.incomplete,
        seconds = core.now() - run.started,
        kind = err and err.kind, code = err and err.code, message = err and err.message,
    }
end

local AGAIN = "run it again, with --max-age to do only what is left"

local function advice(run, exit)
    if exit > 128 then return "interrupted: " .. AGAIN end
    local may_pass = run.tally.failures[exit_codes.TEMPORARY]
    if exit == exit_codes.PARTIAL and may_pass then return AGAIN end
    return exit_codes.advice(exit)
end

-- Tells people how it went: what ended it, the counts, what to do next.
local function tell(run, exit, summary, err)
    local out = run.out
    local counts = run.tally:sentence(summary.total) .. ", in " .. times.span(summary.seconds)
    if err and err ~= run.told and exit <= 128 then out:problem(tostring(err)) end
    local incomplete = summary.incomplete
    if incomplete and incomplete.kind ~= "cancelled" and exit <= 128 then
        out:problem("the listing broke off, so that secrets are missing: "
            .. tostring(incomplete))
    end
    if out:not_shown() > 0 then
        out:problem(out:not_shown() .. " more failed; --json, or the run's record, names each")
    end
    if exit == exit_codes.OK then
        out:note(counts)
    elseif exit == exit_codes.NOT_FOUND and summary.total == 0 then
        out:problem("nothing matched")
    elseif summary.total > 1 or summary.skipped > 0 then
        out:problem(counts)
    end
    local next_step = advice(run, exit)
    if next_step then out:problem(next_step) end
end

-- Ends the store's run: nil and the error where that fails. One that did not come
-- to every secret must not be taken for whole.
local function close(run, exit, summary, err)
    local incomplete = err or summary.incomplete
    return run.store:close {
        exit = exit, incomplete = incomplete and true, interrupted = exit > 128 or nil,
    }
end

local function finish(run, library, err)
    local flushed, problem = run.store:flush()
    if not flushed then store_failed(run, problem) end
    err = run.tally.store_error or err
    local ended = err or library.incomplete
    if ended then run.out:name_deadline(ended) end
    local summary = summary_of(run, library or NOTHING, err)
    local exit = exit_of(run, summary, err)
    local closed
    closed, problem = close(run, exit, summary, err)
    if not closed and not run.tally.store_error then
        err, exit = problem, run.out:exit_of(problem)
        summary.kind, summary.code, summary.message = err.kind, err.code, err.message
    end
    tell(run, exit, summary, err)
    return exit, summary
end

-- A store with an open run, or nil and the error.
local function open_store(args, client, project)
    local store, err = csms.store(args.output)
    if not store then return nil, err end
    local endpoint, region = connection.place(client)
    local good
    good, err = store:open_run {
        endpoint = endpoint, region = region, project = project,
        asked = {
            all = args.all or nil, match = #args.match > 0 and args.match or nil,
            names = #args.names > 0 and args.names or nil,
        },
    }
    if not good then return nil, err end
    return store
end

local function distinct(names)
    local once, seen = {}, {}
    for _, name in ipairs(names) do
        if not seen[name] then once[#once + 1] = name end
        seen[name] = true
    end
    return once
end

local function to_store(args, out, client)
    local started = core.now()
    args.names = distinct(args.names)
    local project, err = connection.project(client, out)
    if not project then return out:failed(err) end
    local store
    store, err = open_store(args, client, project)
    if not store then return out:failed(err) end
    local run = {
        args = args, out = out, client = client, store = store, project = project,
        started = started,
        tally = tally.new(OUTCOMES, out, project, not args.all and #args.names == 1),
        told = nil, -- the error that was shown last
    }
    return finish(run, back_up(run))
end

function M.run(args, out)
    local client, err = connection.open(args, out)
    if not client then return out:failed(err) end
    if args.stdout then return to_stdout(args, out, client) end
    return to_store(args, out, client)
end

return M
