-- SPDX-License-Identifier: MIT
-- The store's one writer: it holds the lock and a run. Blobs are staged as
-- temporary files and made durable in groups; only then does the run name them
-- and is their callback called.

local blobs = require "csms.store.blobs"
local core = require "csms.core"
local directory = require "csms.store.directory"
local errors = require "csms.errors"
local identity = require "csms.store.identity"
local paths = require "csms.store.paths"
local record = require "csms.store.record"
local recovery = require "csms.store.recovery"
local stamps = require "csms.store.stamps"

local M = {}

local GROUP = 64        -- blobs that are made durable at once
local GROUP_SECONDS = 1 -- and how long the first of them waits for others
local LAST = 253402300799999 -- the last millisecond of the year 9999, which a stamp can say
local RECORD = 32 * 1024 * 1024 -- bytes after which a run's record makes room for another one

local Writer = {}
Writer.__index = Writer

-- ---- opening ----------------------------------------------------------------

local function lock(dir)
    local host, pid = core.process()
    local held, err = dir:lock(paths.LOCK, ("host %s pid %d\n"):format(host, pid))
    if err and err.code == "locked" then
        err.message = ("%s is in use by another writer (%s); wait for it to end")
            :format(dir.root, (err.cause or "it has not said who"):match("^%s*(.-)%s*$"))
        err.cause = nil
    end
    return held, err
end

-- Now, or the next millisecond that no other run has: readers know a run by its stamp,
-- the rest of its name changes when it is closed.
local function free_moment(found)
    local taken = {}
    for _, run in ipairs(found) do taken[run.stamp] = true end
    local moment = core.time()
    while taken[stamps.format(moment)] do moment = moment + 0.001 end
    return moment
end

-- The run's file, with its header in it.
local function start(self, moment)
    self.started = moment
    self.millis = math.floor(self.started * 1000) -- no blob is older than its run
    local run = paths.RUNS .. "/" .. paths.open_run(self.started)
    local header = {
        store = self.id, started = stamps.format(self.started), version = core.version,
    }
    for key, value in pairs(self.about) do header[key] = value end
    if self.goes_on then header.asked = nil end -- no part says what became of all
    local text = record.encode(header)
    local good, err = self.dir:create(run, text)
    -- Its name too: a prune removes files on the strength of it.
    if good then good, err = self.dir:sync { paths.RUNS } end
    if good then self.run, self.length = run, #text end
    return good, err
end

local function open(self)
    local err, found
    self.lock, err = lock(self.dir)
    if not self.lock then return nil, err end
    self.id, err = identity.read(self.dir)
    if err then return nil, err end
    if not self.id then
        self.id, err = identity.create(self.dir)
        if not self.id then return nil, err end
    end
    found, err = recovery.run(self.dir, self.id)
    if not found then return nil, err end
    return start(self, free_moment(found))
end

--- Locks the store at `path`, which it makes if needed, closes what a killed run
--- left, and starts a run: the writer, or nil and the error (code "locked" where
--- another writer holds it). about: what the run's header says besides: endpoint,
--- region, project, asked.
function M.open(path, about)
    local dir, err = directory.open(path, true)
    if not dir then return nil, err end
    local _, pid = core.process()
    local self = setmetatable({ dir = dir, pid = pid, about = about, staged = {}, last = {} },
        Writer)
    local good
    good, err = open(self)
    if good then return self end
    self:abandon()
    return nil, err
end

--- Frees the lock without a further word; the next writer closes the run.
function Writer:abandon()
    if self.lock then self.lock:close() end
    self.dir:close()
end

-- ---- the record -------------------------------------------------------------

local function append(self, text)
    local good, err = self.dir:append(self.run, text)
    if good then self.length = self.length + #text end
    return good, err
end

-- After a failure there may be blobs that the run does not name, and a torn line:
-- the run is closed as that of a killed writer is.
local function end_run(self, ended)
    if self.failed or not self.run then
        local found, err = recovery.run(self.dir, self.id)
        return found and true, err
    end
    return recovery.close_run(self.dir, self.run, ended or {})
end

-- A program may write for years without an end: what is recorded is read at once. Goes on
-- in another run where the record has become long: true, or nil and the error.
local function make_room(self)
    if self.run and self.length < RECORD then return true end
    local good, err = self:flush()
    if good then
        good, err = end_run(self, { incomplete = "the record became long; another run goes on" })
    end
    if not good then return nil, err end
    self.run, self.goes_on = nil, true
    return start(self, core.time()) -- 32 MiB after the one before
end

-- ---- blobs ------------------------------------------------------------------

-- The stamp of the newest blob in a folder, in milliseconds; 0 where there is none; or
-- nil and the error. The first time in a run the folder is read, and rid of what was
-- left there.
local function last_millis(self, folder)
    if self.last[folder] then return self.last[folder] end
    local entries, err = recovery.remove_temporaries(self.dir, folder)
    if not entries then return nil, err end
    local found = blobs.among(entries, folder)
    return found[1] and math.floor(found[1].saved_at * 1000 + 0.5) or 0
end

-- The time, or a millisecond after the blob before, in this run or of this secret, where
-- a clock was set back: the order of their names is the order in which they came.
local function next_time(self, folder)
    local last, err = last_millis(self, folder)
    if not last then return nil, err end
    self.millis = math.max(math.floor(core.time() * 1000), self.millis + 1)
    local millis = math.max(self.millis, last + 1)
    if millis > LAST then
        return nil, errors.new("config", ("%s/%s holds a backup from the end of the year 9999, "
            .. "after which no other can come; %s"):format(self.dir.root, folder,
            blobs.RID_OF_FUTURE:format "the folder"))
    end
    self.last[folder] = millis
    return (millis + 0.5) / 1000
end

--- Writes a blob to a temporary file: true, or nil and the error. Once it is
--- durable, which is when its group is, done({file, sha256, bytes}) is called, or
--- done(nil, err). facts: request_id, state, kms_key_id, update_time.
function Writer:stage(project, name, blob, facts, done)
    local folder, err = paths.folder(project, name)
    if not folder then return nil, err end
    local moment, good
    good, err = make_room(self)
    if not good then return nil, err end
    moment, err = next_time(self, folder)
    if not moment then return nil, err end
    local digest = core.sha256(blob)
    local item = {
        project = project, name = name, facts = facts, done = done, folder = folder,
        temporary = paths.temporary(folder),
        file = folder .. "/" .. paths.blob(moment, digest),
        sha256 = digest, bytes = #blob,
    }
    good, err = self.dir:create(item.temporary, blob)
    if not good then return nil, err end
    local staged = self.staged
    staged[#staged + 1] = item
    staged.since = staged.since or core.now()
    if #staged < GROUP and core.now() - staged.since < GROUP_SECONDS then return true end
    return self:flush()
end

-- What a server said, where JSON can say it too (1e999 is a number that it cannot), and
-- where a reader of the record takes it.
local function plain(key, value)
    local kind = type(value)
    if kind == "string" then return value end
    if kind == "number" and value - value == 0 and not record.is_text(key) then return value end
end

local function line_of(item)
    local facts = item.facts
    return record.encode {
        outcome = "saved", project = item.project, name = item.name,
        file = item.file, sha256 = item.sha256, bytes = item.bytes,
        request_id = plain("request_id", facts.request_id), state = plain("state", facts.state),
        kms_key_id = plain("kms_key_id", facts.kms_key_id),
        update_time = plain("update_time", facts.update_time),
    }
end

-- In this order: the data, then its names, then the run that speaks of it.
local function make_durable(self, staged)
    local dir = self.dir
    local files = {}
    for index, item in ipairs(staged) do files[index] = item.temporary end
    local good, err = dir:sync(files)
    if not good then return nil, err end
    local lines = {}
    for index, item in ipairs(staged) do
        good, err = dir:rename(item.temporary, item.file)
        if not good then return nil, err end
        lines[index] = line_of(item)
    end
    good, err = dir:sync(paths.folders_above(files))
    if good then good, err = append(self, table.concat(lines)) end
    if good then good, err = dir:sync { self.run } end
    return good, err
end

-- Each is told, also after one whose callback raises: that error goes on, the first one.
local function tell(staged, err)
    local called, problem = true, nil
    for _, item in ipairs(staged) do
        local saved = not err and { file = item.file, sha256 = item.sha256, bytes = item.bytes }
        local good, raised = pcall(item.done, saved or nil, err)
        if called and not good then called, problem = false, raised end
    end
    if not called then error(problem, 0) end
end

--- Makes durable what is staged: true, or nil and the error, which each of the
--- callbacks is given too.
function Writer:flush()
    local staged = self.staged
    if #staged == 0 then return true end
    self.staged = {}
    local good, err = make_durable(self, staged)
    if not good then
        self.failed = true
        -- It may have its final name already.
        for _, item in ipairs(staged) do self.dir:remove(item.temporary) end
    end
    tell(staged, err)
    return good, err
end

--- Adds a line on a secret that is not saved: true, or nil and the error. It is
--- durable with the next group.
-- outcome: "current", "skipped", "failed" or "removed".
function Writer:note(project, name, outcome, fields)
    local line = {}
    for key, value in pairs(fields or {}) do
        if type(key) == "string" then line[key] = plain(key, value) end
    end
    line.outcome, line.project, line.name = outcome, project, name
    local good, err = make_room(self)
    if good then good, err = append(self, record.encode(line)) end
    self.failed = self.failed or not good
    return good, err
end

-- ---- closing ----------------------------------------------------------------

--- Makes durable what is staged, ends the run and frees the lock: true, or nil
--- and the error. ended: what the run's last line says besides the time. In a forked
--- child it does neither: the run is its parent's.
function Writer:close(ended)
    local _, pid = core.process()
    if pid ~= self.pid then
        self:abandon()
        return true
    end
    local called, good, err = pcall(self.flush, self) -- a callback may raise
    local closed, problem = end_run(self, ended)
    self:abandon()
    if not called then error(good, 0) end
    if not good then return nil, err end
    return closed, problem
end

return M
