"""Transactions: several keys and trees at once, kept alive by themselves while they are open."""

from __future__ import annotations

import asyncio
import enum
import weakref
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.entries import Entry
from kvmodel.drivers.acapella.errors import TransactionCompletedError, TransactionNotFoundError
from kvmodel.drivers.acapella.nodes import Tree
from kvmodel.drivers.acapella.protocol import Quorum
from kvmodel.errors import Closed, KvModelError, OutcomeUnknown, Unsupported

if TYPE_CHECKING:
    from kvmodel.drivers.acapella.session import Session

__all__ = ["Transaction", "TransactionContext"]


_LETTING_GO: Final = 2.0


class _Stage(enum.Enum):
    OPEN = "is open"
    COMMITTED = "was committed"
    ROLLED_BACK = "was rolled back"
    UNKNOWN = "may or may not have been committed"


class Transaction:
    """An open transaction. Reads see what was committed, and its own writes; ``watch`` locks what is read.

    While it is open, the server is told from time to time that it is still wanted. That ends with the transaction, or
    when nothing refers to it any more.

    Attributes:
        index: The server's name for it.
    """

    def __init__(self, session: Session, index: int) -> None:
        self._session = session
        self.index = index
        self._stage = _Stage.OPEN
        self._keeper = session.start(_keep_alive(session, index))
        self._ending = weakref.finalize(self, _cancel, self._keeper)
        self._ending.atexit = False

    def __repr__(self) -> str:
        return f"<Transaction {self.index} that {self._stage.value}>"

    # --- in it ---

    def entry(
        self,
        partition: Sequence[str],
        clustering: Sequence[str] | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
    ) -> Entry:
        """Answer the entry of a key, without reading it. What is written through it is part of the transaction."""
        quorum = Quorum.checked(n, r, w)
        return Entry(self._session, partition, clustering or (), quorum=quorum, transaction=self.index)

    async def get_entry(
        self,
        partition: Sequence[str],
        clustering: Sequence[str] | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
        watch: bool = False,
    ) -> Entry:
        """Answer the entry of a key as this transaction sees it.

        Args:
            partition, clustering, n, r, w: As for :meth:`Session.entry`.
            watch: Lock the key until the transaction ends.

        Raises:
            TimedOut: With ``watch``: another transaction holds the lock.
        """
        entry = self.entry(partition, clustering, n, r, w)
        await entry.get(watch)
        return entry

    def tree(self, tree: Sequence[str], n: int = 3, r: int = 2, w: int = 2) -> Tree:
        """Answer a tree as this transaction sees it. What is written through it is part of the transaction."""
        return Tree(self._session, tree, quorum=Quorum.checked(n, r, w), transaction=self.index)

    # --- its life ---

    async def commit(self, *, timeout: float | None = None) -> None:
        """Make all of it count.

        Args:
            timeout: How many seconds it may take; left out, as the session has it.

        Raises:
            OutcomeUnknown: It may or may not have been committed.
            TransactionNotFoundError: The server has given it up; nothing was written.
            TransactionCompletedError: It is over already.
            Closed: It was rolled back through this object.
        """
        if self._stage is _Stage.COMMITTED:
            return
        if self._stage is not _Stage.OPEN:
            raise Closed(f"this transaction {self._stage.value}: begin another one", store=self._session.store)
        self._keeper.cancel()
        try:
            await self._session.call(protocol.commit(self.index), timeout=timeout)
        except OutcomeUnknown:
            self._stage = _Stage.UNKNOWN
            raise
        self._stage = _Stage.COMMITTED

    async def rollback(self) -> None:
        """Forget all of it. One that is over already is left as it is, and nothing is sent."""
        if self._stage is not _Stage.OPEN:
            return
        self._stage = _Stage.ROLLED_BACK
        self._keeper.cancel()
        await self._session.call(protocol.rollback(self.index))

    async def _give_up(self, seconds: float) -> None:
        """Roll back whatever happens: now, if there is time, else beside what goes on."""
        if self._stage is not _Stage.OPEN:
            return
        self._stage = _Stage.ROLLED_BACK
        self._keeper.cancel()
        work = self._session.start(self._let_go())
        if seconds > 0:
            await asyncio.wait([work], timeout=min(seconds, _LETTING_GO))

    async def _let_go(self) -> None:
        with suppress(KvModelError):  # The server gives it up by itself in time.
            await self._session.call(protocol.rollback(self.index), timeout=_LETTING_GO, metered=False)

    async def keep_alive(self) -> None:
        """Tell the server that the transaction is still wanted. It happens by itself, too.

        Raises:
            TransactionNotFoundError: The server has given it up.
            TransactionCompletedError: It is over already.
        """
        await self._session.call(protocol.keep_alive(self.index))

    @property
    def is_open(self) -> bool:
        """Whether it was neither committed nor rolled back through this object."""
        return self._stage is _Stage.OPEN

    # --- not in it ---

    def range(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: the server reads no range inside a transaction."""
        self._refuse("a range", "get the entries by key, or read a tree's range")

    def batch_manual(self) -> NoReturn:
        """Refuse: the server takes no batch inside a transaction."""
        self._refuse("a batch", "write the entries one by one")

    def get_version(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: the server answers no version alone inside a transaction."""
        self._refuse("a version alone", "get the entry, which has its version")

    def partition_index(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: the server answers no index query inside a transaction."""
        self._refuse("an index query", "ask before the transaction, and get what was found with watch=True")

    def _refuse(self, what: str, remedy: str) -> NoReturn:
        raise Unsupported(f"{what} can't be part of a transaction: {remedy}", store=self._session.store)


class TransactionContext:
    """A transaction to be entered."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> Transaction:
        self._transaction = await self._session.transaction_manual()
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction = self._transaction
        if transaction is None or not transaction.is_open:
            return
        if kind is None:
            try:
                await transaction.commit()
            except BaseException:
                await transaction._give_up(_LETTING_GO)  # Others may be waiting for what it has locked.
                raise
            return
        try:
            await transaction.rollback()
        except KvModelError:
            return  # The server gives it up by itself; what went wrong in the block is what the caller has to know.


async def _keep_alive(session: Session, index: int) -> None:
    """Keep a transaction alive, until this is cancelled. It must not hold the object, which would keep it for ever."""
    while True:
        await asyncio.sleep(session.keep_alive)
        try:
            await session.call(protocol.keep_alive(index), metered=False)
        except (TransactionNotFoundError, TransactionCompletedError, Closed):
            return  # The next call in it says so.
        except KvModelError:
            continue  # The next attempt may be luckier, before the server loses patience.


def _cancel(task: asyncio.Task[None]) -> None:
    if not task.get_loop().is_closed():
        task.cancel()
