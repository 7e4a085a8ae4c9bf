-- SPDX-License-Identifier: MIT
-- csms restore: backups back to the service, from a file or from a store.

local arguments = require "csms.arguments"
local blobs = require "csms.blob"
local connection = require "csms.cli.connection"
local core = require "csms.core"
local errors = require "csms.errors"
local exit_codes = require "csms.cli.exit_codes"
local globs = require "csms.globs"
local input = require "csms.cli.input"
local stores = require "csms.cli.stores"
local tally = require "csms.cli.tally"
local times = require "csms.cli.times"

local M = {}

local AT_ONCE = 8 -- restores; each goes over a connection of its own

local OUTCOMES = {
    { "restored", "restored", true }, { "would_restore", "would be restored", true },
    { "exists", "still there and left alone", true },
    { "skipped", "without a backup of that time" }, { "failed", "failed" },
}

-- ---- is it fit to be sent? ------------------------------------------------------

-- What --force overrules: nil and the error, or a warning and true.
local function object(run, name, kind, message)
    if not run.args.force then
        return nil, errors.new(kind, message .. "; --force tries anyway")
    end
    run.out:warn(name .. ": " .. message)
    return true
end

local function check_whole(run, name, blob)
    local sendable, err = arguments.argument("blob", blob)
    if not sendable then return nil, err end
    local good, why = blobs.check(blob)
    if good then
        if why then run.out:warn(name .. ": " .. why) end
        return true
    end
    return object(run, name, "argument", run.args.from
        and why .. "; an older backup may be whole: --at" or why)
end

local function place_text(endpoint, region)
    return endpoint .. (region and " (region " .. region .. ")" or "")
end

-- Only the region that a backup is from can open it.
local function check_place(run, name, saved)
    if not saved.endpoint then
        run.out:warn(("%s: %s, so where it is from is not recorded"):format(name,
            saved.run and "its run names no endpoint" or "no run names this blob"))
        return true
    end
    local other_region = saved.region and run.region and saved.region ~= run.region
    if saved.endpoint == run.endpoint and not other_region then return true end
    return object(run, name, "config", ("it was saved from %s, and this is %s: only the account "
        .. "and region that it is from can open it; see --endpoint and --region")
        :format(place_text(saved.endpoint, saved.region), place_text(run.endpoint, run.region)))
end

local function warn_of_key(run, name, saved)
    local listed = run.listed[name]
    if saved.kms_key_id and listed and listed.kms_key_id ~= saved.kms_key_id then
        run.out:warn(("%s: the backup was made under KMS key %s, and the secret is under %s now; "
            .. "the former must still be enabled"):format(name, saved.kms_key_id,
            tostring(listed.kms_key_id)))
    end
end

-- ---- one secret -----------------------------------------------------------------

local function send(run, name, blob, facts)
    if run.args.dry_run then
        run.out:print(("would restore %s from %s"):format(name, facts.file))
        return run.tally:add(name, "would_restore", facts)
    end
    local secret, err = run.client:restore(run.project, blob, { deadline = run.out:left() })
    if secret then
        if not run.args.all then run.out:report("restored " .. tostring(secret.name)) end
        run.tally:add(secret.name or name, "restored", facts)
    elseif err.kind ~= "cancelled" then
        run.tally:fail(name, err, facts)
    end
end

local PENDING = "it is pending deletion: cancel that instead (in the console); all its versions "
    .. "are still there"

-- Whether a secret of the name is there already, so that --all leaves it alone.
local function leave_alone(run, name)
    local listed = run.listed[name]
    if not listed or run.args.force then return false end
    if not run.args.all then
        run.out:warn(name .. ": a secret of this name is still there, in state "
            .. tostring(listed.state))
        return false
    end
    if listed.state == "PENDING_DELETE" then
        run.tally:fail(name, errors.new("state", PENDING), {})
    else
        run.tally:add(name, "exists", { message = "a secret of this name is still there" })
    end
    return true
end

local function from_store(run, name)
    if leave_alone(run, name) then return end
    local blob, saved = run.store:read(run.project, name, run.args.at)
    if not blob then
        local older = run.args.at and not run.lost[name] -- than what there is
        if run.args.all and older and saved.kind == "not_found" then
            return run.tally:add(name, "skipped", { message = saved.message })
        end
        return run.tally:fail(name, saved, {})
    end
    local facts = { file = saved.file, sha256 = saved.sha256, bytes = saved.bytes }
    local good, err = check_whole(run, name, blob)
    if good then good, err = check_place(run, name, saved) end
    if not good then return run.tally:fail(name, err, facts) end
    warn_of_key(run, name, saved)
    send(run, name, blob, facts)
end

-- ---- the whole ------------------------------------------------------------------

local function exit_of(run)
    local exit = run.tally:exit()
    local nothing = exit == exit_codes.OK and run.total == run.tally.counts.skipped
    return nothing and exit_codes.NOT_FOUND or exit
end

-- Tells people how it went: the counts, what to do next.
local function tell(run, exit, seconds)
    local out = run.out
    if out:not_shown() > 0 then
        out:problem(out:not_shown() .. " more failed; --json names each")
    end
    if run.total == 0 then
        out:problem("nothing matched: the folder has no such backups of project " .. run.project)
    elseif run.args.all then
        out:report(run.tally:sentence(run.total) .. ", in " .. times.span(seconds))
    end
    local advice = exit > 128 and "interrupted: run it again to go on with what is missing"
        or exit_codes.advice(exit)
    if advice then out:problem(advice) end
end

local function finish(run)
    local exit, counts, seconds = exit_of(run), run.tally.counts, core.now() - run.started
    tell(run, exit, seconds)
    return exit, {
        project = run.project, total = run.total, ok = counts.restored, failed = counts.failed,
        would_restore = run.args.dry_run and counts.would_restore or nil,
        exists = counts.exists, skipped = counts.skipped,
        not_done = run.total - run.tally.ended, seconds = seconds,
    }
end

local function new_run(args, out, client, project)
    local endpoint, region = connection.place(client)
    return {
        args = args, out = out, client = client, project = project,
        endpoint = endpoint, region = region, started = core.now(),
        listed = {}, -- what the service has now, by name
        lost = {}, -- names of which no backup is left, as keys
        tally = tally.new(OUTCOMES, out, project, not args.all), total = 0,
    }
end

-- What the service has now: true, or nil and the error. One who may not list can
-- restore even so, but not all: it is not known what is to be left alone. This also proves
-- the keys before several requests use them.
local function list(run)
    local args = run.args
    local secrets, err = run.client:list(run.project, { deadline = run.out:left() })
    if not secrets and err.kind == "denied" then
        if args.all and not (args.force or args.dry_run) then
            err.message = err.message .. "; without a list, --all cannot leave alone what is still "
                .. "there: restore by NAME, or --force"
            return nil, err
        end
        run.out:warn("what the service has now is not known: " .. tostring(err))
    elseif not secrets then
        return nil, err
    end
    for _, secret in ipairs(secrets or {}) do run.listed[secret.name] = secret end
    return true
end

-- All names of which there is a backup, or should be: who restores all must hear of what is
-- lost. Or nil and the error.
local function all_names(run)
    local secrets, err = run.store:list(run.project)
    if not secrets then return nil, err end
    local names
    names, err = run.store:lost(run.project)
    if not names then return nil, err end
    for _, name in ipairs(names) do run.lost[name] = true end
    for _, secret in ipairs(secrets) do names[#names + 1] = secret.name end
    return names
end

-- The names to restore, or nil and the error.
local function select_names(run)
    if not run.args.all then return { run.args.what } end
    local all, err = all_names(run)
    if not all then return nil, err end
    local match = run.args.match
    local matches, names = globs.matcher(#match > 0 and match or nil), {}
    for _, name in ipairs(all) do
        if matches(name) then names[#names + 1] = name end
    end
    return names
end

-- Opens the store, checks --at and chooses: the names, or nil and the error.
local function prepare(run)
    local good, names, err
    run.store, err = stores.open(run.args.from)
    if not run.store then return nil, err end
    if run.args.at then
        good, err = run.store:moment(run.args.at)
        if not good then return nil, err end
    end
    names, err = select_names(run)
    if not names then return nil, err end
    good, err = list(run)
    if not good then return nil, err end
    return names
end

local function restore_from_store(run)
    local names, err = prepare(run)
    if not names then return run.out:failed(err) end
    run.total = #names
    local index = 0
    run.client.runtime:each(function()
        index = index + 1
        return not run.client.closed and names[index] or nil
    end, AT_ONCE, function(name)
        from_store(run, name)
        run.out:progress(run.tally.ended, run.total, run.tally.counts.failed)
    end)
    return finish(run)
end

local function restore_file(run)
    local file = run.args.what
    local blob, err = input.read(file)
    local good
    if blob then good, err = check_whole(run, file, blob) end
    if not good then return run.out:failed(err) end
    run.total = 1
    send(run, file, blob, { file = file, sha256 = core.sha256(blob), bytes = #blob })
    return finish(run)
end

function M.run(args, out)
    local client, err = connection.open(args, out)
    if not client then return out:failed(err) end
    local project
    project, err = connection.project(client, out)
    if not project then return out:failed(err) end
    local run = new_run(args, out, client, project)
    if args.from then return restore_from_store(run) end
    return restore_file(run)
end

return M
