-- Stores written by hand, with a past of any length: what the README says of the
-- form on disk, in code that shares nothing with the store's but the SHA-256.

local cjson = require "cjson"
local core = require "csms.core"
local folders = require "spec.support.store_folder"
local shell = require("spec.support.file_child").shell

local M = {}

local History = {}
History.__index = History

--- The stamp of a moment, in seconds since 1970.
function M.stamp(seconds)
    local millis = math.floor(seconds * 1000 + 0.5)
    return os.date("!%Y%m%dT%H%M%S", math.floor(millis / 1000))
        .. (".%03dZ"):format(millis % 1000)
end

--- Seconds since 1970 of a moment in UTC.
function M.seconds(year, month, day, hour, minute, second)
    local text = ("%04d-%02d-%02dT%02d:%02d:%02dZ"):format(year, month, day, hour or 0, minute or 0,
        math.floor(second or 0))
    return tonumber(shell("date -u -d " .. text .. " +%s")) + (second or 0) % 1
end

--- A store in a new folder.
function M.new(root)
    local self = setmetatable({ root = root, id = ("0123456789abcdef"):rep(2), made = {} }, History)
    shell(("mkdir -p -m 700 '%s/runs' '%s/blobs'"):format(root, root))
    folders.write(root .. "/csms-store.json", ('{"format": 1, "id": "%s"}\n'):format(self.id))
    return self
end

local function folder_of(project, name)
    local folder = name:find "[A-Z]" and name .. "+" .. core.sha256(name):sub(1, 8) or name
    return ("blobs/%s/%s"):format(project, folder)
end

function History:write(path, bytes)
    local folder = path:match "^(.*)/" or "."
    if not self.made[folder] then
        shell(("mkdir -p -m 700 '%s/%s'"):format(self.root, folder))
        self.made[folder] = true
    end
    folders.write(self.root .. "/" .. path, bytes)
end

--- Writes a blob that was saved at that moment: the line of the run that saved it,
--- with `seconds` besides, which no line has on disk.
function History:blob(project, name, seconds, data)
    local digest = core.sha256(data)
    local file = ("%s/%s-%s.blob"):format(folder_of(project, name), M.stamp(seconds),
        digest:sub(1, 12))
    self:write(file, data)
    return {
        outcome = "saved", project = project, name = name, file = file, sha256 = digest,
        bytes = #data, seconds = seconds,
    }
end

local function encode(line)
    local copy = {}
    for key, value in pairs(line) do copy[key] = key ~= "seconds" and value or nil end
    return cjson.encode(copy):gsub("\\/", "/") .. "\n"
end

--- Writes the record of a run: its id.
-- header: what it says besides store, started and version; ended: what the last
-- line says besides its outcome, false for an unfinished run.
function History:run(seconds, header, lines, ended)
    local stamp = M.stamp(seconds)
    local first = { store = self.id, started = stamp, version = "0.1.0" }
    for key, value in pairs(header) do first[key] = value end
    local text = { encode(first) }
    for _, line in ipairs(lines) do text[#text + 1] = encode(line) end
    if ended ~= false then
        local last = { outcome = "ended", when = stamp }
        for key, value in pairs(ended or {}) do last[key] = value end
        text[#text + 1] = encode(last)
    end
    text = table.concat(text)
    local id = stamp .. "-" .. (ended == false and "00c0ffee0000" or core.sha256(text):sub(1, 12))
    self:write("runs/" .. id .. (ended == false and ".part" or ".jsonl"), text)
    return id
end

return M
