"""Redis: kvmodel beside redis-py by hand, redis-om and walrus, on the same server in the same run.

python -m benchmarks.redis            on a server of its own, some twenty seconds
python -m benchmarks.redis --quick    small sizes
python -m benchmarks.redis --url URL  on a server of yours

*By hand* is what one writes with redis-py's asyncio client for the same work: a key per record, msgpack inside, an
attrs object around it, and a MULTI where the work asks for one. redis-om keeps a hash for each object and checks
nothing; walrus is blocking, and keeps a hash and sets. The figures are kept as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgpack

import kvmodel as kv
from benchmarks.measure import Comparison, compare, seconds_of
from kvmodel.testing.redis import RedisServer

RESULTS = Path(__file__).parent / "results" / "redis.json"
TOGETHER = 1000

Run = Callable[[], Awaitable[object]]


class User(kv.Model, table="bench_users"):
    """A small record."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0
    email: str | None = None


@attrs.define
class ByHand:
    """The same, as one writes it."""

    team: str
    name: str
    age: int = 0
    email: str | None = None

    @property
    def key(self) -> str:
        """Where it lies."""
        return f"hand:{self.team}:{self.name}"

    def dump(self) -> bytes:
        """Its content."""
        packed: bytes = msgpack.packb({"age": self.age, "email": self.email})
        return packed


def hand_load(team: str, name: str, data: bytes) -> ByHand:
    """Undo ``dump``."""
    return ByHand(team, name, **msgpack.unpackb(data))


@attrs.frozen
class Peer:
    """Another library's side of an operation: microseconds for one."""

    name: str
    library: str
    micros: float


# --- kvmodel beside redis-py ------------------------------------------------------------------------------------------


async def compare_by_hand(url: str, count: int, rounds: int) -> list[Comparison]:
    """The same work with redis-py's asyncio client."""
    redis: Any = import_module("redis.asyncio")
    names = [f"{number:06}" for number in range(count)]
    client = redis.Redis.from_url(url)
    found: list[Comparison] = []
    async with kv.connect(url, namespace="bench") as db:
        objects = User.objects.using(db)
        await objects.save_many(User("red", name, 1, "a@example.org") for name in names)
        for name in names:
            await client.set(f"hand:red:{name}", ByHand("red", name, 1, "a@example.org").dump())
            await client.zadd("hand:red", {name: 0})
        for label, hand, ours, operations, goal in _sides(client, db, names):
            found.append(await compare(label, hand, ours, operations=operations, rounds=rounds, goal=goal))
            _print(found[-1])
        await objects.scan().delete()
    await client.aclose()
    return found


def _sides(client: Any, db: kv.Database, names: list[str]) -> Iterator[tuple[str, Run, Run, int, float | None]]:
    objects = User.objects.using(db)

    async def hand_gets() -> None:
        for name in names:
            hand_load("red", name, await client.get(f"hand:red:{name}"))

    async def gets() -> None:
        for name in names:
            await objects.get("red", name)

    async def crowd() -> None:
        for at in range(0, len(names), TOGETHER):
            await asyncio.gather(*(objects.get("red", name) for name in names[at : at + TOGETHER]))

    async def hand_saves() -> None:
        for name in names:
            user = ByHand("red", name, 2)
            async with client.pipeline(transaction=True) as pipe:
                await pipe.set(user.key, user.dump()).zadd("hand:red", {name: 0}).execute()

    async def saves() -> None:
        for name in names:
            await objects.save(User("red", name, 2))

    async def hand_ranges() -> None:
        for at in range(0, len(names), 100):
            found = await client.zrange("hand:red", f"[{names[at]}", "+", bylex=True, offset=0, num=100)
            contents = await client.mget([b"hand:red:" + name for name in found])
            [hand_load("red", name.decode(), data) for name, data in zip(found, contents, strict=True)]

    async def ranges() -> None:
        for at in range(0, len(names), 100):
            await objects.range("red", first=names[at], limit=100)

    async def hand_units() -> None:
        for at in range(0, len(names), 100):
            part = names[at : at + 100]
            keys = [f"hand:red:{name}" for name in part]
            async with client.pipeline(transaction=True) as pipe:
                await pipe.watch(*keys)
                contents = await pipe.mget(keys)
                pipe.multi()
                for key, name, data in zip(keys, part, contents, strict=True):
                    user = hand_load("red", name, data)
                    user.age += 1
                    pipe.set(key, user.dump())
                await pipe.execute()

    async def units() -> None:
        for at in range(0, len(names), 100):
            async with db.unit_of_work():
                for user in await objects.get_many([("red", name) for name in names[at : at + 100]]):
                    assert user is not None
                    user.age += 1

    async def hand_bulk() -> None:
        for at in range(0, len(names), TOGETHER):
            async with client.pipeline(transaction=False) as pipe:
                for name in names[at : at + TOGETHER]:
                    user = ByHand("red", name, 3)
                    pipe.set(user.key, user.dump()).zadd("hand:red", {name: 0})
                await pipe.execute()

    async def bulk() -> None:
        await objects.save_many(User("red", name, 3) for name in names)

    count = len(names)
    yield "get", hand_gets, gets, count, 0.7
    yield "get, a thousand at once", hand_gets, crowd, count, 4.0
    yield "save", hand_saves, saves, count, None
    yield "range of 100, each", hand_ranges, ranges, count, None
    yield "unit of 100, each", hand_units, units, count, None
    yield "save_many, each", hand_bulk, bulk, count, None


# --- other mappers ----------------------------------------------------------------------------------------------------


async def measure_redis_om(url: str, count: int, rounds: int) -> list[Peer]:
    """redis-om: a hash for each object, through its asyncio side."""
    om: Any = import_module("aredis_om")
    connection = om.get_redis_connection(url=url)

    class OmUser(om.HashModel, index=True):  # type: ignore[misc,call-arg]
        team: str
        name: str
        age: int
        email: str

        class Meta:
            database = connection
            global_key_prefix = "bench-om"

    users = [OmUser(pk=f"{number:06}", team="red", name=f"{number:06}", age=1, email="a") for number in range(count)]

    async def saves() -> None:
        for user in users:
            await user.save()

    async def gets() -> None:
        for user in users:
            await OmUser.get(user.pk)

    found = [await _peer("save", "redis-om", saves, count, rounds), await _peer("get", "redis-om", gets, count, rounds)]
    await connection.aclose()
    return found


async def measure_walrus(url: str, count: int, rounds: int) -> list[Peer]:
    """walrus: a hash for each object and sets for its indexes, blocking."""
    walrus: Any = import_module("walrus")
    parts = urlsplit(url)
    database = walrus.Database(host=parts.hostname, port=parts.port)

    class WalrusUser(walrus.Model):  # type: ignore[misc]
        __database__ = database
        __namespace__ = "bench-walrus"
        name = walrus.TextField(primary_key=True)
        team = walrus.TextField()
        age = walrus.IntegerField()
        email = walrus.TextField()

    names = [f"{number:06}" for number in range(count)]

    async def saves() -> None:
        for name in names:
            WalrusUser.create(name=name, team="red", age=1, email="a")

    async def gets() -> None:
        for name in names:
            WalrusUser.load(name)

    found = [await _peer("save", "walrus", saves, count, rounds), await _peer("get", "walrus", gets, count, rounds)]
    database.close()
    return found


async def _peer(name: str, library: str, run: Run, count: int, rounds: int) -> Peer:
    await run()
    times = [await seconds_of(run) for _ in range(rounds)]
    found = Peer(name, library, median(times) * 1e6 / count)
    print(f"{found.name:<26}{found.library:>12}{found.micros:>12.1f}", flush=True)
    return found


# --- all of it --------------------------------------------------------------------------------------------------------


def _print(found: Comparison) -> None:
    goal = "" if found.goal is None else f"   (goal {found.goal})"
    print(f"{found.name:<26}{found.floor:>12.1f}{found.kvmodel:>12.1f}{found.ratio:>8.2f}{goal}", flush=True)


@contextmanager
def served(url: str | None) -> Iterator[str]:
    """The URL of a server: yours, or one of its own."""
    if url is not None:
        yield url
        return
    with RedisServer() as server:
        yield server.url


async def run(url: str, *, quick: bool) -> dict[str, object]:
    """Measure and print; answer the figures."""
    count, rounds = (1000, 3) if quick else (2000, 7)
    print(f"{'microseconds':<26}{'by hand':>12}{'kvmodel':>12}{'ratio':>8}")
    operations = await compare_by_hand(url, count, rounds)
    print(f"\n{'microseconds':<26}{'library':>12}{'each':>12}")
    peers = await measure_redis_om(url, count, rounds) + await measure_walrus(url, count, rounds)
    async with kv.connect(url) as db:
        native: Any = db.native
        server = (await native.info("server"))["redis_version"]
    return {
        "quick": quick,
        "server": server,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in ("redis", "hiredis", "redis-om", "walrus")},
        "operations": list(map(attrs.asdict, operations)),
        "peers": list(map(attrs.asdict, peers)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis", description="Measure kvmodel on Redis.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--url", help="a server of yours, with no data that matters (default: one of its own)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    chosen = parser.parse_args(arguments)
    with served(chosen.url) as url:
        found = asyncio.run(run(url, quick=chosen.quick))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {chosen.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
