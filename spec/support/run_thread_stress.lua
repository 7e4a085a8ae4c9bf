-- run_thread_stress.lua HOST THREADS: the stress of csms.core in several threads, against an
-- emulator. Exits 1 where the script failed or the sanitizer reported anything.

local emulator = require "spec.support.emulator"

local host, threads = arg[1], arg[2]
local emu = emulator.start { secrets = 20 }
emu:fault { operation = "backup", delay = 0.02, probability = 0.5, times = 0 }
local words = {}
for name, value in pairs(emu.env) do words[#words + 1] = ("%s='%s'"):format(name, value) end
words[#words + 1] = "TSAN_OPTIONS='suppressions=spec/support/tsan.supp history_size=7 exitcode=66'"
words[#words + 1] = host .. " spec/support/thread_stress.lua " .. threads
local good = os.execute(table.concat(words, " "))
emu:stop()
os.exit(good == true and 0 or 1)
