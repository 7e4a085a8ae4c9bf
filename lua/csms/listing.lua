-- SPDX-License-Identifier: MIT
-- The pages of a listing. It goes on until a page is empty or next_marker is
-- absent or repeats: the service may clamp `limit`, so a short page proves
-- nothing, and the last page carries a marker too (csms-api.md 1.5).

local api = require "csms.api"
local exchange = require "csms.exchange"

local M = {}

local PAGE = 1000 -- the most that the service gives

--- Iterates over pages: each step gives an array of secret tables, or false and
--- the error that ended the listing.
function M.pages(client, call)
    local marker
    local seen = {}
    local ended = false
    return function()
        if ended then return nil end
        call.query = { limit = PAGE, marker = marker }
        local page, err = exchange.call(client, api.csms.list, call)
        if not page then
            ended = true
            return false, err
        end
        marker = page.next_marker
        local repeats = marker and seen[marker]
        ended = #page.secrets == 0 or not marker or marker == "" or repeats
        -- A marker that repeats gave a page that was there already.
        if #page.secrets == 0 or repeats then return nil end
        seen[marker or ""] = true
        return page.secrets
    end
end

return M
