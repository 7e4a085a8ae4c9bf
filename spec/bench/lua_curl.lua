-- lua_curl.lua COUNT: the same backups with what Debian has for Lua, one call after another on a
-- warm connection: lua-curl (LuaJIT's; it has no multi interface), luaossl for the signature,
-- lua-cjson. Prints seconds and CPU seconds.

local cjson = require "cjson"
local curl = require "curl"
local digest = require "openssl.digest"
local hmac = require "openssl.hmac"
local socket = require "socket"

local WARM = 128
local COUNT = tonumber(arg[1])
local ENDPOINT, CA_FILE = os.getenv "CSMS_ENDPOINT", os.getenv "CSMS_CA_FILE"
local PROJECT = os.getenv "HUAWEICLOUD_SDK_PROJECT_ID"
local AK, SK = os.getenv "HUAWEICLOUD_SDK_AK", os.getenv "HUAWEICLOUD_SDK_SK"
local SIGNED = "content-type;host;x-project-id;x-sdk-date"

local function hex(bytes)
    return (bytes:gsub(".", function(char) return ("%02x"):format(char:byte()) end))
end

local function authorization(path, date)
    local canonical = table.concat({
        "POST", path .. "/", "", "content-type:application/json",
        "host:" .. ENDPOINT:match "//(.*)$", "x-project-id:" .. PROJECT, "x-sdk-date:" .. date, "",
        SIGNED, hex(digest.new("sha256"):final ""),
    }, "\n")
    local text = table.concat({
        "SDK-HMAC-SHA256", date, hex(digest.new("sha256"):final(canonical)),
    }, "\n")
    return ("SDK-HMAC-SHA256 Access=%s, SignedHeaders=%s, Signature=%s"):format(AK, SIGNED,
        hex(hmac.new(SK, "sha256"):final(text)))
end

local handle = curl.easy_init()
handle:setopt(curl.OPT_CAINFO, CA_FILE)
handle:setopt(curl.OPT_POST, 1)
handle:setopt(curl.OPT_POSTFIELDS, "")
handle:setopt(curl.OPT_POSTFIELDSIZE, 0)

local function backup(name)
    local path = "/v1/" .. PROJECT .. "/secrets/" .. name .. "/backup"
    local date = os.date "!%Y%m%dT%H%M%SZ"
    local parts = {}
    handle:setopt(curl.OPT_URL, ENDPOINT .. path)
    handle:setopt(curl.OPT_HTTPHEADER, {
        "Content-Type: application/json", "X-Sdk-Date: " .. date, "X-Project-Id: " .. PROJECT,
        "Authorization: " .. authorization(path, date),
    })
    handle:setopt(curl.OPT_WRITEFUNCTION, function(chunk)
        parts[#parts + 1] = chunk
        return #chunk
    end)
    assert(handle:perform())
    return assert(cjson.decode(table.concat(parts)).secret_blob)
end

for _ = 1, WARM do backup "warm" end
local wall, cpu = socket.gettime(), os.clock()
for index = 1, COUNT do backup(("secret-%04d"):format(index - 1)) end
print(("%.6f %.6f"):format(socket.gettime() - wall, os.clock() - cpu))
