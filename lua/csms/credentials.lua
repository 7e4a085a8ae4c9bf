-- SPDX-License-Identifier: MIT
-- Where keys come from. A provider is an object with get([refused]) ->
-- credential | nil, err; `refused` is a credential that a 401 voided, and a
-- provider that returns it again cannot renew. Keys go into a C credential at
-- once; no table here keeps them. A client passes its context as a second argument
-- (csms.credentials.source) and when the credential must be there as a third (of its
-- runtime's now(), or nil); a third result of get() tells a chain that the source has
-- nothing to offer.

local lazy = require "csms.lazy"

local chain = lazy "csms.credentials.chain"
local fixed = require "csms.credentials.fixed"
local metadata = lazy "csms.credentials.metadata"
local password = lazy "csms.credentials.password"
local pod_identity = lazy "csms.credentials.pod_identity"
local profile = lazy "csms.credentials.profile"

-- Without the environment that specs hand over.
local M = {
    static = fixed.static,
    token = fixed.token,
    env = function() return fixed.env() end,
    profile = function(path) return profile.new(path) end,
    metadata = function() return metadata.new() end,
    pod_identity = function() return pod_identity.new() end,
    password = function(login) return password.new(login) end,
    chain = function(providers) return chain.new(providers) end,
}

--- What a client without `credentials` uses: env, profile, pod_identity,
--- metadata, as the environment says now.
function M.default(getenv)
    local env = fixed.env(getenv)
    if env.credential then return env end -- what the chain would choose
    return chain.new {
        env, profile.new(nil, getenv), pod_identity.new(getenv), metadata.new(getenv),
    }
end

return M
