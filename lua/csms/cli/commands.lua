-- SPDX-License-Identifier: MIT
-- What each command of `csms` takes, its help, and which arguments go together. What it
-- does is csms.cli.COMMAND's run(args, out) -> exit code, the summary's fields or nil.

local values = require "csms.cli.values"

local M = {}

local declare, check = {}, {} -- by name of the command

-- ---- backup -------------------------------------------------------------------

function declare.backup(command)
    command:summary "Back up secrets into a folder."
        :usage [=[
Usage: csms backup (NAME... | --all [--match GLOB]...) -o DIR [OPTION...]
       csms backup NAME --stdout [OPTION...]]=]
        :description [[
Backs up secrets: with all their versions, encrypted by the service. Into a
folder, where each backup is a file of its own and none is ever overwritten, or
to stdout. One secret that fails never stops the others.]]
        :epilog [[
A blob counts as saved once it is safe on the disk. A run that was ended half
way is simply run again; with --max-age it does only what is left. A NAME that
begins with '-' comes after '--'. Secrets that are pending deletion or frozen
cannot be backed up: they are skipped.

Examples:
   csms backup --all -o /srv/csms
   csms backup --all --match 'prod-*' -o /srv/csms --max-age 12h
   csms backup db-password api-key -o /srv/csms
   csms backup db-password --stdout > db-password.blob]]
    command:argument "NAME":target "names":args "*"
        :description "Secrets to back up."
    command:flag "--all"
        :description "All secrets of the project, while it is listed."
    command:option "--match":argname "GLOB":convert(values.glob):count "*"
        :description ("With --all: only those whose name fits, such as 'prod-*'; * stands for any "
            .. "characters, ? for one, and nothing else is special. May be repeated.")
    command:option "-o --output":argname "DIR"
        :description "The folder; made where it is not there."
    command:flag "--stdout"
        :description "Print the blob of the one NAME, and nothing else."
    command:option "--max-age":argname "TIME":convert(values.duration)
        :description "Skip what has a backup younger than that, such as 12h."
    command:option "--concurrency":argname "N":convert(values.count)
        :description "Requests at once (default: 16)."
    command:option "--rate":argname "N":convert(values.rate)
        :description ("Requests a second at most; 0 for no limit (default: 10 with --all, because "
            .. "the service's limit is shared with those who use the secrets).")
    command:flag "--strict"
        :description "Skipped secrets make the run fail."
end

function check.backup(args)
    if #args.names == 0 and not args.all then return "name the secrets, or say --all" end
    if #args.names > 0 and args.all then return "either NAMEs or --all" end
    if #args.match > 0 and not args.all then return "--match goes with --all" end
    if not (args.output or args.stdout) then
        return "say where the backups go: -o DIR, or --stdout for one secret"
    end
    if args.output and args.stdout then return "either -o DIR or --stdout" end
    if not args.stdout then return nil end
    if #args.names ~= 1 then return "--stdout takes exactly one NAME" end
    if args.json then return "--stdout prints the blob alone, so --json cannot be" end
    if args.max_age then return "--max-age goes with -o DIR" end
end

-- ---- list, show, inspect --------------------------------------------------------

function declare.list(command)
    command:summary "List the secrets of a project."
        :usage "Usage: csms list [OPTION...]"
        :description "Lists the secrets of the project: name, state, time of the last change (UTC)."
        :epilog [[
Examples:
   csms list
   csms list --region cn-north-4 --json]]
end

function declare.show(command)
    command:summary "Show what the service knows of a secret."
        :usage "Usage: csms show NAME [OPTION...]"
        :description "Shows what the service knows of a secret, but never its value."
        :epilog [[
A NAME that begins with '-' comes after '--'.

Examples:
   csms show db-password
   csms show db-password --json]]
    command:argument "NAME":target "name":description "The secret."
end

function declare.inspect(command)
    command:summary "Tell what a backup says of itself."
        :usage "Usage: csms inspect FILE... [OPTION...]"
        :description [[
Tells of blobs in files what can be told without any key: format, key id,
algorithms, length, and whether anything is cut off. Exit code 8 where a file
is no whole blob, 3 where another one is.]]
        :epilog [[
Examples:
   csms inspect db-password.blob
   csms backup db-password --stdout | csms inspect -]]
    command:argument "FILE":target "files":args "+"
        :description "Files with a blob each; '-' is stdin."
end

-- ---- restore --------------------------------------------------------------------

function declare.restore(command)
    command:summary "Bring secrets back from their backups."
        :usage [=[
Usage: csms restore FILE [OPTION...]
       csms restore --from DIR (NAME | --all [--match GLOB]...) [OPTION...]]=]
        :description [[
Hands backups to the service, which makes each secret again, with every version
that it had. Only the account and the region that a backup is from can open it.
It is for secrets that are gone. What the service does to one that is still
there is not documented: --all leaves those alone, unless --force is given.]]
        :epilog [[
Before a backup from a folder is sent, its bytes are compared with what was
recorded, and endpoint and region with those it was made with; of a FILE they
are not known. A secret whose KMS key is another one now gets a warning: the
old key must still be enabled.
A secret that is pending deletion is best brought back by cancelling that.
With --all, at most 10 requests a second. After a run that was cut off, run it
again: it goes on with what is missing.

Examples:
   csms restore --from /srv/csms db-password
   csms restore --from /srv/csms --all --dry-run
   csms restore --from /srv/csms --all --match 'prod-*' --at 2026-11-21T16:00Z
   csms restore db-password.blob]]
    command:argument "FILE|NAME":target "what":args "?"
        :description "A file with a blob, '-' for stdin; with --from, a secret."
    command:option "--from":argname "DIR"
        :description "The folder that `csms backup -o DIR` filled."
    command:flag "--all"
        :description ("With --from: all secrets of the project that the folder has. One of which "
            .. "it has lost every backup fails.")
    command:option "--match":argname "GLOB":convert(values.glob):count "*"
        :description "With --all: only those whose name fits, by * and ?. May be repeated."
    command:option "--at":argname "TIME"
        :description ("With --from: the newest backup that is not younger than 2026-11-21 (its "
            .. "end, UTC), 2026-11-21T16:00Z, or the run with this id.")
    command:flag "--dry-run"
        :description "Check everything, but restore nothing."
    command:flag "--force"
        :description ("Try even where endpoint or region are others, the blob is no whole one, or "
            .. "(with --all) the secret is still there, or may be.")
end

function check.restore(args)
    if not args.from then
        if not args.what then return "say which FILE to restore, or --from DIR" end
        if args.all or #args.match > 0 or args.at then
            return "--all, --match and --at go with --from DIR"
        end
        return nil
    end
    if not args.what and not args.all then return "name the secret, or say --all" end
    if args.what and args.all then return "either NAME or --all" end
    if #args.match > 0 and not args.all then return "--match goes with --all" end
end

-- ---- looking after a store ------------------------------------------------------

local function directory(command)
    command:argument "DIR":target "dir"
        :description ("The folder that `csms backup -o DIR` filled: all its projects, unless "
            .. "--project names one (HUAWEICLOUD_SDK_PROJECT_ID does not).")
end

function declare.status(command)
    command:summary "Is every backup young enough? For monitoring."
        :usage "Usage: csms status DIR [--max-age TIME] [OPTION...]"
        :description [[
Tells for every secret how old its newest good backup is, and what the last run
left out. Exit code 3 where one is too old or was left out: that is what
monitoring asks for. Judged are the secrets that the last whole `backup --all`
listed, and those that failed since. No request is made.]]
        :epilog [[
Examples:
   csms status /srv/csms
   csms status /srv/csms --max-age 2d > log || mail -s backups admin < log]]
    directory(command)
    command:option "--max-age":argname "TIME":convert(values.duration):default "26h"
        :description "What is older is too old."
end

function declare.verify(command)
    command:summary "Check every byte of a store."
        :usage "Usage: csms verify DIR [OPTION...]"
        :description [[
Reads every backup and every record of the folder and names what is damaged or
gone: exit code 8. What an interrupted run left is named too, but is no damage.]]
        :epilog [[
Examples:
   csms verify /srv/csms]]
    directory(command)
end

function declare.runs(command)
    command:summary "List the runs that a store has a record of."
        :usage "Usage: csms runs DIR [OPTION...]"
        :description [[
Lists the runs of the folder, the oldest first: id, what was asked, how it went.]]
        :epilog [[
The id of a run can be given to `csms restore --at`.

Examples:
   csms runs /srv/csms]]
    directory(command)
end

function declare.prune(command)
    command:summary "Remove old backups."
        :usage "Usage: csms prune DIR {--keep-... N... | --forget-missing} [OPTION...]"
        :description [[
Removes backups that no --keep rule wants. The newest good backup of every
secret always stays, the newest complete one (csms inspect) too, and so do the
records of all runs.]]
        :epilog [[
A day, week or month (UTC) without a backup does not count.

Examples:
   csms prune /srv/csms --keep-last 3 --dry-run
   csms prune /srv/csms --keep-daily 14 --keep-weekly 8 --keep-monthly 12]]
    directory(command)
    command:option "--keep-last":argname "N":convert(values.count)
        :description "The newest N of each secret."
    for _, unit in ipairs { "day", "week", "month" } do
        local name = unit == "day" and "daily" or unit .. "ly"
        command:option("--keep-" .. name):argname "N":convert(values.count)
            :description(("The newest of each of the last N %ss."):format(unit))
    end
    command:flag "--forget-missing"
        :description "Note what verify misses as removed, and remove nothing."
    command:flag "--dry-run"
        :description "Tell what would be removed, and remove nothing."
end

function check.prune(args)
    local keeps = args.keep_last or args.keep_daily or args.keep_weekly or args.keep_monthly
    if keeps and args.forget_missing then
        return "--forget-missing removes nothing: it goes without --keep-..."
    end
    if not keeps and not args.forget_missing then
        return "say what to keep: --keep-last, --keep-daily, --keep-weekly or --keep-monthly"
    end
end

-- ---- doctor and help --------------------------------------------------------------

function declare.doctor(command)
    command:summary "Check the set-up, and say what to mend."
        :usage "Usage: csms doctor [OPTION...]"
        :description [[
Checks configuration, endpoint, certificate, clock, credentials, project and
permissions, and says what to mend. It lists the secrets and backs one up,
without keeping it; it changes nothing. Each check has 30 seconds, unless
--deadline is given.]]
        :epilog [[
Examples:
   csms doctor
   csms doctor --region cn-north-4 --project 0123456789abcdef0123456789abcdef]]
end

function declare.help(command)
    command:summary "Show the help of a command."
        :usage "Usage: csms help [COMMAND]"
        :description "Shows the help of a command."
        :epilog [[
Examples:
   csms help backup]]
    command:argument "COMMAND":target "of":args "?":description "The command."
end

local ORDER = {
    "backup", "restore", "list", "show", "inspect", "status", "verify", "runs", "prune", "doctor",
    "help",
}

--- Adds all commands to an argparse parser: a table of them by name.
function M.declare(parser)
    local by_name = {}
    for _, name in ipairs(ORDER) do
        by_name[name] = parser:command(name):add_help(false)
        declare[name](by_name[name])
    end
    return by_name
end

--- Why the arguments do not go together, or nil.
function M.check(args)
    return check[args.command] and check[args.command](args)
end

return M
