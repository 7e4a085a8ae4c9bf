-- What a client does about answers that refuse its authentication, in simulated time.

local cases = require "spec.support.cases"
local csms = require "csms"
local errors = require "csms.errors"
local simulation = require "spec.support.simulation"

local failure = cases.failure
local refuse = simulation.refuse

local BAD_SIGNATURE = refuse(401, "APIG.0301", "verify aksk signature fail")
local LOCKED_OUT = 900 -- seconds that a signature's time may be off

local function token(text) return assert(csms.credentials.token(text):get()) end

local function keys(sk, security_token)
    return assert(csms.credentials.static {
        ak = "AK", sk = sk, security_token = security_token,
    }:get())
end

-- A provider that gives these credentials in turn, one further each time that it is told that
-- the one it gives was refused.
local function provider_of(...)
    local provider = { renewals = 0, list = { ... } }
    function provider:get(refused)
        if refused and refused == self.list[1] and self.list[2] then
            self.renewals = self.renewals + 1
            table.remove(self.list, 1)
        end
        return self.list[1]
    end
    return provider
end

-- A service that takes those credentials only, and answers others so.
local function service_for(answer, ...)
    local known = {}
    for _, credential in ipairs { ... } do known[credential] = true end
    return function(request)
        return known[request.credential] and simulation.serve(request) or answer
    end
end

local function world_of(service, provider, config)
    local world = simulation.new(service)
    config = config or {}
    config.credentials = provider
    return world, world:client(config)
end

local function backup(client) return client:backup(nil, "name") end

describe("a clock that is off", function()
    -- A service whose clock is `offset` ahead of ours.
    local function service_at(offset, code)
        return function(request, now)
            local time = 1795276800 + now - 1000 + (type(offset) == "table" and offset[1] or offset)
            if math.abs(request.time - time) <= LOCKED_OUT then return simulation.serve(request) end
            return refuse(401, code or "APIG.0303", "client time:...,server time:...",
                { Date = simulation.http_date(time) })
        end
    end

    for _, offset in ipairs { 3600, -3600, 1000, 86000, -86000 } do
        it(("by %d s is corrected and tried once more"):format(offset), function()
            local world, client = world_of(service_at(offset))
            assert(backup(client))
            assert.equal(2, #world.requests)
            local skews = world:events_of "skew"
            assert.equal(1, #skews)
            assert.is_true(math.abs(skews[1].seconds - offset) < 1.5)
            assert(backup(client))
            assert.equal(3, #world.requests)
        end)
    end

    it("is known under the gateway's other prefix too", function()
        local world, client = world_of(service_at(7200, "APIGW.0303"))
        assert(backup(client))
        assert.equal(2, #world.requests)
    end)

    it("by more than 24 hours is not corrected", function()
        for _, offset in ipairs { 90000, -90000 } do
            local world, client = world_of(service_at(offset))
            assert.equal(1, failure("auth", backup(client)).attempts)
            assert.same({ 1, 0, 0 },
                { #world.requests, #world:events_of "skew", client.auth.offset })
        end
    end)

    it("is corrected once in a call", function()
        local world, client = world_of(function(_, now)
            return refuse(401, "APIG.0303", "clock",
                { Date = simulation.http_date(1795276800 + now * 10) })
        end)
        assert.equal(2, failure("auth", backup(client)).attempts)
        assert.equal(2, #world.requests)
    end)

    it("is corrected again in a later call where it has changed", function()
        local offset = { 3600 }
        local world, client = world_of(service_at(offset))
        assert(backup(client))
        offset[1] = -3600
        assert(backup(client))
        assert.equal(4, #world.requests)
        assert.is_true(math.abs(client.auth.offset + 3600) < 1.5)
    end)

    it("is not corrected where the answer has no date that can be read", function()
        for _, date in ipairs { "yesterday", false } do
            local world, client = world_of(simulation.script {
                refuse(401, "APIG.0303", "clock", { Date = date or nil }), "ok" })
            assert.equal(1, failure("auth", backup(client)).attempts)
            assert.equal(1, #world.requests)
        end
    end)

    it("does not void the credential", function()
        local world, client = world_of(service_at(90000))
        failure("auth", backup(client))
        failure("auth", backup(client))
        assert.equal(2, #world.requests)
    end)

    it("costs a batch one request", function()
        local world, client = world_of(service_at(3600))
        assert.equal(50, assert(client:backup_many(nil, simulation.names(50))).ok)
        assert.equal(51, #world.requests)
        assert.equal(1, #world:events_of "skew")
    end)

    it("that changes under a batch loses nothing", function()
        local offset = { 0 }
        local serve = service_at(offset)
        local world, client = world_of(function(request, now)
            if request.number == 40 then offset[1] = 3600 end
            return serve(request, now)
        end)
        assert.equal(100, assert(client:backup_many(nil, simulation.names(100))).ok)
        assert.is_true(#world.requests <= 116)
    end)
end)

describe("a stale credential", function()
    local STALE = {
        { "a token, whatever the code", token, refuse(401, "APIG.0301", "decrypt token fail") },
        { "a token without a code", token, refuse(401) },
        { "a token of another project", token, refuse(400, "CSMS.0301") },
        { "keys and 0307", keys, refuse(401, "APIG.0307") },
        { "keys and 0307 of the other prefix", keys, refuse(401, "APIGW.0307") },
        { "keys and CSMS.0301", keys, refuse(400, "CSMS.0301") },
        { "keys and KMS.0303", keys, refuse(403, "KMS.0303") },
    }
    for _, case in ipairs(STALE) do
        it("is renewed: " .. case[1], function()
            local old, new = case[2] "old", case[2] "new"
            local provider = provider_of(old, new)
            local world, client = world_of(service_for(case[3], new), provider)
            assert(backup(client))
            assert.same({ 2, 1 }, { #world.requests, provider.renewals })
            assert.equal(1, #world:events_of "renewed")
            assert.equal(new, world.requests[2].credential)
        end)
    end

    it("is temporary keys whose signature is refused, once", function()
        local old, new = keys("old", "st"), keys("new", "st")
        local provider = provider_of(old, new)
        local world, client = world_of(service_for(BAD_SIGNATURE, new), provider)
        assert(backup(client))
        assert.same({ 2, 1 }, { #world.requests, provider.renewals })
    end)

    it("of temporary keys is a bad signature where another is refused too", function()
        local provider = provider_of(keys("a", "st"), keys("b", "st"), keys("c", "st"))
        local world, client = world_of(service_for(BAD_SIGNATURE), provider)
        failure("auth", backup(client))
        assert.same({ 2, 1 }, { #world.requests, provider.renewals })
        failure("auth", backup(client))
        assert.equal(2, #world.requests)
    end)

    it("of temporary keys is a bad signature where the provider has no other", function()
        local world, client = world_of(service_for(BAD_SIGNATURE), provider_of(keys("a", "st")))
        failure("auth", backup(client))
        failure("auth", backup(client))
        assert.equal(1, #world.requests)
    end)

    it("that cannot be renewed fails the call, but is not held back later", function()
        local world, client = world_of(service_for(refuse(401, "APIG.0301")),
            csms.credentials.token "old")
        for count = 1, 2 do
            assert.equal(1, failure("auth", backup(client)).attempts)
            assert.equal(count, #world.requests)
        end
    end)

    it("is renewed at most three times a call", function()
        local provider = provider_of(token "1", token "2", token "3", token "4", token "5")
        local world, client = world_of(service_for(refuse(401, "APIG.0301")), provider)
        assert.equal(4, failure("auth", backup(client)).attempts)
        assert.same({ 4, 3 }, { #world.requests, provider.renewals })
    end)

    it("costs nothing of the budget and no wait", function()
        local new = token "new"
        local world, client = world_of(service_for(refuse(401), new),
            provider_of(token "old", new), { retry = { budget = 0, base = 100 } })
        assert(backup(client))
        assert.is_true(world:elapsed() < 0.05)
    end)

    it("that cannot be renewed because its source fails is told why", function()
        local old = token "old"
        local _, client = world_of(service_for(refuse(401, "APIG.0307")), {
            get = function(_, refused) return not refused and old or nil, "the vault is sealed" end,
        })
        local err = failure("auth", backup(client))
        assert.equal("no renewal: the vault is sealed", err.cause)
        assert.matches("cause no renewal: the vault is sealed", tostring(err), 1, true)
    end)

    it("is renewed within the call's deadline", function()
        local world, provider
        provider = { get = function(self, refused, _, ends_at)
            self.kept = self.kept or token "old"
            -- one that hangs, but keeps to what it is told
            if refused then world.runtime:sleep((ends_at or 1e5) - world.runtime.now()) end
            return self.kept
        end }
        local client
        world, client = world_of(service_for(refuse(401)), provider)
        failure("auth", client:backup(nil, "name", { deadline = 3 }))
        assert.is_true(world:elapsed() < 3.1)
    end)

    -- A service that takes `old` for 40 requests only.
    local function voided(old, new)
        local count = 0
        return function(request)
            count = count + 1
            if request.credential == new or request.credential == old and count <= 40 then
                local answer = simulation.serve(request)
                answer.delay = 0.1
                return answer
            end
            return refuse(401, "APIG.0307")
        end
    end

    it("is replaced even where on_event raises at its renewal", function()
        local old, new = token "old", token "new"
        local _, client = world_of(service_for(refuse(401), new), provider_of(old, new), {
            on_event = function(event) if event.event == "renewed" then error("boom", 0) end end,
        })
        assert.same({ false, "boom" }, { pcall(backup, client) })
        assert(backup(client))
    end)

    it("under a batch is renewed once for all calls that were sent with it", function()
        local old, new = token "old", token "new"
        local provider = provider_of(old, new, token "other")
        local world, client = world_of(voided(old, new), provider)
        assert.equal(200, assert(client:backup_many(nil, simulation.names(200))).ok)
        assert.equal(1, provider.renewals)
        assert.equal(1, #world:events_of "renewed")
        assert.is_true(#world.requests <= 216)
    end)

    it("under a batch is renewed once by a provider that renews each time it is told", function()
        local old, new = token "old", token "new"
        local renewals, current = 0, old
        local provider = { get = function(_, refused)
            if refused then renewals, current = renewals + 1, new end
            return current
        end }
        local _, client = world_of(voided(old, new), provider)
        assert.equal(200, assert(client:backup_many(nil, simulation.names(200))).ok)
        assert.equal(1, renewals)
    end)

    for what, made in pairs { token = token, keys = keys } do
        it("under a batch may be closed by the provider that replaces it: " .. what, function()
            local old, new = made "old", made "new"
            local current = old
            local provider = { get = function(_, refused)
                if refused then
                    refused:close()
                    current = new
                end
                return current
            end }
            local _, client = world_of(voided(old, new), provider)
            assert.equal(200, assert(client:backup_many(nil, simulation.names(200))).ok)
        end)
    end

    it("that its provider closes and makes anew with the same bad keys is sent once more",
        function()
            local current
            local provider = { get = function()
                if current then current:close() end
                current = keys "bad"
                return current
            end }
            local world, client = world_of(function(request)
                request.credential:close()
                return BAD_SIGNATURE
            end, provider)
            failure("auth", backup(client))
            assert.equal(2, #world.requests)
        end)
end)

describe("a bad signature", function()
    it("is sent once, and not again for 60 s", function()
        local world, client = world_of(service_for(BAD_SIGNATURE))
        assert.equal(1, failure("auth", backup(client)).attempts)
        world.runtime:sleep(59)
        local err = failure("auth", backup(client))
        assert.same({ 0, false }, { err.attempts, err.retryable })
        failure("auth", client:list())
        failure("auth", client:restore(nil, "blob"))
        failure("auth", client:show(nil, "name"))
        assert.equal(1, #world.requests)
        world.runtime:sleep(1.1)
        assert.equal(1, failure("auth", backup(client)).attempts)
        assert.equal(2, #world.requests)
    end)

    it("is not kept longer, nor its keys", function()
        local provider = provider_of(keys "bad")
        local world, client = world_of(service_for(BAD_SIGNATURE), provider)
        failure("auth", backup(client))
        assert.equal(provider.list[1], (next(client.auth.bad)))
        provider.list[1] = token "good"
        world.runtime:sleep(61)
        backup(client)
        assert.is_nil((next(client.auth.bad)))
    end)

    it("of permanent keys is no reason to ask for others", function()
        local provider = provider_of(keys "bad", keys "good")
        local world, client = world_of(service_for(BAD_SIGNATURE, provider.list[2]), provider)
        failure("auth", backup(client))
        assert.same({ 1, 0 }, { #world.requests, provider.renewals })
    end)

    it("holds back only the credential that it was made with", function()
        local bad, good = keys "bad", keys "good"
        local current = bad
        local world, client = world_of(service_for(BAD_SIGNATURE, good),
            { get = function() return current end })
        failure("auth", backup(client))
        current = good
        assert(backup(client))
        current = bad
        failure("auth", backup(client))
        assert.equal(2, #world.requests)
    end)

    it("is known again where the provider makes the same credential each time", function()
        local world, client = world_of(function() return BAD_SIGNATURE end,
            { get = function() return keys "bad" end })
        failure("auth", backup(client))
        failure("auth", backup(client))
        assert.equal(1, #world.requests)
    end)

    it("is known again after another credential was used, in a new object too", function()
        local good = keys "good"
        local wrong = true
        local world, client = world_of(service_for(BAD_SIGNATURE, good),
            { get = function() return wrong and keys "bad" or good end })
        failure("auth", backup(client))
        wrong = false
        assert(backup(client))
        wrong = true
        failure("auth", backup(client))
        assert.equal(2, #world.requests)
    end)

    it("is the end for a later call too that waited meanwhile", function()
        local world, client = world_of(service_for(BAD_SIGNATURE), nil, { rate = 1 })
        failure("auth", backup(client))
        failure("auth", backup(client))
        assert.equal(1, #world.requests)
    end)
end)

describe("a provider of the program's own", function()
    it("that gives no credential fails the call with its reason", function()
        local _, client = world_of(simulation.serve,
            { get = function() return nil, "the vault is sealed" end })
        local err = failure("credentials", backup(client))
        assert.matches("the vault is sealed", err.message, 1, true)
        assert.equal(0, err.attempts)
        failure("credentials", client:backup_many(nil, { "a", "b" }))
    end)

    it("that gives nil and no reason fails the call too", function()
        local world, client = world_of(simulation.serve, { get = function() return nil end })
        local err = failure("credentials", backup(client))
        assert.matches("the provider gave no credential", err.message, 1, true)
        assert.equal(0, #world.requests)
    end)

    it("that passes on what another call met is asked once, and its service is not blamed",
        function()
            for _, answer in ipairs { refuse(429, "APIG.0308"), refuse(503, "X"),
                refuse(404, "APIG.0101"), { error = { kind = "network" } } } do
                local vault = simulation.new(simulation.script { answer })
                local inner, asked = vault:client { retry = false }, 0
                local world, client = world_of(simulation.serve, { get = function()
                    asked = asked + 1
                    return nil, select(2, inner:show(nil, "keys"))
                end })
                local err = failure("credentials", backup(client))
                assert.matches("the provider gave no credential: %l", err.message)
                assert.same({ false, "name" }, { err.retryable, err.name })
                assert.same({ 1, 0 }, { asked, world:elapsed() })
                assert.is_nil(client.limiter.pace)
            end
        end)

    it("that fails with an answer of its own says nothing of the service's limit", function()
        local good, kept = true, keys "sk"
        local _, client = world_of(function() return refuse(429, "APIG.0308") end, {
            get = function()
                if good then return kept end
                return nil, errors.new("credentials", "the vault says no", { status = 403 })
            end,
        }, { retry = false })
        failure("throttled", backup(client))
        good = false
        failure("credentials", backup(client))
        assert.equal(1, client.limiter.refusals)
    end)

    it("that keeps its error has it unchanged", function()
        local kept = errors.new("credentials", "the vault is sealed")
        local _, client = world_of(simulation.serve, { get = function() return nil, kept end })
        failure("credentials", backup(client))
        assert.is_nil(kept.name)
        assert.equal("other", failure("credentials", client:show(nil, "other")).name)
    end)

    it("may wait, and calls go on meanwhile", function()
        local world, client
        world, client = world_of(simulation.serve, { get = function(self)
            world.runtime:sleep(1)
            self.credential = self.credential or keys "sk"
            return self.credential
        end })
        assert.equal(32, assert(client:backup_many(nil, simulation.names(32))).ok)
        assert.is_true(world:elapsed() < 5)
    end)

    -- A provider that takes 1.5 s, for a call of the first bound and one of the second.
    local function slow(credential, problem)
        local world, client
        world, client = world_of(simulation.serve, { get = function()
            world.runtime:sleep(1.5)
            return credential, problem
        end })
        local attempt, deadline = select(2, client:backup(nil, "name", { timeout = 1 })),
            select(2, client:backup(nil, "name", { deadline = 1 }))
        assert.equal(0, #world.requests)
        return attempt, deadline
    end

    local function seen(err) return { err.kind, err.message, err.cause or false, err.attempts } end

    it("that has a credential too late costs an attempt, and nothing is sent", function()
        local attempt, deadline = slow(keys "sk")
        local cause = "the provider took all of the time"
        assert.same({ "timeout", "the credential came too late", cause, 4 }, seen(attempt))
        assert.same({ "timeout", "the deadline of 1 s has passed", cause, 1 }, seen(deadline))
    end)

    it("that has a credential too late costs a restore an attempt too", function()
        local world, client
        world, client = world_of(simulation.serve, { get = function()
            world.runtime:sleep(1.5)
            return keys "sk"
        end })
        assert.equal(4, failure("timeout", client:restore(nil, "b", { timeout = 1 })).attempts)
        assert.equal(0, #world.requests)
    end)

    it("that has none too late has failed, unless the call's own time is over", function()
        local attempt, deadline = slow(nil, "the vault is slow")
        local cause = "the provider gave no credential: the vault is slow"
        assert.same({ "credentials", cause, false, 0 }, seen(attempt))
        assert.same({ "timeout", "the deadline of 1 s has passed", cause, 0 }, seen(deadline))
    end)

    for _, how in ipairs { "stop", "close" } do
        it("that waits while the client is ended by " .. how .. " sends nothing", function()
            for _, answers in ipairs { true, false } do
                local world, client
                world, client = world_of(simulation.serve, { get = function()
                    world.runtime:sleep(1)
                    client[how](client)
                    return answers and keys "sk" or nil, "it is closed"
                end })
                failure("cancelled", client:restore(nil, "blob"))
                assert.equal(0, #world.requests)
            end
        end)
    end

    it("that gives the same keys anew is no renewal", function()
        local world, client = world_of(simulation.serve, { get = function() return keys "sk" end })
        for _ = 1, 3 do assert(backup(client)) end
        assert.equal(0, #world:events_of "renewed")
    end)
end)

describe("a batch with a wrong key", function()
    it("sends one request with it, and the next one within 60 s none", function()
        local world, client = world_of(service_for(BAD_SIGNATURE))
        local opts = { concurrency = 16 }
        failure("auth", client:backup_many(nil, simulation.names(200), opts))
        assert.equal(1, #world.requests)
        world.runtime:sleep(59)
        failure("auth", client:backup_many(nil, simulation.names(200), opts))
        failure("auth", client:backup_all(nil, opts))
        assert.equal(1, #world.requests)
    end)

    it("sends one page of the listing and nothing else", function()
        local world, client = world_of(service_for(BAD_SIGNATURE))
        failure("auth", client:backup_all())
        assert.equal(1, #world.requests)
    end)

    it("is not proven by answers that anybody gets", function()
        for _, answer in ipairs { refuse(503, "X"), refuse(429, "APIG.0308"),
            refuse(404, "APIG.0101"), refuse(400, "APIGW.0201"), refuse(403, "APIG.0401"),
            refuse(403, "403"), { status = 403, body = "<html>no</html>" },
            { status = 404, body = "" } } do
            local world, client = world_of(simulation.script { answer, answer, BAD_SIGNATURE })
            failure("auth", client:backup_many(nil, simulation.names(200)))
            assert.equal(3, #world.requests)
            assert.equal(1, world.peak)
        end
    end)

    it("is not proven by IAM's answer, which takes another signature", function()
        local world
        world = simulation.new(function(request)
            if not request.target:find("/v3/projects", 1, true) then return BAD_SIGNATURE end
            return { status = 200, body = ('{"projects":[{"id":"%s"}]}')
                :format(simulation.PROJECT) }
        end)
        local client = world:client { signing = "V11-HMAC-SHA256", signing_service = "csms",
            region = "cn-north-4" }
        client.config.project = nil
        failure("auth", client:backup_many(nil, simulation.names(200)))
        assert.equal(2, #world.requests)
    end)

    it("that was right before ends with every name in the report", function()
        local count = 0
        local world, client = world_of(function(request)
            count = count + 1
            return count <= 50 and simulation.serve(request) or BAD_SIGNATURE
        end)
        local report = assert(client:backup_many(nil, simulation.names(200)))
        assert.same({ 50, 150 }, { report.ok, report.failed })
        for _, err in pairs(report.errors) do assert.equal("auth", err.kind) end
        assert.is_true(#world.requests <= 50 + 16)
        -- and the next batch is careful again
        world.runtime:sleep(61)
        failure("auth", client:backup_many(nil, simulation.names(200)))
        assert.is_true(#world.requests <= 50 + 16 + 1)
    end)

    it("whose first names are invalid fails whole", function()
        local world, client = world_of(service_for(BAD_SIGNATURE))
        failure("auth", client:backup_many(nil, { "in valid", "name", "other" }))
        assert.equal(1, #world.requests)
    end)
end)

describe("a batch", function()
    local function slow(request)
        local answer = simulation.serve(request)
        answer.delay = 1
        return answer
    end

    local function submitted_before(world, time)
        local count = 0
        for _, request in ipairs(world.requests) do
            if request.submitted < time then count = count + 1 end
        end
        return count
    end

    it("sends its first request alone, then all at once", function()
        local world, client = world_of(slow)
        assert(client:backup_many(nil, simulation.names(40), { concurrency = 16 }))
        assert.equal(1, submitted_before(world, world.requests[1].at + 1))
        assert.equal(17, submitted_before(world, world.requests[1].at + 1.5))
        assert.equal(16, world.peak)
    end)

    it("sends requests alone until an answer has authenticated", function()
        local answers = { refuse(503, "X"), refuse(500, "X"), refuse(400, "CSMS.0106") }
        local world, client = world_of(function(request)
            return answers[request.number] or slow(request)
        end)
        assert.equal(39, assert(client:backup_many(nil, simulation.names(40))).ok)
        for index = 2, 4 do
            assert.is_true(world.requests[index].submitted > world.requests[index - 1].at)
        end
        assert.equal(16, world.peak)
    end)

    for _, answer in ipairs {
        refuse(403, "KMS.0306"), refuse(404, "KMS.0207"), refuse(400, "CSMS.0002"),
        refuse(409, "CSMS.0202"), refuse(400, "CSMS.0103"),
    } do
        it("takes a refusal of status " .. answer.status .. " for an answer that authenticated: "
            .. answer.body, function()
            local world, client = world_of(function(request)
                return request.operation == "show" and answer or slow(request)
            end)
            assert.is_nil((client:show(nil, "name")))
            assert.equal(40, assert(client:backup_many(nil, simulation.names(40))).ok)
            assert.equal(17, submitted_before(world, world.requests[1].at + 0.5))
        end)
    end

    it("needs no such request after a call that was answered", function()
        local world, client = world_of(slow)
        assert(backup(client))
        assert(client:backup_many(nil, simulation.names(40)))
        assert.equal(17, submitted_before(world, world.requests[1].at + 1.5))
    end)

    it("takes the listing for that request", function()
        local world, client = world_of(function(request)
            if request.operation ~= "list" then return slow(request) end
            return { status = 200, delay = 1, body = request.number > 1 and '{"secrets":[]}'
                or '{"secrets":[{"name":"a"},{"name":"b"},{"name":"c"}]}' }
        end)
        assert.equal(3, assert(client:backup_all()).ok)
        assert.equal(1, submitted_before(world, world.requests[1].at + 1))
        assert.equal(4, submitted_before(world, world.requests[1].at + 1.5))
    end)
end)
