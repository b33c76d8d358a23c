"""What is remembered of an object: who keeps it, and how it shows."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel._state import State, Status, decode_version, format_version, get_state, set_state
from kvmodel.drivers.base import Row, Version
from kvmodel.schema import schema_of


class User(kv.Model, table="users"):
    """An object with something to change in place."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    tags: list[str] = kv.field(factory=list)
    late: int = attrs.field(init=False, default=0)


class Frozen(kv.Model, table="frozen", frozen=True):
    """An object that refuses assignments."""

    id: str = kv.partition_key()
    size: int = 0


def load(version: Version = b"1", expires_at: int | None = None) -> User:
    """Load a user."""
    user: User = schema_of(User).load(Row(("red", "ada"), {"tags": ["x"], "late": 4, "new": [1]}, version, expires_at))
    return user


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj)), kv.replace])
def test_copies_keep_the_state(clone: Any) -> None:
    """A copy, a pickle and ``kv.replace`` stand where the original stands; new objects stay new."""
    user = load()

    twin = clone(user)

    assert (twin, get_state(twin)) == (user, get_state(user))
    assert twin is not user
    assert get_state(clone(User("red", "bob"))) is None
    frozen = schema_of(Frozen).load(Row(("a",), {"size": 3}, b"1"))
    assert get_state(clone(frozen)) == get_state(frozen)


def test_deep_copies_share_nothing() -> None:
    """A shallow copy shares what the fields hold, a deep one does not."""
    user = load()
    shallow, deep = copy.copy(user), copy.deepcopy(user)
    user.tags.append("y")

    assert shallow.tags == ["x", "y"]
    assert deep.tags == ["x"]


def test_replace_changes_fields_and_keeps_the_state() -> None:
    """The changed copy replaces the same record; what it is made of is checked as in the constructor."""
    user = load()

    changed = kv.replace(user, tags=["z"], late=5)

    assert (changed.tags, changed.late, changed.name) == (["z"], 5, "ada")
    assert get_state(changed) == get_state(user)
    assert user.tags == ["x"]
    assert kv.replace(user, team="red") == user
    with pytest.raises(kv.ValidationError, match="key field"):
        kv.replace(user, team="blue")
    with pytest.raises(kv.ValidationError, match="there are: tags, late"):
        kv.replace(user, tag=[])


def test_evolve_makes_a_new_object() -> None:
    """``attrs.evolve`` gives an object that was never stored."""
    assert get_state(attrs.evolve(load(), name="bob")) is None  # type: ignore[misc]


def test_a_refresh_is_in_place() -> None:
    """``load_into`` gives an object the fields and the state of a newer row; a frozen one refuses."""
    user = load()
    schema_of(User).load_into(user, Row(("red", "ada"), {"tags": ["n"]}, b"2", 9))

    assert (user.tags, user.late, get_state(user)) == (["n"], 0, State(Status.LOADED, ("red", "ada"), b"2", 9, None))

    frozen = Frozen("a")
    with pytest.raises(kv.ValidationError, match="frozen"):
        schema_of(Frozen).load_into(frozen, Row(("a",), {"size": 1}, b"1"))
    assert frozen == Frozen("a")


def test_a_frozen_subclass_is_frozen() -> None:
    """A subclass of a frozen model refuses assignments as well, and so refreshing."""

    class Sub(Frozen, table="subs", frozen=True):
        pass

    with pytest.raises(kv.ValidationError, match="frozen"):
        schema_of(Sub).load_into(Sub("a"), Row(("a",), {}, b"1"))


@given(st.binary() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])))
def test_version_tokens(version: Version) -> None:
    """A version becomes text, and the text becomes the version again, of the same type."""
    token = kv.version(load(version))

    assert decode_version(token) == version
    assert type(decode_version(token)) is type(version)
    assert token == format_version(version)


@pytest.mark.parametrize(
    "token", ["", "b", "x1", "i", "i01", "i1.5", "b!!!!", "bMTIzNA==", "bMTIzNR", "i+1", None, 7, b"i1"]
)
def test_tokens_that_nobody_gave(token: Any) -> None:
    """Any other text is refused, other spellings of a good token too; the empty version is ``b`` alone."""
    if token == "b":
        assert decode_version(token) == b""
        return
    with pytest.raises(kv.ValidationError, match="not a version token"):
        decode_version(token)


@pytest.mark.parametrize(
    "state", [None, State(Status.DELETED, ("red", "ada"), b"1"), State(Status.UNKNOWN, ("red", "ada"), None)]
)
def test_objects_without_a_version(state: State | None) -> None:
    """New objects, deleted ones and those of unknown fate have no version to show."""
    user = User("red", "ada")
    set_state(user, state)

    with pytest.raises(kv.ValidationError, match="load or save it first"):
        kv.version(user)


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [
        (None, None),
        (1_700_000_000_000_001, datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=timezone.utc)),
        (2**63, datetime.max.replace(tzinfo=timezone.utc)),
    ],
)
def test_expires_at(deadline: int | None, expected: datetime | None) -> None:
    """The deadline is an aware datetime in UTC; one past the end of the calendar is the calendar's end."""
    assert kv.expires_at(load(expires_at=deadline)) == expected
    assert kv.expires_at(User("red", "ada")) is None
