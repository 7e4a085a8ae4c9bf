-- SPDX-License-Identifier: MIT
-- csms: encrypted backups of the secrets that Huawei Cloud CSMS keeps.
--
--   local csms = require "csms"
--   local blob, err = csms.backup(project, name)
--
-- Requiring it does no I/O and reads no environment. Every operation is a
-- method of a client (csms.new) and, on the default client, a function here.

local lazy = require "csms.lazy"

local arguments = require "csms.arguments"
local blob = lazy "csms.blob"
local client = lazy "csms.client"
local core = require "csms.core"
local credentials = require "csms.credentials"
local store = lazy "csms.store"

local M = {
    _VERSION = core.version,
    credentials = credentials,
    inspect = function(...) return blob.inspect(...) end,
}

local default -- the default client

--- The store in a folder: an object, or nil and the error.
function M.store(dir)
    return store.open(dir)
end

-- Raises at the caller for a wrong type, and where the function was called with ':'.
local function check_config(name, config)
    if config == M then
        error(("%s is a function: call it with '.', as in csms.%s{...}"):format(name, name), 3)
    end
    arguments.expect("table", 1, "config", config, true, 3)
end

--- A client, or nil and an error of kind "config". No I/O.
-- config: see the README; what it leaves out comes from the environment, which
-- is read now.
function M.new(config)
    check_config("new", config)
    return client.new(config or {})
end

--- The config of the default client, for a program's start: true, or nil and
--- the error. A default client that is there already is closed.
function M.configure(config)
    check_config("configure", config)
    local made, err = client.new(config or {})
    if not made then return nil, err end
    M.close()
    default = made
    return true
end

--- Closes the default client, if there is one; configure() makes another.
function M.close()
    if default then default:close() end
end

--- Starts no request of the default client any more; what is in flight ends.
function M.stop()
    if default then default:stop() end
end

for name in pairs(arguments.TAKES) do
    M[name] = function(first, second, third)
        arguments.check(name, 2, first, second, third)
        local err
        if not default then default, err = client.new({}) end
        if not default then return nil, err end
        return default[name](default, first, second, third)
    end
end

return M
