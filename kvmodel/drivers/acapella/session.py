"""The client: a session with one AcapellaDB server, and what is made from it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.entries import Batch, Entry
from kvmodel.drivers.acapella.errors import Malformed
from kvmodel.drivers.acapella.failures import failure_of, lost_reply, not_sent, unreadable
from kvmodel.drivers.acapella.http import Http, Lost, Reply, TooLong, Unsent
from kvmodel.drivers.acapella.indexes import PartitionIndex
from kvmodel.drivers.acapella.nodes import Tree
from kvmodel.drivers.acapella.paths import check_parts
from kvmodel.drivers.acapella.protocol import Call, Effect, Quorum
from kvmodel.drivers.acapella.transactions import Transaction, TransactionContext
from kvmodel.drivers.meter import spend
from kvmodel.errors import Closed, KvModelError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["DEFAULT_PORT", "DEFAULT_PREFIX", "MAX_REPLY_BYTES", "Session"]

T = TypeVar("T")

DEFAULT_PORT: Final = 12000
DEFAULT_PREFIX: Final = "/acapelladb"
MAX_REPLY_BYTES: Final = 64 << 20
_CLOSING: Final = 10.0


class Session:
    """A client of an AcapellaDB server: its own vocabulary, all of it.

    ``async with Session("db1") as session:``, or :meth:`close` it at the end. Any number of tasks of one event loop may
    use it at once.

    Args:
        host, port: Where the server is.
        api_prefix: What all paths begin with, but those for accounts; empty for a bare node.
        timeout: How many seconds a call may take.
        connections: How many connections at the most.
        tls: Encrypt; or how to.
        keep_alive: After how many seconds an open transaction is told to be still wanted.
        max_reply_bytes: The longest reply that is read.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        api_prefix: str = DEFAULT_PREFIX,
        *,
        timeout: float = 10.0,
        connections: int = 32,
        tls: bool | ssl.SSLContext = False,
        keep_alive: float = 5.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        if connections < 1 or max_reply_bytes < 1 or not timeout > 0 or not keep_alive > 0:
            raise ValidationError("connections, max_reply_bytes, timeout and keep_alive are greater than zero")
        if api_prefix and not api_prefix.startswith("/"):
            raise ValidationError("api_prefix begins with a slash, or is empty", field="api_prefix")
        context = tls if isinstance(tls, ssl.SSLContext) else ssl.create_default_context() if tls else None
        self.store = f"acapella://{f'[{host}]' if ':' in host else host}:{port}{api_prefix}"
        self.keep_alive = keep_alive
        self._prefix = api_prefix.rstrip("/")
        self._timeout = timeout
        self._http = Http(host, port, tls=context, connections=connections, max_reply_bytes=max_reply_bytes)
        self._account: tuple[str, str] | None = None
        self._authorization: str | None = None
        self._logging_in = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._writing = 0
        self._quiet = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def api_prefix(self) -> str:
        """What the server's paths begin with, without a slash at the end."""
        return self._prefix

    def __repr__(self) -> str:
        return f"<Session of {self.store}{' (closed)' if self._closed else ''}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish the writes that are under way, and close all connections. Open transactions are left to expire."""
        already, self._closed = self._closed, True
        if self._writing:
            self._quiet.clear()
            try:
                async with asyncio.timeout(_CLOSING):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        if not already:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
        await self._http.close()

    # --- accounts -----------------------------------------------------------------------------------------------------

    async def login(self, user: str, password: str, *, timeout: float | None = None) -> None:
        """Log in. When the token is refused later, this is done once more by itself.

        Raises:
            AuthenticationFailedError: The server refuses user or password.
        """
        if ":" in user:
            raise ValidationError("a user name holds no colon: the server would take what follows for the password")
        call = protocol.login(user, password)
        token = await self._attempt(call, time.monotonic() + (self._timeout if timeout is None else timeout))
        self._account = user, password
        self._authorization = protocol.authorization(user, token)

    # --- what is kept there -------------------------------------------------------------------------------------------

    def entry(
        self,
        partition: Sequence[str],
        clustering: Sequence[str] | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
    ) -> Entry:
        """Answer the entry of a key, without reading it: its version is 0, its value ``None``.

        Args:
            partition: The partition key.
            clustering: The clustering key; left out for the plain key.
            n, r, w: Replicas, and how many of them confirm reads and writes.

        Raises:
            ValidationError: A key has empty parts, or ``1 <= r, w <= n <= 127`` does not hold. Nothing is sent.
        """
        return Entry(self, partition, clustering or (), quorum=Quorum.checked(n, r, w))

    async def get_entry(
        self,
        partition: Sequence[str],
        clustering: Sequence[str] | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
    ) -> Entry:
        """Answer the entry of a key with its value and version as they are now."""
        entry = self.entry(partition, clustering, n, r, w)
        await entry.get()
        return entry

    async def get_version(
        self,
        partition: Sequence[str],
        clustering: Sequence[str] | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
    ) -> int:
        """Answer the version of a key, 0 where nothing was ever written. A deleted key keeps its version."""
        quorum = Quorum.checked(n, r, w)
        row = check_parts(clustering or (), "a clustering key", empty=True)
        return await self.call(protocol.version(check_parts(partition, "a partition key"), row, quorum))

    async def range(
        self,
        partition: Sequence[str],
        first: Sequence[str] | None = None,
        last: Sequence[str] | None = None,
        limit: int | None = None,
        prefix: Sequence[str] | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
    ) -> list[Entry]:
        """Answer the rows of a partition in order.

        Deleted rows may be among them, with ``value`` ``None``, and count for the limit.

        Args:
            partition: The partition key.
            first: Where to begin; this key itself is left out.
            last: Where to end; this key is included.
            limit: How many at the most; 0 is no limit.
            prefix: What clustering keys begin with, in whole parts.
            n, r, w: As for :meth:`entry`.
        """
        quorum = Quorum.checked(n, r, w)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ValidationError(f"a limit is a number of rows, 0 or more, not {limit!r}")
        call = protocol.rows(
            check_parts(partition, "a partition key"),
            quorum,
            after=check_parts(first or (), "first", empty=True),
            last=check_parts(last or (), "last", empty=True),
            limit=limit,
            prefix=check_parts(prefix or (), "prefix", empty=True),
        )
        found = await self.call(call)
        return [Entry(self, partition, row.key, row.version, row.value, quorum=quorum) for row in found]

    def batch_manual(self) -> Batch:
        """Answer a batch: ``entry.set(..., batch=batch)`` queues, ``await batch.send()`` sends."""
        return Batch(self)

    def partition_index(self, partition: Sequence[str]) -> PartitionIndex:
        """Answer the indexes of a partition: they are its keyspace's, which its first two parts name."""
        return PartitionIndex(self, partition)

    def tree(self, tree: Sequence[str], n: int = 3, r: int = 2, w: int = 2) -> Tree:
        """Answer a Distributed Tree. Nothing is sent."""
        return Tree(self, tree, quorum=Quorum.checked(n, r, w))

    def transaction(self) -> TransactionContext:
        """Answer a transaction to enter: ``async with session.transaction() as tx:``.

        It is committed at the end of the block, and rolled back when the block ends by an exception.
        """
        return TransactionContext(self)

    async def transaction_manual(self, index: int | None = None, *, timeout: float | None = None) -> Transaction:
        """Open a transaction that is ended by its :meth:`~Transaction.commit` or :meth:`~Transaction.rollback`.

        Args:
            index: Joins the transaction that has this index; left out, a new one is opened.
            timeout: Seconds for opening it.
        """
        if index is None:
            index = await self.call(protocol.begin(), timeout=timeout)
        return Transaction(self, index)

    # --- exchanges ----------------------------------------------------------------------------------------------------

    async def call(self, call: Call[T], *, timeout: float | None = None, metered: bool = True) -> T:
        """Send a request of :mod:`~kvmodel.drivers.acapella.protocol` and answer its result.

        Args:
            call: The request.
            timeout: How many seconds it may take; left out, the session's own.
            metered: Whether it counts for ``kv.budget``.

        Raises:
            OutcomeUnknown: A write may or may not have happened.
            StoreError: The exchange failed otherwise; nothing was written.
            CasError: The version has changed.
            TransactionNotFoundError: The server has given the transaction up.
            TransactionCompletedError: The transaction is over.
            Closed: This session is closed, or belongs to another event loop.
        """
        until = time.monotonic() + (self._timeout if timeout is None else timeout) + call.waits
        token = self._authorization
        writes = call.effect is Effect.WRITE
        self._writing += writes
        try:
            reply = await self._exchange(call, until, metered)
            if reply.status == 401 and self._account is not None:  # The token has expired; nothing was done.
                await self._log_in_again(token, until)
                reply = await self._exchange(call, until, metered)
            return self._result(call, reply)
        finally:
            self._writing -= writes
            if not self._writing:
                self._quiet.set()

    async def _attempt(self, call: Call[T], until: float) -> T:
        return self._result(call, await self._exchange(call, until, True))

    async def _log_in_again(self, refused: str | None, until: float) -> None:
        async with self._logging_in:
            if self._authorization == refused and self._account is not None:
                await self.login(*self._account, timeout=max(until - time.monotonic(), 0.0))

    async def _exchange(self, call: Call[T], until: float, metered: bool) -> Reply:
        self._check_usable(call)
        left = until - time.monotonic()
        if left <= 0:
            raise not_sent(self.store, TimeoutError())
        if metered:
            spend(1)
        headers = {} if call.content_type is None else {"Content-Type": call.content_type}
        if self._authorization is not None and not call.bare:
            headers["Authorization"] = self._authorization
        target = f"{'' if call.bare else self._prefix}{call.path}" + (f"?{call.query}" if call.query else "")
        try:
            return await self._http.send(
                call.method,
                target,
                body=call.body,
                headers=headers,
                seconds=left,
                repeats=call.effect is Effect.READ,
                apart=call.waits > 0 or call.is_inside,
            )
        except TooLong as failure:
            raise unreadable(call, self.store, "the reply is longer than max_reply_bytes") from failure
        except (Unsent, Lost) as failure:
            raise self._failed(call, failure) from failure.__cause__

    def _failed(self, call: Call[T], failure: Unsent | Lost) -> KvModelError:
        """Answer the error for a request without a reply. A cancellation that harms nothing goes on as it is."""
        cause = failure.__cause__
        is_unknown = isinstance(failure, Lost) and call.effect is Effect.WRITE
        if isinstance(cause, asyncio.CancelledError) and not is_unknown:
            raise cause
        if self._closed and not is_unknown:
            return self._over()
        if isinstance(failure, Unsent):
            return not_sent(self.store, cause)
        return lost_reply(call, self.store, cause)

    def _result(self, call: Call[T], reply: Reply) -> T:
        if reply.status != 200:
            if reply.status == 404 and call.missing:
                return None  # type: ignore[return-value]  # such calls answer T | None
            raise failure_of(call, reply.status, self.store)
        try:
            return call.read(reply.body)
        except Malformed as error:
            raise unreadable(call, self.store, "the reply is not what the protocol says") from error

    def _check_usable(self, call: Call[T]) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._closed:
            raise self._over()
        if self._loop is not loop:
            raise Closed("a session belongs to one event loop: make another one here", store=self.store)

    def _over(self) -> Closed:
        return Closed("this session is closed: make another one", store=self.store)

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run something beside the calls, until it ends or the session is closed."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
