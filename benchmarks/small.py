"""Bulk, point get, range of 100 and update: kvmodel beside the floor."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

import kvmodel as kv
from benchmarks.floor import Floor, FloorUser
from benchmarks.measure import Comparison, compare
from benchmarks.models import TEAMS, User, fields, url

RANGE = 100


@attrs.frozen
class Sizes:
    """How much is done."""

    rounds: int
    bulk: int
    records: int
    gets: int
    ranges: int
    updates: int
    tasks: int
    updates_per_task: int


QUICK = Sizes(rounds=5, bulk=2_000, records=5_000, gets=1_000, ranges=50, updates=20, tasks=100, updates_per_task=5)
FULL = Sizes(
    rounds=15, bulk=20_000, records=100_000, gets=10_000, ranges=500, updates=200, tasks=100, updates_per_task=50
)


async def compare_all(folder: Path, sizes: Sizes) -> list[Comparison]:
    """Compare every operation; the files are made in ``folder``."""
    floor = Floor(folder / "floor")
    async with kv.connect(url(folder / "kvmodel")) as db:
        await floor.save_many(FloorUser(*fields(number)) for number in range(sizes.records))
        await User.objects.using(db).save_many(User(*fields(number)) for number in range(sizes.records))
        found = [await compare_gets(floor, db, sizes), await compare_ranges(floor, db, sizes)]
        found += [await compare_bulk(floor, db, sizes), await compare_updates(floor, db, sizes, "update, synced")]
    await floor.close()

    floor = Floor(folder / "floor", sync=False)
    async with kv.connect(url(folder / "kvmodel", sync="false")) as db:
        found.append(await compare_updates(floor, db, sizes, "update, sync=false"))
    await floor.close()

    await check_same_bytes(folder / "kvmodel", sizes)
    return found


async def compare_gets(floor: Floor, db: kv.Database, sizes: Sizes) -> Comparison:
    """Get records by key, one after the other, in random order."""
    keys = random_keys(sizes.records, sizes.gets)
    users = User.objects.using(db)

    async def by_hand() -> None:
        for team, name in keys:
            await floor.get(team, name)

    async def mapped() -> None:
        for team, name in keys:
            await users.get(team, name)

    return await compare("point get", by_hand, mapped, operations=len(keys), rounds=sizes.rounds, goal=0.6)


async def compare_ranges(floor: Floor, db: kv.Database, sizes: Sizes) -> Comparison:
    """Read 100 neighbours, from a random one on."""
    keys = random_keys(sizes.records - RANGE * TEAMS, sizes.ranges)
    users = User.objects.using(db)

    async def by_hand() -> None:
        for team, name in keys:
            found = await floor.range(team, name, RANGE)
            assert len(found) == RANGE

    async def mapped() -> None:
        for team, name in keys:
            found = await users.range(team, first=name, limit=RANGE)
            assert len(found) == RANGE

    return await compare("range of 100", by_hand, mapped, operations=len(keys), rounds=sizes.rounds, goal=0.6)


async def compare_bulk(floor: Floor, db: kv.Database, sizes: Sizes) -> Comparison:
    """Make objects and write them. Every run writes records of its own behind those that are there."""
    users = User.objects.using(db)
    by_hand_from = itertools.count(10_000_000, sizes.bulk)
    mapped_from = itertools.count(10_000_000, sizes.bulk)

    async def by_hand() -> None:
        start = next(by_hand_from)
        await floor.save_many(FloorUser(*fields(number)) for number in range(start, start + sizes.bulk))

    async def mapped() -> None:
        start = next(mapped_from)
        await users.save_many(User(*fields(number)) for number in range(start, start + sizes.bulk))

    return await compare("bulk, each", by_hand, mapped, operations=sizes.bulk, rounds=sizes.rounds, goal=0.5)


async def compare_updates(floor: Floor, db: kv.Database, sizes: Sizes, name: str) -> Comparison:
    """Read, change and write one record after the other, a commit for each."""
    keys = random_keys(sizes.records, sizes.updates)
    users = User.objects.using(db)

    async def by_hand() -> None:
        for key in keys:
            await floor.birthday(*key)

    async def mapped() -> None:
        for key in keys:
            await users.update(*key, age=lambda age: age + 1)

    return await compare(name, by_hand, mapped, operations=len(keys), rounds=sizes.rounds)


@attrs.frozen
class Crowd:
    """Many tasks that update records of their own at the same time.

    ``commits`` counts write transactions, each of which costs one disk sync.
    """

    tasks: int
    updates: int
    commits: int
    seconds: float

    @property
    def updates_per_commit(self) -> float:
        """How many updates share a disk sync."""
        return self.updates / self.commits


async def crowd_of_updates(folder: Path, sizes: Sizes) -> Crowd:
    """Let all tasks update at once, and count the commits from outside, in the file."""
    path = folder / "crowd"
    keys = [fields(number)[:2] for number in range(sizes.tasks)]

    async def one(key: tuple[str, str]) -> None:
        for _ in range(sizes.updates_per_task):
            await User.objects.update(*key, age=lambda age: age + 1)

    async with kv.connect(url(path)) as db:
        await User.objects.using(db).save_many(User(*key) for key in keys)
        before = last_transaction(path)
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(one(key))
        seconds = time.perf_counter() - start
        commits = last_transaction(path) - before
        ages = {user.age async for user in User.objects.using(db).scan()}
    assert ages == {sizes.updates_per_task}, ages
    return Crowd(sizes.tasks, sizes.tasks * sizes.updates_per_task, commits, seconds)


def last_transaction(path: Path) -> int:
    """The number of the last commit in an LMDB file. Another process looks, as one may not open a file twice."""
    program = (
        "import lmdb, os, sys; p = sys.argv[1];"
        "print(lmdb.open(p, subdir=os.path.isdir(p), readonly=True, lock=False).info()['last_txnid'])"
    )
    return int(subprocess.check_output([sys.executable, "-c", program, str(path)], text=True, timeout=60))


async def check_same_bytes(path: Path, sizes: Sizes) -> None:
    """Prove that both sides store the same: the floor reads what kvmodel wrote."""
    floor = Floor(path)
    for number in range(0, sizes.records, max(sizes.records // 100, 1)):
        team, name, _, email = fields(number)
        user = await floor.get(team, name)
        assert user.email == email, user
    await floor.close()


def random_keys(records: int, count: int) -> Sequence[tuple[str, str]]:
    """Keys of that many records, in an order that is random and always the same."""
    chosen = random.Random(0)
    return [fields(chosen.randrange(records))[:2] for _ in range(count)]
