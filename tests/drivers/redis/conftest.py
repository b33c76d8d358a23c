"""Servers and drivers for these tests: the suite's own server and cluster, and fresh ones for those that break them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

pytest.importorskip("redis", reason="redis-py is not installed")
pytest.importorskip("hiredis", reason="hiredis is not installed")

import kvmodel as kv
from kvmodel.testing.redis import NoServer, RedisCluster, RedisServer


@pytest.fixture(scope="session")
def program() -> None:
    """Skip where there is nothing to run."""
    try:
        RedisServer().close()
    except NoServer as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(program: None) -> Iterator[RedisServer]:
    """A server that may be looked into, and is not broken."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def lasting(program: None) -> Iterator[RedisServer]:
    """A server that keeps everything on disk, to be killed."""
    with RedisServer(persistent=True) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(program: None) -> Iterator[RedisCluster]:
    """A cluster, to be broken and mended again."""
    with RedisCluster(node_timeout=1500, persistent=True) as cluster:
        yield cluster


@pytest.fixture
async def db(server: RedisServer) -> AsyncIterator[kv.Database]:
    """A connection to an empty server."""
    server.command("FLUSHALL")
    async with kv.connect(server.url) as db:
        yield db


@pytest.fixture
async def cluster_db(cluster: RedisCluster) -> AsyncIterator[kv.Database]:
    """A connection to a cluster that is well and empty."""
    cluster.wait_until_whole()
    for node in cluster.masters():
        node.command("FLUSHALL")
    async with kv.connect(cluster.url, timeout=15) as db:
        yield db
