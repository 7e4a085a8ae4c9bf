-- SPDX-License-Identifier: MIT
-- The arguments of `csms`, and its help. What each command takes stands in
-- csms.cli.commands.

local argparse = require "argparse"
local commands = require "csms.cli.commands"
local core = require "csms.core"
local exit_codes = require "csms.cli.exit_codes"
local values = require "csms.cli.values"

local M = {}

local unpack = table.unpack -- luacheck: ignore 143

local WIDTH = 79 -- of help texts

local DESCRIPTION = [[
Encrypted backups of the secrets that Huawei Cloud CSMS keeps: make them, keep
them in a folder, look after them, and restore from them.]]

local EPILOG = [[
Examples:
   csms backup --all -o /srv/csms            all secrets of the project
   csms status /srv/csms                     is every backup young enough?
   csms restore --from /srv/csms db-key      the newest backup of one secret
   csms doctor                               what is wrong with the set-up?
`csms COMMAND --help` tells more about each command.

Environment:
   HUAWEICLOUD_SDK_AK, HUAWEICLOUD_SDK_SK, HUAWEICLOUD_SDK_SECURITY_TOKEN
                         the keys; or CSMS_AUTH_TOKEN, a token of IAM. Else
                         the profile $HOME/.huaweicloud/credentials, the pod's
                         identity, or the agency of the ECS instance.
   HUAWEICLOUD_SDK_PROJECT_ID, CSMS_REGION, CSMS_ENDPOINT, CSMS_CA_FILE
                         for --project, --region, --endpoint, --ca-file,
                         where the service is asked

Exit codes:
    0   all done
    1   a mistake in csms, or the output could not be written
    2   wrong usage
    3   some done and some failed, or failures of several kinds
    4   nothing matched, or there is no such secret
    5   nothing done, but it may pass: throttled, network, timeout, service
    6   nothing done: the keys were refused, or lack a permission
    7   nothing done: configuration, an argument, or TLS
    8   damage was found
   10   --deadline ended it
   11   another csms writes to the store
   12   the store's file system failed
  130   ended by SIGINT (Ctrl-C)
  141   the reader of the output has gone
  143   ended by SIGTERM]]

-- Raised through argparse, whose own way would be to exit.
local Stop = {}

local function stop(exit, text)
    error(setmetatable({ exit = exit, text = text }, Stop), 0)
end

-- argparse shows neither a command's full name nor its options to others, but by
-- these fields.
local function full_name(parser) return parser:_get_fullname() end
local function options_of(parser) return parser._options end

local function usage_error(parser, message)
    stop(exit_codes.USAGE, ("csms: %s\n%s\nTry `%s --help`.\n")
        :format(message, parser:get_usage(), full_name(parser)))
end

-- Options of every command, before or after its name.
local function general_options(parser)
    return {
        parser:option "-p --project":argname "ID"
            :description "The project: 32 characters.",
        parser:option "--region":argname "REGION"
            :description "Such as cn-north-4.",
        parser:option "--endpoint":argname "URL"
            :description "Of the service, instead of the region's own.",
        parser:option "--ca-file":argname "FILE"
            :description "CA certificates, instead of the system's.",
        parser:option "--deadline":argname "TIME":convert(values.duration)
            :description ("Give up on the service after that long, such as 90s, 10m or 2h "
                .. "(default: none for many secrets, 2m for one request)."),
        parser:flag "--json"
            :description "One JSON object a line on stdout; the last is a summary.",
        parser:flag "-q --quiet"
            :description "Say nothing on stderr but errors.",
        parser:flag "-h --help"
            :description "Show this help.",
    }
end

-- argparse tells what is wrong with a value, but not which option it was given to.
local function name_in_problems(options)
    for _, option in ipairs(options) do
        local convert = option._convert
        if convert then
            option:convert(function(text)
                local value, problem = convert(text)
                return value, problem and option._name .. ": " .. problem
            end)
        end
    end
end

local function build()
    local parser = argparse("csms", DESCRIPTION, EPILOG)
        :add_help(false):command_target "command"
        :help_max_width(WIDTH):usage_max_width(WIDTH):help_description_margin(22)
        :usage "Usage: csms COMMAND [ARGUMENT...] [OPTION...]"
    local general = general_options(parser)
    parser:flag "--version":description "Show the version."
        :action(function() stop(exit_codes.OK, "csms " .. core.version .. "\n") end)
    name_in_problems(general)
    local by_name = commands.declare(parser)
    for _, command in pairs(by_name) do
        local own = options_of(command)
        name_in_problems(own)
        if #own > 0 then command:group("Options", unpack(own)) end
        command:group("Options of every command", unpack(general))
    end
    general[#general]:action(function(result)
        local of = by_name[result.command] or parser
        stop(exit_codes.OK, of:get_help() .. "\n")
    end)
    parser.error = usage_error
    return parser, by_name
end

-- Why a word cannot be meant, or nil: an empty one is a variable that was not set.
local function check_empty(argv)
    for index, word in ipairs(argv) do
        if word == "" or word:find "^%-%-[%a-]+=$" then
            return ("the value after '%s' is empty"):format(word == "" and argv[index - 1] or word)
        end
    end
end

-- Why a short option is not understood as it is meant, or nil: argparse takes '-o=x' for
-- the folder '=x', and rightly '-oa=x' for 'a=x'. Before an option there may be -q.
local function check_short(argv)
    for _, word in ipairs(argv) do
        local option, value = word:match "^(%-q*%a)=(.*)$"
        if option then return ("'%s': write '%s %s'"):format(word, option, value) end
    end
end

local function parse(argv)
    local parser, by_name = build()
    local args = parser:parse(argv)
    local command = by_name[args.command]
    if args.command == "help" then
        local of = args.of and by_name[args.of] or not args.of and parser
        if not of then usage_error(command, "unknown command '" .. args.of .. "'") end
        stop(exit_codes.OK, of:get_help() .. "\n")
    end
    local problem = check_empty(argv) or check_short(argv) or commands.check(args)
    if problem then usage_error(command, problem) end
    return args
end

--- What the command line asks for, with `command`; or nil and what to say
--- instead: {text, exit}.
function M.parse(argv)
    local good, result = pcall(parse, argv)
    if good then return result end
    if getmetatable(result) ~= Stop then error(result, 0) end
    return nil, result
end

return M
