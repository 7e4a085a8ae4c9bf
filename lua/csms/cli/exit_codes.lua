-- SPDX-License-Identifier: MIT
-- What the exit codes of `csms` mean, and what to do next.

local errors = require "csms.errors"

local M = {
    OK = 0, INTERNAL = 1, USAGE = 2, PARTIAL = 3, NOT_FOUND = 4, TEMPORARY = 5, REFUSED = 6,
    CONFIG = 7, DAMAGED = 8, DEADLINE = 10, LOCKED = 11, STORE = 12,
    UNREAD = 141, -- as of a program that SIGPIPE ended
}

local OF_KIND = {
    throttled = M.TEMPORARY, network = M.TEMPORARY, timeout = M.TEMPORARY, service = M.TEMPORARY,
    auth = M.REFUSED, denied = M.REFUSED, credentials = M.REFUSED,
    config = M.CONFIG, argument = M.CONFIG, tls = M.CONFIG,
    storage = M.STORE,
}

local OF_STORE_CODE = { locked = M.LOCKED, damaged = M.DAMAGED }

local NEXT = {
    [M.NOT_FOUND] = "`csms list` shows what the service has, `csms status DIR` what a folder has",
    [M.TEMPORARY] = "this may pass: run the same command again",
    [M.REFUSED] = "`csms doctor` shows which keys are used and what they are allowed",
    [M.CONFIG] = "`csms doctor` checks the configuration, `csms COMMAND --help` has examples",
    [M.DAMAGED] = "`csms verify DIR` names what is damaged; `--at` restores an older backup",
    [M.DEADLINE] = "the deadline ended it: allow more time with --deadline, or run it again",
    [M.LOCKED] = "wait until the other one has ended, then run this again",
    [M.STORE] = "what was saved before is intact: mend the file system, then run this again",
}

--- The code of a run that this signal ended.
function M.interrupted(signal)
    return 128 + signal
end

-- A 404 may also mean the secret's KMS key, or an endpoint that is not the service.
local function of_not_found(err, one_name)
    if errors.gateway_code(err) == "0101" then return M.CONFIG end
    local the_name = not err.code or err.code:find "^CSMS%."
    return one_name and the_name and M.NOT_FOUND or M.PARTIAL
end

--- The code of one error.
-- facts.one_name: it is the answer to a command about one NAME.
-- facts.deadline: --deadline was given.
function M.of_error(err, facts)
    if err.kind == "storage" and OF_STORE_CODE[err.code] then return OF_STORE_CODE[err.code] end
    if err.kind == "not_found" then return of_not_found(err, facts.one_name) end
    -- Only the whole call's deadline is a timeout that is not worth another attempt.
    local ended = err.past_deadline or err.kind == "timeout" and not err.retryable
    if ended and facts.deadline then return M.DEADLINE end
    return OF_KIND[err.kind] or M.PARTIAL
end

--- The code of a run over several things.
-- done: how many went well. failures: the codes of the others, as keys.
function M.of_several(done, failures)
    local first = next(failures)
    if not first then return M.OK end
    if done > 0 or next(failures, first) then return M.PARTIAL end
    return first
end

--- A line about what to do now, or nil.
function M.advice(exit)
    return NEXT[exit]
end

return M
