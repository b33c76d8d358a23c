"""Waiting for what takes real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until_true"]


async def until_true(condition: Callable[[], object]) -> None:
    """Let other tasks run until a condition holds; fail if that takes ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)
