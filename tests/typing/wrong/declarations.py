"""Class statements and constructor calls that cannot work."""

from __future__ import annotations

import kvmodel as kv
from tests.typing.right.models import Reading, User


class Mistaken(kv.Model, table="mistaken"):
    """Has defaults of other types than its fields."""

    id: str = kv.partition_key(default=1)
    number: int = kv.clustering_key(factory=str)
    age: int = kv.field(default="x")
    tags: list[str] = kv.field(factory=dict[str, str])
    note: str = None


class Unknown(kv.Model, table="unknown", frosen=True):
    """Has an unknown option in its class line."""

    id: str = kv.partition_key()


class Typed(kv.Model, table=1, expires_in=60, layout="flat"):
    """Has options of the wrong types."""

    id: str = kv.partition_key()


class Frozen(kv.Model, table="frozen", frozen=True):
    """Can't be changed."""

    id: str = kv.partition_key()
    age: int = 0


def constructors() -> None:
    """Arguments that the fields do not take."""
    User("red", 3)
    User("red")
    User("red", "ada", aeg=3)
    User("red", "ada", 36, None, "more")
    User("red", "ada", age="36")
    Reading("s", 1, value="high")


def fields(user: User, frozen: Frozen) -> None:
    """Fields that are not there, or take something else."""
    user.agee = 3
    user.age = "36"
    user.email = b"ada"
    print(user.nickname)
    frozen.age = 3
    print(user.objects)
    kv.partition_key(default=1, factory=int)
    kv.field(defualt=1)
