"""Somebody else, who acts at the worst moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


class Interloper:
    """Stands between a connection and its store, and does something of its own just before the first write.

    Args:
        act: What it does. It is ``None`` once that is done.
        call: Before what: ``write`` (a commit) or ``batch``.
        after: Whether it acts just after it instead.
    """

    def __init__(self, act: Callable[[], Awaitable[object]], *, call: str = "write", after: bool = False) -> None:
        self.act: Callable[[], Awaitable[object]] | None = act
        self._call = call
        self._after = after

    async def carry(self, call: str, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]]) -> R:
        """Carry out one request."""
        act = self.act if call == self._call else None
        if act is None:
            return await apply(payload)
        self.act = None
        if self._after:
            result = await apply(payload)
            await act()
            return result
        await act()
        return await apply(payload)
