"""Putting many messages: each batch in one atomic write, as far as the store reaches."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kvmodel import _aio
from kvmodel._bulk import _AsyncSource, _refused, _Source, _SyncSource, settle
from kvmodel._queue.desk import notify
from kvmodel._queue.place import Place
from kvmodel._queue.putting import Putter
from kvmodel._queue.tables import Tables
from kvmodel._stamps import new_stamp
from kvmodel.drivers.base import Atomicity, Delete, Key, Outcome, Put, Status
from kvmodel.errors import BatchError, Conflict, KvModelError, OutcomeUnknown, StoreError, TooLarge, ValidationError

if TYPE_CHECKING:
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["join_many", "put_many"]

_Step = list[Put]
_UNSENT = Outcome(Status.UNSENT)


async def join_many(putter: Putter, objs: Iterable[Any] | AsyncIterable[Any], unit: UnitOfWork) -> int:
    """Have a unit of work put messages at its commit, and answer how many."""
    source, count = _source(objs), 0
    while batch := await source.take(putter.tables.most):
        for obj in batch:
            putter.join(obj, 0, unit)
        count += len(batch)
    return count


async def put_many(putter: Putter, objs: Iterable[Any] | AsyncIterable[Any]) -> int:
    """Put messages of any number, and answer how many. Raises ``BatchError`` at the first batch with a failure."""
    source, done = _source(objs), 0
    while batch := await source.take(putter.tables.most):
        outcomes = await _put_batch(putter, batch)
        done += sum(outcome.status is Status.WRITTEN for outcome in outcomes)
        if any(outcome.status is not Status.WRITTEN for outcome in outcomes):
            raise _failed(putter, batch, outcomes, done, source)
    return done


def _source(objs: Iterable[Any] | AsyncIterable[Any]) -> _Source[Any]:
    return _AsyncSource(objs) if isinstance(objs, AsyncIterable) else _SyncSource(objs)


async def _put_batch(putter: Putter, batch: Sequence[Any]) -> list[Outcome]:
    """Put a batch, and answer what became of each."""
    steps, places, refused = _encode(putter, batch)
    if refused:
        return [refused.get(position, _UNSENT) for position in range(len(batch))]
    tables = putter.tables
    await tables.prepared()
    try:
        outcomes = await _write(tables, steps)
    except _aio.CancelledError:
        _settle(batch, steps, [Outcome(Status.UNKNOWN)] * len(batch))
        raise
    _settle(batch, steps, outcomes)
    for place in places.values():
        notify(place)
    return outcomes


def _encode(putter: Putter, batch: Sequence[Any]) -> tuple[list[_Step], dict[Key, Place], dict[int, Outcome]]:
    """Answer what to write for each, the partitions concerned, and what was refused, by position."""
    steps: list[_Step] = []
    places: dict[Key, Place] = {}
    refused: dict[int, Outcome] = {}
    stamp, seen = new_stamp(), set[Key]()
    for position, obj in enumerate(batch):
        try:
            new = putter.receive(obj)
            if new.key in seen:
                raise ValidationError("this message comes twice: make another object of it", key=new.key)
            seen.add(new.key)
            steps.append(putter.step(new, stamp))
            places.setdefault(new.place.partition, new.place)
        except KvModelError as error:
            refused[position] = _refused(error)
    return steps, places, refused


def _settle(batch: Sequence[Any], steps: Sequence[_Step], outcomes: Sequence[Outcome]) -> None:
    for obj, step, outcome in zip(batch, steps, outcomes, strict=True):
        settle(step[0], obj, outcome)


async def _write(tables: Tables, steps: Sequence[_Step]) -> list[Outcome]:
    if not tables.has_tickets or not tables.is_atomic:
        return await _write_apart(tables, steps)
    if tables.capabilities.atomicity is Atomicity.STORE:
        return await _write_together(tables, steps)
    outcomes = [_UNSENT] * len(steps)
    for partition in dict.fromkeys(step[0].key[:-1] for step in steps):
        positions = [number for number, step in enumerate(steps) if step[0].key[:-1] == partition]
        ended = await _write_together(tables, [steps[number] for number in positions])
        for number, outcome in zip(positions, ended, strict=True):
            outcomes[number] = outcome
        if any(outcome.status is not Status.WRITTEN for outcome in ended):
            break
    return outcomes


async def _write_together(tables: Tables, steps: Sequence[_Step]) -> list[Outcome]:
    """Write steps as one, or in halves where the store takes no request of that size."""
    bound = tables.messages
    mutations = [mutation for step in steps for mutation in step]
    try:
        outcomes = await bound.driver.write(mutations, atomic=True, now=bound.now(), until=bound.until())
    except TooLarge as error:
        if len(steps) == 1 or error.key is not None:
            return _all_failed(steps, error)
        return await _write_halves(tables, steps)
    except (Conflict, ValidationError) as error:
        return _all_failed(steps, error)
    except OutcomeUnknown as error:
        return [Outcome(Status.UNKNOWN, error=error)] * len(steps)
    except StoreError as error:
        return [Outcome(Status.UNSENT, error=error)] * len(steps)
    return outcomes[:: len(steps[0])]


async def _write_halves(tables: Tables, steps: Sequence[_Step]) -> list[Outcome]:
    half = len(steps) // 2
    first = await _write_together(tables, steps[:half])
    if any(outcome.status is not Status.WRITTEN for outcome in first):
        return first + [_UNSENT] * (len(steps) - half)
    return first + await _write_together(tables, steps[half:])


def _all_failed(steps: Sequence[Sequence[Put | Delete]], error: KvModelError) -> list[Outcome]:
    """Nothing was written: say whose fault it was, as far as the error names it."""
    named: set[object] = {key for _, key in error.keys} if isinstance(error, Conflict) else {error.key}
    at_fault = [any(write.key in named for write in step) for step in steps]
    refused, others = _refused(error), Outcome(Status.UNSENT, error=error)
    return [refused if is_named or not any(at_fault) else others for is_named in at_fault]


async def _write_apart(tables: Tables, steps: Sequence[_Step]) -> list[Outcome]:
    """Write the messages, then the tickets of those that were written: where no write reaches two records."""
    outcomes = await _send(tables, [step[0] for step in steps])
    if not tables.has_tickets:
        return outcomes
    written = [number for number, outcome in enumerate(outcomes) if outcome.status is Status.WRITTEN]
    ended = await _send(tables, [steps[number][1] for number in written])
    failed = [
        (number, outcome)
        for number, outcome in zip(written, ended, strict=True)
        if outcome.status is not Status.WRITTEN
    ]
    undo = [
        _undone(steps[number][0], outcomes[number]) for number, ticket in failed if ticket.status is not Status.UNKNOWN
    ]
    await _send(tables, undo)
    for number, outcome in failed:
        outcomes[number] = outcome
    return outcomes


def _undone(message: Put, outcome: Outcome) -> Delete:
    assert outcome.version is not None
    return Delete(message.table, message.key, outcome.version)


async def _send(tables: Tables, writes: Sequence[Put | Delete]) -> list[Outcome]:
    """Send independent writes."""
    if not writes:
        return []
    bound = tables.messages
    try:
        return await bound.driver.write(writes, atomic=False, now=bound.now(), until=bound.until())
    except OutcomeUnknown as error:
        return [Outcome(Status.UNKNOWN, error=error)] * len(writes)
    except StoreError as error:
        return [Outcome(Status.UNSENT, error=error)] * len(writes)
    except ValidationError as error:
        return _all_failed([[write] for write in writes], error)


def _failed(
    putter: Putter, batch: Sequence[Any], outcomes: Sequence[Outcome], done: int, source: _Source[Any]
) -> BatchError:
    bound = putter.tables.messages
    again = [obj for obj, outcome in zip(batch, outcomes, strict=True) if outcome.status is not Status.WRITTEN]
    error = BatchError(
        "some of a batch were not put: look at .outcomes, mend, and put .remaining again",
        outcomes=outcomes,
        done=done,
        remaining=source.remaining(again),
        table=bound.table.name,
        store=bound.driver.address,
    )
    error.__cause__ = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    return error
