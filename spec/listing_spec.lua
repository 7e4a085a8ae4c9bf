-- Pages of a listing, alone, in simulated time. What a program sees of them: client_spec.

local json = require "cjson"
local listing = require "csms.listing"
local simulation = require "spec.support.simulation"

-- What pages() gives: the names of each page, and the error that ended it.
local function pages_of(service, opts)
    local world = simulation.new(service)
    local client = world:client { retry = { base = 0 } }
    local call = { operation = "list", project = simulation.PROJECT, timeout = 30,
        retry = client.config.retry }
    for key, value in pairs(opts or {}) do call[key] = value end
    local pages, problem = {}, nil
    for page, err in listing.pages(client, call) do
        problem = err
        local names = {}
        for index, secret in ipairs(page or {}) do names[index] = secret.name end
        pages[#pages + 1] = page and table.concat(names, " ") or page
    end
    return pages, world.requests, problem
end

local function page(names, marker)
    local secrets = {}
    for name in names:gmatch("%S+") do secrets[#secrets + 1] = { name = name } end
    return { status = 200, body = ('{"secrets":%s,"page_info":%s}'):format(
        #secrets == 0 and "[]" or json.encode(secrets), json.encode { next_marker = marker }) }
end

describe("the pages of a listing", function()
    it("are asked for a thousand at a time, each after the last name of the one before", function()
        local pages, requests = pages_of(simulation.script {
            page("a b", "b"), page("c", "c d/&"), page("e") })
        assert.same({ "a b", "c", "e" }, pages)
        local path = "/v1/" .. simulation.PROJECT .. "/secrets?limit=1000"
        assert.equal(path, requests[1].target)
        assert.equal(path .. "&marker=b", requests[2].target)
        assert.equal(path .. "&marker=c%20d%2F%26", requests[3].target)
        assert.equal(3, #requests)
    end)

    it("pay a retry back once, not with each page after it", function()
        local failing = { status = 500, body = "{}" }
        local world = simulation.new(simulation.script {
            failing, failing, page("a", "a"), page("b", "b"), page("c") })
        local client = world:client { retry = { base = 0 } }
        local call = { operation = "list", project = simulation.PROJECT, timeout = 30,
            retry = client.config.retry }
        local count = 0
        for found in listing.pages(client, call) do count = count + #found end
        assert.equal(3, count)
        assert.equal(500 - 2 * 14 + 14 + 1 + 1, client.budget.tokens)
    end)

    it("go on after a marker of any length, which the engine may refuse", function()
        local marker = ("="):rep(30000)
        local pages, requests = pages_of(simulation.script { page("a", marker), page("b") })
        assert.same({ "a", "b" }, pages)
        assert.equal("&marker=" .. ("%3D"):rep(30000), requests[2].target:match("&marker.*"))
    end)

    it("end with an empty page", function()
        local pages, requests = pages_of(simulation.script { page("a", "a"), page("", "b") })
        assert.same({ "a" }, pages)
        assert.equal(2, #requests)
    end)

    it("end with a marker that repeats, at once or later", function()
        local pages, requests = pages_of(simulation.script { page("a", "a") })
        assert.same({ "a" }, pages)
        assert.equal(2, #requests)
        pages, requests = pages_of(simulation.script {
            page("a", "a"), page("b", "b"), page("a", "a"), page("d", "d") })
        assert.same({ "a", "b" }, pages)
        assert.equal(3, #requests)
    end)

    it("are taken as they come where no marker repeats, a name that comes twice too", function()
        assert.same({ "a b", "b c" }, (pages_of(simulation.script {
            page("a b", "b"), page("b c") })))
    end)

    it("lose no name where a marker repeats", function()
        local pages, requests = pages_of(simulation.script {
            page("a b c", "c"), page("d", "d"), page("b e d f", "c"), page("g", "g") })
        assert.same({ "a b c", "d", "e f" }, pages)
        assert.equal(3, #requests)
    end)

    it("know the last thousand names again where a marker repeats, however short they are",
        function()
            local answers, window = {}, {}
            for number = 1, 300 do
                local names = {}
                for index = 1, 7 do names[index] = ("n%04d"):format(number * 7 + index) end
                answers[number] = page(table.concat(names, " "), names[7])
                for _, name in ipairs(names) do window[#window + 1] = name end
            end
            local last = table.concat(window, " ", #window - 999)
            answers[301] = page(last .. " new", window[#window])
            local pages = pages_of(simulation.script(answers))
            assert.equal(301, #pages)
            assert.equal("new", pages[301])
        end)

    it("take no more memory the longer the listing is", function()
        local function body(request)
            local names, before = {}, request.number * 1000
            for index = 1, 1000 do names[index] = ("n%06d"):format(before + index) end
            return page(table.concat(names, " "), names[1000])
        end
        local world = simulation.new(body)
        local client = world:client()
        local call = { operation = "list", project = simulation.PROJECT, timeout = 30 }
        local used, count = {}, 0
        for _ in listing.pages(client, call) do
            count = count + 1
            if count == 10 or count == 60 then
                world.requests, world.events, world.heap = {}, {}, {} -- which hold each answer
                collectgarbage()
                collectgarbage()
                used[#used + 1] = collectgarbage "count"
            end
            if count == 60 then break end
        end
        local more = used[2] - used[1]
        assert.is_true(more < 500, more .. " KiB more for 50,000 names")
    end)

    it("go on where a page is short", function()
        assert.same({ "a", "b", "c" }, (pages_of(simulation.script {
            page("a", "a"), page("b", "b"), page("c") })))
    end)

    it("are none for an empty project", function()
        assert.same({}, (pages_of(simulation.script { page "" })))
    end)

    it("are each tried again", function()
        local busy = simulation.refuse(503, "X")
        local pages, requests = pages_of(simulation.script {
            busy, page("a", "a"), busy, busy, page("b", "b"), busy, page "" })
        assert.same({ "a", "b" }, pages)
        assert.equal(7, #requests)
        assert.equal(requests[3].target, requests[5].target)
    end)

    it("have the attempts of a call each", function()
        local busy = simulation.refuse(503, "X")
        local pages = pages_of(simulation.script { busy, busy, busy, page("a", "a"), busy, busy,
            busy, page "b" })
        assert.same({ "a", "b" }, pages)
    end)

    it("end with false and the error where one fails", function()
        local pages, requests, err = pages_of(simulation.script { page("a", "a"),
            simulation.refuse(403, "CSMS.0302"), page "b" })
        assert.same({ "a", false }, pages)
        assert.equal("denied", err.kind)
        assert.equal(2, #requests)
    end)
end)
