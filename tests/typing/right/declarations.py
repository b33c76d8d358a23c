"""What a class statement makes: a constructor, fields, and an object that other functions take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_type
from uuid import UUID, uuid4

import attrs

import kvmodel as kv
from tests.typing.right.models import Reading, User


class Wide(
    kv.Model,
    table="wide",
    frozen=True,
    kw_only=True,
    schema=3,
    expires_in=timedelta(hours=1),
    layout="record",
    store_options={"other": {"engine": "x"}},
):
    """Uses every option of a class line, and every kind of default."""

    team: str = kv.partition_key(default="red")
    number: int = kv.clustering_key(descending=True, factory=int)
    age: int = kv.field(default=1, validator=attrs.validators.gt(0))
    count: int = kv.field(default=1, validator=[attrs.validators.gt(0), attrs.validators.lt(9)])
    tags: list[str] = kv.field(factory=list[str])
    by_name: Mapping[str, int] = kv.field(factory=dict[str, int])
    id: UUID = attrs.field(factory=uuid4)
    note: str | None = None

    @kv.upgrade(1)
    @staticmethod
    def _(values: dict[str, object]) -> dict[str, object]:
        return {**values, "note": None}

    @kv.upgrade(2)
    @staticmethod
    def _(values: dict[str, object]) -> dict[str, object]:
        return values


class Named(kv.Model[str], abstract=True):
    """Fields, and a key type, for subclasses."""

    name: str = kv.partition_key()


class Place(Named, table="places"):
    """Has them."""

    note: str = ""


class Whole(kv.Model, table="whole", layout="plain"):
    """Data of another program."""

    name: str = kv.partition_key()
    data: bytes = kv.field(whole_value=True)


def take(obj: kv.Model, model: type[kv.Model]) -> str:
    """Any model is a ``kv.Model``."""
    return f"{obj!r} of {model.__name__}"


def objects() -> None:
    """Objects are of the class that made them, and their fields of the types that were declared."""
    user = User("red", "ada", age=36, email="ada@example.org")
    assert_type(user, User)
    assert_type(user.team, str)
    assert_type(user.age, int)
    assert_type(user.email, str | None)
    assert_type(Reading("s", 1).value, float)
    assert_type(Wide().tags, list[str])
    assert_type(Wide(team="red", number=1, tags=["a"]).id, UUID)
    assert_type(Wide().note, str | None)
    assert_type(Place("oslo", note="x").name, str)
    assert_type(Whole("a", b"x").data, bytes)


def functions() -> None:
    """What takes any object answers its own class."""
    user = User("red", "ada")
    assert_type(kv.replace(user, age=37), User)
    assert_type(kv.version(user), str)
    assert_type(kv.expires_at(user), datetime | None)
    attrs.asdict(user)
    attrs.fields(User)
    take(user, User)
    take(Reading("s", 1), Reading)
    take(Place("oslo"), Place)


async def inherited() -> None:
    """A subclass has the key types of its base."""
    assert_type(await Place.objects.get("oslo"), Place)
    assert_type(Place.objects, kv.Repository[Place, str])
