"""What a unit of work knows of one record, and how that becomes mutations."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from kvmodel._deadlines import KEEP, Deadline
from kvmodel._direct import lose, new_deadline
from kvmodel._state import State, Status, get_state, set_state
from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    Check,
    Delete,
    Expect,
    Expectation,
    Key,
    Mutation,
    Outcome,
    Put,
    Values,
    Version,
)
from kvmodel.drivers.formats.records import pack
from kvmodel.errors import AlreadyExists, Conflict, ValidationError

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model

__all__ = ["Change", "Entry", "Intent", "build_changes"]

M = TypeVar("M", bound="Model")


class Intent(enum.Enum):
    """What a unit means to do with a record, besides noticing changes of its object."""

    KEEP = "keep"
    PUT = "put"
    DELETE = "delete"


class _Unseen(enum.Enum):
    UNSEEN = "unseen"


_UNSEEN: Final = _Unseen.UNSEEN
_Seen: TypeAlias = "Version | Expect | _Unseen"


class Entry(Generic[M]):
    """One record in a unit of work.

    Attributes:
        obj: The object that stands for the record in this unit; ``None`` where it is absent, deleted or not loaded.
        seen: The version that was read, ``ABSENT``, or unseen.
        expect: What a write relies on, where nothing was read.
        covered: Whether it was read by checked ranges only, which are checked as a whole.
        checked: Whether the unit has to find it unchanged at commit, even if it only read it.
        deadline: A new deadline, or ``KEEP``.
    """

    __slots__ = ("_baseline", "bound", "checked", "covered", "deadline", "expect", "intent", "key", "obj", "seen")

    def __init__(self, bound: Bound[M], key: Key) -> None:
        self.bound = bound
        self.key = key
        self.obj: M | None = None
        self.seen: _Seen = _UNSEEN
        self.expect: Expectation = ANYTHING
        self.intent = Intent.KEEP
        self.deadline: Deadline = KEEP
        self.covered = False
        self.checked = True
        self._baseline: bytes | None = None

    # --- what was read ---

    @property
    def known(self) -> bool:
        """Whether the unit can say what the record is, without reading."""
        return self.intent is not Intent.KEEP or self.obj is not None or self.seen is ABSENT

    @property
    def was_read(self) -> bool:
        """Whether the unit relies on what it read under this key."""
        return self.seen is not _UNSEEN

    @property
    def is_live(self) -> bool:
        """Whether the record exists, as this unit sees it."""
        if self.intent is Intent.KEEP:
            return self.obj is not None or (self.seen is not _UNSEEN and self.seen is not ABSENT)
        return self.intent is Intent.PUT

    def witness(self, version: Version | Expect) -> None:
        """Take down what was read. Raises ``Conflict`` where it is not what this unit read before."""
        if self.seen is not _UNSEEN and self.seen != version:
            raise self._conflict("this record changed while the unit of work was reading it: run the unit again")
        self.seen = version

    def track(self, obj: M) -> None:
        """Watch an object that was just read for changes."""
        self.obj = obj
        self.intent = Intent.KEEP
        self._baseline = pack(self.bound.schema.dump(obj))

    # --- what is meant to change ---

    def put(self, obj: M, expect: Expectation, deadline: Deadline) -> None:
        """Mean to write an object. Raises ``Conflict`` or ``AlreadyExists`` where that is known to fail."""
        self._rely_on(expect)
        if deadline is not KEEP or (obj is not self.obj and get_state(obj) is None):
            self.deadline = deadline  # A new object does not inherit what was meant for the record before it.
        self.obj, self.intent = obj, Intent.PUT

    def delete(self, expect: Expectation) -> None:
        """Mean to delete the record."""
        self._rely_on(expect)
        self.intent, self.deadline = Intent.DELETE, KEEP

    def _rely_on(self, expect: Expectation) -> None:
        """Take down what a write relies on, besides what was read and what the writes before it rely on."""
        if expect is ABSENT:
            if self.is_live:
                raise self._exists()
            if self.seen is _UNSEEN and self.intent is Intent.KEEP:  # Or the unit itself has freed the key.
                self.expect = ABSENT
        elif expect is not ANYTHING:
            known = self.expect if self.seen is _UNSEEN else self.seen
            if known is not ANYTHING and known != expect:
                raise self._conflict("this object is not what the unit of work has under its key: run the unit again")
            self.expect = expect

    # --- at commit ---

    def change(self, stamp: bytes) -> Change | None:
        """Answer what has to be written or checked for this record, or ``None``."""
        expect: Expectation = self.expect if self.seen is _UNSEEN else self.seen
        if self.intent is Intent.DELETE:
            return self._deletion(expect)
        if self.obj is not None:
            values = self._values(self.obj)
            if values is not None:
                expires_at = new_deadline(self.bound, self.obj, self.deadline, expect)
                put = Put(self.bound.table, self.key, values, stamp, expires_at, expect)
                return Change(self, put, writes=True)
        if self.seen is _UNSEEN or self.covered or not self.checked:
            return None
        return Change(self, Check(self.bound.table, self.key, expect), writes=False)

    def _values(self, obj: M) -> Values | None:
        """What to write of an object, ``None`` if it did not change."""
        schema = self.bound.schema
        if schema.key_of(obj) != self.key:
            raise ValidationError(
                "the key of an object in a unit of work can't change: add a new object under the new key and delete "
                "this one",
                table=self.bound.table.name,
                key=self.key,
            )
        values = schema.dump(obj)
        if self.intent is Intent.PUT or self.deadline is not KEEP or pack(values) != self._baseline:
            return values
        return None

    def _deletion(self, expect: Expectation) -> Change | None:
        if expect is ABSENT:  # Added and deleted again: what remains is that the key was free.
            return Change(self, Check(self.bound.table, self.key, ABSENT), writes=False)
        return Change(self, Delete(self.bound.table, self.key, expect), writes=True)

    def settle(self, mutation: Mutation, outcome: Outcome) -> None:
        """Give the object the state that follows from its commit."""
        if self.obj is None:
            return
        if isinstance(mutation, Put):
            old = get_state(self.obj)
            raw = None if old is None else old.raw
            set_state(self.obj, State(Status.LOADED, self.key, outcome.version, mutation.expires_at, raw))
        elif self.intent is Intent.DELETE:
            set_state(self.obj, State(Status.DELETED, self.key, None, None, None))

    def lose(self, mutation: Mutation) -> None:
        """Nobody knows whether the object was written."""
        if self.obj is not None and isinstance(mutation, Put | Delete):
            lose(self.obj, mutation)

    # --- errors ---

    def _conflict(self, message: str) -> Conflict:
        table = self.bound.table.name
        return Conflict(message, keys=[(table, self.key)], table=table, key=self.key)

    def _exists(self) -> AlreadyExists:
        table = self.bound.table.name
        return AlreadyExists(
            "this key is taken, as this unit of work has seen: put(obj) writes it all the same",
            keys=[(table, self.key)],
            table=table,
            key=self.key,
        )


class Change(NamedTuple):
    """One entry's part of the commit."""

    entry: Entry[Any]
    mutation: Mutation
    writes: bool


def build_changes(entries: Iterable[Entry[Any]], stamp: bytes) -> list[Change]:
    """Answer what a commit has to write and to check, in the order in which the records came into the unit.

    ``stamp`` is that of the whole commit: it is one write attempt.
    """
    return [change for entry in entries if (change := entry.change(stamp)) is not None]
