-- The README's examples, for the specs and the demo that run them.

local files = require "spec.support.files"

local M = {}

--- The code blocks of a language, in order: {code, line} each.
function M.blocks(language)
    local blocks, block = {}, nil
    local number = 0
    for line in (files.read("README.md") .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        if block then
            if line == "```" then
                block.code = table.concat(block, "\n") .. "\n"
                blocks[#blocks + 1], block = block, nil
            else
                block[#block + 1] = line
            end
        elseif line == "```" .. language then
            block = { line = number + 1 }
        end
    end
    return blocks
end

--- Compiles a block whose free names are those of `env`, then Lua's own.
function M.load(block, env)
    setmetatable(env, { __index = _G })
    local name = "@README.md (from line " .. block.line .. ")"
    if setfenv then -- LuaJIT
        return setfenv(assert(loadstring(block.code, name)), env)
    end
    return assert(load(block.code, name, "t", env))
end

return M
