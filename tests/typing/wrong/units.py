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
        unit.add(Plain())  # refused: arg-type / reportArgumentType
        unit.put("red")  # refused: arg-type / reportArgumentType
        unit.delete("red", "ada")  # refused: arg-type / reportArgumentType
    found: User = await db.transact(find)  # refused: arg-type / reportAssignmentType
    await db.transact(blocking)  # refused: arg-type / reportArgumentType
    with db.unit_of_work() as unit:  # refused: attr-defined / reportGeneralTypeIssues
        print(unit, found)


async def batches(db: kv.Database) -> None:
    """A batch takes objects."""
    async with db.batch() as batch:
        batch.put(Plain())  # refused: arg-type / reportArgumentType
        batch.add(User)  # refused: arg-type / reportArgumentType


async def databases(db: kv.Database) -> None:
    """A database is opened with ``async with`` and asked for models."""
    with kv.connect("memory://") as other:  # refused: attr-defined / reportGeneralTypeIssues
        print(other)
    db.bind(Plain)  # refused: arg-type / reportArgumentType
    await db.prepare(User("red", "ada"))  # refused: arg-type / reportArgumentType
    User.objects.using("memory://")  # refused: arg-type / reportArgumentType
    print(db.capabilities.atomic)  # refused: attr-defined / reportAttributeAccessIssue
    db.capabilities.ordered = False  # refused: misc / reportAttributeAccessIssue


async def limits(user: User) -> None:
    """Time spans are timedeltas, limits are numbers."""
    with kv.timeout("60"):  # refused: arg-type / reportArgumentType
        pass
    with kv.budget(keys=1.5):  # refused: arg-type / reportArgumentType
        pass
    with kv.budget(round_trip=1):  # refused: call-arg / reportCallIssue
        pass
    await User.objects.create(user, expires_in=60)  # refused: arg-type / reportArgumentType
    await User.objects.save(user, expires_at="tomorrow")  # refused: arg-type / reportArgumentType
    await User.objects.save(user, if_version=b"1")  # refused: arg-type / reportArgumentType
    await User.objects.save(user, expires_at=datetime.now)  # refused: arg-type / reportArgumentType
    kv.version(user).decode()  # refused: attr-defined / reportAttributeAccessIssue
    kv.replace("red", age=1)  # refused: type-var / reportArgumentType
