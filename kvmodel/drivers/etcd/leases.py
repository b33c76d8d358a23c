"""Leases: what removes records that have expired.

Theory of operation. A lease is a server's timer: the keys that were put with it go when it ends. The deadline in the
record is what decides; the lease only gives the space back, some time after that. So records with deadlines that lie
near each other share one, which ends behind the last of them, and a program that writes a thousand sessions a minute
makes a lease now and then instead of a thousand.

Rules.

* A lease never ends before a record that it was given to: its end is reckoned from before it was asked for, by a clock
  that does not jump.
* A lease that the server knows no more is forgotten, and the write, of which nothing was done, sent again with another.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from kvmodel.errors import TimedOut

__all__ = ["Leases"]

_GRACE: Final = 10.0
"""For how many seconds behind its deadline a record is kept at least: clocks differ."""

_SHARE: Final = 1 / 8
"""How much longer a lease may last than its record needs, so that others can share it."""

_SHORTEST: Final = 10.0
_LONGEST: Final = 9_000_000_000
"""What the server takes, in seconds."""

Grant = Callable[[int, float], Awaitable[int]]
"""Makes a lease of so many seconds, until a time limit; answers its id."""


@attrs.frozen
class _Lease:
    id: int
    ends: float


class Leases:
    """The leases of one connection.

    Args:
        grant: Makes one.
        store: The store, for messages.
    """

    def __init__(self, grant: Grant, store: str) -> None:
        self._grant = grant
        self._store = store
        self._leases: list[_Lease] = []
        self._turn = asyncio.Lock()

    async def find(self, expires_at: int, now: int, until: float) -> int:
        """Answer a lease for a record with this deadline, by the writer's clock (both in microseconds)."""
        needed = max((expires_at - now) / 1e6, 0.0) + _GRACE
        slack = max(needed * _SHARE, _SHORTEST)
        known = self._known(needed, slack)
        if known is not None:
            return known
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await self._turn.acquire()
        except TimeoutError as error:
            raise TimedOut("time ran out before anything was written: raise the timeout", store=self._store) from error
        try:
            return self._known(needed, slack) or await self._make(needed + slack, until)
        finally:
            self._turn.release()

    def _known(self, needed: float, slack: float) -> int | None:
        now = time.monotonic()
        for lease in self._leases:
            if needed <= lease.ends - now <= needed + slack + 1:  # They last whole seconds.
                return lease.id
        return None

    async def _make(self, seconds: float, until: float) -> int:
        now = time.monotonic()
        ttl = min(math.ceil(seconds), _LONGEST)
        lease = _Lease(await self._grant(ttl, until), now + ttl)
        self._leases = [known for known in self._leases if known.ends > now]
        self._leases.append(lease)
        return lease.id

    def forget(self, id: int) -> None:
        """Use a lease no more."""
        self._leases = [lease for lease in self._leases if lease.id != id]
