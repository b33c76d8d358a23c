"""Written by hand on py-lmdb: the floor that keeps kvmodel's own bytes, and one with the least that could be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import lmdb
import msgpack

from benchmarks.floor import BATCH, Floor, FloorUser, batches, dump, encode_key, load
from benchmarks.models import fields
from benchmarks.peers_sides import RANGE, Key, Pair, Side


class Store(Protocol):
    """What both have."""

    async def get(self, team: str, name: str) -> FloorUser:
        """Read one user."""
        ...

    async def range(self, team: str, first: str, limit: int) -> list[FloorUser]:
        """Read up to ``limit`` users of a team, from ``first`` on."""
        ...

    async def save_many(self, users: Iterable[FloorUser]) -> int:
        """Write users of any number, a batch at a time."""
        ...

    async def birthday(self, team: str, name: str) -> FloorUser:
        """Read a user, add a year, write it back."""
        ...

    async def transfer(self, giver: Key, taker: Key) -> None:
        """Move a year from one user to another."""

    async def close(self) -> None:
        """Let the file and the thread go."""


class SameBytes(Floor):
    """The floor, and the one thing that it lacks here."""

    async def transfer(self, giver: Key, taker: Key) -> None:
        """Move a year from one user to another."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._transfer, giver, taker)

    def _transfer(self, giver: Key, taker: Key) -> None:
        with self._env.begin(write=True) as txn:
            for (team, name), years in ((giver, -1), (taker, 1)):
                key = encode_key(team, name)
                data = txn.get(key)
                user = None if data is None else load(team, name, data)
                if user is None:
                    raise LookupError((team, name))
                user.age += years
                txn.put(key, dump(user))


class Least:
    """Keys are the two parts with a zero byte between them, values a msgpack list without names.

    Nothing tells records from other bytes, nothing is checked, and the list can never change.
    """

    def __init__(self, path: Path) -> None:
        self._env = lmdb.open(str(path), map_size=1 << 33)
        self._writer = ThreadPoolExecutor(1)

    async def close(self) -> None:
        """Let the file and the thread go."""
        self._writer.shutdown()
        self._env.close()

    async def get(self, team: str, name: str) -> FloorUser:
        """Read one user."""
        with self._env.begin() as txn:
            data = txn.get(f"{team}\0{name}".encode())
        if data is None:
            raise LookupError((team, name))
        return FloorUser(team, name, *msgpack.unpackb(data))

    async def range(self, team: str, first: str, limit: int) -> list[FloorUser]:
        """Read up to ``limit`` users of a team, from ``first`` on."""
        found: list[FloorUser] = []
        partition = f"{team}\0".encode()
        with self._env.begin() as txn, txn.cursor() as cursor:
            if not cursor.set_range(partition + first.encode()):
                return found
            for key, data in cursor:
                if len(found) == limit or not key.startswith(partition):
                    break
                found.append(FloorUser(team, key[len(partition) :].decode(), *msgpack.unpackb(data)))
        return found

    async def save_many(self, users: Iterable[FloorUser]) -> int:
        """Write users of any number, a batch at a time."""
        loop = asyncio.get_running_loop()
        count = 0
        for batch in batches(users, BATCH):
            items = [(f"{user.team}\0{user.name}".encode(), msgpack.packb([user.age, user.email])) for user in batch]
            await loop.run_in_executor(self._writer, self._put_all, items)
            count += len(batch)
        return count

    async def birthday(self, team: str, name: str) -> FloorUser:
        """Read a user, add a year, write it back."""
        return (await self._in_writer([((team, name), 1)]))[0]

    async def transfer(self, giver: Key, taker: Key) -> None:
        """Move a year from one user to another."""
        await self._in_writer([(giver, -1), (taker, 1)])

    async def _in_writer(self, changes: Sequence[tuple[Key, int]]) -> list[FloorUser]:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._add_years, changes)

    def _put_all(self, items: list[tuple[bytes, bytes]]) -> None:
        with self._env.begin(write=True) as txn:
            for key, data in items:
                txn.put(key, data)

    def _add_years(self, changes: Sequence[tuple[Key, int]]) -> list[FloorUser]:
        changed: list[FloorUser] = []
        with self._env.begin(write=True) as txn:
            for (team, name), years in changes:
                key = f"{team}\0{name}".encode()
                data = txn.get(key)
                if data is None:
                    raise LookupError((team, name))
                age, email = msgpack.unpackb(data)
                txn.put(key, msgpack.packb([age + years, email]))
                changed.append(FloorUser(team, name, age + years, email))
        return changed


class ByHand:
    """Asks one of them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    async def open_same(cls, folder: Path) -> Side:
        """The floor with kvmodel's own bytes."""
        return cls(SameBytes(folder / "same"))

    @classmethod
    async def open_least(cls, folder: Path) -> Side:
        """The one with the least format."""
        return cls(Least(folder / "least"))

    async def fill(self, numbers: range) -> None:
        await self._store.save_many(FloorUser(*fields(number)) for number in numbers)

    async def get_each(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            await self._store.get(team, name)

    async def read_ranges(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            found = await self._store.range(team, name, RANGE)
            assert len(found) == RANGE

    async def update_each(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            await self._store.birthday(team, name)

    async def transfer_each(self, pairs: Sequence[Pair]) -> None:
        for giver, taker in pairs:
            await self._store.transfer(giver, taker)

    async def update_at_once(self, keys: Sequence[Key]) -> None:
        await asyncio.gather(*(self._store.birthday(team, name) for team, name in keys))

    async def ages(self, keys: Sequence[Key]) -> list[int]:
        return [(await self._store.get(*key)).age for key in keys]

    async def close(self) -> None:
        await self._store.close()
