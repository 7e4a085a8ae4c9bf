-- SPDX-License-Identifier: MIT
-- What a command says. Results go to stdout, as text or with --json as one
-- object a line; what is for people goes to stderr. A stdout that cannot be
-- written to never looks like success.

local core = require "csms.core"
local exit_codes = require "csms.cli.exit_codes"
local json = require "csms.json"
local progress = require "csms.cli.progress"
local streams = require "csms.cli.streams"
local utf8 = require "csms.utf8"

local M = {}

local Output = {}
Output.__index = Output

local STDERR, EPIPE = 2, 32
local MOST_PROBLEMS = 20 -- of single secrets that are shown

--- args: what the command line asked for (json, quiet, deadline).
function M.new(args)
    -- Where nobody watches, a run that went well says nothing.
    local watched = core.is_terminal(STDERR) and not args.quiet
    return setmetatable({
        json = args.json, quiet = args.quiet, watched = watched,
        deadline = args.deadline, ends_at = args.deadline and core.now() + args.deadline,
        line = watched and progress.new() or nil,
        problems = 0, hidden = 0, -- of single secrets: shown, and only counted
        late = false, -- whether one that is --deadline's was shown
        broken = nil, -- why stdout could not be written to
        unread = nil, -- whether that is because its reader has gone
    }, Output)
end

--- Without what would disturb a terminal or a line: control characters, those of
--- ISO 6429 (C1) too.
function Output.printable(text)
    return (tostring(text):gsub("%c", "?"):gsub("\194[\128-\159]", "?"))
end

-- ---- results: stdout --------------------------------------------------------

local function check_stdout(self, good, problem, code)
    if good or self.broken then return end
    self.broken = streams.stdout_was_closed and "it is closed" or problem
    self.unread = code == EPIPE
end

--- Bytes as they are.
function Output:write(bytes)
    check_stdout(self, io.stdout:write(bytes))
end

--- A line of text; nothing with --json.
function Output:print(text)
    if not self.json then self:write(text .. "\n") end
end

--- Rows of cells as aligned columns.
function Output:columns(rows)
    local widths = {}
    for _, row in ipairs(rows) do
        for index, cell in ipairs(row) do
            row[index] = Output.printable(cell)
            widths[index] = math.max(widths[index] or 0, #row[index])
        end
    end
    for _, row in ipairs(rows) do
        for index = 1, #row - 1 do
            row[index] = row[index] .. (" "):rep(widths[index] - #row[index])
        end
        self:print(table.concat(row, "  "))
    end
end

-- These come first, in this order, so that a line can be read and searched.
local RANK = {}
for index, key in ipairs {
    "type", "project", "name", "outcome", "file", "sha256", "bytes", "kind", "code", "message",
} do
    RANK[key] = index
end

local function keys_in_order(object)
    local keys = {}
    for key in pairs(object) do keys[#keys + 1] = key end
    table.sort(keys, function(one, other)
        local first, second = RANK[one] or math.huge, RANK[other] or math.huge
        if first ~= second then return first < second end
        return one < other
    end)
    return keys
end

-- The service's lists: lua-cjson writes an empty one as {}.
local LISTS = { event_subscriptions = true }

--- The JSON of a field of the service's.
function Output.json_of(key, value)
    local text = json.encode(value)
    return LISTS[key] and text == "{}" and "[]" or text
end

--- One object, a line of its own; nothing without --json.
function Output:object(object)
    if not self.json then return end
    local members = {}
    for index, key in ipairs(keys_in_order(object)) do
        members[index] = json.encode(key) .. ":" .. Output.json_of(key, object[key])
    end
    self:write(utf8.clean("{" .. table.concat(members, ",") .. "}\n"))
    check_stdout(self, io.stdout:flush()) -- whoever reads it acts on it now
end

-- ---- for people: stderr -----------------------------------------------------

local function say(self, text)
    if self.line then self.line:clear() end
    io.stderr:write("csms: ", Output.printable(text), "\n")
end

--- For who watches a terminal.
function Output:note(text)
    if self.watched then say(self, text) end
end

--- Unless --quiet.
function Output:report(text)
    if not self.quiet then say(self, text) end
end

function Output:warn(text)
    self:report("warning: " .. text)
end

--- Always.
function Output:problem(text)
    say(self, text)
end

--- Makes an error say which deadline ended the command: the library knows only
--- what was left of it.
function Output:name_deadline(err)
    if self.deadline and err.kind == "timeout" and not err.retryable then
        err.message = ("the deadline of %g s has passed"):format(self.deadline)
    end
end

--- What failed with one of several. After some of them, and after the first that
--- --deadline ended, they are only counted.
function Output:item_problem(name, err)
    self:name_deadline(err)
    local late = self:exit_of(err) == exit_codes.DEADLINE
    if self.problems == MOST_PROBLEMS or late and self.late then
        self.hidden = self.hidden + 1
        return
    end
    self.problems, self.late = self.problems + 1, self.late or late
    say(self, name .. ": " .. tostring(err))
end

--- How many item_problem() did not show.
function Output:not_shown()
    return self.hidden
end

--- Says what ended the command, and what to do next: the exit code, and the
--- fields of the summary.
-- one_name: it is the answer to a command about one NAME.
function Output:failed(err, one_name)
    local exit = self:exit_of(err, one_name)
    self:name_deadline(err)
    say(self, exit > 128 and "interrupted" or tostring(err))
    local advice = exit_codes.advice(exit)
    if advice then say(self, advice) end
    return exit, { kind = err.kind, code = err.code, message = err.message }
end

--- The exit code of an error. After a signal, everything but the store's own
--- failures is taken to be its effect.
function Output:exit_of(err, one_name)
    local signal = core.caught_signal()
    if signal and err.kind ~= "storage" then return exit_codes.interrupted(signal) end
    return exit_codes.of_error(err, { one_name = one_name, deadline = self.deadline ~= nil })
end

--- Seconds until the run's deadline, or nil where there is none.
function Output:left()
    return self.ends_at and math.max(self.ends_at - core.now(), 0.001)
end

-- ---- progress ---------------------------------------------------------------

--- How far it is; after a signal no longer, as what is cancelled would count as done.
function Output:progress(done, total, failed)
    if not self.line or core.caught_signal() then return end
    self.line:set(done, total, failed)
    self.line:paint()
end

function Output:repaint()
    if self.line then self.line:paint() end
end

-- ---- the end ----------------------------------------------------------------

-- Everything written so far is out, or the exit code tells. A reader that has gone,
-- as `head` does, has what it wanted.
local function checked(self, exit)
    check_stdout(self, io.stdout:flush())
    if not self.broken then return exit end
    if not self.unread then say(self, "cannot write to standard output: " .. self.broken) end
    if exit ~= exit_codes.OK then return exit end
    return self.unread and exit_codes.UNREAD or exit_codes.INTERNAL
end

--- A text alone, such as help: to stdout where it was asked for, else to stderr.
function Output:text(text, exit)
    if exit ~= exit_codes.OK then
        io.stderr:write(text)
        return exit
    end
    self:write(text)
    return checked(self, exit)
end

--- Ends the output of a command: the code to exit with.
-- summary: fields of the last line of --json, or nil.
function Output:finish(exit, summary)
    if self.line then self.line:clear() end
    summary = summary or {}
    summary.type, summary.exit = "summary", exit
    self:object(summary)
    return checked(self, exit)
end

return M
