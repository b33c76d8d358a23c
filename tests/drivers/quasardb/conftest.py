"""What stands in for a cluster, and clients and drivers of it, open for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kvmodel.drivers.quasardb import QuasardbClient
from kvmodel.testing.quasardb.server import LocalServer

SERVED = "kvmodel.testing.quasardb.served"


def client_of(
    server: LocalServer, *, workers: int = 2, timeout: float = 10.0, max_names: int = 100_000
) -> QuasardbClient:
    """Answer a client that is not open yet."""
    return QuasardbClient(server.address, library=SERVED, workers=workers, timeout=timeout, max_names=max_names)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """The store, in threads of this process."""
    with LocalServer() as server:
        yield server


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[QuasardbClient]:
    """A client of it, with two workers."""
    async with client_of(server) as client:
        yield client
