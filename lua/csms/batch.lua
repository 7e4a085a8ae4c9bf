-- SPDX-License-Identifier: MIT
-- Backing up many secrets: one bad secret never stops the others, nothing is
-- lost in silence, and the report names each.

local api = require "csms.api"
local arguments = require "csms.arguments"
local errors = require "csms.errors"
local exchange = require "csms.exchange"
local globs = require "csms.globs"
local listing = require "csms.listing"

local M = {}

-- States that cannot be backed up; DISABLED is tried.
local SKIPPED = { PENDING_DELETE = true, FROZEN = true }

-- ---- the report -----------------------------------------------------------

local function start(client, job)
    local now = client.runtime.now()
    if next(client.batches) == nil then
        client.limiter:restart()
        client.budget.spent = false
    end
    return {
        client = client, job = job, started = now,
        shared = {}, -- what its items share: given_up, last_error (csms.retry)
        counts = { requests = 0, retries = 0, throttled = 0 },
        done = 0,
        report = {
            project = job.project, total = 0, ok = 0, failed = 0, skipped = 0,
            blobs = {}, errors = {},
        },
    }
end

local function finish(batch)
    local report, counts = batch.report, batch.counts
    report.requests, report.retries, report.throttled =
        counts.requests, counts.retries, counts.throttled
    report.seconds = batch.client.runtime.now() - batch.started
    return report
end

-- What a callback returns. An error in one ends the batch: no other one is called after it.
local function tell(batch, callback, ...)
    if not callback or batch.stopped then return end
    local good, result = pcall(callback, ...)
    if not good then
        batch.stopped = true
        error(result, 0)
    end
    return result
end

-- Counts one item and tells the callbacks.
local function record(batch, item, blob, err, facts)
    local report, job = batch.report, batch.job
    if facts.skipped then
        report.skipped = report.skipped + 1
    elseif err then
        report.failed = report.failed + 1
        report.errors[item.name] = err
    else
        report.ok = report.ok + 1
        if not job.on_result then report.blobs[item.name] = blob end
    end
    tell(batch, job.on_result, item.name, blob, err, facts)
    batch.done = batch.done + 1 -- only now: on_result may have waited
    tell(batch, job.on_progress, batch.done, report.total)
end

-- ---- one item -------------------------------------------------------------

local function call_of(batch, item)
    local call = exchange.new_call("backup", batch.job, item.name, item.name)
    call.counts, call.batch, call.told = batch.counts, batch.shared, batch.job.on_result ~= nil
    return call
end

local function back_up(batch, item, call)
    local client = batch.client
    local good, err = arguments.argument("name", item.name,
        item.listed or client.config.allow_periods)
    if not good then return nil, err end
    if batch.shared.given_up then return nil, errors.copy(batch.shared.given_up) end
    local blob
    blob, err = exchange.call(client, api.csms.backup, call)
    -- What voids the credential voids it for all; the rest sends nothing.
    if err and (err.kind == "auth" or err.kind == "credentials") then
        batch.shared.given_up = err
    end
    return blob, err
end

local function handle(batch, item)
    local facts = {
        state = item.state, kms_key_id = item.kms_key_id, update_time = item.update_time,
    }
    if SKIPPED[item.state] then
        facts.skipped = true
        return record(batch, item, nil, nil, facts)
    end
    local call = call_of(batch, item)
    local blob, err = back_up(batch, item, call)
    if err then err.project, err.name = batch.job.project, item.name end
    facts.attempts, facts.request_id = call.attempts or 0, call.request_id
    record(batch, item, blob, err, facts)
    return err
end

-- ---- the whole ------------------------------------------------------------

-- The first requests go alone, until an answer has authenticated: a wrong key
-- is sent once, not at full concurrency. Returns the error of a refused one.
local function prove_credential(batch, next_item)
    while not batch.client.auth.proven do
        local item = next_item()
        if item == nil then return nil end
        local err = handle(batch, item)
        if err and (err.kind == "auth" or err.kind == "credentials") then return err end
    end
end

-- A function that each() may call in other coroutines is made by one that has returned:
-- see csms.runtime.nginx.
local function handler_of(batch)
    return function(item) handle(batch, item) end
end

-- each() leaves items only where the work that the batch belongs to was cancelled.
local function fail_rest(batch, next_item)
    for item in next_item do
        batch.shared.given_up = batch.shared.given_up or errors.new("cancelled",
            "nothing was sent, because the work that the batch belongs to was cancelled")
        handle(batch, item)
    end
end

local function run_all(batch, next_item)
    local refused = prove_credential(batch, next_item)
    if refused and batch.report.ok == 0 then return nil, refused end
    local at_once = math.min(batch.job.concurrency, batch.most or math.huge)
    batch.client.runtime:each(next_item, at_once, handler_of(batch))
    fail_rest(batch, next_item)
    return finish(batch)
end

-- Counts the batches that run at once, also where a callback raises. What stands for
-- one is on this stack alone: it goes with it where nginx kills the handler, while the
-- code that LuaJIT compiles may keep the batch itself.
local function run(batch, next_item)
    local client, running = batch.client, {}
    client.batches[running] = true
    local good, report, err = pcall(run_all, batch, next_item)
    client.batches[running] = nil
    if not good then error(report, 0) end
    return report, err
end

local function iterate(items)
    local index = 0
    return function()
        index = index + 1
        return items[index]
    end
end

--- Backs up the secrets of these names: the report, or nil and the error.
-- job: checked opts and the project.
function M.many(client, job, names)
    local batch = start(client, job)
    local items, seen = {}, {}
    for _, name in ipairs(names) do
        if not seen[name] then
            seen[name] = true
            items[#items + 1] = { name = name }
        end
    end
    batch.report.total, batch.most = #items, math.max(#items, 1)
    return run(batch, iterate(items))
end

-- Takes the secrets of the next page that are asked for. Their names are the
-- service's own, so a bad one fails by itself.
local function fetch(batch, queue)
    local page, err = queue.pages()
    if not page then
        if err then err.project = batch.job.project end
        queue.ended, queue.problem = true, err
        return
    end
    for _, secret in ipairs(page) do
        local name = secret.name
        if tell(batch, queue.matches, name, secret) then
            queue.last = queue.last + 1
            queue[queue.last] = {
                name = name, listed = true, state = secret.state,
                kms_key_id = secret.kms_key_id, update_time = secret.update_time,
            }
        end
    end
    batch.report.total = queue.last
end

local function taker_of(batch, queue)
    local function fetch_more() fetch(batch, queue) end
    return function()
        while queue.first > queue.last and not queue.ended do
            batch.client.runtime:once_here(queue, fetch_more)
        end
        local item = queue[queue.first]
        queue[queue.first] = nil
        queue.first = queue.first + 1
        return item
    end
end

--- Backs up all secrets of the project while it lists them: the report, or nil
--- and the error where the first page failed.
function M.all(client, job)
    local batch = start(client, job)
    local call = exchange.new_call("list", job)
    call.counts = batch.counts
    local queue = {
        first = 1, last = 0, pages = listing.pages(client, call),
        matches = globs.matcher(job.match), ended = false, problem = nil,
    }
    fetch(batch, queue)
    if queue.problem then return nil, queue.problem end
    call.batch = batch.shared -- the other pages are asked for as the items are
    local report, err = run(batch, taker_of(batch, queue))
    if report then report.incomplete = queue.problem end
    return report, err
end

return M
