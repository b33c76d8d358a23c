"""What a database should do, as plain Python: a dictionary, a clock, and the rules of the design.

:mod:`kvmodel.testing.machine` drives it beside a real database. It is written from the promises alone: it keeps every
state that ever was, and does not know how a unit of work does what it does, only what it may show, and when it has to
fail, may fail and must not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import attrs

import kvmodel as kv

__all__ = ["Bounds", "Content", "Reference", "Shadow", "State", "Thing", "ThingKey"]


class Thing(kv.Model, table="things"):
    """What the machine stores. The second component counts downwards."""

    shelf: str = kv.partition_key()
    kind: str = kv.clustering_key()
    at: int = kv.clustering_key(descending=True)
    count: int = 0
    note: str | None = None
    tags: list[str] = kv.field(factory=list)


ThingKey: TypeAlias = tuple[str, str, int]


@attrs.frozen
class Content:
    """The fields outside the key."""

    count: int
    note: str | None
    tags: tuple[str, ...]

    @classmethod
    def of(cls, thing: Thing) -> Content:
        """Answer what is in an object."""
        return cls(thing.count, thing.note, tuple(thing.tags))

    def thing(self, key: ThingKey) -> Thing:
        """Answer a new object with this in it."""
        return Thing(*key, count=self.count, note=self.note, tags=list(self.tags))


@attrs.frozen
class State:
    """One state of one record. Its number is its version; no other state has it."""

    number: int
    content: Content
    deadline: int | None


@attrs.frozen
class Bounds:
    """The bounds of a range, as they are given to it."""

    shelf: str
    given: Mapping[str, Any]
    reverse: bool = False
    limit: int | None = None

    def query(self, objects: Any) -> kv.Range[Thing]:
        """Answer the range of a repository."""
        query: kv.Range[Thing] = objects.range(self.shelf, **self.given, reverse=self.reverse, limit=self.limit)
        return query

    def without_limit(self) -> Bounds:
        """Answer the same bounds, for all of what is between them."""
        return attrs.evolve(self, limit=None)

    def pick(self, keys: Iterator[ThingKey]) -> list[ThingKey]:
        """Answer what is inside, in order."""
        inside = sorted(filter(self.lets_in, keys), key=_order, reverse=self.reverse)
        return inside[: self.limit]

    def lets_in(self, key: ThingKey) -> bool:
        """Whether a key is inside."""
        return key[0] == self.shelf and all(self._passes(name, bound, key) for name, bound in self.given.items())

    def _passes(self, name: str, bound: Any, key: ThingKey) -> bool:
        parts = bound if isinstance(bound, tuple) else (bound,)
        mine, theirs = _order(key)[1 : len(parts) + 1], _order((self.shelf, *parts))[1:]
        match name:
            case "first":
                return mine >= theirs
            case "after":
                return mine > theirs
            case "last":
                return mine <= theirs
            case "before":
                return mine < theirs
            case _:
                return mine == theirs if isinstance(bound, tuple) else key[1].startswith(bound)


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Answer something that sorts as keys do."""
    return (*key[:2], *(-at for at in key[2:]))


class Reference:
    """The records as they should be, and every state that they had.

    Args:
        now: The clock of the database.
    """

    def __init__(self, now: Any) -> None:
        self.now = now
        self._stored: dict[ThingKey, State] = {}
        self._states: list[State] = []

    def live(self, key: ThingKey) -> State | None:
        """Answer the state of a record, if it is there and has not expired."""
        state = self._stored.get(key)
        return None if state is None or self._is_dead(state) else state

    def number(self, key: ThingKey) -> int | None:
        """Answer the number of a record's state, ``None`` for absence."""
        state = self.live(key)
        return None if state is None else state.number

    def put(self, key: ThingKey, content: Content, deadline: int | None) -> State:
        """Give a record a new state."""
        state = self._stored[key] = State(len(self._states), content, deadline)
        self._states.append(state)
        return state

    def state(self, number: int) -> State:
        """Answer a state that was, or is."""
        return self._states[number]

    def delete(self, key: ThingKey) -> None:
        """Remove a record."""
        self._stored.pop(key, None)

    def keys(self) -> Iterator[ThingKey]:
        """Give the keys of all that live."""
        return (key for key, state in self._stored.items() if not self._is_dead(state))

    def dead(self) -> int:
        """Answer how many records have expired and were not purged."""
        return sum(map(self._is_dead, self._stored.values()))

    def purge(self) -> None:
        """Remove what has expired."""
        self._stored = {key: state for key, state in self._stored.items() if not self._is_dead(state)}

    def _is_dead(self, state: State) -> bool:
        return state.deadline is not None and state.deadline <= self.now()


@attrs.define(eq=False)
class _Seen:
    """A range that a unit read.

    Attributes:
        shown: What it answered: keys, with the numbers of the states that the unit did not make itself.
        inside: The numbers of all states between the bounds, whether the unit saw them or not.
    """

    bounds: Bounds
    added: frozenset[ThingKey]
    removed: frozenset[ThingKey]
    shown: list[tuple[ThingKey, int | None]]
    inside: dict[ThingKey, int | None]


@attrs.define(eq=False)
class Shadow:
    """What a unit of work should know and mean to do.

    Attributes:
        seen: The number of the state that was read under a key, ``None`` for absence.
        views: What the unit shows under a key: a content, or ``None`` for nothing.
        wants_free: Keys that were added without a look.
        loaded: The state that an object of the unit came from.
        deadlines: Deadlines that the unit set.
        written: Keys that were put or deleted, whatever became of that later.
    """

    reference: Reference
    seen: dict[ThingKey, int | None] = attrs.field(factory=dict)
    views: dict[ThingKey, Content | None] = attrs.field(factory=dict)
    wants_free: set[ThingKey] = attrs.field(factory=set)
    loaded: dict[ThingKey, State] = attrs.field(factory=dict)
    deadlines: dict[ThingKey, int | None] = attrs.field(factory=dict)
    written: set[ThingKey] = attrs.field(factory=set)
    ranges: list[_Seen] = attrs.field(factory=list)

    # --- reading ------------------------------------------------------------------------------------------------------

    def knows(self, key: ThingKey) -> bool:
        """Whether the unit answers for a key by itself."""
        return key in self.views or (key in self.seen and self.seen[key] is None)

    def view(self, key: ThingKey) -> Content | None:
        """Answer what the unit shows under a key that it knows."""
        return self.views.get(key)

    def saw(self, key: ThingKey, state: State | None) -> None:
        """Take down what was read under a key."""
        self.seen[key] = None if state is None else state.number
        if state is not None:
            self.views[key] = state.content
            self.loaded[key] = state

    def merged(self, bounds: Bounds) -> list[tuple[ThingKey, int | None]]:
        """Answer what a range shows now, and with it what it relies on from now on."""
        added = frozenset(key for key in self.written if self.views[key] is not None)
        removed = frozenset(key for key in self.written if self.views[key] is None)
        shown = self._show(bounds, added, removed)
        self.ranges.append(_Seen(bounds, added, removed, shown, self._inside(bounds)))
        return shown

    def _show(
        self, bounds: Bounds, added: frozenset[ThingKey], removed: frozenset[ThingKey]
    ) -> list[tuple[ThingKey, int | None]]:
        keys = (set(self.reference.keys()) | added) - removed
        picked = bounds.pick(iter(keys))
        return [(key, None if key in added else self.reference.number(key)) for key in picked]

    def _inside(self, bounds: Bounds) -> dict[ThingKey, int | None]:
        picked = bounds.without_limit().pick(self.reference.keys())
        return {key: self.reference.number(key) for key in picked}

    # --- changing -----------------------------------------------------------------------------------------------------

    def put(self, key: ThingKey, content: Content, *, free: bool) -> None:
        """Mean to write a new object."""
        if free and key not in self.seen and key not in self.written:
            self.wants_free.add(key)
        self.views[key] = content
        self.loaded.pop(key, None)
        self.deadlines.pop(key, None)
        self.written.add(key)

    def delete(self, key: ThingKey) -> None:
        """Mean to delete a record that the unit shows."""
        self.views[key] = None
        self.written.add(key)

    # --- at commit ----------------------------------------------------------------------------------------------------

    def changes(self) -> dict[ThingKey, tuple[Content, int | None] | None]:
        """Answer what a commit writes: a content and a deadline, or ``None`` for a deletion."""
        changes: dict[ThingKey, tuple[Content, int | None] | None] = {}
        for key, view in self.views.items():
            state = self.loaded.get(key)
            if view is None:
                if not (key in self.wants_free or (key in self.seen and self.seen[key] is None)):
                    changes[key] = None
            elif key in self.written or key in self.deadlines or state is None or view != state.content:
                deadline = state.deadline if state is not None else None
                changes[key] = view, self.deadlines.get(key, deadline)
        return changes

    def must_fail(self) -> bool:
        """Whether something that the unit showed or relied on is not so any more."""
        return (
            any(self.reference.number(key) != number for key, number in self.seen.items())
            or any(self.reference.live(key) is not None for key in self.wants_free)
            or any(self._show(seen.bounds, seen.added, seen.removed) != seen.shown for seen in self.ranges)
        )

    def may_fail(self) -> bool:
        """Whether anything at all has changed in what the unit looked at."""
        return self.must_fail() or any(self._inside(seen.bounds) != seen.inside for seen in self.ranges)
