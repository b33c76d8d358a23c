"""A pool of connections to the nodes of a cluster: the driver's transport, and ``db.native``.

Why not the official connector, ``picopyn``: on a wrong password it goes on to the next host, and four failures lock the
user; its errors are ``RuntimeError`` whose text holds the statement's parameters; a timed-out statement's connection
goes back into its pool; opening it reads system tables that need a grant, and fails unless all connections are made; it
pins one release of asyncpg and of psycopg. Its features are here, over the same asyncpg.

Rules.

* No statement is ever cancelled inside asyncpg, which would open another connection for a request that the server does
  not understand: it runs in a task of its own, and when its time is up, or its caller is gone, the connection is
  dropped. So no connection answers one request with the reply to another.
* A login that was refused is not tried again: the server locks the user after four.
* A connection goes back as it is: there is nothing to reset, as sessions keep no state.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, TypeVar

import asyncpg
import attrs

from kvmodel.drivers.picodata.discovery import CONNECTION_TYPE, DISCOVER, NodeAddress, read_nodes
from kvmodel.drivers.picodata.errors import LOST, is_refused_login, is_stale, server_error
from kvmodel.drivers.picodata.forms import Wire
from kvmodel.errors import AuthenticationFailed, Closed, OutcomeUnknown, StoreError, TimedOut, Unavailable

__all__ = ["BalanceStrategy", "PicodataConnection", "PicodataPool"]

T = TypeVar("T")

_INVALIDATION: Final = "pico_stmt_invalidation=true"
_SET_ASIDE: Final = 1.0
_CLOSING: Final = 5.0
_STALE_ATTEMPTS: Final = 5


@attrs.define(eq=False)
class PicodataConnection:
    """One connection, as a balance strategy sees it.

    Attributes:
        node: Where it leads.
    """

    node: NodeAddress
    _link: Any = attrs.field(repr=False)

    @property
    def is_closed(self) -> bool:
        """Whether it is gone."""
        return bool(self._link.is_closed())

    def terminate(self) -> None:
        """Drop it, whatever it is doing."""
        self._link.terminate()


BalanceStrategy = Callable[[Sequence[PicodataConnection]], PicodataConnection]
"""Chooses among the free connections."""


class PicodataPool:
    """A connected pool; ``execute`` and ``fetch`` take SQL in Picodata's dialect, with ``$1`` for parameters.

    Each call is a statement of its own, on any free connection. There are no transactions: ``BEGIN`` is answered by the
    server, and does nothing; what has to happen at once goes into a ``DO`` block.

    Args:
        nodes: Where the nodes listen.
        user, password: Who logs in.
        pool_size: How many connections at the most, to all nodes together; at least 1.
        discovery: Ask the cluster for its nodes, instead of using those given alone.
        balance_strategy: Chooses among the free connections; round robin if left out.
        topology_update_interval: Every how many seconds to ask again; ``None`` for never.
        forbidden_tiers: Whose nodes discovery leaves alone.
        tls: What to encrypt with; ``None`` for plain connections.
        timeout: How many seconds a call may take that names no time itself, and connecting.
        connect_kwargs: More arguments for ``asyncpg.connect``.
    """

    def __init__(
        self,
        nodes: Sequence[NodeAddress],
        user: str | None = None,
        password: str | None = None,
        *,
        pool_size: int = 10,
        discovery: bool = False,
        balance_strategy: BalanceStrategy | None = None,
        topology_update_interval: float | None = 60.0,
        forbidden_tiers: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        connect_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = tuple(nodes)
        self._nodes: tuple[NodeAddress, ...] = self._given
        self._user = user
        self._password = password
        self._size = pool_size
        self._discovery = discovery
        self._strategy = balance_strategy
        self._interval = topology_update_interval
        self._forbidden = frozenset(forbidden_tiers)
        self._tls = tls
        self._timeout = timeout
        self._connect_kwargs = dict(connect_kwargs or {})
        self._free: deque[PicodataConnection] = deque()
        self._all: set[PicodataConnection] = set()
        self._opening: dict[NodeAddress, int] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._aside: dict[NodeAddress, float] = {}
        self._refused: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_open = False
        self._active = 0
        self._closing: asyncio.Future[None] | None = None
        self._asks_again = asyncio.Event()

    def __repr__(self) -> str:
        return f"<PicodataPool of {self.address}, {len(self._all)} of {self._size} connections>"

    @property
    def address(self) -> str:
        """Where the cluster is, as a URL without credentials."""
        return f"picodata://{','.join(map(str, self._given))}"

    @property
    def nodes(self) -> tuple[NodeAddress, ...]:
        """The nodes in use."""
        return self._nodes

    @property
    def size(self) -> int:
        """How many connections there are."""
        return len(self._all)

    # --- its life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Raises ``Unavailable``, ``AuthenticationFailed`` or ``TimedOut``."""
        self._is_open = True
        self._closing = None
        self._refused = None
        until = time.monotonic() + self._timeout
        # The first alone: were the password wrong, all of them at once would lock the user.
        first = await self._connect_somewhere(until)
        self._give_back(first)
        if self._discovery:
            await self.discover(until)
            if self._interval is not None:
                self._spawn(self._keep_discovering(self._interval))
        there = {connection.node for connection in self._all}
        others = [node for node in self._nodes if node not in there][: self._size - len(self._all)]
        await asyncio.gather(*(self._join(node, until) for node in others))

    async def _join(self, node: NodeAddress, until: float) -> None:
        """Connect to one more node; that it can't be reached is no failure."""
        with suppress(StoreError):
            self._give_back(await self._connect(node, until))

    async def close(self) -> None:
        """Close all connections; statements that run are waited for, a few seconds long. Closing twice is allowed."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            self._tell_whether_idle()
        await asyncio.wait((self._closing,), timeout=_CLOSING)
        self._is_open = False
        while self._waiting:
            self._wake()
        background = list(self._tasks)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        connections, self._all = list(self._all), set()
        self._free.clear()
        for connection in connections:
            if not connection.is_closed:
                with suppress(*LOST, TimeoutError, asyncpg.PostgresError):
                    await connection._link.close(timeout=1)

    async def __aenter__(self) -> PicodataPool:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- statements ---------------------------------------------------------------------------------------------------

    async def execute(self, sql: str, *args: Wire, timeout: float | None = None) -> str:
        """Run a statement; answer its command tag, such as ``UPDATE 1``.

        Raises:
            StoreError: The server refused it; its words are the cause.
            OutcomeUnknown: No answer came: it may have run.
            TimedOut: No connection became free in time; nothing was sent.
            Unavailable: No node can be reached; nothing was sent.
            AuthenticationFailed: The server refused user or password.
            Closed: The pool is closed.
        """
        tag: str = await self.run(lambda link: link.execute(sql, *args), self._until(timeout))
        return tag

    async def fetch(self, sql: str, *args: Wire, timeout: float | None = None) -> list[asyncpg.Record]:
        """Run a statement; answer its rows. Raises as :meth:`execute` does."""
        rows: list[asyncpg.Record] = await self.run(lambda link: link.fetch(sql, *args), self._until(timeout))
        return rows

    async def fetchrow(self, sql: str, *args: Wire, timeout: float | None = None) -> asyncpg.Record | None:
        """Run a statement; answer its first row, ``None`` where there is none. Raises as :meth:`execute` does."""
        rows = await self.fetch(sql, *args, timeout=timeout)
        return rows[0] if rows else None

    def _until(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    async def run(self, work: Callable[[Any], Any], until: float) -> Any:
        """Await ``work(link)``, with a connection of asyncpg, once; but again where the server ran nothing."""
        async with self.acquire(until) as connection:
            for attempt in range(_STALE_ATTEMPTS):
                if time.monotonic() >= until:
                    raise TimedOut("time ran out before anything was sent: raise the timeout", store=self.address)
                try:
                    return await self._carry(connection, work, until)
                except asyncpg.PostgresError as error:
                    if isinstance(error, asyncpg.PostgresConnectionError):
                        raise self._lost(connection, error) from error
                    if not is_stale(error) or attempt == _STALE_ATTEMPTS - 1:
                        raise server_error(error, self.address) from error
                    await connection._link.reload_schema_state()
                except StoreError:
                    raise  # It is an OSError too, and has been judged already.
                except LOST as error:
                    if isinstance(error, asyncpg.InterfaceError) and not connection.is_closed:
                        raise self._misused(error) from error
                    raise self._lost(connection, error) from error
                except (ValueError, TypeError) as error:
                    raise self._misused(error) from error
        raise AssertionError

    async def _carry(self, connection: PicodataConnection, work: Callable[[Any], Any], until: float) -> Any:
        """Run a statement in a task of its own, which nobody cancels."""
        task = asyncio.ensure_future(work(connection._link))
        try:
            done, _ = await asyncio.wait((task,), timeout=max(until - time.monotonic(), 0))
        except asyncio.CancelledError as error:
            self._abandon(connection, task)
            raise OutcomeUnknown(
                "this was cancelled when it may have been sent: read again before going on", store=self.address
            ) from error
        if not done:
            self._abandon(connection, task)
            raise OutcomeUnknown(
                "no answer came in time, and a write may have happened: read again before going on", store=self.address
            ) from TimeoutError()
        return task.result()

    def _abandon(self, connection: PicodataConnection, task: asyncio.Future[Any]) -> None:
        task.add_done_callback(_swallow)
        connection.terminate()

    def _lost(self, connection: PicodataConnection, error: BaseException) -> OutcomeUnknown:
        connection.terminate()
        self._asks_again.set()
        return OutcomeUnknown(
            "the connection was lost, and a write may have happened: read again before going on", store=self.address
        )

    def _misused(self, error: BaseException) -> StoreError:
        return StoreError("the parameters do not fit the statement: look at the cause", store=self.address)

    # --- connections --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def acquire(self, until: float) -> AsyncIterator[PicodataConnection]:
        """A connection for one's own. Raises ``TimedOut``, ``Unavailable``, ``AuthenticationFailed`` or ``Closed``."""
        if self._closing is not None:
            raise self._closed()
        self._active += 1
        try:
            connection = await self._take(until)
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._active -= 1
            self._tell_whether_idle()

    def _tell_whether_idle(self) -> None:
        if self._closing is not None and not self._active and not self._closing.done():
            self._closing.set_result(None)

    def _closed(self) -> Closed:
        return Closed("this connection is closed: connect again", store=self.address)

    async def _take(self, until: float) -> PicodataConnection:
        while True:
            if not self._is_open:
                raise self._closed()
            if self._refused is not None:
                raise AuthenticationFailed(
                    "the server refused these credentials before: connect again with others", store=self.address
                ) from self._refused
            connection = self._choose()
            if connection is not None:
                return connection
            if len(self._all) + sum(self._opening.values()) < self._size:
                return await self._connect_somewhere(until)
            await self._wait(until)

    def _choose(self) -> PicodataConnection | None:
        """Take a free connection."""
        for connection in [each for each in self._free if each.is_closed]:
            self._forget(connection)
        if not self._free:
            return None
        if self._strategy is None:
            return self._free.popleft()
        chosen = self._strategy(tuple(self._free))
        if chosen not in self._free:
            raise StoreError("balance_strategy answers one of the connections that it is given", store=self.address)
        self._free.remove(chosen)
        return chosen

    async def _wait(self, until: float) -> None:
        """Wait for a connection to become free."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=max(until - time.monotonic(), 0))
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not self._is_open or time.monotonic() >= until:
                self._wake()  # It was woken for nothing: the next one may have better use for it.
        if not waiter.done() and time.monotonic() >= until:
            raise TimedOut(
                "no connection became free in time, and nothing was sent: raise pool_size or the timeout",
                store=self.address,
            )

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _give_back(self, connection: PicodataConnection) -> None:
        if connection.is_closed or connection not in self._all:
            self._forget(connection)
        elif connection.node not in self._nodes and len(self._nodes) > 0:
            self._forget(connection)
            connection.terminate()
        else:
            self._free.append(connection)
        self._wake()

    def _forget(self, connection: PicodataConnection) -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)

    async def _connect_somewhere(self, until: float) -> PicodataConnection:
        """Connect to the node with the fewest connections; those that could not be reached lately come last."""
        failure: Unavailable | None = None
        for node in sorted(self._nodes, key=self._preference):
            try:
                return await self._connect(node, until)
            except Unavailable as error:
                failure = error
        self._wake()
        self._asks_again.set()
        raise Unavailable(
            "no node can be reached, and nothing was sent: check the addresses, and that the cluster is up",
            store=self.address,
        ) from (failure and failure.__cause__)

    def _preference(self, node: NodeAddress) -> tuple[bool, int]:
        used = sum(connection.node == node for connection in self._all) + self._opening.get(node, 0)
        return self._aside.get(node, 0) > time.monotonic(), used

    async def _connect(self, node: NodeAddress, until: float) -> PicodataConnection:
        """Connect. If that takes longer than its caller has time, the connection is for whoever comes next."""
        self._opening[node] = self._opening.get(node, 0) + 1
        task = self._spawn(self._establish(node))
        try:
            done, _ = await asyncio.wait((task,), timeout=max(until - time.monotonic(), 0))
        except asyncio.CancelledError:
            task.add_done_callback(self._adopt)
            raise
        if not done:
            task.add_done_callback(self._adopt)
            raise TimedOut("connecting takes too long, and nothing was sent", store=str(node)) from TimeoutError()
        return task.result()

    def _adopt(self, task: asyncio.Task[PicodataConnection]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._give_back(task.result())
        else:
            self._wake()

    async def _establish(self, node: NodeAddress) -> PicodataConnection:
        try:
            link = await self._open_link(node)
        finally:
            self._opening[node] -= 1
        connection = PicodataConnection(node, link)
        if not self._is_open:
            connection.terminate()
            raise self._closed()
        self._all.add(connection)
        return connection

    async def _open_link(self, node: NodeAddress) -> Any:
        try:
            return await asyncpg.connect(**self._arguments(node))
        except asyncpg.PostgresError as error:
            if is_refused_login(error):
                self._refused = error
                raise server_error(error, self.address) from error
            self._set_aside(node)
            raise Unavailable("this node refuses connections", store=str(node)) from error
        except TimeoutError as error:
            self._set_aside(node)
            raise Unavailable("this node does not answer", store=str(node)) from error
        except (*LOST, ssl.SSLError) as error:
            self._set_aside(node)
            raise Unavailable("this node can't be reached", store=str(node)) from error

    def _set_aside(self, node: NodeAddress) -> None:
        self._aside[node] = time.monotonic() + _SET_ASIDE

    def _arguments(self, node: NodeAddress) -> dict[str, Any]:
        given = dict(self._connect_kwargs)
        settings = dict(given.pop("server_settings", None) or {})
        options = settings.get("options")
        settings["options"] = f"{options},{_INVALIDATION}" if options else _INVALIDATION
        given.setdefault("ssl", self._tls or False)
        given.setdefault("timeout", self._timeout)
        return {
            "user": self._user,
            "password": self._password,
            "database": "kvmodel",  # The server ignores it, and asyncpg would look into the environment for one.
            **given,
            "host": node.host,
            "port": node.port,
            "server_settings": settings,
        }

    # --- topology -----------------------------------------------------------------------------------------------------

    async def discover(self, until: float | None = None) -> tuple[NodeAddress, ...]:
        """Ask the cluster which nodes are online, and use those from now on; the ones given serve if none answers."""
        until = self._until(None) if until is None else until
        try:
            rows = await self.run(lambda link: link.fetch(DISCOVER, CONNECTION_TYPE), until)
            found = tuple(read_nodes(rows, self._forbidden))
        except Unavailable:
            self._nodes = self._given
            raise
        self._nodes = found or self._given
        for connection in [each for each in self._free if each.node not in self._nodes]:
            self._forget(connection)
            connection.terminate()
        return self._nodes

    async def _keep_discovering(self, interval: float) -> None:
        """Ask again from time to time, and at once when a connection was lost."""
        while True:
            self._asks_again.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._asks_again.wait()
            try:
                await self.discover()
            except StoreError:
                await asyncio.sleep(min(interval, _SET_ASIDE))


def _swallow(task: asyncio.Future[Any]) -> None:
    """What becomes of an abandoned statement is nobody's business any more."""
    if not task.cancelled():
        task.exception()
