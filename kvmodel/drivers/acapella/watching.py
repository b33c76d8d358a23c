"""Watching one record, through the store's long poll.

The store tells that a version is beyond the one that is known, and what is there then. It keeps no history: of several
changes in a row the last one may be all that is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.errors import KvError
from kvmodel.drivers.acapella.layout import Place
from kvmodel.drivers.acapella.protocol import Found
from kvmodel.drivers.acapella.session import Session
from kvmodel.drivers.base import ChangeKind, Key, Row, RowChange, Watcher
from kvmodel.errors import Closed, DecodingError, StoreError, TimedOut

__all__ = ["RecordWatcher"]

_POLL: Final = 20
_PAUSES: Final = (0.05, 0.2, 0.5, 1.0, 2.0)


class RecordWatcher(Watcher):
    """Follows one record.

    Args:
        session: Where to ask.
        place: The record's table.
        key: Its key.
    """

    def __init__(self, session: Session, place: Place, key: Key) -> None:
        self._session = session
        self._place = place
        self._key = key
        self._address = place.address(key)
        self._seen = Found(0, None)
        self._row: Row | None = None
        self._waiting: asyncio.Task[Found] | None = None
        self._closed = False

    async def begin(self, until: float) -> None:
        """See what is there: changes are told from here on."""
        call = self._place.get_call(self._address)
        self._seen = await self._session.call(call, timeout=max(until - time.monotonic(), 0.0))
        self._row, _ = self._load(self._seen)

    async def next(self) -> Sequence[RowChange]:
        """Wait until something changed."""
        while True:
            found = await self._wait()
            change = self._change(found)
            if change is not None:
                return [change]

    def _change(self, found: Found) -> RowChange | None:
        """Take down what is there now, and answer what that changes; deleting nothing changes nothing."""
        was_live, is_live, old = self._seen.value is not None, found.value is not None, self._row
        self._seen = found
        self._row, error = self._load(found)
        if not (was_live or is_live):
            return None
        kind = ChangeKind.DELETED if not is_live else ChangeKind.CHANGED if was_live else ChangeKind.CREATED
        return RowChange(self._key, kind, self._row, old, error=error)

    def _load(self, found: Found) -> tuple[Row | None, DecodingError | None]:
        try:
            row = self._place.load(self._key, found, True)
        except DecodingError as error:
            return None, error
        return (row if isinstance(row, Row) else None), None

    async def _wait(self) -> Found:
        if self._closed:
            raise self._over()
        self._waiting = asyncio.ensure_future(self._poll())
        try:
            return await self._waiting
        except asyncio.CancelledError:
            if self._closed:
                raise self._over() from None
            raise
        finally:
            self._waiting = None

    async def _poll(self) -> Found:
        """Ask again and again until the version is another one. Nothing is taken down here, so nothing can be lost."""
        pauses = iter(_PAUSES)
        while True:
            call = protocol.listen(*self._address, self._place.quorum, after=self._seen.version, seconds=_POLL)
            try:
                return await self._session.call(call, metered=False)
            except TimedOut as error:
                if not isinstance(error.__cause__, KvError):
                    raise
            except StoreError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """End it. Who waits gets ``Closed``."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _over(self) -> Closed:
        return Closed("this watch is over: begin another one", store=self._session.store)
