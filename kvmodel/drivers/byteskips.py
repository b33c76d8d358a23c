"""Skip scans of byte stores: the upper levels of a tree, read by going to places instead of past what lies between.

Rules.

* A page is one read transaction, bounded by records and bytes like any other, expired ones included.
* A page ends where the next one can begin: behind a key, and behind what lies under it if that is settled.

Theory of operation. The path is the last component of a key, and a tuple ends with one byte that is lower than the
beginning of any element. So the keys under a node begin with the bytes of its own key but for the last, and what comes
behind them is known without decoding anything. After each node of the deepest level the next key is looked at. If it
lies under that node, the cursor goes behind all that does, and does so at once after the following nodes, since
siblings tend to be alike; the more often that proves right, the longer until it looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from kvmodel.drivers.base import Absent, Key, KeyPart, Row, Slice, Table
from kvmodel.drivers.bytewrites import ReadTransaction
from kvmodel.drivers.facets import Levels, SkipStore
from kvmodel.drivers.meter import spend

if TYPE_CHECKING:
    from kvmodel.drivers.bytestore import ByteStore
    from kvmodel.drivers.formats.codec import ByteCodec

__all__ = ["ByteSkips"]

_PAGE: Final = 256
_PAGE_BYTES: Final = 1 << 20
"""What bounds a page, as any other of a byte store."""

_MOST_LEAPS: Final = 16
_LAST: Final = b"\xff"
"""Comes behind the beginning of any element of a path."""


class ByteSkips(SkipStore):
    """The skip scans of one byte store."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store

    async def skip_scan(
        self, table: Table, slice: Slice, deepest: int, *, values: bool = True, now: int, until: float
    ) -> Levels:
        """Read one page."""
        codec = self._store.codec(table)
        start, stop = codec.bounds(slice)
        if start >= stop or slice.limit == 0:
            return Levels([])
        if slice.after is not None and not slice.reverse and len(_path(slice.after)) == deepest:
            start = max(start, _behind(codec.encode_key(slice.after)))

        def work(txn: ReadTransaction) -> _Page:  # It may run twice, and begins anew then.
            page = _Page(codec, deepest, slice.limit, codec.loader(values), now)
            (page.descend if slice.reverse else page.ascend)(start, stop, txn)
            return page

        page = self._store.look(work)
        spend(1, page.examined)
        return Levels(page.rows, page.resume)


def _path(key: Key) -> tuple[KeyPart, ...]:
    path = key[-1]
    assert isinstance(path, tuple)
    return path


def _behind(encoded: bytes) -> bytes:
    """The first bytes behind a node, given by its encoded key, and all under it."""
    return encoded[:-1] + _LAST


@attrs.define(eq=False)
class _Page:
    """Reads one page.

    Attributes:
        examined: How many records were looked at.
        rows: What was found.
        resume: Where to go on, unless this is all.
    """

    _codec: ByteCodec
    _deepest: int
    _limit: int | None
    _load: Callable[[Key, bytes, int], Row | Absent]
    _now: int
    examined: int = attrs.field(init=False, default=0)
    rows: list[Row | Absent] = attrs.field(init=False, factory=list)
    resume: Key | None = attrs.field(init=False, default=None)
    _found: int = attrs.field(init=False, default=0)
    _size: int = attrs.field(init=False, default=0)
    _last: Key | None = attrs.field(init=False, default=None)  # behind which another page could begin
    _expired: Key | None = attrs.field(init=False, default=None)  # the same, once nothing under it came
    _leaps: int = attrs.field(init=False, default=0)
    _patience: int = attrs.field(init=False, default=1)

    def ascend(self, start: bytes, stop: bytes, txn: ReadTransaction) -> None:
        """Read forwards."""
        place: bytes | None = start
        while place is not None and place < stop:
            place = self._read_on(place, stop, txn)

    def _read_on(self, start: bytes, stop: bytes, txn: ReadTransaction) -> bytes | None:
        """Read to the next leap, and answer where it goes; ``None`` at the end of the page or of the slice."""
        decode_key, load, deepest, now = self._codec.decode_key, self._load, self._deepest, self._now
        under: bytes | None = None  # What the keys under the node before begin with.
        for encoded, data in txn.iterate(start, stop, False):
            if encoded >= stop or self._is_full():
                return None
            self.examined += 1
            self._size += len(data)
            if under is not None:
                if encoded.startswith(under):
                    self._leaps = self._patience = min(2 * self._patience, _MOST_LEAPS)
                    return under + _LAST
                self._patience = 1
                under = None
            key = decode_key(encoded)
            depth = len(_path(key))
            if depth > deepest:
                place = self._pass(key, data)
                if place is not None:
                    return place
                continue
            row = load(key, data, now)
            if not isinstance(row, Row):
                self._pass_expired(key, depth)
                continue
            if self._take(row):
                return None
            if depth == deepest:
                under = encoded[:-1]
                if self._leaps:
                    self._leaps -= 1
                    return under + _LAST
        return None

    def _is_full(self) -> bool:
        if self._last is None or (self.examined < _PAGE and self._size <= _PAGE_BYTES):
            return False
        self.resume = self._last
        return True

    def _take(self, row: Row) -> bool:
        """Take a node. Answers whether that is all that is wanted."""
        self.rows.append(row)
        self._last = self._expired = row.key
        self._found += 1
        return self._found == self._limit

    def _pass(self, key: Key, data: bytes) -> bytes | None:
        """Pass over a node that lies too deep. Answers where to go on, unless right behind it."""
        if self._codec.peek_header(data, self._now) is None:
            self._last = self._expired = key
            return None
        place = self._place(key)
        self.rows.append(Absent(place))
        self._last = self._expired = place
        return _behind(self._codec.encode_key(place))

    def _pass_expired(self, key: Key, depth: int) -> None:
        """Pass over an expired node. Under one of the deepest level others may live: it is not settled yet."""
        self._last = self._expired if depth == self._deepest else key
        self._expired = key

    def _place(self, key: Key) -> Key:
        """The place on the deepest level that a node lies under."""
        return (*key[:-1], _path(key)[: self._deepest])

    def descend(self, start: bytes, stop: bytes, txn: ReadTransaction) -> None:
        """Read backwards: what is under a node comes before it, and is passed over by going to the node."""
        place: bytes | None = stop
        while place is not None and start < place:
            place = self._read_back(start, place, txn)

    def _read_back(self, start: bytes, stop: bytes, txn: ReadTransaction) -> bytes | None:
        for encoded, data in txn.iterate(start, stop, True):
            if encoded < start or self._is_full():
                return None
            self.examined += 1
            self._size += len(data)
            self._last = key = self._codec.decode_key(encoded)
            if len(_path(key)) > self._deepest:
                return self._codec.encode_key(self._place(key)) + b"\0"
            row = self._load(key, data, self._now)
            if isinstance(row, Row) and self._take(row):
                return None
        return None
