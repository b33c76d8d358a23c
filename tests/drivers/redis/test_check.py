"""``db.check()``: what would lose data silently, in words; and what capabilities say of the connected server."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.drivers.redis.health import State, findings_of
from kvmodel.testing.redis import RedisCluster, RedisServer

SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "min-replicas-to-write": "0",
}


@pytest.mark.parametrize(
    ("settings", "words", "durability"),
    [
        ({}, [], kv.Durability.DISK),
        ({"maxmemory-policy": "allkeys-lru"}, ["eviction", "maxmemory-policy is allkeys-lru"], kv.Durability.DISK),
        ({"maxmemory-policy": "volatile-ttl"}, ["eviction", "deadline"], kv.Durability.DISK),
        ({"appendfsync": "everysec"}, ["persistence", "last second"], kv.Durability.PROCESS),
        ({"appendfsync": "no"}, ["persistence", "appendfsync is no"], kv.Durability.PROCESS),
        ({"appendonly": "no"}, ["persistence", "appendonly is no"], kv.Durability.MEMORY),
    ],
    ids=str,
)
async def test_settings(server: RedisServer, settings: dict[str, str], words: list[str], durability: object) -> None:
    """Each dangerous setting is found and named with its remedy; a safe server gives an empty list."""
    for name, value in (SAFE | settings).items():
        server.command("CONFIG", "SET", name, value)
    try:
        async with kv.connect(server.url) as db:
            found = await db.check()
            assert db.capabilities.durability is durability
            assert not db.capabilities.failover_may_lose
    finally:
        for name, value in (SAFE | {"appendonly": "no", "appendfsync": "everysec"}).items():
            server.command("CONFIG", "SET", name, value)

    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)
    assert all("set " in text and str(server.port) in text for text in found)


async def test_replicas() -> None:
    """A server that has replicas may fail over, and then loses what they were not told yet."""
    with (
        RedisServer(persistent=True) as master,
        RedisServer(options={"replicaof": f"127.0.0.1 {master.port}"}) as replica,
    ):
        from kvmodel.testing.redis.server import wait_for

        assert wait_for(lambda: bool(master.command("ROLE")[2]), 10), replica
        async with kv.connect(master.url) as db:
            assert db.capabilities.failover_may_lose
            (found,) = await db.check()
            assert "min-replicas-to-write is 0" in found
            master.command("CONFIG", "SET", "min-replicas-to-write", "1")
            assert await db.check() == []


async def test_a_cluster(cluster: RedisCluster) -> None:
    """One finding tells of all masters that share it."""
    cluster.wait_until_whole()
    async with kv.connect(cluster.url) as db:
        found = await db.check()

        assert db.capabilities.atomicity is kv.Atomicity.PARTITION
        assert db.capabilities.durability is kv.Durability.DISK
        assert db.capabilities.failover_may_lose
    assert len(found) == 1
    assert "min-replicas-to-write" in found[0]
    assert found[0].count("127.0.0.1:") == 3


def test_what_may_not_be_asked() -> None:
    """Where CONFIG is forbidden, what can't be known is said; a master without replicas is too."""
    closed = State("a:1", {"redis_version": "7.0.0", "aof_enabled": "1", "maxmemory_policy": "noeviction"}, {})
    found = findings_of([closed], has_failover=True)
    assert any("appendfsync is unknown" in text for text in found)
    assert any("no replica" in text for text in found)


async def test_other_stores_find_nothing() -> None:
    """Every database can be asked."""
    async with kv.connect("memory://") as db:
        assert await db.check() == []
