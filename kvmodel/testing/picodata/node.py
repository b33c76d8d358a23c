"""One node: the clients' side of the protocol, answered as Picodata answers it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs

from kvmodel.testing.picodata import wire
from kvmodel.testing.picodata.session import Prepared, Session
from kvmodel.testing.picodata.statement import Statement
from kvmodel.testing.picodata.tokens import Refusal
from kvmodel.testing.picodata.wire import Message

if TYPE_CHECKING:
    from kvmodel.testing.picodata.cluster import LocalPicodata

__all__ = ["Mishap", "Node"]

_SETTINGS: Final = {
    "server_version": "15.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "integer_datetimes": "on",
    "TimeZone": "UTC",
}
_MAX_FAILURES: Final = 4


@attrs.define
class Mishap:
    """What is to go wrong with a statement.

    Attributes:
        before: Hang up before the statement reaches the store.
        after: Hang up when it was done.
        stall: Do it, and say nothing until this event is set.
        hold: Do not begin before this event is set.
        refusal: Answer this instead.
        partial: Of an INSERT of several rows, do those of the first bucket, and fail.
        matches: Only a statement in which this stands; others pass.
    """

    before: bool = False
    after: bool = False
    stall: asyncio.Event | None = None
    hold: asyncio.Event | None = None
    refusal: Refusal | None = None
    partial: bool = False
    matches: str = ""


class _HangUp(Exception):
    """The connection is to be closed without a word."""


class Node:
    """One node of a cluster, on a port of its own.

    Attributes:
        name: What the cluster calls it.
        mishaps: What goes wrong with the statements that come next, one each.
        connections: How many clients are connected.
        accepted: How many connections were opened in all.
        statements: The text of every statement that was run, in order.
        ignored: Statements that are answered and do nothing, which no driver should send.
        options: What clients asked for at startup, one entry each.
    """

    def __init__(self, cluster: LocalPicodata, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.name = f"node_{number}"
        self.port = 0
        self.mishaps: list[Mishap] = []
        self.accepted = 0
        self.statements: list[str] = []
        self.ignored: list[str] = []
        self.options: list[str] = []
        self.online = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._writers)

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port or self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse and drop all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop(self) -> None:
        """Drop all connections."""
        for writer in self._writers:
            writer.transport.abort()

    # --- one client ---------------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        session = Session(self)
        try:
            await self._greet(reader, writer, session)
            session.backend = await self.cluster.borrow()
            await _Client(self, session, reader, writer).serve()
        except (_HangUp, OSError, asyncio.IncompleteReadError, asyncio.CancelledError, RuntimeError):
            pass
        finally:
            if session.backend is not None:
                self.cluster.give_back(session.backend)
            self._writers.discard(writer)
            self._tasks.discard(task)
            with suppress(OSError, RuntimeError):
                writer.transport.abort()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session) -> None:
        """Read what opens a connection, and check who it is."""
        code, parameters = await wire.read_startup(reader)
        context = self.cluster.tls
        secure = False
        if code == wire.SSL_REQUEST:
            writer.write(b"N" if context is None else b"S")
            await writer.drain()
            if context is not None:
                await writer.start_tls(context)
                secure = True
            code, parameters = await wire.read_startup(reader)
        if code != wire.PROTOCOL:
            raise _HangUp
        if context is not None and not secure:
            await self._refuse(writer, Refusal("28000", "server requires ssl"))
        await self._authenticate(reader, writer, parameters.get("user", ""))
        options = parameters.get("options", "")
        self.options.append(options)
        try:
            session.read_options(options)
        except Refusal as refusal:
            await self._refuse(writer, refusal)
        settings = b"".join(wire.parameter_status(name, value) for name, value in _SETTINGS.items())
        writer.write(wire.AUTHENTICATED + settings + wire.IDLE)

    async def _authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str) -> None:
        salt = os.urandom(4)
        writer.write(wire.message(b"R", (5).to_bytes(4, "big") + salt))
        answer = await wire.read_message(reader)
        inner = hashlib.md5((self.cluster.password + user).encode()).hexdigest()  # noqa: S324 - the protocol's own
        wanted = b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode() + b"\0"  # noqa: S324
        cluster = self.cluster
        if cluster.failed_logins >= _MAX_FAILURES:
            await self._refuse(writer, Refusal("28000", f"Maximum number of login attempts exceeded: {user} is locked"))
        if answer.payload != wanted or user != cluster.user:
            cluster.failed_logins += 1
            await self._refuse(writer, Refusal("28P01", f"authentication failed for user '{user}'"))
        cluster.failed_logins = 0

    async def _refuse(self, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
        writer.write(wire.error(refusal.code, refusal.message))
        with suppress(OSError):
            await writer.drain()
        writer.close()
        raise _HangUp

    def mishap(self, sql: str) -> Mishap | None:
        """Answer what is to go wrong with this statement."""
        for mishap in self.mishaps:
            if mishap.matches in sql:
                self.mishaps.remove(mishap)
                return mishap
        return None


class _Client:
    """The messages of one client, one after the other."""

    def __init__(
        self, node: Node, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._node = node
        self._session = session
        self._reader = reader
        self._writer = writer
        self._failed = False

    async def serve(self) -> None:
        """Answer until the client leaves."""
        while True:
            given = await wire.read_message(self._reader)
            if given.type == b"X":
                return
            if given.type == b"S":
                self._failed = False
                self._session.portals.clear()
                self._writer.write(wire.IDLE)
                await self._writer.drain()
            elif given.type == b"H":
                await self._writer.drain()
            elif given.type == b"Q":
                await self._simple(given.payload)
            elif not self._failed:
                await self._extended(given)

    async def _simple(self, payload: bytes) -> None:
        try:
            await self._simply(payload[:-1].decode())
        except Refusal as refusal:
            self._writer.write(wire.error(refusal.code, refusal.message))
        self._writer.write(wire.IDLE)
        await self._writer.drain()

    async def _simply(self, sql: str) -> None:
        prepared = await self._session.prepare("", sql, [])
        rows, tag = await self._run(prepared, wire.Bind("", "", (), (), ()))
        if prepared.description is not None:
            self._writer.write(wire.message(b"T", prepared.description))
        self._writer.write(b"".join(rows) + wire.complete(tag))

    async def _extended(self, given: Message) -> None:
        try:
            await self._handle(given)
        except Refusal as refusal:
            self._failed = True
            self._writer.write(wire.error(refusal.code, refusal.message))
            await self._writer.drain()

    async def _handle(self, given: Message) -> None:
        session, writer = self._session, self._writer
        if given.type == b"P":
            name, sql, oids = wire.read_parse(given.payload)
            await session.parse(name, sql, oids)
            writer.write(wire.message(b"1"))
        elif given.type == b"B":
            session.bind(wire.read_bind(given.payload))
            writer.write(wire.message(b"2"))
        elif given.type == b"D":
            writer.write(session.describe(given.payload[:1], given.payload[1:-1].decode()))
        elif given.type == b"E":
            name = given.payload.split(b"\0", 1)[0].decode()
            prepared, bound = session.portal(name)
            rows, tag = await self._run(prepared, bound)
            writer.write(b"".join(rows) + wire.complete(tag))
        elif given.type == b"C":
            session.close(given.payload[:1], given.payload[1:-1].decode())
            writer.write(wire.message(b"3"))
        else:
            raise Refusal("0A000", f"message {given.type!r} is not supported")
        await writer.drain()

    async def _run(self, prepared: Prepared, bound: wire.Bind) -> tuple[list[bytes], str]:
        """Run a statement, with what goes wrong on the way."""
        node = self._node
        node.statements.append(prepared.text)
        statement: Statement = prepared.statement
        if statement.kind == "nothing":
            node.ignored.append(prepared.text)
        mishap = node.mishap(prepared.text) or Mishap()
        if mishap.hold is not None:
            await mishap.hold.wait()
        if mishap.before:
            raise _HangUp
        if mishap.refusal is not None:
            raise mishap.refusal
        rows, tag = await self._session.run(prepared, bound, partial=mishap.partial)
        if mishap.after:
            raise _HangUp
        if mishap.stall is not None:
            await mishap.stall.wait()
        return rows, tag
