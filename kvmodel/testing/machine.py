"""Random programs: a database and its model in plain Python, driven side by side by Hypothesis.

``make_machine(open_database)`` answers a class for ``hypothesis.stateful.run_state_machine_as_test``, or its ``TestCase``
for pytest. Programs create, save, update, delete and expire records, read them in every way, let time pass, and run units
of work that interleave. What the store denies is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, precondition, rule

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.reference import Bounds, Content, Reference, Shadow, State, Thing, ThingKey

__all__ = ["OpenDatabase", "make_machine"]

T = TypeVar("T")

OpenDatabase = Callable[[VirtualClock], Awaitable[kv.Database]]
"""Opens a database that holds nothing of ours, with this clock."""

_SHELVES = ("s", "t")
_KINDS = ("", "a", "a\0", "ab", "b")
_PLACES = (-(2**70), -1, 0, 1)

_keys = st.tuples(st.sampled_from(_SHELVES), st.sampled_from(_KINDS), st.sampled_from(_PLACES))
_contents = st.builds(
    Content,
    st.integers(-5, 5) | st.integers(),
    st.none() | st.text(max_size=3),
    st.lists(st.text(max_size=2), max_size=2).map(tuple),
)
_spans = st.none() | st.sampled_from([timedelta(microseconds=1), timedelta(seconds=1), timedelta(seconds=5)])


def _ends(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """One bound, as a value, as a tuple of one, or as a whole clustering key."""
    kinds = st.sampled_from((*_KINDS, "aa", "z"))
    values = kinds | st.tuples(kinds) | st.tuples(kinds, st.sampled_from(_PLACES))
    return values.map(lambda value: {name: value})


_none: st.SearchStrategy[dict[str, Any]] = st.just({})
_bounds = st.builds(
    lambda shelf, lower, upper, prefix, reverse, limit: Bounds(shelf, lower | upper | prefix, reverse, limit),
    st.sampled_from(_SHELVES),
    st.one_of(_none, _ends("first"), _ends("after")),
    st.one_of(_none, _ends("last"), _ends("before")),
    st.one_of(_none, _none, _ends("prefix")),
    st.booleans(),
    st.none() | st.integers(0, 4),
)


@attrs.define(eq=False)
class _Held:
    """An object that the program holds, and the state of its record that it stands for; ``None`` once deleted."""

    thing: Thing
    key: ThingKey
    state: State | None


@attrs.define(eq=False)
class _Running:
    """A unit of work, and what it should know."""

    unit: kv.UnitOfWork
    shadow: Shadow
    verify: bool
    home: ThingKey
    objects: dict[ThingKey, Thing] = attrs.field(factory=dict)


class _Machine(RuleBasedStateMachine):
    """What every machine can do. :func:`make_machine` adds where."""

    open_database: Callable[[VirtualClock], Awaitable[kv.Database]]

    held = Bundle("held")
    units = Bundle("units")

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.loop = asyncio.new_event_loop()
        self.db = self.run(self._open())
        self.capabilities = self.db.capabilities
        self.objects = Thing.objects.using(self.db, outside=True)
        self.reference = Reference(self.clock)
        self.tokens: dict[tuple[ThingKey, str], int] = {}

    async def _open(self) -> kv.Database:
        return await type(self).open_database(self.clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, in the one event loop of this program."""
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        """Compare all that is left, and close everything."""
        try:
            self.run(self._compare_everything())
        finally:
            self.run(self.db.close())
            self.run(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _compare_everything(self) -> None:
        keys = [(shelf, kind, place) for shelf in _SHELVES for kind in _KINDS for place in _PLACES]
        for key, thing in zip(keys, await self.objects.get_many(keys), strict=True):
            self.check(key, thing)

    # --- what is compared ---------------------------------------------------------------------------------------------

    def check(self, key: ThingKey, thing: Thing | None) -> None:
        """Compare what was read with what should be there."""
        state = self.reference.live(key)
        assert (None if thing is None else Content.of(thing)) == (None if state is None else state.content)
        if thing is not None and state is not None:
            assert (thing.shelf, thing.kind, thing.at) == key
            self.check_state(key, thing, state)

    def check_state(self, key: ThingKey, thing: Thing, state: State) -> None:
        """Compare version and deadline. Each state of a record has a token that never comes back for another."""
        assert self.tokens.setdefault((key, kv.version(thing)), state.number) == state.number
        until = kv.expires_at(thing)
        assert (None if until is None else VirtualClock(until)()) == state.deadline

    def deadline(self, span: timedelta | None) -> int | None:
        """Answer when a span that begins now is over."""
        return None if span is None else self.clock() + span // timedelta(microseconds=1)

    def span(self, span: timedelta | None) -> dict[str, Any]:
        """Answer the arguments for a deadline; none where the store has no deadlines."""
        return {} if self.capabilities.expiry is kv.Expiry.NONE else {"expires_in": span}

    # --- single records -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.capabilities.conditional)
    @rule(target=held, key=_keys, content=_contents, span=_spans)
    def create(self, key: ThingKey, content: Content, span: timedelta | None) -> _Held:
        """Create a record, if its key is free."""
        thing = content.thing(key)
        options = self.span(span)
        try:
            self.run(self.objects.create(thing, **options))
        except kv.AlreadyExists:
            assert self.reference.live(key) is not None
            return self._load(key)
        assert self.reference.live(key) is None
        return self._written(key, thing, content, self.deadline(options.get("expires_in")))

    @rule(target=held, key=_keys, content=_contents, span=_spans)
    def save_new(self, key: ThingKey, content: Content, span: timedelta | None) -> _Held:
        """Write a record, whatever is there."""
        thing = content.thing(key)
        options = self.span(span)
        self.run(self.objects.save(thing, **options))
        return self._written(key, thing, content, self.deadline(options.get("expires_in")))

    @precondition(lambda self: self.capabilities.conditional)
    @rule(held=held, content=_contents)
    def save_loaded(self, held: _Held, content: Content) -> None:
        """Replace what was loaded, if it is still so."""
        held.thing.count, held.thing.note, held.thing.tags = content.count, content.note, list(content.tags)
        try:
            self.run(self.objects.save(held.thing))
        except kv.Conflict:
            assert not self._is_current(held)
            return
        assert held.state is not None
        assert self._is_current(held)
        held.state = self._written(held.key, held.thing, content, held.state.deadline).state

    @rule(held=held, content=_contents)
    def save_forced(self, held: _Held, content: Content) -> None:
        """Replace whatever is there; the deadline of what was loaded is kept."""
        held.thing.count, held.thing.note, held.thing.tags = content.count, content.note, list(content.tags)
        self.run(self.objects.save(held.thing, force=True))
        deadline = None if held.state is None else held.state.deadline
        held.state = self._written(held.key, held.thing, content, deadline).state

    @precondition(lambda self: self.capabilities.conditional)
    @rule(held=held)
    def delete_loaded(self, held: _Held) -> None:
        """Delete what was loaded, if it is still so."""
        try:
            self.run(self.objects.delete(held.thing))
        except kv.Conflict:
            assert not self._is_current(held)
            return
        assert self._is_current(held)
        self.reference.delete(held.key)
        held.state = None

    @rule(held=held)
    def refresh(self, held: _Held) -> None:
        """Read an object again."""
        state = self.reference.live(held.key)
        try:
            self.run(self.objects.refresh(held.thing))
        except kv.NotFound:
            assert state is None
            return
        self.check(held.key, held.thing)
        held.state = state

    @rule(key=_keys)
    def delete_key(self, key: ThingKey) -> None:
        """Delete a record by its key."""
        assert self.run(self.objects.delete(*key)) in (self.reference.live(key) is not None, None)
        self.reference.delete(key)

    @precondition(lambda self: self.capabilities.conditional)
    @rule(key=_keys, note=st.text(max_size=3))
    def update(self, key: ThingKey, note: str) -> None:
        """Change a record, if there is one."""
        state = self.reference.live(key)
        try:
            thing = self.run(self.objects.update(*key, count=lambda count: count + 1, note=note))
        except kv.NotFound:
            assert state is None
            return
        assert state is not None
        content = state.content._replace(count=state.content.count + 1, note=note)
        self._written(key, thing, content, state.deadline)

    @precondition(lambda self: self.capabilities.conditional and self.capabilities.expiry is not kv.Expiry.NONE)
    @rule(key=_keys, span=_spans)
    def expire(self, key: ThingKey, span: timedelta | None) -> None:
        """Change a deadline, if there is a record."""
        state = self.reference.live(key)
        try:
            self.run(self.objects.expire(*key, expires_in=span))
        except kv.NotFound:
            assert state is None
            return
        assert state is not None
        self.reference.put(key, state.content, self.deadline(span))
        self.check(key, self.run(self.objects.find(*key)))

    @rule(key=_keys, target=held)
    def load(self, key: ThingKey) -> _Held:
        """Read a record in every way."""
        is_there = self.reference.live(key) is not None
        assert self.run(self.objects.exists(*key)) is is_there
        if not is_there:
            try:
                self.run(self.objects.get(*key))
            except kv.NotFound:
                return self.save_new(key, Content(0, None, ()), None)
            raise AssertionError("what is not there was found")
        return self._load(key)

    def _load(self, key: ThingKey) -> _Held:
        thing = self.run(self.objects.get(*key))
        self.check(key, thing)
        return _Held(thing, key, self.reference.live(key))

    def _written(self, key: ThingKey, thing: Thing, content: Content, deadline: int | None) -> _Held:
        state = self.reference.put(key, content, deadline)
        assert Content.of(thing) == content
        self.check_state(key, thing, state)
        return _Held(thing, key, state)

    def _is_current(self, held: _Held) -> bool:
        """Whether the record is what this object was loaded from."""
        return held.state is not None and self.reference.number(held.key) == held.state.number

    # --- many records -------------------------------------------------------------------------------------------------

    @rule(things=st.lists(st.tuples(_keys, _contents), max_size=6))
    def save_many(self, things: list[tuple[ThingKey, Content]]) -> None:
        """Write many; the last of two under one key stays."""
        made = [content.thing(key) for key, content in things]
        assert self.run(self.objects.save_many(made)) == len(things)
        for key, content in things:
            self.reference.put(key, content, None)
        for key, _ in things:
            self.check(key, self.run(self.objects.find(*key)))

    @rule(keys=st.lists(_keys, max_size=6))
    def get_many(self, keys: list[ThingKey]) -> None:
        """Read many."""
        for key, thing in zip(keys, self.run(self.objects.get_many(keys)), strict=True):
            self.check(key, thing)

    @precondition(lambda self: self.capabilities.ordered)
    @rule(bounds=_bounds, size=st.integers(1, 5))
    def read_range(self, bounds: Bounds, size: int) -> None:
        """Read a range as a list, as a stream, in pages, and count it."""
        bounds = self._possible(bounds)
        query = bounds.query(self.objects)
        expected = bounds.pick(self.reference.keys())
        self._check_all(expected, self.run(self._list(query)))
        self._check_all(expected, self.run(self._stream(query)))
        assert self.run(query.count()) == len(expected)
        if bounds.limit is None:
            self._check_all(expected, self.run(self._pages(query, size)))

    @precondition(lambda self: self.capabilities.ordered)
    @rule(bounds=_bounds)
    def delete_range(self, bounds: Bounds) -> None:
        """Delete a range."""
        bounds = self._possible(bounds)
        expected = bounds.pick(self.reference.keys())
        assert self.run(bounds.query(self.objects).delete()) == len(expected)
        for key in expected:
            self.reference.delete(key)

    @precondition(lambda self: self.capabilities.scan_table)
    @rule()
    def scan(self) -> None:
        """Read the whole table."""
        found = self.run(self._stream(self.objects.scan()))
        keys = [(thing.shelf, thing.kind, thing.at) for thing in found]
        assert len(set(keys)) == len(keys)
        assert set(keys) == set(self.reference.keys())
        self._check_all(keys, found)

    def _check_all(self, keys: list[ThingKey], things: list[Thing]) -> None:
        assert [(thing.shelf, thing.kind, thing.at) for thing in things] == keys
        for key, thing in zip(keys, things, strict=True):
            self.check(key, thing)

    def _possible(self, bounds: Bounds) -> Bounds:
        """Answer bounds that the store can read."""
        native = self.capabilities.reverse is kv.Reverse.NATIVE
        return bounds if native else attrs.evolve(bounds, reverse=False)

    async def _list(self, query: kv.Range[Thing]) -> list[Thing]:
        return await query

    async def _stream(self, query: kv.Range[Thing]) -> list[Thing]:
        return [thing async for thing in query]

    async def _pages(self, query: kv.Range[Thing], size: int) -> list[Thing]:
        page = await query.page(size)
        found = list(page.items)
        while page.next_token is not None:
            page = await query.page(size, page.next_token)
            assert page.items
            found += page.items
        return found

    # --- time ---------------------------------------------------------------------------------------------------------

    @rule(span=st.sampled_from([timedelta(microseconds=1), timedelta(seconds=1), timedelta(seconds=10)]))
    def advance(self, span: timedelta) -> None:
        """Let time pass."""
        self.clock.advance(span)

    @rule()
    def purge(self) -> None:
        """Remove what has expired."""
        removed = self.run(self.db.purge_expired(Thing))
        if self.capabilities.expiry is kv.Expiry.EMULATED and self.capabilities.scan_table:
            assert removed == self.reference.dead()
        self.reference.purge()

    # --- units of work ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.capabilities.conditional)
    @rule(target=units, verify=st.booleans(), home=_keys)
    def begin(self, verify: bool, home: ThingKey) -> _Running:
        """Begin a unit. Where the store needs it, it keeps to one partition or one record: its home."""
        unit = self.db.unit_of_work(verify=verify)
        self.run(unit.begin())
        return _Running(unit, Shadow(self.reference), verify, home)

    @rule(running=units, key=_keys)
    def unit_reads(self, running: _Running, key: ThingKey) -> None:
        """Read a record in a unit."""
        self._in_unit(running, self._see(running, self._reachable(running, key)))

    @rule(running=units, key=_keys, count=st.integers(0, 2))
    def unit_changes(self, running: _Running, key: ThingKey, count: int) -> None:
        """Change an object in a unit, without a word about it; maybe to what it was."""
        key = self._reachable(running, key)
        if self._in_unit(running, self._see(running, key)):
            content = running.shadow.view(key)
            if content is not None:
                thing = running.objects[key]
                thing.count = count
                thing.tags.append("x")
                if count == 0:
                    thing.tags.pop()
                running.shadow.views[key] = Content.of(thing)

    @rule(running=units, key=_keys, content=_contents, free=st.booleans())
    def unit_puts(self, running: _Running, key: ThingKey, content: Content, free: bool) -> None:
        """Put an object, which may want its key to be free."""
        key, shadow = self._reachable(running, key), running.shadow
        thing = content.thing(key)

        async def put() -> None:
            try:
                (running.unit.add if free else running.unit.put)(thing)
            except kv.AlreadyExists:
                assert free
                assert shadow.view(key) is not None
            else:
                assert not free or shadow.view(key) is None
                shadow.put(key, content, free=free)
                running.objects[key] = thing

        self._in_unit(running, put())

    @rule(running=units, key=_keys)
    def unit_deletes(self, running: _Running, key: ThingKey) -> None:
        """Delete a record by its key, in a unit."""
        key = self._reachable(running, key)

        async def delete() -> None:
            await self._see(running, key)
            existed = await Thing.objects.using(running.unit).delete(*key)
            assert existed is (running.shadow.view(key) is not None)
            if existed:
                running.shadow.delete(key)

        self._in_unit(running, delete())

    @precondition(lambda self: self.capabilities.expiry is not kv.Expiry.NONE)
    @rule(running=units, key=_keys, span=_spans)
    def unit_expires(self, running: _Running, key: ThingKey, span: timedelta | None) -> None:
        """Change a deadline in a unit."""
        key = self._reachable(running, key)

        async def expire() -> None:
            await self._see(running, key)
            try:
                await Thing.objects.using(running.unit).expire(*key, expires_in=span)
            except kv.NotFound:
                assert running.shadow.view(key) is None
            else:
                assert running.shadow.view(key) is not None
                running.shadow.deadlines[key] = self.deadline(span)

        self._in_unit(running, expire())

    @precondition(lambda self: self.capabilities.range_checks and self.capabilities.atomicity > kv.Atomicity.RECORD)
    @rule(running=units, bounds=_bounds)
    def unit_reads_range(self, running: _Running, bounds: Bounds) -> None:
        """Read a range in a unit."""
        bounds = self._possible(bounds)
        if self.capabilities.atomicity is kv.Atomicity.PARTITION:
            bounds = attrs.evolve(bounds, shelf=running.home[0])
        self._in_unit(running, self._see_range(running, bounds))

    @rule(running=consumes(units))
    def commit(self, running: _Running) -> None:
        """Commit, or fail where something that the unit relied on has changed."""
        shadow = running.shadow
        changes = shadow.changes()
        relies = bool(changes) or (running.verify and bool(shadow.seen or shadow.ranges or shadow.wants_free))
        try:
            self.run(running.unit.commit())
        except kv.Conflict:
            assert relies
            assert shadow.may_fail()
            return
        except kv.TooLarge:
            assert (self.capabilities.max_atomic_changes, self.capabilities.max_atomic_checks) != (None, None)
            return
        except kv.Closed:
            return
        assert not (relies and shadow.must_fail())
        for key, change in changes.items():
            if change is None:
                self.reference.delete(key)
            else:
                self.reference.put(key, *change)
        for key in changes:
            self.check(key, self.run(self.objects.find(*key)))

    @rule(running=consumes(units))
    def rollback(self, running: _Running) -> None:
        """Forget a unit."""
        try:
            self.run(running.unit.rollback())
        except kv.Closed:
            return

    def _reachable(self, running: _Running, key: ThingKey) -> ThingKey:
        match self.capabilities.atomicity:
            case kv.Atomicity.RECORD:
                return running.home
            case kv.Atomicity.PARTITION:
                return (running.home[0], *key[1:])
            case _:
                return key

    def _in_unit(self, running: _Running, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Do something in a unit; answer whether it goes on. It may notice by itself that something has changed."""
        try:
            self.run(coroutine)
        except kv.Conflict:
            assert running.shadow.may_fail()
            self.run(running.unit.rollback())
            return False
        except kv.Closed:
            return False
        return True

    async def _see(self, running: _Running, key: ThingKey) -> None:
        """Let a unit read a record, and compare with what it should show."""
        shadow = running.shadow
        known = shadow.knows(key)
        thing = await Thing.objects.using(running.unit).find(*key)
        if known:
            assert (None if thing is None else Content.of(thing)) == shadow.view(key)
            assert thing is None or thing is running.objects[key]
            return
        self.check(key, thing)
        shadow.saw(key, self.reference.live(key))
        if thing is not None:
            running.objects[key] = thing

    async def _see_range(self, running: _Running, bounds: Bounds) -> None:
        shadow = running.shadow
        stale = shadow.may_fail()
        things = await bounds.query(Thing.objects.using(running.unit))
        if stale:
            return  # It may show what it saw or what is there: it can't commit, unless all it did was reading.
        expected = shadow.merged(bounds)
        assert [(thing.shelf, thing.kind, thing.at) for thing in things] == [key for key, _ in expected]
        for (key, _), thing in zip(expected, things, strict=True):
            if not shadow.knows(key):
                self.check(key, thing)
                shadow.saw(key, self.reference.live(key))
                running.objects[key] = thing
            assert Content.of(thing) == shadow.view(key)
            assert thing is running.objects[key]


def make_machine(open_database: OpenDatabase) -> type[RuleBasedStateMachine]:
    """Answer a state machine for the databases that ``open_database`` opens; one for each program, closed by it.

    The database has to be the only user of its namespace, and to take its time from the clock that it is given.
    """
    return type("Machine", (_Machine,), {"open_database": staticmethod(open_database)})
