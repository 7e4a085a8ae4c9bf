-- A slow-down that is seen without a clock: see spec/bench/instructions.lua.

local instructions = require "spec.bench.instructions"

local function why_not()
    if (os.getenv "CSMS_SPEC_LUA" or "lua5.4") ~= "lua5.4" then
        return "instructions are counted for lua5.4 alone"
    end
    local _, reason = instructions.available()
    return reason
end

describe("instructions of our own that a call takes", function()
    it("are at most 5 % above those that are kept", function()
        local reason = why_not()
        if reason then return pending(reason) end
        instructions.with_server(function(server)
            local figures = assert(instructions.compare(server))
            assert.equal(4, #figures)
            for _, item in ipairs(figures) do
                assert(item.ratio <= 1 + instructions.TOLERANCE,
                    ("%s: %d instructions, %d are kept; where that is meant: "
                    .. "spec/bench/instructions --update"):format(item.name, item.measured,
                    item.kept))
            end
        end)
    end)
end)
