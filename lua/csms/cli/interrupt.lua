-- SPDX-License-Identifier: MIT
-- SIGINT and SIGTERM: no new request starts, what is in flight has some seconds
-- to end, then it is cancelled. A second SIGINT ends the process: all that a run
-- has saved is safe, and the next one closes its record.

local core = require "csms.core"
local errors = require "csms.errors"
local runtime = require "csms.runtime"

local M = {}

local EVERY = 0.25 -- seconds between looks

M.GRACE = 10 -- seconds that what is in flight has

--- From now on a signal ends the client's work instead of the process: true, or
--- nil and the error.
-- out: its progress line is kept up to date meanwhile.
function M.watch(client, out)
    local good, problem = core.catch_signals()
    if not good then return nil, errors.from_core(problem) end
    local stopped_at
    runtime:every(EVERY, function()
        if not core.caught_signal() then
            out:repaint()
        elseif not stopped_at then
            stopped_at = runtime.now()
            out:note(("interrupted: what is under way has %d s to end; a second Ctrl-C ends it "
                .. "at once"):format(M.GRACE))
            client:stop()
        elseif runtime.now() - stopped_at >= M.GRACE then
            client:close()
        end
    end)
    return true
end

return M
