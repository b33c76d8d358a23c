"""Distributed Trees: sorted keys and values, spread over the cluster, without versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.paths import check_parts
from kvmodel.drivers.acapella.protocol import Json, Quorum, dump_json
from kvmodel.errors import ValidationError

if TYPE_CHECKING:
    from kvmodel.drivers.acapella.session import Session
    from kvmodel.drivers.acapella.transactions import Transaction

__all__ = ["Cursor", "Tree"]


class Tree:
    """A tree. Made by a session, or by a transaction, whose calls see what was written in it.

    Attributes:
        name: The tree's name, in parts.
    """

    __slots__ = ("_quorum", "_session", "_transaction", "name")

    def __init__(
        self, session: Session, name: Sequence[str], *, quorum: Quorum, transaction: int | None = None
    ) -> None:
        self._session = session
        self._quorum = quorum
        self._transaction = transaction
        self.name = list(check_parts(name, "the name of a tree"))

    def __repr__(self) -> str:
        return f"<Tree {self.name!r}>"

    def cursor(self, key: Sequence[str], transaction: Transaction | None = None) -> Cursor:
        """Answer the place of a key, without reading it. Nothing needs to be there.

        Args:
            key: The key.
            transaction: What is done there is part of it; left out, of the one that made this tree, if one did.
        """
        return Cursor(self._inside(transaction), key)

    async def get_cursor(self, key: Sequence[str], transaction: Transaction | None = None) -> Cursor:
        """Answer the place of a key with the value that is there now. The arguments are those of :meth:`cursor`."""
        cursor = self.cursor(key, transaction)
        await cursor.get()
        return cursor

    async def range(
        self,
        first: Sequence[str] | None = None,
        last: Sequence[str] | None = None,
        limit: int | None = None,
        transaction: Transaction | None = None,
    ) -> list[Cursor]:
        """Answer the nodes between two keys, in order.

        Args:
            first: Where to begin; this key itself is left out.
            last: Where to end; this key is included.
            limit: How many at the most; left out or 0, all of them.
            transaction: As for :meth:`cursor`.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ValidationError(f"a limit is a number of nodes, 0 or more, not {limit!r}")
        tree = self._inside(transaction)
        call = protocol.tree_rows(
            self.name,
            self._quorum,
            after=check_parts(first or (), "first", empty=True),
            last=check_parts(last or (), "last", empty=True),
            limit=limit or 0,
            transaction=tree._transaction,
        )
        return [Cursor(tree, node.key, node.value) for node in await self._session.call(call)]

    def _inside(self, transaction: Transaction | None) -> Tree:
        """Answer this tree as a transaction sees it."""
        return (
            self
            if transaction is None
            else Tree(self._session, self.name, quorum=self._quorum, transaction=transaction.index)
        )


class Cursor:
    """A place in a tree, and the value that was seen there last.

    Attributes:
        tree: The tree.
        key: The key.
        value: The value that was read or written last; ``None`` where there is none, and before.
    """

    __slots__ = ("_hint", "key", "tree", "value")

    def __init__(self, tree: Tree, key: Sequence[str], value: Json = None, *, hint: str | None = None) -> None:
        self.tree = tree
        self.key = list(check_parts(key, "the key of a node"))
        self.value = value
        self._hint = hint

    def __repr__(self) -> str:
        return f"<Cursor at {self.key!r} in {self.tree!r}>"

    async def get(self) -> Json:
        """Read the value, and answer it; ``None`` where there is none."""
        tree = self.tree
        call = protocol.tree_get(tree.name, self.key, tree._quorum, transaction=tree._transaction)
        self.value = await tree._session.call(call)
        return self.value

    async def set(self, new_value: Json) -> None:
        """Write the value; ``None`` removes it.

        Raises:
            OutcomeUnknown: It may or may not have been written.
        """
        tree = self.tree
        body = None if new_value is None else dump_json(new_value)
        await tree._session.call(
            protocol.tree_put(tree.name, self.key, body, tree._quorum, transaction=tree._transaction)
        )
        self.value = new_value

    async def next(self) -> Cursor | None:
        """Answer the place of the next greater key; ``None`` at the end."""
        return await self._step(back=False)

    async def prev(self) -> Cursor | None:
        """Answer the place of the next smaller key; ``None`` at the beginning."""
        return await self._step(back=True)

    async def _step(self, *, back: bool) -> Cursor | None:
        tree = self.tree
        node = await tree._session.call(
            protocol.tree_step(
                tree.name, self.key, tree._quorum, back=back, transaction=tree._transaction, hint=self._hint
            )
        )
        return None if node is None else Cursor(tree, node.key, node.value, hint=node.hint)
