-- SPDX-License-Identifier: MIT
-- Which project a call is about: the one it names, the config's, the one that
-- the credentials belong to, or the one that IAM has for the region.

local api = require "csms.api"
local arguments = require "csms.arguments"
local errors = require "csms.errors"
local exchange = require "csms.exchange"
local retry = require "csms.retry"
local source = require "csms.credentials.source"

local M = {}

--- The region of a client: the config's, else the one that the endpoint names,
--- or nil.
function M.region(config, origin)
    return config.region or tostring(origin):match("//kms%.([%w-]+)%.my")
end

local function list_ids(projects)
    local ids = {}
    for _, item in ipairs(projects) do ids[#ids + 1] = item.id end
    return table.concat(ids, ", ")
end

-- csms-api.md 4.4: signed without X-Project-Id.
local function ask_iam(client, region, call)
    local origin, err = client:iam_origin()
    if not origin then return nil, err end
    local projects
    local question = exchange.new_call("projects", call)
    question.origin, question.query = origin, { name = region }
    projects, err = exchange.call(client, api.iam.projects, question)
    if not projects then return nil, err end
    if #projects == 1 then return projects[1].id end
    local found = #projects == 0 and "no project"
        or #projects .. " projects: " .. list_ids(projects)
    return nil, errors.new("config", ("IAM has %s for region %s; name the one to use as `project` "
        .. "(or HUAWEICLOUD_SDK_PROJECT_ID)"):format(found, region))
end

-- limit: when it must end; nil where it serves others too (csms.runtime.blocking), so
-- that its own caller's deadline is not theirs. Without timers nginx has it run by
-- another one of them, whose limit it is then.
local function keep_project(limit, client, region, call)
    local err
    client.project_error = nil -- for who does not wait for the end
    if call.ends_at ~= limit then
        local deadline = client.config.deadline
        call = { timeout = call.timeout, retry = call.retry, deadline = deadline,
            ends_at = limit or client.runtime.now() + deadline }
    end
    if not client.project then client.project, err = ask_iam(client, region, call) end
    client.project_error = err
end

-- Once for all calls that ask at the same time; kept for the client's life.
local function look_up(client, call)
    local region = M.region(client.config, client.origin)
    if not region then
        return nil, errors.new("config", "no project: pass one, set `project` or "
            .. "HUAWEICLOUD_SDK_PROJECT_ID, or set `region`, so that it can be looked up")
    end
    local ended = client.runtime:once(client.config, call.ends_at, keep_project, client, region,
        call)
    if not ended then
        return nil, retry.deadline_error(call, "the project was being looked up")
    end
    if not (client.project or client.project_error) then -- a callback's error ended it
        return look_up(client, call)
    end
    -- A copy: who waited for the same look-up gets an error of its own.
    return client.project, client.project_error and errors.copy(client.project_error)
end

--- The id to use for a call, or nil and the error. May ask the credentials'
--- source and IAM.
-- id: what the caller said, perhaps nil. call: {timeout, deadline, ends_at, retry}.
function M.resolve(client, id, call)
    id = id or client.config.project
    if not id then
        local credential, err = client.auth:credential(client.runtime.now(), call.ends_at)
        if not credential then return nil, retry.or_deadline(client, call, err) end
        id = source.known(client.credentials, "project_id")
        if not id then
            id, err = look_up(client, call)
            if not id then return nil, err end
        end
    end
    local good, err = arguments.project(id)
    return good and id, err
end

return M
