-- SPDX-License-Identifier: MIT
-- What may be passed to an operation. A wrong type is a mistake in the program
-- and raises; a value that the service would refuse is an error of kind
-- "argument", before anything is sent.

local errors = require "csms.errors"

local M = {}

local function expected(position, what, value, level)
    error(("bad argument #%d: %s expected, got %s"):format(position, what, type(value)), level + 1)
end

--- Raises at `level` (as in error()) for a wrong type.
-- takes: what the second argument is called, or nil where there is none.
function M.check_types(takes, project, argument, opts, level)
    if project ~= nil and type(project) ~= "string" then
        expected(1, "project (string or nil)", project, level + 1)
    end
    if takes and type(argument) ~= "string" then
        expected(2, takes .. " (string)", argument, level + 1)
    end
    if opts ~= nil and type(opts) ~= "table" then
        expected(takes and 3 or 2, "opts (table or nil)", opts, level + 1)
    end
end

--- As above for what has opts alone.
function M.check_opts(opts, level)
    if opts ~= nil and type(opts) ~= "table" then
        expected(1, "opts (table or nil)", opts, level + 1)
    end
end

--- As above for backup_many's names, which must be strings in a list.
function M.check_names(names, opts, level)
    if type(names) ~= "table" then expected(2, "names (list of strings)", names, level + 1) end
    local count = 0
    for index, name in pairs(names) do
        if type(index) ~= "number" or type(name) ~= "string" then
            expected(2, "names (list of strings)", type(name) ~= "string" and name or index,
                level + 1)
        end
        count = count + 1
    end
    if count ~= #names then
        error("bad argument #2: the list of names has a hole", level + 1)
    end
    if opts ~= nil and type(opts) ~= "table" then
        expected(3, "opts (table or nil)", opts, level + 1)
    end
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
