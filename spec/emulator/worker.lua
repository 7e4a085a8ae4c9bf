-- Entry points of nginx.conf.
local state = require "spec.emulator.state"

local worker = {}

function worker.init(path)
    state.load(path)
    worker.gateway = require "spec.emulator.gateway"
    worker.control = require "spec.emulator.control"
    worker.watch = require "spec.emulator.watch"
end

function worker.start()
    state.reset()
    worker.watch.begin()
end

return worker
