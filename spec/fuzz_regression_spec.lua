-- The fuzz targets whose property is written in Lua, over their seeds and over what they
-- have found: on both Luas, and without a fuzzer. See spec/fuzz/README.md.

local files = require "spec.support.files"

for _, target in ipairs { "blob", "errors", "records", "throttling" } do
    describe("fuzz target " .. target, function()
        local check = require("spec.fuzz." .. target)
        for _, folder in ipairs { "corpus", "regressions" } do
            for _, path in ipairs(files.list("spec/fuzz/" .. folder .. "/" .. target, ".")) do
                it("holds for " .. path, function() check(files.read(path)) end)
            end
        end
    end)
end
