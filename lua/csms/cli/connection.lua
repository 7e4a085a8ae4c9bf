-- SPDX-License-Identifier: MIT
-- The client that a command works with, as its arguments and the environment say.

local csms = require "csms"
local interrupt = require "csms.cli.interrupt"

local M = {}

M.RATE_OF_ALL = 10 -- requests a second with --all: production shares the quota

local function tell(out)
    return function(event)
        if event.event == "warning" then
            out:warn(event.message)
        elseif event.event == "skew" then
            out:warn(("the clock of this machine is %.0f s off the service's; csms allows for it, "
                .. "but set it right"):format(math.abs(event.seconds)))
        end
    end
end

--- A client that stops on a signal, or nil and the error.
function M.open(args, out)
    local rate = args.rate or args.all and M.RATE_OF_ALL or 0
    local client, err = csms.new {
        endpoint = args.endpoint, region = args.region, project = args.project,
        ca_file = args.ca_file, deadline = args.deadline, concurrency = args.concurrency,
        rate = rate > 0 and rate or nil,
        allow_periods = true, on_event = tell(out),
    }
    if not client then return nil, err end
    local good
    good, err = interrupt.watch(client, out)
    return good and client, err
end

--- The project that the client works in: its id, or nil and the error.
function M.project(client, out)
    return client:project_id { deadline = out:left() }
end

--- Where it works, as the store records it: endpoint, region (perhaps nil).
function M.place(client)
    return tostring(client.origin), client.config.region
end

return M
