-- The changes of the index of recordings: each call is atomic, and takes the same time however many recordings there are.
-- A pin, and the removal of a pinned recording, take longer where it has many earlier versions.
--
-- It follows keys.lua. KEYS[1] is the prefix of all keys, ARGV[1] the name of the index, empty for any, ARGV[2] the name of a function below, the
-- rest its arguments. An index with another name has lost its data, or is that of another Redis: nothing is done then.
--
--   recording:KEY   hash: the row, and what the other keys need of it
--   keys            sorted set: all keys, by name
--   by:ORDER        sorted sets: all keys, by time of use, time of storing, size, cost, begin of data
--   product:ID      sorted sets: the keys of [instrument, product, private], by time of storing
--   texts, text:ID  the texts in which words are searched, and the keys that have each
--   totals          hash: ID|what -> the totals of a product
--   usage           hash: the number of recordings, and the bytes of their heads; the number of earlier versions
--                   (`versions`), and the bytes of heads that no recording has (`past`). The bytes include the latter
--   head:DIGEST     hash: the name of the body, its size, how many of its recordings are pinned, whether it is `past`
--   members:DIGEST  sorted set: the recordings and versions that have a head, by the time at which they are evicted;
--                   of versions it is negative, so that they come first
--   evict           sorted set: heads without pinned recordings, by the last of these times
--   earlier:KEY:TIME  hash: the row of an earlier version of a recording, which was the answer since this time
--   history:KEY     sorted set: these times
--   histories       sorted set: the keys of recordings with earlier versions, by name
--   counts          sorted set: the same keys, by the number of their versions
--   replaced        sorted set: KEY:TIME of all versions, by the time until which they were the answer
--   pending         sorted set: bodies that are being written, by the time at which that is given up
--   garbage         set: bodies to be removed
--   version         the number of changes so far
--   changes         stream: the keys that were changed last; each ID is the version, and the time in microseconds
--   fence:KEY       the highest fencing token of the lease of a query
--   index-name      the name of the index, which the place of its heads has, too, a space, and that place (pairing.py)

local ORDERS = {'used', 'stored', 'size', 'cost', 'begin'}
local FIELDS = {'head', 'stored_size', 'size', 'microseconds', 'pinned', 'totals', 'text_id', 'used_at'}
local BEING_REPLACED = '+'
local CHANGES = 1000
local FUTURE = 1e12  -- is subtracted from the times of versions in members:DIGEST
local k = keys_of({keys = 'zset', by = 'zset', product = 'zset', texts = 'hash', text = 'set', totals = 'hash', usage = 'hash',
  head = 'hash', members = 'zset', evict = 'zset', history = 'zset', histories = 'zset', counts = 'zset', replaced = 'zset',
  pending = 'zset', garbage = 'set', version = 'string', changes = 'stream', fence = 'string', claim = 'string'})
local commands = {}

local function now()
  local time = redis.call('TIME')
  return number(time[1]) + number(time[2]) / 1e6
end

-- Note that the recording of a key, or with an empty one any, is another one now; returns the version.
local function changed(key)
  local version = redis.pcall('INCR', k('version'))
  if type(version) ~= 'number' then  -- somebody else wrote it
    redis.call('DEL', k('version'))
    version = redis.call('INCR', k('version'))
  end
  local id = whole(version) .. '-' .. whole(now() * 1e6)
  local added = redis.pcall('XADD', k('changes'), 'MAXLEN', '~', CHANGES, id, 'key', key)
  if type(added) == 'table' and added.err then  -- the version was lost, and begins again
    redis.call('DEL', k('changes'))
    redis.call('XADD', k('changes'), id, 'key', key)
  end
  return version
end

local function is_hash(place)
  return redis.call('TYPE', place).ok == 'hash'
end

local function add_totals(id, one, sign)
  local function add(name, value)
    return increase(k('totals'), id .. '|' .. name, sign * value)
  end
  add('size', number(one.size))
  add('microseconds', number(one.microseconds))
  add('pinned', number(one.pinned))
  if add('recordings', 1) <= 0 then
    redis.call('HDEL', k('totals'), id .. '|size', id .. '|microseconds', id .. '|pinned', id .. '|recordings')
  end
end

-- Sort a head by the time at which the last of its recordings or versions is evicted, unless one is pinned.
local function rank(head)
  local last = redis.call('ZREVRANGE', k('members', head), 0, 0, 'WITHSCORES')
  if #last == 0 or number(redis.call('HGET', k('head', head), 'pinned')) > 0 then
    redis.call('ZREM', k('evict'), head)
  else
    redis.call('ZADD', k('evict'), last[2], head)
  end
end

-- Rank a head after recordings or versions that have it have changed, and count its bytes as those of either.
local function settle(head)
  rank(head)
  local place = k('head', head)
  local is_past = redis.call('ZCOUNT', k('members', head), 0, '+inf') == 0
  local values = redis.call('HMGET', place, 'past', 'stored_size')
  if is_past ~= (values[1] == '1') then
    redis.call('HSET', place, 'past', is_past and '1' or '0')
    increase(k('usage'), 'past', (is_past and 1 or -1) * number(values[2]))
  end
end

-- Take a recording or a version from a head; add the body to `unneeded` where it was the last one.
local function leave(head, member, is_pinned, stored_size, unneeded)
  local place = k('head', head)
  redis.call('ZREM', k('members', head), member)
  if is_pinned then
    increase(place, 'pinned', -1)
  end
  if redis.call('ZCARD', k('members', head)) > 0 then
    settle(head)
    return
  end
  local values = redis.call('HMGET', place, 'body', 'past')
  redis.call('DEL', place)
  redis.call('ZREM', k('evict'), head)
  increase(k('usage'), 'occupied', -number(stored_size))
  if values[2] == '1' then
    increase(k('usage'), 'past', -number(stored_size))
  end
  if values[1] then
    redis.call('SADD', k('garbage'), values[1])
    unneeded[#unneeded + 1] = values[1]
  end
end

local function is_pinned(key)
  return is_hash(k('recording', key)) and redis.call('HGET', k('recording', key), 'pinned') == '1'
end

-- Note that the versions of a recording are pinned as it is: they count as such for their heads.
local function pin_versions(key, change)
  for _, time in ipairs(redis.call('ZRANGE', k('history', key), 0, -1)) do
    local place = k('earlier', key, time)
    local head = is_hash(place) and redis.call('HGET', place, 'head')
    if head then
      increase(k('head', head), 'pinned', change)
      rank(head)
    end
  end
end

-- Note how many versions a recording has.
local function count_versions(key)
  local count = redis.call('ZCARD', k('history', key))
  if count == 0 then
    redis.call('ZREM', k('histories'), key)
    redis.call('ZREM', k('counts'), key)
  else
    redis.call('ZADD', k('histories'), 0, key)
    redis.call('ZADD', k('counts'), count, key)
  end
end

-- Remove an earlier version; return whether it existed.
local function drop_version(key, time, unneeded)
  local place = k('earlier', key, time)
  local existed = redis.call('ZREM', k('history', key), time) == 1
  redis.call('ZREM', k('replaced'), key .. ':' .. time)
  if existed then
    increase(k('usage'), 'versions', -1)
    count_versions(key)
  end
  if is_hash(place) then
    local values = redis.call('HMGET', place, 'head', 'stored_size')
    if values[1] then
      leave(values[1], key .. ':' .. time, is_pinned(key), values[2], unneeded)
    end
  end
  redis.call('DEL', place)
  return existed
end

-- Add an earlier version, whose head has a body, in place of one of the same time.
local function add_version(key, one, unneeded)
  local member = key .. ':' .. one.time
  if redis.call('EXISTS', k('earlier', key, one.time)) == 1 then
    redis.call('ZADD', k('members', one.head), '-inf', BEING_REPLACED)
    drop_version(key, one.time, unneeded)
  end
  redis.call('HSET', k('earlier', key, one.time), 'row', one.row, 'check', one.check, 'head', one.head,
    'stored_size', one.stored_size, 'valid_until', one.valid_until)
  redis.call('ZADD', k('history', key), one.time, one.time)
  count_versions(key)
  redis.call('ZADD', k('replaced'), one.valid_until, member)
  increase(k('usage'), 'versions', 1)
  redis.call('ZADD', k('members', one.head), number(one.valid_until) - FUTURE, member)
  redis.call('ZREM', k('members', one.head), BEING_REPLACED)
  if is_pinned(key) then
    increase(k('head', one.head), 'pinned', 1)
  end
  settle(one.head)
end

-- Remove the first versions of a recording beyond a number, unless it is pinned; an empty text is no limit.
local function trim(key, limit, unneeded)
  if limit == '' or is_pinned(key) then
    return
  end
  local surplus = redis.call('ZCARD', k('history', key)) - number(limit)
  if surplus > 0 then
    for _, time in ipairs(redis.call('ZRANGE', k('history', key), 0, surplus - 1)) do
      drop_version(key, time, unneeded)
    end
  end
end

-- Remove a recording; return what it was, or nil. One that is replaced leaves its pin to its versions.
local function drop(key, is_replaced, unneeded)
  local place = k('recording', key)
  redis.call('ZREM', k('keys'), key)
  for _, order in ipairs(ORDERS) do
    redis.call('ZREM', k('by', order), key)
  end
  if not is_hash(place) then
    redis.call('DEL', place)
    return nil
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
  increase(k('usage'), 'recordings', -1)
  leave(one.head, key, one.pinned == '1', one.stored_size, unneeded)
  if one.pinned == '1' and not is_replaced then
    pin_versions(key, -1)
  end
  return one
end

-- Add a recording whose fields are complete.
local function add(key, one)
  local priority = math.max(number(one.used_at) + number(one.bonus), 0)
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
  increase(k('usage'), 'recordings', 1)
  redis.call('ZADD', k('members', one.head), priority, key)
  redis.call('ZREM', k('members', one.head), BEING_REPLACED)
  if one.pinned == '1' then
    increase(k('head', one.head), 'pinned', 1)
  end
  settle(one.head)
end

local function named(...)
  local arguments, values = {...}, {}
  for at = 1, #arguments, 2 do
    values[arguments[at]] = arguments[at + 1]
  end
  return values
end

-- Return the first bodies that nothing needs any more; the sweeper removes the others, which may be too many for a response.
local function some(unneeded)
  return unpack(unneeded, 1, math.min(#unneeded, 1000))
end

-- Give a head a body that was written; one that it had before is garbage.
local function take_body(head, stored_size, body, unneeded)
  local former = redis.call('HGET', k('head', head), 'body')
  if former then
    redis.call('SADD', k('garbage'), former)
    unneeded[#unneeded + 1] = former
  else
    increase(k('usage'), 'occupied', stored_size)
  end
  redis.call('ZADD', k('members', head), '-inf', BEING_REPLACED)
  redis.call('HSET', k('head', head), 'body', body, 'stored_size', stored_size)
end

-- Return what shows whether a recording was replaced: the number of its put; empty where there is none.
local function put_of(key)
  local place = k('recording', key)
  return is_hash(place) and redis.call('HGET', place, 'put') or ''
end

-- Return until when the last version of a recording was the answer; empty where there is none.
local function end_of(key)
  local last = redis.call('ZREVRANGE', k('history', key), 0, 0)
  local place = k('earlier', key, last[1] or '')
  return is_hash(place) and redis.call('HGET', place, 'valid_until') or ''
end

-- Announce a body before it is written.
function commands.begin(body, seconds)
  redis.call('ZADD', k('pending'), now() + number(seconds), body)
end

-- Store a recording whose body was written. `fence` is the fencing token of the writer, or empty; `former` the number of
-- the put of the recording that it replaces, `ended` when the last version was replaced, as `read_former` returns them.
-- `limit` is that of earlier versions. The first `count` of the other arguments are the fields of what that recording
-- becomes: a version, if any.
-- Returns a word, the version of the index, and the bodies that nothing needs any more.
function commands.put(key, body, fence, former, ended, limit, count, ...)
  if fence ~= '' and number(redis.call('GET', k('fence', key))) > number(fence) then
    return {'fenced', 0}
  end
  if put_of(key) ~= former or end_of(key) ~= ended then
    return {'changed', 0}
  end
  if redis.call('ZREM', k('pending'), body) == 0 then
    return {'expired', 0}
  end
  local one, unneeded = named(select(count + 1, ...)), {}
  if number(count) > 0 then
    add_version(key, named(unpack({...}, 1, count)), unneeded)
  end
  take_body(one.head, one.stored_size, body, unneeded)
  local replaced = drop(key, true, unneeded)
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
  trim(key, limit, unneeded)
  return {'stored', version, some(unneeded)}
end

-- Store an earlier version whose body was written; returns as `put`.
function commands.put_version(key, body, ...)
  if redis.call('ZREM', k('pending'), body) == 0 then
    return {'expired', 0}
  end
  local one, unneeded = named(...), {}
  take_body(one.head, one.stored_size, body, unneeded)
  add_version(key, one, unneeded)
  return {'stored', changed(key), some(unneeded)}
end

-- Make a recording an earlier version, unless it was replaced since; returns as `put`.
function commands.archive(key, former, limit, ...)
  if put_of(key) ~= former then
    return {'changed', 0}
  end
  local unneeded = {}
  add_version(key, named(...), unneeded)
  drop(key, false, unneeded)
  trim(key, limit, unneeded)
  return {'stored', changed(key), some(unneeded)}
end

-- Remove versions, KEY:TIME each; to free space only those of recordings that are not pinned.
-- Returns the version of the index, those that existed, and the bodies that nothing needs any more.
function commands.remove_versions(is_evicted, ...)
  local found, unneeded, version = {}, {}, 0
  for _, member in ipairs({...}) do
    local key, time = string.sub(member, 1, 64), string.sub(member, 66)
    if not (is_evicted == '1' and is_pinned(key)) and drop_version(key, time, unneeded) then
      found[#found + 1] = member
      version = changed(key)
    end
  end
  return {version, found, unneeded}
end

-- Remove the first versions of a recording beyond a number, unless it is pinned; returns their number, the version of the
-- index, and the bodies that nothing needs any more.
function commands.trim(key, limit)
  local before, unneeded = redis.call('ZCARD', k('history', key)), {}
  trim(key, limit, unneeded)
  local removed = before - redis.call('ZCARD', k('history', key))
  return {removed, removed > 0 and changed(key) or 0, some(unneeded)}
end

-- Remove a damaged version unless its row was replaced since; `check` is that of the row.
function commands.remove_damaged_version(key, time, check)
  local place, unneeded = k('earlier', key, time), {}
  if is_hash(place) and (redis.call('HGET', place, 'check') or '') ~= check then
    return {0, 0}
  end
  local existed = drop_version(key, time, unneeded)
  return {existed and 1 or 0, changed(key), some(unneeded)}
end

-- Return the row of a version, its check, and the name of its body; all empty for a damaged one.
function commands.read_version(key, time)
  local place = k('earlier', key, time)
  if not is_hash(place) then
    return redis.call('ZSCORE', k('history', key), time) and {'', '', ''} or {false, false, false}
  end
  local values = redis.call('HMGET', place, 'row', 'check', 'head')
  if values[3] then
    values[3] = redis.call('HGET', k('head', values[3]), 'body')
  end
  return values
end

-- Return time, row and check of each version of a recording, in order of time; last row, check, time of use and pin of its
-- own.
function commands.versions(key)
  local found = {}
  for _, time in ipairs(redis.call('ZRANGE', k('history', key), 0, -1)) do
    local place = k('earlier', key, time)
    if is_hash(place) then
      found[#found + 1] = {time, unpack(redis.call('HMGET', place, 'row', 'check'))}
    end
  end
  local place = k('recording', key)
  if is_hash(place) then
    found[#found + 1] = redis.call('HMGET', place, 'row', 'check', 'used_at', 'pinned')
  else
    found[#found + 1] = {false, false, false, false}
  end
  return found
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

-- Return the row of a recording, its check, the number of its put, and when its last version was replaced.
function commands.read_former(key)
  local place, values = k('recording', key), {'', '', ''}
  if is_hash(place) then
    values = redis.call('HMGET', place, 'row', 'check', 'put')
  end
  values[4] = end_of(key)
  return values
end

local function removed(key)
  local unneeded = {}
  local one = drop(key, false, unneeded)
  return {one and 1 or 0, changed(key), some(unneeded)}
end

-- Remove a recording; returns whether it existed, the version of the index, and the bodies that nothing needs any more.
function commands.remove(key)
  if redis.call('EXISTS', k('recording', key)) == 0 then
    return {0, 0}
  end
  return removed(key)
end

-- Remove a recording unless it was replaced or pinned since.
function commands.evict(key, stored_at)
  local values = redis.call('HMGET', k('recording', key), 'stored_at', 'pinned')
  if not values[1] or number(values[1]) ~= number(stored_at) or values[2] == '1' then
    return {0, 0}
  end
  return removed(key)
end

-- Remove a damaged recording unless it was replaced since; `put` is empty where the row shows no number.
function commands.remove_damaged(key, put)
  local place = k('recording', key)
  local kind = redis.call('TYPE', place).ok
  if kind == 'none' or put_of(key) ~= put then
    return {0, 0}
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
    increase(k('head', values[2]), 'pinned', change)
    increase(k('totals'), values[3] .. '|pinned', change)
    rank(values[2])
    pin_versions(key, change)
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
      redis.call('ZADD', k('members', values[3]), math.max(number(used_at) + number(values[2]), 0), key)
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

-- Return those of some bodies that no recording or version has or will have.
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

-- Return what follows a name in the keys of Redis.
local function all_of(name)
  local found, cursor, start = {}, '0', #k(name, '') + 1
  repeat
    local scanned = redis.call('SCAN', cursor, 'MATCH', k(name, '*'), 'COUNT', 1000)
    cursor = scanned[1]
    for _, place in ipairs(scanned[2]) do
      found[string.sub(place, start)] = true
    end
  until cursor == '0'
  return found
end

local function add_head(head, stored_size, body)
  if redis.call('EXISTS', k('head', head)) == 0 then
    redis.call('HSET', k('head', head), 'body', body, 'stored_size', stored_size)
    increase(k('usage'), 'occupied', stored_size)
  end
end

local DERIVED = {keys = 1, by = 1, product = 1, texts = 1, text = 1, totals = 1, usage = 1, head = 1, members = 1, evict = 1,
  history = 1, histories = 1, counts = 1, replaced = 1}

-- Return whether some fields are all there, and numbers as the index needs them: an error would end the script half-way.
local function are_numbers(one, names, pattern)
  for _, name in ipairs(names) do
    if not string.match(one[name] or '', pattern) then
      return false
    end
  end
  return true
end

local WHOLE, DECIMAL = '^%d+$', '^-?%d+%.?%d*e?[+-]?%d*$'

local function is_complete(one)
  return one.totals and one.text and one.text_id and one.begin and are_numbers(one, {'stored_size', 'size', 'microseconds'}, WHOLE)
    and are_numbers(one, {'stored_at', 'used_at', 'bonus'}, DECIMAL) and (one.begin == '' or are_numbers(one, {'begin'}, DECIMAL))
end

-- Compute everything again from the rows, in one go: others wait for it.
function commands.rebuild()
  local keys, versions, bodies, derived, cursor = all_of('recording'), all_of('earlier'), {}, {}, '0'
  repeat
    local found = redis.call('SCAN', cursor, 'MATCH', k('*'), 'COUNT', 1000)
    cursor = found[1]
    for _, place in ipairs(found[2]) do
      local name = string.match(string.sub(place, #PREFIX + 2), '^[a-z]+')
      if name == 'head' and is_hash(place) then
        bodies[string.sub(place, #k('head', '') + 1)] = redis.call('HGET', place, 'body')
      end
      if DERIVED[name] then
        derived[#derived + 1] = place
      end
    end
  until cursor == '0'
  for _, place in ipairs(derived) do
    redis.call('DEL', place)
  end
  for key in pairs(keys) do
    local place, one = k('recording', key), {}
    if is_hash(place) then
      local values = redis.call('HGETALL', place)
      for at = 1, #values, 2 do
        one[values[at]] = values[at + 1]
      end
    end
    if bodies[one.head or ''] and is_complete(one) then
      add_head(one.head, one.stored_size, bodies[one.head])
      add(key, one)
    else
      redis.call('DEL', place)
    end
  end
  for member in pairs(versions) do
    local place, one = k('earlier', member), {}
    if is_hash(place) then
      one = named(unpack(redis.call('HGETALL', place)))
    end
    redis.call('DEL', place)
    one.time = string.sub(member, 66)
    if one.row and one.check and bodies[one.head or ''] and are_numbers(one, {'stored_size'}, WHOLE)
        and are_numbers(one, {'valid_until', 'time'}, DECIMAL) then
      add_head(one.head, one.stored_size, bodies[one.head])
      add_version(string.sub(member, 1, 64), one, {})
    end
  end
  for head, body in pairs(bodies) do
    if body and redis.call('EXISTS', k('head', head)) == 0 then
      redis.call('SADD', k('garbage'), body)
    end
  end
  return changed('')
end

if ARGV[1] ~= '' and string.match(redis.call('GET', k('index-name')) or '', '^[^ ]*') ~= ARGV[1] then
  return redis.error_reply('OTHERINDEX the index has another name')
end
return commands[ARGV[2]](unpack(ARGV, 3))
