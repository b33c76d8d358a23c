"""Reading whole tables, and sweeping them: along the directories of their partitions.

Rules.

* A single server has one directory for a table, and a page is one call. A cluster has one for each slot: the order is
  by slot, then by partition. All masters are asked at once which slots have any, then several directories at a time.
* Plain tables have no directories: their keys are found with ``SCAN``, which walks through all keys of the server, and
  are sorted here. What one walk finds is kept for the next pages.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import attrs
from redis.exceptions import RedisError

from kvmodel.drivers.base import Key
from kvmodel.drivers.meter import spend
from kvmodel.drivers.redis.courier import Courier, Request, call
from kvmodel.drivers.redis.layout import Place
from kvmodel.drivers.redis.link import LinkLost, Unreachable
from kvmodel.drivers.redis.nodes import Node
from kvmodel.drivers.redis.refusals import error_of, unreachable
from kvmodel.drivers.redis.scripts import OCCUPIED, SWEEP, Script
from kvmodel.drivers.redis.slots import SLOTS, slot_names
from kvmodel.errors import TimedOut, Unavailable

__all__ = ["Directories", "PlainKeys", "Stretch"]

_AT_ONCE: Final = 256
"""How many directories are asked at once, at the most."""
_KEPT: Final = 10_000
_WALK: Final = 1000


class Stretch(NamedTuple):
    """What was found along directories.

    Attributes:
        live: How many records were live, or were removed.
        found: Partitions, names and contents, one after the other.
        resume: The key to go on behind; ``None`` at the end of the table.
    """

    live: int
    found: list[bytes]
    resume: Key | None


class Directories:
    """The directories of tables."""

    def __init__(self, courier: Courier, *, in_cluster: bool) -> None:
        self._courier = courier
        self._in_cluster = in_cluster

    async def walk(
        self,
        place: Place,
        script: Script,
        after: Key | None,
        *,
        room: int,
        limit: int | None,
        more: Sequence[int],
        until: float,
    ) -> Stretch:
        """Call a script on one directory after the other.

        Args:
            room: How many records to look at.
            limit: How many live, or removed, ones are enough.
            more: The script's further arguments.
        """
        walk = _Walk(place, script, room, limit, more)
        if after is None:
            slots = await self._occupied(place, 0, until)
        else:
            slots = [place.locate(after).slot]
            walk.behind = place.behind(after)
        is_first, taken = True, 1
        while slots:
            now, slots = slots[:taken], slots[taken:]
            answers = await self._courier.ask([walk.request(slot, len(now)) for slot in now], until)
            for number, answer in enumerate(answers, start=1):
                if walk.take(answer):
                    if script is SWEEP:  # The others are asked again, but what they have removed is not there then.
                        walk.live += sum(other[3] for other in answers[number:])
                    return walk.stretch(is_over=False)
            if is_first and after is not None and self._in_cluster:
                slots = await self._occupied(place, now[-1] + 1, until)
            is_first, taken = False, walk.stride(len(now))
        return walk.stretch(is_over=True)

    async def _occupied(self, place: Place, first: int, until: float) -> list[int]:
        """Answer the slots from ``first`` on that have a directory of this table, and perhaps some that have none."""
        if not self._in_cluster:
            return [0]
        node_of, names = self._courier.topology.node, slot_names()
        groups: dict[Node | None, list[int]] = {}
        for slot in range(first, SLOTS):
            groups.setdefault(node_of(slot), []).append(slot)
        before, behind = place.directory_parts()
        requests: list[Request] = [
            call(OCCUPIED, slots[0], [], [before, behind, b" ".join(map(names.__getitem__, slots))])
            for slots in groups.values()
        ]
        answers = await self._courier.ask(requests, until)
        found = {name for answer in answers for name in answer}
        return [slot for slot in range(first, SLOTS) if names[slot] in found] if found else []


@attrs.define(eq=False)
class _Walk:
    """One walk along directories: what is asked of the next one, and what was found so far."""

    place: Place
    script: Script
    room: int
    limit: int | None
    more: Sequence[int]
    behind: tuple[bytes, bytes] | None = None
    live: int = 0
    found: list[bytes] = attrs.field(factory=list)
    _last: tuple[bytes, bytes] | None = None
    _examined: int = 0
    _directories: int = 0

    def request(self, slot: int, share: int) -> Request:
        """Answer what asks the directory of a slot, one of several that are asked at once."""
        place = self.place
        rest: bytes | int = b"" if self.limit is None else self.limit - self.live
        if isinstance(rest, int) and self.script is SWEEP:
            rest //= share  # What is removed can't be left for later.
        behind, self.behind = self.behind, None
        arguments: list[bytes | int] = [
            place.left,
            place.right,
            int(place.has_index),
            int(behind is not None),
            *(behind or (b"", b"")),
        ]
        return call(self.script, slot, [place.directory(slot)], [*arguments, self.room, rest, *self.more])

    def take(self, answer: Sequence[Any]) -> bool:
        """Note what a directory gave; answer whether that is enough. The directories behind it are left for later.

        As several are asked at once, each for all that is wanted, there may be more than that.
        """
        there_is_more, partition, name, live, examined, *pieces = answer
        spend(0, examined)
        self.live += live
        self.found += pieces
        self.room -= examined
        self._examined += examined
        self._directories += 1
        if examined:
            self._last = (partition, name)
        return bool(there_is_more) or self.room <= 0 or (self.limit is not None and self.live >= self.limit)

    def stride(self, before: int) -> int:
        """Answer how many directories to ask at once: as many as the rest of a page seems to take."""
        each = self._examined // self._directories + 1
        wanted = _AT_ONCE if self.limit is None else self.limit - self.live
        return max(1, min(self.room // each, wanted, 4 * before, _AT_ONCE))

    def stretch(self, *, is_over: bool) -> Stretch:
        """Answer what was found."""
        resume = None if is_over or self._last is None else self.place.decode(*self._last)
        return Stretch(self.live, self.found, resume)


@attrs.define(eq=False)
class PlainKeys:
    """The keys of plain tables, as far as walks have found them."""

    courier: Courier
    _kept: dict[Place, tuple[bytes, list[bytes], bool]] = attrs.field(factory=dict)

    async def page(self, place: Place, after: bytes, room: int, until: float) -> tuple[list[bytes], bool]:
        """Answer the next keys behind one, in order, and whether there may be more."""
        behind, keys, is_all = self._kept.pop(place, (b"\xff", [], False))
        if behind != after or not keys:
            keys = await self._search(place, after, until)
            is_all = len(keys) < _KEPT
        page, rest = keys[:room], keys[room:]
        if rest:
            self._kept[place] = (page[-1], rest, is_all)
        return page, bool(rest) or not is_all

    async def _search(self, place: Place, after: bytes, until: float) -> list[bytes]:
        """Walk through all keys of all servers for the smallest ones of a table behind ``after``."""
        pattern = _escape(place.codec.first) + b"*"
        if place.codec.first == b"\x01":
            pattern = b"*"  # No name of a table before the keys: everything is this table's.
        found: set[bytes] = set()
        for node in self.courier.topology.masters():
            cursor = b"0"
            while True:
                spend(1)
                words = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _WALK, b"TYPE", b"string")
                try:
                    (answer,) = await node.exchange([words], until)
                except TimeoutError as error:
                    raise TimedOut("time ran out while walking through all keys", store=self.courier.store) from error
                except LinkLost as error:
                    raise Unavailable("the connection broke: try again", store=self.courier.store) from error
                except Unreachable as error:
                    raise unreachable(error.__cause__, node.address, self.courier.store) from error
                if isinstance(answer, RedisError):
                    raise error_of(answer, self.courier.store)
                cursor, keys = answer
                found.update(key for key in keys if key > after and not key.startswith(b"kv:"))
                if len(found) > 2 * _KEPT:
                    found = set(heapq.nsmallest(_KEPT, found))
                if cursor == b"0":
                    break
        return heapq.nsmallest(_KEPT, found)


def _escape(text: bytes) -> bytes:
    """Free a text of what means something in patterns."""
    for special in b"\\*?[]":
        text = text.replace(bytes((special,)), b"\\" + bytes((special,)))
    return text
