-- SPDX-License-Identifier: MIT
-- Several sources in order: the first that has something is asked from then on.

local arguments = require "csms.arguments"
local errors = require "csms.errors"
local source = require "csms.credentials.source"

local M = {}

local Chain = { __name = "csms.provider" }
Chain.__index = Chain

-- A source that is there but failed ends the search: another one's keys may be
-- another user's. A program's own cannot tell the two apart: the next is asked.
local function choose(self, refused, context, ends_at)
    local said = {}
    for _, provider in ipairs(self.providers) do
        local credential, err, absent = provider:get(refused, context, ends_at)
        if credential then
            self.chosen = provider
            return credential
        end
        if not errors.is_error(err) then
            err = errors.new("credentials", err and tostring(err) or "a source gave no credential")
        end
        if absent == false then return nil, err, false end
        said[#said + 1] = err.message
    end
    local message = "no source has credentials: " .. table.concat(said, "; ")
    return nil, errors.new("credentials", message), true
end

function Chain:get(refused, context, ends_at)
    if self.closed then return source.fail("chain", "the provider is closed") end
    if self.chosen then return self.chosen:get(refused, context, ends_at) end
    return choose(self, refused, context, ends_at)
end

--- What the chosen source knows of the project and of IAM.
function Chain:knows(field)
    return self.chosen and source.known(self.chosen, field)
end

--- Closes every source that can be.
function Chain:close()
    for _, provider in ipairs(self.providers) do
        if provider.close then provider:close() end
    end
    self.closed = true
end

function Chain:__tostring()
    return ("csms credentials.chain (%s)"):format(tostring(self.chosen or "nothing chosen yet"))
end

--- chain{provider, ...}: in the order in which they are asked.
function M.new(providers)
    arguments.expect("table", 1, "providers", providers)
    local copy = {}
    for index, provider in ipairs(providers) do
        if type(provider) ~= "table" or type(provider.get) ~= "function" then
            return nil, errors.new("config", ("credentials.chain: element %d is no provider")
                :format(index))
        end
        copy[index] = provider
    end
    for index in pairs(providers) do
        if not copy[index] then
            return nil, errors.new("config", "credentials.chain: the list has a hole or a named "
                .. "element; a provider that could not be made is nil: use assert() on each")
        end
    end
    if #copy == 0 then return nil, errors.new("config", "credentials.chain: the list is empty") end
    return setmetatable({ providers = copy }, Chain)
end

return M
