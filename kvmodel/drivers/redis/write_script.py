"""The script that writes, in Lua: expectations and range checks first, then changes."""

from __future__ import annotations

from typing import Final

from kvmodel.drivers.redis.lua import HEAD, make_script

__all__ = ["WRITE"]

_WRITE: Final = (
    """
-- ARGV: atomic (1/0), now (two halves), whether to tidy; the number of rows of the catalogue, and each: key, old, new;
-- the number of areas, and each: index (0: none), directory (0: plain), what says that it is watched (0: nothing),
-- partition, left, right; then the steps, of eight arguments: kind, area, key, expectation, version, name, data,
-- milliseconds to live. A check of a range is followed by the names and versions that were seen.
local atomic, now_high, now_low, tidies = ARGV[1] == '1', tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
"""
    + HEAD
    + """
local at = 5
local function take() at = at + 1; return ARGV[at - 1] end

local rows = {}
for i = 1, tonumber(take()) do
  local row = {key = KEYS[tonumber(take())], old = take(), new = take()}
  local found = redis.call('GET', row.key) or ''
  if found ~= row.old and found ~= row.new then return {2} end
  if found ~= row.new then rows[#rows + 1] = row end
end

local areas = {}
for i = 1, tonumber(take()) do
  local area = {
    index = KEYS[tonumber(take())], directory = KEYS[tonumber(take())], watched = KEYS[tonumber(take())],
    partition = take(), left = take(), right = take(), changes = {}
  }
  if area.index then redis.call('ZCARD', area.index) end
  if area.directory then redis.call('ZCARD', area.directory) end
  area.told = area.watched and redis.call('EXISTS', area.watched) == 1
  areas[i] = area
end

local steps = {}
while at <= #ARGV do
  local step = {
    kind = take(), area = areas[tonumber(take())], key = tonumber(take()), expect = take(), version = take(),
    name = take(), data = take(), ttl = take()
  }
  if step.kind == 'r' then
    step.seen = {}
    for i = 1, step.key do
      local name = take()
      step.seen[name] = take()
    end
  else
    step.key = KEYS[step.key]
  end
  steps[#steps + 1] = step
end

local function found_by(step)
  if step.area.directory then return look(step.key) end
  local content = redis.call('GET', step.key)
  if not content then return false, false, '' end
  return true, true, content
end

-- Answers whether the expectation holds, and whether the record lives; nil where nobody asked.
local function holds(step)
  local expect = step.expect
  if expect == '0' and step.kind == 'p' and not step.area.told then return true, nil end
  local there, lives, version = found_by(step)
  if expect == '0' then return true, lives end
  if expect == '1' then return not lives, lives end
  if expect == '2' then return lives, lives end
  return lives and version == step.version, lives
end

-- A check of a range: reverse, limit, low and high stand where a record has its expectation, version, name and data.
local function differences(step)
  local index, limit, there, count = step.area.index, tonumber(step.version), {}, 0
  local low, high, reverse = step.name, step.data, step.expect == '1'
  while index do
    local names = names_of(index, low, high, reverse, 500)
    for _, name in ipairs(names) do
      local _, lives, version = look(index .. ':' .. name)
      if lives then
        there[name] = version
        count = count + 1
        if count == limit then break end
      end
    end
    if #names < 500 or count == limit then break end
    if reverse then high = '(' .. names[500] else low = '(' .. names[500] end
  end
  if not index and low == '-' then
    local _, lives, version = look(path(step.area.left, step.area.partition, step.area.right))
    if lives then there[''] = version end
  end
  local changed = {}
  for name, version in pairs(step.seen) do
    if there[name] ~= version then changed[#changed + 1] = name end
  end
  for name in pairs(there) do
    if not step.seen[name] then changed[#changed + 1] = name end
  end
  return changed
end

local function tidy(area)
  local names = redis.pcall('ZRANDMEMBER', area.index, 3)
  for _, name in ipairs(names) do
    if redis.pcall('EXISTS', area.index .. ':' .. name) == 0 then redis.pcall('ZREM', area.index, name) end
  end
end

local function tidy_directory(area)
  local partitions = redis.pcall('ZRANDMEMBER', area.directory, 3)
  for _, partition in ipairs(partitions) do
    if redis.pcall('EXISTS', path(area.left, partition, area.right)) == 0 then
      redis.pcall('ZREM', area.directory, partition)
    end
  end
end

local function enter(area, step)
  local ttl = tonumber(step.ttl)
  if not area.index then
    redis.call('ZADD', area.directory, 0, area.partition)
    if ttl and tidies then tidy_directory(area) end
    return
  end
  local rest = area.rest or redis.call('PTTL', area.index)
  local added = redis.call('ZADD', area.index, 0, step.name)
  if rest == -2 then redis.call('ZADD', area.directory, 0, area.partition) end
  area.rest = rest
  if not ttl then
    if rest >= 0 then redis.call('PERSIST', area.index) end
    area.rest = -1
  elseif rest == -2 or (rest >= 0 and rest < ttl + 1000) then
    redis.call('PEXPIRE', area.index, ttl + 1000)
    area.rest = ttl + 1000
  end
  if ttl and added == 1 and tidies then
    tidy(area)
    if rest == -2 then tidy_directory(area) end
  end
end

local function leave(area, step)
  if not area.index then
    redis.call('ZREM', area.directory, area.partition)
  elseif redis.call('ZREM', area.index, step.name) == 1 and redis.call('EXISTS', area.index) == 0 then
    redis.call('ZREM', area.directory, area.partition)
    area.rest = nil
  end
end

local has_put = false
local function change(step, lived)
  local area = step.area
  if step.kind == 'p' then
    has_put = true
    if step.ttl == '' then redis.call('SET', step.key, step.data)
    else redis.call('SET', step.key, step.data, 'PX', step.ttl) end
    if area.directory then enter(area, step) end
    if area.told then table.insert(area.changes, {step.name, lived and 2 or 1, step.data}) end
  elseif step.kind == 'd' then
    redis.call('DEL', step.key)
    if area.directory then leave(area, step) end
    if area.told and lived then table.insert(area.changes, {step.name, 3, ''}) end
  end
end

local outcomes = {1}
if atomic then
  local failures, lived = {0}, {}
  for i, step in ipairs(steps) do
    if step.kind == 'r' then
      local changed = differences(step)
      if #changed > 0 then
        table.insert(changed, 1, i)
        failures[#failures + 1] = changed
      end
    else
      local good, lives = holds(step)
      lived[i] = lives
      if not good then failures[#failures + 1] = {i} end
    end
  end
  if #failures > 1 then return failures end
  for i, step in ipairs(steps) do
    change(step, lived[i])
    outcomes[i + 1] = lived[i] == nil and -1 or (lived[i] and 1 or 0)
  end
else
  for i, step in ipairs(steps) do
    local good, lives = holds(step)
    if good then change(step, lives) end
    outcomes[i + 1] = not good and 2 or (lives == nil and -1 or (lives and 1 or 0))
  end
end
if has_put then
  for _, row in ipairs(rows) do redis.call('SET', row.key, row.new) end
end
for _, area in ipairs(areas) do
  if #area.changes > 0 then
    redis.pcall('PUBLISH', area.watched, cmsgpack.pack({area.partition, area.changes}))
  end
end
return outcomes
"""
)

WRITE: Final = make_script("write", _WRITE)
