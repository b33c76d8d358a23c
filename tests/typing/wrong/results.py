"""Answers that are taken for something else."""

from __future__ import annotations

import kvmodel as kv
from tests.typing.right.models import Reading, User


async def maybe_none() -> None:
    """``find`` and ``get_many`` may find nothing."""
    print((await User.objects.find("red", "ada")).age)
    for user in await User.objects.get_many([("red", "ada")]):
        print(user.age)
    print((await User.objects.range("red").first()).age)
    for reading in await Reading.objects.get_many([("s", 1)]):
        print(reading.value)


async def of_another_model(user: User, reading: Reading) -> None:
    """A repository answers and takes objects of its own model."""
    one: Reading = await User.objects.get("red", "ada")
    many: list[Reading] = await User.objects.range("red")
    await User.objects.create(reading)
    await User.objects.save(reading)
    await User.objects.save_many([user, reading])
    await User.objects.refresh(reading)
    print(one, many)


async def not_awaited(user: User) -> None:
    """A call that was not awaited is no object."""
    print(User.objects.get("red", "ada").age)
    print(User.objects.range("red")[0])
    for each in User.objects.range("red"):
        print(each)
    async for each in User.objects.get("red", "ada"):
        print(each)


async def pages() -> None:
    """A page is not a list, its token may be missing."""
    page = await User.objects.range("red").page(20)
    for user in page:
        print(user)
    token: str = page.next_token
    await User.objects.range("red").page("20")
    print(token)


async def ranges() -> None:
    """Bounds that are none."""
    User.objects.range("red", limit="2")
    User.objects.range("red", from_="a")
    User.objects.range("red", reverse=1)
    User.objects.scan(first="a")
    User.objects.range("red", prefix=("b", kv.starts(1)))
