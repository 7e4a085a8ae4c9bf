-- SPDX-License-Identifier: MIT
-- What may be passed to a function of the library. A wrong type is a mistake in the program
-- and raises; a value that the service would refuse is an error of kind
-- "argument", before anything is sent.

local errors = require "csms.errors"

local M = {}

-- The type, the name, and whether nil is right too.
local PROJECT = { "string", "project", true }
local NAME = { "string", "name" }
local BLOB = { "string", "blob" }
local NAMES = {} -- see check_names()
local OPTS = { "table", "opts", true }

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

--- Raises at `level` (as in error(); 2 where it is nil) for an argument of a wrong type.
-- optional: nil is right too.
function M.expect(kind, position, name, value, optional, level)
    if type(value) == kind or optional and value == nil then return end
    local what = ("%s (%s%s)"):format(name, kind, optional and " or nil" or "")
    expected(position, what, value, (level or 2) + 1)
end

local function check_names(position, names, level)
    local what, count = "names (list of strings)", 0
    if type(names) ~= "table" then expected(position, what, names, level + 1) end
    for index, name in pairs(names) do
        if type(index) ~= "number" or type(name) ~= "string" then
            expected(position, what, type(name) ~= "string" and name or index, level + 1)
        end
        count = count + 1
    end
    if count ~= #names then
        error(("bad argument #%d: the list of names has a hole"):format(position), level + 1)
    end
end

local function check(position, takes, value, level)
    if not takes or takes[3] and value == nil or type(value) == takes[1] then return end
    if takes == NAMES then
        check_names(position, value, level + 1)
    else
        M.expect(takes[1], position, takes[2], value, takes[3], level + 1)
    end
end

--- The same for all arguments of a method.
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
    if #project ~= 32 or not project:find("^[0-9a-zA-Z]+$") then
        return refuse("a project id has 32 letters and digits; this one has "
            .. (#project == 32 and "other" or #project)
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
    local fits = #name <= 64 and name:find("^[a-zA-Z0-9_.-]+$") and name ~= "." and name ~= ".."
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
