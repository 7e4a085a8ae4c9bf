-- SPDX-License-Identifier: MIT
-- A durable place for backups: a folder that anyone can read without this program
-- (its form: the README, "The store"). Readers take no lock; the first save opens
-- a run, which close() ends, and there is one writer at a time.
--
-- Its work is done in place: it blocks whoever calls it for as long as the disk does.

local arguments = require "csms.arguments"
local blobs = require "csms.store.blobs"
local config = require "csms.config"
local core = require "csms.core"
local directory = require "csms.store.directory"
local errors = require "csms.errors"
local identity = require "csms.store.identity"
local json = require "csms.json"
local paths = require "csms.store.paths"
local prune = require "csms.store.prune"
local runs = require "csms.store.runs"
local stamps = require "csms.store.stamps"
local status = require "csms.store.status"
local verify = require "csms.store.verify"
local writer = require "csms.store.writer"

local M = {}

local expect = arguments.expect

local Store = { __name = "csms.store" }
Store.__index = Store

-- nginx's worker would stand still for the time of an fsync. The privileged agent
-- serves nobody; it has no worker id.
local function check_host()
    local ngx = rawget(_G, "ngx")
    if not (ngx and ngx.get_phase) then return true end
    if ngx.get_phase() == "timer" and not ngx.worker.id() then return true end
    return nil, errors.new("config", "csms.store would block this nginx worker; run the command "
        .. "line `csms backup` beside nginx, or use it in a timer of the privileged agent")
end

-- ---- what a run's record says besides -------------------------------------------

local function has_json(value)
    return pcall(json.encode, value), "must be what JSON can say"
end

local function not_negative(value)
    return value >= 0, "must be a number of seconds, not negative"
end

local function is_project(value)
    return arguments.project(value), "must be a project id: 32 letters and digits"
end

-- As csms.config has them.
local ABOUT = {
    endpoint = { "string" }, region = { "string" }, project = { "string", check = is_project },
    asked = { "table", check = has_json },
}

local ENDED = {
    exit = { "number", check = has_json }, incomplete = { "any", check = has_json },
    interrupted = { "boolean" },
}

-- What a caller may note of a secret: save() and prune() write the others.
local NOTED = { current = true, skipped = true, failed = true }

-- ---- opening --------------------------------------------------------------------

--- The store in a folder: an object, or nil and an error of kind "config" or
--- "storage". A folder that is not there yet is made by the first save.
function M.open(path)
    expect("string", 1, "dir", path)
    local good, err = check_host()
    if not good then return nil, err end
    local self = setmetatable({ path = path, cache = {} }, Store)
    self.dir, err = directory.open(path)
    if self.dir then
        local _, problem = identity.read(self.dir)
        if problem and not identity.can_be_missed(problem) then return nil, problem end
    elseif err.code ~= "ENOENT" then
        return nil, err
    end
    return self
end

-- What readers need: the folder, or nil and the error.
local function reading(self)
    local good, err = check_host()
    if not good then return nil, err end
    if not self.dir then self.dir, err = directory.open(self.path) end
    return self.dir, err
end

-- The same for what is about one project, or about all where it is nil.
local function reading_of(self, project)
    if project == nil or arguments.project(project) then return reading(self) end
    return nil, errors.new("argument", ("'%s' is no project id, which has 32 letters and digits")
        :format(project:sub(1, 80)))
end

-- ---- writing ----------------------------------------------------------------

-- Calls fn when nothing refers to the guard any more: a table's __gc exists from
-- Lua 5.2 on. fn comes to no `in pairs()`: LuaJIT before September 2023, as Debian 12 has
-- it, goes round for ever in a compiled one that a finalizer leaves at its start
-- (LuaJIT#1000).
local function guard(fn)
    local newproxy = rawget(_G, "newproxy")
    if not newproxy then return setmetatable({}, { __gc = fn }) end
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = fn
    return proxy
end

local function not_in_a_run(self)
    if not self.writer then return true end
    return nil, errors.new("config", "this store object is in a run; close it first")
end

-- Makes durable what is staged, ends the run and frees the lock: true, or nil and the error.
local function finish(self, ended)
    local good, err = true, nil
    local out = self.writer
    self.writer, self.guard = nil, nil
    if out then good, err = out:close(ended) end
    if self.dir then self.dir:close() end
    self.dir = nil
    return good, err
end

--- Takes the lock, makes the store where there is none, closes what a killed
--- writer left, and starts a run: true, or nil and the error (code "locked" where
--- another writer is at work). save() does it by itself.
-- about: {endpoint, region, project, asked}, for the run's header, or nil.
function Store:open_run(about)
    expect("table", 1, "about", about, true)
    local good, err = check_host()
    if good then good, err = config.table("about", about or {}, ABOUT) end
    if not good then return nil, err end
    good, err = not_in_a_run(self)
    if not good then return nil, err end
    self.writer, err = writer.open(self.path, about or {})
    if not self.writer then return nil, err end
    -- Made after the lock, so that it is collected before it. It may be collected
    -- after its run was closed, when another one goes on. Whoever forgot to close the
    -- run, or was ended by an error, need not have come to its end. LuaJIT would raise the
    -- error of a callback wherever it happens to collect.
    local out = self.writer
    self.guard = guard(function()
        if self.writer == out then pcall(finish, self, { interrupted = true }) end
    end)
    return true
end

local function writing(self)
    if self.writer then return self.writer end
    local good, err = self:open_run()
    return good and self.writer, err
end

local MAX_BLOB = 64 * 1024 * 1024 -- what is read back at once

--- Writes a blob with others, as a group that is made durable together: true, or
--- nil and the error. done({file, sha256, bytes}) or done(nil, err) is called once
--- its group is: after 64 blobs, or a second, or by flush() or close(). An error that
--- it raises goes on from there, once the others of the group were told.
-- facts: request_id, state, kms_key_id, update_time, each optional.
function Store:stage(project, name, blob, facts, done)
    expect("string", 1, "project", project)
    expect("string", 2, "name", name)
    expect("string", 3, "blob", blob)
    expect("table", 4, "facts", facts, true)
    expect("function", 5, "done", done)
    if blob == "" or #blob > MAX_BLOB then
        return nil, errors.new("argument", blob == ""
            and "the blob is empty; pass what backup returned"
            or "the blob is longer than any backup (64 MiB)")
    end
    local good, err = paths.folder(project, name)
    if not good then return nil, err end
    local out
    out, err = writing(self)
    if not out then return nil, err end
    return out:stage(project, name, blob, facts or {}, done)
end

--- Makes durable what is staged: true, or nil and the error.
function Store:flush()
    if not self.writer then return true end
    return self.writer:flush()
end

--- Saves one blob: {file, sha256, bytes} once it is durable, file below the store's
--- folder; or nil and the error. facts: as for stage.
function Store:save(project, name, blob, facts)
    expect("string", 1, "project", project)
    expect("string", 2, "name", name)
    expect("string", 3, "blob", blob)
    expect("table", 4, "facts", facts, true)
    local saved
    local good, err = self:stage(project, name, blob, facts, function(result)
        saved = result
    end)
    if good and not saved then good, err = self:flush() end
    if not good then return nil, err end
    return saved
end

--- Notes in the run what became of a secret that is not saved: true, or nil and
--- the error. outcome: "current", "skipped" or "failed"; fields: kind, code, message,
--- state, file, ...
function Store:note(project, name, outcome, fields)
    expect("string", 1, "project", project)
    expect("string", 2, "name", name)
    expect("string", 3, "outcome", outcome)
    expect("table", 4, "fields", fields, true)
    if not NOTED[outcome] then
        return nil, errors.new("argument", ("outcome: '%s' is not known; known are current, "
            .. "failed, skipped"):format(outcome:sub(1, 80)))
    end
    local out, err = writing(self)
    if not out then return nil, err end
    return out:note(project, name, outcome, fields)
end

--- Makes durable what is staged, ends the run and frees the lock: true, or nil and
--- the error. May be called again; a later save starts another run. A run that nobody
--- closed, or that an error closed, is recorded as interrupted.
-- ended: for the run's last line, {exit, incomplete, interrupted}, or nil.
function Store:close(ended)
    expect("table", 1, "ended", ended, true)
    local good, err = config.table("ended", ended or {}, ENDED)
    if not good then return nil, err end
    return finish(self, ended)
end

-- problem: the error that ends the block, or nil.
Store.__close = function(self, problem)
    self:close(problem ~= nil and { interrupted = true } or nil)
end

-- ---- reading ----------------------------------------------------------------

-- The latest stamp that `at` allows, to one secret or to any: or nil and the error.
local function stamp_of(dir, at, project, name)
    local moment = stamps.parse_moment(at)
    if moment then return stamps.format(moment + 0.0001) end
    local found, err = runs.find(dir, at, project, name)
    if found then return found end
    return nil, err or errors.new("argument", ("'%s' is neither a time (2026-11-21 or "
        .. "2026-11-21T16:00Z) nor the id of a run"):format(at:sub(1, 80)))
end

local function choose(found, latest)
    for _, blob in ipairs(found) do
        if not latest or blob.stamp <= latest then return blob end
    end
end

local function find(dir, project, name, at)
    local folder, err = paths.folder(project, name)
    if not folder then return nil, err end
    local latest
    if at then
        latest, err = stamp_of(dir, at, project, name)
        if not latest then return nil, err end
    end
    local found
    found, err = blobs.of_folder(dir, folder)
    if not found then return nil, err end
    local blob = choose(found, latest)
    if blob then return blob end
    return nil, errors.new("not_found", ("%s holds no backup of this secret%s")
        :format(dir.root, #found > 0 and " that is as old as " .. at or ""),
        { project = project, name = name })
end

-- The blob, its data and its digest; or nil and the error. `again`: for itself.
local function find_and_read(dir, project, name, at, again)
    local blob, err = find(dir, project, name, at)
    if not blob then return nil, err end
    local data, digest = blobs.read(dir, blob)
    if data then return blob, data, digest end
    -- Pruned since it was listed: there is another one.
    if digest.code == "ENOENT" and not again then
        return find_and_read(dir, project, name, at, true)
    end
    return nil, digest
end

--- The moment, as a stamp, that `at` stands for (see read); or nil and the error.
function Store:moment(at)
    expect("string", 1, "at", at)
    local dir, err = reading(self)
    if not dir then return nil, err end
    return stamp_of(dir, at)
end

--- The newest backup of a secret, or the newest one not younger than `at`: the
--- blob, {file, sha256, bytes, saved_at, run, endpoint, region, kms_key_id}; or nil
--- and the error (kind "not_found"; "storage" with the code "damaged").
-- at: "2026-11-21" (its end, UTC), "2026-11-21T16:00Z", or a run's id. saved_at is in
-- seconds since 1970; what no run has recorded is absent.
function Store:read(project, name, at)
    expect("string", 1, "project", project)
    expect("string", 2, "name", name)
    expect("string", 3, "at", at, true)
    local dir, err = reading(self)
    if not dir then return nil, err end
    local blob, data, digest = find_and_read(dir, project, name, at)
    if not blob then return nil, data end
    local facts = runs.of_blob(dir, blob.file, blob.stamp, self.cache)
    facts.file, facts.sha256, facts.bytes, facts.saved_at = blob.file, digest, #data, blob.saved_at
    return data, facts
end

--- The newest good backup of a secret: {file, sha256, bytes, saved_at}; nil where
--- there is none; or nil and the error.
function Store:newest(project, name)
    expect("string", 1, "project", project)
    expect("string", 2, "name", name)
    local dir, err = reading(self)
    if not dir then
        if err.code == "ENOENT" then return nil end
        return nil, err
    end
    local folder
    folder, err = paths.folder(project, name)
    if not folder then return nil, err end
    local blob, data, digest = blobs.newest_good(dir, folder)
    if not blob then return nil, data end
    return { file = blob.file, sha256 = digest, bytes = #data, saved_at = blob.saved_at }
end

local function summary(dir, secret)
    local found, err = blobs.of_folder(dir, secret.folder)
    if not found then return nil, err end
    local bytes = 0
    for _, blob in ipairs(found) do
        local facts
        facts, err = dir:stat(blob.file)
        -- One that is gone was pruned since it was listed.
        if not facts and err.code ~= "ENOENT" then return nil, err end
        bytes = bytes + (facts and facts.size or 0)
    end
    return {
        project = secret.project, name = secret.name, count = #found, bytes = bytes,
        newest = found[1] and found[1].saved_at,
    }
end

--- What the store holds, of one project or of all: an array of {project, name,
--- newest, count, bytes}, `newest` in seconds since 1970; one whose folder cannot be
--- read has a `problem`, and counts of 0; or nil and the error.
function Store:list(project)
    expect("string", 1, "project", project, true)
    local dir, err = reading_of(self, project)
    if not dir then return nil, err end
    local secrets
    secrets, err = blobs.secrets(dir, project)
    if not secrets then return nil, err end
    local result = {}
    for _, secret in ipairs(secrets) do
        local item
        item, err = summary(dir, secret)
        item = item or {
            project = secret.project, name = secret.name, count = 0, bytes = 0,
            problem = paths.unreadable(err),
        }
        if item.count > 0 or item.problem then result[#result + 1] = item end
    end
    return result
end

-- The names of the secrets that list() has, as keys; or nil and the error.
local function names_there(self, project)
    local items, err = self:list(project)
    if not items then return nil, err end
    local there = {}
    for _, item in ipairs(items) do there[item.name] = true end
    return there
end

--- The names of a project's secrets of which there is no blob, though runs saved some that
--- none removed: a sorted array, or nil and the error.
function Store:lost(project)
    expect("string", 1, "project", project)
    local dir, err = reading_of(self, project)
    if not dir then return nil, err end
    local there, names
    there, err = names_there(self, project)
    if not there then return nil, err end
    names, err = runs.names(dir, project, there)
    if not names then return nil, err end
    there, err = names_there(self, project) -- again: what was saved meanwhile is not lost
    if not there then return nil, err end
    local lost = {}
    for name in pairs(names) do
        if not there[name] then lost[#lost + 1] = name end
    end
    table.sort(lost)
    return lost
end

--- The runs, the oldest first: an array of their headers, each with its id, `ended`
--- (a stamp; nil while it goes on), `interrupted`, `counts` of the outcomes, and where its
--- record is damaged a `problem`; or nil and the error.
-- project: those that are about it alone, or nil for all.
function Store:runs(project)
    expect("string", 1, "project", project, true)
    local dir, err = reading_of(self, project)
    if not dir then return nil, err end
    local result = {}
    local good
    good, err = runs.each(dir, function(found, run)
        if project and not runs.concerns(found, project) then return end
        table.insert(result, 1, runs.describe(run, found))
    end)
    if not good then return nil, err end
    return result
end

--- Reads all and names each fault: csms.store.verify.
-- project: the one whose blobs are read, or nil for all.
function Store:verify(project)
    expect("string", 1, "project", project, true)
    local dir, err = reading_of(self, project)
    if not dir then return nil, err end
    return verify.run(dir, project)
end

local STATUS = { max_age = { "number", check = not_negative }, project = { "string" } }

--- How old each secret's newest good backup is: csms.store.status.
-- opts: {max_age = seconds, project = id}, or nil.
function Store:status(opts)
    expect("table", 1, "opts", opts, true)
    opts = opts or {}
    local good, err = config.table("opts", opts, STATUS)
    if not good then return nil, err end
    local dir
    dir, err = reading_of(self, opts.project)
    if not dir then return nil, err end
    return status.run(dir, opts, core.time())
end

local KEEPS = { last = true, daily = true, weekly = true, monthly = true }

local function check_keep(keep)
    local any = false
    for name, count in pairs(keep) do
        if not KEEPS[name] then
            return nil, errors.new("argument", ("keep: '%s' is not known; known are last, daily, "
                .. "weekly, monthly"):format(tostring(name)))
        end
        if type(count) ~= "number" or count < 0 or count % 1 ~= 0 then
            return nil, errors.new("argument", ("keep: '%s' must be a whole number"):format(name))
        end
        any = any or count > 0
    end
    if any then return true end
    return nil, errors.new("argument", "keep: say what to keep, such as {daily = 30}")
end

--- Removes old backups: {removed = {file, ...}, kept = count}, or nil and the error.
--- The newest good blob of each secret stays, and so does the newest complete one
--- (csms.inspect).
-- keep: {last, daily, weekly, monthly}, at least one; dry_run: changes nothing; project:
-- the one that it is about, or nil for all.
function Store:prune(keep, dry_run, project)
    expect("table", 1, "keep", keep)
    expect("boolean", 2, "dry_run", dry_run, true)
    expect("string", 3, "project", project, true)
    local good, err = check_keep(keep)
    if not good then return nil, err end
    local dir
    dir, err = reading_of(self, project)
    if not dir then return nil, err end
    if dry_run then return prune.plan(dir, keep, project) end
    good, err = not_in_a_run(self)
    if not good then return nil, err end
    return prune.run(self.path, keep, project)
end

--- Notes as removed what runs saved, none removed, and is not there any more, because
--- somebody removed it by other means, so that verify() does not miss it: a list of the
--- files, or nil and the error. It reads the whole store, as verify() does.
-- dry_run, project: as for prune.
function Store:forget_missing(dry_run, project)
    expect("boolean", 1, "dry_run", dry_run, true)
    expect("string", 2, "project", project, true)
    local dir, err = reading_of(self, project)
    if not dir then return nil, err end
    if dry_run then return prune.missing(dir, project) end
    local good
    good, err = not_in_a_run(self)
    if not good then return nil, err end
    return prune.forget_missing(self.path, project)
end

return M
