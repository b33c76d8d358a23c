"""What the scripts that run inside the server share."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

import attrs

__all__ = ["BODIES", "HEAD", "Script", "make_script"]


@attrs.frozen(eq=False)
class Script:
    """A script.

    Attributes:
        name: For people.
        source: Its text.
        digest: What Redis calls it.
    """

    name: str
    source: bytes
    digest: bytes


def make_script(name: str, source: str) -> Script:
    """Make a script of its text."""
    text = source.strip().encode()
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())


HEAD: Final = """
-- A record begins with its format, the stamp, and the deadline if bit 0 of the format is set. Answers whether there is
-- anything, whether it lives, its version, and its deadline.
local function look(key)
  local s = redis.call('GETRANGE', key, 0, 25)
  if #s == 0 then return false, false, '' end
  local form = string.byte(s)
  if form < 16 or form > 19 or #s < 14 or (form % 2 == 1 and #s < 22) then return true, true, '' end
  local stamp = string.sub(s, 2, 13)
  if form % 2 == 1 then
    local high, low = struct.unpack('>I4I4', s, 14)
    if high < now_high or (high == now_high and low <= now_low) then return true, false, stamp end
  end
  return true, true, stamp
end

local function is_dead(s)
  local form = string.byte(s)
  if not form or form < 16 or form > 19 or form % 2 == 0 or #s < 22 then return false end
  local high, low = struct.unpack('>I4I4', s, 14)
  return high < now_high or (high == now_high and low <= now_low)
end

local function names_of(index, low, high, reverse, count)
  if reverse then return redis.call('ZREVRANGEBYLEX', index, high, low, 'LIMIT', 0, count) end
  return redis.call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, count)
end

local function path(left, partition, right)
  if partition == '' and left == 'kv:{' then partition = '-' end
  return left .. partition .. right
end
"""

BODIES: Final = """
-- What is asked of a record: 1 its content, 0 its beginning.
local function bodies_of(keys, values)
  if values then return redis.call('MGET', unpack(keys)) end
  local bodies = {}
  for i, key in ipairs(keys) do
    local s = redis.call('GETRANGE', key, 0, 25)
    bodies[i] = #s > 0 and s
  end
  return bodies
end

local function forget(index, names)
  if #names > 0 then redis.pcall('ZREM', index, unpack(names)) end
end
"""
