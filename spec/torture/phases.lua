-- What spec/torture/allocator.c runs out of memory in: one function a phase, each
-- with what the one before returned. What they cannot do for want of memory is
-- either raised or an error of the library's.

local env = os.getenv

local function check(result, err)
    if result then return result end
    error(err.kind == "network" and err.message or tostring(err), 0)
end

local function load()
    return require "csms"
end

local function new(csms)
    return check(csms.new { retry = false, deadline = 20 })
end

local function backup(client)
    check(client:backup(env "HUAWEICLOUD_SDK_PROJECT_ID", "secret-0001"))
    return client
end

local function restore(client)
    local file = assert(io.open(env "TORTURE_BLOB", "rb"))
    local blob = file:read "a"
    file:close()
    local _, err = client:restore(env "HUAWEICLOUD_SDK_PROJECT_ID", blob)
    if err.kind ~= "rejected" then check(nil, err) end -- it says that the secret is there
    return client
end

local function close(client)
    client:close()
end

return { load, new, backup, restore, close }
