"""Reading from etcd: keys by name, and ranges in order, in pages that are bounded in records and in bytes.

Rules.

* All reads are linearizable: no older than what was acknowledged before they began.
* Ranges are read in the order of their keys and never sorted by the server, which would drop the limit for it.
* A page that would be longer than an answer may be is read in smaller ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from kvmodel.drivers.etcd.calls import Calls
from kvmodel.drivers.etcd.commands import RANGE, READ_TXN
from kvmodel.drivers.etcd.layout import Place
from kvmodel.drivers.etcd.messages import KeyValue, RangeRequest, RangeResponse, RequestOp, TxnRequest
from kvmodel.drivers.meter import spend
from kvmodel.errors import TooLarge

__all__ = ["KEYS_PAGE", "PAGE", "Reader"]

PAGE: Final = 256
"""How many records a page has."""

KEYS_PAGE: Final = 4096
"""How many keys a page of keys alone has."""

PAGE_BYTES: Final = 4 << 20


class Reader:
    """Reads.

    Args:
        calls: The way to the store.
        max_operations: How many keys one request asks for by name.
    """

    def __init__(self, calls: Calls, max_operations: int) -> None:
        self._calls = calls
        self._max_operations = max_operations

    async def fetch(self, keys: Sequence[bytes], until: float, *, keys_only: bool = False) -> list[KeyValue | None]:
        """Read keys by name, in the order asked; those of one request from one state of the store."""
        found: list[KeyValue | None] = []
        for start in range(0, len(keys), self._max_operations):
            found += await self._fetch(keys[start : start + self._max_operations], until, keys_only)
        return found

    async def _fetch(self, keys: Sequence[bytes], until: float, keys_only: bool) -> list[KeyValue | None]:
        spend(0, len(keys))
        requests = [RangeRequest(key, keys_only=keys_only) for key in keys]
        if len(requests) == 1:
            return [_only(await self._calls.call(RANGE, requests[0], until=until))]
        txn = TxnRequest((), [RequestOp(request_range=request) for request in requests])
        try:
            answer = await self._calls.call(READ_TXN, txn, until=until)
        except TooLarge:
            middle = len(keys) // 2
            first = await self._fetch(keys[:middle], until, keys_only)
            return first + await self._fetch(keys[middle:], until, keys_only)
        return [None if op.response_range is None else _only(op.response_range) for op in answer.responses]

    async def range(
        self, start: bytes, stop: bytes, limit: int, until: float, *, keys_only: bool = False
    ) -> RangeResponse:
        """Read the first keys of a range."""
        request = RangeRequest(start or b"\0", stop, limit, keys_only=keys_only)
        answer = await self._calls.call(RANGE, request, until=until)
        spend(0, len(answer.kvs))
        return answer

    async def count(self, start: bytes, stop: bytes, until: float) -> int:
        """Count the keys of a range, dead ones too."""
        answer = await self._calls.call(RANGE, RangeRequest(start or b"\0", stop, count_only=True), until=until)
        spend(0, answer.count)
        return answer.count

    async def records(
        self, place: Place, start: bytes, stop: bytes, room: int, until: float
    ) -> tuple[Sequence[KeyValue], bool]:
        """Read the first records of a range, fewer where they are large; and whether there are more behind them."""
        room = min(room, place.room)
        while True:
            try:
                answer = await self.range(start, stop, room, until)
            except TooLarge:
                if room == 1:
                    raise
                room = place.room = max(room // 4, 1)
                continue
            if answer.kvs:
                mean = sum(len(kv.value) + len(kv.key) for kv in answer.kvs) // len(answer.kvs)
                place.room = max(1, min(PAGE, PAGE_BYTES // (mean + 1)))
            return answer.kvs, answer.more

    async def heads(
        self, place: Place, start: bytes, stop: bytes, room: int, until: float
    ) -> tuple[Sequence[KeyValue], bool, int]:
        """Read the first keys of a range, with the values of those that may have expired.

        Answers them, whether there are more, and the revision of the keys. Only the last page can be empty.
        """
        first = 0
        while True:
            answer = await self.range(start, stop, room, until, keys_only=True)
            assert answer.header is not None
            first = first or answer.header.revision
            leased = [kv.key for kv in answer.kvs if kv.lease]
            if not leased:
                return answer.kvs, answer.more, first
            values = dict(zip(leased, await self.fetch(leased, until), strict=True))
            kvs = [values.get(kv.key) if kv.lease else kv for kv in answer.kvs]
            found = [kv for kv in kvs if kv is not None]
            if found or not answer.more:
                return found, answer.more, first
            start = answer.kvs[-1].key + b"\0"  # They all went in between, as those of one lease do.

    async def last(self, start: bytes, stop: bytes, room: int, until: float) -> list[bytes]:
        """Answer the last keys of a range, in order: all of its keys are read for that, and no values."""
        kept: deque[bytes] = deque(maxlen=room)
        more = True
        while more:
            answer = await self.range(start, stop, KEYS_PAGE, until, keys_only=True)
            kept.extend(kv.key for kv in answer.kvs)
            more = answer.more
            if more:
                start = answer.kvs[-1].key + b"\0"
        return list(kept)


def _only(answer: RangeResponse) -> KeyValue | None:
    return answer.kvs[0] if answer.kvs else None
