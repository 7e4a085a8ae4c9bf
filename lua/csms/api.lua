-- SPDX-License-Identifier: MIT
-- The services' operations as data: csms (csms-api.md 1.1), whose entries are the
-- client's methods, and what credentials need of others. A new one is an entry, of the
-- client's also a row in csms.arguments' TAKES:
--   method, path   its first %s is the project, its second the name
--   takes          what its second argument is called: a check in csms.arguments
--   query          names of the call's `query` that are sent, in this order: csms.listing and
--                  csms.project fill it
--   body           function(argument) -> the JSON body as a table
--   read           function(JSON body) -> the result | nil, what is missing
--   fresh          sends over a new connection, because it is not idempotent
--   actions        the IAM actions that it needs

local M = { csms = {}, iam = {}, metadata = {}, pod_identity = {} }

local function is_list(value)
    return type(value) == "table" and (#value > 0 or next(value) == nil)
end

local function secret(body)
    if type(body.secret) ~= "table" then return nil, "no secret" end
    return body.secret
end

M.csms.backup = {
    method = "POST",
    path = "/v1/%s/secrets/%s/backup",
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

M.csms.restore = {
    method = "POST",
    path = "/v1/%s/secrets/restore",
    takes = "blob",
    body = function(blob) return { secret_blob = blob } end,
    read = secret,
    fresh = true,
}

M.csms.show = {
    method = "GET",
    path = "/v1/%s/secrets/%s",
    takes = "name",
    read = secret,
    actions = { "csms:secret:get" },
}

-- One page; csms.listing asks for the next ones.
M.csms.list = {
    method = "GET",
    path = "/v1/%s/secrets",
    query = { "limit", "marker" },
    read = function(body)
        if not is_list(body.secrets) then return nil, "no list of secrets" end
        for _, item in ipairs(body.secrets) do
            if type(item) ~= "table" or type(item.name) ~= "string" then
                return nil, "a list with what is no secret"
            end
        end
        local page_info = type(body.page_info) == "table" and body.page_info or {}
        local next_marker = page_info.next_marker
        if type(next_marker) == "table" then return nil, "a next_marker that is no text" end
        return { secrets = body.secrets, next_marker = next_marker }
    end,
    actions = { "csms:secret:list" },
}

-- ---- IAM (csms-api.md 4.3 and 4.4) ------------------------------------------

M.iam.projects = {
    method = "GET",
    path = "/v3/projects",
    query = { "name" },
    read = function(body)
        if not is_list(body.projects) then return nil, "no list of projects" end
        for _, item in ipairs(body.projects) do
            if type(item) ~= "table" or type(item.id) ~= "string" then
                return nil, "a list with what is no project"
            end
        end
        return body.projects
    end,
    actions = { "iam:projects:listProjects" },
}

-- The answer's token is a header, so whoever asks reads the answer itself.
M.iam.token = {
    method = "POST",
    path = "/v3/auth/tokens",
    body = function(login)
        return {
            auth = {
                identity = {
                    methods = { "password" },
                    password = {
                        user = {
                            name = login.user, password = login.password,
                            domain = { name = login.domain },
                        },
                    },
                },
                scope = { project = { id = login.project_id, name = login.project } },
            },
        }
    end,
}

-- ---- the metadata service of an instance (4.2), and of a container (4.1) ----

M.metadata.endpoint = "http://169.254.169.254"
M.metadata.token = { method = "PUT", path = "/meta-data/latest/api/token" }
M.metadata.keys = { method = "GET", path = "/openstack/latest/securitykey" }

-- Its path is part of the URL that the platform names.
M.pod_identity.keys = {
    method = "POST",
    path = "/",
    body = function() return {} end,
}

return M
