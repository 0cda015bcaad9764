-- The begin of each script: keys of the types that it expects, and numbers.
--
-- With a key of another type, or a counter that is no number, which somebody else wrote, a script would fail half-way, and
-- undo nothing. Such a key is removed, and such a counter begins again; `verify` counts the index again.

local PREFIX = KEYS[1]
local checked = {}

-- Return a key, and remove one that has another type.
local function typed(place, kind)
  if kind and not checked[place] then
    checked[place] = true
    local found = redis.call('TYPE', place).ok
    if found ~= 'none' and found ~= kind then
      redis.call('DEL', place)
    end
  end
  return place
end

-- Return a function that returns the key with a name; `kinds` are the types of keys by the first part of their names.
local function keys_of(kinds)
  return function(name, ...)
    return typed(table.concat({PREFIX, name, ...}, ':'), kinds[name])
  end
end

local function number(text)
  local value = tonumber(text)
  return value and value == value and value or 0
end

local function whole(value)
  return value == 0 and '0' or string.format('%.0f', value)  -- Redis does not read -0
end

-- Add to a field of a hash, and return the sum; what is no number there counts as 0.
local function increase(place, field, change)
  change = number(change)
  if math.abs(change) > 2 ^ 53 then
    change = 0
  end
  local sum = redis.pcall('HINCRBY', place, field, whole(change))
  if type(sum) == 'number' then
    return sum
  end
  redis.call('HSET', place, field, whole(change))
  return change
end

