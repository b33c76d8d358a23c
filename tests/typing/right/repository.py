"""What the calls of a repository answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import assert_type

import kvmodel as kv
from tests.typing.right.models import Reading, Setting, Sheet, User


def repositories(db: kv.Database, unit: kv.UnitOfWork) -> None:
    """A repository knows its model, and the types of its key if the model names them."""
    assert_type(Reading.objects, kv.Repository[Reading, str, int])
    assert_type(Setting.objects, kv.Repository[Setting, str])
    assert_type(Reading.objects.using(db), kv.Repository[Reading, str, int])
    assert_type(Reading.objects.using(db, outside=True), kv.Repository[Reading, str, int])
    assert_type(Reading.objects.using(unit), kv.Repository[Reading, str, int])
    assert_type(Reading.objects.model, type[Reading])


async def reading() -> None:
    """One record, or none; several, with holes."""
    assert_type(await User.objects.get("red", "ada"), User)
    assert_type(await User.objects.find("red", "ada"), User | None)
    assert_type(await User.objects.exists("red", "ada"), bool)
    assert_type(await User.objects.get_many([("red", "ada"), ("red", "bob")]), list[User | None])
    assert_type((await User.objects.get("red", "ada")).age, int)

    assert_type(await Reading.objects.get("s", 1), Reading)
    assert_type(await Reading.objects.find("s", 1), Reading | None)
    assert_type(await Reading.objects.exists("s", 1), bool)
    assert_type(await Setting.objects.get("colour"), Setting)
    assert_type(await Setting.objects.get_many(["colour", "size"]), list[Setting | None])
    assert_type(await Sheet.objects.find("b", 1, 2), Sheet | None)


async def narrowing() -> None:
    """What was found has to be told from what was not."""
    found = await User.objects.find("red", "ada")
    if found is not None:
        assert_type(found, User)
    pair = await User.objects.get_many([("red", "ada")])
    assert_type([user for user in pair if user is not None], list[User])


async def writing(user: User, reading: Reading) -> None:
    """Writes answer the object that they were given, or what became of it."""
    assert_type(await User.objects.create(user), User)
    assert_type(await User.objects.create(user, expires_in=timedelta(hours=1)), User)
    assert_type(await User.objects.save(user), User)
    assert_type(await User.objects.save(user, force=True), User)
    assert_type(await User.objects.save(user, if_version=kv.version(user)), User)
    assert_type(await User.objects.save(user, expires_at=datetime.now(timezone.utc)), User)
    assert_type(await User.objects.save(user, expires_at=None), User)
    assert_type(await User.objects.update("red", "ada", age=37, email=None), User)
    assert_type(await Reading.objects.update("s", 1, value=0.5), Reading)
    assert_type(await Reading.objects.create(reading), Reading)
    await User.objects.refresh(user)
    await User.objects.expire("red", "ada", expires_in=None)
    await Reading.objects.expire("s", 1, expires_in=timedelta(hours=1))


async def deleting(user: User, reading: Reading) -> None:
    """By object or by key; some stores don't tell whether anything was there."""
    assert_type(await User.objects.delete(user), bool | None)
    assert_type(await User.objects.delete(user, force=True), bool | None)
    assert_type(await User.objects.delete("red", "ada"), bool | None)
    assert_type(await Reading.objects.delete(reading), bool | None)
    assert_type(await Reading.objects.delete("s", 1), bool | None)


async def many() -> None:
    """Any iterable of the model's objects can be saved."""

    async def stream() -> AsyncIterator[User]:
        yield User("red", "ada")

    assert_type(await User.objects.save_many([User("red", "ada")]), int)
    assert_type(await User.objects.save_many(User("red", str(number)) for number in range(9)), int)
    assert_type(await User.objects.save_many(stream()), int)
    assert_type(await User.objects.save_many(User.objects.range("red")), int)
