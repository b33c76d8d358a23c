"""Waiting until something is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvmodel.drivers.elevator import ElevatorClient


async def settled(condition: Callable[[], object]) -> None:
    """Let others run until something is so."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never is")


async def noticed(client: ElevatorClient) -> None:
    """Let a client learn that its connections have ended, so that nothing is handed over to a server that is gone."""
    await settled(lambda: not any(wire.is_open for wire in client._pool._idle))
