"""What random programs do inside units of work, and whether these can commit: see :mod:`kvmodel.testing.players`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs

import kvmodel as kv
from kvmodel.testing.players import Player, keys_of
from kvmodel.testing.reference import Bounds, Content, Shadow, Thing, ThingKey

__all__ = ["UnitPlayer"]


class UnitPlayer:
    """Plays inside one unit of work, and foresees whether it can commit.

    Args:
        player: What is played outside meanwhile.
        unit: The unit, begun.
        verify: Whether it verifies what it only read.
        home: Where the store's atomicity is less than the whole store: the record, or its partition, that it keeps to.
    """

    def __init__(self, player: Player, unit: kv.UnitOfWork, *, verify: bool, home: ThingKey) -> None:
        self._player = player
        self._unit = unit
        self._verify = verify
        self._home = home
        self._shadow = Shadow(player.reference)
        self._objects: dict[ThingKey, Thing] = {}
        self._repository = Thing.objects.using(unit)
        self.is_over = False

    async def play(self, name: str, *given: Any) -> None:
        """Do something by its name. The unit may notice at any time that what it relies on has changed."""
        if self.is_over:
            return
        try:
            await getattr(self, name)(*given)
        except kv.Conflict:
            assert self._shadow.may_fail()
            await self.rollback()

    def _within(self, key: ThingKey) -> ThingKey:
        match self._player.capabilities.atomicity:
            case kv.Atomicity.RECORD:
                return self._home
            case kv.Atomicity.PARTITION:
                return (self._home[0], *key[1:])
            case _:
                return key

    # --- reading ------------------------------------------------------------------------------------------------------

    async def unit_reads(self, key: ThingKey) -> Content | None:
        """Read a record, and answer what the unit should show."""
        key, shadow = self._within(key), self._shadow
        thing = await self._repository.find(*key)
        if shadow.knows(key):
            assert (None if thing is None else Content.of(thing)) == shadow.view(key)
            assert thing is None or thing is self._objects[key]
        else:
            self._saw(key, thing)
        return shadow.view(key)

    async def unit_reads_range(self, bounds: Bounds) -> None:
        """Read a range, with the unit's own changes."""
        capabilities = self._player.capabilities
        if not capabilities.range_checks or capabilities.atomicity is kv.Atomicity.RECORD:
            return
        bounds = self._player.possible(bounds)
        if capabilities.atomicity is kv.Atomicity.PARTITION:
            bounds = attrs.evolve(bounds, shelf=self._home[0])
        shadow, stale = self._shadow, self._shadow.may_fail()
        things = await bounds.query(self._repository)
        if stale:  # It may show what it saw, or what is there.
            await self.rollback()
            return
        expected = shadow.merged(bounds)
        assert keys_of(things) == [key for key, _ in expected]
        for (key, _), thing in zip(expected, things, strict=True):
            if not shadow.knows(key):
                self._saw(key, thing)
            assert Content.of(thing) == shadow.view(key)
            assert thing is self._objects[key]

    def _saw(self, key: ThingKey, thing: Thing | None) -> None:
        """Take down what was read. It may be older than now, if a range read more than it showed."""
        if thing is None:
            assert self._player.reference.live(key) is None
            self._shadow.saw(key, None)
            return
        state = self._player.recognise(key, thing)
        assert Content.of(thing) == state.content
        assert self._shadow.may_fail() or state is self._player.reference.live(key)
        self._shadow.saw(key, state)
        self._objects[key] = thing

    # --- changing -----------------------------------------------------------------------------------------------------

    async def unit_changes(self, key: ThingKey, count: int) -> None:
        """Change an object without a word about it; maybe to what it was."""
        key = self._within(key)
        if await self.unit_reads(key) is not None:
            thing = self._objects[key]
            thing.count = count
            if count == 0:
                thing.tags.append("x")
            self._shadow.views[key] = Content.of(thing)

    async def unit_puts(self, key: ThingKey, content: Content, free: bool) -> None:
        """Put a new object, which may want its key to be free."""
        key, shadow = self._within(key), self._shadow
        thing = content.thing(key)
        try:
            (self._unit.add if free else self._unit.put)(thing)
        except kv.AlreadyExists:
            assert free
            assert shadow.view(key) is not None
            return
        assert not free or shadow.view(key) is None
        shadow.put(key, content, free=free)
        self._objects[key] = thing

    async def unit_deletes(self, key: ThingKey) -> None:
        """Delete a record by its key."""
        key = self._within(key)
        is_there = await self.unit_reads(key) is not None
        assert await self._repository.delete(*key) is is_there
        if is_there:
            self._shadow.delete(key)

    async def unit_expires(self, key: ThingKey, span: timedelta | None) -> None:
        """Change a deadline."""
        if self._player.capabilities.expiry is kv.Expiry.NONE:
            return
        key = self._within(key)
        is_there = await self.unit_reads(key) is not None
        try:
            await self._repository.expire(*key, expires_in=span)
        except kv.NotFound:
            assert not is_there
            return
        assert is_there
        self._shadow.deadlines[key] = self._player.deadline(span)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Commit, or fail where something that the unit relied on has changed."""
        if self.is_over:
            return
        self.is_over = True
        shadow, capabilities = self._shadow, self._player.capabilities
        changes = shadow.changes()
        relies = bool(changes) or (self._verify and bool(shadow.seen or shadow.ranges or shadow.wants_free))
        must_fail, may_fail = shadow.must_fail(), shadow.may_fail()
        try:
            await self._unit.commit()
        except kv.Conflict:
            assert relies
            assert may_fail
            return
        except kv.TooLarge:
            assert (capabilities.max_atomic_changes, capabilities.max_atomic_checks) != (None, None)
            return
        assert not (relies and must_fail)
        for key, change in changes.items():
            if change is None:
                self._player.reference.delete(key)
            else:
                self._player.reference.put(key, *change)
        await self._player.check_keys(list(changes))

    async def rollback(self) -> None:
        """Forget the unit."""
        self.is_over = True
        await self._unit.rollback()
