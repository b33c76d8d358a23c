"""Operations outside a unit of work: each is its own request and commits by itself. Nothing is remembered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kvmodel import _aio
from kvmodel._deadlines import KEEP, Deadline
from kvmodel._stamps import new_stamp
from kvmodel._state import State, Status, get_state, set_state
from kvmodel.drivers.base import ANYTHING, Delete, Expectation, Key, Outcome, Put, Row, Slice
from kvmodel.errors import Conflict, NotFound, OutcomeUnknown, TimedOut, ValidationError
from kvmodel.model import replace

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model

__all__ = ["Direct", "apply_changes", "expectation_of", "lose", "new_deadline", "not_found", "not_loaded", "pause"]

M = TypeVar("M", bound="Model")
Change = object


class Direct:
    """Reads and writes that are not part of a unit of work."""

    async def find(self, bound: Bound[M], key: Key) -> M | None:
        row = await bound.read(key)
        return bound.schema.load(row) if isinstance(row, Row) else None

    async def find_many(self, bound: Bound[M], keys: Sequence[Key]) -> list[M | None]:
        load = bound.schema.load
        return [load(row) if isinstance(row, Row) else None for row in await bound.read_many(keys)]

    async def exists(self, bound: Bound[M], key: Key) -> bool:
        return isinstance(await bound.read(key, values=False), Row)

    async def put(
        self,
        bound: Bound[M],
        obj: M,
        key: Key,
        expect: Expectation,
        deadline: Deadline,
        until: float | None = None,
    ) -> None:
        """Write an object, and make it loaded at its new version."""
        values = bound.schema.dump(obj)
        expires_at = new_deadline(bound, obj, deadline, expect)
        until = await bound.prepared(until)
        put = Put(bound.table, key, values, new_stamp(), expires_at, expect)
        (outcome,) = await self._write(bound, obj, put, until)
        raw = state.raw if (state := get_state(obj)) else None
        set_state(obj, State(Status.LOADED, key, outcome.version, expires_at, raw))

    async def delete(self, bound: Bound[M], obj: M, key: Key, expect: Expectation) -> bool | None:
        """Remove an object's record; it is deleted afterwards."""
        until = await bound.prepared()
        (outcome,) = await self._write(bound, obj, Delete(bound.table, key, expect), until)
        set_state(obj, State(Status.DELETED, key, None, None, None))
        return outcome.existed

    async def delete_key(self, bound: Bound[M], key: Key) -> bool | None:
        until = await bound.prepared()
        (outcome,) = await self._write(bound, None, Delete(bound.table, key, ANYTHING), until)
        return outcome.existed

    async def refresh(self, bound: Bound[M], obj: M, key: Key) -> None:
        row = await bound.read(key)
        if not isinstance(row, Row):
            raise not_found(bound, key)
        bound.schema.load_into(obj, row)

    async def update(self, bound: Bound[M], key: Key, changes: Mapping[str, object]) -> M:
        """Read, change and replace, again after a lost race, until the time limit."""

        def change(obj: M) -> tuple[M, Deadline]:
            return replace(obj, **apply_changes(obj, changes)), KEEP

        return await self._replace(bound, key, change)

    async def expire(self, bound: Bound[M], key: Key, deadline: int | None) -> None:
        """Replace a record by itself with another deadline."""
        await self._replace(bound, key, lambda obj: (obj, deadline))

    async def _replace(self, bound: Bound[M], key: Key, change: Callable[[M], tuple[M, Deadline]]) -> M:
        bound.require_conditional()
        until = bound.until()
        attempt = 0
        while True:
            row = await bound.read(key, until=until)
            if not isinstance(row, Row):
                raise not_found(bound, key)
            obj, deadline = change(bound.schema.load(row))
            try:
                await self.put(bound, obj, key, row.version, deadline, until)
            except Conflict as conflict:
                attempt += 1
                if not await pause(attempt, until):
                    raise TimedOut(
                        "this record is changed by others all the time and the update lost every race: "
                        "raise the timeout, or spread what is counted over several records",
                        table=bound.table.name,
                        key=key,
                        store=bound.driver.address,
                    ) from conflict
            else:
                return obj

    async def scan(self, bound: Bound[M], slice: Slice) -> list[M]:
        """Answer all of a slice, page by page."""
        until = await bound.prepared()
        load = bound.schema.load
        found: list[M] = []
        limit = slice.limit
        while True:
            page = await bound.driver.scan(bound.table, slice, now=bound.now(), until=until)
            found += map(load, page.rows)
            if page.resume is None or (limit is not None and len(found) >= limit):
                return found
            slice = slice._replace(after=page.resume, limit=None if limit is None else limit - len(found))
            await bound.breathe(until)

    async def _write(self, bound: Bound[Any], obj: Model | None, mutation: Put | Delete, until: float) -> list[Outcome]:
        """Send one write. An object whose write may or may not have happened becomes unknown."""
        try:
            return await bound.driver.write([mutation], atomic=True, now=bound.now(), until=until)
        except (OutcomeUnknown, _aio.CancelledError):
            if obj is not None:
                lose(obj, mutation)
            raise


def expectation_of(bound: Bound[Any], obj: Model, key: Key) -> Expectation:
    """What a checked write of this object relies on: the version it was loaded at; anything for a new one.

    Raises:
        ValidationError: Its key was changed since it was loaded.
        Conflict: It was deleted, or nobody knows what became of its last write.
    """
    state = get_state(obj)
    if state is None:
        return ANYTHING
    if state.key != key:
        raise ValidationError(
            "the key of a loaded object can't change: create a new object under the new key and delete this one",
            table=bound.table.name,
            key=key,
        )
    if state.status is Status.LOADED and state.version is not None:
        return state.version
    hint = (
        "this object was deleted: create(obj) writes it anew, save(obj, force=True) whatever is there"
        if state.status is Status.DELETED
        else "the last write of this object may or may not have happened: refresh(obj) first, or save with force=True"
    )
    raise Conflict(hint, keys=[(bound.table.name, key)], table=bound.table.name, key=key)


def lose(obj: Model, write: Put | Delete) -> None:
    """Nobody knows whether an object was written; forced, it is still to keep its deadline and what it doesn't know."""
    old = get_state(obj)
    expires_at = write.expires_at if isinstance(write, Put) else old and old.expires_at
    set_state(obj, State(Status.UNKNOWN, write.key, None, expires_at, old and old.raw))


def new_deadline(bound: Bound[Any], obj: Model, deadline: Deadline, expect: Expectation) -> int | None:
    """The deadline to write: what was asked for, else what a loaded object has, else the model's default.

    Raises:
        ValidationError: It has passed, and what is written would be gone at once. (Where a version is expected, that
            is for the store to say: the record has expired, a ``Conflict``.)
    """
    if deadline is not KEEP:
        return deadline
    state = get_state(obj)
    if state is None or state.status is Status.DELETED:
        return bound.default_deadline()
    if expect is ANYTHING and state.expires_at is not None and state.expires_at <= bound.now():
        raise ValidationError(
            "the deadline that this object was loaded with has passed: give it another one with expires_in= or "
            "expires_at=, or None for never",
            table=bound.table.name,
            key=state.key,
        )
    return state.expires_at


def apply_changes(obj: Model, changes: Mapping[str, object]) -> dict[str, object]:
    """Answer the new values: a callable is called with the old value."""
    return {name: change(getattr(obj, name)) if callable(change) else change for name, change in changes.items()}


def not_found(bound: Bound[Any], key: Key) -> NotFound:
    return NotFound(
        "no record has this key: find() answers None instead",
        table=bound.table.name,
        key=key,
        store=bound.driver.address,
    )


def not_loaded(bound: Bound[Any], key: Key) -> ValidationError:
    return ValidationError(
        "this object was neither loaded nor saved, so there is nothing to compare with: "
        "delete it by its key, or with force=True",
        table=bound.table.name,
        key=key,
    )


async def pause(attempt: int, until: float) -> bool:
    """Wait a little before another attempt, longer and with more jitter each time. ``False`` when time is up."""
    remaining = until - time.monotonic()
    if remaining <= 0:
        return False
    await _aio.sleep(min(random.uniform(0, min(0.0005 * 2 ** min(attempt, 7), 0.05)), remaining))  # noqa: S311 - not a secret
    return time.monotonic() < until
