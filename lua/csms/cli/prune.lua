-- SPDX-License-Identifier: MIT
-- csms prune: old backups go, the newest good one of each secret stays.

local exit_codes = require "csms.cli.exit_codes"
local stores = require "csms.cli.stores"

local M = {}

function M.run(args, out)
    local result
    local store, err = stores.open(args.dir)
    if store then
        result, err = store:prune({
            last = args.keep_last, daily = args.keep_daily, weekly = args.keep_weekly,
            monthly = args.keep_monthly,
        }, args.dry_run, args.project)
    end
    if not result then return out:failed(err) end
    local outcome = args.dry_run and "would_remove" or "removed"
    for _, file in ipairs(result.removed) do
        if args.dry_run or not out.quiet then
            out:print((args.dry_run and "would remove " or "removed ") .. file)
        end
        out:object { type = "file", outcome = outcome, file = file }
    end
    out:note(("%d backups %s, %d kept"):format(#result.removed,
        args.dry_run and "would be removed" or "removed", result.kept))
    return exit_codes.OK, { [outcome] = #result.removed, kept = result.kept }
end

return M
