"""Many independent writes, batch by batch, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kvmodel import _aio
from kvmodel._deadlines import KEEP
from kvmodel._direct import expectation_of, new_deadline
from kvmodel._stamps import new_stamp
from kvmodel._state import State, Status, get_state, set_state
from kvmodel.drivers.base import Delete, Mutation, Outcome, Put
from kvmodel.drivers.base import Status as Ended
from kvmodel.errors import BatchError, Conflict, KvModelError, OutcomeUnknown, StoreError, TooLarge, ValidationError

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model

__all__ = ["Bulk", "batch_size", "send", "settle"]

M = TypeVar("M", bound="Model")

_BATCH = 1000


def batch_size(bound: Bound[M]) -> int:
    """How many writes travel in one batch."""
    return min(bound.driver.capabilities.max_batch or _BATCH, _BATCH)


def settle(write: Put | Delete, obj: Model, outcome: Outcome) -> None:
    """Give an object the state that follows from what became of its write."""
    if outcome.status is Ended.UNKNOWN:
        set_state(obj, State(Status.UNKNOWN, write.key, None, None, None))
    elif outcome.status is not Ended.WRITTEN:
        return
    elif isinstance(write, Delete):
        set_state(obj, State(Status.DELETED, write.key, None, None, None))
    else:
        old = get_state(obj)
        raw = None if old is None else old.raw
        set_state(obj, State(Status.LOADED, write.key, outcome.version, write.expires_at, raw))


async def send(bound: Bound[Any], writes: Sequence[Put | Delete], objs: Sequence[Model]) -> list[Outcome]:
    """Send the first batch of these, and answer what became of each of it; errors of the store are outcomes too."""
    writes = writes[: batch_size(bound)]
    try:
        return await bound.driver.write(writes, atomic=False, now=bound.now(), until=bound.until())
    except _aio.CancelledError:
        for write, obj in zip(writes, objs, strict=False):
            settle(write, obj, Outcome(Ended.UNKNOWN))
        raise
    except OutcomeUnknown as error:
        return [Outcome(Ended.UNKNOWN, error=error)] * len(writes)
    except StoreError as error:
        return [Outcome(Ended.UNSENT, error=error)] * len(writes)
    except TooLarge as error:
        return [Outcome(Ended.TOO_LARGE if write.key == error.key else Ended.UNSENT, error=error) for write in writes]


class Bulk(Generic[M]):
    """Writes many objects of one model."""

    def __init__(self, bound: Bound[M]) -> None:
        self._bound = bound

    async def save(self, objs: Iterable[M] | AsyncIterable[M]) -> int:
        """Save all objects, and answer how many. Raises ``BatchError`` at the first batch with a failure."""
        await self._bound.prepared()
        done = 0
        size = batch_size(self._bound)
        if isinstance(objs, AsyncIterable):
            stream = aiter(objs)
            while batch := [obj async for obj in _take(stream, size)]:
                done = await self._save(batch, done, _chain(stream))
            return done
        rest = iter(objs)
        while batch := list(itertools.islice(rest, size)):
            done = await self._save(batch, done, rest)
        return done

    async def _save(self, batch: list[M], done: int, rest: Iterator[M] | _Rest[M]) -> int:
        bound = self._bound
        outcomes: list[Outcome | None] = [None] * len(batch)
        puts: list[tuple[int, Put]] = []
        seen: dict[tuple[object, ...], int] = {}
        for position, obj in enumerate(batch):
            try:
                put = self._put(obj)
            except KvModelError as error:
                outcomes[position] = _refused(error)
                continue
            if put.key in seen:
                # One key twice: the batch before the repetition goes first, so that the last one wins.
                return await self._split(batch, position, done, rest)
            seen[put.key] = position
            puts.append((position, put))
        if all(outcome is None for outcome in outcomes):
            written = await send(self._bound, [put for _, put in puts], batch)
            for (position, put), outcome in zip(puts, written, strict=True):
                outcomes[position] = outcome
                settle(put, batch[position], outcome)
        ended = [outcome or Outcome(Ended.UNSENT) for outcome in outcomes]
        good = sum(outcome.status is Ended.WRITTEN for outcome in ended)
        if good == len(batch):
            return done + good
        again = [obj for obj, outcome in zip(batch, ended, strict=True) if outcome.status is not Ended.WRITTEN]
        cause = next((outcome.error for outcome in ended if outcome.error is not None), None)
        raise BatchError(
            "some of a batch were not written: look at .outcomes, mend, and send .remaining again",
            outcomes=ended,
            done=done + good,
            remaining=rest.after(again) if isinstance(rest, _Rest) else itertools.chain(again, rest),
            table=bound.table.name,
            store=bound.driver.capabilities.store,
        ) from cause

    async def _split(self, batch: list[M], position: int, done: int, rest: Iterator[M] | _Rest[M]) -> int:
        """Save a batch in two steps, at the place where a key comes again."""
        behind = batch[position:]
        left: Iterator[M] | _Rest[M] = rest.ahead(behind) if isinstance(rest, _Rest) else itertools.chain(behind, rest)
        done = await self._save(batch[:position], done, left)
        return await self._save(behind, done, rest)

    def _put(self, obj: M) -> Put:
        bound = self._bound
        schema = bound.schema
        if not isinstance(obj, schema.model):
            raise ValidationError(
                f"save_many() of {schema.model_name} takes {schema.model_name} objects, not {type(obj).__name__} ones",
                table=schema.name,
            )
        key = schema.key_of(obj)
        return Put(
            bound.table,
            key,
            schema.dump(obj),
            new_stamp(),
            new_deadline(bound, obj, KEEP),
            expectation_of(bound, obj, key),
        )

    async def remove(self, deletes: Sequence[Mutation], *, done: int) -> int:
        """Remove records by key, and answer how many. Raises ``BatchError``."""
        bound = self._bound
        size = batch_size(bound)
        gone = 0
        for start in range(0, len(deletes), size):
            batch = deletes[start : start + size]
            outcomes = await bound.driver.write(batch, atomic=False, now=bound.now(), until=bound.until())
            good = sum(outcome.status is Ended.WRITTEN for outcome in outcomes)
            gone += sum(outcome.status is Ended.WRITTEN and outcome.existed is not False for outcome in outcomes)
            if good < len(batch):
                raise BatchError(
                    "some records were not removed: look at .outcomes, then run the same deletion again",
                    outcomes=outcomes,
                    done=done + gone,
                    remaining=[d.key for d in deletes[start:] if isinstance(d, Delete)],
                    table=bound.table.name,
                    store=bound.driver.capabilities.store,
                )
        return gone


class _Rest(Generic[M]):
    """What is left of an asynchronous input."""

    def __init__(self, stream: AsyncIterator[M], ahead: Sequence[M] = ()) -> None:
        self._stream = stream
        self._ahead = ahead

    def ahead(self, objs: Sequence[M]) -> _Rest[M]:
        return _Rest(self._stream, [*objs, *self._ahead])

    async def after(self, objs: Sequence[M]) -> AsyncIterator[M]:
        for obj in (*objs, *self._ahead):
            yield obj
        async for obj in self._stream:
            yield obj


def _chain(stream: AsyncIterator[M]) -> _Rest[M]:
    return _Rest(stream)


async def _take(stream: AsyncIterator[M], size: int) -> AsyncIterator[M]:
    """Yield up to ``size`` items, without looking at the one behind them."""
    for _ in range(size):
        try:
            yield await anext(stream)
        except StopAsyncIteration:
            return


def _refused(error: KvModelError) -> Outcome:
    if isinstance(error, TooLarge):
        return Outcome(Ended.TOO_LARGE, error=error)
    return Outcome(Ended.CONFLICT if isinstance(error, Conflict) else Ended.FAILED, error=error)
