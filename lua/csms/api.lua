-- SPDX-License-Identifier: MIT
-- The service's operations as data (csms-api.md 1.1). A new one is an entry here:
--   method, path   {project} and {name} are replaced
--   takes          what its second argument is called: a check in csms.arguments
--   query          names of the opts that become the query, in this order
--   body           function(argument) -> the JSON body as a table
--   read           function(JSON body) -> the result | nil, what is missing
--   fresh          sends over a new connection, because it is not idempotent
--   actions        the IAM actions that it needs

local M = {}

local function secret(body)
    if type(body.secret) ~= "table" then return nil, "no secret" end
    return body.secret
end

M.backup = {
    method = "POST",
    path = "/v1/{project}/secrets/{name}/backup",
    takes = "name",
    read = function(body)
        if body.secret_blob == nil then return nil, "no secret_blob" end
        if type(body.secret_blob) ~= "string" then return nil, "a secret_blob that is no string" end
        if body.secret_blob == "" then return nil, "an empty secret_blob" end
        return body.secret_blob
    end,
    actions = {
        "csms:secret:get", "kms:cmk:createDataKey", "kms:cmk:decryptDataKey", "kms:cmk:list",
    },
}

M.restore = {
    method = "POST",
    path = "/v1/{project}/secrets/restore",
    takes = "blob",
    body = function(blob) return { secret_blob = blob } end,
    read = secret,
    fresh = true,
}

M.show = {
    method = "GET",
    path = "/v1/{project}/secrets/{name}",
    takes = "name",
    read = secret,
    actions = { "csms:secret:get" },
}

-- One page; csms.listing asks for the next ones.
M.list = {
    method = "GET",
    path = "/v1/{project}/secrets",
    query = { "limit", "marker" },
    read = function(body)
        if type(body.secrets) ~= "table" then return nil, "no list of secrets" end
        local page_info = type(body.page_info) == "table" and body.page_info or {}
        return { secrets = body.secrets, next_marker = page_info.next_marker }
    end,
    actions = { "csms:secret:list" },
}

return M
