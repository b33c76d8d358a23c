"""The scripts that run inside the server, in Lua as Redis 6.2 and later have it.

Rules.

* Nothing is changed before everything was checked, types of keys included: a script that fails has done nothing. What
  merely tidies up may fail and is called so that this ends nothing.
* A script is given the keys that it changes, with one exception: tidying, and reading and sweeping of ranges, derive
  the keys of records from the sorted set that lists them. These share its hash tag. While a slot moves, a key that has
  gone ahead is an error there, and never looks absent; at the other end, where it would, these scripts are not sent.
  What looks for the directories of a cluster derives their keys too.
* Numbers are compared in two halves, as Lua's have 53 bits.
"""

from __future__ import annotations

from typing import Final

from kvmodel.drivers.redis.lua import BODIES, HEAD, Script, make_script
from kvmodel.drivers.redis.write_script import WRITE

__all__ = ["ALL", "COUNT", "OCCUPIED", "RANGE", "REGISTER", "SCAN", "SWEEP", "WRITE", "Script"]

_RANGE: Final = (
    """
-- KEYS: the index. ARGV: low, high, reverse, how many to look at, limit, whether values are wanted, now (two halves),
-- how many bytes are enough. Answers 1 if there may be more, the last name, then names and contents.
local now_high, now_low = tonumber(ARGV[7]), tonumber(ARGV[8])
"""
    + HEAD
    + BODIES
    + """
local index, low, high, reverse = KEYS[1], ARGV[1], ARGV[2], ARGV[3] == '1'
local room, limit, values, enough = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[9])
local found, live, size = {0, ''}, 0, 0
while room > 0 do
  local want = math.min(room, size > 65536 and 16 or 128)
  local names = names_of(index, low, high, reverse, want)
  if #names == 0 then return found end
  local keys, gone, done = {}, {}, false
  for i, name in ipairs(names) do keys[i] = index .. ':' .. name end
  local bodies = bodies_of(keys, values)
  for i, name in ipairs(names) do
    local body = bodies[i]
    room = room - 1
    found[2] = name
    if not body then
      gone[#gone + 1] = name
    else
      found[#found + 1] = name
      found[#found + 1] = body
      size = size + #body
      if not is_dead(body) then live = live + 1 end
      if live == limit then done = true; break end
      if size > enough then found[1] = 1; done = true; break end
    end
  end
  forget(index, gone)
  if done or #names < want then return found end
  if reverse then high = '(' .. found[2] else low = '(' .. found[2] end
end
found[1] = 1
return found
"""
)

_COUNT: Final = (
    """
-- KEYS: the index. ARGV: low, high, how many to look at, limit, now (two halves).
-- Answers 1 if there may be more, the last name, how many live, and how many were looked at.
local now_high, now_low = tonumber(ARGV[5]), tonumber(ARGV[6])
"""
    + HEAD
    + BODIES
    + """
local index, low, high, room, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local last, live, examined = '', 0, 0
while examined < room do
  local names, gone = redis.call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, 500), {}
  for _, name in ipairs(names) do
    local there, lives = look(index .. ':' .. name)
    examined = examined + 1
    last = name
    if not there then gone[#gone + 1] = name end
    if lives then live = live + 1 end
    if live == limit then break end
  end
  forget(index, gone)
  if #names < 500 or live == limit then return {0, last, live, examined} end
  low = '(' .. last
end
return {1, last, live, examined}
"""
)

_SCAN: Final = (
    """
-- KEYS: a directory. ARGV: left, right, whether there are indexes, whether to go on behind a record, its partition,
-- its name; how many to look at, limit, what is wanted (1 values, 0 beginnings, 2 nothing), now (two halves), how many
-- bytes are enough. Answers 1 if there may be more, the last partition and name, how many live, how many were looked
-- at, then partitions, names and contents.
local now_high, now_low = tonumber(ARGV[10]), tonumber(ARGV[11])
"""
    + HEAD
    + BODIES
    + """
local directory, left, right, has_index = KEYS[1], ARGV[1], ARGV[2], ARGV[3] == '1'
local low, name_low = '-', '-'
local room, limit, values, wanted = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1', ARGV[9] ~= '2'
local enough = tonumber(ARGV[12])
local found, size = {0, '', '', 0, 0}, 0
if ARGV[4] == '1' then
  low = (has_index and '[' or '(') .. ARGV[5]
  if has_index then name_low = '(' .. ARGV[6] end
end

local function take(partition, name, body)
  found[2], found[3] = partition, name
  found[5] = found[5] + 1
  if body then
    if wanted then
      found[#found + 1] = partition
      found[#found + 1] = name
      found[#found + 1] = body
      size = size + #body
    end
    if not is_dead(body) then found[4] = found[4] + 1 end
  end
  if found[4] == limit then return true end
  if size > enough or found[5] >= room then found[1] = 1; return true end
  return false
end

while true do
  local partitions = redis.call('ZRANGEBYLEX', directory, low, '+', 'LIMIT', 0, has_index and 16 or 128)
  if #partitions == 0 then return found end
  if has_index then
    for _, partition in ipairs(partitions) do
      local from = low == '[' .. partition and name_low or '-'
      local index = path(left, partition, right)
      while true do
        local names = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', 0, 128)
        local keys, gone = {}, {}
        for i, name in ipairs(names) do keys[i] = index .. ':' .. name end
        local bodies = #keys > 0 and bodies_of(keys, values) or {}
        for i, name in ipairs(names) do
          if not bodies[i] then gone[#gone + 1] = name end
          if take(partition, name, bodies[i]) then forget(index, gone); return found end
        end
        forget(index, gone)
        if #names < 128 then break end
        from = '(' .. names[128]
      end
      if redis.call('EXISTS', index) == 0 then forget(directory, {partition}) end
    end
  else
    local keys = {}
    for i, partition in ipairs(partitions) do keys[i] = path(left, partition, right) end
    local bodies = bodies_of(keys, values)
    for i, partition in ipairs(partitions) do
      if not bodies[i] then forget(directory, {partition}) end
      if take(partition, '', bodies[i]) then return found end
    end
  end
  low = '(' .. partitions[#partitions]
end
"""
)

_SWEEP: Final = (
    """
-- KEYS: a directory. ARGV: left, right, whether there are indexes, whether to go on behind a record, its partition, its
-- name; how many to look at, how many to remove, now (two halves). Removes what has expired. Answers 1 if there may be
-- more, the last partition and name, how many were removed, and how many were looked at.
local now_high, now_low = tonumber(ARGV[9]), tonumber(ARGV[10])
"""
    + HEAD
    + """
local directory, left, right, has_index = KEYS[1], ARGV[1], ARGV[2], ARGV[3] == '1'
local room, limit = tonumber(ARGV[7]), tonumber(ARGV[8])
local low, name_low = '-', '-'
local done = {0, '', '', 0, 0}
if ARGV[4] == '1' then
  low = (has_index and '[' or '(') .. ARGV[5]
  if has_index then name_low = '(' .. ARGV[6] end
end

-- Answers whether the record is gone, and whether that is enough.
local function sweep(partition, name, key)
  local there, lives = look(key)
  done[2], done[3] = partition, name
  done[5] = done[5] + 1
  room = room - 1
  if there and not lives then
    redis.call('DEL', key)
    done[4] = done[4] + 1
  end
  return not lives, room <= 0 or done[4] >= limit
end

while true do
  local partitions = redis.call('ZRANGEBYLEX', directory, low, '+', 'LIMIT', 0, 64)
  if #partitions == 0 then return done end
  for _, partition in ipairs(partitions) do
    local key = path(left, partition, right)
    if has_index then
      local from, enough = low == '[' .. partition and name_low or '-', false
      repeat
        local names = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, 256)
        for _, name in ipairs(names) do
          local gone
          gone, enough = sweep(partition, name, key .. ':' .. name)
          if gone then redis.call('ZREM', key, name) end
          if enough then break end
        end
        from = names[256] and '(' .. names[256]
      until enough or not from
      if redis.call('EXISTS', key) == 0 then redis.call('ZREM', directory, partition) end
      if enough then done[1] = 1; return done end
    else
      local gone, enough = sweep(partition, '', key)
      if gone then redis.call('ZREM', directory, partition) end
      if enough then done[1] = 1; return done end
    end
  end
  low = '(' .. partitions[#partitions]
end
"""
)

_OCCUPIED: Final = """
-- ARGV: what stands before and behind the number in the key of a directory, and numbers. Answers those whose directory
-- is there, or belongs to a slot that is on the move. Looks at many slots of this server, and changes nothing.
local found = {}
for number in string.gmatch(ARGV[3], '%d+') do
  if redis.pcall('EXISTS', ARGV[1] .. number .. ARGV[2]) ~= 0 then found[#found + 1] = number end
end
return found
"""

_REGISTER: Final = """
-- KEYS: rows of the catalogue. ARGV: the old and the new content of each. Answers whether they are as they should be.
for i, key in ipairs(KEYS) do
  local found = redis.call('GET', key) or ''
  if found ~= ARGV[2 * i - 1] and found ~= ARGV[2 * i] then return 0 end
end
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2 * i]) end
return 1
"""

RANGE: Final = make_script("range", _RANGE)
COUNT: Final = make_script("count", _COUNT)
SCAN: Final = make_script("scan", _SCAN)
SWEEP: Final = make_script("sweep", _SWEEP)
OCCUPIED: Final = make_script("occupied", _OCCUPIED)
REGISTER: Final = make_script("catalogue", _REGISTER)
ALL: Final = (WRITE, RANGE, COUNT, SCAN, SWEEP, OCCUPIED, REGISTER)
"""What is loaded into every server."""
