"""What the server answers, read: versions, rows, nodes. It does no I/O.

Versions and transactions are 64-bit numbers that may arrive as text. A member ``value`` that is missing or ``null`` is
no value. What does not look as the protocol says raises :class:`Malformed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias, cast

from kvmodel.drivers.acapella.errors import Malformed
from kvmodel.drivers.formats.json_values import load_json
from kvmodel.errors import ValidationError

__all__ = [
    "Found",
    "Json",
    "Node",
    "RowItem",
    "dump_json",
    "finish",
    "read_batch",
    "read_found",
    "read_hits",
    "read_index",
    "read_indexes",
    "read_node",
    "read_nodes",
    "read_rows",
    "read_token",
    "read_value",
    "read_version",
]

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
"""A JSON value."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_LARGEST: Final = 2**63 - 1


class Found(NamedTuple):
    """What is under a key. ``version`` is 0 where nothing was ever written; ``value`` is ``None`` where nothing is."""

    version: int
    value: Json


class RowItem(NamedTuple):
    """One row of a range; a deleted one has no value."""

    key: tuple[str, ...]
    version: int
    value: Json


class Node(NamedTuple):
    """One node of a tree. ``hint`` tells the server where to begin the next step."""

    key: tuple[str, ...]
    value: Json
    hint: str | None = None


def dump_json(value: Json) -> bytes:
    """Write a JSON value. Raises ``ValidationError`` for what JSON does not hold."""
    try:
        text = json.dumps(value, allow_nan=False)
        if "\\ud" in text:
            json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates
    except UnicodeEncodeError:
        raise ValidationError("a str must be Unicode text, without lone surrogates") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValidationError(f"this value cannot be written as JSON: {error}") from None
    return text.encode()


def _load(body: bytes) -> Json:
    try:
        return cast("Json", load_json(body))
    except (ValueError, RecursionError) as error:
        raise Malformed("the reply is no JSON") from error


def _load_object(body: bytes) -> dict[str, Json]:
    value = _load(body)
    if not isinstance(value, dict):
        raise Malformed("the reply is no JSON object")
    return value


def _load_objects(body: bytes) -> list[dict[str, Json]]:
    value = _load(body)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Malformed("the reply is no list of JSON objects")
    return cast("list[dict[str, Json]]", value)


def _number(value: Json) -> int:
    """Read a version or an index: a number, or a text that is one."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise Malformed("a version or index is a 64-bit number that is not negative")
    return value


def _parts(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise Malformed("a key is a list of texts")
    return tuple(cast("list[str]", value))


def finish(body: bytes) -> None:
    """Read nothing of a reply."""


def read_version(body: bytes) -> int:
    """Read a version."""
    return _number(_load_object(body).get("version"))


def read_found(body: bytes) -> Found:
    """Read what is under a key."""
    reply = _load_object(body)
    return Found(_number(reply.get("version")), reply.get("value"))


def read_rows(body: bytes) -> list[RowItem]:
    """Read the rows of a range."""
    return [
        RowItem(_parts(item.get("key")), _number(item.get("version")), item.get("value"))
        for item in _load_objects(body)
    ]


def read_token(body: bytes) -> str:
    """Read what a login gives."""
    token = _load_object(body).get("token")
    if not isinstance(token, str) or not token:
        raise Malformed("a login is answered with a token")
    return token


def read_batch(body: bytes, keys: Sequence[tuple[str, ...]]) -> list[int]:
    """Read the versions that a batch gave, in the order of its keys."""
    found = {_parts(item.get("key")): _number(item.get("version")) for item in _load_objects(body)}
    if len(found) != len(keys) or not all(key in found for key in keys):
        raise Malformed("a batch is answered with one item for each that was sent")
    return [found[key] for key in keys]


def read_index(body: bytes) -> int:
    """Read the name of a transaction."""
    return _number(_load_object(body).get("index"))


def read_indexes(body: bytes) -> dict[int, list[dict[str, Json]]]:
    found = _load_object(body).get("indexes")
    if not isinstance(found, dict):
        raise Malformed("indexes are an object")
    read: dict[int, list[dict[str, Json]]] = {}
    for tag, index in found.items():
        fields = index.get("fields") if isinstance(index, dict) else None
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            raise Malformed("an index is an object with fields")
        read[_number(tag)] = cast("list[dict[str, Json]]", fields)
    return read


def read_hits(body: bytes) -> list[Node]:
    """Read what an index query found."""
    return [Node(_parts(item.get("key")), item.get("value")) for item in _load_objects(body)]


def read_node(body: bytes) -> Node:
    """Read one node of a tree."""
    reply = _load_object(body)
    hint = reply.get("node")
    return Node(_parts(reply.get("key")), reply.get("value"), hint if isinstance(hint, str) else None)


def read_nodes(body: bytes) -> list[Node]:
    items = _load_objects(body)
    if not all("value" in item for item in items):
        raise Malformed("a node of a tree has a value")
    return [Node(_parts(item.get("key")), item["value"]) for item in items]


def read_value(body: bytes) -> Json:
    """Read the value of a node."""
    return _load_object(body).get("value")
