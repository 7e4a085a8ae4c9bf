-- SPDX-License-Identifier: MIT
-- Where keys come from. A provider is an object with get([refused]) ->
-- credential | nil, err; `refused` is a credential that a 401 voided, and a
-- provider that returns it again cannot renew. Keys go into a C credential at
-- once; no table here keeps them. A client passes its context as a second
-- argument (csms.credentials.source), and a third result of get() tells a chain
-- that the source has nothing to offer.

local chain = require "csms.credentials.chain"
local fixed = require "csms.credentials.fixed"
local metadata = require "csms.credentials.metadata"
local password = require "csms.credentials.password"
local pod_identity = require "csms.credentials.pod_identity"
local profile = require "csms.credentials.profile"

local M = {
    static = fixed.static,
    token = fixed.token,
    env = fixed.env,
    profile = profile.new,
    metadata = metadata.new,
    pod_identity = pod_identity.new,
    password = password.new,
    chain = chain.new,
}

--- What a client without `credentials` uses: env, profile, pod_identity,
--- metadata, as the environment says now.
function M.default(getenv)
    return chain.new {
        fixed.env(getenv), profile.new(nil, getenv), pod_identity.new(getenv),
        metadata.new(getenv),
    }
end

return M
