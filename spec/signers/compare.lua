-- luacheck: std min+busted
-- Signs what generate.js wrote (the file SIGNED_REQUESTS) and compares: see the script `run`.

local core = require "csms.core"
local json = require "cjson"

local sign = core.sign

local MAX_PRINTED = 3
local STAGES = { "method", "uri", "query", "headers", "names", "hash" }

-- One for each pair of keys, so that it is used for many requests and both algorithms.
local credentials = {}

local function credential_of(record)
    local name = record.ak .. "\0" .. record.sk
    if not credentials[name] then
        local credential, err = core.credential.keys(record.ak, record.sk)
        if not credential then error(err.message, 0) end
        credentials[name] = credential
    end
    return credentials[name]
end

local function cut(canonical_request)
    local stages, rest = {}, canonical_request
    stages.method, stages.uri, stages.query, rest = rest:match("^(.-)\n(.-)\n(.-)\n(.*)$")
    stages.headers, stages.names, stages.hash = rest:match("^(.*\n)\n(.-)\n(.-)$")
    return stages
end

local function authorization_of(record, canonical_request)
    local scope = sign.scope(record)
    local text = sign.string_to_sign(record, canonical_request)
    local signature = sign.signature(record, sign.key(record, record.ak, record.sk, scope), text)
    local who = scope == "" and " Access=" .. record.ak
        or " Credential=" .. record.ak .. "/" .. scope
    return record.algorithm .. who .. ", SignedHeaders=" .. cut(canonical_request).names
        .. ", Signature=" .. signature
end

local function title(record)
    return record.name or ("seed %s, request %d%s"):format(record.seed, record.index,
        record.way and " (" .. record.way .. ")" or "")
end

-- The stages of both sides as text, the ones that differ marked.
local function both_sides(record)
    local node, ours = record.canonical_request, sign.canonical_request(record)
    local lines = { title(record), ("  path %q"):format(record.path),
        ("  query %q"):format(record.query) }
    local function add(stage, of_node, of_us)
        lines[#lines + 1] = ("%s %s\n    node %q\n    ours %q"):format(
            of_node == of_us and " " or "*", stage, tostring(of_node), tostring(of_us))
    end
    for _, stage in ipairs(STAGES) do add(stage, cut(node)[stage], cut(ours)[stage]) end
    add("string to sign", record.string_to_sign, sign.string_to_sign(record, ours))
    add("authorization", record.authorization,
        (sign.authorization(record, credential_of(record))))
    return table.concat(lines, "\n")
end

local function agrees(record)
    return sign.authorization(record, credential_of(record)) == record.authorization
end

-- Whether Node's signer and ours differ in the named stages, as they say, and in no other.
local function differs_as_known(record)
    local node = cut(record.canonical_request)
    local ours_text = sign.canonical_request(record)
    local ours = cut(ours_text)
    for _, stage in ipairs(STAGES) do
        local known = record.differs[stage]
        if not known then
            if node[stage] ~= ours[stage] then return false end
        elseif node[stage] == ours[stage] or ours[stage] ~= known.ours
            or node[stage] ~= (known.node or node[stage]) then
            return false
        end
    end
    -- The rest of Node's way is ours too: from the same canonical request, the same result.
    return authorization_of(record, record.canonical_request) == record.authorization
        and authorization_of(record, ours_text)
            == sign.authorization(record, credential_of(record))
end

local function is_refused(record)
    local done, result, err = pcall(function()
        return sign.authorization(record, credential_of(record))
    end)
    if done and result then return false end
    return (done and err.message or result):find(record.refused, 1, true)
end

-- Raises with both sides of the first that fail.
local function check_all(records, check)
    local failed, printed = 0, {}
    for _, record in ipairs(records) do
        if not check(record) then
            failed = failed + 1
            if failed <= MAX_PRINTED then printed[#printed + 1] = both_sides(record) end
        end
    end
    if failed > 0 then
        error(("%d of %d:\n%s"):format(failed, #records, table.concat(printed, "\n")), 0)
    end
end

local random, by_way, named = {}, {}, {}
for line in io.lines((assert(os.getenv("SIGNED_REQUESTS"), "SIGNED_REQUESTS is not set"))) do
    local record = json.decode(line)
    if record.name then
        named[#named + 1] = record
    elseif record.way then
        by_way[record.way] = by_way[record.way] or {}
        table.insert(by_way[record.way], record)
    else
        random[#random + 1] = record
    end
end

describe("the official Node signer", function()
    it("agrees on " .. #random .. " random requests", function()
        assert.is_true(#random > 0 and #named > 0)
        check_all(random, agrees)
    end)

    for _, way in ipairs { "path", "blanks", "header order", "query order" } do
        local records = by_way[way] or {}
        it(("differs in its way on %d random requests: %s"):format(#records, way), function()
            check_all(records, differs_as_known)
        end)
    end

    for _, record in ipairs(named) do
        if record.refused then
            it("signs what is refused here: " .. record.name, function()
                assert.truthy(is_refused(record))
            end)
        else
            local verb = next(record.differs) and "differs" or "agrees"
            it(verb .. " as known: " .. record.name, function()
                check_all({ record }, differs_as_known)
            end)
        end
    end
end)
