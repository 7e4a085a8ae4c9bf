-- Ends the instance once the process that it was started for is gone.
local state = require "spec.emulator.state"

local watch = {}

local SECONDS = 1

-- Start time of a living process | nil. A number that was given to another process since has
-- another start time; a zombie is gone.
function watch.started(pid)
    local file = io.open("/proc/" .. pid .. "/stat", "rb")
    if not file then return nil end
    local text = file:read("*a") or ""
    file:close()
    local fields = {}
    for field in (text:match("%) (.*)$") or ""):gmatch("%S+") do fields[#fields + 1] = field end
    if fields[1] == "Z" or fields[1] == "X" then return nil end
    return fields[20]
end

local function is_gone()
    return watch.started(state.config.parent) ~= state.config.parent_started
end

local function look(premature)
    if premature or not is_gone() then return end
    os.execute("rm -rf -- '" .. state.config.dir .. "'")
    require("spec.emulator.sockets").stop_master() -- needs LuaJIT, which the launcher is not
end

function watch.begin()
    if state.config.parent then assert(ngx.timer.every(SECONDS, look)) end
end

return watch
