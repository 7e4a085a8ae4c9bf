-- SPDX-License-Identifier: MIT
-- csms doctor: checks the set-up in the order in which a backup needs it, and
-- says what to mend. It changes nothing.

local connection = require "csms.cli.connection"
local dates = require "csms.dates"
local errors = require "csms.errors"
local exit_codes = require "csms.cli.exit_codes"
local retry = require "csms.retry"
local wire = require "csms.wire"

local M = {}

local PATIENCE = 30        -- seconds, unless --deadline says otherwise
local CLOCK_LIMIT = 15 * 60 -- seconds that the service tolerates

-- ---- what is checked: text where it is well, or nil and the error -----------------

local check = {}

-- The error of a check that began then, as a call's would be.
local function or_deadline(client, err, began)
    local deadline = client.config.deadline
    return err and retry.or_deadline(client, { deadline = deadline, ends_at = began + deadline },
        err)
end

-- Any answer will do, whatever its status: it proves name, port and certificate,
-- and it has a date.
local function ask_time(state)
    local client = state.client
    local request = wire.build({ method = "GET", path = "/" }, {})
    request.timeout = math.min(client.config.timeout, client.config.deadline)
    request.time = client.runtime.time()
    local started = client.runtime.now()
    local transfer, err = wire.submit(client.runtime, client.origin, nil, request)
    if not transfer then return nil, err end
    local answer
    answer, err = wire.receive(client.runtime, transfer)
    if answer then
        state.server_time = dates.parse_http(answer.header("Date") or "")
        state.local_time = client.runtime.time() - 0.5 -- a Date is cut to the second
    end
    transfer:close()
    return answer, or_deadline(client, err, started)
end

function check.endpoint(state)
    local endpoint, region = connection.place(state.client)
    local answer, err = ask_time(state)
    if not answer then return nil, err end
    return ("%s answers, and its certificate verifies%s"):format(endpoint,
        region and "; region " .. region or "")
end

function check.clock(state)
    if not state.server_time then return nil, nil, "the service's time is not known" end
    local off = state.local_time - state.server_time
    local text = ("%.0f s %s the service's, which allows 15 minutes")
        :format(math.abs(off), off < 0 and "behind" or "ahead of")
    if math.abs(off) <= CLOCK_LIMIT then return text end
    return nil, errors.new("config", text .. "; csms allows for it, but others may not")
end

function check.credentials(state)
    local client = state.client
    local now = client.runtime.now()
    local credential, err = client.auth:credential(now, now + client.config.deadline)
    if not credential then return nil, or_deadline(client, err, now) end
    local source = client.credentials.chosen or client.credentials
    return "from " .. tostring(source)
end

function check.project(state)
    if not state.done.credentials then return nil, nil, "it needs credentials" end
    local id, err = connection.project(state.client, state.out)
    state.project = id
    return id, err
end

-- Why a request about secrets must fail, or nil.
local function missing(state)
    if not state.done.endpoint then return "it needs the endpoint" end
    if not state.project then return "it needs a project" end
    if state.refused then return "it needs keys that are not refused" end
end

function check.list(state)
    local reason = missing(state)
    if reason then return nil, nil, reason end
    local secrets, err = state.client:list(state.project, { deadline = state.out:left() })
    state.refused = err and err.kind == "auth"
    if not secrets then return nil, err end
    for _, secret in ipairs(secrets) do
        if secret.state == "ENABLED" then state.name = state.name or secret.name end
    end
    return #secrets .. " secrets can be listed"
end

-- A backup is a read; the blob is dropped.
function check.backup(state)
    local reason = missing(state)
    if not reason and not state.name then
        reason = "no enabled secret is known; try `csms backup NAME --stdout`"
    end
    if reason then return nil, nil, reason end
    local blob, err = state.client:backup(state.project, state.name,
        { deadline = state.out:left() })
    return blob and state.name .. " can be backed up", err
end

function check.restore()
    return nil, nil, "it cannot be tried without changing something; which permission it needs is "
        .. "not documented"
end

local ORDER = { "endpoint", "clock", "credentials", "project", "list", "backup", "restore" }

-- ---- the whole --------------------------------------------------------------------

local MEND = {
    configuration = "set what it names; `csms --help` has all options and variables",
    endpoint = "check --region or --endpoint (CSMS_REGION, CSMS_ENDPOINT), network and proxy; a "
        .. "private CA goes into --ca-file",
    clock = "set the clock, for example with `timedatectl set-ntp true`",
    credentials = "set HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or use another source that "
        .. "`csms --help` names",
    project = "name it with --project or HUAWEICLOUD_SDK_PROJECT_ID",
    list = "check keys and project; the user needs the IAM action csms:secret:list",
    backup = "the user needs the IAM actions csms:secret:get, kms:cmk:createDataKey, "
        .. "kms:cmk:decryptDataKey and kms:cmk:list, and the secret's KMS key must be enabled",
}

local LABEL = { ok = "ok      ", failed = "FAILED  ", not_checked = "        " }

local NEEDS_PERMISSION = { list = true, backup = true }

-- What may pass is no matter of permissions.
local function remedy(out, name, err)
    local exit = out:exit_of(err)
    local may_pass = exit == exit_codes.TEMPORARY and NEEDS_PERMISSION[name]
    return (may_pass or exit == exit_codes.DEADLINE) and exit_codes.advice(exit) or MEND[name]
end

local function tell(out, name, outcome, message, err)
    local mend = err and remedy(out, name, err)
    out:print(("%s%-13s %s"):format(LABEL[outcome], name, out.printable(message)))
    if mend then out:print((" "):rep(22) .. "to mend it: " .. mend) end
    out:object {
        type = "check", name = name, outcome = outcome, message = message,
        kind = err and err.kind, code = err and err.code, mend = mend,
    }
end

local function run_check(state, name)
    local text, err, reason = check[name](state)
    if text then
        state.done[name] = true
        tell(state.out, name, "ok", text)
    elseif err then
        state.out:name_deadline(err)
        state.failed = state.failed + 1
        state.failures[state.out:exit_of(err)] = true
        tell(state.out, name, "failed", tostring(err), err)
    else
        tell(state.out, name, "not_checked", "not checked: " .. reason)
    end
end

function M.run(args, out)
    args.deadline = args.deadline or PATIENCE
    local state = { out = out, done = {}, failed = 0, failures = {} }
    local err
    state.client, err = connection.open(args, out)
    if not state.client then
        tell(out, "configuration", "failed", tostring(err), err)
        return out:exit_of(err), { failed = 1 }
    end
    for _, name in ipairs(ORDER) do run_check(state, name) end
    state.client:close()
    return exit_codes.of_several(0, state.failures), { failed = state.failed }
end

return M
