"""A client's side of a conversation: its life, the databases of the server, and the way of every request."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from types import TracebackType
from typing import Final, Self, TypeAlias, cast

from kvmodel.drivers.elevator import answers
from kvmodel.drivers.elevator.checks import check_name, check_options
from kvmodel.drivers.elevator.pool import Place, Pool
from kvmodel.drivers.elevator.protocol import Code, Data, Reply, Status, Value, encode_request, is_new_msgpack
from kvmodel.drivers.elevator.refusals import Refusal, refusal_error
from kvmodel.errors import StoreError, TimedOut, Unavailable, Unsupported, ValidationError

__all__ = ["DEFAULT_PORT", "DEFAULT_SOCKETS", "DEFAULT_TIMEOUT", "Session", "Text"]

DEFAULT_PORT: Final = 4141
DEFAULT_TIMEOUT: Final = 10.0
DEFAULT_SOCKETS: Final = 8

Text: TypeAlias = "str | bytes"


class Session:
    """What :class:`ElevatorClient` is built on: everything but the commands on data."""

    def __init__(
        self,
        endpoint: str = f"tcp://127.0.0.1:{DEFAULT_PORT}",
        database: Text = "default",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        compression: bool = False,
        sockets: int = DEFAULT_SOCKETS,
        address: str | None = None,
    ) -> None:
        if not endpoint.startswith(("tcp://", "ipc://")):
            raise ValidationError("an endpoint is tcp://host:port or ipc://path", field="endpoint")
        if isinstance(sockets, bool) or not isinstance(sockets, int) or not 1 <= sockets <= 1000:
            raise ValidationError("sockets takes a number from 1 to 1000", field="sockets")
        self._pool = Pool(endpoint, size=sockets, address=address or endpoint)
        self._is_guest = False
        self._name = check_name(database)
        self._place: Place | None = None
        self._others: dict[bytes, Place] = {}
        self._knows_exists = True
        self.timeout = timeout
        self.compression = compression

    def __repr__(self) -> str:
        return f"<ElevatorClient of {self._pool.address}, database {self.db_name!r}>"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self, *, timeout: float | None = None) -> None:
        """Reach the server and the database.

        Raises:
            Unavailable: No server answers.
            StoreError: It has no such database.
        """
        try:
            await self.connect(self._name, timeout=timeout)
        except TimedOut as error:
            raise Unavailable(
                "no answer came in time: is the server running, and has it still workers?", store=self._pool.address
            ) from error

    async def close(self) -> None:
        """Let what is under way end, and close all sockets, unless they are another client's.

        Closing twice is allowed.
        """
        if not self._is_guest:
            await self._pool.close()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def sibling(self) -> Self:
        """Answer a client on the same sockets and database, which may go to another database by itself.

        Closing it closes nothing: the sockets are this client's.
        """
        twin = copy(self)
        twin._others, twin._is_guest = {}, True
        return twin

    # --- databases ----------------------------------------------------------------------------------------------------

    @property
    def db_name(self) -> str:
        """The name of the database that calls go to."""
        return self._name.decode()

    async def ping(self, *, timeout: float | None = None) -> bytes:
        """Answer what the server answers, which is ``b"PONG"``."""
        reply = await self._server("PING", [], answers.pong, self._until(timeout))
        (pong,) = cast("list[bytes]", self._data("PING", reply))
        return pong

    async def connect(self, dbname: Text, *, timeout: float | None = None) -> None:
        """Go to another database. It is mounted if need be."""
        name = check_name(dbname)
        self._place = await self._connected(name, self._until(timeout))
        self._name = name

    async def listdb(self, *, timeout: float | None = None) -> list[str]:
        """Answer the names of all databases, sorted."""
        return sorted(name.decode(errors="replace") for name in await self._names(self._until(timeout)))

    async def _names(self, until: float) -> list[bytes]:
        # Without a uid the server wants something in the place of the database.
        reply = await self._server("DBLIST", [None], answers.names, until)
        return cast("list[bytes]", self._data("DBLIST", reply))

    async def createdb(
        self, dbname: Text, options: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> None:
        """Make a database; with a path for its name, in that folder, which may hold a LevelDB already.

        Args:
            dbname: ASCII. With a slash it is a path on the server's disk, whose parent must exist.
            options: ``bloom_filter_bits``, ``lru_cache_size``, ``write_buffer_size``, ``block_size``,
                ``max_open_files``, ``paranoid_checks``, ``error_if_exists``. They hold until it is unmounted.
            timeout: Seconds.

        Raises:
            StoreError: It exists, or its path can't be made.
        """
        arguments: list[Value] = [None, check_name(dbname), check_options(options or {})]
        await self._alone("DBCREATE", arguments, self._until(timeout))

    async def dropdb(self, dbname: Text, *, timeout: float | None = None) -> None:
        """Remove a database and all that is in it. Nothing protects ``default``."""
        name = check_name(dbname)
        await self._alone("DBDROP", [None, name], self._until(timeout))
        self._others.pop(name, None)

    async def mount(self, dbname: Text, *, timeout: float | None = None) -> None:
        """Mount a database that is not mounted."""
        name, until = check_name(dbname), self._until(timeout)
        await self._check_known(name, until)
        await self._alone("DBMOUNT", [name], until)

    async def unmount(self, dbname: Text, *, timeout: float | None = None) -> None:
        """Unmount a database, until the next request for it. Waits until nothing else of this client is under way."""
        name, until = check_name(dbname), self._until(timeout)
        await self._check_known(name, until)
        request = encode_request(b"DBUMOUNT", [name], compression=self.compression)
        self._data("DBUMOUNT", await self._pool.take_down(request, answers.nothing, until=until))

    async def repairdb(self, *, force: bool = False, timeout: float | None = None) -> None:
        """Do not use this.

        The server never answers it, and loses the worker that took it; nothing is repaired.

        Raises:
            Unsupported: Unless ``force`` is given.
        """
        if not force:
            raise Unsupported(
                "the server never answers this command and loses a worker with it: repair the folder with LevelDB's "
                "own tools while the server is stopped, or say force=True",
                store=self._pool.address,
            )
        await self._change("DBREPAIR", [], self._until(timeout), self._here())

    async def _check_known(self, name: bytes, until: float) -> None:
        """Look for a database before it is mounted or unmounted: of an unknown one the server would say nothing."""
        if name not in await self._names(until):
            raise StoreError(
                "there is no database of this name: createdb() makes one", store=self._pool.address
            ) from Refusal(Code.DATABASE, f"Database {name.decode()} is not in the list")

    async def _connected(self, name: bytes, until: float) -> Place:
        request = encode_request(b"DBCONNECT", [name], compression=self.compression)
        reply, frames = await self._pool.exchange(request, answers.uid, until=until, alone=True)
        (uid,) = cast("list[bytes]", self._data("DBCONNECT", reply))
        if reply.compression is not True and is_new_msgpack(frames):
            raise StoreError(
                "this server runs a msgpack that takes keys and values for text: it needs one before 1.0",
                store=self._pool.address,
            )
        self._pool.note_mounted(uid)
        return Place(name, uid)

    @asynccontextmanager
    async def _elsewhere(self, name: bytes, until: float) -> AsyncIterator[Place]:
        """Work on another database. Once something went wrong there, its uid is asked for again: it may be another."""
        place = self._others.get(name)
        if place is None:
            place = self._others[name] = await self._connected(name, until)
        try:
            yield place
        except StoreError:
            self._others.pop(name, None)
            raise

    # --- requests -----------------------------------------------------------------------------------------------------

    def _until(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else timeout
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ValidationError(f"a timeout is a number of seconds above 0, not {seconds!r}")
        return time.monotonic() + seconds

    def _here(self) -> Place:
        if self._place is None:
            raise StoreError("no database is connected to: await connect(name) first", store=self._pool.address)
        return self._place

    async def _ask(
        self, command: str, args: list[Value], accept: answers.Accept, until: float, *, keys: int = 0
    ) -> Reply:
        """Send a read to the client's database."""
        place = self._here()
        request = encode_request(command.encode(), args, place.uid, compression=self.compression)
        reply, _ = await self._pool.exchange(request, accept, until=until, keys=keys, database=place)
        return reply

    async def _server(self, command: str, args: list[Value], accept: answers.Accept, until: float) -> Reply:
        """Send a read that goes to no database."""
        request = encode_request(command.encode(), args, compression=self.compression)
        reply, _ = await self._pool.exchange(request, accept, until=until)
        return reply

    async def _change(self, command: str, args: list[Value], until: float, place: Place, *, keys: int = 0) -> None:
        """Send a change to a database."""
        request = encode_request(command.encode(), args, place.uid, compression=self.compression)
        reply, _ = await self._pool.exchange(
            request, answers.nothing, until=until, changes=True, keys=keys, database=place
        )
        self._data(command, reply)

    async def _alone(self, command: str, args: list[Value], until: float) -> None:
        """Send a change of the databases themselves."""
        request = encode_request(command.encode(), args, compression=self.compression)
        reply, _ = await self._pool.exchange(request, answers.nothing, until=until, changes=True, alone=True)
        self._data(command, reply)

    def _data(self, command: str, reply: Reply) -> Data:
        """Answer what a reply brought. Raises what its failure means."""
        if reply.status is Status.FAILURE:
            raise refusal_error(command, reply, self._pool.address)
        return reply.data
