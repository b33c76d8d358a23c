"""Waiting until something is so."""

from __future__ import annotations

from kvmodel.drivers.elevator import ElevatorClient
from tests.drivers.rows import condition


async def noticed(client: ElevatorClient) -> None:
    """Let a client learn that its connections have ended, so that nothing is handed over to a server that is gone."""
    await condition(lambda: not any(wire.is_open for wire in client._pool._idle))
