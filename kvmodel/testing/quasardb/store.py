"""What the cluster would hold: entries, tags and expiries, with the habits that are known of the real one.

Habits kept: every write takes the expiry away; tags are entries too, and share their names; an expiry comes back in
whole seconds; names come in no order, and are cut to any of them at the count asked for; a tag may name an entry twice.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Entry", "Refusal", "Store", "Value"]

Value = bytes | str | int | float
_SECOND: Final = 1_000_000
_SKEW: Final = 300 * _SECOND
_LARGEST: Final = 1 << 63
_CONDITION: Final = re.compile(r"(?:(NOT)\s+)?(?:tag\s*=\s*'((?:[^'\\]|\\.)*)'|type\s*=\s*(\w+))", re.IGNORECASE)
_AND: Final = re.compile(r"\s+AND\s+", re.IGNORECASE)
_FIND: Final = re.compile(r"\s*find\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)


class Refusal(Exception):
    """What the cluster answers instead: the name of a row of the texts."""


class Entry:
    """One entry."""

    __slots__ = ("expires", "kind", "tags", "value")

    def __init__(self, kind: str, value: Value) -> None:
        self.kind = kind
        self.value = value
        self.expires: int | None = None
        self.tags: set[str] = set()


class Store:
    """The data of one stand-in; it is no database, and keeps everything in memory.

    Args:
        clock: Tells the time in microseconds since 1970.
        seed: Decides about the order of names.
        max_entry_bytes: The largest content.

    Attributes:
        lag: How many microseconds an expired name still shows in listings.
        purges: Whether ``purge_all`` is allowed.
    """

    def __init__(
        self,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        *,
        seed: int = 0,
        max_entry_bytes: int = 256 << 20,
    ) -> None:
        self.clock = clock
        self.lag = 0
        self.purges = True
        self.max_entry_bytes = max_entry_bytes
        self.lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._draw = random.Random(seed)  # noqa: S311 - no secret

    def __len__(self) -> int:
        return len(self._entries)

    # --- entries ------------------------------------------------------------------------------------------------------

    def _find(self, name: str, kind: str | None = None) -> Entry:
        entry = self._entries.get(name)
        if entry is not None and entry.expires is not None and entry.expires <= self.clock():
            if entry.expires + self.lag <= self.clock():
                self._drop(name)
            entry = None
        if entry is None:
            raise Refusal("not_found")
        if kind is not None and entry.kind != kind:
            raise Refusal("other_type")
        return entry

    def _get_or_none(self, name: str) -> Entry | None:
        try:
            return self._find(name)
        except Refusal:
            return None

    def _drop(self, name: str) -> None:
        for tag in self._entries.pop(name).tags:
            self._untag(name, tag)

    def _check(self, name: str, value: Value) -> None:
        if name.startswith("$qdb"):
            raise Refusal("reserved")
        if isinstance(value, bytes | str) and len(value) > self.max_entry_bytes:
            raise Refusal("too_large")

    def get(self, kind: str, name: str) -> Value:
        return self._find(name, kind).value

    def put(self, kind: str, name: str, value: Value) -> None:
        self._check(name, value)
        entry = self._get_or_none(name)
        if entry is not None:
            raise Refusal("exists" if entry.kind == kind else "other_type")
        self._entries[name] = Entry(kind, value)

    def update(self, kind: str, name: str, value: Value) -> None:
        self._check(name, value)
        entry = self._get_or_none(name)
        if entry is None:
            self._entries[name] = Entry(kind, value)
            return
        if entry.kind != kind:
            raise Refusal("other_type")
        self._write(entry, value)

    def _write(self, entry: Entry, value: Value) -> None:
        entry.value = value
        entry.expires = None

    def remove(self, kind: str, name: str) -> None:
        self._find(name)
        self._drop(name)

    def remove_if(self, kind: str, name: str, comparand: Value) -> None:
        if self._find(name, kind).value != comparand:
            raise Refusal("mismatch")
        self._drop(name)

    def compare_and_swap(self, kind: str, name: str, new: Value, comparand: Value) -> Value:
        entry = self._find(name, kind)
        if entry.value != comparand:
            return entry.value
        self._check(name, new)
        self._write(entry, new)
        return "" if isinstance(new, str) else b""

    def get_and_update(self, kind: str, name: str, value: Value) -> Value:
        entry = self._find(name, kind)
        self._check(name, value)
        before = entry.value
        self._write(entry, value)
        return before

    def get_and_remove(self, kind: str, name: str) -> Value:
        before = self._find(name, kind).value
        self._drop(name)
        return before

    def add(self, kind: str, name: str, addend: int | float) -> Value:
        entry = self._find(name, kind)
        assert isinstance(entry.value, int | float)
        total = entry.value + addend
        if kind != "double" and not -_LARGEST <= total < _LARGEST:
            raise Refusal("overflow" if total > 0 else "underflow")
        self._write(entry, total)
        return total

    def kind_of(self, name: str) -> list[str | int]:
        entry = self._find(name)
        return [entry.kind, len(entry.value) if isinstance(entry.value, bytes | str) else 8]

    # --- expiry -------------------------------------------------------------------------------------------------------

    def expires_at(self, name: str, moment: int | None) -> None:
        entry = self._find(name)
        if entry.kind == "tag":
            raise Refusal("other_type")
        if moment is not None and moment < self.clock() - _SKEW:
            raise Refusal("invalid")
        entry.expires = None if moment is None else moment // 1000 * 1000

    def get_expiry(self, name: str) -> int:
        """In whole seconds; 0 for never."""
        expires = self._find(name).expires
        return 0 if expires is None else expires // _SECOND

    # --- tags ---------------------------------------------------------------------------------------------------------

    def attach(self, name: str, tags: list[str]) -> bool:
        entry = self._find(name)
        for tag in tags:
            found = self._get_or_none(tag)
            if found is not None and found.kind != "tag":
                raise Refusal("other_type")
        before = len(entry.tags)
        for tag in tags:
            entry.tags.add(tag)
            self._entries.setdefault(tag, Entry("tag", b"")).tags.add(name)
        return len(entry.tags) > before

    def detach(self, name: str, tags: list[str]) -> bool:
        entry = self._find(name)
        gone = entry.tags.intersection(tags)
        for tag in gone:
            entry.tags.discard(tag)
            self._untag(name, tag)
        return bool(gone)

    def _untag(self, name: str, tag: str) -> None:
        entry = self._entries.get(tag)
        if entry is not None:
            entry.tags.discard(name)
            if not entry.tags and entry.kind == "tag":
                del self._entries[tag]

    def tags(self, name: str) -> list[str]:
        return self._shuffled(self._find(name).tags)

    def tagged(self, tag: str) -> list[str]:
        entry = self._get_or_none(tag)
        if entry is None:
            return []
        if entry.kind != "tag":
            raise Refusal("other_type")
        found = [name for name in entry.tags if self._get_or_none(name) is not None]
        return self._shuffled([*found, *found[:1]])

    def find(self, query: str) -> list[str]:
        inside = _FIND.fullmatch(query)
        conditions = [_CONDITION.fullmatch(part.strip()) for part in _AND.split(inside[1])] if inside else [None]
        found = []
        for name in list(self._entries):
            entry = self._get_or_none(name)
            if entry is None or entry.kind == "tag":
                continue
            for condition in conditions:
                if condition is None:
                    raise Refusal("bad_query")
                negated, tag, kind = condition.groups()
                holds = entry.kind == kind.lower() if kind else re.sub(r"\\(.)", r"\1", tag) in entry.tags
                if holds == bool(negated):
                    break
            else:
                found.append(name)
        if None in conditions:
            raise Refusal("bad_query")
        return self._shuffled(found)

    # --- names --------------------------------------------------------------------------------------------------------

    def names(self, end: str, text: str, count: int) -> list[str]:
        return self._shuffled(self._matching(end, text))[:count]

    def count(self, end: str, text: str) -> int:
        return len(self._matching(end, text))

    def _matching(self, end: str, text: str) -> list[str]:
        matches = str.startswith if end == "prefix" else str.endswith
        shown = []
        for name in list(self._entries):
            if matches(name, text):
                self._get_or_none(name)
                if name in self._entries:
                    shown.append(name)
        return shown

    def _shuffled(self, names: list[str] | set[str]) -> list[str]:
        found = sorted(names)
        self._draw.shuffle(found)
        return found

    def purge_all(self) -> None:
        if not self.purges:
            raise Refusal("disabled")
        self._entries.clear()
