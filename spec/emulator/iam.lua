-- As much of IAM as a CSMS client meets: tokens for a password, and projects by name.
local access = require "spec.emulator.access"
local answers = require "spec.emulator.answers"
local json = require "spec.emulator.json"
local state = require "spec.emulator.state"
local times = require "spec.emulator.times"

local iam = {}

local SHAPE = 3

local function refuse(status, message)
    return answers.error(status, tostring(status), message, SHAPE)
end

local function project_entry(id)
    return {
        id = id, name = state.config.region, domain_id = state.config.domain_id, enabled = true,
        is_domain = false, parent_id = state.config.domain_id, description = "",
    }
end

-- The account's projects in this region: one, unless a setting lists others.
local function projects()
    local ids = state.settings.iam_projects
    if ids == "default" then ids = { state.config.project } end
    local list = json.array()
    for i, id in ipairs(ids) do list[i] = project_entry(id) end
    return list
end

function iam.knows_project(id)
    if id == state.config.project then return true end
    for _, project in ipairs(projects()) do
        if project.id == id then return true end
    end
    return false
end

local function domain()
    return { id = state.config.domain_id, name = state.config.domain }
end

local function dig(value, ...)
    for _, key in ipairs({ ... }) do
        if type(value) ~= "table" then return nil end
        value = value[key]
    end
    return value
end

local function password_fits(identity)
    local config = state.config
    return dig(identity, "methods", 1) == "password"
        and dig(identity, "password", "user", "name") == config.user
        and dig(identity, "password", "user", "password") == config.password
        and dig(identity, "password", "user", "domain", "name") == config.domain
end

-- project id, or nil for a global token | nil, true where the project does not exist
local function scope(wanted)
    local id, name = dig(wanted, "project", "id"), dig(wanted, "project", "name")
    if not id and not name then return nil end
    for _, project in ipairs(projects()) do
        if project.id == id or (not id and project.name == name) then return project.id end
    end
    return nil, true
end

local function token_body(project, expires)
    local token = {
        methods = json.array({ "password" }), issued_at = times.iso(state.now()),
        expires_at = times.iso(expires), catalog = json.array(), roles = json.array(),
        user = { domain = domain(), id = state.config.user_id, name = state.config.user },
    }
    if project then
        token.project = { id = project, name = state.config.region, domain = domain() }
    else
        token.domain = domain()
    end
    return { token = token }
end

function iam.token(request)
    local body = json.is_declared(request) and json.decode(request.body)
    local auth = dig(body, "auth")
    if type(dig(auth, "identity")) ~= "table" then
        return refuse(400, "The request body is invalid")
    end
    if not password_fits(auth.identity) then
        return refuse(401, "The username or password is wrong.")
    end
    local project, unknown = scope(auth.scope)
    if unknown then return refuse(401, "The project of the scope does not exist.") end
    local token, expires = access.issue_token({ project = project })
    return answers.json(201, token_body(project, expires), { ["X-Subject-Token"] = token })
end

function iam.projects(request)
    local list = json.array()
    for _, project in ipairs(projects()) do
        if not request.args.name or project.name == request.args.name then
            list[#list + 1] = project
        end
    end
    return answers.json(200, { projects = list, links = { self = request.path } })
end

return iam
