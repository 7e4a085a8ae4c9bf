-- Regions and their endpoints, as the official SDKs have them. Nothing is sent here.

local cases = require "spec.support.cases"
local regions = require "csms.regions"

local failure = cases.failure

local function words(text)
    local list = {}
    for word in text:gmatch("%S+") do list[#list + 1] = word end
    return list
end

-- PY region/csms_region.py, GO region/region.go, JS CsmsRegion.ts: identical.
local ALL = words [[
    ae-ad-1 af-north-1 af-south-1 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4
    ap-southeast-5 cn-east-2 cn-east-3 cn-east-4 cn-east-5 cn-north-1 cn-north-2 cn-north-4
    cn-north-9 cn-north-11 cn-north-12 cn-south-1 cn-south-2 cn-southwest-2 cn-southwest-3
    la-north-2 la-south-2 me-east-1 my-kualalumpur-1 na-mexico-1 ru-moscow-1 sa-brazil-1 tr-west-1
]]

-- PY auth/endpoint.py, GO iam_endpoint.go
local GLOBAL_IAM = {
    ["af-north-1"] = true, ["ap-southeast-5"] = true, ["cn-north-11"] = true,
    ["cn-southwest-3"] = true,
}

local function nothing() end

local function env(variables)
    return function(name) return variables[name] end
end

describe("the endpoint of a region", function()
    it("is known for all 30 regions", function()
        assert.equal(30, #ALL)
        for _, region in ipairs(ALL) do
            assert.equal("https://kms." .. region .. ".myhuaweicloud.com",
                regions.endpoint(region, nothing))
        end
    end)

    it("comes from the environment's variable of the region first", function()
        assert.equal("HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4", (regions.variable("cn-north-4")))
        assert.equal("HUAWEICLOUD_SDK_REGION_CSMS_MY_KUALALUMPUR_1",
            (regions.variable("my-kualalumpur-1")))
        local variable = env { HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4 = "https://a.example" }
        assert.equal("https://a.example", regions.endpoint("cn-north-4", variable))
        assert.equal("https://kms.cn-north-1.myhuaweicloud.com",
            regions.endpoint("cn-north-1", variable))
    end)

    it("may be given so for a region that is not known", function()
        local variable = env { HUAWEICLOUD_SDK_REGION_CSMS_EU_WEST_101 = "https://a.example" }
        assert.equal("https://a.example", regions.endpoint("eu-west-101", variable))
    end)

    it("is the first of a list there", function()
        for _, list in ipairs { "https://a.example,https://b.example", " https://a.example ",
            "https://a.example , https://b.example", "https://a.example," } do
            local variable = env { HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4 = list }
            assert.equal("https://a.example", regions.endpoint("cn-north-4", variable))
        end
    end)

    it("is never nothing without an error, whatever the variable holds", function()
        for _, text in ipairs { " ", ",", " , ", ",https://a.example" } do
            local variable = env { HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4 = text }
            local endpoint, err = regions.endpoint("cn-north-4", variable)
            assert.is_true(endpoint ~= nil or err ~= nil, ("%q"):format(text))
        end
    end)

    it("is an error that names the keys to set where a region is not known", function()
        -- eu-west-0 has an IAM of its own, but no CSMS.
        for _, region in ipairs { "cn-north-5", "eu-west-0", "eu-west-101", "x", "cn-north" } do
            local err = failure("config", regions.endpoint(region, nothing))
            for _, key in ipairs { "'" .. region .. "'", "`endpoint`", "CSMS_ENDPOINT",
                (regions.variable(region)), "`iam_endpoint`", "HUAWEICLOUD_SDK_IAM_ENDPOINT" } do
                assert.matches(key, err.message, 1, true)
            end
        end
    end)
end)

describe("a client", function()
    local NO_KEYS = { HOME = "", HUAWEICLOUD_SDK_CREDENTIALS_FILE = "",
        HC_CONTAINER_CREDENTIALS_FULL_URI = "", CSMS_METADATA_ENDPOINT = "http://127.0.0.1:1" }

    local function run(config, variables)
        local environment = {}
        for name, value in pairs(NO_KEYS) do environment[name] = value end
        for name, value in pairs(variables or {}) do environment[name] = value end
        return (cases.run(([[
            local made, err = require("csms").new(%s)
            print(made or err)
            if made then print(made:iam_origin()) end
        ]]):format(config), environment))
    end

    it("of each region speaks to the region's endpoint", function()
        local output = cases.run(([[
            local csms = require "csms"
            local credentials = csms.credentials.token("T")
            for region in (%q):gmatch("%%S+") do
                print(csms.new { region = region, credentials = credentials })
            end
        ]]):format(table.concat(ALL, " ")))
        local expected = {}
        for index, region in ipairs(ALL) do
            expected[index] = "csms client (https://kms." .. region .. ".myhuaweicloud.com)\n"
        end
        assert.equal(table.concat(expected), output)
    end)

    it("takes its region from the config, else the environment", function()
        assert.matches("kms.cn-north-4.", run [[{ region = "cn-north-4" }]], 1, true)
        assert.matches("kms.cn-south-1.", run("{}", { CSMS_REGION = "cn-south-1" }), 1, true)
        assert.matches("kms.cn-north-4.",
            run([[{ region = "cn-north-4" }]], { CSMS_REGION = "cn-south-1" }), 1, true)
    end)

    it("takes a region's endpoint from the environment", function()
        local output = run([[{ region = "eu-west-101" }]],
            { HUAWEICLOUD_SDK_REGION_CSMS_EU_WEST_101 = "https://a.example,https://b.example" })
        assert.matches("^csms client %(https://a%.example%)", output)
    end)

    it("prefers an endpoint that is given", function()
        local output = run([[{ region = "cn-north-4", endpoint = "https://c.example" }]],
            { HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4 = "https://a.example" })
        assert.matches("^csms client %(https://c%.example%)", output)
    end)

    it("does not take plain http from there", function()
        local output = run([[{ region = "cn-north-4" }]],
            { HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4 = "http://a.example" })
        assert.matches("^config: .*plain http", output)
    end)

    it("is an error, not nothing, where the variable names no endpoint", function()
        local output = run([[{ region = "cn-north-4" }]],
            { HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4 = "," })
        assert.matches("^c", output) -- "config: ..." or a client of the table's endpoint
    end)

    it("refuses a region that is not known, and one that is no id", function()
        local output = run [[{ region = "eu-west-101" }]]
        assert.matches("^config: .*'eu%-west%-101' is not known", output)
        for _, region in ipairs { "CN-NORTH-4", "cn_north_4", "a.b", "a/b", "a b", "", "x@y" } do
            assert.matches("^config: .*region",
                run(("{ region = %q, endpoint = 'https://localhost' }"):format(region)))
        end
    end)

    it("may have any region with an endpoint of its own", function()
        assert.matches("^csms client",
            run [[{ region = "eu-west-101", endpoint = "https://c.example" }]])
    end)

    it("says what to set where it has neither region nor endpoint", function()
        local output = run "{}"
        for _, key in ipairs { "`region`", "CSMS_REGION", "`endpoint`", "CSMS_ENDPOINT" } do
            assert.matches(key, output, 1, true)
        end
    end)

    it("asks IAM of its region", function()
        assert.matches("\n[^\n]*https://iam.cn%-north%-4.myhuaweicloud.com",
            run [[{ region = "cn-north-4" }]])
        assert.matches("\n[^\n]*https://iam.cn%-north%-4.myhuaweicloud.com",
            run [[{ endpoint = "https://kms.cn-north-4.myhuaweicloud.com" }]])
        assert.matches("https://iam.example", run([[{ region = "cn-north-4" }]],
            { HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://iam.example" }), 1, true)
        assert.matches("https://iam.own", run(
            [[{ region = "cn-north-4", iam_endpoint = "https://iam.own" }]],
            { HUAWEICLOUD_SDK_IAM_ENDPOINT = "https://iam.example" }), 1, true)
    end)
end)

describe("the endpoint of IAM", function()
    it("is the region's for 26 of them and eu-west-0", function()
        local count = 0
        for _, region in ipairs(ALL) do
            local own = "https://iam." .. region .. ".myhuaweicloud.com"
            if not GLOBAL_IAM[region] then
                count = count + 1
                assert.equal(own, regions.iam_endpoint(region))
            end
        end
        assert.equal(26, count)
        assert.equal("https://iam.eu-west-0.myhuaweicloud.com", regions.iam_endpoint("eu-west-0"))
    end)

    it("is the global one for all others", function()
        for region in pairs(GLOBAL_IAM) do
            assert.equal("https://iam.myhuaweicloud.com", regions.iam_endpoint(region))
        end
        assert.equal("https://iam.myhuaweicloud.com", regions.iam_endpoint("eu-west-101"))
        assert.equal("https://iam.myhuaweicloud.com", regions.iam_endpoint(nil))
    end)
end)
