"""Histories of concurrent transactions, and the judge of whether they could have happened one after the other.

Theory of operation. Every record holds a list of numbers, and a transaction changes a record by appending its own
number to it. So the list that is left at the end is the order in which the record was written, and every list that was
read says whom its reader saw: versions need not be asked for. An absent record is an empty list, so that a range over
keys that are all known beforehand is a read of each of them, and a phantom is a list that should not have been empty.

From that follow four kinds of edges between transactions: who wrote a record before whom; who read what somebody wrote;
who read a record before somebody wrote it; and who had ended before somebody began. If they close a ring, no order of
one after the other explains what was seen, and the ring says why (Adya's serialisation graph, with real time).

What is not known to have committed did, if its number stands anywhere; then it has to stand everywhere it should.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence

import attrs

__all__ = ["History", "Transaction", "judge"]


@attrs.define(eq=False)
class Transaction:
    """What one transaction did, as its own program saw it.

    Attributes:
        number: Its own; no other has it.
        began, ended: When, on the history's own clock; not ended where nobody knows what became of it.
        reads: The list that it saw under each key, empty for absence.
        appends: The keys that it appended its number to.
        committed: Whether it did; ``None`` where nobody knows.
    """

    number: int
    began: int
    ended: int | None = None
    reads: dict[Hashable, tuple[int, ...]] = attrs.field(factory=dict)
    appends: set[Hashable] = attrs.field(factory=set)
    committed: bool | None = None

    def saw(self, key: Hashable, numbers: Sequence[int]) -> None:
        """Take down what was read under a key, before anything was appended to it."""
        self.reads.setdefault(key, tuple(numbers))


@attrs.define
class History:
    """Transactions in the order in which they began."""

    transactions: list[Transaction] = attrs.field(factory=list)
    _time: int = 0

    def begin(self) -> Transaction:
        """Answer a new transaction that begins now."""
        transaction = Transaction(len(self.transactions) + 1, self._tick())
        self.transactions.append(transaction)
        return transaction

    def end(self, transaction: Transaction, *, committed: bool | None) -> None:
        """Take down how a transaction ended; ``None`` if nobody knows."""
        transaction.committed = committed
        if committed is not None:
            transaction.ended = self._tick()

    def _tick(self) -> int:
        self._time += 1
        return self._time


def judge(history: History, final: Mapping[Hashable, Sequence[int]]) -> list[str]:
    """Answer what is wrong with a history, in words; nothing if some order of one after the other explains it.

    Args:
        history: What the transactions saw and did.
        final: The lists that were left at the end; keys that are left out were absent.
    """
    problems = list(_strange_writes(history, final))
    if problems:
        return problems
    committed = [each for each in history.transactions if each.committed or _left_traces(each, final)]
    problems += _strange_reads(committed, final)
    if problems:
        return problems
    edges = _edges(committed, final)
    ring = _find_ring(edges)
    return [] if ring is None else [_in_words(ring, edges)]


def _left_traces(transaction: Transaction, final: Mapping[Hashable, Sequence[int]]) -> bool:
    return any(transaction.number in final.get(key, ()) for key in transaction.appends)


def _strange_writes(history: History, final: Mapping[Hashable, Sequence[int]]) -> Iterator[str]:
    """Lost, repeated, half-done and undone writes."""
    by_number = {each.number: each for each in history.transactions}
    for key, numbers in final.items():
        for number in numbers:
            if number not in by_number or key not in by_number[number].appends:
                yield f"{number} stands under {key!r}, and never meant to"
        if len(set(numbers)) != len(numbers):
            yield f"a write was done twice under {key!r}: {list(numbers)}"
    for each in history.transactions:
        done = {key for key in each.appends if each.number in final.get(key, ())}
        if each.committed is False and done:
            yield f"{each.number} did not commit, and left its number under {sorted(map(repr, done))}"
        if each.committed and done != each.appends:
            yield f"{each.number} committed, and its write is lost under {sorted(map(repr, each.appends - done))}"
        if each.committed is None and done and done != each.appends:
            yield f"{each.number} was done in part: not under {sorted(map(repr, each.appends - done))}"


def _strange_reads(committed: Sequence[Transaction], final: Mapping[Hashable, Sequence[int]]) -> Iterator[str]:
    """Reads of what was never there."""
    for each in committed:
        for key, seen in each.reads.items():
            if tuple(final.get(key, ()))[: len(seen)] != seen:
                yield f"{each.number} read {list(seen)} under {key!r}, which became {list(final.get(key, ()))}"


_Edges = dict[int, dict[int, str]]


def _edges(committed: Sequence[Transaction], final: Mapping[Hashable, Sequence[int]]) -> _Edges:
    """Answer who has to come before whom, and why."""
    edges: _Edges = {each.number: {} for each in committed}

    def add(first: int, second: int, reason: str) -> None:
        if first != second:
            edges[first].setdefault(second, reason)

    for key, numbers in final.items():
        for before, after in itertools.pairwise(numbers):
            add(before, after, f"wrote {key!r} before")
    for each in committed:
        for key, seen in each.reads.items():
            numbers = final.get(key, ())
            if seen:
                add(seen[-1], each.number, f"wrote what was read under {key!r} by")
            if len(seen) < len(numbers):
                add(each.number, numbers[len(seen)], f"read {key!r} before it was written by")
    for first in committed:
        for other in committed:
            if first.ended is not None and first.ended < other.began:
                add(first.number, other.number, "ended before the beginning of")
    return edges


def _find_ring(edges: _Edges) -> list[int] | None:
    """Answer transactions that each have to come before the next, and the last one before the first."""
    done: set[int] = set()
    for root in edges:
        path: list[int] = []
        waiting = [(root, 0)]
        while waiting:
            node, depth = waiting.pop()
            for left in path[depth:]:
                done.add(left)
            del path[depth:]
            if node in path:
                return path[path.index(node) :]
            if node not in done:
                path.append(node)
                waiting += [(after, depth + 1) for after in edges[node]]
        done.update(path)
    return None


def _in_words(ring: Sequence[int], edges: _Edges) -> str:
    steps = [
        f"{first} {edges[first][second]} {second}" for first, second in zip(ring, [*ring[1:], ring[0]], strict=True)
    ]
    return "no order explains this: " + "; ".join(steps)
