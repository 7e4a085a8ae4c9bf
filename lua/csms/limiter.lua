-- SPDX-License-Identifier: MIT
-- How fast a client asks. Two rates bound it: the configured one (`rate`, a
-- token bucket that holds one token), and the pace that a throttling service
-- taught it. A stated limit is obeyed. An unstated one is searched for: a
-- refusal cuts the pace to less than what got through (multiplicative decrease),
-- then it grows in small steps (additive increase), slowly near the rate that
-- was refused last and faster the longer nothing is refused.
--
-- Where nothing gets through any more it closes: one probe at a time, until one
-- succeeds. All methods take the time, so that none reads a clock.

local M = {}

local Limiter = {}
Limiter.__index = Limiter

local STATED_SHARE = 0.97  -- of a stated limit: its windows and ours drift
local SHARED = 0.93        -- of that pace, at a refusal even so: others take a share of it;
local LEAST_SHARE = 0.2    -- of it, which is kept whatever they take
local DECREASE = 0.95      -- of what got through, at a refusal
local NEAR = 0.96          -- of the ceiling: from here on growth is slow
-- Growth in a unit of time, as a share of the ceiling: where none is known yet,
-- below it, and near it. The unit follows the service's window: see learn().
local UNKNOWN, FAST, SLOW = 0.15, 0.05, 0.002
local PATIENCE = 30        -- units without a refusal after which slow growth doubles
local DEEPEST = 0.9       -- a single cut; what got through may have been little by chance
local SLOWEST = 1 / 60     -- requests a second
local ISOLATED = 3         -- fewer refusals in a row are no limit yet
local CLOSE_AFTER = 5      -- refusals in a row, and this long without a success
local CLOSE_SECONDS = 2
local MIN_HORIZON = 4      -- seconds over which successes are counted, at least

--- rate: requests a second, or nil for none. cap: the longest wait of a probe.
function M.new(rate, cap)
    return setmetatable({
        rate = rate,
        cap = cap,
        pace = nil,        -- learned, requests a second
        ceiling = nil,     -- the pace that was refused last
        learning = false,  -- refused, and no pace learned yet
        next_at = 0,       -- when the next slot is
        blocked_until = 0,
        refusals = 0,      -- in a row
        refused_at = 0,
        succeeded_at = 0,
        wave_at = 0,       -- the first of these refusals
        grown_at = 0,
        stated = nil,      -- the pace that the service stated, which is not exceeded
        longest_wait = 0,  -- that the service stated
        bound = math.huge, -- that the pace must not exceed after such a wait
        through = 0,       -- successes since such a wait
        was_blocked = false, -- by a refusal, and nothing got through since
        closed = false,
        failed_probes = 0,
        horizon = MIN_HORIZON,
        counted = nil,     -- successes of this period and the one before:
        before = nil,      -- {count, since}
    }, Limiter)
end

-- ---- slots ----------------------------------------------------------------

local function interval(self)
    local rate = self.rate
    if self.pace and (not rate or self.pace < rate) then rate = self.pace end
    return rate and 1 / rate or 0
end

--- When a request that asks now may go.
function Limiter:next_slot(now)
    return math.max(now, self.next_at, self.blocked_until)
end

-- Time in which nobody asked teaches nothing: neither that little got through, nor
-- that nothing was refused.
local function forget_idleness(self, now)
    if now - self.succeeded_at <= self.horizon then return end -- as mostly
    local idle = now - math.max(self.next_at, self.blocked_until, self.succeeded_at,
        self.refused_at)
    if idle <= self.horizon then return end
    self.grown_at, self.refused_at = self.grown_at + idle, self.refused_at + idle
    -- Between refusals it is the limit that kept everybody back.
    if self.refusals == 0 then self.counted, self.before = nil, nil end
end

--- Takes that slot.
function Limiter:take(now)
    forget_idleness(self, now)
    local at = self:next_slot(now)
    self.next_at = at + interval(self)
    return at
end

--- Whether slots that were taken before are void for now.
function Limiter:is_blocked(now)
    return now < self.blocked_until
end

-- ---- what got through -----------------------------------------------------

local function count_success(self, now)
    self.counted = self.counted or { count = 0, since = now }
    if now - self.counted.since > self.horizon then
        self.before, self.counted = self.counted, { count = 0, since = now }
    end
    self.counted.count = self.counted.count + 1
end

-- Successes a second over the last one or two horizons.
local function goodput(self, now)
    local first = self.before or self.counted
    if not first then return 0 end
    local count = self.counted.count + (self.before and self.before.count or 0)
    return count / math.max(now - first.since, 0.1)
end

-- ---- the search for an unstated limit -------------------------------------

-- The average over some windows, refused time included, is close to the limit.
local function learn(self, now)
    self.learning = false
    self.horizon = math.max(self.horizon, 3 * (now - self.wave_at))
    local pace = math.max(DECREASE * goodput(self, now), SLOWEST)
    self.ceiling = self.pace and (pace + self.pace) / 2
    self.pace = pace
    self.grown_at = now
end

local function grow(self, now)
    local unit = self.horizon / MIN_HORIZON
    local passed = (now - self.grown_at) / unit
    if passed <= 0 then return end
    self.grown_at = now
    if not self.ceiling then
        self.pace = self.pace * (1 + UNKNOWN * passed)
    elseif self.pace < NEAR * self.ceiling then
        self.pace = math.min(self.pace + FAST * self.ceiling * passed, NEAR * self.ceiling)
    else
        local calm = (now - self.refused_at) / unit / PATIENCE
        self.pace = self.pace + SLOW * self.ceiling * passed * (1 + calm * calm)
    end
end

local function decrease(self, now)
    local through = math.min(self.pace, math.max(goodput(self, now), DEEPEST * self.pace))
    self.ceiling = (self.pace + through) / 2
    self.pace = math.max(DECREASE * through, SLOWEST)
    -- Requests that were on their way belong to the same refusal.
    self.grown_at = now + math.min(1, 3 / self.pace)
end

-- ---- outcomes -------------------------------------------------------------

-- Whether a refusal holds everybody back.
local function is_refused(self, now)
    return self.was_blocked and self:is_blocked(now)
end

-- "Wait 1 second" alone: what got through since the last such wait is what a
-- window lets through, and a window is about as long as the longest wait.
local function set_pace_of_window(self)
    local pace = STATED_SHARE * math.max(self.through, 1) / self.longest_wait
    self.pace = math.max(math.min(pace, self.bound), SLOWEST)
    self.ceiling = self.pace
end

local function obey_wait(self, now, wait)
    self.longest_wait = math.max(self.longest_wait, wait, 1)
    self.bound = self.pace and DECREASE * self.pace or math.huge
    self.grown_at = now + wait
    set_pace_of_window(self)
end

--- A request got through.
function Limiter:succeeded(now)
    count_success(self, now)
    self.through = self.through + 1
    if is_refused(self, now) then
        if not self.stated then set_pace_of_window(self) end
    elseif self.was_blocked then
        self.was_blocked, self.through = false, 1
    end
    self.refusals, self.succeeded_at = 0, now
    if self.pace and not (self.closed or self:is_blocked(now)) then
        grow(self, now)
        self.pace = math.min(self.pace, self.stated or math.huge)
    end
end

-- "20 a second": that, but less where it was refused even so, because somebody else takes
-- a share of the limit; from there it grows back.
local function obey_window(self, now, limit, period)
    local pace = STATED_SHARE * limit / period
    local shared = self.stated and self.pace <= pace
    self.pace = shared and math.max(SHARED * self.pace, LEAST_SHARE * pace) or pace
    self.stated, self.ceiling, self.grown_at = pace, self.pace, now
end

--- A request was throttled. stated: what the answer says (csms.throttling):
--- {wait, limit, period}, wait and period in seconds, each perhaps nil.
function Limiter:throttled(now, stated)
    if self.refusals == 0 then self.wave_at = now end
    self.refusals = self.refusals + 1
    self.refused_at = now
    local same_wave = is_refused(self, now) or (self.pace and now < self.grown_at)
    if stated.wait then
        self.blocked_until = math.max(self.blocked_until, now + stated.wait)
        self.was_blocked = true
    end
    -- What was on its way when the refusal came teaches nothing new.
    if same_wave then return end
    if stated.limit then
        obey_window(self, now, stated.limit, stated.period)
    elseif stated.wait then
        obey_wait(self, now, math.max(stated.least or stated.wait, 1))
    elseif self.pace and (self.refusals < CLOSE_AFTER
        or now - self.succeeded_at < CLOSE_SECONDS) then
        decrease(self, now)
    elseif self.refusals >= ISOLATED then
        self.learning = true
        self:close()
    end
end

--- The service asks for a pause, which says nothing of its limit.
function Limiter:hold(until_then)
    self.blocked_until = math.max(self.blocked_until, until_then)
end

-- ---- probes ---------------------------------------------------------------

--- A new batch starts without what the last one met.
function Limiter:restart()
    self.closed, self.failed_probes = false, 0
    self.refusals, self.learning = 0, false
end

--- From now on one probe at a time.
function Limiter:close()
    if not self.closed then
        self.closed, self.failed_probes = true, 0
    end
end

--- How long to wait before the next probe: 1 s, doubling to `cap`, each at
--- least half of that. random: from 0 to below 1.
function Limiter:probe_wait(random)
    return math.min(self.cap, 2 ^ math.min(self.failed_probes, 30)) * (0.5 + random / 2)
end

function Limiter:probe_failed()
    self.failed_probes = self.failed_probes + 1
end

--- A probe got through.
function Limiter:open(now)
    self.closed, self.failed_probes = false, 0
    if self.learning then learn(self, now) end
end

return M
