-- Which operation a method and a path mean, on the service's ports and on the metadata port.
local csms = require "spec.emulator.csms"
local iam = require "spec.emulator.iam"
local metadata = require "spec.emulator.metadata"

local routes = {}

local SECRETS = "^/v1/([^/]+)/secrets"
local ONE = SECRETS .. "/([^/]+)"

-- access: "project" (authenticated, the path's project), "account" (authenticated) or "own".
local function csms_route(operation, method, pattern)
    return { operation = operation, method = method, pattern = pattern .. "$",
        run = csms[operation], access = "project", limited = true }
end

routes.service = {
    csms_route("backup", "POST", ONE .. "/backup"),
    csms_route("restore", "POST", SECRETS .. "/restore"),
    csms_route("list", "GET", SECRETS),
    csms_route("create", "POST", SECRETS),
    csms_route("show", "GET", ONE),
    csms_route("delete", "DELETE", ONE),
    csms_route("create_version", "POST", ONE .. "/versions"),
    csms_route("list_versions", "GET", ONE .. "/versions"),
    csms_route("show_version", "GET", ONE .. "/versions/([^/]+)"),
    { operation = "iam_token", method = "POST", pattern = "^/v3/auth/tokens$", run = iam.token,
        access = "own", iam = true },
    { operation = "iam_projects", method = "GET", pattern = "^/v3/projects$", run = iam.projects,
        access = "account", iam = true },
}

routes.metadata = {
    { operation = "metadata_token", method = "PUT", pattern = "^/meta%-data/latest/api/token$",
        run = metadata.token, access = "own" },
    { operation = "metadata_keys", method = "GET", pattern = "^/openstack/latest/securitykey$",
        run = metadata.keys, access = "own" },
    { operation = "pod_identity", method = "POST", pattern = "^/pod%-identity$",
        run = metadata.pod_identity, access = "own" },
}

-- route | nil, and what the path's wildcards held
function routes.find(list, method, path)
    for _, route in ipairs(list) do
        if route.method == method then
            local first, second, third = path:match(route.pattern)
            if first then return route, first, second, third end
        end
    end
    return nil
end

return routes
