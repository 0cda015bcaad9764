-- Limits on requests to a dispatcher, over all replicas: each call is atomic, and its times are those of Redis in ms.
--
-- It follows store/redis/keys.lua. KEYS[1] is the prefix of all keys, ARGV[1] the name of a function below, the rest its arguments.
--
--   slots    sorted set: the requests that are under way, by the time at which they count no longer
--   due      when the next request is due (generic cell rate algorithm, as upstream/throttling.py)
--   pause    the reason of a pause that the dispatcher requested; expires
--   breaker  hash: the circuit breaker, as upstream/breaker.py: failures, pause, until, trial, reason

local KINDS = {slots = 'zset', due = 'string', pause = 'string', breaker = 'hash'}
local FAILURES, FIRST_PAUSE, MAX_PAUSE, TRIAL_TIMEOUT = 5, 1000, 60000, 30000
local DAY = 86400
local commands = {}

local function k(name)
  return typed(PREFIX .. ':limits:' .. name, KINDS[name])
end

local function now()
  local time = redis.call('TIME')
  return number(time[1]) * 1000 + math.floor(number(time[2]) / 1000)
end

local function breaker()
  local values = redis.call('HMGET', k('breaker'), 'failures', 'pause', 'until', 'trial', 'reason')
  return {
    failures = number(values[1]), pause = number(values[2]), ends = number(values[3]), trial = values[4] or '',
    reason = values[5] or '',
  }
end

local function save(state)
  redis.call(
    'HSET', k('breaker'), 'failures', state.failures, 'pause', state.pause, 'until', string.format('%.0f', state.ends),
    'trial', state.trial, 'reason', state.reason
  )
  redis.call('EXPIRE', k('breaker'), DAY)
end

-- Admit a request. Returns a word, ms to wait, and a reason: `ok` to send it after the wait, `full` to try again,
-- `paused` or `down` not to send it.
function commands.admit(id, limit, ttl, interval, tolerance)
  local at = now()
  local rest = redis.call('PTTL', k('pause'))
  if rest > 0 then
    return {'paused', rest, redis.call('GET', k('pause')) or ''}
  end
  local state = breaker()
  if state.ends > at + MAX_PAUSE then  -- the clock of Redis was set back, as below
    state.ends = at
  end
  if state.pause > 0 and state.ends > at then
    local wait = state.ends - at
    if state.trial ~= '' then
      wait = math.min(wait, FIRST_PAUSE)
    end
    return {'down', wait, state.reason}
  end
  local backlog = number(limit) * number(interval) + number(tolerance)
  redis.call('ZREMRANGEBYSCORE', k('slots'), '-inf', at)
  redis.call('ZREMRANGEBYSCORE', k('slots'), at + number(ttl) + backlog + MAX_PAUSE, '+inf')
  if redis.call('ZCARD', k('slots')) >= number(limit) then
    return {'full', 0, ''}
  end
  if state.pause > 0 then
    state.trial, state.ends = id, at + TRIAL_TIMEOUT
    save(state)
  end
  local due = number(redis.call('GET', k('due')))
  if due > at + backlog + MAX_PAUSE then
    due = at
  end
  local sent = math.max(at, due - number(tolerance))
  redis.call('SET', k('due'), string.format('%.3f', math.max(due, sent) + number(interval)), 'EX', DAY)
  redis.call('ZADD', k('slots'), sent + number(ttl), id)
  redis.call('EXPIRE', k('slots'), DAY)
  return {'ok', math.ceil(sent - at), ''}
end

-- Keep the slots of requests that are still under way.
function commands.keep(ttl, ...)
  local until_ = now() + number(ttl)
  for _, id in ipairs({...}) do
    redis.call('ZADD', k('slots'), until_, id)
  end
end

function commands.leave(id)
  redis.call('ZREM', k('slots'), id)
end

-- Count a response.
function commands.success()
  redis.call('DEL', k('breaker'))
end

-- Count a request that failed because the dispatcher was down; returns whether this opens the circuit.
function commands.failure(id, reason)
  local state = breaker()
  state.failures, state.reason = state.failures + 1, reason
  local opens = (state.trial == id and state.pause > 0) or (state.pause == 0 and state.failures >= FAILURES)
  if opens then
    state.pause = math.max(math.min(2 * state.pause, MAX_PAUSE), FIRST_PAUSE)
    state.trial, state.ends = '', now() + state.pause
  end
  save(state)
  return opens and 1 or 0
end

-- Note that nobody waits for the response to a request any longer.
function commands.abandoned(id)
  local state = breaker()
  if state.pause > 0 and state.trial == id then
    state.trial, state.ends = '', now()
    save(state)
  end
end

-- Send no requests for some ms, as the dispatcher requested.
function commands.pause(ms, reason)
  if redis.call('PTTL', k('pause')) < number(ms) then
    redis.call('SET', k('pause'), reason, 'PX', ms)
  end
end

return commands[ARGV[1]](unpack(ARGV, 2))
