"""What is asked of every way of keeping users that is compared, and kvmodel's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import kvmodel as kv
from benchmarks.models import User, fields, url

RANGE = 100

Key = tuple[str, str]
Pair = tuple[Key, Key]


class Side(Protocol):
    """One way of keeping users. Every write has reached the disk when it returns.

    The loops are the sides' own, so that each is written as its users would write it.
    """

    async def fill(self, numbers: range) -> None:
        """Make and write new users, in commits of a thousand."""

    async def get_each(self, keys: Sequence[Key]) -> None:
        """Read one user after the other."""

    async def read_ranges(self, keys: Sequence[Key]) -> None:
        """Read 100 neighbours from each of these keys on."""

    async def update_each(self, keys: Sequence[Key]) -> None:
        """Read, change and write one user after the other, a commit for each."""

    async def transfer_each(self, pairs: Sequence[Pair]) -> None:
        """Move a year from one user to another, one pair after the other, a commit for each pair."""

    async def update_at_once(self, keys: Sequence[Key]) -> None:
        """Read, change and write these users at the same time, as many callers would who know nothing of each other."""

    async def ages(self, keys: Sequence[Key]) -> list[int]:
        """Answer what became of users."""
        ...

    async def close(self) -> None:
        """Let the file go."""


class Mapper:
    """kvmodel on LMDB."""

    def __init__(self, db: kv.Database) -> None:
        self._db = db
        self._users = User.objects.using(db)

    @classmethod
    async def open(cls, folder: Path) -> Side:
        """Connect."""
        return cls(await kv.connect(url(folder / "kvmodel")))

    async def fill(self, numbers: range) -> None:
        await self._users.save_many(User(*fields(number)) for number in numbers)

    async def get_each(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            await self._users.get(team, name)

    async def read_ranges(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            found = await self._users.range(team, first=name, limit=RANGE)
            assert len(found) == RANGE

    async def update_each(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            await self._users.update(team, name, age=lambda age: age + 1)

    async def transfer_each(self, pairs: Sequence[Pair]) -> None:
        for giver, taker in pairs:
            async with self._db.unit_of_work():
                (await self._users.get(*giver)).age -= 1
                (await self._users.get(*taker)).age += 1

    async def update_at_once(self, keys: Sequence[Key]) -> None:
        async with asyncio.TaskGroup() as group:
            for team, name in keys:
                group.create_task(self._users.update(team, name, age=lambda age: age + 1))

    async def ages(self, keys: Sequence[Key]) -> list[int]:
        return [(await self._users.get(*key)).age for key in keys]

    async def close(self) -> None:
        await self._db.close()
