"""The entries of the stand-in: local objects that send nothing before they are asked."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from kvmodel.testing.quasardb import errors
from kvmodel.testing.quasardb.arguments import (
    is_data,
    is_float,
    is_integer,
    is_moment,
    is_span,
    is_text,
    is_texts,
    method,
    the_alias,
)

__all__ = [
    "Blob",
    "DirectBlob",
    "DirectInteger",
    "Double",
    "Entry",
    "ExpirableEntry",
    "Integer",
    "String",
    "Tag",
    "Timestamp",
    "never_expires",
]

Ask = Callable[..., Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
never_expires: Final = _EPOCH
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the package's own default


def _microseconds(moment: datetime) -> int | None:
    """A naive ``datetime`` is local time; the epoch means never."""
    count = (moment.astimezone(timezone.utc) - _EPOCH) // timedelta(microseconds=1)
    return count or None


def _bytes(data: object) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)  # type: ignore[call-overload]  # looked at before


class Entry:
    """What all entries have."""

    _kind = "entry"
    _c_name = "entry"

    class Type(enum.Enum):
        """The types that have a name."""

        Uninitialized = -1
        Blob = 0
        Integer = 1
        HashSet = 2
        Tag = 3
        Deque = 4
        Stream = 5
        Timeseries = 6

    class Metadata:
        """Type and size of an entry; its times can't be read."""

        def __init__(self) -> None:
            self.type = Entry.Type.Uninitialized
            self.size = 0

        @property
        def modification_time(self) -> datetime:
            raise TypeError("Unable to convert function return value to a Python type!")

        @property
        def expiry_time(self) -> datetime:
            raise TypeError("Unable to convert function return value to a Python type!")

    _ask: Ask
    _alias: str | bytes

    def __init__(self) -> None:
        hint = "" if type(self) in (Entry, ExpirableEntry) else f", use 'conn.{self._kind}(...)' instead."
        raise errors.DirectInstantiationError(f"Direct instantiation is not allowed{hint}")

    @classmethod
    def _make(cls, ask: Ask, alias: str | bytes) -> Any:
        entry = cls.__new__(cls)
        entry._ask = ask
        entry._alias = alias
        return entry

    def _call(self, function: str, call: str, *arguments: object) -> Any:
        function = f"qdb_{function}"
        return self._ask(function, call, the_alias(function, self._alias), *arguments)

    def _typed(self, function: str, call: str, *arguments: object) -> Any:
        name = f"qdb_{self._c_name}_{function}"
        return self._ask(name, call, self._kind, the_alias(name, self._alias), *arguments)

    @method(is_text)
    def attach_tag(self, arg0: str, /) -> bool:
        return bool(self._call("attach_tag", "attach", [the_alias("qdb_attach_tag", arg0, "tag")]))

    @method(is_texts)
    def attach_tags(self, arg0: list[str], /) -> None:
        self._call("attach_tags", "attach", [the_alias("qdb_attach_tags", tag, "tag") for tag in arg0])

    @method(is_text)
    def detach_tag(self, arg0: str, /) -> bool:
        return bool(self._call("detach_tag", "detach", [the_alias("qdb_detach_tag", arg0, "tag")]))

    @method(is_texts)
    def detach_tags(self, arg0: list[str], /) -> None:
        self._call("detach_tags", "detach", [the_alias("qdb_detach_tags", tag, "tag") for tag in arg0])

    @method(is_text)
    def has_tag(self, arg0: str, /) -> bool:
        try:
            return the_alias("qdb_has_tag", arg0, "tag") in self._call("has_tag", "tags")
        except errors.Error:
            return False  # As the package does: for errors of any kind.

    @method()
    def get_tags(self) -> list[str]:
        return list(self._call("get_tags", "tags"))

    @method()
    def remove(self) -> None:
        name = "qdb_remove"
        self._ask(name, "remove", self._kind, the_alias(name, self._alias))

    @method()
    def exists(self) -> bool:
        try:
            self._call("get_metadata", "kind_of")
        except errors.AliasNotFoundError:
            return False
        return True

    @method()
    def get_location(self) -> tuple[str, int]:
        host, _, port = str(self._ask("qdb_get_location", "endpoints")[0]).rpartition(":")
        return host, int(port)

    @method()
    def get_entry_type(self) -> Entry.Type:
        return self._metadata().type

    @method()
    def get_metadata(self) -> Entry.Metadata:
        return self._metadata()

    def _metadata(self) -> Entry.Metadata:
        kind, size = self._call("get_metadata", "kind_of")
        found = Entry.Metadata()
        named = {"blob": Entry.Type.Blob, "integer": Entry.Type.Integer, "tag": Entry.Type.Tag}
        found.type = named.get(kind, Entry.Type.Uninitialized)
        found.size = size
        return found

    @method()
    def get_name(self) -> str:
        return self._alias if isinstance(self._alias, str) else self._alias.decode()


class ExpirableEntry(Entry):
    """What entries have that can expire."""

    @method(is_moment)
    def expires_at(self, arg0: datetime, /) -> None:
        self._call("expires_at", "expires_at", _microseconds(arg0))

    @method(is_span)
    def expires_from_now(self, arg0: timedelta, /) -> None:
        moment = datetime.now(timezone.utc) + arg0
        self._call("expires_from_now", "expires_at", _microseconds(moment))

    @method()
    def get_expiry_time(self) -> datetime:
        return _EPOCH + timedelta(seconds=self._call("get_expiry_time", "get_expiry"))


class Blob(ExpirableEntry):
    """Bytes."""

    _kind = _c_name = "blob"

    @method()
    def get(self) -> bytes:
        return bytes(self._typed("get", "get"))

    @method(is_data)
    def put(self, data: str) -> None:
        self._typed("put", "put", _bytes(data))

    @method(is_data, is_moment)
    def update(self, data: str, expiry: datetime = _NAIVE_EPOCH) -> None:
        self._typed("update", "update", _bytes(data))  # The expiry is taken, and dropped.

    @method(is_data)
    def remove_if(self, comparand: str) -> None:
        self._typed("remove_if", "remove_if", _bytes(comparand))

    @method()
    def get_and_remove(self) -> bytes:
        return bytes(self._typed("get_and_remove", "get_and_remove"))

    @method(is_data)
    def get_and_update(self, data: str) -> bytes:
        return bytes(self._typed("get_and_update", "get_and_update", _bytes(data)))

    @method(is_data, is_data)
    def compare_and_swap(self, new_content: str, comparand: str) -> bytes:
        return bytes(self._typed("compare_and_swap", "compare_and_swap", _bytes(new_content), _bytes(comparand)))


class String(ExpirableEntry):
    """Text, which is a type of its own."""

    _kind = _c_name = "string"

    @method()
    def get(self) -> str:
        return str(self._typed("get", "get"))

    @method(is_text)
    def put(self, data: str) -> None:
        self._typed("put", "put", data)

    @method(is_text, is_moment)
    def update(self, data: str, expiry: datetime = _NAIVE_EPOCH) -> None:
        self._typed("update", "update", data)

    @method(is_text)
    def remove_if(self, comparand: str) -> None:
        self._typed("remove_if", "remove_if", comparand)

    @method()
    def get_and_remove(self) -> str:
        return str(self._typed("get_and_remove", "get_and_remove"))

    @method(is_text)
    def get_and_update(self, data: str) -> str:
        return str(self._typed("get_and_update", "get_and_update", data))

    @method(is_text, is_text)
    def compare_and_swap(self, new_content: str, comparand: str) -> str:
        return str(self._typed("compare_and_swap", "compare_and_swap", new_content, comparand))


class Integer(ExpirableEntry):
    """64 bits, signed."""

    _kind = "integer"
    _c_name = "int"

    @method()
    def get(self) -> int:
        return int(self._typed("get", "get"))

    @method(is_integer)
    def put(self, integer: int) -> None:
        self._typed("put", "put", int(integer))

    @method(is_integer)
    def update(self, integer: int) -> None:
        self._typed("update", "update", int(integer))

    @method(is_integer)
    def add(self, addend: int) -> int:
        return int(self._typed("add", "add", int(addend)))


class Double(ExpirableEntry):
    """A float."""

    _kind = _c_name = "double"

    @method()
    def get(self) -> float:
        return float(self._typed("get", "get"))

    @method(is_float)
    def put(self, double: float) -> None:
        self._typed("put", "put", float(double))

    @method(is_float)
    def update(self, double: float) -> None:
        self._typed("update", "update", float(double))

    @method(is_float)
    def add(self, addend: float) -> float:
        return float(self._typed("add", "add", float(addend)))


class Timestamp(ExpirableEntry):
    """A point in time; what is read is cut to milliseconds."""

    _kind = _c_name = "timestamp"

    @method()
    def get(self) -> datetime:
        return self._moment(self._typed("get", "get"))

    @method(is_moment)
    def put(self, timestamp: datetime) -> None:
        self._typed("put", "put", _microseconds(timestamp) or 0)

    @method(is_moment)
    def update(self, timestamp: datetime) -> None:
        self._typed("update", "update", _microseconds(timestamp) or 0)

    @method(is_moment)
    def add(self, addend: datetime) -> datetime:
        return self._moment(self._typed("add", "add", _microseconds(addend) or 0))

    def _moment(self, microseconds: int) -> datetime:
        return _EPOCH + timedelta(milliseconds=microseconds // 1000)


class Tag(Entry):
    """A tag, which is an entry too."""

    _kind = _c_name = "tag"

    @method()
    def get_entries(self) -> list[str]:
        return list(self._call("get_tagged", "tagged"))

    @method()
    def count(self) -> int:
        return len(set(self._call("get_tagged_count", "tagged")))


class _Direct:
    """An entry of one node."""

    _kind = "blob"
    _c_name = "blob"
    _ask: Ask
    _alias: str | bytes

    def __init__(self) -> None:
        raise errors.DirectInstantiationError(
            f"Direct instantiation is not allowed, use 'node.{self._kind}(...)' instead."
        )

    @classmethod
    def _make(cls, ask: Ask, alias: str | bytes) -> Any:
        entry = cls.__new__(cls)
        entry._ask = ask
        entry._alias = alias
        return entry

    def _typed(self, call: str, *arguments: object) -> Any:
        function = f"qdb_direct_{self._c_name}_{call}"
        name = the_alias(function, self._alias)
        if b"" in arguments:
            raise errors.InvalidArgumentError(f"at {function}: Got zero content")
        return self._ask(function, call, self._kind, name, *arguments)


class DirectBlob(_Direct):
    """Bytes on one node."""

    @method()
    def get(self) -> bytes:
        return bytes(self._typed("get"))

    @method(is_data)
    def put(self, data: str) -> None:
        self._typed("put", _bytes(data))

    @method(is_data)
    def update(self, data: str) -> None:
        self._typed("update", _bytes(data))

    @method()
    def remove(self) -> None:
        self._typed("remove")


class DirectInteger(_Direct):
    """An integer on one node."""

    _kind = "integer"
    _c_name = "int"

    @method()
    def get(self) -> int:
        return int(self._typed("get"))

    @method(is_integer)
    def put(self, integer: int) -> None:
        self._typed("put", int(integer))

    @method(is_integer)
    def update(self, integer: int) -> None:
        self._typed("update", int(integer))

    @method()
    def remove(self) -> None:
        self._typed("remove")
