std = "min"
max_line_length = 100
cache = false

files["spec/**/*_spec.lua"] = { std = "+busted" }
files["spec/emulator/**/*.lua"] = { std = "luajit+ngx_lua" }
files["spec/emulator/**/*_spec.lua"] = { std = "+busted" }
