-- Finds secrets where none may be. Every key and token that the emulator makes bears marks that
-- tell its kind (crypto.canary of spec/emulator/crypto.lua); a long mixed run of base64url
-- characters is a piece of a blob, or of a key or token that is not the emulator's.
--
-- spec/run has each spec file search what it makes: the library's errors and events (install), the
-- outputs and logs of what it starts (cli.lua, nginx.lua), and its own output (filter). What is
-- found becomes a line "LEAK: ..." there, and such a line fails the run.

local M = {}

local KINDS = {
    AK = "access key", SK = "secret key", TK = "token", ST = "security token", PW = "password",
    MT = "metadata token", PT = "pod identity token",
}

-- Longer than any id, shorter than any piece of a blob that is of use to somebody.
local SHORTEST = 40
local RUN = ("[%w_-]"):rep(SHORTEST) .. "[%w_-]*"

--- The kind of secret that a text holds, or nil. An access key may show its first characters.
-- may_hold_blobs: true where a blob is what was asked for.
function M.find(text, may_hold_blobs)
    local at = text:find("CANARY", 1, true)
    if at then return KINDS[text:sub(math.max(at - 2, 1), at - 1)] or "part of a key" end
    if may_hold_blobs or #text < SHORTEST then return nil end
    for run in text:gmatch(RUN) do
        if run:find("%l") and run:find("%u") and run:find("%d") then return "part of a blob" end
    end
    return nil
end

--- Calls fn with every string in a value, its keys and metatables too, and what it prints as.
function M.each_text(value, fn, seen)
    if type(value) == "string" then return fn(value) end
    if type(value) ~= "table" and type(value) ~= "userdata" then return end
    fn(tostring(value))
    seen = seen or {}
    if type(value) == "userdata" or seen[value] then return end
    seen[value] = true
    for key, item in pairs(value) do
        M.each_text(key, fn, seen)
        M.each_text(item, fn, seen)
    end
    M.each_text(getmetatable(value), fn, seen)
end

--- Tells where a value holds a secret, and who made it, but not the secret; returns the value.
function M.watch(what, value, may_hold_blobs)
    local kind
    M.each_text(value, function(text) kind = kind or M.find(text, may_hold_blobs) end)
    if kind then
        io.stderr:write(debug.traceback(("LEAK: %s in %s"):format(kind, what), 2), "\n")
    end
    return value
end

--- From now on every error and every event of the library in this process is watched.
function M.install()
    local errors, config = require "csms.errors", require "csms.config"
    for _, name in ipairs { "new", "from_core", "copy" } do
        local make = errors[name]
        errors[name] = function(...) return M.watch("an error", make(...)) end
    end
    local check = config.client
    function config.client(...)
        local checked, err = check(...)
        local on_event = checked and checked.on_event
        if on_event then
            checked.on_event = function(event) return on_event(M.watch("an event", event)) end
        end
        return checked, err
    end
end

--- Copies stdin to stdout without the secrets in it; the exit code is 1 where there was one, or
-- where it tells of one.
function M.filter()
    local log = io.read("*a")
    local leaks = log:find("LEAK: ", 1, true)
    io.write((log:gsub("[%w_.-]+", function(run)
        local kind = M.find(run)
        leaks = leaks or kind
        return kind and "<LEAK: " .. kind .. ">"
    end)))
    os.exit(leaks and 1 or 0)
end

return M
