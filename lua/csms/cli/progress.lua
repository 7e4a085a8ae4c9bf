-- SPDX-License-Identifier: MIT
-- The line on a terminal that tells how far a run is. It is painted over itself
-- and wiped before anything else is written there.

local core = require "csms.core"

local M = {}

local Progress = {}
Progress.__index = Progress

local STDERR = 2
local PAUSE = 0.2     -- seconds between two paintings
local SETTLE = 1      -- seconds before a rate says anything

--- A line that shows nothing until set() is called.
function M.new()
    return setmetatable({ started = nil, painted_at = 0, length = 0 }, Progress)
end

--- How far it is. done and total may both still grow.
function Progress:set(done, total, failed)
    self.started = self.started or core.now()
    self.done, self.total, self.failed = done, total, failed
end

local function time_left(seconds)
    if seconds < 90 then return ("%d s left"):format(math.ceil(seconds)) end
    if seconds < 5400 then return ("%d min left"):format(math.ceil(seconds / 60)) end
    return ("%.1f h left"):format(seconds / 3600)
end

local function text_of(self, now)
    local parts = { ("%d of %d"):format(self.done, self.total) }
    local seconds = now - self.started
    if seconds >= SETTLE and self.done > 0 then
        local rate = self.done / seconds
        parts[#parts + 1] = ("%.1f a second"):format(rate)
        parts[#parts + 1] = time_left((self.total - self.done) / rate)
    end
    if self.failed > 0 then parts[#parts + 1] = self.failed .. " failed" end
    return "csms: " .. table.concat(parts, ", ")
end

--- Paints the line, but not more often than an eye can follow.
function Progress:paint()
    local now = core.now()
    if not self.started or now - self.painted_at < PAUSE then return end
    self.painted_at = now
    local width = core.terminal_width(STDERR) or 80
    local text = text_of(self, now):sub(1, math.max(width - 1, 1))
    io.stderr:write("\r", text, (" "):rep(math.min(self.length, width - 1) - #text))
    self.length = #text
end

--- Wipes the line.
function Progress:clear()
    if self.length > 0 then io.stderr:write("\r", (" "):rep(self.length), "\r") end
    self.length, self.painted_at = 0, 0
end

return M
