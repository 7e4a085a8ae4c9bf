-- SPDX-License-Identifier: MIT
-- A run's record: lines of JSON. The first is its header:
--   {store, started, endpoint, region, project, version, asked}
-- each further one has an `outcome`: saved, current, skipped, failed or removed of
-- a secret, and at the end {outcome = "ended", when, ...}.

local json = require "csms.json"
local utf8 = require "csms.utf8"

local M = {}

--- One line; its end included.
function M.encode(line)
    return utf8.clean(json.encode(line)) .. "\n"
end

local function decode(text)
    local value = json.decode(text)
    return type(value) == "table" and value or nil
end

local TEXTS = {
    "project", "name", "file", "sha256", "when", "endpoint", "region", "version", "kms_key_id",
}

local IS_TEXT = {}
for _, field in ipairs(TEXTS) do IS_TEXT[field] = true end

--- Whether a reader takes only text in this field of a line.
function M.is_text(field)
    return IS_TEXT[field] == true
end

local function has_texts(line)
    for _, field in ipairs(TEXTS) do
        if line[field] ~= nil and type(line[field]) ~= "string" then return false end
    end
    return true
end

local function is_header(line)
    return type(line.store) == "string" and type(line.started) == "string" and has_texts(line)
end

local function is_outcome(line)
    if type(line.outcome) ~= "string" or not has_texts(line) then return false end
    return line.outcome ~= "saved" or line.file ~= nil and line.sha256 ~= nil
end

local function add(record, line, number)
    if not line or not (number == 1 and is_header(line) or number > 1 and is_outcome(line)) then
        record.problem = record.problem or ("line %d is none that csms writes"):format(number)
    elseif number == 1 then
        record.header = line
    elseif line.outcome == "ended" then
        record.ended = line
    else
        record.lines[#record.lines + 1] = line
    end
end

--- Reads any text: {header, lines, ended, whole, problem}. `whole` is the length
--- without a torn last line; `problem` says what is wrong with the rest.
function M.read(text)
    local record = { lines = {}, whole = 0 }
    local number = 0
    repeat
        -- A pattern would take quadratic time where there is no line's end.
        local stop = text:find("\n", record.whole + 1, true)
        if stop then
            number = number + 1
            add(record, decode(text:sub(record.whole + 1, stop - 1)), number)
            record.whole = stop
        end
    until not stop
    return record
end

local COUNTED = { "saved", "current", "skipped", "failed", "removed" }

--- How many lines of each outcome.
function M.count(record)
    local counts = {}
    for _, outcome in ipairs(COUNTED) do counts[outcome] = 0 end
    for _, line in ipairs(record.lines) do
        counts[line.outcome] = (counts[line.outcome] or 0) + 1
    end
    return counts
end

return M
