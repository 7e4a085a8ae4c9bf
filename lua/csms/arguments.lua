-- SPDX-License-Identifier: MIT
-- What may be passed to an operation. A wrong type is a mistake in the program
-- and raises; a value that the service would refuse is an error of kind
-- "argument", before anything is sent.

local errors = require "csms.errors"

local M = {}

local PROJECT = { "project (string or nil)", type = "string", optional = true }
local NAME = { "name (string)", type = "string" }
local BLOB = { "blob (string)", type = "string" }
local NAMES = { "names (list of strings)", type = "table" }
local OPTS = { "opts (table or nil)", type = "table", optional = true }

--- What the methods of a client take.
M.TAKES = {
    backup = { PROJECT, NAME, OPTS }, restore = { PROJECT, BLOB, OPTS },
    show = { PROJECT, NAME, OPTS }, list = { PROJECT, OPTS },
    backup_many = { PROJECT, NAMES, OPTS }, backup_all = { PROJECT, OPTS },
    project_id = { OPTS },
}

local function expected(position, what, value, level)
    error(("bad argument #%d: %s expected, got %s"):format(position, what, type(value)), level + 1)
end

local function check_names(position, names, level)
    local count = 0
    for index, name in pairs(names) do
        if type(index) ~= "number" or type(name) ~= "string" then
            expected(position, NAMES[1], type(name) ~= "string" and name or index, level + 1)
        end
        count = count + 1
    end
    if count ~= #names then
        error(("bad argument #%d: the list of names has a hole"):format(position), level + 1)
    end
end

local function check(position, takes, value, level)
    if not takes or takes.optional and value == nil then return end
    if type(value) ~= takes.type then expected(position, takes[1], value, level + 1) end
    if takes == NAMES then check_names(position, value, level + 1) end
end

--- Raises at `level` (as in error()) where an argument of a method is of a wrong type.
function M.check(method, level, first, second, third)
    local takes = M.TAKES[method]
    check(1, takes[1], first, level + 1)
    check(2, takes[2], second, level + 1)
    check(3, takes[3], third, level + 1)
end

local function refuse(message, fields)
    return nil, errors.new("argument", message, fields)
end

--- true, or nil and the error. Shape: csms-api.md 1 (S26).
function M.project(project)
    if type(project) ~= "string" then return refuse("the project id is no string") end
    if #project ~= 32 or not project:find("^%w+$") then
        return refuse("a project id has 32 letters and digits; this one has " .. #project
            .. " characters; find it in the console under My Credentials")
    end
    return true
end

-- For messages: no control characters, not too long.
local function quote(name)
    return "'" .. name:sub(1, 80):gsub("[%c\128-\255]", "?") .. (#name > 80 and "..." or "") .. "'"
end

--- As the API's page has it: ^[a-zA-Z0-9_-]{1,64}$. Names that the service's
--- own listing gave may also hold periods, because the console makes such.
local function check_name(name, allow_periods)
    local fits = #name <= 64 and name:find("^[%w_.-]+$") and name ~= "." and name ~= ".."
    if fits and (allow_periods or not name:find(".", 1, true)) then return true end
    local remedy = fits
        and "; the console makes names with periods: set allow_periods = true for them" or ""
    return refuse(("secret name %s is not 1 to 64 letters, digits, %s'_' or '-'%s")
        :format(quote(name), allow_periods and "'.', " or "", remedy), { name = name })
end

local CHECKS = {
    name = check_name,
    blob = function(blob)
        if blob == "" then return refuse("the blob is empty; pass what backup returned") end
        return true
    end,
}

--- Checks the operation's second argument: true, or nil and the error.
function M.argument(takes, value, allow_periods)
    if not takes then return true end
    return CHECKS[takes](value, allow_periods)
end

return M
