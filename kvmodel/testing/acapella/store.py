"""What the emulated server keeps: keys with versions, trees, indexes, transactions and their locks. It does no I/O.

Every call answers at once; what has to wait raises :class:`Locked`, and is tried again when :attr:`Store.changed` says
that something has happened.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

__all__ = ["Cell", "Key", "Locked", "Refused", "Store", "Write"]

Key: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Partition key and clustering key."""
Json: TypeAlias = Any
_TYPES: Final = {"string", "number"}
_ORDERS: Final = {"ascending", "descending"}


class Refused(Exception):
    """A request that is answered with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Locked(Exception):
    """A request that has to wait for another transaction."""


@attrs.frozen
class Cell:
    """What is under a key. A deleted one keeps its version and has no value."""

    version: int = 0
    value: Json = None


@attrs.frozen
class Write:
    """One write that is meant: its value (``None`` removes), and the version that it wants to meet, if any."""

    key: Key
    value: Json
    old_version: int | None
    reindex: bool


@attrs.define(eq=False)
class _Transaction:
    cells: dict[Key, Cell] = attrs.field(factory=dict)
    reindexed: set[Key] = attrs.field(factory=set)
    nodes: dict[tuple[tuple[str, ...], tuple[str, ...]], Json] = attrs.field(factory=dict)
    locks: set[Key] = attrs.field(factory=set)
    is_over: bool = False
    touched: float = 0.0


@attrs.define(eq=False)
class _Index:
    fields: list[dict[str, str]]
    entries: dict[Key, tuple[Json, ...]] = attrs.field(factory=dict)


class _Sorted:
    """Keys in order."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, ...]] = []

    def add(self, key: tuple[str, ...]) -> None:
        place = bisect_left(self.keys, key)
        if self.keys[place : place + 1] != [key]:
            insort(self.keys, key)

    def between(self, after: tuple[str, ...], last: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield what lies behind one key, up to and including another one; empty ones are no bounds."""
        end = bisect_right(self.keys, last) if last else len(self.keys)
        yield from self.keys[bisect_right(self.keys, after) : end]


class Store:
    """The data of one server.

    Args:
        idle: After how many seconds without a request a transaction is forgotten.
    """

    def __init__(self, idle: float = 30.0) -> None:
        self.idle = idle
        self.changed = asyncio.Event()
        self._cells: dict[Key, Cell] = {}
        self._rows: dict[tuple[str, ...], _Sorted] = {}
        self._trees: dict[tuple[str, ...], dict[tuple[str, ...], Json]] = {}
        self._transactions: dict[int, _Transaction] = {}
        self._locks: dict[Key, _Transaction] = {}
        self._indexes: dict[tuple[str, ...], dict[int, _Index]] = {}
        self._last_index = 0

    def _wake(self) -> None:
        """Tell whoever waits that something has happened."""
        self.changed.set()
        self.changed = asyncio.Event()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def read(self, key: Key, index: int | None = None, *, watch: bool = False) -> Cell:
        """Answer what is under a key. Raises ``Locked`` where it is to be locked and another one has it."""
        transaction = self._transaction(index)
        if transaction is None:
            return self._cells.get(key, Cell())
        if watch:
            self._lock(key, transaction)
        return transaction.cells.get(key) or self._cells.get(key, Cell())

    def write(self, writes: Sequence[Write], index: int | None = None) -> list[int]:
        """Do all of these or none; answer the new versions."""
        transaction = self._transaction(index)
        for write in writes:
            self._lock(write.key, transaction)
        cells: list[Cell] = []
        for write in writes:
            present = self.read(write.key, index)
            if write.old_version is not None and present.version != write.old_version:
                raise Refused(409)
            cells.append(Cell(present.version + 1, write.value))
        for write, cell in zip(writes, cells, strict=True):
            if transaction is None:
                self._install(write.key, cell, reindex=write.reindex)
            else:
                transaction.cells[write.key] = cell
                (transaction.reindexed.add if write.reindex else transaction.reindexed.discard)(write.key)
        if transaction is None:
            self._wake()
        return [cell.version for cell in cells]

    def _install(self, key: Key, cell: Cell, *, reindex: bool) -> None:
        self._cells[key] = cell
        partition, clustering = key
        if clustering:
            self._rows.setdefault(partition, _Sorted()).add(clustering)
        if reindex:
            for found in self._indexes.get(partition[:2], {}).values():
                _reindex(found, key, cell.value)

    def rows(
        self, partition: tuple[str, ...], after: tuple[str, ...], last: tuple[str, ...], prefix: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], Cell]]:
        """Yield rows in order, deleted ones too."""
        known = self._rows.get(partition)
        if known is not None and not (last and after >= last):
            for clustering in known.between(after, last):
                if clustering[: len(prefix)] == prefix:
                    yield clustering, self._cells[partition, clustering]

    # --- transactions -------------------------------------------------------------------------------------------------

    def begin(self) -> int:
        """Open a transaction."""
        self._last_index += 1
        self._transactions[self._last_index] = _Transaction(touched=_now())
        return self._last_index

    def commit(self, index: int) -> None:
        """Make what was done in a transaction count."""
        transaction = self._transaction(index)
        assert transaction is not None
        for key, cell in transaction.cells.items():
            self._install(key, cell, reindex=key in transaction.reindexed)
        for (tree, path), value in transaction.nodes.items():
            self._put_node(tree, path, value)
        self._end(transaction)

    def rollback(self, index: int) -> None:
        """Forget what was done in a transaction."""
        self.expire()
        transaction = self._transactions.get(index)
        if transaction is None:
            raise Refused(410)
        if not transaction.is_over:
            self._end(transaction)

    def touch(self, index: int) -> None:
        """Keep a transaction alive."""
        self._transaction(index)

    def expire(self) -> None:
        """Forget the transactions that nobody has named for long."""
        old = _now() - self.idle
        for index, transaction in list(self._transactions.items()):
            if transaction.touched < old:
                if not transaction.is_over:
                    self._end(transaction)
                del self._transactions[index]

    @property
    def open_transactions(self) -> int:
        """How many transactions are open."""
        self.expire()
        return sum(not each.is_over for each in self._transactions.values())

    def _transaction(self, index: int | None) -> _Transaction | None:
        self.expire()
        if index is None:
            return None
        transaction = self._transactions.get(index)
        if transaction is None:
            raise Refused(410)
        if transaction.is_over:
            raise Refused(412)
        transaction.touched = _now()
        return transaction

    def _lock(self, key: Key, transaction: _Transaction | None) -> None:
        owner = self._locks.get(key)
        if owner is not None and owner is not transaction:
            raise Locked
        if transaction is not None:
            self._locks[key] = transaction
            transaction.locks.add(key)

    def _end(self, transaction: _Transaction) -> None:
        transaction.is_over = True
        for key in transaction.locks:
            del self._locks[key]
        transaction.locks.clear()
        self._wake()

    # --- trees --------------------------------------------------------------------------------------------------------

    def node(self, tree: tuple[str, ...], key: tuple[str, ...], index: int | None) -> Json:
        """Answer a node's value."""
        return self._nodes(tree, index).get(key)

    def put_node(self, tree: tuple[str, ...], key: tuple[str, ...], value: Json, index: int | None) -> None:
        """Write a node; ``None`` removes it."""
        transaction = self._transaction(index)
        if transaction is None:
            self._put_node(tree, key, value)
        else:
            transaction.nodes[tree, key] = value

    def _put_node(self, tree: tuple[str, ...], key: tuple[str, ...], value: Json) -> None:
        nodes = self._trees.setdefault(tree, {})
        if value is None:
            nodes.pop(key, None)
        else:
            nodes[key] = value

    def nodes(
        self, tree: tuple[str, ...], after: tuple[str, ...], last: tuple[str, ...], index: int | None
    ) -> list[tuple[tuple[str, ...], Json]]:
        """Answer nodes in order."""
        nodes = self._nodes(tree, index)
        return [(key, nodes[key]) for key in sorted(nodes) if key > after and (not last or key <= last)]

    def step(
        self, tree: tuple[str, ...], key: tuple[str, ...], index: int | None, *, back: bool
    ) -> tuple[tuple[str, ...], Json]:
        """Answer the next node, or the one before."""
        nodes = self._nodes(tree, index)
        beside = [each for each in nodes if (each < key if back else each > key)]
        if not beside:
            raise Refused(404)
        found = max(beside) if back else min(beside)
        return found, nodes[found]

    def _nodes(self, tree: tuple[str, ...], index: int | None) -> dict[tuple[str, ...], Json]:
        """Answer a tree as a transaction sees it."""
        transaction = self._transaction(index)
        nodes = self._trees.get(tree, {})
        if transaction is None:
            return nodes
        own = {key: value for (name, key), value in transaction.nodes.items() if name == tree}
        return {key: value for key, value in {**nodes, **own}.items() if value is not None}

    # --- indexes ------------------------------------------------------------------------------------------------------

    def define_index(self, user: str, keyspace: str, tag: int, fields: Json) -> None:
        """Define an index. One of the same tag and other fields is emptied."""
        if not isinstance(fields, list) or not fields or not all(map(_is_field, fields)):
            raise Refused(400)
        known = self._indexes.setdefault((user, keyspace), {})
        made = [{"order": "ascending", **field} for field in fields]
        if tag not in known or known[tag].fields != made:
            known[tag] = _Index(made)

    def indexes(self, user: str, keyspace: str) -> dict[str, Json]:
        """Answer all indexes of a keyspace."""
        return {str(tag): {"fields": each.fields} for tag, each in self._indexes.get((user, keyspace), {}).items()}

    def query(
        self, partition: tuple[str, ...], conditions: dict[str, dict[str, Json]]
    ) -> list[tuple[tuple[str, ...], Json]]:
        """Answer the rows that an index finds, by clustering key."""
        for found in self._indexes.get(partition[:2], {}).values():
            fields = found.fields[: len(conditions)]
            if {field["name"] for field in fields} == conditions.keys() and all(
                conditions[field["name"]].get("eq") is not None for field in fields[:-1]
            ):
                checks = [(field["order"] == "descending", conditions[field["name"]]) for field in fields]
                hits = [
                    key[1]
                    for key, values in found.entries.items()
                    if key[0] == partition and all(map(_matches, values, checks))
                ]
                return [(clustering, self._cells[partition, clustering].value) for clustering in sorted(hits)]
        raise Refused(400)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_field(field: Json) -> bool:
    return (
        isinstance(field, dict)
        and isinstance(field.get("name"), str)
        and field.get("type") in _TYPES
        and field.get("order", "ascending") in _ORDERS
    )


def _reindex(index: _Index, key: Key, value: Json) -> None:
    index.entries.pop(key, None)
    if not isinstance(value, dict):
        return
    found = tuple(value.get(field["name"]) for field in index.fields)
    if all(_fits(each, field["type"]) for each, field in zip(found, index.fields, strict=True)):
        index.entries[key] = found


def _fits(value: Json, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _matches(value: Json, check: tuple[bool, dict[str, Json]]) -> bool:
    is_descending, condition = check
    low, high = condition.get("from"), condition.get("to")
    if is_descending:
        low, high = high, low
    try:
        if condition.get("eq") is not None and value != condition["eq"]:
            return False
        return (low is None or value >= low) and (high is None or value <= high)
    except TypeError:
        raise Refused(400) from None
