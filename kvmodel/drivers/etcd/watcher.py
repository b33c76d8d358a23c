"""From etcd's events to changes of records."""

from __future__ import annotations

from collections.abc import Callable

from kvmodel.drivers.base import ChangeKind, Row, RowChange, Watcher
from kvmodel.drivers.etcd.layout import make_version
from kvmodel.drivers.etcd.messages import EventType, KeyValue
from kvmodel.drivers.etcd.watches import EtcdWatch, Told
from kvmodel.drivers.feed import ByteChange, kind_of, row_change
from kvmodel.drivers.formats.codec import ByteCodec

__all__ = ["EtcdWatcher"]


class EtcdWatcher(Watcher):
    """The changes of one slice.

    Args:
        changes: The store's own, in place.
        codec: Decodes them.
        clock: The time by which records expire.
    """

    def __init__(self, changes: EtcdWatch, codec: ByteCodec, clock: Callable[[], int]) -> None:
        self._changes = changes
        self._codec = codec
        self._clock = clock

    @property
    def position(self) -> str:
        """Where to go on."""
        return self._changes.place.text

    async def next(self) -> list[RowChange]:
        """Wait until something changed, or the position moved on."""
        return [self._change(told) for told in await self._changes.next()]

    def _change(self, told: Told) -> RowChange:
        event, place = told
        kv, before = event.kv or KeyValue(), event.prev_kv
        new = None if event.type == EventType.DELETE else kv.value
        old = None if before is None else before.value
        change = ByteChange(kv.key, old, new)
        if new is not None and old is None and kv.version > 1:
            kind = ChangeKind.CHANGED  # What was there has been compacted away.
        else:
            kind = kind_of(self._codec, old, new, self._clock())
        decoded = row_change(self._codec, change, kind, place.text)
        return decoded._replace(new=_versioned(decoded.new, kv), old=_versioned(decoded.old, before))

    async def close(self) -> None:
        """End the watch."""
        await self._changes.close()


def _versioned(row: Row | None, kv: KeyValue | None) -> Row | None:
    if row is None or kv is None:
        return row
    return row._replace(version=make_version(kv.mod_revision, row.expires_at))
