-- The library sticks to what Lua 5.4 and LuaJIT share.
std = "min"
max_line_length = 100
cache = false

files["lua/csms/runtime/nginx.lua"] = { std = "min+ngx_lua", self = false }
files["spec"] = { std = "max" }
files["spec/**/*_spec.lua"] = { std = "max+busted" }
files["spec/signers/compare.lua"] = { std = "max+busted" }
files["spec/emulator/**/*.lua"] = { std = "luajit+ngx_lua" }
files["spec/bench/openresty/handlers.lua"] = { std = "max+ngx_lua" }
files["lua/csms/runtime/cqueues.lua"] = { std = "min", self = false }
