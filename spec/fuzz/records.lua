-- Run records of the store: any text is read, and what it gives can be counted,
-- described and written again.

local record = require "csms.store.record"
local runs = require "csms.store.runs"
local text = require "spec.fuzz.text"

local TEXTS = { "project", "name", "file", "sha256", "when" }

local function check_outcome(line)
    assert(type(line.outcome) == "string", "an outcome that is no text")
    for _, field in ipairs(TEXTS) do
        assert(line[field] == nil or type(line[field]) == "string", field .. " is no text")
    end
    assert(line.outcome ~= "saved" or line.file and line.sha256, "saved, but where?")
end

-- What is left without a torn line ends in a whole one, and reads the same.
local function check_whole(result, data)
    assert(result.whole == #(data:match("^(.*)\n") or "") + (data:find("\n", 1, true) and 1 or 0))
    local again = record.read(data:sub(1, result.whole))
    assert(again.whole == result.whole and #again.lines == #result.lines)
    assert(again.problem == result.problem)
end

local function check_header(header)
    assert(type(header.store) == "string" and type(header.started) == "string")
end

local function check_counts(result)
    local total = 0
    for _, count in pairs(record.count(result)) do total = total + count end
    assert(total == #result.lines, "lines that are not counted")
end

return function(input)
    local data = text.expand(input)
    local result = record.read(data)
    if result.header then check_header(result.header) end
    if result.ended then check_outcome(result.ended) end
    if result.problem then text.check_line("problem", result.problem, 200) end
    for _, line in ipairs(result.lines) do check_outcome(line) end
    check_whole(result, data)
    check_counts(result)
    runs.describe({ id = "20261121T160000.000Z-0123456789ab" }, result)
end
