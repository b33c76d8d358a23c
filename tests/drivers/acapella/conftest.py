"""A server for each test, in its event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import kvmodel as kv
from kvmodel.drivers.acapella import Session
from kvmodel.testing.acapella import AcapellaServer


@pytest.fixture
async def server() -> AsyncIterator[AcapellaServer]:
    """An emulated server without accounts, whose locks are not waited for long."""
    async with AcapellaServer(lock_timeout=0.05) as server:
        yield server


@pytest.fixture
async def session(server: AcapellaServer) -> AsyncIterator[Session]:
    """A client of it."""
    async with Session("127.0.0.1", server.port) as session:
        yield session


@pytest.fixture
async def db(server: AcapellaServer) -> AsyncIterator[kv.Database]:
    """A database on it."""
    async with kv.connect(server.url) as db:
        server.seen.clear()
        yield db
