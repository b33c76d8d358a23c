"""Many independent writes, batch by batch, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from kvmodel import _aio
from kvmodel._deadlines import KEEP
from kvmodel._direct import expectation_of, lose, new_deadline
from kvmodel._stamps import new_stamp
from kvmodel._state import State, Status, get_state, set_state
from kvmodel.drivers.base import ANYTHING, Delete, Key, Outcome, Put
from kvmodel.drivers.base import Status as Ended
from kvmodel.errors import (
    BatchError,
    BudgetExceeded,
    Closed,
    Conflict,
    KvModelError,
    OutcomeUnknown,
    SchemaError,
    StoreError,
    TooLarge,
    Unsupported,
    ValidationError,
)

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model

__all__ = ["Bulk", "batch_size", "failure", "send", "settle"]

M = TypeVar("M", bound="Model")

_BATCH = 1000
_UNSENT = Outcome(Ended.UNSENT)
# A third cheaper than calling the classes, and done for every object.
_new: Callable[[type[Put], tuple[object, ...]], Put] = tuple.__new__
_new_state: Callable[[type[State], tuple[object, ...]], State] = tuple.__new__


def batch_size(bound: Bound[M]) -> int:
    """How many writes travel in one batch."""
    return min(bound.driver.capabilities.max_batch or _BATCH, _BATCH)


def settle(write: Put | Delete, obj: Model, outcome: Outcome) -> None:
    """Give an object the state that follows from what became of its write."""
    if outcome.status is Ended.UNKNOWN:
        lose(obj, write)
    elif outcome.status is not Ended.WRITTEN:
        return
    elif isinstance(write, Delete):
        set_state(obj, State(Status.DELETED, write.key, None, None, None))
    else:
        old = get_state(obj)
        raw = None if old is None else old.raw
        set_state(obj, State(Status.LOADED, write.key, outcome.version, write.expires_at, raw))


async def send(bound: Bound[Any], writes: Sequence[Put | Delete], objs: Sequence[Model], *, done: int) -> list[Outcome]:
    """Send the first batch of these, and answer what became of each of it; errors of the store are outcomes too.

    So are, once something was ``done`` by earlier batches, all other refusals: how far it got must not be lost.
    """
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
    except ValidationError as error:
        refused = _refused(error)
        return [refused if _is_of(error, write) else Outcome(Ended.UNSENT, error=error) for write in writes]
    except (Closed, BudgetExceeded, SchemaError, Unsupported) as error:
        if not done:
            raise
        return [Outcome(Ended.UNSENT, error=error)] * len(writes)


def failure(error: BatchError) -> Exception:
    """Answer what to raise when some of a batch were not written, with the first of its errors as the cause.

    A budget that was exceeded is told as everywhere else; how far the batches got is its cause.
    """
    cause = next((outcome.error for outcome in error.outcomes if outcome.error is not None), None)
    if isinstance(cause, BudgetExceeded):
        cause.__cause__ = error
        return cause
    error.__cause__ = cause
    return error


def _is_of(error: ValidationError, write: Put | Delete) -> bool:
    """Whether it is this write that was refused."""
    return write.key == error.key and write.table.name == error.table


def settle_all(writes: Sequence[Put | Delete], objs: Sequence[Model], outcomes: Sequence[Outcome]) -> None:
    """Give objects the states that follow from what became of their writes."""
    written, loaded = Ended.WRITTEN, Status.LOADED
    for write, obj, outcome in zip(writes, objs, outcomes, strict=False):
        if outcome[0] is written and type(write) is Put and get_state(obj) is None:
            # What most objects of a large batch are: new, and written.
            set_state(obj, _new_state(State, (loaded, write[1], outcome[1], write[4], None)))
        else:
            settle(write, obj, outcome)


def _first_repeated(puts: Sequence[Put]) -> int | None:
    """The position at which a key comes again: one write takes one mutation a key, and the last is to win."""
    if len({put.key for put in puts}) == len(puts):
        return None
    seen = set()
    for position, put in enumerate(puts):
        if put.key in seen:
            return position
        seen.add(put.key)
    return None


class _Encoded(NamedTuple, Generic[M]):
    """A batch, ready to be sent unless something of it was refused (by position)."""

    batch: list[M]
    puts: list[Put]
    refused: dict[int, Outcome]


class Bulk(Generic[M]):
    """Writes many objects of one model.

    While a batch is on its way to the store, the next one is taken from the input and encoded; it is sent only when the
    one before is known to be written.
    """

    def __init__(self, bound: Bound[M]) -> None:
        self._bound = bound
        self._size = batch_size(bound)

    async def save(self, objs: Iterable[M] | AsyncIterable[M]) -> int:
        """Save all objects, and answer how many. Raises ``BatchError`` at the first batch with a failure."""
        await self._bound.prepared()
        source: _Source[M] = _AsyncSource(objs) if isinstance(objs, AsyncIterable) else _SyncSource(objs)
        done = 0
        current = await self._next(source)
        while current is not None:
            sending = _aio.start(self._send(current, done))
            try:
                await _aio.give_way()
                following = await self._next(source)
            except BaseException as error:
                if isinstance(error, _aio.CancelledError):
                    sending.cancel()
                await _aio.finished(sending)
                raise
            outcomes = await sending
            done += sum(outcome.status is Ended.WRITTEN for outcome in outcomes)
            ahead = [] if following is None else following.batch
            if any(outcome.status is not Ended.WRITTEN for outcome in outcomes):
                raise self._failed(current.batch, outcomes, done, source, ahead)
            if following is not None and _share_keys(current, following):
                following = self._encode(following.batch)  # Some of its objects have another state now.
            current = following
        return done

    async def _next(self, source: _Source[M]) -> _Encoded[M] | None:
        """Take and encode a batch. One write takes one mutation a key: it ends where a key comes again."""
        batch = await source.take(self._size)
        if not batch:
            return None
        encoded = self._encode(batch)
        repeated = None if encoded.refused else _first_repeated(encoded.puts)
        # What is put back has to be encoded again: where that happens often, less is taken at once.
        self._size = min(2 * (repeated or len(batch)), batch_size(self._bound))
        if repeated is None:
            return encoded
        source.put_back(batch[repeated:])
        return _Encoded(batch[:repeated], encoded.puts[:repeated], {})

    def _encode(self, batch: list[M]) -> _Encoded[M]:
        bound = self._bound
        table, key_of, dump = bound.table, bound.schema.key_of, bound.schema.dump
        default = bound.default_deadline()
        stamp = new_stamp()  # One for all: they are one write attempt, and no key comes twice in it.
        puts: list[Put] = []
        refused: dict[int, Outcome] = {}
        for position, obj in enumerate(batch):
            try:
                key, values = key_of(obj), dump(obj)
                if get_state(obj) is None:
                    puts.append(_new(Put, (table, key, values, stamp, default, ANYTHING)))
                else:
                    expect = expectation_of(bound, obj, key)
                    puts.append(Put(table, key, values, stamp, new_deadline(bound, obj, KEEP, expect), expect))
            except KvModelError as error:
                refused[position] = _refused(error)
        return _Encoded(batch, puts, refused)

    async def _send(self, encoded: _Encoded[M], done: int) -> list[Outcome]:
        batch, puts, refused = encoded
        if refused:
            return [refused.get(position, _UNSENT) for position in range(len(batch))]
        outcomes = await send(self._bound, puts, batch, done=done)
        settle_all(puts, batch, outcomes)
        return outcomes

    def _failed(
        self, batch: list[M], outcomes: list[Outcome], done: int, source: _Source[M], ahead: list[M]
    ) -> Exception:
        again = [obj for obj, outcome in zip(batch, outcomes, strict=True) if outcome.status is not Ended.WRITTEN]
        error = BatchError(
            "some of a batch were not written: look at .outcomes, mend, and send .remaining again",
            outcomes=outcomes,
            done=done,
            remaining=source.remaining([*again, *ahead]),
            table=self._bound.table.name,
            store=self._bound.driver.address,
        )
        return failure(error)

    async def remove(self, deletes: Sequence[Delete], *, done: int) -> int:
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
                    remaining=_undone(deletes[start:], outcomes),
                    table=bound.table.name,
                    store=bound.driver.address,
                )
        return gone


class _Source(Protocol[M]):
    """An input of any length, looked at one batch at a time."""

    async def take(self, size: int) -> list[M]:
        """Answer the next objects, at most ``size``; none at the end."""
        ...

    def put_back(self, objs: list[M]) -> None:
        """Have these come next."""
        ...

    def remaining(self, objs: list[M]) -> Iterable[M] | AsyncIterable[M]:
        """Answer these, and then what was not taken."""
        ...


class _SyncSource(Generic[M]):
    def __init__(self, objs: Iterable[M]) -> None:
        self._rest = iter(objs)
        self._ahead: list[M] = []

    async def take(self, size: int) -> list[M]:
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return [*taken, *itertools.islice(self._rest, size - len(taken))]

    def put_back(self, objs: list[M]) -> None:
        self._ahead = [*objs, *self._ahead]

    def remaining(self, objs: list[M]) -> Iterable[M]:
        return itertools.chain(objs, self._ahead, self._rest)


class _AsyncSource(Generic[M]):
    def __init__(self, objs: AsyncIterable[M]) -> None:
        self._rest = aiter(objs)
        self._ahead: list[M] = []

    async def take(self, size: int) -> list[M]:
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        while len(taken) < size:
            try:
                taken.append(await anext(self._rest))
            except StopAsyncIteration:
                break
        return taken

    def put_back(self, objs: list[M]) -> None:
        self._ahead = [*objs, *self._ahead]

    async def remaining(self, objs: list[M]) -> AsyncIterator[M]:
        for obj in (*objs, *self._ahead):
            yield obj
        async for obj in self._rest:
            yield obj


def _undone(deletes: Sequence[Delete], outcomes: Sequence[Outcome]) -> list[Key]:
    """The keys that are left: those that failed, and those that were not sent."""
    ended = zip(deletes, outcomes, strict=False)
    failed = [delete.key for delete, outcome in ended if outcome.status is not Ended.WRITTEN]
    return failed + [delete.key for delete in deletes[len(outcomes) :]]


def _share_keys(one: _Encoded[M], other: _Encoded[M]) -> bool:
    return not {put.key for put in one.puts}.isdisjoint(put.key for put in other.puts)


def _refused(error: KvModelError) -> Outcome:
    if isinstance(error, TooLarge):
        return Outcome(Ended.TOO_LARGE, error=error)
    return Outcome(Ended.CONFLICT if isinstance(error, Conflict) else Ended.FAILED, error=error)
