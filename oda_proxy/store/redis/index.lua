-- The changes of the index of recordings: each call is atomic, and takes the same time however many recordings there are.
--
-- KEYS[1] is the prefix of all keys, ARGV[1] the name of a function below, the rest its arguments.
--
--   recording:KEY   hash: the row, and what the other keys need of it
--   keys            sorted set: all keys, by name
--   by:ORDER        sorted sets: all keys, by time of use, time of storing, size, cost, begin of data
--   product:ID      sorted sets: the keys of [instrument, product, private], by time of storing
--   texts, text:ID  the texts in which words are searched, and the keys that have each
--   totals          hash: ID|what -> the totals of a product
--   usage           hash: the number of recordings, and the bytes of their heads
--   head:DIGEST     hash: the name of the body, its size, how many of its recordings are pinned
--   members:DIGEST  sorted set: the recordings that have a head, by the time at which they are evicted
--   evict           sorted set: heads without pinned recordings, by the last of these times
--   pending         sorted set: bodies that are being written, by the time at which that is given up
--   garbage         set: bodies to be removed
--   version         the number of changes so far
--   changes         stream: the keys that were changed last; each ID is the version, and the time in microseconds
--   fence:KEY       the highest fencing token of the lease of a query

local PREFIX = KEYS[1]
local ORDERS = {'used', 'stored', 'size', 'cost', 'begin'}
local FIELDS = {'head', 'stored_size', 'size', 'microseconds', 'pinned', 'totals', 'text_id', 'used_at'}
local BEING_REPLACED = '+'
local CHANGES = 1000
local commands = {}

local function k(...)
  return table.concat({PREFIX, ...}, ':')
end

local function number(text)
  return tonumber(text) or 0
end

local function whole(value)
  return value == 0 and '0' or string.format('%.0f', value)  -- Redis does not read -0
end

local function now()
  local time = redis.call('TIME')
  return number(time[1]) + number(time[2]) / 1e6
end

-- Note that the recording of a key, or with an empty one any, is another one now; returns the version.
local function changed(key)
  local version = redis.call('INCR', k('version'))
  local id = whole(version) .. '-' .. whole(now() * 1e6)
  local added = redis.pcall('XADD', k('changes'), 'MAXLEN', '~', CHANGES, id, 'key', key)
  if type(added) == 'table' and added.err then  -- the version was lost, and begins again
    redis.call('DEL', k('changes'))
    redis.call('XADD', k('changes'), id, 'key', key)
  end
  return version
end

local function add_totals(id, one, sign)
  local function add(name, value)
    return redis.call('HINCRBY', k('totals'), id .. '|' .. name, whole(sign * value))
  end
  add('size', number(one.size))
  add('microseconds', number(one.microseconds))
  add('pinned', number(one.pinned))
  if add('recordings', 1) <= 0 then
    redis.call('HDEL', k('totals'), id .. '|size', id .. '|microseconds', id .. '|pinned', id .. '|recordings')
  end
end

-- Sort a head by the time at which the last of its recordings is evicted, unless one is pinned.
local function rank(head)
  local last = redis.call('ZREVRANGE', k('members', head), 0, 0, 'WITHSCORES')
  if #last == 0 or number(redis.call('HGET', k('head', head), 'pinned')) > 0 then
    redis.call('ZREM', k('evict'), head)
  else
    redis.call('ZADD', k('evict'), last[2], head)
  end
end

-- Remove a recording; return what it was, or nil, and the body that nothing needs any more, or nil.
local function drop(key)
  local place = k('recording', key)
  redis.call('ZREM', k('keys'), key)
  for _, order in ipairs(ORDERS) do
    redis.call('ZREM', k('by', order), key)
  end
  if redis.call('TYPE', place).ok ~= 'hash' then
    redis.call('DEL', place)
    return nil, nil
  end
  local one = {}
  local values = redis.call('HMGET', place, unpack(FIELDS))
  for at, name in ipairs(FIELDS) do
    one[name] = values[at] or ''
  end
  redis.call('DEL', place)
  redis.call('ZREM', k('product', one.totals), key)
  redis.call('SREM', k('text', one.text_id), key)
  if redis.call('SCARD', k('text', one.text_id)) == 0 then
    redis.call('HDEL', k('texts'), one.text_id)
  end
  add_totals(one.totals, one, -1)
  redis.call('HINCRBY', k('usage'), 'recordings', -1)
  redis.call('ZREM', k('members', one.head), key)
  if one.pinned == '1' then
    redis.call('HINCRBY', k('head', one.head), 'pinned', -1)
  end
  if redis.call('ZCARD', k('members', one.head)) > 0 then
    rank(one.head)
    return one, nil
  end
  local body = redis.call('HGET', k('head', one.head), 'body')
  redis.call('DEL', k('head', one.head))
  redis.call('ZREM', k('evict'), one.head)
  redis.call('HINCRBY', k('usage'), 'occupied', whole(-number(one.stored_size)))
  if body then
    redis.call('SADD', k('garbage'), body)
  end
  return one, body or nil
end

-- Add a recording whose fields are complete.
local function add(key, one)
  local priority = number(one.used_at) + number(one.bonus)
  local fields = {}
  for name, value in pairs(one) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('HSET', k('recording', key), unpack(fields))
  redis.call('ZADD', k('keys'), 0, key)
  redis.call('ZADD', k('by', 'used'), one.used_at, key)
  redis.call('ZADD', k('by', 'stored'), one.stored_at, key)
  redis.call('ZADD', k('by', 'size'), one.size, key)
  redis.call('ZADD', k('by', 'cost'), one.microseconds, key)
  redis.call('ZADD', k('by', 'begin'), one.begin == '' and '-inf' or one.begin, key)
  redis.call('ZADD', k('product', one.totals), one.stored_at, key)
  redis.call('HSET', k('texts'), one.text_id, one.text)
  redis.call('SADD', k('text', one.text_id), key)
  add_totals(one.totals, one, 1)
  redis.call('HINCRBY', k('usage'), 'recordings', 1)
  redis.call('ZADD', k('members', one.head), priority, key)
  redis.call('ZREM', k('members', one.head), BEING_REPLACED)
  if one.pinned == '1' then
    redis.call('HINCRBY', k('head', one.head), 'pinned', 1)
  end
  rank(one.head)
end

-- Announce a body before it is written.
function commands.begin(body, seconds)
  redis.call('ZADD', k('pending'), now() + number(seconds), body)
end

-- Store a recording whose body was written. `fence` is the fencing token of the writer, or empty.
-- Returns a word, the version, and the body that nothing needs any more, or an empty text.
function commands.put(key, body, fence, ...)
  if fence ~= '' and number(redis.call('GET', k('fence', key))) > number(fence) then
    return {'fenced', 0, ''}
  end
  if redis.call('ZREM', k('pending'), body) == 0 then
    return {'expired', 0, ''}
  end
  local arguments, one = {...}, {}
  for at = 1, #arguments, 2 do
    one[arguments[at]] = arguments[at + 1]
  end
  local former = redis.call('HGET', k('head', one.head), 'body')
  if former then
    redis.call('ZADD', k('members', one.head), '-inf', BEING_REPLACED)
  end
  local replaced, unneeded = drop(key)
  if former then
    unneeded = former
    redis.call('SADD', k('garbage'), former)
  else
    redis.call('HINCRBY', k('usage'), 'occupied', one.stored_size)
  end
  redis.call('HSET', k('head', one.head), 'body', body, 'stored_size', one.stored_size)
  one.used_at, one.pinned = one.stored_at, '0'
  if replaced then
    if number(replaced.used_at) > number(one.stored_at) then
      one.used_at = replaced.used_at
    end
    one.pinned = replaced.pinned
  end
  local version = changed(key)
  one.put = whole(version)
  add(key, one)
  return {'stored', version, unneeded or ''}
end

-- Return the row of a recording, its check, the number of its put, and the name of its body; all empty for a damaged one.
function commands.read(key)
  local kind = redis.call('TYPE', k('recording', key)).ok
  if kind ~= 'hash' and kind ~= 'none' then
    return {'', '', '', ''}
  end
  local values = redis.call('HMGET', k('recording', key), 'row', 'check', 'put', 'head')
  if values[4] then
    values[4] = redis.call('HGET', k('head', values[4]), 'body')
  end
  return values
end

local function removed(key)
  local one, body = drop(key)
  return {one and 1 or 0, changed(key), body or ''}
end

-- Remove a recording; returns whether it existed, the version, and the body that nothing needs any more.
function commands.remove(key)
  if redis.call('EXISTS', k('recording', key)) == 0 then
    return {0, 0, ''}
  end
  return removed(key)
end

-- Remove a recording unless it was replaced or pinned since.
function commands.evict(key, stored_at)
  local values = redis.call('HMGET', k('recording', key), 'stored_at', 'pinned')
  if not values[1] or number(values[1]) ~= number(stored_at) or values[2] == '1' then
    return {0, 0, ''}
  end
  return removed(key)
end

-- Remove a damaged recording unless it was replaced since; `put` is empty where the row shows no number.
function commands.remove_damaged(key, put)
  local place = k('recording', key)
  local kind = redis.call('TYPE', place).ok
  if kind == 'none' or (kind == 'hash' and (redis.call('HGET', place, 'put') or '') ~= put) then
    return {0, 0, ''}
  end
  local result = removed(key)
  result[1] = 1
  return result
end

-- Return the version, and the last changes, beginning with the one that has an ID: IDs and keys in turn.
function commands.changes(first)
  local found = {redis.call('GET', k('version')) or '0'}
  for _, change in ipairs(redis.call('XRANGE', k('changes'), first, '+')) do
    found[#found + 1] = change[1]
    found[#found + 1] = change[2][2] or ''
  end
  return found
end

-- Exempt a recording from eviction, or no longer; returns whether it exists.
function commands.pin(key, pinned)
  local place = k('recording', key)
  local values = redis.call('HMGET', place, 'pinned', 'head', 'totals')
  if not values[2] then
    return 0
  end
  if values[1] ~= pinned then
    local change = pinned == '1' and 1 or -1
    redis.call('HSET', place, 'pinned', pinned)
    redis.call('HINCRBY', k('head', values[2]), 'pinned', change)
    redis.call('HINCRBY', k('totals'), values[3] .. '|pinned', change)
    rank(values[2])
  end
  return 1
end

-- Note times of use: keys and times in turn.
function commands.use(...)
  local arguments = {...}
  for at = 1, #arguments, 2 do
    local key, used_at = arguments[at], arguments[at + 1]
    local values = redis.call('HMGET', k('recording', key), 'used_at', 'bonus', 'head')
    if values[3] and number(used_at) > number(values[1]) then
      redis.call('HSET', k('recording', key), 'used_at', used_at)
      redis.call('ZADD', k('by', 'used'), used_at, key)
      redis.call('ZADD', k('members', values[3]), number(used_at) + number(values[2]), key)
      rank(values[3])
    end
  end
end

-- Move bodies whose writers were given up to the garbage; returns some of the garbage.
function commands.garbage(limit)
  local given_up = redis.call('ZRANGEBYSCORE', k('pending'), '-inf', now(), 'LIMIT', 0, limit)
  for _, body in ipairs(given_up) do
    redis.call('ZREM', k('pending'), body)
    redis.call('SADD', k('garbage'), body)
  end
  return redis.call('SRANDMEMBER', k('garbage'), limit)
end

-- Return those of some bodies that no recording has or will have.
function commands.orphans(...)
  local found = {}
  for _, body in ipairs({...}) do
    local head = string.sub(body, 1, 64)
    if not redis.call('ZSCORE', k('pending'), body) and redis.call('HGET', k('head', head), 'body') ~= body then
      found[#found + 1] = body
    end
  end
  return found
end

-- Take or extend a claim; returns whether `owner` has it for some s from now.
function commands.claim(name, owner, seconds)
  local holder = redis.call('GET', k('claim', name))
  if holder and holder ~= owner then
    return 0
  end
  redis.call('SET', k('claim', name), owner, 'EX', seconds)
  return 1
end

-- Compute everything again from the recordings, in one go: others wait for it.
function commands.rebuild()
  local cursor, keys, bodies = '0', {}, {}
  local start = #k('recording', '') + 1
  repeat
    local found = redis.call('SCAN', cursor, 'MATCH', k('recording', '*'), 'COUNT', 1000)
    cursor = found[1]
    for _, place in ipairs(found[2]) do
      keys[string.sub(place, start)] = true
    end
  until cursor == '0'
  local derived = {}
  cursor = '0'
  repeat
    local found = redis.call('SCAN', cursor, 'MATCH', k('*'), 'COUNT', 1000)
    cursor = found[1]
    for _, place in ipairs(found[2]) do
      local name = string.match(string.sub(place, #PREFIX + 2), '^[a-z]+')
      if name == 'head' and redis.call('TYPE', place).ok == 'hash' then
        bodies[string.sub(place, #k('head', '') + 1)] = redis.call('HGET', place, 'body')
      end
      if ({keys = 1, by = 1, product = 1, texts = 1, text = 1, totals = 1, usage = 1, head = 1, members = 1, evict = 1})[name] then
        derived[#derived + 1] = place
      end
    end
  until cursor == '0'
  for _, place in ipairs(derived) do
    redis.call('DEL', place)
  end
  for key in pairs(keys) do
    local place, one = k('recording', key), {}
    if redis.call('TYPE', place).ok == 'hash' then
      local values = redis.call('HGETALL', place)
      for at = 1, #values, 2 do
        one[values[at]] = values[at + 1]
      end
    end
    if one.head and bodies[one.head] and one.totals and one.text_id and one.stored_at then
      if redis.call('EXISTS', k('head', one.head)) == 0 then
        redis.call('HSET', k('head', one.head), 'body', bodies[one.head], 'stored_size', one.stored_size)
        redis.call('HINCRBY', k('usage'), 'occupied', one.stored_size)
      end
      add(key, one)
    else
      redis.call('DEL', place)
    end
  end
  for head, body in pairs(bodies) do
    if body and redis.call('EXISTS', k('head', head)) == 0 then
      redis.call('SADD', k('garbage'), body)
    end
  end
  return changed('')
end

return commands[ARGV[1]](unpack(ARGV, 2))
