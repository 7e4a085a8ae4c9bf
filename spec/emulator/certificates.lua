-- The instance's own CA and the certificates of its ports, good ones and bad ones.
local altname = require "openssl.x509.altname"
local extension = require "openssl.x509.extension"
local pkey = require "openssl.pkey"
local x509 = require "openssl.x509"
local x509_name = require "openssl.x509.name"

local certificates = {}

local DAY = 86400

local function new_key()
    return pkey.new({ type = "EC", curve = "prime256v1" })
end

local function named(text)
    local name = x509_name.new()
    name:add("CN", text)
    return name
end

local function blank(subject, issuer, key, from, to)
    local certificate = x509.new()
    certificate:setVersion(3)
    certificate:setSerial(math.random(1, 2 ^ 31))
    certificate:setSubject(named(subject))
    certificate:setIssuer(named(issuer))
    certificate:setLifetime(os.time() + from, os.time() + to)
    certificate:setPublicKey(key)
    return certificate
end

local function authority(name)
    local key = new_key()
    local certificate = blank(name, name, key, -DAY, 30 * DAY)
    certificate:setBasicConstraints({ CA = true })
    certificate:setBasicConstraintsCritical(true)
    certificate:addExtension(extension.new("keyUsage", "critical,keyCertSign,cRLSign"))
    certificate:sign(key)
    return { name = name, key = key, certificate = certificate }
end

local function names_of(hosts, addresses)
    local names = altname.new()
    for _, host in ipairs(hosts) do names:add("DNS", host) end
    for _, address in ipairs(addresses or {}) do names:add("IP", address) end
    return names
end

local function server(issuer, names, from, to)
    local key = new_key()
    local certificate = blank("csms emulator", issuer and issuer.name or "csms emulator", key,
        from or -DAY, to or 30 * DAY)
    certificate:setSubjectAlt(names)
    certificate:addExtension(extension.new("extendedKeyUsage", "serverAuth"))
    certificate:sign(issuer and issuer.key or key)
    return { key = key, certificate = certificate }
end

local function write(path, text)
    local file = assert(io.open(path, "wb"))
    assert(file:write(text))
    assert(file:close())
end

local function save(dir, name, pair)
    write(dir .. "/" .. name .. ".crt", pair.certificate:toPEM())
    write(dir .. "/" .. name .. ".pem", pair.key:toPEM("private"))
end

-- Writes ca.crt, and {good,wrong_host,expired,self_signed}.{crt,pem}, into dir.
function certificates.write(dir)
    local here = names_of({ "localhost" }, { "127.0.0.1" })
    local ca = authority("csms emulator CA")
    write(dir .. "/ca.crt", ca.certificate:toPEM())
    save(dir, "good", server(ca, here))
    save(dir, "wrong_host", server(ca, names_of({ "elsewhere.invalid" })))
    save(dir, "expired", server(ca, here, -2 * DAY, -DAY))
    save(dir, "self_signed", server(nil, here))
end

-- The RSA key that seals the instance's blobs. Three primes are found in a third of the time that
-- two take, which each start waits for; the public key is as any.
function certificates.write_blob_key(path)
    assert(os.execute("openssl genrsa -primes 3 -out '" .. path .. "' 2048 2>/dev/null"))
end

return certificates
