"""The operations of a write: what each mutation asserts, and what it changes.

Rules.

* All assertions of a sequence come first, then all changes. No step is used that the server does not undo.
* An operation relies on a head: on the one that its expectation names, or, where 'absent' meets an expired record, on
  that record's head, which was read: it stays expired, so that the same atomic step sees to both.
* A damaged head counts as a record that is there, in a version that nobody holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import attrs

from kvmodel.drivers.arakoon.layout import TableLayout
from kvmodel.drivers.arakoon.steps import Assert, AssertRange, Replace, Set, Step
from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    CheckRange,
    Delete,
    Expectation,
    Key,
    Mutation,
    Version,
)
from kvmodel.errors import TooLarge, Unsupported

__all__ = ["MAX_LISTED", "Operation", "RangeOperation", "RecordOperation", "cover", "too_large"]

MAX_LISTED: Final = 10_000
"""How many keys a range check may have to name. What needs more is refused."""


class _Unread:
    """Nothing was read."""


_UNREAD: Final = _Unread()


@attrs.define(eq=False)
class RecordOperation:
    """One mutation of one record, encoded.

    Attributes:
        mutation: What is meant; ``None`` for the removal of a dead record.
        key, head_key: Where the record and its head lie.
        data: What to store, ``None`` where nothing is.
        head: The head of what is to be stored.
        expect: What it relies on.
        seen: The head that was read, to rely on it instead.
    """

    mutation: Mutation | None
    layout: TableLayout
    key: bytes
    data: bytes | None
    expect: Expectation
    seen: bytes | None | _Unread = _UNREAD
    head: bytes = b""
    head_key: bytes = b""
    _changes: list[Step] | None = None

    def __attrs_post_init__(self) -> None:
        self.head_key = self.layout.head_key(self.key)
        if self.data is not None:
            self.head = self.layout.head(self.data)

    @property
    def puts(self) -> bool:
        """Whether it stores a record."""
        return self.data is not None

    @property
    def is_change(self) -> bool:
        """Whether it stores or removes a record."""
        return self.puts or self.mutation is None or isinstance(self.mutation, Delete)

    @property
    def must_read(self) -> bool:
        """Whether the head has to be read before anything can be asserted: 'present' says nothing of which."""
        return self.expect is PRESENT and isinstance(self.seen, _Unread)

    @property
    def is_conditional(self) -> bool:
        """Whether it relies on anything."""
        return self.expect is not ANYTHING

    @property
    def names_version(self) -> bool:
        """Whether it relies on a version, which never comes back once it is gone."""
        return not isinstance(self.expect, type(ABSENT)) and not self.layout.is_plain

    def asserts(self) -> Iterator[Step]:
        """Yield what has to hold."""
        if self.expect is ANYTHING:
            return
        if not isinstance(self.seen, _Unread):
            yield Assert(self.head_key, self.seen)
        elif self.expect is ABSENT:
            yield Assert(self.head_key, None)
        elif isinstance(self.expect, bytes):
            yield Assert(self.head_key, self.expect)

    def changes(self) -> Sequence[Step]:
        """Answer what changes; always the same steps."""
        if self._changes is None:
            self._changes = list(self._make_changes())
        return self._changes

    def _make_changes(self) -> Iterator[Step]:
        if not self.is_change:
            return
        if self.data is not None:
            yield Set(self.key, self.data)
        else:
            yield Replace(self.key, None)
        if not self.layout.is_plain:
            yield Set(self.head_key, self.head) if self.puts else Replace(self.head_key, None)

    def holds(self, head: bytes | None, now: int) -> bool:
        """Whether the expectation holds of a head that was read; if so, it is what is relied on from now on."""
        if self.expect is ANYTHING:
            return True
        if self.mutation is None:
            return head == self.expect
        alive = self.layout.is_alive(head, now)
        if self.expect is ABSENT:
            good = not alive
        elif self.expect is PRESENT:
            good = alive
        else:
            return alive and head == self.expect
        if good:
            self.seen = head
        return good

    def can_hold(self, now: int) -> bool:
        """Whether the expectation can hold at all: a version that has expired, or is none, can not."""
        if isinstance(self.expect, type(ABSENT)) or self.mutation is None:
            return True
        return isinstance(self.expect, bytes) and self.layout.is_alive(self.expect, now)


@attrs.define(eq=False)
class RangeOperation:
    """The check of a slice, encoded.

    The store can assert which keys begin with a prefix. Where the slice is just that, its own rows say which. Where it
    is less, or an expired record lies in it, the heads below the prefix are read once more, the slice is compared here,
    and the assertion names them all: then it may fail because of a neighbour, and is made again.

    Attributes:
        start, stop: The range of keys that the rows tell about.
        prefix: What all keys in it begin with.
        is_exact: Whether the range has all keys that begin so.
        listed: The heads that were read, by their keys.
    """

    mutation: CheckRange
    layout: TableLayout
    start: bytes
    stop: bytes
    seen: dict[bytes, Version]
    prefix: bytes
    is_exact: bool
    listed: list[tuple[bytes, bytes]] | None = None

    @classmethod
    def make(cls, check: CheckRange, layout: TableLayout) -> RangeOperation:
        """Encode a check."""
        codec = layout.codec
        start, stop = codec.bounds(check.slice)
        seen = {codec.encode_key(key): version for key, version in check.rows}
        if seen and len(seen) == check.slice.limit:
            # What is behind the last row was not seen, and does not matter.
            start, stop = (
                (max(start, min(seen)), stop) if check.slice.reverse else (start, min(stop, max(seen) + b"\0"))
            )
        prefix, is_exact = cover(start, stop)
        return cls(check, layout, start, stop, seen, prefix, is_exact)

    @property
    def is_empty(self) -> bool:
        """Whether no key can be in the slice."""
        return self.start >= self.stop or self.mutation.slice.limit == 0

    @property
    def must_read(self) -> bool:
        """Whether the heads have to be listed before anything can be asserted."""
        return not self.is_empty and not self.is_exact and self.listed is None

    @property
    def head_prefix(self) -> bytes:
        """What the keys of the heads begin with."""
        return self.layout.head_key(self.prefix)

    def asserts(self) -> Iterator[Step]:
        """Yield what has to hold."""
        if self.is_empty:
            return
        layout = self.layout
        if self.listed is None:
            heads = [(layout.head_key(key), version) for key, version in self.seen.items()]
            keys, inside = [key for key, _ in heads], heads
        else:
            keys = [key for key, _ in self.listed]
            inside = [(key, head) for key, head in self.listed if self._is_inside(key)]
        yield AssertRange(self.head_prefix, sorted(keys, reverse=True))
        for key, head in inside:
            yield Assert(key, head if isinstance(head, bytes) else None)

    def changes(self) -> Sequence[Step]:
        """Answer nothing: a check changes nothing."""
        return ()

    def differences(self, listed: list[tuple[bytes, bytes]], now: int) -> list[Key]:
        """Compare with the heads that are there now; answer the keys that entered, left or changed."""
        if len(listed) > MAX_LISTED:
            raise Unsupported(
                f"to check this range the store would have to be told more than {MAX_LISTED} keys: read by a longer"
                " prefix, or with .unchecked()",
                table=self.layout.table.name,
                store="arakoon",
            )
        layout = self.layout
        there = {
            layout.key_of_head(key): head for key, head in listed if self._is_inside(key) and layout.is_alive(head, now)
        }
        limit = self.mutation.slice.limit
        if limit is not None and len(there) > limit:
            kept = sorted(there, reverse=self.mutation.slice.reverse)[:limit]
            there = {key: there[key] for key in kept}
        self.listed = listed
        if there == self.seen:
            return []
        changed = dict.fromkeys(key for key in (*self.seen, *there) if self.seen.get(key) != there.get(key))
        return [layout.codec.decode_key(key) for key in changed]

    def _is_inside(self, head_key: bytes) -> bool:
        return self.start <= self.layout.key_of_head(head_key) < self.stop


Operation: TypeAlias = "RecordOperation | RangeOperation"


def cover(start: bytes, stop: bytes) -> tuple[bytes, bool]:
    """Answer the longest prefix that all keys of a range have, and whether no other keys have it."""
    kept = start.rstrip(b"\xff")
    if kept and stop == kept[:-1] + bytes((kept[-1] + 1,)) and kept == start:
        return start, True
    pairs = zip(start, stop, strict=False)
    common = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(start), len(stop)))
    return start[:common], False


def too_large(operations: Sequence[Operation], size: int, limit: int, store: str) -> TooLarge:
    """Answer the error of a request that the store would not take."""
    mutation = operations[0].mutation if len(operations) == 1 else None
    return TooLarge(
        "this write is larger than the store takes in one request: split it",
        size=size,
        limit=limit,
        table=mutation.table.name if mutation else None,
        key=None if mutation is None or isinstance(mutation, CheckRange) else mutation.key,
        store=store,
    )
