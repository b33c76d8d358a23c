"""The driver for LMDB."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import SplitResult
from weakref import WeakSet

import attrs
import lmdb

from kvmodel.drivers.base import (
    Absent,
    Atomicity,
    Capabilities,
    Durability,
    Expiry,
    Key,
    Mutation,
    Outcome,
    Reverse,
    Row,
    Slice,
    Table,
    Watch,
)
from kvmodel.drivers.bytestore import PAGE, ByteStore, Change
from kvmodel.drivers.bytewrites import ReadTransaction
from kvmodel.drivers.feed import LocalWatcher
from kvmodel.drivers.lmdb.environment import CLOSED, Space
from kvmodel.drivers.lmdb.files import MAP_SIZE, Settings
from kvmodel.drivers.lmdb.registry import Shared, acquire, release
from kvmodel.drivers.lmdb.transactions import WriteView, open_database
from kvmodel.drivers.lmdb.writer import Job, not_written
from kvmodel.drivers.meter import spend
from kvmodel.drivers.options import choose, local_path, parse_bool, parse_size, parse_text
from kvmodel.drivers.refusals import refuse_watch
from kvmodel.errors import Closed, OutcomeUnknown, TimedOut, Unsupported, ValidationError

__all__ = ["LmdbDriver"]

T = TypeVar("T")

_GRACE = 5.0
"""How long closing waits for writes that are under way, in seconds."""

_OPENING = 10.0
_LARGEST_VALUE = (1 << 32) - 1
_LARGEST_MAP = 1 << 47


class LmdbDriver(ByteStore):
    """A connection to an LMDB file.

    Reads take place at once, in the caller's thread, and hold a read transaction for no longer than a page. Writes go
    to the file's writer thread, which commits those that wait together.

    Args:
        path: The directory that the file lives in, created if it is missing; or a single file, if it is one already.
        sync: Whether a commit waits for the disk. Without, a power cut can lose what was acknowledged, and the file.
        readonly: Write nothing, create nothing.
        map_size: How much address space to reserve at first, in bytes. It grows by itself.
        database: A named database inside the file, created if it is missing; ``None`` for the main one.
    """

    schemes: ClassVar[tuple[str, ...]] = ("lmdb",)
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "sync": parse_bool,
        "readonly": parse_bool,
        "map_size": parse_size,
        "database": parse_text,
    }
    capabilities = Capabilities(
        store="lmdb",
        atomicity=Atomicity.STORE,
        conditional=True,
        range_checks=True,
        ordered=True,
        reverse=Reverse.NATIVE,
        scan_table=True,
        expiry=Expiry.EMULATED,
        watch=Watch.TABLE,
        watch_local=True,
        durability=Durability.DISK,
        reads_in_place=True,
        max_key_bytes=511,
        max_value_bytes=_LARGEST_VALUE,
        max_read_batch=PAGE,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: bool = True,
        readonly: bool = False,
        map_size: int = MAP_SIZE,
        database: str | None = None,
    ) -> None:
        if not 0 < map_size < _LARGEST_MAP:
            raise ValidationError(f"map_size has to be positive and below {_LARGEST_MAP}", field="map_size")
        # Absolute, as the file may have to be opened again when the working directory is another one.
        self._settings = Settings(str(Path(path).absolute()), sync, readonly, map_size)
        super().__init__(self._settings.address)
        self._database = None if database is None else database.encode()
        self._shared: Shared | None = None
        self._space: Space = CLOSED
        self._batch: list[Job] = []
        self._jobs: set[Job] = set()
        self._watchers: WeakSet[LocalWatcher] = WeakSet()

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> LmdbDriver:
        """Make a driver for ``lmdb:///absolute/path`` or ``lmdb://relative/path``."""
        return cls(
            local_path(url),
            sync=choose(options, "sync", bool, True),
            readonly=choose(options, "readonly", bool, False),
            map_size=choose(options, "map_size", int, MAP_SIZE),
            database=choose(options, "database", str, "") or None,
        )

    @property
    def native(self) -> lmdb.Environment:
        """The binding's environment. It is shared with this file's other connections: do not close it."""
        return self._opened().environment.handle

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, or share it with the other connections of this process."""
        if self._shared is not None:
            return
        shared = self._shared = acquire(self._settings, self)
        try:
            self._space = await self._find_space(shared)
        except BaseException:
            self._shared = None
            await release(shared, self)
            raise
        self.capabilities = attrs.evolve(
            type(self).capabilities,
            max_key_bytes=self.native.max_key_size(),
            durability=Durability.DISK if shared.environment.settings.sync else Durability.PROCESS,
            watch=Watch.NONE if self._settings.readonly else Watch.TABLE,
        )

    async def _find_space(self, shared: Shared) -> Space:
        """Answer the database to work on; create it if it is missing."""
        environment, name, store = shared.environment, self._database, self._address
        space = environment.space(name)
        if space is not None or name is None:
            return space or CLOSED
        if environment.settings.readonly:
            return environment.attach(name, open_database(environment.handle, None, name, False, store))
        create = not self._settings.readonly
        work = partial(WriteView.open_database, name=name, create=create, store=store)
        return environment.attach(name, await self._submit(shared, CLOSED, work, 0, time.monotonic() + _OPENING))

    async def close(self) -> None:
        """Finish the writes that are under way, and let the file go."""
        shared, self._shared = self._shared, None
        self._space = CLOSED
        if shared is None:
            return
        for watcher in list(self._watchers):
            await watcher.close()
        if self._jobs and not shared.forked:
            await asyncio.wait([job.answer for job in self._jobs], timeout=_GRACE)
            for job in list(self._jobs):
                self._give_up(shared, job, Closed("the connection was closed before this write was taken"))
        await release(shared, self)

    def _opened(self) -> Shared:
        if self._shared is None or self._shared.forked:
            self._space.begin()  # It raises what the matter is.
            raise Closed("this connection is closed: connect again", store=self._address)
        return self._shared

    # --- reading ------------------------------------------------------------------------------------------------------

    def look(self, work: Callable[[ReadTransaction], T]) -> T:
        """Run ``work`` in a read transaction."""
        return self._opened().environment.look(self._space, work)

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Answer a function that reads one record at once. What it looks up for every record is found once, here."""
        codec = self.codec(table)
        encode_key, load, space = codec.encode_key, codec.load, self._space

        def peek(key: Key) -> Row | Absent:
            encoded = encode_key(key)
            try:
                txn = space.begin()
                try:
                    data = txn.get(encoded)
                finally:
                    txn.abort()
            except lmdb.Error:
                data = self._opened().environment.look_again(space, lambda view: view.get(encoded))
            return Absent(key) if data is None else load(key, data, 0)

        return peek

    # --- watching -----------------------------------------------------------------------------------------------------

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> LocalWatcher:
        """Follow what the connections of this process change.

        The writer thread puts the watch in place, between two writes: what is committed later is told, and what is
        committed by then is there to be read.
        """
        refuse_watch(self.capabilities, table, slice, resumes=position is not None)
        shared, space, codec = self._opened(), self._space, self.codec(table)
        watcher = LocalWatcher(space.feed, codec, *codec.bounds(slice), clock, self._address)
        self._watchers.add(watcher)
        spend(1)
        try:
            await self._submit(shared, space, lambda _: space.feed.join(watcher), 0, until)
        except OutcomeUnknown as late:
            await watcher.close()
            if isinstance(late.__cause__, asyncio.CancelledError):
                raise late.__cause__ from None
            raise TimedOut("the watch was not in place in time: raise the timeout", store=self._address) from late
        except BaseException:
            await watcher.close()
            raise
        return watcher

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write, in one commit that may be shared with other writes."""
        if self._settings.readonly:
            raise Unsupported("this connection only reads: connect without readonly=true", store=self._address)
        return await super().write(mutations, atomic=atomic, now=now, until=until)

    async def change(self, change: Change[T], *, size: int, until: float) -> T:
        """Run a change in a write transaction and commit.

        Raises:
            TimedOut: Time ran out while the change was still queued: nothing was written.
            OutcomeUnknown: Time ran out, or the caller was cancelled, after it had been taken.
        """
        return await self._submit(self._opened(), self._space, change.apply, size, until)

    async def _submit(self, shared: Shared, space: Space, work: Callable[[WriteView], T], size: int, until: float) -> T:
        remaining = until - time.monotonic()
        if remaining <= 0:
            raise not_written(self._address)
        loop = asyncio.get_running_loop()
        job = Job(work, space, size, until, loop, loop.create_future())
        if not self._batch:
            # What is written during one turn of the event loop goes to the writer thread at once. Otherwise that would
            # begin with the first write, and the others would need a commit, and a disk sync, of their own.
            loop.call_soon(self._flush, shared)
        self._batch.append(job)
        self._jobs.add(job)
        timer = loop.call_later(remaining, self._give_up, shared, job, not_written(self._address))
        try:
            result: T = await job.answer
        except asyncio.CancelledError as cancelled:
            if _is_unwritten(shared, job):
                raise
            raise self._unknown() from cancelled
        finally:
            timer.cancel()
            self._jobs.discard(job)
        return result

    def _flush(self, shared: Shared) -> None:
        batch, self._batch = self._batch, []
        shared.writer.submit(batch)

    def _give_up(self, shared: Shared, job: Job, unwritten: Exception) -> None:
        """Let a job's caller go, with what can be said for certain."""
        if not job.answer.done():
            job.answer.set_exception(unwritten if shared.writer.withdraw(job) else self._unknown())

    def _unknown(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            "the write was under way and may have happened: read again before going on", store=self._address
        )


def _is_unwritten(shared: Shared, job: Job) -> bool:
    """Whether a job whose caller was cancelled was certainly not written."""
    if job.answer.cancelled():
        return shared.writer.withdraw(job)
    return job.answer.exception() is not None
