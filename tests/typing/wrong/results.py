"""Answers that are taken for something else."""

from __future__ import annotations

import kvmodel as kv
from tests.typing.right.models import Reading, User


async def maybe_none() -> None:
    """``find`` and ``get_many`` may find nothing."""
    print((await User.objects.find("red", "ada")).age)  # refused: union-attr / reportOptionalMemberAccess
    for user in await User.objects.get_many([("red", "ada")]):
        print(user.age)  # refused: union-attr / reportOptionalMemberAccess
    print((await User.objects.range("red").first()).age)  # refused: union-attr / reportOptionalMemberAccess
    for reading in await Reading.objects.get_many([("s", 1)]):
        print(reading.value)  # refused: union-attr / reportOptionalMemberAccess


async def of_another_model(user: User, reading: Reading) -> None:
    """A repository answers and takes objects of its own model."""
    one: Reading = await User.objects.get("red", "ada")  # refused: assignment / reportAssignmentType
    many: list[Reading] = await User.objects.range("red")  # refused: assignment / reportAssignmentType
    await User.objects.create(reading)  # refused: arg-type / reportArgumentType
    await User.objects.save(reading)  # refused: arg-type / reportArgumentType
    await User.objects.save_many([user, reading])  # refused: list-item / reportArgumentType
    await User.objects.refresh(reading)  # refused: arg-type / reportArgumentType
    print(one, many)


async def not_awaited(user: User) -> None:
    """A call that was not awaited is no object."""
    print(User.objects.get("red", "ada").age)  # refused: attr-defined / reportAttributeAccessIssue
    print(User.objects.range("red")[0])  # refused: index / reportIndexIssue
    for each in User.objects.range("red"):  # refused: attr-defined / reportGeneralTypeIssues
        print(each)
    async for each in User.objects.get("red", "ada"):  # refused: attr-defined / reportGeneralTypeIssues
        print(each)


async def pages() -> None:
    """A page is not a list, its token may be missing."""
    page = await User.objects.range("red").page(20)
    for user in page:  # refused: attr-defined / reportGeneralTypeIssues
        print(user)
    token: str = page.next_token  # refused: assignment / reportAssignmentType
    await User.objects.range("red").page("20")  # refused: arg-type / reportArgumentType
    print(token)


async def ranges() -> None:
    """Bounds that are none."""
    User.objects.range("red", limit="2")  # refused: arg-type / reportArgumentType
    User.objects.range("red", from_="a")  # refused: call-arg / reportCallIssue
    User.objects.range("red", reverse=1)  # refused: arg-type / reportArgumentType
    User.objects.scan(first="a")  # refused: call-arg / reportCallIssue
    User.objects.range("red", prefix=("b", kv.starts(1)))  # refused: arg-type / reportArgumentType
