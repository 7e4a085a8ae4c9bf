-- SPDX-License-Identifier: MIT
-- csms verify: every byte of a store against what was recorded.

local exit_codes = require "csms.cli.exit_codes"
local stores = require "csms.cli.stores"

local M = {}

local function show(out, items, outcome)
    for _, item in ipairs(items) do
        out:print(("%s: %s: %s"):format(outcome, out.printable(item.file),
            out.printable(item.problem)))
        out:object { type = "file", outcome = outcome, file = item.file, message = item.problem }
    end
end

function M.run(args, out)
    local result
    local store, err = stores.open(args.dir)
    if store then result, err = store:verify(args.project) end
    if not result then return out:failed(err) end
    show(out, result.problems, "damaged")
    show(out, result.interrupted, "interrupted")
    if args.project and result.blobs == 0 then
        out:warn("there is no backup of project " .. args.project)
    end
    local found = ("%d backups, %d runs: "):format(result.blobs, result.runs)
    local exit = exit_codes.OK
    if #result.problems > 0 then
        exit = exit_codes.DAMAGED
        out:problem(found .. #result.problems .. " damaged, missing or unreadable")
        if result.changed > 0 then
            out:problem("the next `csms backup` saves a damaged secret anew; until then "
                .. "`csms restore --at` has its older backups")
        end
    else
        out:note(found .. "no damage")
    end
    return exit, {
        blobs = result.blobs, runs = result.runs,
        problems = #result.problems, interrupted = #result.interrupted,
    }
end

return M
