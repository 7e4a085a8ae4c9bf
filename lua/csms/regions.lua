-- SPDX-License-Identifier: MIT
-- Regions and their endpoints (csms-api.md 5; the lists of the official SDKs).
-- CSMS is served by the KMS host of a region.

local errors = require "csms.errors"

local M = {}

local function set(text)
    local members = {}
    for word in text:gmatch("%S+") do members[word] = true end
    return members
end

local KMS = set [[
    ae-ad-1 af-north-1 af-south-1 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4
    ap-southeast-5 cn-east-2 cn-east-3 cn-east-4 cn-east-5 cn-north-1 cn-north-2 cn-north-4
    cn-north-9 cn-north-11 cn-north-12 cn-south-1 cn-south-2 cn-southwest-2 cn-southwest-3
    la-north-2 la-south-2 me-east-1 my-kualalumpur-1 na-mexico-1 ru-moscow-1 sa-brazil-1 tr-west-1
]]
local WITHOUT_IAM = set "af-north-1 ap-southeast-5 cn-north-11 cn-southwest-3"
local ONLY_IAM = set "eu-west-0"

--- The environment variable that overrides a region's endpoint, as the official
--- SDKs name it.
function M.variable(region)
    return "HUAWEICLOUD_SDK_REGION_CSMS_" .. region:upper():gsub("-", "_")
end

--- The endpoint of CSMS in a region: from the environment (the first of a comma
--- list), else the table; or nil and an error of kind "config".
-- variable: function(name), the environment.
function M.endpoint(region, variable)
    local override = variable(M.variable(region))
    local first = override and override:match("^%s*([^,%s]+)")
    if first then return first end
    if KMS[region] then return "https://kms." .. region .. ".myhuaweicloud.com" end
    return nil, errors.new("config", ("region '%s' is not known: if it is right, set `endpoint` "
        .. "(CSMS_ENDPOINT or %s) to the KMS endpoint of the region, and `iam_endpoint` "
        .. "(HUAWEICLOUD_SDK_IAM_ENDPOINT)"):format(region, M.variable(region)))
end

--- The endpoint of IAM; the global one where a region has none of its own.
-- region: may be nil.
function M.iam_endpoint(region)
    if region and (KMS[region] and not WITHOUT_IAM[region] or ONLY_IAM[region]) then
        return "https://iam." .. region .. ".myhuaweicloud.com"
    end
    return "https://iam.myhuaweicloud.com"
end

return M
