-- The changes of collections: each call is atomic.
--
-- It follows keys.lua. KEYS[1] is the prefix of all keys, ARGV[1] the name of a function below, the rest its arguments.
--
--   collections         hash: OWNER|NAME -> the number of a collection
--   collection:NUMBER   hash: name, owner, when it was made and changed, the bytes of its recordings, its members of each kind
--   collected:NUMBER    hash: KIND|KEY -> uses, time of the first, bytes, and whether somebody had pinned it before
--   contents:NUMBER     hash: KIND|KEY -> the text of a failure, or which version a recording is
--   facts:NUMBER        set: KIND|VALUE
--   with:KEY            set: the collections that have a recording
--   noted               hash: KEY -> bytes of each recording that any collection has
--   owners, names       hashes: how many collections each owner has, and how many have each name
--   descriptions:NAME   hash: FILE -> content
--   fetched:NAME        hash: FILE -> when it was fetched
--   lone                hash: NAME -> how many descriptions there are under a name that no collection has
--   collecting          hash: the last number, bytes of all recordings noted (`size`), descriptions in all of `lone`

local RECORDING = 'recording'
local k = keys_of({collections = 'hash', collection = 'hash', collected = 'hash', contents = 'hash', facts = 'set',
  with = 'set', noted = 'hash', owners = 'hash', names = 'hash', descriptions = 'hash', fetched = 'hash', lone = 'hash',
  collecting = 'hash'})
local commands = {}

local function split(text)
  local uses, first, size, was_pinned = string.match(text or '', '^([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
  return {uses = number(uses), first = first or '0', size = number(size), was_pinned = was_pinned == '1'}
end

local function joined(one)
  return string.format('%.0f|%s|%.0f|%s', one.uses, one.first, one.size, one.was_pinned and '1' or '0')
end

-- Note that one more collection has a name.
local function use_name(name)
  increase(k('names'), name, 1)
  local lone = redis.call('HGET', k('lone'), name)
  if lone then
    redis.call('HDEL', k('lone'), name)
    increase(k('collecting'), 'lone', -number(lone))
  end
end

-- Make a collection, or return the number of the one that there is.
local function make(owner, name, created)
  local place = owner .. '|' .. name
  local found = redis.call('HGET', k('collections'), place)
  if found then
    return found
  end
  local id
  repeat
    id = string.format('%.0f', increase(k('collecting'), 'last', 1))
  until redis.call('EXISTS', k('collection', id)) == 0
  redis.call('HSET', k('collections'), place, id)
  redis.call('HSET', k('collection', id), 'name', name, 'owner', owner, 'created', created, 'changed', created, 'size', '0')
  increase(k('owners'), owner, 1)
  use_name(name)
  return id
end

local function add_member(id, kind, key, one)
  redis.call('HSET', k('collected', id), kind .. '|' .. key, joined(one))
  increase(k('collection', id), 'count|' .. kind, 1)
  increase(k('collection', id), 'size', one.size)
  if kind == RECORDING then
    local noted = number(redis.call('HGET', k('noted'), key))
    redis.call('SADD', k('with', key), id)
    if one.size > noted then
      redis.call('HSET', k('noted'), key, one.size)
      increase(k('collecting'), 'size', one.size - noted)
    end
  end
end

local function add_facts(id, limit, facts)
  for _, fact in ipairs(facts) do
    if redis.call('SCARD', k('facts', id)) < number(limit) then
      redis.call('SADD', k('facts', id), fact)
    end
  end
end

-- Remove the descriptions under a name that no collection has.
local function remove_lone(name)
  if number(redis.call('HGET', k('names'), name)) > 0 then
    return
  end
  redis.call('HDEL', k('names'), name)
  redis.call('DEL', k('descriptions', name), k('fetched', name))
end

local function forget_name(name)
  increase(k('names'), name, -1)
  remove_lone(name)
end

-- Add a use of a recording or a failure; `max_size` is empty for no limit, and `content` for none. Facts are KIND|VALUE.
-- Returns `new`, `known`, `version` and the version of a recording that it has instead, or what there is no room for.
function commands.note(owner, name, kind, key, was_pinned, content, size, now, max_size, max_collections, max_members, max_facts, ...)
  local id = redis.call('HGET', k('collections'), owner .. '|' .. name)
  if not id and max_size == '0' then
    return 'off'
  end
  if not id and number(redis.call('HGET', k('owners'), owner)) >= number(max_collections) then
    return 'collections'
  end
  local field = kind .. '|' .. key
  local known = id and redis.call('HGET', k('collected', id), field)
  if known and kind == RECORDING then
    local version = redis.call('HGET', k('contents', id), field) or ''
    if version ~= content then
      return 'version ' .. version
    end
  end
  if not known then
    if id and number(redis.call('HGET', k('collection', id), 'count|' .. kind)) >= number(max_members) then
      return 'members'
    end
    if kind == RECORDING and max_size ~= '' and redis.call('EXISTS', k('with', key)) == 0
        and number(redis.call('HGET', k('collecting'), 'size')) + number(size) > number(max_size) then
      return 'size'
    end
  end
  id = id or make(owner, name, now)
  add_facts(id, max_facts, {...})
  if known then
    local one = split(known)
    one.uses = one.uses + 1
    redis.call('HSET', k('collected', id), field, joined(one))
  else
    add_member(id, kind, key, {uses = 1, first = now, size = number(size), was_pinned = was_pinned == '1'})
  end
  if content ~= '' then
    redis.call('HSET', k('contents', id), field, content)
  end
  redis.call('HSET', k('collection', id), 'changed', now)
  return known and 'known' or 'new'
end

-- Add members of a collection of another store: kind, key, uses, time of the first, bytes, whether it was pinned, and
-- content, of each in turn, after `count` facts. A member that there is has the greater number of uses.
function commands.merge(owner, name, created, changed, max_facts, count, ...)
  local id, rest = make(owner, name, created), {...}
  add_facts(id, max_facts, {unpack(rest, 1, count)})
  for at = count + 1, #rest, 7 do
    local kind, key, content = rest[at], rest[at + 1], rest[at + 6]
    local one = {uses = number(rest[at + 2]), first = rest[at + 3], size = number(rest[at + 4]), was_pinned = rest[at + 5] == '1'}
    local field = kind .. '|' .. key
    local known = redis.call('HGET', k('collected', id), field)
    if known then
      local present = split(known)
      present.uses = math.max(present.uses, one.uses)
      present.first = number(one.first) < number(present.first) and one.first or present.first
      present.was_pinned = present.was_pinned or one.was_pinned
      redis.call('HSET', k('collected', id), field, joined(present))
    else
      add_member(id, kind, key, one)
    end
    if content ~= '' and not (known and kind == RECORDING) then  -- that would be another version of it
      redis.call('HSETNX', k('contents', id), field, content)
    end
  end
  local place = k('collection', id)
  local times = redis.call('HMGET', place, 'created', 'changed')
  redis.call('HSET', place, 'created', number(created) < number(times[1]) and created or times[1])
  redis.call('HSET', place, 'changed', number(changed) > number(times[2]) and changed or times[2])
end

-- Note a description under a name; returns `noted`, or what there is no room for.
function commands.describe(name, file, fetched, content, is_off, max_descriptions, max_lone)
  local place = k('descriptions', name)
  local is_new = redis.call('HEXISTS', place, file) == 0
  if is_new then
    if is_off == '1' then
      return 'off'
    end
    if number(redis.call('HGET', k('collecting'), 'lone')) >= number(max_lone) then
      for _, lone in ipairs(redis.call('HKEYS', k('lone'))) do
        remove_lone(lone)
      end
      redis.call('DEL', k('lone'))
      redis.call('HSET', k('collecting'), 'lone', '0')
    end
    if redis.call('HLEN', place) >= number(max_descriptions) then
      return 'descriptions'
    end
    if number(redis.call('HGET', k('names'), name)) <= 0 then
      increase(k('lone'), name, 1)
      increase(k('collecting'), 'lone', 1)
    end
  end
  if redis.call('HGET', k('fetched', name), file) ~= fetched then
    redis.call('HSET', place, file, content)
    redis.call('HSET', k('fetched', name), file, fetched)
  end
  return 'noted'
end

-- Return the fields of all collections, or of those of one owner: `*` is any.
function commands.list(owner)
  local found = {}
  local places = redis.call('HGETALL', k('collections'))
  for at = 1, #places, 2 do
    if owner == '*' or string.match(places[at], '^[^|]*') == owner then
      found[#found + 1] = {places[at + 1], unpack(redis.call('HGETALL', k('collection', places[at + 1])))}
    end
  end
  return found
end

-- Return the members of a collection: KIND|KEY, what is noted of it, and its content, of each in turn.
function commands.members(id)
  local found = {}
  local members = redis.call('HGETALL', k('collected', id))
  for at = 1, #members, 2 do
    found[#found + 1] = members[at]
    found[#found + 1] = members[at + 1]
    found[#found + 1] = redis.call('HGET', k('contents', id), members[at])
  end
  return found
end

-- Return the names of the collections that have any of some recordings.
function commands.names_with(...)
  local found, seen = {}, {}
  for _, key in ipairs({...}) do
    for _, id in ipairs(redis.call('SMEMBERS', k('with', key))) do
      if not seen[id] then
        seen[id] = true
        found[#found + 1] = redis.call('HGET', k('collection', id), 'name') or nil
      end
    end
  end
  return found
end

-- Rename a collection; returns `renamed`, `taken` where its owner has one of the new name, or `gone`.
function commands.rename(id, name)
  local values = redis.call('HMGET', k('collection', id), 'owner', 'name')
  local owner, former = values[1], values[2]
  if not former then
    return 'gone'
  end
  if redis.call('HEXISTS', k('collections'), owner .. '|' .. name) == 1 then
    return 'taken'
  end
  redis.call('HDEL', k('collections'), owner .. '|' .. former)
  redis.call('HSET', k('collections'), owner .. '|' .. name, id)
  redis.call('HSET', k('collection', id), 'name', name)
  use_name(name)
  for _, kind in ipairs({'descriptions', 'fetched'}) do
    local values = redis.call('HGETALL', k(kind, former))
    for at = 1, #values, 2 do
      redis.call('HSETNX', k(kind, name), values[at], values[at + 1])
    end
  end
  forget_name(former)
  return 'renamed'
end

-- Return the keys of recordings that nothing but a collection exempts from eviction.
function commands.unpinned_by_removal(id)
  local found = {}
  local members = redis.call('HGETALL', k('collected', id))
  for at = 1, #members, 2 do
    local kind, key = string.match(members[at], '^([^|]*)|(.*)$')
    if kind == RECORDING and not split(members[at + 1]).was_pinned and redis.call('SCARD', k('with', key)) == 1 then
      found[#found + 1] = key
    end
  end
  return found
end

-- Remove a collection; another one that has one of its recordings knows then that somebody had pinned that before.
function commands.remove(id)
  local values = redis.call('HMGET', k('collection', id), 'owner', 'name')
  local members = redis.call('HGETALL', k('collected', id))
  for at = 1, #members, 2 do
    local kind, key = string.match(members[at], '^([^|]*)|(.*)$')
    if kind == RECORDING then
      redis.call('SREM', k('with', key), id)
      local others = redis.call('SMEMBERS', k('with', key))
      if #others == 0 then
        increase(k('collecting'), 'size', -number(redis.call('HGET', k('noted'), key)))
        redis.call('HDEL', k('noted'), key)
      elseif split(members[at + 1]).was_pinned then
        for _, other in ipairs(others) do
          local one = split(redis.call('HGET', k('collected', other), members[at]))
          one.was_pinned = true
          redis.call('HSET', k('collected', other), members[at], joined(one))
        end
      end
    end
  end
  redis.call('DEL', k('collection', id), k('collected', id), k('contents', id), k('facts', id))
  if values[2] then
    redis.call('HDEL', k('collections'), values[1] .. '|' .. values[2])
    if increase(k('owners'), values[1], -1) <= 0 then
      redis.call('HDEL', k('owners'), values[1])
    end
    forget_name(values[2])
  end
end

return commands[ARGV[1]](unpack(ARGV, 2))
