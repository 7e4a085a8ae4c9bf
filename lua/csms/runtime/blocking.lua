-- SPDX-License-Identifier: MIT
-- Waiting in a plain Lua program: the caller's own thread drives the engine.
-- Coroutines that each() made wait by yielding to its loop, so that any number
-- of calls go on at once; anybody else (the main program, a user's coroutine, a
-- gsub callback) steps the engine in place.

local core = require "csms.core"

local M = {}

local MAX_STEP = 60 -- seconds; a step ends early when a transfer does

local channel -- of this Lua state, made at the first request

--- Starts a request: transfer | nil, the core's plain error.
function M.submit(origin, credential, request)
    if not channel then
        local made, err = core.channel()
        if not made then return nil, err end
        channel = made
    end
    return channel:submit(origin, credential, request)
end

--- Waits until the transfer is done, however it ends.
function M.await(transfer)
    while not transfer:done() do
        core.step(MAX_STEP)
        while channel:drain() do end -- nobody else waits in this issue's runtime
    end
end

--- Seconds of a clock that never jumps, for durations.
M.now = core.now

--- Seconds since 1970, for signatures.
M.time = core.time

--- A number from 0 to below 1.
M.random = core.random

return M
