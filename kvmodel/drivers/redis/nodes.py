"""A server, as one program knows it: its address and the connections to it.

A connection is used by one exchange at a time. There are no more than the limit; who finds none waits for one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kvmodel.drivers.redis.link import Address, Link, Reply, Unreachable, Words
from kvmodel.drivers.redis.scripts import ALL

__all__ = ["Dial", "Node"]

Dial = Callable[[Address], Coroutine[Any, Any, Link]]
"""Opens a connection. Raises ``Unreachable``."""


class _Room:
    """Places for a number of users; who finds none waits in line."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._line: deque[asyncio.Future[None]] = deque()

    def try_enter(self) -> bool:
        """Take a place, if there is one."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def enter(self) -> None:
        """Take a place, or wait for one."""
        if self.try_enter():
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # The place was handed over at the same moment.
            raise

    def leave(self) -> None:
        """Hand the place over to the next in line."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Node:
    """One server.

    Args:
        address: Where it listens.
        dial: How to connect.
        limit: How many connections it gets at the most.
    """

    def __init__(self, address: Address, dial: Dial, limit: int) -> None:
        self.address = address
        self._dial = dial
        self._room = _Room(limit)
        self._idle: list[Link] = []
        self._busy: set[Link] = set()
        self._is_closed = False
        self.has_scripts = False

    def __repr__(self) -> str:
        return f"<Node {self.address}>"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._idle) + len(self._busy)

    async def exchange(
        self, commands: Sequence[Words], until: float, before: Callable[[], None] | None = None
    ) -> list[Reply]:
        """Send commands over a connection of its own, and answer the replies. ``before`` is called just before.

        Raises:
            Unreachable: There is no connection; nothing was sent.
            LinkLost: The connection broke.
            TimeoutError: Time is over.
        """
        link = await self._acquire(until)
        is_whole = True
        try:
            if time.monotonic() >= until:
                raise TimeoutError("time ran out before anything was sent")
            if before is not None:
                before()
            is_whole = False
            replies = await link.exchange(commands, until)
            is_whole = True
            return replies
        finally:
            self._release(link, is_whole)

    async def _acquire(self, until: float) -> Link:
        if self._room.try_enter():
            link = self._take_idle()
            if link is not None:
                self._busy.add(link)
                return link
            self._room.leave()
        async with asyncio.timeout(until - time.monotonic()):
            await self._room.enter()
            try:
                if self._is_closed:
                    raise Unreachable("the connection was closed")
                link = self._take_idle() or await self._open()
            except BaseException:
                self._room.leave()
                raise
            self._busy.add(link)
            return link

    async def _open(self) -> Link:
        link = await self._dial(self.address)
        if self._is_closed:  # Meanwhile.
            link.abort()
            raise Unreachable("the connection was closed")
        return link

    def _take_idle(self) -> Link | None:
        """Answer a connection that nobody uses, and that the server has not closed meanwhile."""
        while self._idle:
            link = self._idle.pop()
            if link.is_usable:
                return link
            link.abort()
        return None

    def _release(self, link: Link, is_whole: bool) -> None:
        self._room.leave()
        self._busy.discard(link)
        if is_whole and not self._is_closed and link.is_usable:
            self._idle.append(link)
        else:
            link.abort()

    async def connect(self) -> Link:
        """Open a connection that counts for no limit, and that the caller closes. Raises ``Unreachable``."""
        return await self._dial(self.address)

    async def load_scripts(self, until: float) -> None:
        """Have the server know the scripts. Raises as :meth:`exchange` does."""
        await self.exchange([(b"SCRIPT", b"LOAD", script.source) for script in ALL], until)
        self.has_scripts = True

    def close(self) -> None:
        """Close all connections; exchanges that are under way fail."""
        self._is_closed = True
        for link in (*self._idle, *self._busy):
            link.abort()
        self._idle.clear()
