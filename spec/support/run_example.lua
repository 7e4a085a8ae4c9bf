-- Runs one of the README's Lua blocks, named by its number, as a program of its
-- own: the default client reads the environment that the spec gives it.

local readme = require "spec.support.readme"

local block = readme.blocks("lua")[tonumber(arg[1])]
readme.load(block, {
    project = os.getenv "HUAWEICLOUD_SDK_PROJECT_ID",
    ak = os.getenv "HUAWEICLOUD_SDK_AK",
    sk = os.getenv "HUAWEICLOUD_SDK_SK",
    name = "secret-0001",
    folder = os.getenv "README_FOLDER",
    blob = os.getenv "README_BLOB",
    save = function(name, blob) print("saved", name, #blob) end,
})()
