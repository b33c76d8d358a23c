"""An emulator and a client of it, for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kvmodel.drivers.elevator import ElevatorClient
from kvmodel.testing.elevator import ElevatorServer


@pytest.fixture
def server() -> Iterator[ElevatorServer]:
    """An emulator with all habits of the original."""
    with ElevatorServer() as server:
        yield server


@pytest.fixture
async def client(server: ElevatorServer) -> AsyncIterator[ElevatorClient]:
    """A client of it. Whatever it was used for, it has cost the server no worker, or the test says so."""
    async with ElevatorClient(server.endpoint, timeout=5) as client:
        yield client
