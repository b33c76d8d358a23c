"""A connection to the PostgreSQL server behind the emulator: one exchange at a time, each its own transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kvmodel.testing.picodata.tokens import Refusal
from kvmodel.testing.picodata.wire import Message, error_fields, message, read_message, startup, text_of

__all__ = ["Backend"]

_KEPT = frozenset(("22P02", "22P03", "08P01", "0A000"))
SYNC = message(b"S")


class Backend:
    """One connection.

    Attributes:
        is_busy: Whether an answer is still to come: then nobody else may have it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_busy = False

    @classmethod
    async def connect(cls, port: int, schema: str) -> Backend:
        """Connect to a server that trusts everybody; unqualified names are those of a schema."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        backend = cls(reader, writer)
        settings = {"client_encoding": "UTF8", "TimeZone": "UTC", "search_path": schema}
        writer.write(startup({"user": "kvmodel", "database": "postgres", **settings}))
        await backend._answers()
        return backend

    async def run(self, *messages: bytes) -> list[Message]:
        """Send messages and a Sync; answer what came back. Raises :class:`Refusal`, in Picodata's words."""
        self.is_busy = True
        self._writer.write(b"".join(messages) + SYNC)
        return await self._answers()

    async def query(self, sql: str) -> list[Message]:
        """Run a statement by the simple protocol. Raises :class:`Refusal`."""
        self.is_busy = True
        self._writer.write(message(b"Q", text_of(sql)))
        return await self._answers()

    async def _answers(self) -> list[Message]:
        found: list[Message] = []
        refusal: Refusal | None = None
        while True:
            answer = await read_message(self._reader)
            if answer.type == b"E":
                refusal = refusal or _translated(error_fields(answer.payload))
            elif answer.type == b"Z":
                self.is_busy = False
                if refusal is not None:
                    raise refusal
                return found
            elif answer.type not in b"NSKA":
                found.append(answer)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError, RuntimeError):
            self._writer.write(message(b"X"))
            self._writer.close()


def _translated(fields: dict[str, str]) -> Refusal:
    """Answer the error that Picodata gives: nearly all of them have one code."""
    code, text = fields.get("C", "XX000"), fields.get("M", "")
    if code in _KEPT:
        return Refusal(code, text)
    if code == "23505":
        # Old and new row stand in there: it must not be logged.
        return Refusal("XX000", f"Duplicate key exists in unique index: {fields.get('D', '')}")
    if code == "22012":
        return Refusal("XX000", "Failed to execute SQL statement: division by zero")
    if code == "42P01":
        return Refusal("XX000", f"sbroad: table not found: {text}")
    return Refusal("XX000", f"sbroad: {text}")
