-- SPDX-License-Identifier: MIT
-- csms prune: old backups go, or what somebody removed by hand is noted.

local exit_codes = require "csms.cli.exit_codes"
local stores = require "csms.cli.stores"

local M = {}

local function show(args, out, files, outcome, words)
    for _, file in ipairs(files) do
        if args.dry_run or not out.quiet then out:print(words .. " " .. file) end
        out:object { type = "file", outcome = outcome, file = file }
    end
end

local function prune(args, out, store)
    local result, err = store:prune({
        last = args.keep_last, daily = args.keep_daily, weekly = args.keep_weekly,
        monthly = args.keep_monthly,
    }, args.dry_run, args.project)
    if not result then return out:failed(err) end
    local outcome = args.dry_run and "would_remove" or "removed"
    show(args, out, result.removed, outcome, args.dry_run and "would remove" or "removed")
    out:note(("%d backups %s, %d kept"):format(#result.removed,
        args.dry_run and "would be removed" or "removed", result.kept))
    return exit_codes.OK, { [outcome] = #result.removed, kept = result.kept }
end

local function forget_missing(args, out, store)
    local files, err = store:forget_missing(args.dry_run, args.project)
    if not files then return out:failed(err) end
    local outcome = args.dry_run and "would_forget" or "forgotten"
    show(args, out, files, outcome, args.dry_run and "would forget" or "forgot")
    out:note(("%d missing backups %s"):format(#files,
        args.dry_run and "would be forgotten" or "forgotten"))
    return exit_codes.OK, { [outcome] = #files }
end

function M.run(args, out)
    local store, err = stores.open(args.dir)
    if not store then return out:failed(err) end
    return (args.forget_missing and forget_missing or prune)(args, out, store)
end

return M
