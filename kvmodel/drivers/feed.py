"""Watching within the process: what the writers of an embedded store change is told to those who watch it here.

Theory of operation. A store has one :class:`Feed`. While somebody watches, its write transactions are looked over by a
:class:`Recorder`, and what they changed is published once it is committed; while nobody does, that costs one look at an
empty tuple. Each watch keeps what concerns it until it is asked, in the thread of its own event loop.

Rules.

* What is kept for a slow reader is bounded: past :data:`BACKLOG` changes or :data:`BACKLOG_BYTES` its watch is lost.
* Changes are decoded when they are read, but judged (created, or in the place of an expired record?) when they happen.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kvmodel.drivers.base import ChangeKind, Row, RowChange, Watcher
from kvmodel.drivers.bytewrites import Transaction
from kvmodel.drivers.formats.codec import ByteCodec
from kvmodel.errors import Closed, DecodingError, WatchLost

__all__ = ["BACKLOG", "BACKLOG_BYTES", "ByteChange", "Feed", "LocalWatcher", "Recorder", "kind_of", "row_change"]

BACKLOG: Final = 10_000
"""How many changes are kept for a reader that does not ask for them."""

BACKLOG_BYTES: Final = 64 << 20
"""How many bytes of keys and records these may have."""

_STEP: Final = 256


class ByteChange(NamedTuple):
    """What happened to one key: the bytes that were there, and those that are there now."""

    key: bytes
    old: bytes | None
    new: bytes | None

    @property
    def size(self) -> int:
        """How many bytes it keeps."""
        return len(self.key) + len(self.old or b"") + len(self.new or b"")


# --- from bytes to rows -----------------------------------------------------------------------------------------------


def kind_of(codec: ByteCodec, old: bytes | None, new: bytes | None, now: int) -> ChangeKind:
    """Say what became of a record. One that takes the place of an expired one is created."""
    if new is None:
        return ChangeKind.DELETED
    if old is None:
        return ChangeKind.CREATED
    try:
        return ChangeKind.CREATED if codec.peek_header(old, now) is None else ChangeKind.CHANGED
    except DecodingError:
        return ChangeKind.CHANGED


def row_change(codec: ByteCodec, change: ByteChange, kind: ChangeKind, position: str | None = None) -> RowChange:
    """Decode a change. What can't be decoded is told in its ``error``."""
    try:
        key = codec.decode_key(change.key)
    except DecodingError as error:
        return RowChange((), kind, None, None, position, error)
    old = new = None
    error_of_new = None
    if change.new is not None:
        try:
            new = _row(codec.load(key, change.new, 0))
        except DecodingError as error:
            error_of_new = error
    if change.old is not None and kind is not ChangeKind.CREATED:
        try:
            old = _row(codec.load(key, change.old, 0))
        except DecodingError:
            old = None  # What is gone need not be mended any more.
    return RowChange(key, kind, new, old, position, error_of_new)


def _row(loaded: object) -> Row | None:
    return loaded if isinstance(loaded, Row) else None


# --- from writers to readers ------------------------------------------------------------------------------------------


class Recorder:
    """A write transaction, and what was changed through it, in order."""

    def __init__(self, txn: Transaction) -> None:
        self.get, self.iterate, self.is_empty = txn.get, txn.iterate, txn.is_empty
        self._put, self._insert, self._delete = txn.put, txn.insert, txn.delete
        self.changes: list[ByteChange] = []

    def put(self, key: bytes, value: bytes, /) -> bool:
        old = self.get(key)
        self._put(key, value)
        self.changes.append(ByteChange(key, old, value))
        return True

    def insert(self, key: bytes, value: bytes, /) -> bool:
        inserted = self._insert(key, value)
        if inserted:
            self.changes.append(ByteChange(key, None, value))
        return inserted

    def delete(self, key: bytes, /) -> bool:
        old = self.get(key)
        self._delete(key)
        if old is not None:
            self.changes.append(ByteChange(key, old, None))
        return old is not None


class Feed:
    """Those who watch one store in this process. Used by its writers, and by event loops of several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[LocalWatcher, ...] = ()

    @property
    def is_watched(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._watchers)

    def join(self, watcher: LocalWatcher) -> None:
        """Tell a watcher of what is published from now on. Joining twice is allowed, and late, when it is closed."""
        with self._lock:
            if watcher not in self._watchers and not watcher.is_closed:
                self._watchers += (watcher,)

    def leave(self, watcher: LocalWatcher) -> None:
        """Tell a watcher no more."""
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def publish(self, changes: Sequence[ByteChange]) -> None:
        """Tell what was committed."""
        if changes:
            for watcher in self._watchers:
                watcher.offer(changes)

    def lose(self) -> None:
        """Nobody can say what was committed: every watch is lost."""
        for watcher in self._watchers:
            watcher.lose("a commit failed in the middle, and nobody can say whether its changes were made")


class LocalWatcher(Watcher):
    """The changes of one range of keys.

    Args:
        feed: Who tells of them.
        codec: Decodes them.
        start, stop: The half-open range.
        clock: The time by which records expire.
        store: The store, for messages.
    """

    def __init__(
        self, feed: Feed, codec: ByteCodec, start: bytes, stop: bytes, clock: Callable[[], int], store: str
    ) -> None:
        self._feed = feed
        self._codec = codec
        self._range = start, stop
        self._clock = clock
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[tuple[ByteChange, ChangeKind]] = deque()
        self._size = 0
        self._lost: str | None = None
        self.is_closed = False

    def offer(self, changes: Sequence[ByteChange]) -> None:
        """Take what concerns this watch. Called by whoever committed."""
        start, stop = self._range
        wanted = [change for change in changes if start <= change.key < stop]
        if not wanted:
            return
        now = self._clock()
        told = [(change, kind_of(self._codec, change.old, change.new, now)) for change in wanted]
        with self._lock:
            self._waiting.extend(told)
            self._size += sum(change.size for change in wanted)
            is_full = len(self._waiting) > BACKLOG or self._size > BACKLOG_BYTES
        if is_full:
            self.lose("changes came faster than they were read, and only so many are kept")
        else:
            self._wake()

    def lose(self, reason: str) -> None:
        """Give up: what was kept is let go."""
        with self._lock:
            self._lost = self._lost or reason
            self._waiting.clear()
            self._size = 0
        self._feed.leave(self)
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._came.set)
        except RuntimeError:  # Its event loop has been closed, so nobody reads.
            self._feed.leave(self)

    async def next(self) -> list[RowChange]:
        """Wait until something changed."""
        while True:
            self._came.clear()
            taken = self._take()
            if taken:
                return [row_change(self._codec, change, kind) for change, kind in taken]
            await self._came.wait()

    def _take(self) -> list[tuple[ByteChange, ChangeKind]]:
        if self.is_closed:
            raise Closed("this watch is closed: begin another one", store=self._store)
        with self._lock:
            if self._lost is not None:
                raise WatchLost(
                    f"{self._lost}: read again, then watch from now",
                    table=self._codec.table.name,
                    store=self._store,
                )
            taken = [self._waiting.popleft() for _ in range(min(_STEP, len(self._waiting)))]
            self._size -= sum(change.size for change, _ in taken)
        return taken

    async def close(self) -> None:
        """End the watch."""
        self.is_closed = True
        self._feed.leave(self)
        with self._lock:
            self._waiting.clear()
        self._came.set()
