-- SPDX-License-Identifier: MIT
-- Which backups to keep. Pure: blobs in, decisions out.

local M = {}

local DAY = 86400

-- What tells one day, ISO week or month (UTC) from another.
local PERIODS = {
    daily = function(seconds) return math.floor(seconds / DAY) end,
    -- 1970-01-01 was a Thursday, and weeks begin on Monday.
    weekly = function(seconds) return math.floor((math.floor(seconds / DAY) + 3) / 7) end,
    monthly = function(seconds) return os.date("!%Y-%m", math.floor(seconds)) end,
}

-- The newest blob of each of the last `count` periods that have one.
local function keep_periods(blobs, count, period_of, kept)
    local periods, last = 0, nil
    for _, blob in ipairs(blobs) do
        local period = period_of(blob.saved_at)
        if period ~= last then
            if periods == count then return end
            periods, last = periods + 1, period
            kept[blob] = true
        end
    end
end

--- The blobs to keep, as keys of a table.
-- blobs: the newest first, each with `saved_at`; keep: {last, daily, weekly,
-- monthly}, numbers or nil.
function M.select(blobs, keep)
    local kept = {}
    for index = 1, math.min(keep.last or 0, #blobs) do kept[blobs[index]] = true end
    for name, period_of in pairs(PERIODS) do
        keep_periods(blobs, keep[name] or 0, period_of, kept)
    end
    return kept
end

return M
