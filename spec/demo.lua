-- make demo: the main job, against an emulated service on this machine.

local csms = require "csms"
local emulator = require "spec.support.emulator"
local readme = require "spec.support.readme"

local function title(text)
    print("\n== " .. text)
end

local function run(service)
    title("An emulated CSMS with 300 secrets at " .. service.endpoint)
    assert(csms.configure {
        endpoint = service.endpoint, ca_file = service.ca_file, project = service.project,
        credentials = csms.credentials.static { ak = service.ak, sk = service.sk },
    })

    local name = "secret-0042"
    local example = readme.blocks("lua")[1]
    title("The README's first example, with name = " .. name)
    io.write(example.code)
    local blob
    readme.load(example, {
        project = service.project, name = name,
        print = function(text)
            blob = text
            print("--> " .. text:sub(1, 60) .. "...")
        end,
    })()

    title("csms.inspect(blob)")
    local facts = assert(csms.inspect(blob))
    for _, key in ipairs { "format", "kid", "alg", "enc", "bytes", "complete" } do
        print(key, facts[key])
    end

    title("The secret is deleted, then restored from the blob")
    service:delete(name)
    print("show:   ", select(2, csms.show(service.project, name)))
    local secret = assert(csms.restore(service.project, blob))
    print("restore:", secret.name, secret.state, "id " .. secret.id)
    print("show:   ", assert(csms.show(service.project, name)).name)

    title("An error is a table")
    local _, err = csms.backup(service.project, "no-such-secret")
    for _, key in ipairs { "kind", "message", "retryable", "attempts", "status", "code",
        "request_id", "project", "name" } do
        print(key, err[key])
    end
    csms.close()
end

local service = emulator.start { secrets = 300 }
local good, problem = xpcall(run, debug.traceback, service)
service:stop()
if not good then
    io.stderr:write(problem, "\n")
    os.exit(1, true)
end
