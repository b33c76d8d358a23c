"""Entries: a key with the value and version that were seen last; and batches of writes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Coroutine, Generator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, overload

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.paths import check_parts
from kvmodel.drivers.acapella.protocol import Json, Quorum, dump_json
from kvmodel.drivers.base import Outcome, Status
from kvmodel.errors import BatchError, Closed, KvModelError, OutcomeUnknown, StoreError, Unsupported, ValidationError

if TYPE_CHECKING:
    from kvmodel.drivers.acapella.session import Session

__all__ = ["Batch", "Entry", "Queued"]


class Entry:
    """A key, and what was seen under it last. Made by a session or a transaction.

    Attributes:
        partition: The partition key.
        clustering: The clustering key; empty for the plain key.
        version: The version that was read or written last; 0 before.
        value: The value that was read or written last; ``None`` where there is none, and before.
        quorum: Replicas and confirmations.
    """

    __slots__ = ("_session", "_transaction", "clustering", "partition", "quorum", "value", "version")

    def __init__(
        self,
        session: Session,
        partition: Sequence[str],
        clustering: Sequence[str],
        version: int = 0,
        value: Json = None,
        *,
        quorum: Quorum,
        transaction: int | None = None,
    ) -> None:
        self._session = session
        self._transaction = transaction
        self.partition = list(check_parts(partition, "a partition key"))
        self.clustering = list(check_parts(clustering, "a clustering key", empty=True))
        self.version = version
        self.value = value
        self.quorum = quorum

    def __repr__(self) -> str:
        return f"<Entry {self.partition!r} {self.clustering!r} at version {self.version}>"

    @property
    def key(self) -> list[str]:
        """The whole key: its partition parts, then its clustering parts."""
        return self.partition + self.clustering

    async def get(self, watch: bool = False) -> Json:
        """Read the value and the version, and answer the value.

        Args:
            watch: Lock the key until the end of the transaction. Outside of one it does nothing.
        """
        found = await self._session.call(
            protocol.get(self.partition, self.clustering, self.quorum, transaction=self._transaction, watch=bool(watch))
        )
        self.version, self.value = found
        return self.value

    async def listen(self, wait_version: int | None = None, timeout: float | timedelta | None = None) -> Json:
        """Wait until the version is beyond ``wait_version``, then answer the value.

        Args:
            wait_version: Which version is known; left out, the one that this entry has.
            timeout: How long to wait, a timedelta or seconds, cut to whole ones; left out, as long as the server does
                (30 s).

        Raises:
            TimedOut: Nothing changed meanwhile.
        """
        known = self.version if wait_version is None else wait_version
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        seconds = None if timeout is None else max(math.floor(timeout), 0)
        found = await self._session.call(
            protocol.listen(
                self.partition,
                self.clustering,
                self.quorum,
                after=known,
                seconds=seconds,
                transaction=self._transaction,
            )
        )
        self.version, self.value = found
        return self.value

    @overload
    def set(self, new_value: Json, reindex: bool = ..., batch: None = ...) -> Coroutine[object, object, int]: ...
    @overload
    def set(self, new_value: Json, reindex: bool = ..., *, batch: Batch) -> Queued: ...
    def set(self, new_value: Json, reindex: bool = False, batch: Batch | None = None) -> Awaitable[int]:
        """Write a value, whatever is there, and answer the new version; ``None`` removes it.

        Args:
            new_value: The value.
            reindex: Bring the keyspace's indexes up to date with it.
            batch: Only queue the write; ``await batch.send()`` sends it.

        Raises:
            OutcomeUnknown: It may or may not have been written.
        """
        return self._write(new_value, None, reindex, batch)

    @overload
    def cas(
        self, new_value: Json, old_version: int | None = ..., reindex: bool = ..., batch: None = ...
    ) -> Coroutine[object, object, int]: ...
    @overload
    def cas(self, new_value: Json, old_version: int | None = ..., reindex: bool = ..., *, batch: Batch) -> Queued: ...
    def cas(
        self, new_value: Json, old_version: int | None = None, reindex: bool = False, batch: Batch | None = None
    ) -> Awaitable[int]:
        """Write a value if the key still has a version, and answer the new one.

        Args:
            new_value: The value; ``None`` removes it.
            old_version: The version; left out, the one that this entry has. 0: nothing was ever written there.
            reindex: Bring the keyspace's indexes up to date with it.
            batch: Only queue the write.

        Raises:
            CasError: The key has another version; nothing was written.
            OutcomeUnknown: It may or may not have been written.
        """
        return self._write(new_value, self.version if old_version is None else old_version, reindex, batch)

    def _write(self, value: Json, old: int | None, reindex: bool, batch: Batch | None) -> Awaitable[int]:
        body = None if value is None else dump_json(value)
        if batch is None:
            return self._send(value, body, old, bool(reindex))
        if self._transaction is not None:
            raise Unsupported(
                "a batch can't be part of a transaction: write the entries one by one", store=self._session.store
            )
        return batch._queue(self, value, body, old, bool(reindex))

    async def _send(self, value: Json, body: bytes | None, old: int | None, reindex: bool) -> int:
        call = protocol.put(
            self.partition,
            self.clustering,
            body,
            self.quorum,
            old_version=old,
            transaction=self._transaction,
            reindex=reindex,
        )
        self.version = await self._session.call(call)
        self.value = value
        return self.version


class Queued(Awaitable[int]):
    """A write that waits in a batch.

    Awaiting it answers the new version once the batch was sent, and raises what became of it otherwise. Before that it
    lets other tasks run, in case one of them sends the batch, and answers the version that the entry has.
    """

    def __init__(self, batch: Batch, entry: Entry) -> None:
        self._batch = batch
        self._entry = entry
        self.error: KvModelError | None = None

    def __await__(self) -> Generator[object, None, int]:
        return self._wait().__await__()

    async def _wait(self) -> int:
        if not self._batch.is_begun:
            await asyncio.sleep(0)
        if self._batch.is_begun:
            await self._batch._done.wait()
        if self.error is not None:
            raise self.error
        return self._entry.version


class _Item(NamedTuple):
    entry: Entry
    value: Json
    body: bytes | None
    old: int | None
    reindex: bool
    queued: Queued


class Batch:
    """Writes that are sent together, one request a partition: all those of a partition are done, or none of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._items: dict[tuple[tuple[str, ...], tuple[str, ...]], _Item] = {}
        self._done = asyncio.Event()
        self.is_begun = False

    def __len__(self) -> int:
        return len(self._items)

    def _queue(self, entry: Entry, value: Json, body: bytes | None, old: int | None, reindex: bool) -> Queued:
        if self.is_begun:
            raise Closed("this batch was sent: make another one", store=self._session.store)
        key = tuple(entry.partition), tuple(entry.clustering)
        if key in self._items:
            raise ValidationError("a batch takes one write a key", key=(*entry.partition, *entry.clustering))
        queued = Queued(self, entry)
        self._items[key] = _Item(entry, value, body, old, reindex, queued)
        return queued

    async def send(self) -> list[int]:
        """Send what was queued, and answer the new versions in the order of the writes.

        Partitions are sent at the same time, and each stands for itself. ``n``, ``r`` and ``w`` are those of the first
        write of a partition; ``reindex`` of one write of a partition is that of all.

        Raises:
            CasError: A version has changed; with one partition nothing was written.
            OutcomeUnknown: It may or may not have been written.
            BatchError: There are several partitions, and some of them failed.
            Closed: The batch was sent before.
        """
        if self.is_begun:
            raise Closed("this batch was sent: make another one", store=self._session.store)
        self.is_begun = True
        groups: dict[tuple[str, ...], list[_Item]] = {}
        for (partition, _), item in self._items.items():
            groups.setdefault(partition, []).append(item)
        work: list[Coroutine[object, object, None]] = [self._send_one(group) for group in groups.values()]
        try:
            if len(work) == 1:
                await work[0]
            elif work:
                await asyncio.gather(*work)
        except asyncio.CancelledError:
            if any(isinstance(item.queued.error, OutcomeUnknown) for item in self._items.values()):
                self._raise_failures(len(groups))
            raise
        finally:
            self._done.set()
        self._raise_failures(len(groups))
        return [item.entry.version for item in self._items.values()]

    async def _send_one(self, group: list[_Item]) -> None:
        call = protocol.batch(
            group[0].entry.partition,
            [(item.entry.clustering, item.body, item.old) for item in group],
            group[0].entry.quorum,
            reindex=any(item.reindex for item in group),
        )
        try:
            versions = await self._session.call(call)
        except KvModelError as error:
            for item in group:
                item.queued.error = error
            return
        except asyncio.CancelledError:  # Had it gone out, it would be an OutcomeUnknown.
            for item in group:
                item.queued.error = StoreError(
                    "the batch was cancelled before this was sent: nothing was written", store=self._session.store
                )
            raise
        for item, version in zip(group, versions, strict=True):
            item.entry.version, item.entry.value = version, item.value

    def _raise_failures(self, groups: int) -> None:
        errors = [item.queued.error for item in self._items.values()]
        failed = [error for error in errors if error is not None]
        if not failed:
            return
        if groups == 1:
            raise failed[0]
        raise BatchError(
            "some partitions of this batch were not written: look at .outcomes",
            outcomes=[_outcome(error) for error in errors],
            done=len(errors) - len(failed),
            store=self._session.store,
        )


def _outcome(error: KvModelError | None) -> Outcome:
    if error is None:
        return Outcome(Status.WRITTEN)
    return Outcome(Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.FAILED, error=error)
