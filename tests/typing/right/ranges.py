"""Ranges: awaited, streamed, paged."""

from __future__ import annotations

from typing import assert_type

import kvmodel as kv
from tests.typing.right.models import Reading, Sheet, User


async def awaited() -> None:
    """A range is a list to who awaits it."""
    assert_type(User.objects.range("red"), kv.Range[User])
    assert_type(await User.objects.range("red"), list[User])
    assert_type(await User.objects.range("red", prefix="a", limit=2, reverse=True), list[User])
    assert_type(await User.objects.range("red", prefix=("b", kv.starts("x"))), list[User])
    assert_type(await Reading.objects.range("s", first=1, before=9), list[Reading])
    assert_type(await Sheet.objects.range("b", after=(1, 2), last=(7,)), list[Sheet])
    assert_type([user.name for user in await User.objects.range("red")], list[str])


async def streamed() -> None:
    """``async for`` gives objects."""
    async for user in User.objects.range("red"):
        assert_type(user, User)
    async for reading in Reading.objects.scan(limit=3):
        assert_type(reading, Reading)
    assert_type([user.age async for user in User.objects.scan()], list[int])


async def asked() -> None:
    """What else a range answers."""
    users = User.objects.range("red")
    assert_type(await users.first(), User | None)
    assert_type(await users.count(), int)
    assert_type(await users.delete(), int)
    assert_type(users.unchecked(), kv.Range[User])
    assert_type(users.explain(), kv.Plan)
    assert_type(users.explain().round_trips, int | None)
    assert_type(users.explain().steps, tuple[str, ...])


async def paged() -> None:
    """Pages hold objects, and the token of the next one."""
    page = await User.objects.range("red").page(20)
    assert_type(page, kv.Page[User])
    assert_type(page.items, list[User])
    assert_type(page.items[0].email, str | None)
    assert_type(page.next_token, str | None)
    assert_type(await User.objects.range("red").page(20, page.next_token), kv.Page[User])
