"""The messages of PostgreSQL's protocol that the emulator needs, both ways."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = [
    "AUTHENTICATED",
    "IDLE",
    "SSL_REQUEST",
    "Bind",
    "Message",
    "bind",
    "close",
    "complete",
    "error",
    "message",
    "parameter_description",
    "parameter_status",
    "parse",
    "read_bind",
    "read_message",
    "read_startup",
    "text_of",
]

SSL_REQUEST: Final = 80877103
CANCEL_REQUEST: Final = 80877102
PROTOCOL: Final = 196608


class Message(NamedTuple):
    """One message: its type, and what it carries."""

    type: bytes
    payload: bytes


def message(kind: bytes, payload: bytes = b"") -> bytes:
    """Write a message."""
    return kind + struct.pack("!i", len(payload) + 4) + payload


def text_of(text: str) -> bytes:
    """Write a string."""
    return text.encode() + b"\0"


IDLE: Final = message(b"Z", b"I")
AUTHENTICATED: Final = message(b"R", struct.pack("!i", 0))


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Read one message. Raises ``IncompleteReadError`` at the end."""
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!i", head[1:])
    return Message(head[:1], await reader.readexactly(size - 4))


async def read_startup(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read what opens a connection: its code, and its parameters."""
    size, code = struct.unpack("!ii", await reader.readexactly(8))
    payload = await reader.readexactly(size - 8)
    parts = payload.split(b"\0")
    names = [part.decode() for part in parts]
    return code, dict(zip(names[::2], names[1::2], strict=False)) if code == PROTOCOL else {}


def startup(parameters: dict[str, str]) -> bytes:
    """Write what opens a connection."""
    payload = b"".join(text_of(name) + text_of(value) for name, value in parameters.items()) + b"\0"
    return struct.pack("!ii", len(payload) + 8, PROTOCOL) + payload


def error(code: str, text: str) -> bytes:
    """Write an error of three fields."""
    return message(b"E", b"SERROR\0C" + text_of(code) + b"M" + text_of(text) + b"\0")


def error_fields(payload: bytes) -> dict[str, str]:
    """Read an error."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in payload.split(b"\0") if part}


def complete(tag: str) -> bytes:
    """Write the end of a statement."""
    return message(b"C", text_of(tag))


def parameter_status(name: str, value: str) -> bytes:
    """Write one setting."""
    return message(b"S", text_of(name) + text_of(value))


def parameter_description(oids: Sequence[int]) -> bytes:
    """Write the types of a statement's parameters."""
    return message(b"t", struct.pack(f"!h{len(oids)}I", len(oids), *oids))


def read_oids(payload: bytes) -> list[int]:
    """Read the types of a statement's parameters."""
    (count,) = struct.unpack_from("!h", payload)
    return list(struct.unpack_from(f"!{count}I", payload, 2))


def parse(name: str, sql: str, oids: Iterable[int] = ()) -> bytes:
    """Write a Parse."""
    types = list(oids)
    return message(b"P", text_of(name) + text_of(sql) + struct.pack(f"!h{len(types)}I", len(types), *types))


def read_parse(payload: bytes) -> tuple[str, str, list[int]]:
    """Read a Parse: its name, its text, the types it gives."""
    name, sql, rest = payload.split(b"\0", 2)
    return name.decode(), sql.decode(), list(read_oids(rest))


class Bind(NamedTuple):
    """A Bind: the portal, the statement, the formats, the values (``None`` is NULL), and the formats of the result."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    results: tuple[int, ...]

    def format_of(self, place: int) -> int:
        """Answer the format of a parameter."""
        if not self.formats:
            return 0
        return self.formats[0] if len(self.formats) == 1 else self.formats[place]


def read_bind(payload: bytes) -> Bind:
    """Read a Bind."""
    portal, statement, rest = payload.split(b"\0", 2)
    formats, at = _shorts(rest, 0)
    (count,) = struct.unpack_from("!h", rest, at)
    at += 2
    values: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", rest, at)
        at += 4
        values.append(None if size < 0 else rest[at : at + size])
        at += max(size, 0)
    results, _ = _shorts(rest, at)
    return Bind(portal.decode(), statement.decode(), formats, tuple(values), results)


def _shorts(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = struct.unpack_from("!h", data, at)
    return struct.unpack_from(f"!{count}h", data, at + 2), at + 2 + 2 * count


def bind(given: Bind) -> bytes:
    """Write a Bind."""
    parts = [text_of(given.portal), text_of(given.statement), _pack_shorts(given.formats)]
    parts.append(struct.pack("!h", len(given.values)))
    parts += map(_field, given.values)
    parts.append(_pack_shorts(given.results))
    return message(b"B", b"".join(parts))


def _pack_shorts(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"!h{len(numbers)}h", len(numbers), *numbers)


def close(kind: bytes, name: str) -> bytes:
    """Write a Close, of a statement (``S``) or a portal (``P``)."""
    return message(b"C", kind + text_of(name))


def clean_description(payload: bytes, results: Sequence[int] = ()) -> bytes:
    """Rewrite a row description: no table, no column number, no sizes, varchar as text; ``results`` are the formats."""
    (count,) = struct.unpack_from("!h", payload)
    at, parts = 2, [payload[:2]]
    for number in range(count):
        end = payload.index(b"\0", at) + 1
        (oid,) = struct.unpack_from("!I", payload, end + 6)
        chosen = 0 if not results else results[0] if len(results) == 1 else results[number]
        oid = 25 if oid in (1043, 19, 705) else 20 if oid in (21, 23) else oid
        parts.append(payload[at:end] + struct.pack("!IhIhih", 0, 0, oid, 0, -1, chosen))
        at = end + 18
    return b"".join(parts)


def types_of(payload: bytes) -> list[int]:
    """Answer the types in a row description."""
    (count,) = struct.unpack_from("!h", payload)
    at, found = 2, []
    for _ in range(count):
        end = payload.index(b"\0", at) + 1
        (oid,) = struct.unpack_from("!I", payload, end + 6)
        found.append(oid)
        at = end + 18
    return found


def row(values: Sequence[bytes | None]) -> bytes:
    """Write a row."""
    return message(b"D", struct.pack("!h", len(values)) + b"".join(map(_field, values)))


def _field(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def description(names_and_types: Sequence[tuple[str, int]], format: int = 0) -> bytes:
    """Write a row description."""
    parts = [struct.pack("!h", len(names_and_types))]
    for name, oid in names_and_types:
        parts.append(text_of(name) + struct.pack("!IhIhih", 0, 0, oid, 0, -1, format))
    return message(b"T", b"".join(parts))
