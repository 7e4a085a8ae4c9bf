-- SPDX-License-Identifier: MIT
-- What on_event is told of a call: never a key, a token or a blob.

local M = {}

--- Tells of a call, where the client has somebody to tell.
-- event: "attempt", "retry", "throttled" or "done"; call: csms.exchange; err: the
-- attempt's or the call's error, or nil; since: when it began, or nil; wait: until
-- the next attempt, or nil.
function M.tell(client, event, call, err, since, wait)
    if not client.config.on_event then return end
    client.emit {
        event = event, operation = call.operation, project = call.project, name = call.name,
        attempt = call.attempts, wait = wait, seconds = since and client.runtime.now() - since,
        kind = err and err.kind, status = err and err.status, code = err and err.code,
        request_id = err and err.request_id or call.request_id,
    }
end

return M
