-- status(): how old each secret's newest good backup is, and what the last runs
-- left out. Which secrets count, and which are only shown.

local core = require "csms.core"
local directory = require "csms.store.directory"
local folders = require "spec.support.store_folder"
local history = require "spec.support.store_history"
local judge = require("csms.store.status").run

local PROJECT = "0123456789abcdef0123456789ABCDEF"
local OTHER = "fedcba9876543210fedcba9876543210"
local ALL = { project = PROJECT, asked = { all = true } }
local NOW = 10000000 -- when status() is asked, in most cases

local folder, root, store, past

before_each(function()
    folder, root, store = folders.with_store()
    past = history.new(root)
end)

after_each(function()
    store:close()
    folders.remove(folder)
end)

local function saved(name, seconds, project)
    return past:blob(project or PROJECT, name, seconds, name .. seconds)
end

local function noted(outcome, name, fields, project)
    local line = { outcome = outcome, project = project or PROJECT, name = name }
    for key, value in pairs(fields or {}) do line[key] = value end
    return line
end

-- What status() says at NOW: name -> secret, then all of it.
local function status(opts, now)
    local dir = assert(directory.open(root))
    local result = assert(judge(dir, opts or {}, now or NOW))
    dir:close()
    local secrets, problems = {}, 0
    for _, secret in ipairs(result.secrets) do
        local key = secret.project == PROJECT and secret.name or "other/" .. secret.name
        assert.is_nil(secrets[key])
        secrets[key] = secret
        if secret.problem then problems = problems + 1 end
    end
    assert.equal(problems + #result.projects + result.unreadable, result.problems)
    return secrets, result
end

local function assert_fine(secret)
    assert.is_true(secret.judged)
    assert.is_nil(secret.problem)
end

local function assert_shown(secret)
    assert.is_false(secret.judged)
    assert.is_nil(secret.problem)
end

local function assert_problem(text, secret)
    assert.is_true(secret.judged)
    assert.matches(text, secret.problem or "none", 1, true)
end

-- ---- what is told ---------------------------------------------------------------

describe("status()", function()
    it("tells of each secret its newest backup, its age and what the run made of it", function()
        past:run(1000, ALL, { saved("a", 1001) })
        local id = past:run(2000, ALL, { saved("a", 2001.5), noted("current", "b"),
            noted("skipped", "c", { state = "FROZEN" }) }, { when = history.stamp(2010) })
        saved("b", 1500)
        local _, result = status()
        assert.same({
            {
                project = PROJECT, name = "a", newest = 2001.5, age = NOW - 2001.5,
                outcome = "saved", judged = true,
            },
            {
                project = PROJECT, name = "b", newest = 1500, age = NOW - 1500,
                outcome = "current", judged = true,
            },
            { project = PROJECT, name = "c", outcome = "skipped", judged = false },
        }, result.secrets)
        assert.equal(0, result.problems)
        assert.equal(id, result.run.id)
        assert.equal(history.stamp(2000), result.run.started)
        assert.equal(history.stamp(2010), result.run.ended)
        assert.same({ all = true }, result.run.asked)
        assert.is_false(result.run.interrupted)
        assert.equal(1, result.run.counts.saved)
    end)

    it("is in the order of projects and names", function()
        for _, name in ipairs { "b", "B", "a", "a.b", "-" } do
            saved(name, 1000)
            saved(name, 1000, OTHER)
        end
        past:run(900, ALL, { noted("failed", "aa", { kind = "denied" }) })
        local _, result = status()
        local names = {}
        for index, secret in ipairs(result.secrets) do
            names[index] = secret.project:sub(1, 1) .. secret.name
        end
        assert.same({ "0-", "0B", "0a", "0a.b", "0aa", "0b", "f-", "fB", "fa", "fa.b", "fb" },
            names)
    end)

    it("of an empty store says nothing", function()
        local _, result = status()
        assert.same({ secrets = {}, projects = {}, problems = 0, unreadable = 0 }, result)
    end)

    it("has a problem where --all was asked for and never came to its end", function()
        past:run(NOW - 60, ALL, { saved("a", NOW - 50) }, { interrupted = true })
        local secrets, result = status()
        assert.is_nil(secrets.a.problem)
        assert.equal(1, result.problems)
        assert.equal(PROJECT, result.projects[1].project)
        assert.matches("no `csms backup --all` of it has come to its end yet",
            result.projects[1].problem, 1, true)
        assert.matches("csms runs -p " .. PROJECT, result.projects[1].problem, 1, true)
        past:run(NOW - 40, ALL, { saved("a", NOW - 30) })
        assert.equal(0, select(2, status()).problems)
    end)

    it("has a problem where the last --all that came to its end is too long ago", function()
        past:run(NOW - 7200, ALL, { saved("a", NOW - 7100) })
        past:run(NOW - 60, ALL, { saved("a", NOW - 50) }, { incomplete = "network: gone" })
        local secrets, result = status { max_age = 3600 }
        assert_fine(secrets.a)
        assert.same({ { project = PROJECT, problem = "its last whole `csms backup --all` is "
            .. "2.0 hours old, and later ones broke off: secrets may be missing" } },
            result.projects)
        assert.same({}, select(2, status { max_age = 7200 }).projects)
        assert.same({}, select(2, status { max_age = 3600, project = OTHER }).projects)
        -- Nobody asks for all of them any more.
        past:run(NOW - 40, ALL, { saved("a", NOW - 30) })
        past:run(NOW - 20, { project = PROJECT, asked = { names = { "a" } } }, {})
        assert.same({}, select(2, status { max_age = 10 }).projects)
    end)

    it("takes the time from the clock, and options from a table", function()
        local now = core.time()
        past:run(now - 7200, ALL, { saved("a", now - 7200) })
        assert.equal(0, assert(store:status()).problems)
        assert.equal(0, assert(store:status {}).problems)
        assert.equal(1, assert(store:status { max_age = 7199 }).problems)
        assert.equal(0, assert(store:status { max_age = 7200 + 600 }).problems)
        assert.equal(0, assert(store:status { max_age = 60, project = OTHER }).problems)
        local age = store:status().secrets[1].age
        assert.is_true(age >= 7199.9 and age < 7200 + 600)
    end)
end)

describe("the options of status()", function()
    it("are refused where they are not what they must be", function()
        for key, opts in pairs {
            max_age = { max_age = "26h" }, maxage = { maxage = 26 }, project = { project = 5 },
        } do
            local result, err = store:status(opts)
            assert.is_nil(result)
            assert.equal("config", err.kind)
            assert.matches("opts: '" .. key .. "' ", err.message, 1, true)
        end
        for _, max_age in ipairs { -1, 0 / 0 } do
            assert.is_nil((store:status { max_age = max_age }))
        end
    end)
end)

-- ---- ages -------------------------------------------------------------------------

describe("max_age", function()
    before_each(function()
        past:run(NOW - 90000, ALL, { saved("a", NOW - 3600) })
    end)

    it("is the age that is still good", function()
        assert_fine(status({ max_age = 3600 }).a)
        assert_fine(status({ max_age = 3600.001 }).a)
        assert_problem("its newest backup is 1.0 hours old", status({ max_age = 3599.999 }).a)
        assert_problem("its newest backup is 1.0 hours old", status({ max_age = 0 }).a)
        assert_fine(status({}).a)
    end)

    it("judges the newest good backup, also of no run", function()
        local younger = saved("a", NOW - 60)
        assert_fine(status({ max_age = 61 }).a)
        folders.write(root .. "/" .. younger.file, "damaged")
        assert_problem("hours old", status({ max_age = 61 }).a)
        assert.equal(NOW - 3600, status().a.newest)
    end)

    it("does not believe a backup from the future, but for what clocks may differ", function()
        local close = saved("a", NOW + 60)
        assert_fine(status({ max_age = 0 }).a)
        assert.equal(-60, status().a.age)
        os.remove(root .. "/" .. close.file)
        saved("a", NOW + 61)
        local problem = ("from the future, because a clock was wrong; this passes by itself at "
            .. "%s; if that is too long, move blobs/"):format(history.stamp(NOW + 61))
        assert_problem(problem, status({ max_age = 0 }).a)
        assert_problem(problem, status().a)
    end)

    it("is no excuse for a backup that cannot be read, which hides no other", function()
        saved("b", NOW - 60)
        assert(store:list())
        folders.break_reads(store, "/a/.*blob$")
        local found = assert(store:status()).secrets
        assert.matches("cannot read blobs/.*/a/", found[1].problem)
        assert.is_nil(found[1].newest)
        assert.equal(NOW - 60, found[2].newest)
    end)

    it("is no excuse for a secret without any good backup", function()
        folders.write(root .. "/" .. folders.only(root, "%.blob$"), "damaged")
        assert_problem("it has no good backup", status().a)
        assert_problem("it has no good backup", status({ max_age = 1e9 }).a)
        assert.is_nil(status().a.newest)
    end)
end)

-- ---- who is judged ----------------------------------------------------------------

describe("a secret whose backups somebody removed", function()
    local first, second

    local NAMED = { project = PROJECT, asked = { names = { "a", "b" } } }

    before_each(function()
        first, second = saved("a", 1001), saved("a", 2001)
        past:run(1000, NAMED, { first })
        past:run(2000, NAMED, { second, saved("b", 2002) })
    end)

    local function note_removed(what, ...)
        local lines = {}
        for index, line in ipairs { ... } do
            lines[index] = noted("removed", "a", { file = line.file })
        end
        past:run(3000, { asked = { prune = what } }, lines)
    end

    local function remove(...)
        for _, line in ipairs { ... } do assert(os.remove(root .. "/" .. line.file)) end
    end

    it("is shown once that was noted by --forget-missing, and judged until then", function()
        remove(first, second)
        assert_problem("it has no good backup", status().a)
        note_removed({ missing = true }, first, second)
        local secrets = status()
        assert_shown(secrets.a)
        assert.equal("saved", secrets.a.outcome)
        assert_fine(secrets.b)
        os.remove((root .. "/" .. first.file):match "^(.*)/")
        assert_shown(status().a)
        -- And where a later run only found that it was there.
        past:run(2500, { project = PROJECT, asked = { names = { "a" } } },
            { noted("current", "a", { file = second.file }) })
        assert_shown(status().a)
        past:run(4000, NAMED, { noted("failed", "a", { kind = "denied", message = "no" }) })
        assert_problem("the last run failed: denied: no", status().a)
    end)

    it("is judged where the last whole run listed it, until one does not", function()
        past:run(2500, ALL, { noted("current", "a", { file = second.file }) })
        remove(first, second)
        note_removed({ missing = true }, first, second)
        assert_problem("it has no good backup; the next whole `csms backup --all` saves it, or "
            .. "does not list it any more; if there is no such project, move the records that "
            .. "`csms runs -p " .. PROJECT .. "` names out of runs/", status().a)
        past:run(4000, ALL, { noted("current", "b") })
        assert_shown(status().a)
    end)

    it("is judged by what is left of it", function()
        remove(second)
        note_removed({ missing = true }, second)
        assert_problem("hours old", status({ max_age = 1 }).a)
        folders.write(root .. "/" .. first.file, "damaged")
        assert_problem("it has no good backup", status().a)
    end)

    it("is judged where only rules removed something", function()
        remove(first, second)
        note_removed({ last = 1 }, first, second)
        assert_problem("it has no good backup", status().a)
    end)
end)

describe("the last whole run", function()
    it("says which secrets are judged: those that it listed", function()
        past:run(1000, ALL, { saved("gone", 1001), saved("a", 1002) })
        past:run(2000, ALL, { saved("a", 2001), noted("current", "b"), noted("failed", "c",
            { kind = "denied", message = "no" }), noted("skipped", "d") })
        saved("b", 1003)
        local secrets = status { max_age = 1e9 }
        assert_fine(secrets.a)
        assert_fine(secrets.b)
        assert_problem("the last run failed: denied: no", secrets.c)
        assert_shown(secrets.d)
        assert_shown(secrets.gone)
        assert.equal(1001, secrets.gone.newest)
        assert.is_nil(secrets.gone.outcome)
    end)

    it("leaves what is no longer listed out, however old it is", function()
        past:run(1000, ALL, { saved("gone", 1001) })
        past:run(2000, ALL, { saved("a", 2001) })
        local secrets = status { max_age = NOW - 2001 }
        assert_shown(secrets.gone)
        assert_fine(secrets.a)
    end)

    it("takes back a failure of the one before", function()
        past:run(1000, ALL, { noted("failed", "a", { kind = "denied" }), noted("failed", "b") })
        past:run(2000, ALL, { saved("a", 2001), noted("skipped", "b") })
        local secrets = status()
        assert_fine(secrets.a)
        assert_shown(secrets.b)
    end)

    it("counts a failure though there is a good backup", function()
        past:run(1000, ALL, { saved("a", 1001) })
        past:run(2000, ALL, { noted("failed", "a", { kind = "denied", message = "no right" }) })
        assert_problem("the last run failed: denied: no right", status().a)
    end)

    it("that skips a secret of which there is a backup only shows it", function()
        past:run(1000, ALL, { saved("a", 1001) })
        past:run(2000, ALL, { noted("skipped", "a") })
        assert_shown(status({ max_age = 1 }).a)
        assert.equal("skipped", status().a.outcome)
        assert.equal(1001, status().a.newest)
    end)

    it("that listed nothing judges nothing", function()
        past:run(1000, ALL, { saved("a", 1001) })
        past:run(2000, ALL, {})
        assert_shown(status({ max_age = 1 }).a)
    end)
end)

describe("after the last whole run", function()
    before_each(function()
        past:run(1000, ALL, { saved("a", 1001), saved("b", 1002) })
    end)

    -- Each of these is no whole run, for one reason.
    local PARTIAL = {
        ["a run of some names"] = { { project = PROJECT, asked = { names = { "c" } } } },
        ["a run of what matches"] = {
            { project = PROJECT, asked = { all = true, match = { "c*" } } },
        },
        ["a run whose listing failed"] = { ALL, { incomplete = "network: gone" } },
        ["a run that was interrupted"] = { ALL, { interrupted = true } },
        ["a run that goes on"] = { ALL, false },
        ["a run by a program"] = { { project = PROJECT } },
    }

    for what, run in pairs(PARTIAL) do
        it(what .. " does not take its place", function()
            past:run(2000, run[1], { saved("c", 2001) }, run[2])
            local secrets, result = status { max_age = NOW - 1001 }
            assert_fine(secrets.a)
            assert_fine(secrets.b)
            assert_shown(secrets.c)
            assert.equal("saved", secrets.c.outcome)
            assert.equal(history.stamp(2000), result.run.started)
        end)

        it(what .. " makes a failure count, also of what was not listed", function()
            past:run(2000, run[1], {
                noted("failed", "a", { kind = "throttled", message = "slow" }),
                noted("failed", "new", { kind = "denied", message = "no" }),
            }, run[2])
            local secrets = status()
            assert_problem("the last run failed: throttled: slow", secrets.a)
            assert_problem("the last run failed: denied: no", secrets.new)
            assert_fine(secrets.b)
        end)

        it(what .. " takes a failure back", function()
            past:run(1500, run[1], { noted("failed", "a", { kind = "denied" }) }, run[2])
            past:run(2000, run[1], { saved("a", 2001) }, run[2])
            assert_fine(status().a)
        end)
    end

    it("a skipped secret that was listed keeps being judged", function()
        local asked = { project = PROJECT, asked = { names = { "a" } } }
        past:run(2000, asked, { noted("skipped", "a") })
        assert_problem("hours old", status({ max_age = 1 }).a)
    end)

    it("a run of prune is none", function()
        past:run(2000, { asked = { prune = { last = 1 } } },
            { noted("removed", "a", { file = "blobs/x" }) })
        local secrets, result = status()
        assert_fine(secrets.a)
        assert.equal("saved", secrets.a.outcome)
        assert.equal(history.stamp(1000), result.run.started)
    end)

    it("a run whose record is damaged is a problem until a whole run comes after it", function()
        local id = past:run(2000, ALL, { noted("failed", "a", { kind = "denied" }) })
        local text = folders.read(root .. "/runs/" .. id .. ".jsonl")
        folders.write(root .. "/runs/" .. id .. ".jsonl", (text:gsub("denied", "decied")))
        local secrets, result = status()
        assert_fine(secrets.a)
        assert.equal(history.stamp(1000), result.run.started)
        assert.same({ 1, 1 }, { result.problems, result.unreadable })
        past:run(3000, { project = PROJECT, asked = { names = { "a" } } }, { saved("a", 3001) })
        assert.equal(1, select(2, status()).unreadable)
        past:run(4000, ALL, { saved("a", 4001) })
        assert.same({ 0, 0 }, { select(2, status()).problems, select(2, status()).unreadable })
    end)

    it("a damaged record that may be any project's is a problem until each has a whole run",
        function()
            local all_other = { project = OTHER, asked = { all = true } }
            past:run(1500, all_other, { saved("x", 1501, OTHER) })
            local id = past:run(2000, all_other, { noted("failed", "x", {}, OTHER) })
            local text = folders.read(root .. "/runs/" .. id .. ".jsonl")
            folders.write(root .. "/runs/" .. id .. ".jsonl", "[" .. text:sub(2))
            past:run(3000, ALL, { saved("a", 3001) })
            assert.equal(1, select(2, status()).unreadable)
            assert.equal(0, select(2, status { project = PROJECT }).unreadable)
            assert.equal(1, select(2, status { project = OTHER }).unreadable)
            past:run(4000, all_other, { saved("x", 4001, OTHER) })
            assert.equal(0, select(2, status()).unreadable)
        end)

    it("a damaged record of another project is none of one's own", function()
        local id = past:run(2000, { project = OTHER, asked = { all = true } }, {})
        local text = folders.read(root .. "/runs/" .. id .. ".jsonl")
        folders.write(root .. "/runs/" .. id .. ".jsonl", text .. "x\n")
        assert.equal(1, select(2, status()).problems)
        assert.equal(0, select(2, status { project = PROJECT }).problems)
        assert.equal(1, select(2, status { project = OTHER }).problems)
    end)

    it("a run from the future, when a clock was wrong, hides none of those after it", function()
        past:run(NOW + 61, ALL, {})
        past:run(2000, ALL, { noted("failed", "a", { kind = "denied", message = "no" }) })
        local secrets, result = status()
        assert_problem("the last run failed: denied: no", secrets.a)
        assert.equal(history.stamp(2000), result.run.started)
        past:run(NOW + 60, ALL, { saved("a", NOW) })
        assert_fine(status().a)
    end)

    it("the records of all runs may be damaged", function()
        folders.write(root .. "/runs/" .. folders.only(root .. "/runs", "%.jsonl$"), "{}\n")
        local _, result = status()
        assert.same({ 1, 1 }, { result.problems, result.unreadable })
    end)
end)

describe("without any whole run", function()
    it("all that has a backup is judged, and what failed", function()
        past:run(1000, { project = PROJECT, asked = { names = {} } },
            { saved("a", 1001), noted("failed", "b", { kind = "denied" }), noted("skipped", "c") })
        saved("d", 1002)
        saved("c", 1003)
        local secrets = status { max_age = NOW - 1001 }
        assert_fine(secrets.a)
        assert_problem("the last run failed: denied", secrets.b)
        assert_shown(secrets.c)
        assert_fine(secrets.d)
        assert_problem("hours old", status({ max_age = 10 }).d)
    end)

    it("a name that there never was is shown, as is one whose backups were moved away", function()
        local asked = { project = PROJECT, asked = { names = { "a", "typo" } } }
        local function not_found(name)
            return noted("failed", name, { kind = "not_found", message = "no such secret" })
        end
        past:run(1000, asked, { saved("a", 1001), not_found "typo", noted("failed", "db pass",
            { kind = "argument", message = "no name" }) })
        local secrets = status()
        assert_fine(secrets.a)
        assert_shown(secrets.typo)
        assert_shown(secrets["db pass"])
        -- Deleted at the service, on purpose or not: who looks is told what to do.
        past:run(2000, asked, { not_found "a" })
        local problem = status().a.problem
        assert.matches("the last run failed: not_found: no such secret; if it was deleted", problem,
            1, true)
        local moved = problem:match "move (blobs/%S+) out of the store"
        os.rename(root .. "/" .. moved, folder .. "/moved")
        assert_shown(status().a)
    end)

    it("a store without any run is judged as well", function()
        saved("a", 1000)
        assert_fine(status().a)
        local secrets, result = status { max_age = 10 }
        assert_problem("hours old", secrets.a)
        assert.is_nil(result.run)
    end)
end)

describe("of several projects", function()
    local ALL_OTHER = { project = OTHER, asked = { all = true } }

    it("each has its own whole run", function()
        past:run(1000, ALL, { saved("a", 1001), saved("b", 1002) })
        past:run(2000, ALL_OTHER, { saved("a", 2001, OTHER), saved("c", 2002, OTHER) })
        past:run(3000, ALL_OTHER, { saved("a", 3001, OTHER) })
        past:run(4000, ALL, { saved("a", 4001) })
        local secrets = status { max_age = NOW - 3001 }
        assert_fine(secrets.a)
        assert_shown(secrets.b)
        assert_fine(secrets["other/a"])
        assert_shown(secrets["other/c"])
    end)

    it("one without a whole run is judged in full, and the other is not", function()
        past:run(1000, ALL, { saved("a", 1001), saved("b", 1002) })
        past:run(1500, ALL, { saved("a", 1501) })
        past:run(2000, { project = OTHER }, { saved("x", 2001, OTHER), saved("y", 900, OTHER) })
        local secrets = status { max_age = NOW - 1000 }
        assert_fine(secrets.a)
        assert_shown(secrets.b)
        assert_fine(secrets["other/x"])
        assert_problem("hours old", secrets["other/y"])
    end)

    it("a failure is its own project's", function()
        past:run(1000, ALL, { saved("a", 1001) })
        past:run(2000, ALL_OTHER, { noted("failed", "a", { kind = "denied" }, OTHER) })
        local secrets = status()
        assert_fine(secrets.a)
        assert_problem("the last run failed: denied", secrets["other/a"])
    end)

    it("one alone can be asked for", function()
        past:run(1000, ALL, { noted("failed", "a", { kind = "denied" }), saved("b", 1001) })
        past:run(2000, ALL_OTHER, { saved("a", 2001, OTHER), noted("failed", "z", {}, OTHER) })
        local secrets, result = status { project = PROJECT }
        assert.equal(2, #result.secrets)
        assert_problem("the last run failed: denied", secrets.a)
        assert_fine(secrets.b)
        assert.equal(1, result.problems)
        assert.equal(2, #select(2, status { project = OTHER }).secrets)
        assert.same({}, select(2, status { project = ("0"):rep(32) }).secrets)
    end)
end)

describe("status() of a store that save() and note() wrote", function()
    it("says the same", function()
        local about = { project = PROJECT, asked = { all = true } }
        assert(store:open_run(about))
        assert(store:save(PROJECT, "a", "blob"))
        assert(store:save(PROJECT, "gone", "blob"))
        assert(store:note(PROJECT, "b", "failed", { kind = "denied", message = "no" }))
        assert(store:close())
        assert.equal(1, assert(store:status()).problems)
        assert(store:open_run(about))
        assert(store:note(PROJECT, "a", "current"))
        assert(store:save(PROJECT, "b", "blob"))
        assert(store:close { incomplete = "a page failed" })
        local result = assert(store:status())
        assert.equal(0, result.problems)
        assert.is_true(result.secrets[3].judged) -- gone: the whole run listed it
        assert(store:open_run(about))
        assert(store:save(PROJECT, "b", "blob"))
        assert(store:note(PROJECT, "a", "current"))
        assert(store:close())
        assert(store:prune { last = 1 })
        result = assert(store:status())
        assert.equal(0, result.problems)
        assert.same({ true, true, false },
            { result.secrets[1].judged, result.secrets[2].judged, result.secrets[3].judged })
        assert.same({ all = true }, result.run.asked)
    end)
end)
