-- SPDX-License-Identifier: MIT
-- A client: one endpoint, one source of credentials, and the operations on
-- them. One call is: check, build, exchange, read.

local api = require "csms.api"
local arguments = require "csms.arguments"
local auth = require "csms.auth"
local batch = require "csms.batch"
local budget = require "csms.budget"
local configuration = require "csms.config"
local core = require "csms.core"
local credentials = require "csms.credentials"
local errors = require "csms.errors"
local exchange = require "csms.exchange"
local limiter = require "csms.limiter"
local listing = require "csms.listing"
local runtime = require "csms.runtime"

local M = {}

local Client = { __name = "csms.client" }
Client.__index = Client

local function endpoint_of(config)
    if config.endpoint then return config.endpoint end
    if config.region then return "https://kms." .. config.region .. ".myhuaweicloud.com" end
    return nil, errors.new("config", "no endpoint: set `region` (or CSMS_REGION), such as "
        .. "cn-north-4, or `endpoint` (or CSMS_ENDPOINT)")
end

local function make_origin(config)
    local url, err = endpoint_of(config)
    if not url then return nil, err end
    local origin, problem = core.origin {
        url = url,
        ca_file = config.ca_file, proxy = config.proxy, allow_http = config.allow_http,
        http1 = config.http_version == "1.1",
        connect_timeout = config.connect_timeout, max_response = config.max_response,
        signing = config.signing, region = config.region, service = config.signing_service,
        user_agent = config.user_agent or "csms/" .. core.version .. " (" .. _VERSION .. ")",
    }
    if not origin then return nil, errors.from_core(problem) end
    return origin
end

--- A client, or nil and an error of kind "config". No I/O; what the config
--- leaves out is read from the environment now. How it waits can be replaced.
function M.new(config, how_to_wait)
    local checked, err = configuration.client(config)
    if not checked then return nil, err end
    local origin
    origin, err = make_origin(checked)
    if not origin then return nil, err end
    local own = not checked.credentials and credentials.env() or nil
    local emit = checked.on_event or function() end
    local policy = checked.retry or configuration.default_retry()
    return setmetatable({
        config = checked,
        origin = origin,
        own_credentials = own,
        auth = auth.new(checked.credentials or own, emit),
        budget = budget.new(policy.budget),
        limiter = limiter.new(checked.rate, policy.cap),
        runtime = how_to_wait or runtime,
        emit = emit,
        in_flight = {}, -- transfers, as keys
    }, Client)
end

--- Cancels what is in flight and wipes the keys that the client fetched itself.
--- May be called again; every later call answers an error of kind "config".
function Client:close()
    self.closed = true
    for transfer in pairs(self.in_flight) do transfer:cancel() end
    if self.own_credentials then self.own_credentials:close() end
end

Client.__close = Client.close
Client.__gc = Client.close

function Client:__tostring()
    return ("csms client (%s%s)"):format(tostring(self.origin), self.closed and ", closed" or "")
end

local function project_of(self, project)
    project = project or self.config.project
    if not project then
        return nil, errors.new("config", "no project: pass one, set `project`, or "
            .. "HUAWEICLOUD_SDK_PROJECT_ID")
    end
    local good, err = arguments.project(project)
    return good and project, err
end

-- What every kind of call needs: {project, timeout, retry}, or nil and the error.
local function prepare(self, project, opts, check_opts)
    if self.closed then
        return nil, errors.new("config", "the client is closed; make another with csms.new")
    end
    local checked, err = check_opts(opts, self.config)
    if not checked then return nil, err end
    checked.project, err = project_of(self, project)
    if not checked.project then return nil, err end
    return checked
end

local function prepare_call(self, name, project, argument, opts)
    local call, err = prepare(self, project, opts, configuration.call)
    if not call then return nil, err end
    local takes = api[name].takes
    local good
    good, err = arguments.argument(takes, argument, self.config.allow_periods)
    if not good then return nil, err end
    call.operation, call.argument = name, argument
    call.name = takes == "name" and argument or nil
    return call
end

-- Adds what the error is about.
local function failed(err, project, name)
    err.project, err.name = err.project or project, err.name or name
    return nil, err
end

local function run(self, name, project, argument, opts)
    local call, err = prepare_call(self, name, project, argument, opts)
    if not call then
        return failed(err, project, api[name].takes == "name" and argument or nil)
    end
    local result
    result, err = exchange.call(self, api[name], call)
    if err then return failed(err, call.project, call.name) end
    return result
end

-- Every operation of the api table is a method, except for one page of a list.
for name, operation in pairs(api) do
    if operation.takes then
        Client[name] = function(self, project, argument, opts)
            arguments.check_types(operation.takes, project, argument, opts, 2)
            return run(self, name, project, argument, opts)
        end
    end
end

--- An array of secret tables, all pages; or nil and the error.
function Client:list(project, opts)
    arguments.check_types(nil, project, nil, opts, 2)
    local call, err = prepare_call(self, "list", project, nil, opts)
    if not call then return failed(err, project) end
    local secrets = {}
    for page, page_err in listing.pages(self, call) do
        if page_err then return failed(page_err, call.project) end
        for _, secret in ipairs(page) do secrets[#secrets + 1] = secret end
    end
    return secrets
end

--- Backs up the secrets of these names: a report (design 2.1), or nil and the
--- error where nothing could be tried. Duplicate names count once.
function Client:backup_many(project, names, opts)
    arguments.check_types(nil, project, nil, nil, 2)
    arguments.check_names(names, opts, 2)
    local job, err = prepare(self, project, opts, configuration.batch)
    if not job then return failed(err, project) end
    return batch.many(self, job, names)
end

--- Backs up all secrets of the project, while it lists them: as above.
function Client:backup_all(project, opts)
    arguments.check_types(nil, project, nil, opts, 2)
    local job, err = prepare(self, project, opts, configuration.batch_all)
    if not job then return failed(err, project) end
    return batch.all(self, job)
end

return M
