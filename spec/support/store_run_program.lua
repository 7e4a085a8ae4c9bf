-- A program that does one work on a store: store_run_program.lua FOLDER WORK VERSION.

local store_run = require "spec.support.store_run"

local _, err = store_run.work(arg[1], arg[2], arg[3])
if err then
    io.stderr:write(tostring(err), "\n")
    os.exit(store_run.STORAGE)
end
