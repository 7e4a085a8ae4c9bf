-- SPDX-License-Identifier: MIT
-- The pages of a listing. It goes on until a page is empty or next_marker is
-- absent or repeats: the service may clamp `limit`, so a short page proves
-- nothing, and the last page carries a marker too (csms-api.md 1.5).

local api = require "csms.api"
local exchange = require "csms.exchange"

local M = {}

local PAGE = 1000 -- the most that the service gives

-- Notes the names of a page in `given`, which keeps the last thousand at least.
-- Two sets, of which the older goes: memory stays flat over any listing.
local function note(given, secrets)
    if given.count >= PAGE then
        given.older, given.recent, given.count = given.recent, {}, 0
    end
    for _, secret in ipairs(secrets) do given.recent[secret.name] = true end
    given.count = given.count + #secrets
end

local function without(secrets, given)
    local rest = {}
    for _, secret in ipairs(secrets) do
        local known = given.recent[secret.name] or given.older[secret.name]
        if not known then rest[#rest + 1] = secret end
    end
    return rest
end

--- Iterates over pages: each step gives an array of secret tables, or false and
--- the error that ended the listing.
function M.pages(client, call)
    local marker
    local seen = {} -- markers
    local given = { recent = {}, older = {}, count = 0 }
    local ended = false
    return function()
        if ended then return nil end
        call.query = { limit = PAGE, marker = marker }
        local page, err = exchange.call(client, api.csms.list, call)
        if not page then
            ended = true
            return false, err
        end
        local secrets = page.secrets
        marker = page.next_marker
        local repeats = marker and seen[marker]
        ended = #secrets == 0 or not marker or marker == "" or repeats
        -- Mostly a page that was there already; if not, none of it is lost.
        if repeats then secrets = without(secrets, given) end
        if #secrets == 0 then return nil end
        seen[marker or ""] = true
        note(given, secrets)
        return secrets
    end
end

return M
