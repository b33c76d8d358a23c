"""Databases, units and limits that are taken for something else."""

from __future__ import annotations

from datetime import datetime

import kvmodel as kv
from tests.typing.right.models import User


class Plain:
    """Is no model."""


async def units(db: kv.Database, user: User) -> None:
    """Only models join a unit; only an awaitable function is run in one."""

    async def find(unit: kv.UnitOfWork) -> User | None:
        return await User.objects.using(unit).find("red", "ada")

    def blocking(unit: kv.UnitOfWork) -> None:
        unit.add(user)

    async with db.unit_of_work() as unit:
        unit.add(Plain())
        unit.put("red")
        unit.delete("red", "ada")
    found: User = await db.transact(find)
    await db.transact(blocking)
    with db.unit_of_work() as unit:
        print(unit, found)


async def batches(db: kv.Database) -> None:
    """A batch takes objects."""
    async with db.batch() as batch:
        batch.put(Plain())
        batch.add(User)


async def databases(db: kv.Database) -> None:
    """A database is opened with ``async with`` and asked for models."""
    with kv.connect("memory://") as other:
        print(other)
    db.bind(Plain)
    await db.prepare(User("red", "ada"))
    User.objects.using("memory://")
    print(db.capabilities.atomic)
    db.capabilities.ordered = False


async def limits(user: User) -> None:
    """Time spans are timedeltas, limits are numbers."""
    with kv.timeout("60"):
        pass
    with kv.budget(keys=1.5):
        pass
    with kv.budget(round_trip=1):
        pass
    await User.objects.create(user, expires_in=60)
    await User.objects.save(user, expires_at="tomorrow")
    await User.objects.save(user, if_version=b"1")
    await User.objects.save(user, expires_at=datetime.now)
    kv.version(user).decode()
    kv.replace("red", age=1)
