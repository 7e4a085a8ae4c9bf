-- csms.inspect: what a blob tells of itself.

local csms = require "csms"
local check = require("csms.blob").check
local cases = require "spec.support.cases"
local emulator = require "spec.support.emulator"
local errors = require "csms.errors"
local files = require "spec.support.files"

local FORMAT = "CloudSecretManagementBackupV1"
local HEADER = "eyJraWQiOiJrIiwiZW5jIjoiQTEyOENCQy1IUzI1NiIsImFsZyI6IlJTQS1PQUVQLTI1NiJ9"

local function problems_of(blob)
    return table.concat(assert(csms.inspect(blob)).problems, "; ")
end

-- A blob of parts with these lengths in characters: key, iv, ciphertext, tag.
local function made(key, iv, ciphertext, tag)
    return table.concat({ ")" .. FORMAT .. ".com" .. HEADER, ("A"):rep(key), ("A"):rep(iv),
        ("A"):rep(ciphertext), ("A"):rep(tag) }, ".")
end

describe("inspect of a published sample", function()
    for name, facts in pairs {
        s26 = { bytes = 825, prefix = ")CloudSecretManagementBackupV1.comeyJ" },
        s23 = { bytes = 837, prefix = ")CloudSecretManagementBackupV1.huaweicloud.comeyJ" },
    } do
        local sample = files.read("spec/data/blobs/" .. name .. ".blob")

        it("reads the header of " .. name, function()
            assert.equal(facts.prefix, sample:sub(1, #facts.prefix))
            local found = assert(csms.inspect(sample))
            assert.same({ FORMAT, "9f3efdc5-3f5e-4bed-a8d1-9616e50443ab", "A128CBC-HS256",
                "RSA-OAEP-256", facts.bytes },
                { found.format, found.kid, found.enc, found.alg, found.bytes })
        end)

        it("names what " .. name .. " lacks", function()
            local found = assert(csms.inspect(sample))
            assert.is_false(found.complete)
            assert.equal(2, #found.problems)
            assert.matches("ciphertext", found.problems[1], 1, true)
            assert.matches("cut", found.problems[1], 1, true)
            assert.equal("the tag is missing", found.problems[2])
        end)
    end
end)

describe("inspect of a real blob", function()
    local emu, blob

    setup(function()
        emu = emulator.start { secrets = 3 }
        blob = assert(cases.client(emu):backup(nil, "secret-0003"))
    end)
    teardown(function() emu:stop() end)

    it("finds it complete", function()
        local found = assert(csms.inspect(blob))
        assert.same({
            format = FORMAT, kid = emu.kid, enc = "A128CBC-HS256", alg = "RSA-OAEP-256",
            bytes = #blob, complete = true, problems = {},
        }, found)
    end)

    it("finds it complete whatever the host in its prefix is", function()
        for _, host in ipairs { "com", "myhuaweicloud.com", "a.b.c.d", "x" } do
            emu:set { blob_host = host }
            local other = assert(cases.client(emu):backup(nil, "secret-0001"))
            assert.is_true(assert(csms.inspect(other)).complete)
        end
    end)

    it("finds it complete whatever its size is", function()
        for _, size in ipairs { 1, 15, 16, 17, 1000, 32768 } do
            emu:create { name = "of-" .. size, value = ("v"):rep(size) }
            local other = assert(cases.client(emu):backup(nil, "of-" .. size))
            assert.is_true(assert(csms.inspect(other)).complete)
        end
    end)

    it("never finds a truncated one complete and never raises", function()
        local header_end = blob:find(".", blob:find("eyJ", 1, true), true) - 1
        for length = 0, #blob - 1 do
            local ok, found, err = pcall(csms.inspect, blob:sub(1, length))
            assert.is_true(ok, length .. ": " .. tostring(found))
            if length >= header_end then assert.is_table(found) end
            if found then
                assert.is_false(found.complete, "complete at " .. length)
                assert.is_true(#found.problems > 0)
                assert.equal(length, found.bytes)
            else
                assert.equal("argument", err.kind)
            end
        end
    end)

    it("finds one complete that had a newline appended not complete", function()
        for _, tail in ipairs { "\n", " ", "\0", ".", "=", ".AAAA" } do
            assert.is_false(assert(csms.inspect(blob .. tail)).complete, ("%q"):format(tail))
        end
    end)

    it("never raises for one with a changed byte", function()
        for position = 1, #blob do
            for _, char in ipairs { ".", "\0", "=", "\255" } do
                local changed = blob:sub(1, position - 1) .. char .. blob:sub(position + 1)
                local ok, message = pcall(csms.inspect, changed)
                assert.is_true(ok, tostring(message))
            end
        end
    end)

    it("finds one incomplete that lost a byte in any part", function()
        local header = blob:find("eyJ", 1, true)
        for position = header, #blob, 7 do
            local found = csms.inspect(blob:sub(1, position - 1) .. blob:sub(position + 1))
            assert.is_true(not found or not found.complete, "complete without " .. position)
        end
    end)

    it("says nothing of what is encrypted", function()
        local found = assert(csms.inspect(blob))
        for key, value in pairs(found) do
            assert.is_nil(tostring(value):find("secret-0003", 1, true), key)
        end
    end)
end)

describe("inspect", function()
    it("refuses text that is no blob", function()
        for _, text in ipairs { "", "x", "eyJ", "\0\1\2", ("A"):rep(100000), HEADER .. ".A.A.A.A",
            "cloudsecretmanagementbackupv1.comeyJ" } do
            local found, err = csms.inspect(text)
            assert.is_nil(found)
            assert.equal("argument", err.kind)
            assert.is_true(errors.is_error(err))
            assert.matches("no CSMS backup blob", err.message, 1, true)
        end
    end)

    it("says that a blob without its header is cut", function()
        local found, err = csms.inspect(")" .. FORMAT .. ".huaweicloud.com")
        assert.is_nil(found)
        assert.equal("argument", err.kind)
        assert.matches("cut", err.message, 1, true)
    end)

    it("raises for a wrong type at the caller", function()
        for _, value in ipairs { 5, true, {}, print } do
            local ok, message = pcall(function() return (csms.inspect(value)) end)
            assert.is_false(ok)
            assert.matches("blob_spec%.lua:%d+: bad argument #1", message)
        end
        assert.is_false((pcall(csms.inspect)))
    end)

    it("names a format that came after it, which may be whole for all it knows", function()
        local blob = made(342, 22, 43, 22):gsub("V1", "V2")
        local found = assert(csms.inspect(blob))
        assert.same({ "CloudSecretManagementBackupV2", #blob, false },
            { found.format, found.bytes, found.complete })
        assert.matches("not known", problems_of(blob), 1, true)
        assert.is_true((check(blob)))
        assert.equal(found.problems[1], select(2, check(blob)))
    end)

    it("tells what surely is no backup, and why", function()
        assert.same({ true }, { check(made(342, 22, 43, 22)) })
        for text, why in pairs {
            ["service:temporarily:out"] = "no CSMS backup blob",
            [")" .. FORMAT .. ".com"] = "it is cut",
            [made(342, 22, 43, 21)] = "not whole: the tag",
        } do
            local good, problem = check(text)
            assert.is_nil(good)
            assert.matches(why, problem, 1, true)
        end
    end)

    it("looks for the header after the marker only", function()
        local found = assert(csms.inspect("eyJ" .. made(342, 22, 43, 22)))
        assert.same({}, found.problems)
    end)

    it("takes a blob with the right lengths for complete", function()
        assert.is_true(assert(csms.inspect(made(342, 22, 43, 22))).complete)
        assert.is_true(assert(csms.inspect(made(512, 22, 64, 22))).complete)
    end)

    it("names every part with a wrong length", function()
        assert.matches("the encrypted key has 255 bytes", problems_of(made(340, 22, 43, 22)))
        for _, key in ipairs { 171, 256 } do -- of RSA-1024 and RSA-1536, which no JWE may have
            assert.matches("the encrypted key has %d+ bytes, not those of an RSA key",
                problems_of(made(key, 22, 43, 22)))
        end
        assert.matches("the iv has 15 bytes, not 16", problems_of(made(342, 20, 43, 22)))
        assert.matches("the ciphertext has 33 bytes", problems_of(made(342, 22, 44, 22)))
        assert.matches("the tag has 15 bytes, not 16", problems_of(made(342, 22, 43, 20)))
        assert.matches("the iv has an impossible length", problems_of(made(342, 21, 43, 22)))
    end)

    it("names every part that is missing", function()
        local problems = problems_of(")" .. FORMAT .. ".com" .. HEADER)
        for _, part in ipairs { "encrypted key", "iv", "ciphertext", "tag" } do
            assert.matches("the " .. part .. " is missing", problems, 1, true)
        end
        assert.matches("the iv is missing", problems_of(made(342, 0, 43, 22)), 1, true)
    end)

    it("names a header that it cannot read", function()
        for _, header in ipairs { "eyJ", "eyJ!", "eyJra", HEADER:sub(1, -3), "eyJ9" } do
            local found = csms.inspect(")" .. FORMAT .. ".com" .. header .. ".A.A.A.A")
            assert.is_false(found.complete)
            assert.matches("header", found.problems[1], 1, true)
        end
    end)

    it("finds a blob incomplete whose header says what cannot be shown", function()
        -- {"kid":5} {"kid":"a\nb"}
        for _, header in ipairs { "eyJraWQiOjV9", "eyJraWQiOiJhXG5iIn0" } do
            local found = csms.inspect(")" .. FORMAT .. ".com" .. header .. ".AAAA.AAAA.AAAA.AAAA")
            assert.same({ "the header's kid is no text on one line" }, found.problems)
            assert.is_nil(found.kid)
            assert.is_false(found.complete)
        end
    end)

    it("checks no lengths of algorithms that it does not know", function()
        -- {"enc":"A256GCM","alg":"X"}
        local blob = ")" .. FORMAT .. ".comeyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiWCJ9.AAAA.AAAA.AAAA.AAAA"
        local found = assert(csms.inspect(blob))
        assert.same({ "A256GCM", "X" }, { found.enc, found.alg })
        assert.is_true(found.complete)
    end)

    it("needs no more than a second for a blob of 4 MiB", function()
        local blob = made(342, 22, 4 * 1024 * 1024, 22)
        local before = os.clock()
        csms.inspect(blob)
        local seconds = os.clock() - before -- of computing
        assert.is_true(seconds < 1, seconds .. " seconds")
    end)
end)
