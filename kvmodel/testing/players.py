"""What random programs do: each method acts on a database and on its :class:`~kvmodel.testing.reference.Reference`, and
compares. What the store denies is left out.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.reference import Bounds, Content, Reference, State, Thing, ThingKey

__all__ = ["Player", "keys_of"]

_MICROSECOND = timedelta(microseconds=1)


def keys_of(things: list[Thing]) -> list[ThingKey]:
    """Answer the keys of objects."""
    return [(thing.shelf, thing.kind, thing.at) for thing in things]


@attrs.define(eq=False)
class _Held:
    """An object that the program holds, and the state of its record that it stands for; ``None`` once deleted."""

    thing: Thing
    key: ThingKey
    state: State | None

    def change(self, content: Content) -> None:
        self.thing.count, self.thing.note, self.thing.tags = content.count, content.note, list(content.tags)


class Player:
    """Plays on records, outside of units of work.

    Args:
        db: A database whose namespace nobody else uses.
        clock: Its clock.
    """

    def __init__(self, db: kv.Database, clock: VirtualClock) -> None:
        self.db = db
        self.clock = clock
        self.capabilities = db.capabilities
        self.objects = Thing.objects.using(db, outside=True)
        self.reference = Reference(clock)
        self._held: list[_Held] = []
        self._tokens: dict[tuple[ThingKey, str], int] = {}

    async def play(self, name: str, *given: Any) -> None:
        """Do something by its name."""
        await getattr(self, name)(*given)

    # --- comparing ----------------------------------------------------------------------------------------------------

    def check(self, key: ThingKey, thing: Thing | None) -> None:
        """Compare what was read with what should be there."""
        state = self.reference.live(key)
        assert (None if thing is None else Content.of(thing)) == (None if state is None else state.content)
        if thing is not None and state is not None:
            assert (thing.shelf, thing.kind, thing.at) == key
            self.check_state(key, thing, state)

    def check_state(self, key: ThingKey, thing: Thing, state: State) -> None:
        """Compare version and deadline. Each state of a record has a token that never comes back for another."""
        assert self._tokens.setdefault((key, kv.version(thing)), state.number) == state.number
        until = kv.expires_at(thing)
        assert (None if until is None else VirtualClock(until)()) == state.deadline

    def recognise(self, key: ThingKey, thing: Thing) -> State:
        """Answer the state that an object was loaded in, be it current or not."""
        return self.reference.state(self._tokens[key, kv.version(thing)])

    def check_all(self, keys: list[ThingKey], things: list[Thing]) -> None:
        """Compare many, in order."""
        assert keys_of(things) == keys
        for key, thing in zip(keys, things, strict=True):
            self.check(key, thing)

    async def check_keys(self, keys: list[ThingKey]) -> None:
        """Read many by key, and compare."""
        for key, thing in zip(keys, await self.objects.get_many(keys), strict=True):
            self.check(key, thing)

    def deadline(self, span: timedelta | None) -> int | None:
        """Answer when a span that begins now is over."""
        return None if span is None else self.clock() + span // _MICROSECOND

    def possible(self, bounds: Bounds) -> Bounds:
        """Answer bounds that the store can read."""
        native = self.capabilities.reverse is kv.Reverse.NATIVE
        return bounds if native else attrs.evolve(bounds, reverse=False)

    # --- single records -----------------------------------------------------------------------------------------------

    async def create(self, key: ThingKey, content: Content, span: timedelta | None) -> None:
        """Create a record, if its key is free."""
        if not self.capabilities.conditional:
            return
        thing, span = content.thing(key), self._span(span)
        try:
            await self.objects.create(thing, expires_in=span)
        except kv.AlreadyExists:
            assert self.reference.live(key) is not None
            return
        assert self.reference.live(key) is None
        self._hold(key, thing, self._written(key, thing, content, self.deadline(span)))

    async def save_new(self, key: ThingKey, content: Content, span: timedelta | None) -> None:
        """Write a record, whatever is there."""
        thing, span = content.thing(key), self._span(span)
        await self.objects.save(thing, expires_in=span)
        self._hold(key, thing, self._written(key, thing, content, self.deadline(span)))

    async def save_loaded(self, index: int, content: Content) -> None:
        """Replace what was loaded, if it is still so."""
        held = self._pick(index)
        if held is None or not self.capabilities.conditional:
            return
        held.change(content)
        try:
            await self.objects.save(held.thing)
        except kv.Conflict:
            assert not self._is_current(held)
            return
        assert held.state is not None
        assert self._is_current(held)
        held.state = self._written(held.key, held.thing, content, held.state.deadline)

    async def save_forced(self, index: int, content: Content) -> None:
        """Replace whatever is there; the deadline of what was loaded is kept."""
        held = self._pick(index)
        if held is None:
            return
        held.change(content)
        deadline = None if held.state is None else held.state.deadline
        try:
            await self.objects.save(held.thing, force=True)
        except kv.ValidationError:
            assert deadline is not None
            assert deadline <= self.clock()
            return
        held.state = self._written(held.key, held.thing, content, deadline)

    async def delete_loaded(self, index: int) -> None:
        """Delete what was loaded, if it is still so."""
        held = self._pick(index)
        if held is None or not self.capabilities.conditional:
            return
        try:
            await self.objects.delete(held.thing)
        except kv.Conflict:
            assert not self._is_current(held)
            return
        assert self._is_current(held)
        self.reference.delete(held.key)
        held.state = None

    async def refresh(self, index: int) -> None:
        """Read an object again."""
        held = self._pick(index)
        if held is None:
            return
        state = self.reference.live(held.key)
        try:
            await self.objects.refresh(held.thing)
        except kv.NotFound:
            assert state is None
            return
        self.check(held.key, held.thing)
        held.state = state

    async def delete_key(self, key: ThingKey) -> None:
        """Delete a record by its key."""
        assert await self.objects.delete(*key) in (self.reference.live(key) is not None, None)
        self.reference.delete(key)

    async def update(self, key: ThingKey, note: str) -> None:
        """Change a record, if there is one."""
        if not self.capabilities.conditional:
            return
        state = self.reference.live(key)
        try:
            thing = await self.objects.update(*key, count=lambda count: count + 1, note=note)
        except kv.NotFound:
            assert state is None
            return
        assert state is not None
        content = attrs.evolve(state.content, count=state.content.count + 1, note=note)
        self._written(key, thing, content, state.deadline)

    async def expire(self, key: ThingKey, span: timedelta | None) -> None:
        """Change a deadline, if there is a record."""
        if not self.capabilities.conditional:
            return
        state, span = self.reference.live(key), self._span(span)
        try:
            await self.objects.expire(*key, expires_in=span)
        except kv.NotFound:
            assert state is None
            return
        assert state is not None
        self.reference.put(key, state.content, self.deadline(span))
        self.check(key, await self.objects.find(*key))

    async def load(self, key: ThingKey) -> None:
        """Read a record in every way, and hold it."""
        state = self.reference.live(key)
        assert await self.objects.exists(*key) is (state is not None)
        self.check(key, await self.objects.find(*key))
        try:
            thing = await self.objects.get(*key)
        except kv.NotFound:
            assert state is None
            return
        self.check(key, thing)
        self._hold(key, thing, state)

    def _hold(self, key: ThingKey, thing: Thing, state: State | None) -> None:
        self._held.append(_Held(thing, key, state))

    def _pick(self, index: int) -> _Held | None:
        """Answer one of the objects that were held last."""
        return self._held[-1 - index % len(self._held)] if self._held else None

    def _written(self, key: ThingKey, thing: Thing, content: Content, deadline: int | None) -> State:
        state = self.reference.put(key, content, deadline)
        assert Content.of(thing) == content
        self.check_state(key, thing, state)
        return state

    def _is_current(self, held: _Held) -> bool:
        """Whether the record is what this object was loaded from."""
        return held.state is not None and self.reference.number(held.key) == held.state.number

    def _span(self, span: timedelta | None) -> timedelta | None:
        return None if self.capabilities.expiry is kv.Expiry.NONE else span

    # --- many records -------------------------------------------------------------------------------------------------

    async def save_many(self, things: list[tuple[ThingKey, Content]]) -> None:
        """Write many; the last of two under one key stays."""
        assert await self.objects.save_many([content.thing(key) for key, content in things]) == len(things)
        for key, content in things:
            self.reference.put(key, content, None)
        await self.check_keys([key for key, _ in things])

    async def read_range(self, bounds: Bounds, size: int) -> None:
        """Read a range as a list, as a stream, in pages, and count it."""
        if not self.capabilities.ordered:
            return
        bounds = self.possible(bounds)
        query, expected = bounds.query(self.objects), bounds.pick(self.reference.keys())
        self.check_all(expected, await query)
        self.check_all(expected, [thing async for thing in query])
        assert await query.count() == len(expected)
        if bounds.limit is None:
            self.check_all(expected, await self._pages(query, size))

    async def _pages(self, query: kv.Range[Thing], size: int) -> list[Thing]:
        page = await query.page(size)
        found = list(page.items)
        while page.next_token is not None:
            page = await query.page(size, page.next_token)
            assert page.items
            found += page.items
        return found

    async def delete_range(self, bounds: Bounds) -> None:
        """Delete a range."""
        if not self.capabilities.ordered:
            return
        bounds = self.possible(bounds)
        expected = bounds.pick(self.reference.keys())
        assert await bounds.query(self.objects).delete() == len(expected)
        for key in expected:
            self.reference.delete(key)

    async def scan(self) -> None:
        """Read the whole table."""
        if not self.capabilities.scan_table:
            return
        found = [thing async for thing in self.objects.scan()]
        keys = keys_of(found)
        assert len(set(keys)) == len(keys)
        assert set(keys) == set(self.reference.keys())
        self.check_all(keys, found)

    # --- time ---------------------------------------------------------------------------------------------------------

    async def advance(self, span: timedelta) -> None:
        """Let time pass."""
        self.clock.advance(span)

    async def purge(self) -> None:
        """Remove what has expired."""
        removed = await self.db.purge_expired(Thing, force=not self.capabilities.conditional)
        if self.capabilities.expiry is kv.Expiry.EMULATED:
            assert removed == self.reference.dead()
        self.reference.purge()
