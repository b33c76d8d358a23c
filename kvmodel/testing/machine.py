"""Random programs: a database and its model in plain Python, driven side by side by Hypothesis.

``make_machine(open_database)`` answers a class for ``hypothesis.stateful.run_state_machine_as_test``. Its programs
create, save, update, delete and expire records, read them in every way, let time pass, and run units of work that
interleave. What the store denies is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.players import Player
from kvmodel.testing.reference import Bounds, Content, ThingKey
from kvmodel.testing.unit_players import UnitPlayer

__all__ = ["OpenDatabase", "make_machine"]

OpenDatabase = Callable[[VirtualClock], Awaitable[kv.Database]]
"""Opens a database that holds nothing of ours, with this clock."""

_SHELVES = ("s", "t")
_KINDS = ("", "a", "a\0", "b")
_PLACES = (-(2**70), 0, 1)
_ALL_KEYS: list[ThingKey] = [(shelf, kind, place) for shelf in _SHELVES for kind in _KINDS for place in _PLACES]

_HOT_KEYS: list[ThingKey] = [("s", "a", 0), ("s", "a", 1), ("s", "a\0", 0), ("t", "a", 0)]
"""These come often, so that programs get in their own way."""

_keys = st.sampled_from(_HOT_KEYS) | st.sampled_from(_ALL_KEYS)

_contents = st.builds(
    Content,
    st.integers(0, 2) | st.integers(),
    st.none() | st.text(max_size=3),
    st.lists(st.text(max_size=2), max_size=2).map(tuple),
)
_spans = st.none() | st.sampled_from([timedelta(microseconds=1), timedelta(seconds=5), timedelta(days=1)])
_indices = st.integers(0, 5)


def _ends(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """One bound, as a value, as a tuple of one, or as a whole clustering key."""
    kinds = st.sampled_from((*_KINDS, "aa", "z"))
    values = kinds | st.tuples(kinds) | st.tuples(kinds, st.sampled_from(_PLACES))
    return values.map(lambda value: {name: value})


_open: st.SearchStrategy[dict[str, Any]] = st.just({})
_prefixes = st.sampled_from(("a", "b", "z", ("a",), ("a\0",), ("a", 0))).map(lambda value: {"prefix": value})
_bounds = st.builds(
    lambda shelf, lower, upper, prefix, reverse, limit: Bounds(shelf, lower | upper | prefix, reverse, limit),
    st.sampled_from(_SHELVES),
    st.one_of(_open, _ends("first"), _ends("after")),
    st.one_of(_open, _ends("last"), _ends("before")),
    st.one_of(_open, _open, _prefixes),
    st.booleans(),
    st.none() | st.integers(0, 4),
)


class Action(NamedTuple):
    """One thing to do: the name of a player's method, and what it is given."""

    name: str
    given: tuple[Any, ...]


def _action(name: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    return st.builds(Action, st.just(name), st.tuples(*given))


_outside = st.one_of(
    _action("create", _keys, _contents, _spans),
    _action("save_new", _keys, _contents, _spans),
    _action("save_loaded", _indices, _contents),
    _action("save_forced", _indices, _contents),
    _action("delete_loaded", _indices),
    _action("refresh", _indices),
    _action("delete_key", _keys),
    _action("update", _keys, st.text(max_size=3)),
    _action("expire", _keys, _spans),
    _action("load", _keys),
    _action("save_many", st.lists(st.tuples(_keys, _contents), max_size=5)),
    _action("advance", st.sampled_from([timedelta(microseconds=1), timedelta(seconds=1), timedelta(seconds=10)])),
)
_inside = st.one_of(
    _action("unit_reads", _keys),
    _action("unit_changes", _keys, st.integers(0, 2)),
    _action("unit_puts", _keys, _contents, st.booleans()),
    _action("unit_deletes", _keys),
    _action("unit_expires", _keys, _spans),
    _action("unit_reads_range", _bounds),
    _action("unit_reads_range", _bounds),
    _action("commit"),
)
_UNITS = 3
_interleaved = st.lists(
    st.tuples(st.none(), _outside) | st.tuples(st.integers(0, _UNITS - 1), _inside), min_size=2, max_size=15
)


class _Machine(RuleBasedStateMachine):
    """One program. :func:`make_machine` says where."""

    open_database: OpenDatabase

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        clock = VirtualClock()
        self.player = Player(await type(self).open_database(clock), clock)

    def teardown(self) -> None:
        """Compare all that is left, and close everything."""
        try:
            self._run(self.player.check_keys(self._fitted(_ALL_KEYS)))
            self._run(self.player.scan())
        finally:
            self._run(self.player.db.close())
            self._run(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(coroutine)

    @initialize(span=_spans)
    def fill(self, span: timedelta | None) -> None:
        """Begin with a few records."""
        things = zip(_HOT_KEYS, (None, span, None, span), strict=True)
        self._run(self._play_all([Action("save_new", (key, Content(1, None, ()), span)) for key, span in things]))

    @rule(actions=st.lists(_outside, min_size=1, max_size=8))
    def change(self, actions: list[Action]) -> None:
        """Change and read single records, and let time pass."""
        self._run(self._play_all(actions))

    async def _play_all(self, actions: list[Action]) -> None:
        for action in actions:
            await self.player.play(action.name, *self._fitted(action.given))

    def _fitted(self, value: Any) -> Any:
        """Have keys hold no empty text where the store takes none, and nothing hold what typed columns don't take."""
        capabilities = self.player.capabilities
        if capabilities.empty_texts and not capabilities.typed_columns:
            return value
        if isinstance(value, list):
            return [self._fitted(each) for each in value]
        if isinstance(value, Content):
            return Content(self._fitted(value.count), self._fitted(value.note), self._fitted(value.tags))
        if type(value) is not tuple:
            return _narrowed(value) if capabilities.typed_columns else value
        if not capabilities.empty_texts and len(value) == 3 and value[0] in _SHELVES and value[1] == "":
            return (value[0], "\0", value[2])
        return tuple(map(self._fitted, value))

    @precondition(lambda self: self.player.capabilities.ordered)
    @rule(bounds=_bounds, size=st.integers(1, 5))
    def read_range(self, bounds: Bounds, size: int) -> None:
        """Read a range in every way."""
        self._run(self.player.read_range(bounds, size))

    @precondition(lambda self: self.player.capabilities.ordered)
    @rule(bounds=_bounds)
    def delete_range(self, bounds: Bounds) -> None:
        """Delete a range."""
        self._run(self.player.delete_range(bounds))

    @rule()
    def sweep(self) -> None:
        """Purge what has expired, and read the whole table."""
        self._run(self.player.purge())
        self._run(self.player.scan())

    @precondition(lambda self: self.player.capabilities.conditional)
    @rule(
        verifies=st.tuples(*[st.booleans()] * _UNITS),
        homes=st.tuples(*[_keys] * _UNITS),
        program=_interleaved,
        order=st.permutations(range(_UNITS)),
    )
    def race(
        self,
        verifies: tuple[bool, ...],
        homes: tuple[ThingKey, ...],
        program: list[tuple[int | None, Action]],
        order: list[int],
    ) -> None:
        """Run units of work that interleave, with each other and with what happens outside of them."""
        self._run(self._race(verifies, homes, program, order))

    async def _race(
        self,
        verifies: tuple[bool, ...],
        homes: tuple[ThingKey, ...],
        program: list[tuple[int | None, Action]],
        order: list[int],
    ) -> None:
        units = []
        for verify, home in zip(verifies, self._fitted(homes), strict=True):
            unit = await self.player.db.unit_of_work(verify=verify).begin()
            units.append(UnitPlayer(self.player, unit, verify=verify, home=home))
        for number, action in program:
            player = self.player if number is None else units[number]
            await player.play(action.name, *self._fitted(action.given))
        for number in order:
            await units[number].commit()


def _narrowed(value: Any) -> Any:
    """Answer what a typed column takes in place of a value."""
    if isinstance(value, str):
        return value.replace("\0", "\1")
    return max(-(2**63), min(value, 2**63 - 1)) if type(value) is int else value


def make_machine(open_database: OpenDatabase) -> type[RuleBasedStateMachine]:
    """Answer a state machine for the databases that ``open_database`` opens; one for each program, closed by it.

    The database has to be the only user of its namespace, and to take its time from the clock that it is given.
    """
    return type("Machine", (_Machine,), {"open_database": staticmethod(open_database)})
