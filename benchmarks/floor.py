"""The floor: what somebody would write by hand on py-lmdb for one table, and no more.

It keeps the very same bytes as kvmodel (``docs/spec/keys.md``, ``docs/spec/records.md``) and gives the same guarantees
where it has the call: typed objects come back, damaged or newer records are refused, expired ones are absent, a write
that returned is synced, and the event loop never waits for the disk. It has no versions, no checks of values, no
conflicts, no units of work and no other tables.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs
import lmdb
import msgpack

T = TypeVar("T")

BATCH = 1_000
TABLE = b"\x05\x00\x02users\x00"  # no namespace, then the table's name
FORMAT, DEADLINE = 0x10, 0x01
STAMP_END = 1 + 12

_pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True).pack


@attrs.define
class FloorUser:
    """The same fields as :class:`benchmarks.models.User`."""

    team: str
    name: str
    age: int = 0
    email: str | None = None


class Floor:
    """The users table, by hand."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self._env = lmdb.open(str(path), map_size=1 << 33, sync=sync)
        self._writer = ThreadPoolExecutor(1)

    async def close(self) -> None:
        """Let the file and the thread go."""
        self._writer.shutdown()
        self._env.close()

    async def get(self, team: str, name: str) -> FloorUser:
        """Read one user."""
        with self._env.begin() as txn:
            data = txn.get(encode_key(team, name))
        user = None if data is None else load(team, name, data)
        if user is None:
            raise LookupError((team, name))
        return user

    async def range(self, team: str, first: str, limit: int) -> list[FloorUser]:
        """Read up to ``limit`` users of a team, from ``first`` on."""
        found: list[FloorUser] = []
        partition = TABLE + encode_part(team)
        with self._env.begin() as txn, txn.cursor() as cursor:
            if not cursor.set_range(partition + encode_part(first)):
                return found
            for key, data in cursor:
                if len(found) == limit or not key.startswith(partition):
                    break
                user = load(*decode_key(key), data)
                if user is not None:
                    found.append(user)
        return found

    async def save_many(self, users: Iterable[FloorUser]) -> int:
        """Write users of any number, a batch at a time."""
        loop = asyncio.get_running_loop()
        count = 0
        for batch in batches(users, BATCH):
            items = [(encode_key(user.team, user.name), dump(user)) for user in batch]
            await loop.run_in_executor(self._writer, self._put_all, items)
            count += len(batch)
        return count

    async def birthday(self, team: str, name: str) -> FloorUser:
        """Read a user, add a year, write it back."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._birthday, team, name)

    def _put_all(self, items: list[tuple[bytes, bytes]]) -> None:
        with self._env.begin(write=True) as txn:
            for key, data in items:
                txn.put(key, data)

    def _birthday(self, team: str, name: str) -> FloorUser:
        key = encode_key(team, name)
        with self._env.begin(write=True) as txn:
            data = txn.get(key)
            user = None if data is None else load(team, name, data)
            if user is None:
                raise LookupError((team, name))
            user.age += 1
            txn.put(key, dump(user))
        return user


# --- keys ---


def encode_part(text: str) -> bytes:
    """A string as an ordered component: zero bytes escaped, then a zero byte."""
    return b"\x02" + text.encode().replace(b"\x00", b"\x00\xff") + b"\x00"


def encode_key(team: str, name: str) -> bytes:
    """The whole key of a user."""
    return TABLE + encode_part(team) + encode_part(name)


def decode_key(key: bytes) -> tuple[str, str]:
    """Take a key apart. Inside a component no zero byte is followed by 0x02, so that splitting there is safe."""
    team, name = key[len(TABLE) + 1 : -1].split(b"\x00\x02")
    return team.replace(b"\x00\xff", b"\x00").decode(), name.replace(b"\x00\xff", b"\x00").decode()


# --- records ---


def _stamps() -> Iterator[bytes]:
    origin = os.urandom(8)
    for count in itertools.count():
        yield origin + count.to_bytes(4, "big")


_next_stamp = _stamps().__next__


def dump(user: FloorUser) -> bytes:
    """A record: format byte, stamp, one map of the value fields."""
    return b"\x10" + _next_stamp() + _pack({"age": user.age, "email": user.email})


def load(team: str, name: str, data: bytes) -> FloorUser | None:
    """Read a record; an expired one is ``None``."""
    flags = data[0]
    body = STAMP_END
    if flags != FORMAT:
        if flags != FORMAT | DEADLINE:
            raise ValueError(f"not a record: {data[:16]!r}")
        body += 8
        if int.from_bytes(data[STAMP_END:body], "big") <= time.time_ns() // 1_000:
            return None
    fields = msgpack.unpackb(data[body:])
    age, email = fields["age"], fields["email"]
    if not isinstance(age, int) or not (email is None or isinstance(email, str)):
        raise TypeError(f"not a user: {fields!r}")
    return FloorUser(team, name, age, email)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut anything into lists of a size."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
