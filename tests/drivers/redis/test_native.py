"""``db.native`` is redis-py's own client of the same servers."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.asyncio import Redis, RedisCluster

import kvmodel as kv
from kvmodel.drivers.redis import RedisDriver
from tests.drivers.redis.models import User


async def test_the_same_data(db: kv.Database) -> None:
    """What the mapper wrote is there, and commands that it does not have are too."""
    await User.objects.save(User("red", "ada"))
    native = db.native
    assert isinstance(native, Redis)

    assert await native.zcard("kv:{\x02red\x00}users") == 1
    assert await native.incr("counter") == 1
    assert db.native is native


async def test_of_a_cluster(cluster_db: kv.Database) -> None:
    """The client of the whole cluster."""
    await User.objects.save(User("red", "ada"))
    native = cluster_db.native
    assert isinstance(native, RedisCluster)

    assert await native.execute_command("ZCARD", "kv:{\x02red\x00}users") == 1
    assert cast("Any", native).retry.get_retries() == 0


async def test_closed_with_the_database(db: kv.Database) -> None:
    """There is none after closing."""
    driver = db._connection.driver
    assert isinstance(driver, RedisDriver)
    await db.close()

    with pytest.raises(kv.Closed):
        _ = driver.native
