"""The few requests that the driver is made of, and how they count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from kvmodel.drivers.arakoon import protocol as p
from kvmodel.drivers.arakoon.client import ArakoonClient
from kvmodel.drivers.arakoon.operations import too_large
from kvmodel.drivers.arakoon.protocol import Call
from kvmodel.drivers.arakoon.steps import Sequence as SequenceStep
from kvmodel.drivers.arakoon.steps import Step, encode_step
from kvmodel.drivers.arakoon.wire import CONSISTENT, TooLong
from kvmodel.drivers.base import Capabilities
from kvmodel.drivers.meter import spend
from kvmodel.errors import ProtocolError

__all__ = ["PAGE", "Requests", "smaller"]

R = TypeVar("R")

PAGE: Final = 256
"""How many records one request reads or writes."""


class Requests:
    """Speaks to the master through a client. Every exchange is counted by the client, every key here."""

    capabilities: Capabilities
    _client: ArakoonClient

    @property
    def address(self) -> str:
        """Where the cluster is."""
        return self._client.store

    async def send(self, steps: Sequence[Step], until: float) -> None:
        """Send one sequence."""
        body = encode_step(SequenceStep(steps))
        limit = self.capabilities.max_request_bytes
        if limit is not None and len(body) > limit:  # What a range check has to name was not known before.
            raise too_large([], len(body), limit, self.address)
        await self._client.call(p.SEQUENCE(body), until=until)

    async def fetch(self, keys: Sequence[bytes], until: float) -> list[bytes | None]:
        """Read values, in requests of a page at the most; again in smaller ones if a reply would be too long."""
        found: list[bytes | None] = []
        room = PAGE
        while len(found) < len(keys):
            part = list(keys[len(found) : len(found) + room])
            try:
                found += await self.ask(p.MULTI_GET_OPTION(CONSISTENT, part), until, len(part))
            except ProtocolError as error:
                room = smaller(error, len(part))
        return found

    async def list_heads(self, prefix: bytes, limit: int, until: float) -> list[tuple[bytes, bytes]]:
        """Read what lies below a prefix."""
        return await self.entries(prefix, _behind(prefix), limit, until)

    async def entries(
        self, start: bytes, stop: bytes | None, limit: int, until: float, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Read keys and values from ``start`` on, ``stop`` left out; or backwards, from below ``stop``."""
        if reverse:
            call = p.REV_RANGE_ENTRIES(CONSISTENT, stop, False, start, True, limit)
        else:
            call = p.RANGE_ENTRIES(CONSISTENT, start, True, stop, False, limit)
        found = await self.ask(call, until, 0)
        spend(0, len(found))
        return found

    async def ask(self, call: Call[R], until: float, keys: int) -> R:
        """Send one request, which touches so many keys."""
        if keys:
            spend(0, keys)
        return await self._client.call(call, until=until)


def smaller(error: ProtocolError, room: int) -> int:
    """Answer a smaller number of records, where a reply was too long for one request."""
    if room == 1 or not isinstance(error.__cause__, TooLong):
        raise error
    return max(1, room // 8)


def _behind(prefix: bytes) -> bytes | None:
    """Answer the first bytes behind everything that begins with ``prefix``."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None
