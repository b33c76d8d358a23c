"""Class statements and constructor calls that cannot work."""

from __future__ import annotations

import kvmodel as kv
from tests.typing.right.models import Reading, User


class Mistaken(kv.Model, table="mistaken"):
    """Has defaults of other types than its fields."""

    id: str = kv.partition_key(default=1)  # refused: assignment / reportAssignmentType
    number: int = kv.clustering_key(factory=str)  # refused: assignment / reportAssignmentType
    age: int = kv.field(default="x")  # refused: assignment / reportAssignmentType
    tags: list[str] = kv.field(factory=dict[str, str])  # refused: arg-type / reportAssignmentType
    note: str = None  # refused: assignment / reportAssignmentType


class Frozen(kv.Model, table="frozen", frozen=True):
    """Can't be changed."""

    id: str = kv.partition_key()
    age: int = 0


def constructors() -> None:
    """Arguments that the fields do not take."""
    User("red", 3)  # refused: arg-type / reportArgumentType
    User("red")  # refused: call-arg / reportCallIssue
    User("red", "ada", aeg=3)  # refused: call-arg / reportCallIssue
    User("red", "ada", 36, None, "more")  # refused: call-arg / reportCallIssue
    User("red", "ada", age="36")  # refused: arg-type / reportArgumentType
    Reading("s", 1, value="high")  # refused: arg-type / reportArgumentType


def fields(user: User, frozen: Frozen) -> None:
    """Fields that are not there, or take something else."""
    user.agee = 3  # refused: attr-defined / reportAttributeAccessIssue
    user.age = "36"  # refused: assignment / reportAttributeAccessIssue
    user.email = b"ada"  # refused: assignment / reportAttributeAccessIssue
    print(user.nickname)  # refused: attr-defined / reportAttributeAccessIssue
    frozen.age = 3  # refused: misc / reportAttributeAccessIssue
    print(user.objects)  # refused: arg-type / reportAttributeAccessIssue
    kv.partition_key(default=1, factory=int)  # refused: call-overload / reportCallIssue
    kv.field(defualt=1)  # refused: call-overload / reportCallIssue
