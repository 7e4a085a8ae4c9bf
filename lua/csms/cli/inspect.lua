-- SPDX-License-Identifier: MIT
-- csms inspect: what blobs in files say of themselves, without any key.

local blob = require "csms.blob"
local exit_codes = require "csms.cli.exit_codes"
local input = require "csms.cli.input"

local M = {}

local FIELDS = { "format", "kid", "alg", "enc", "bytes" }

local function describe(out, file, facts)
    out:print(out.printable(file) .. ":")
    local rows = {}
    for _, field in ipairs(FIELDS) do
        rows[#rows + 1] = { "  " .. field, facts[field] or "-" }
    end
    rows[#rows + 1] = { "  complete", facts.complete and "yes" or "no" }
    for _, problem in ipairs(facts.problems) do rows[#rows + 1] = { "  problem", problem } end
    out:columns(rows)
end

-- The exit code of one file.
local function inspect(out, file)
    local text, err = input.read(file)
    local facts, exit
    if text then
        facts, err = blob.inspect(text)
        exit = facts and facts.complete and exit_codes.OK or exit_codes.DAMAGED
    else
        exit = out:exit_of(err)
    end
    if facts then
        describe(out, file, facts)
        out:object { type = "blob", file = file, format = facts.format, kid = facts.kid,
            alg = facts.alg, enc = facts.enc, bytes = facts.bytes, complete = facts.complete,
            problems = #facts.problems > 0 and facts.problems or nil }
    else
        out:problem(file .. ": " .. tostring(err))
        out:object { type = "blob", file = file, complete = false, kind = err.kind,
            message = err.message }
    end
    return exit
end

function M.run(args, out)
    local complete, failures = 0, {}
    for _, file in ipairs(args.files) do
        local exit = inspect(out, file)
        if exit == exit_codes.OK then complete = complete + 1 else failures[exit] = true end
    end
    return exit_codes.of_several(complete, failures),
        { total = #args.files, ok = complete, failed = #args.files - complete }
end

return M
