-- Leases on jobs: each call is atomic.
--
-- It follows store/redis/keys.lua. KEYS[1] is the prefix of all keys, ARGV[1] the name of a function below, the rest its arguments. Times are in ms.
--
--   lease:KEY     the fencing token of the lease, a space, and who holds it; expires
--   fence:KEY     the highest fencing token so far, which the index of recordings checks; expires after a week
--   state:KEY     the state of the job, as its leader has published it; expires
--   ended:KEY     the fencing token and the end of the last job; expires
--   watched:KEY   exists while a client of a replica that does not lead waits for the job
--   sessions:KEY  set: marks of the sessions that have joined the job, at any replica, under this lease; expires
--   requests:KEY  hash: what others request of the leader: `refresh`, and `stop` with who stops the job; expires
--   journal:KEY   how the job is continued; jobs: the set of these keys
--   place:NAME    sorted set: who holds a place, by the time at which it is free

local WEEK = 604800
local k = keys_of({lease = 'string', fence = 'string', state = 'string', ended = 'string', watched = 'string',
  sessions = 'set', requests = 'hash', journal = 'string', jobs = 'set', place = 'zset'})
local commands = {}

local function announce(what, key)
  redis.call('PUBLISH', k('jobs-changed'), what .. ' ' .. key)
end

local function now()
  local time = redis.call('TIME')
  return number(time[1]) * 1000 + math.floor(number(time[2]) / 1000)
end

-- Return the lease of a job, if it is held. One that does not expire, or is none, was written by somebody else.
local function lease_of(key)
  local held = redis.call('GET', k('lease', key))
  if held and (redis.call('PTTL', k('lease', key)) < 0 or not string.match(held, '^%d+ ')) then
    redis.call('DEL', k('lease', key))
    return false
  end
  return held
end

-- Return whether a lease is held, extending it. One that has expired is taken again, unless another was taken since:
-- Redis may have lost it.
local function extend(key, owner, fence, ttl)
  local held = lease_of(key)
  local own = fence .. ' ' .. owner
  if held and held ~= own then
    return false
  end
  if not held then
    if number(redis.call('GET', k('fence', key))) > number(fence) then
      return false
    end
    redis.call('SET', k('fence', key), fence, 'EX', WEEK)
  end
  redis.call('SET', k('lease', key), own, 'PX', ttl)
  return true
end

-- Note marks of sessions that have joined a job.
local function add_sessions(key, ttl, ...)
  for _, mark in ipairs({...}) do
    redis.call('SADD', k('sessions', key), mark)
  end
  redis.call('PEXPIRE', k('sessions', key), ttl)
end

-- Take a lease; returns whether it is held now, and the fencing token of the lease.
function commands.acquire(key, owner, ttl)
  local held = lease_of(key)
  if held then
    local fence, holder = string.match(held, '^(%d+) (.*)$')
    return {holder == owner and extend(key, owner, fence, ttl) and 1 or 0, number(fence)}
  end
  redis.call('DEL', k('sessions', key))
  if redis.call('EXISTS', k('journal', key)) == 0 then
    redis.call('DEL', k('requests', key))  -- they were about a job that has ended
  end
  local fence = redis.pcall('INCR', k('fence', key))
  if type(fence) ~= 'number' then  -- somebody else wrote it
    redis.call('DEL', k('fence', key))
    fence = redis.call('INCR', k('fence', key))
  end
  redis.call('EXPIRE', k('fence', key), WEEK)
  redis.call('SET', k('lease', key), fence .. ' ' .. owner, 'PX', ttl)
  announce('lease', key)
  return {1, fence}
end

-- Extend a lease and publish the state of its job, unless that is empty; then come marks of sessions. Returns whether
-- it is held, whether the job is watched, and what others request: whether to refresh it, and who stops it.
function commands.publish(key, owner, fence, ttl, state, state_ttl, ...)
  if not extend(key, owner, fence, ttl) then
    return {0, 0, 0, ''}
  end
  add_sessions(key, state_ttl, ...)
  if state ~= '' then
    redis.call('SET', k('state', key), state, 'PX', state_ttl)
    announce('state', key)
  else
    redis.call('PEXPIRE', k('state', key), state_ttl)
  end
  local requested = redis.call('HMGET', k('requests', key), 'refresh', 'stop')
  redis.call('DEL', k('requests', key))
  return {1, redis.call('EXISTS', k('watched', key)), requested[1] and 1 or 0, requested[2] or ''}
end

-- Return whether a lease is held, its fencing token, the state, the fencing token of the last end, that end, and
-- whether a refresh is requested. Marks of sessions are noted where the lease has the fencing token before them.
function commands.read(key, watched_ttl, sessions_ttl, fence, ...)
  if number(watched_ttl) > 0 and redis.call('SET', k('watched', key), '1', 'PX', watched_ttl, 'NX') then
    announce('watched', key)
  elseif number(watched_ttl) > 0 then
    redis.call('PEXPIRE', k('watched', key), watched_ttl)
  end
  local held = lease_of(key)
  local ended = redis.call('GET', k('ended', key)) or ''
  local ended_fence, outcome = string.match(ended, '^(%d+) (.*)$')
  local held_fence = held and string.match(held, '^%d+') or '0'
  if held_fence == fence then
    add_sessions(key, sessions_ttl, ...)
  end
  return {
    held and 1 or 0,
    number(held_fence),
    redis.call('GET', k('state', key)) or '',
    number(ended_fence),
    outcome or '',
    redis.call('HEXISTS', k('requests', key), 'refresh'),
  }
end

-- Request something of the leader of a job, or of the next one; returns whether there is a job.
function commands.request(key, what, text, ttl)
  if redis.call('EXISTS', k('lease', key), k('journal', key)) == 0 then
    return 0
  end
  redis.call('HSET', k('requests', key), what, text)
  redis.call('PEXPIRE', k('requests', key), ttl)
  announce('request', key)
  return 1
end

-- Return the marks of the sessions that have joined a job.
function commands.sessions(key)
  return redis.call('SMEMBERS', k('sessions', key))
end

-- Return the keys of the jobs that are led.
function commands.led()
  local found = {}
  for _, key in ipairs(redis.call('SMEMBERS', k('jobs'))) do
    if redis.call('EXISTS', k('lease', key)) == 1 then
      found[#found + 1] = key
    end
  end
  return found
end

-- Release a lease; with an end, publish that the job has ended. Returns whether the lease was held.
function commands.release(key, owner, fence, ended, ended_ttl)
  if not extend(key, owner, fence, 1000) then
    return 0
  end
  redis.call('DEL', k('lease', key), k('state', key), k('sessions', key))
  if ended ~= '' then
    redis.call('HDEL', k('requests', key), 'stop')
    redis.call('SET', k('ended', key), fence .. ' ' .. ended, 'PX', ended_ttl)
    redis.call('DEL', k('journal', key))
    redis.call('SREM', k('jobs'), key)
  end
  announce('lease', key)
  return 1
end

-- Return whether there is a job that a client may ask about.
function commands.exists(key)
  return redis.call('EXISTS', k('lease', key), k('journal', key), k('ended', key)) > 0 and 1 or 0
end

-- Write how a job is continued, while this replica leads it.
function commands.write(key, owner, entry, ttl)
  local held = lease_of(key)
  if not held or string.match(held, '^%d+ (.*)$') ~= owner then
    return 0
  end
  redis.call('SET', k('journal', key), entry, 'PX', ttl)
  redis.call('SADD', k('jobs'), key)
  return 1
end

-- Return how a job is continued.
function commands.entry(key)
  return redis.call('GET', k('journal', key))
end

-- Forget how a job is continued, unless another replica leads it.
function commands.forget(key, owner)
  local held = lease_of(key)
  if held and string.match(held, '^%d+ (.*)$') ~= owner then
    return 0
  end
  redis.call('DEL', k('journal', key))
  redis.call('SREM', k('jobs'), key)
  return 1
end

-- Return the keys of at most `limit` jobs that can be continued, and that no other replica leads.
function commands.orphans(limit, owner)
  local found = {}
  for _, key in ipairs(redis.call('SMEMBERS', k('jobs'))) do
    if redis.call('EXISTS', k('journal', key)) == 0 then
      redis.call('SREM', k('jobs'), key)
    elseif #found < number(limit) then
      local held = lease_of(key)
      if not held or string.match(held, '^%d+ (.*)$') == owner then
        found[#found + 1] = key
      end
    end
  end
  return found
end

-- Take one of `limit` places, or keep it, for some ms; returns whether it is held.
function commands.take(name, holder, limit, ttl)
  local at = now()
  redis.call('ZREMRANGEBYSCORE', k('place', name), '-inf', at)
  redis.call('ZREMRANGEBYSCORE', k('place', name), at + 2 * math.max(number(ttl), 60000), '+inf')  -- its clock was set back
  if not redis.call('ZSCORE', k('place', name), holder) and redis.call('ZCARD', k('place', name)) >= number(limit) then
    return 0
  end
  redis.call('ZADD', k('place', name), at + number(ttl), holder)
  redis.call('PEXPIRE', k('place', name), 2 * number(ttl))
  return 1
end

function commands.leave(name, holder)
  return redis.call('ZREM', k('place', name), holder)
end

return commands[ARGV[1]](unpack(ARGV, 2))
