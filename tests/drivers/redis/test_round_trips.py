"""What each use costs, counted on the wire by a proxy: these numbers are promised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import pytest

import kvmodel as kv
from kvmodel.testing import Proxy
from kvmodel.testing.redis import RedisCluster, RedisServer
from tests.drivers.redis.models import Team, User


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """Stands before an empty server."""
    server.command("FLUSHALL")
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
async def db(proxy: Proxy) -> AsyncIterator[kv.Database]:
    """A connection through the proxy that has 300 users."""
    async with kv.connect(f"redis://127.0.0.1:{proxy.port}") as db:
        await User.objects.save_many(User("red", f"{number:03}", number) for number in range(300))
        await db.prepare(Team)
        yield db


class Trips:
    """Compares what the proxy counted with what the budget did."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def __call__(self, count: int) -> AbstractContextManager[object]:
        self._before = self._proxy.round_trips
        self._count = count
        return kv.budget(round_trips=count)

    def check(self) -> None:
        """The wire saw as many."""
        assert self._proxy.round_trips - self._before == self._count


@pytest.fixture
def trips(proxy: Proxy) -> Trips:
    """Counts."""
    return Trips(proxy)


async def test_records_by_key(db: kv.Database, trips: Trips) -> None:
    """One each; many together one."""
    objects = User.objects
    for call in (
        lambda: objects.get("red", "001"),
        lambda: objects.find("red", "none"),
        lambda: objects.exists("red", "001"),
        lambda: objects.get_many([("red", f"{number:03}") for number in range(300)]),
        lambda: asyncio.gather(*(objects.get("red", f"{number:03}") for number in range(300))),
        lambda: objects.create(User("red", "new")),
        lambda: objects.save(User("red", "new")),
        lambda: objects.delete("red", "new"),
        lambda: objects.save_many(User("blue", f"{number}") for number in range(1000)),
    ):
        with trips(1):
            await call()
        trips.check()


@pytest.mark.parametrize(
    "query",
    [
        lambda: User.objects.range("red"),
        lambda: User.objects.range("red", reverse=True),
        lambda: User.objects.range("red", limit=2),
        lambda: User.objects.range("red", limit=250, reverse=True),
        lambda: User.objects.range("red", prefix="1"),
        lambda: User.objects.range("red", after="100", before="200"),
        lambda: User.objects.range("red", first="100", last="200", reverse=True),
        lambda: User.objects.range("red").count(),
        lambda: User.objects.range("red").first(),
        lambda: User.objects.range("red").page(50),
        User.objects.scan,
        lambda: User.objects.scan().count(),
    ],
)
async def test_ranges(db: kv.Database, trips: Trips, query: Callable[[], object]) -> None:
    """One, in both directions, however bounded."""
    with trips(1):
        await query()  # type: ignore[misc]
    trips.check()


async def test_a_thousand_records_in_one_page(db: kv.Database, trips: Trips) -> None:
    """A range of so many, and one with a limit of a few thousand."""
    await User.objects.save_many(User("big", f"{number:04}") for number in range(3000))
    with trips(1):
        assert len(await User.objects.range("big", limit=2500)) == 2500
    trips.check()
    with trips(1):
        assert len(await User.objects.range("big", last="0999", limit=1000)) == 1000
    trips.check()


async def test_a_commit_of_a_hundred_objects(db: kv.Database, trips: Trips) -> None:
    """One round trip beside the reads, with conditions, checks of what was read, and several tables."""
    with trips(2):
        async with db.unit_of_work() as uow:
            users = await User.objects.range("red", limit=100)
            for user in users:
                user.age += 1
            uow.add(Team("red", 300))
            await User.objects.delete("red", "000")
    trips.check()
    with trips(1):
        async with db.unit_of_work() as uow:
            uow.add(*(User("green", f"{number}") for number in range(100)))
    trips.check()


async def test_the_first_write_of_a_table(proxy: Proxy, trips: Trips) -> None:
    """The catalogue is written with it."""
    async with kv.connect(f"redis://127.0.0.1:{proxy.port}", namespace="first") as db:
        await db.prepare(User)
        with trips(1):
            await User.objects.create(User("red", "ada"))
        trips.check()


async def test_scripts_survive_a_flush(db: kv.Database, server: RedisServer, trips: Trips) -> None:
    """A server that knows a script no longer is given it again, which costs that one request a second round trip."""
    server.command("SCRIPT", "FLUSH")
    with trips(2):
        await User.objects.save(User("red", "ada"))
    trips.check()
    with trips(1):
        await User.objects.save(User("red", "ada"))
    trips.check()


async def test_in_a_cluster(cluster: RedisCluster) -> None:
    """The same, and what goes to several servers goes at the same time."""
    cluster.wait_until_whole()
    for node in cluster.masters():
        node.command("FLUSHALL")
    async with kv.connect(cluster.url, namespace="trips") as db:
        await db.prepare(User, Team)
        with kv.budget(round_trips=1):
            async with db.unit_of_work() as uow:
                uow.add(*(User("red", f"{number:03}") for number in range(100)), Team("red"))
        with kv.budget(round_trips=1):
            await User.objects.save_many(User(f"team {number % 50}", f"{number:03}") for number in range(500))
        with kv.budget(round_trips=1):
            found = await User.objects.get_many([(f"team {number % 50}", f"{number:03}") for number in range(500)])
        assert None not in found
        with kv.budget(round_trips=1):
            await asyncio.gather(*(User.objects.get(f"team {number % 50}", f"{number:03}") for number in range(500)))
        with kv.budget(round_trips=1):
            assert len(await User.objects.range("red", reverse=True)) == 100
