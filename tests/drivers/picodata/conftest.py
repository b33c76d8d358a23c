"""A PostgreSQL for the whole run, and stand-ins for Picodata in front of it, for one test each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import kvmodel as kv
from kvmodel.testing.picodata import LocalPicodata, MissingPostgres, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server behind all of them; without PostgreSQL these tests are skipped, and say so."""
    try:
        server = PostgresServer()
        server.start()
    except MissingPostgres as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
async def cluster(postgres: PostgresServer) -> AsyncIterator[LocalPicodata]:
    """Two nodes, which were not told anything that they would ignore."""
    async with LocalPicodata(2, postgres=postgres) as cluster:
        yield cluster
        assert [node.ignored for node in cluster.nodes] == [[], []]


@pytest.fixture
async def db(cluster: LocalPicodata) -> AsyncIterator[kv.Database]:
    """A database on the two nodes."""
    async with kv.connect(cluster.url) as db:
        yield db
