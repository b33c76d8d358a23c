"""Writes to a transactional byte store: bytes first, then expectations, then changes.

Rules.

* :func:`prepare` encodes everything and raises whatever can be wrong with it, before anything is queued or sent.
* :meth:`ByteWrite.apply` runs inside one transaction of the store. An atomic write verifies all of its expectations
  before it changes anything, so that a transaction that it shares with other writes is not spoiled when it fails.
* It may run again in another transaction, as if it had not run before: it keeps nothing.
* An expired record counts as absent. A damaged one counts as present, in a version that nobody holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    CheckRange,
    Delete,
    Expectation,
    Key,
    Mutation,
    Outcome,
    Put,
    Status,
    Table,
    Version,
)
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import (
    Conflict,
    DecodingError,
    KvModelError,
    OutcomeUnknown,
    TooLarge,
    ValidationError,
)

if TYPE_CHECKING:
    from kvmodel.drivers.formats.codec import ByteCodec

__all__ = ["ByteWrite", "Erase", "ReadTransaction", "Transaction", "prepare", "send_all"]


class ReadTransaction(Protocol):
    """What reading needs of a byte store: a consistent, ordered view."""

    def get(self, key: bytes, /) -> bytes | None: ...

    def iterate(self, start: bytes, stop: bytes, reverse: bool, /) -> Iterator[tuple[bytes, bytes]]:
        """Answer pairs in order from ``start`` on, or backwards from the last one below ``stop``.

        It may run past the other end: the caller looks at the keys.
        """
        ...

    def is_empty(self) -> bool:
        """Whether the store holds nothing at all."""
        ...


class Transaction(ReadTransaction, Protocol):
    """What writing needs of a byte store. It sees its own changes."""

    def put(self, key: bytes, value: bytes, /) -> object: ...

    def insert(self, key: bytes, value: bytes, /) -> bool:
        """Put unless something is there. Answers whether it was put."""
        ...

    def delete(self, key: bytes, /) -> object: ...


@attrs.frozen(eq=False)
class Erase:
    """Remove dead records by encoded key, each only in the version that was seen."""

    codec: ByteCodec
    seen: Sequence[tuple[bytes, Version]]

    def apply(self, txn: Transaction) -> int:
        """Answer how many were removed."""
        count = 0
        for key, version in self.seen:
            data = txn.get(key)
            if data is not None and self.codec.version(data) == version:
                txn.delete(key)
                count += 1
        return count


class _Damaged:
    """The version of a record that can't be read: equal to none."""


_DAMAGED = _Damaged()
_Found = Version | _Damaged | None

_Step = tuple[Mutation, "ByteCodec", bytes, bytes, Version]
"""A mutation, its table's codec, the encoded key, the encoded record and its version (empty where there is none)."""

_outcome: Callable[[type[Outcome], tuple[object, ...]], Outcome] = tuple.__new__

Registration = Callable[[Transaction, Table], "list[tuple[bytes, bytes]]"]
"""Compares a table with what the store says of it, and answers the rows that are missing. Raises ``SchemaError``."""


@attrs.frozen(eq=False)
class ByteWrite:
    """One call of ``write``, encoded.

    Attributes:
        size: How many bytes of keys and records it carries.
        register: How to compare and record the tables in ``tables``, which this connection has not recorded yet.
    """

    steps: Sequence[_Step]
    atomic: bool
    now: int
    store: str
    size: int
    tables: Sequence[Table]
    register: Registration

    def apply(self, txn: Transaction) -> list[Outcome]:
        """Verify and change. Raises ``Conflict``, ``SchemaError`` or ``DecodingError``; then nothing was changed."""
        rows = {table: self.register(txn, table) for table in self.tables}
        if not self.atomic:
            outcomes = self._each(txn)
        elif len(self.steps) == 1:
            outcomes = [self._do(txn, self.steps[0])]
        else:
            outcomes = self._all_or_nothing(txn)
        if rows:
            for table in self.recorded(outcomes):
                for key, value in rows[table]:
                    txn.put(key, value)
        return outcomes

    def cut(self, max_steps: int | None, max_bytes: int | None) -> list[ByteWrite]:
        """Cut a batch into requests that the store takes. Raises ``TooLarge`` where that cannot be."""
        if self.atomic:
            max_steps = None
        if (max_steps is None or len(self.steps) <= max_steps) and (max_bytes is None or self.size <= max_bytes):
            return [self]
        if self.atomic or len(self.steps) == 1:
            raise self._too_large(max_bytes)
        requests: list[ByteWrite] = []
        steps: list[_Step] = []
        size = 0
        for step in self.steps:
            more = len(step[2]) + len(step[3])
            full = max_bytes is not None and size + more > max_bytes
            if steps and (full or len(steps) == max_steps):
                requests += attrs.evolve(self, steps=steps, size=size).cut(max_steps, max_bytes)
                steps, size = [], 0
            steps.append(step)
            size += more
        return requests + attrs.evolve(self, steps=steps, size=size).cut(max_steps, max_bytes)

    def _too_large(self, limit: int | None) -> TooLarge:
        mutation = self.steps[0][0]
        alone = len(self.steps) == 1 and not isinstance(mutation, CheckRange)
        return TooLarge(
            "this write is larger than the store takes in one request: split it",
            size=self.size,
            limit=limit,
            table=mutation.table.name if alone else None,
            key=mutation.key if alone and not isinstance(mutation, CheckRange) else None,
            store=self.store,
        )

    def _each(self, txn: Transaction) -> list[Outcome]:
        """Carry out independent writes. Unconditional ones, of which bulk writing consists, take no detour."""
        put, written, anything = txn.put, Status.WRITTEN, ANYTHING
        outcomes: list[Outcome] = []
        for step in self.steps:
            mutation, _, key, data, version = step
            if type(mutation) is Put and mutation[5] is anything:
                put(key, data)
                outcomes.append(_outcome(Outcome, (written, version, None, None)))
            else:
                outcomes.append(self._attempt(txn, step))
        return outcomes

    def recorded(self, outcomes: Sequence[Outcome]) -> set[Table]:
        """Answer which of ``tables`` got their rows in the store by this write."""
        written = {
            step[0].table
            for step, outcome in zip(self.steps, outcomes, strict=True)
            if isinstance(step[0], Put) and outcome.status is Status.WRITTEN
        }
        return written.intersection(self.tables)

    def _attempt(self, txn: Transaction, step: _Step) -> Outcome:
        try:
            return self._do(txn, step)
        except Conflict as error:
            return Outcome(Status.CONFLICT, error=error)
        except DecodingError as error:
            return Outcome(Status.FAILED, error=error)

    def _do(self, txn: Transaction, step: _Step) -> Outcome:
        """Verify one mutation and carry it out."""
        mutation, _, key, data, version = step
        if isinstance(mutation, Put):
            # One descent into the tree instead of two, for what bulk writing does all the time.
            if mutation.expect is ANYTHING:
                txn.put(key, data)
                return _outcome(Outcome, (Status.WRITTEN, version, None, None))
            if mutation.expect is ABSENT and txn.insert(key, data):
                return Outcome(Status.WRITTEN, version, False)
        found, failed = self._verify(txn, step)
        if failed:
            raise self._conflict([(mutation, failed)])
        return self._change(txn, step, found)

    def _all_or_nothing(self, txn: Transaction) -> list[Outcome]:
        verdicts = [self._verify(txn, step) for step in self.steps]
        failures = [(step[0], failed) for step, (_, failed) in zip(self.steps, verdicts, strict=True) if failed]
        if failures:
            raise self._conflict(failures)
        return [self._change(txn, step, found) for step, (found, _) in zip(self.steps, verdicts, strict=True)]

    def _verify(self, txn: Transaction, step: _Step) -> tuple[_Found, list[Key]]:
        """Answer the version that is there, and the keys for which the expectation fails."""
        mutation, codec, key, _, _ = step
        if isinstance(mutation, CheckRange):
            return None, _differences(txn, codec, mutation, self.now)
        found = _version_in(codec, txn.get(key), self.now)
        return found, [] if _holds(mutation.expect, found) else [mutation.key]

    def _change(self, txn: Transaction, step: _Step, found: _Found) -> Outcome:
        mutation, _, key, data, version = step
        if isinstance(mutation, Put):
            txn.put(key, data)
            return Outcome(Status.WRITTEN, version, found is not None)
        if isinstance(mutation, Delete):
            txn.delete(key)
        return Outcome(Status.WRITTEN, None, None if isinstance(mutation, CheckRange) else found is not None)

    def _conflict(self, failures: Sequence[tuple[Mutation, list[Key]]]) -> Conflict:
        keys = [(mutation.table.name, key) for mutation, failed in failures for key in failed]
        taken = all(isinstance(mutation, Put) and mutation.expect is ABSENT for mutation, _ in failures)
        return conflict_of(keys, self.store, taken=taken)


def prepare(
    mutations: Sequence[Mutation],
    *,
    atomic: bool,
    now: int,
    store: str,
    codec_of: Callable[[Table], ByteCodec],
    recorded: set[Table],
    register: Registration,
) -> ByteWrite:
    """Encode mutations. Raises ``ValidationError`` and ``TooLarge``, with the key concerned."""
    steps: list[_Step] = []
    tables: dict[Table, None] = {}
    size = 0
    table = mutations[0].table
    codec = codec_of(table)
    encode_key, dump, is_plain = codec.encode_key, codec.dump, table.layout == "plain"
    for mutation in mutations:
        if mutation.table is not table:
            table = mutation.table
            codec = codec_of(table)
            encode_key, dump, is_plain = codec.encode_key, codec.dump, table.layout == "plain"
        key = data = version = b""
        try:
            if type(mutation) is Put:
                _, parts, values, version, expires_at, _ = mutation
                key = encode_key(parts)
                data = dump(values, version, expires_at)
                if is_plain:
                    version = data
                if table not in recorded:
                    tables[table] = None
            elif not isinstance(mutation, CheckRange):
                key = encode_key(mutation.key)
        except ValidationError as error:
            raise _located(error, mutation)  # noqa: B904 - it is the same error
        size += len(key) + len(data)
        steps.append((mutation, codec, key, data, version))
    return ByteWrite(steps, atomic, now, store, size, tuple(tables), register)


async def send_all(
    requests: Sequence[ByteWrite], send: Callable[[ByteWrite], Awaitable[list[Outcome]]]
) -> list[Outcome]:
    """Send what a write was cut into, one request after the other.

    An error of the first one is raised. Later ones end in outcomes: those of the requests that went well, then what
    is known of the one that failed, then ``UNSENT``.
    """
    outcomes: list[Outcome] = []
    for number, request in enumerate(requests):
        try:
            outcomes += await send(request)
        except KvModelError as error:
            if not number:
                raise
            ended = Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.UNSENT
            outcomes += [Outcome(ended, error=error)] * len(request.steps)
            unsent = sum(len(each.steps) for each in requests[number + 1 :])
            return outcomes + [Outcome(Status.UNSENT, error=error)] * unsent
    return outcomes


def _located(error: ValidationError, mutation: Mutation) -> ValidationError:
    """Add what the formats do not know: whose record it was that they refused."""
    if error.table is None:
        error.table = mutation.table.name
    if error.key is None and not isinstance(mutation, CheckRange):
        error.key = mutation.key
    return error


def _version_in(codec: ByteCodec, data: bytes | None, now: int) -> _Found:
    """Answer the version of a live record, ``None`` for none."""
    if data is None:
        return None
    try:
        header = codec.peek_header(data, now)
    except DecodingError:
        return _DAMAGED
    return None if header is None else header[0]


def _holds(expect: Expectation, found: _Found) -> bool:
    if expect is ANYTHING:
        return True
    if expect is ABSENT:
        return found is None
    if expect is PRESENT:
        return found is not None
    return found is not None and found == expect


def _differences(txn: ReadTransaction, codec: ByteCodec, check: CheckRange, now: int) -> list[Key]:
    """Read a slice again, and answer the keys that entered, left or changed."""
    limit = check.slice.limit
    there: dict[bytes, Version] = {}
    start, stop = codec.bounds(check.slice)
    if start < stop and limit != 0:
        for key, data in txn.iterate(start, stop, check.slice.reverse):
            if not start <= key < stop:
                break
            header = codec.peek_header(data, now)
            if header is not None:
                there[key] = header[0]
                if len(there) == limit:
                    break
    seen = {codec.encode_key(key): version for key, version in check.rows}
    if there == seen:
        return []
    changed = dict.fromkeys(key for key in (*seen, *there) if seen.get(key) != there.get(key))
    return [codec.decode_key(key) for key in changed]
