"""What type checkers make of models: read by mypy and pyright, never run.

Right uses are stated with ``assert_type``; a wrong one carries the error that it must give, so that a check that got
lost is an unused ``type: ignore``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, assert_type
from uuid import UUID, uuid4

import annotated_types as at
import attrs

import kvmodel as kv


class User(kv.Model, table="users"):
    """Names no key types: any key goes."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key(descending=True)
    age: int = 0
    email: str | None = None
    tags: list[str] = kv.field(factory=list)
    id: UUID = attrs.field(factory=uuid4)
    size: int = kv.field(default=1, validator=attrs.validators.gt(0))
    count: int = kv.field(default=1, validator=[attrs.validators.gt(0), attrs.validators.lt(9)])

    @kv.upgrade(1)
    @staticmethod
    def _(values: dict[str, object]) -> dict[str, object]:
        return values

    @kv.upgrade(2)
    @staticmethod
    def _(values: dict[str, object]) -> dict[str, object]:
        return values


class Reading(kv.Model[str, int], table="readings", frozen=True):
    """Names its key types: keys are checked."""

    sensor: str = kv.partition_key()
    second: int = kv.clustering_key()
    value: Annotated[float, at.Ge(0)] = 0.0


class Base(kv.Model, abstract=True):
    """Fields for subclasses."""

    id: str = kv.partition_key()


class Sub(Base, table="subs"):
    """Has them."""

    note: str = ""


class Mistaken(kv.Model, table="mistaken"):
    """Defaults of other types."""

    id: str = kv.partition_key()
    age: int = kv.field(default="x")  # type: ignore[assignment]
    tags: list[str] = kv.field(factory=dict)  # type: ignore[arg-type]


def take(obj: kv.Model, model: type[kv.Model]) -> None:
    """Any model is a ``kv.Model``."""


async def right() -> None:
    """Everything here is allowed."""
    user = User("red", "ada", age=36, email="ada@example.org")
    assert_type(user.age, int)
    assert_type(user.tags, list[str])
    assert_type(kv.replace(user, age=37), User)
    assert_type(kv.version(user), str)
    assert_type(kv.expires_at(user), datetime | None)
    assert_type(await User.objects.get("red", "ada"), User)
    assert_type(await User.objects.find("red"), User | None)
    assert_type(await Reading.objects.get("s", 1), Reading)
    assert_type(await Reading.objects.find("s", 1), Reading | None)
    assert_type(await Sub.objects.get("a"), Sub)
    assert_type(Sub("a", note="x").id, str)
    attrs.asdict(user)
    attrs.fields(User)
    take(user, User)
    take(Reading("s", 1), Reading)


async def wrong() -> None:
    """Everything here must be refused."""
    User("red", 3)  # type: ignore[arg-type]
    User("red")  # type: ignore[call-arg]
    User("red", "ada", aeg=3)  # type: ignore[call-arg]
    Reading("s", 1).value = 3.0  # type: ignore[misc]
    await Reading.objects.get("s", "1")  # type: ignore[arg-type]
    await Reading.objects.get("s")  # type: ignore[call-arg]
    await Reading.objects.find("s", 1, 2)  # type: ignore[call-arg]
    User("red", "ada").objects  # type: ignore[arg-type]  # noqa: B018
