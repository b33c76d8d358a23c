"""Requests to the emulated server, taken apart. What can't be read is refused with a status."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Final

import attrs

from kvmodel.testing.acapella.store import Cell, Json, Refused, Write

__all__ = [
    "Request",
    "check_quorum",
    "flag",
    "json_body",
    "number_of",
    "only",
    "optional",
    "pair_of",
    "show_cell",
    "write_of",
]

_NUMBER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_LARGEST: Final = 2**63
_JSON_TYPES: Final = re.compile(r"application/json(\s*;.*)?", re.IGNORECASE)


@attrs.frozen
class Request:
    """A request, taken apart."""

    method: str
    segments: list[str]
    query: Mapping[str, str]
    body: bytes
    content_type: str


def only(request: Request, *methods: str) -> None:
    """Refuse other methods."""
    if request.method not in methods:
        raise Refused(405)


def json_body(request: Request) -> Json:
    """Read a body that is JSON."""
    if request.content_type and not _JSON_TYPES.fullmatch(request.content_type):
        raise Refused(415)
    return json.loads(request.body.decode(), parse_constant=_refuse)


def _refuse(_: str) -> None:
    raise Refused(400)


def number_of(text: str) -> int:
    """Read a whole number."""
    if not _NUMBER.fullmatch(text) or not -_LARGEST <= int(text) < _LARGEST:
        raise Refused(400)
    return int(text)


def optional(request: Request, name: str) -> int | None:
    """Read a number of the query, if it is there."""
    text = request.query.get(name)
    if text is None:
        return None
    number = number_of(text)
    if number < 0:
        raise Refused(400)
    return number


def flag(request: Request, name: str) -> bool:
    """Read a boolean of the query, in any case."""
    return request.query.get(name, "").lower() == "true"


def check_quorum(request: Request) -> None:
    """Refuse what does not fit each other."""
    n, r, w = (number_of(request.query.get(name, default)) for name, default in (("n", "3"), ("r", "2"), ("w", "2")))
    if not (1 <= n <= 127 and 1 <= r <= n and 1 <= w <= n):
        raise Refused(400)


def write_of(partition: tuple[str, ...], item: Json, *, reindex: bool) -> Write:
    """Read one item of a batch."""
    key = item.get("key") if isinstance(item, dict) else None
    if not isinstance(key, list) or not all(isinstance(part, str) and part for part in key):
        raise Refused(400)
    version = item.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
        raise Refused(400)
    return Write((partition, tuple(key)), item.get("value"), version, reindex)


def show_cell(cell: Cell) -> dict[str, Json]:
    """Say what is under a key; what is not there is left out."""
    shown: dict[str, Json] = {"version": cell.version}
    if cell.value is not None:
        shown["value"] = cell.value
    return shown


def pair_of(authorization: str | None) -> tuple[str, str]:
    """Answer user and token of a Basic header."""
    scheme, _, text = (authorization or "").partition(" ")
    try:
        user, _, token = base64.b64decode(text, validate=True).decode().rpartition(":")
    except ValueError:
        raise Refused(401) from None
    if scheme.lower() != "basic" or not user:
        raise Refused(401)
    return user, token
