-- Requests per window, counted in fixed windows that begin with the first request after the last
-- window's end, and the several ways in which the gateway states the limit it applied.
local answers = require "spec.emulator.answers"
local state = require "spec.emulator.state"
local times = require "spec.emulator.times"

local limits = {}

local UNITS = { [1] = "second", [60] = "minute", [3600] = "hour", [86400] = "day" }

local windows

local function clear() windows = {} end
state.on_reset(clear)
limits.clear = clear

local function window_text(limit)
    local unit = UNITS[limit.seconds]
    return unit and "1 " .. unit or limit.seconds .. " second"
end

local FORMS = {
    full = function(limit)
        return "policy user over ratelimit,limit:" .. limit.requests .. ",time:"
            .. window_text(limit)
    end,
    short = function(limit) return "limit:" .. limit.requests .. ",time:" .. window_text(limit) end,
    bare = function(limit) return "limit:" .. limit.requests end,
}

local STATES_TEXT = { text = true, both = true, text_date = true }
local STATES_SECONDS = { retry_after = true, both = true }
local STATES_DATE = { date = true, text_date = true }

local function refusal(limit, left)
    local style, headers = state.settings.limit_style, {}
    local message = "The throttling threshold has been reached"
    if STATES_TEXT[style] then
        message = message .. ": " .. FORMS[state.settings.limit_form](limit)
    end
    if STATES_SECONDS[style] then headers["Retry-After"] = tostring(math.ceil(left)) end
    if STATES_DATE[style] then
        headers["Retry-After"] = times.http(math.ceil(state.now() + left))
    end
    return answers.gateway(429, "0308", message, headers)
end

local function open_window(i, limit, now)
    local window = windows[i]
    if not window or now >= window.ends then
        window = { ends = now + limit.seconds, used = 0 }
        windows[i] = window
    end
    return window
end

-- nil, or the 429; a request that one window refuses counts in none.
function limits.check()
    local now = ngx.now()
    for i, limit in ipairs(state.settings.limits) do
        local window = open_window(i, limit, now)
        if window.used >= limit.requests then return refusal(limit, window.ends - now) end
    end
    for i in ipairs(state.settings.limits) do windows[i].used = windows[i].used + 1 end
    return nil
end

return limits
