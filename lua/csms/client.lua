-- SPDX-License-Identifier: MIT
-- A client: one endpoint, one source of credentials, and the operations on
-- them. One call is: check, build, exchange, read.

local lazy = require "csms.lazy"

local api = require "csms.api"
local arguments = require "csms.arguments"
local auth = require "csms.auth"
local batch = lazy "csms.batch"
local budget = require "csms.budget"
local configuration = require "csms.config"
local core = require "csms.core"
local credentials = require "csms.credentials"
local errors = require "csms.errors"
local exchange = require "csms.exchange"
local limiter = require "csms.limiter"
local listing = lazy "csms.listing"
local project = require "csms.project"
local regions = lazy "csms.regions"
local runtime = require "csms.runtime"
local source = require "csms.credentials.source"

local M = {}

local Client = { __name = "csms.client" }
Client.__index = Client

local function endpoint_of(config)
    if config.endpoint then return config.endpoint end
    if config.region then return regions.endpoint(config.region, configuration.variable) end
    return nil, errors.new("config", "no endpoint: set `region` (or CSMS_REGION), such as "
        .. "cn-north-4, or `endpoint` (or CSMS_ENDPOINT)")
end

-- signing: what differs between CSMS and IAM, which is always signed plainly.
local function make_origin(config, url, signing)
    local origin, problem = core.origin {
        url = url,
        ca_file = config.ca_file, proxy = config.proxy, allow_http = config.allow_http,
        http1 = config.http_version == "1.1",
        connect_timeout = config.connect_timeout, max_response = config.max_response,
        signing = signing, region = config.region, service = config.signing_service,
        user_agent = config.user_agent or "csms/" .. core.version .. " (" .. _VERSION .. ")",
    }
    if not origin then return nil, errors.from_core(problem) end
    return origin
end

local function make_iam_origin(config, url)
    if type(url) ~= "string" then -- as a program's own provider may have it
        return nil, errors.new("config", "the iam_endpoint of the credentials is no string")
    end
    local origin, err = make_origin(config, url, nil)
    if err and err.kind == "config" then err.message = "iam_endpoint: " .. err.message end
    return origin, err
end

-- What the client's provider may use (csms.credentials.source).
local function context_of(config, origin, how_to_wait, emit)
    return {
        runtime = how_to_wait, emit = emit,
        ca_file = config.ca_file, proxy = config.proxy,
        region = project.region(config, origin), iam_endpoint = config.iam_endpoint,
    }
end

--- A client, or nil and an error of kind "config". No I/O; what the config
--- leaves out is read from the environment now. How it waits can be replaced.
function M.new(config, how_to_wait)
    local checked, err = configuration.client(config)
    if not checked then return nil, err end
    local url, origin
    url, err = endpoint_of(checked)
    if not url then return nil, err end
    origin, err = make_origin(checked, url, checked.signing)
    if not origin then return nil, err end
    local iam
    if checked.iam_endpoint then
        iam, err = make_iam_origin(checked, checked.iam_endpoint)
        if not iam then return nil, err end
    end
    local provider = checked.credentials or credentials.default()
    local emit = checked.on_event or function() end
    local policy = checked.retry or configuration.default_retry()
    how_to_wait = how_to_wait or runtime
    return setmetatable({
        config = checked,
        origin = origin,
        iam = config.iam_endpoint and iam, -- the environment's comes after the credentials'
        credentials = provider,
        auth = auth.new(provider, context_of(checked, origin, how_to_wait, emit)),
        budget = budget.new(policy.budget),
        limiter = limiter.new(checked.rate, policy.cap),
        runtime = how_to_wait,
        emit = emit,
        -- Coroutine -> its transfer, or false: the key stays, because a table whose
        -- keys come and go is built anew all the time. Weak, because nginx ends a
        -- handler without a word.
        in_flight = setmetatable({}, { __mode = "kv" }),
        batches = setmetatable({}, { __mode = "k" }), -- that run; weak for the same reason
    }, Client)
end

--- The origin of IAM: the config's; else the credentials', the environment's or
--- the region's, made when it is first needed; or nil and the error.
function Client:iam_origin()
    local err
    if not self.iam then
        local url = source.known(self.credentials, "iam_endpoint") or self.config.iam_endpoint
            or regions.iam_endpoint(project.region(self.config, self.origin))
        self.iam, err = make_iam_origin(self.config, url)
    end
    return self.iam, err
end

--- Starts no request any more and lets what is in flight end; what would need
--- another request ends with an error of kind "cancelled".
function Client:stop()
    self.closed = true
end

--- Cancels what is in flight and wipes the keys that the client fetched itself.
--- May be called again; every later call answers an error of kind "config".
function Client:close()
    self:stop()
    for _, transfer in pairs(self.in_flight) do
        if transfer then transfer:cancel() end
    end
    if not self.config.credentials then self.credentials:close() end
end

Client.__close = Client.close
Client.__gc = Client.close

function Client:__tostring()
    return ("csms client (%s%s)"):format(tostring(self.origin), self.closed and ", closed" or "")
end

-- Raises at the caller of a method for wrong types, and where it was called with '.'.
local function check_arguments(self, name, first, second, third)
    if type(self) ~= "table" or not self.runtime then
        error(("%s is a method: call it with ':', as in client:%s(...)"):format(name, name), 3)
    end
    arguments.check(name, 3, first, second, third)
end

-- What every kind of call needs: {project, timeout, deadline, ends_at, retry}, or
-- nil and the error.
-- What needs no network is checked first.
local function prepare(self, id, opts, check_opts, takes, argument)
    if self.closed then
        return nil, errors.new("config", "the client is closed; make another with csms.new, "
            .. "or with csms.configure where it is the default one")
    end
    local good, limit = self.runtime:available()
    if not good then return nil, errors.new("config", limit) end
    local checked, err = check_opts(opts, self.config)
    if not checked then return nil, err end
    if limit then checked.deadline = math.min(checked.deadline or limit, limit) end
    checked.ends_at = checked.deadline and self.runtime.now() + checked.deadline
    good, err = arguments.argument(takes, argument, self.config.allow_periods)
    if not good then return nil, err end
    checked.project, err = project.resolve(self, id, checked)
    if not checked.project then return nil, err end
    return checked
end

local function prepare_call(self, name, id, argument, opts)
    local takes = api.csms[name].takes
    local checked, err = prepare(self, id, opts, configuration.call, takes, argument)
    if not checked then return nil, err end
    return exchange.new_call(name, checked, takes == "name" and argument or nil, argument)
end

-- Adds what the error is about.
local function failed(self, err, id, name)
    err.project, err.name = err.project or id or self.config.project, err.name or name
    return nil, err
end

local function run(self, name, id, argument, opts)
    local call, err = prepare_call(self, name, id, argument, opts)
    if not call then
        return failed(self, err, id, api.csms[name].takes == "name" and argument or nil)
    end
    local result
    result, err = exchange.call(self, api.csms[name], call)
    if err then return failed(self, err, call.project, call.name) end
    return result
end

--- Every operation of the api table is a method, except for one page of a list: backup(id,
--- name, opts) gives the blob, restore(id, blob, opts) and show(id, name, opts) the secret's
--- table; or nil and the error.
-- id: of the project, or nil for the client's. opts: {timeout, deadline, retry}, or nil.
-- A secret's table has the service's fields under its names: times are milliseconds since
-- 1970, and null is absent.
for name, operation in pairs(api.csms) do
    if operation.takes then
        Client[name] = function(self, id, argument, opts)
            check_arguments(self, name, id, argument, opts)
            return run(self, name, id, argument, opts)
        end
    end
end

--- The id of the project that a call without one is about; or nil and the error.
function Client:project_id(opts)
    check_arguments(self, "project_id", opts)
    local call, err = prepare(self, nil, opts, configuration.call)
    if not call then return nil, err end
    return call.project
end

--- An array of secret tables, all pages; or nil and the error.
function Client:list(id, opts)
    check_arguments(self, "list", id, opts)
    local call, err = prepare_call(self, "list", id, nil, opts)
    if not call then return failed(self, err, id) end
    local secrets = {}
    for page, page_err in listing.pages(self, call) do
        if page_err then return failed(self, page_err, call.project) end
        for _, secret in ipairs(page) do secrets[#secrets + 1] = secret end
    end
    return secrets
end

--- Backs up the secrets of these names: a report, or nil and the error where
--- nothing could be tried. Duplicate names count once; one bad secret never stops
--- the others.
-- opts: of one call, and `concurrency`; on_result(name, blob, err, facts), called as
-- each one ends, after which no blob is kept; on_progress(done, total). An error in
-- one of them is raised here, once what is in flight is cancelled.
-- facts: {attempts, request_id, skipped}, and {state, kms_key_id, update_time} where
-- the service listed the secret.
-- The report: {project, total, ok, failed, skipped, blobs = {name = blob},
-- errors = {name = err}, requests, retries, throttled, seconds}.
function Client:backup_many(id, names, opts)
    check_arguments(self, "backup_many", id, names, opts)
    local job, err = prepare(self, id, opts, configuration.batch)
    if not job then return failed(self, err, id) end
    return batch.many(self, job, names)
end

--- Backs up all secrets of the project, while it lists them: as above. Secrets in
--- a state that has no backup are skipped. Where a page of the listing fails, what
--- was listed is finished and `incomplete` of the report is the error.
-- opts: as above, and `match`: a glob, a list of globs, or function(name, secret).
function Client:backup_all(id, opts)
    check_arguments(self, "backup_all", id, opts)
    local job, err = prepare(self, id, opts, configuration.batch_all)
    if not job then return failed(self, err, id) end
    return batch.all(self, job)
end

return M
