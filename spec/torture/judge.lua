-- Whether a work ended as it should where one call of the core failed.

-- Failures that change nothing. Each with its reason.
local HARMLESS = {
    close = "what was only read, or is thrown away, is closed all the same",
    curl_easy_getinfo = "the port is unknown then",
    curl_multi_perform = "all has ended before",
    curl_multi_poll = "the next turn waits",
    curl_multi_cleanup = "nothing can be done; it is called once, at the end",
    curl_multi_remove_handle = "it fails only for a handle that is not in there",
    curl_multi_wakeup = "whoever drives wakes up by itself, after a minute at the latest",
    fstatfs = "each file is synced by itself then",
    uname = "each file is synced by itself then",
    getsockname = "a connection is not looked at before it is used again",
    poll = "a connection is not looked at before it is used again",
    gethostname = "only the lock's text names the host",
    nanosleep = "as a signal does: the caller looks at the time itself",
    pthread_cond_timedwait = "the caller looks and waits again",
    rmdir = "an empty folder is left in the system's temporary one",
    unlink = "a socket is left in the system's temporary folder",
    send = "it fails where bytes are waiting already, or nobody reads any more",
    recv = "the loop wakes up once more and finds nothing",
    flock = "freed by close() just after", -- taking the lock: told, see below
    ftruncate = "the lock's text; flock tells who holds it",
    unlinkat = "a temporary file, which the next writer removes",
    sigaction = "what is restored was there before: it cannot be refused",
    accept4 = "told, as where nobody connected",
}

-- The same of one work: "WORK", or "WORK FUNCTION".
local HARMLESS_TO = {
    batch = "it tries again",
    close_in_flight = "it closes what it has asked for, however that ends",
    ["credentials CRYPTO_clear_realloc"] = "what cannot be redacted is withheld",
    ["store_locked pread"] = "who holds the lock stays unknown",
}

-- What a work on a store may go on without where it cannot be read, as patterns of paths.
-- What names the store is read by whoever opens it, and again by a writer, who needs it.
-- Of the runs, a restore needs none, and prune none that is closed: it knows its own files
-- by their digests too.
local IDENTITY, CLOSED_RUN = "^csms%-store%.json$", "^runs/[^/]+%.jsonl$"
local DONE_WITHOUT = {
    store_save = { IDENTITY }, store_locked = { IDENTITY }, store_look = { IDENTITY },
    store_read = { IDENTITY, CLOSED_RUN, "^runs$" }, store_prune = { IDENTITY, CLOSED_RUN },
}

local MEMORY = "out of memory"

-- What a failing call of this name leads to: patterns of "KIND MESSAGE".
local TOLD = {
    { "^CRYPTO_", "^network " .. MEMORY, "^credentials .*" .. MEMORY, "^storage .*" .. MEMORY },
    { "^curl_url", "^network " .. MEMORY },
    { "^curl_slist", "^network " .. MEMORY },
    { "^curl_easy_init", "^network " .. MEMORY },
    { "^curl_easy_setopt", "^network " .. MEMORY },
    { "^curl_easy_getinfo", "^network " .. MEMORY },
    { "^curl_multi_perform", "^network no complete answer", "^network no connection" },
    { "^curl_multi", "^network " .. MEMORY, "^config libcurl cannot start" },
    { "^pthread_mutex", "^network " .. MEMORY },
    { "^curl_global_init", "^config libcurl cannot start" },
    { "^pthread_atfork", "^config libcurl cannot start" },
    { "^pthread_cond", "^config libcurl cannot start" },
    { "^pthread_create", "^config no thread" },
    { "^EVP_", "^config OpenSSL cannot compute" },
    { "^gmtime_r", "^argument the time" },
    { "^socket$", "^network no connection", "^config the wake%-up socket" },
    { "^socketpair", "^config no socket pair" },
    { "^mkdtemp", "^config no folder for the wake%-up socket" },
    { "^bind", "^config the wake%-up socket" },
    { "^listen", "^config the wake%-up socket" },
    { "^accept4", "^config nobody connected" },
    { "^getsockopt", "^config another process connected" },
    { "^sigaction", "^config signals cannot be caught" },
    { "^strdup", "^storage .*" .. MEMORY },
    { "^[mc]alloc", "^storage .*" .. MEMORY },
    { "^open$", "^credentials .*cannot be opened" },
    { "^fstat$", "^credentials .*cannot be opened", "^storage cannot" },
    { "^read$", "^credentials .*cannot be read", "^storage cannot" },
    -- of the store
    { "", "^named .*cannot" },
    { "", "^storage cannot [%a ]+ /" },
}

-- What a Lua program is used to see raised: the system has no memory, or no OpenSSL
-- worth the name.
local RAISED = {
    EVP_Digest = "OpenSSL computes no SHA%-256", RAND_bytes = "OpenSSL gives no random numbers",
    CRYPTO_clear_realloc = MEMORY,
}

local function is_told(call, text)
    for _, rule in ipairs(TOLD) do
        if call.name:find(rule[1]) then
            for index = 2, #rule do
                if text:find(rule[index]) then return true end
            end
        end
    end
    return false
end

local function can_do_without(work, path)
    for _, pattern in ipairs(DONE_WITHOUT[work] or {}) do
        if path:find(pattern) then return true end
    end
    return false
end

--- What is wrong, or nil. call: {name, place}; out: how the work ended, "ok", "ok without
--- PATH", "error KIND MESSAGE" or "raised MESSAGE"; fine: how it ends where nothing fails.
return function(work, call, out, fine)
    local raised, told = out:match "^raised (.*)", out:match "^error (.*)"
    if out == fine then
        if HARMLESS[call.name] or HARMLESS_TO[work] or HARMLESS_TO[work .. " " .. call.name] then
            return nil
        end
        return "it failed, and nobody says so"
    end
    local without = out:match "^ok without (.*)"
    if without then
        return not can_do_without(work, without) and "it needs what it went on without" or nil
    end
    if raised then
        local expected = RAISED[call.name]
        return not (expected and raised:find(expected)) and "it raised" or nil
    end
    if told and is_told(call, told) then return nil end
    return "not the error that it should be"
end
