"""One mutation at a time: an expectation, and the one call of the library that makes sure of it.

Rules.

* What decides is always a single call of the store: ``put`` for absence; ``compare_and_swap`` and ``remove_if`` against
  the content that was just read, whose stamp makes it unlike any other. Nothing is done in two steps that others could
  come between.
* A record past its deadline counts as absent: it is swapped or removed against its exact content.
* A write whose answer was lost, or that was refused for now, is looked up: if the record carries our stamp, it was
  done. Refused for now, and not found: it is sent again. Lost, and not found: nobody knows, ``OutcomeUnknown``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar, cast

import attrs

from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Check,
    Delete,
    Expectation,
    Outcome,
    Put,
    Status,
    Version,
)
from kvmodel.drivers.quasardb.client import QuasardbClient
from kvmodel.drivers.quasardb.errors import Effect, LibraryError
from kvmodel.drivers.quasardb.names import Place
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import (
    AlreadyExists,
    Conflict,
    DecodingError,
    KvModelError,
    NotFound,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    ValidationError,
)

__all__ = ["SingleMutation", "Step", "carry_out"]

T = TypeVar("T")

SingleMutation: TypeAlias = Put | Delete | Check
"""A mutation of one record."""

_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.5


@attrs.frozen(eq=False)
class Step:
    """One mutation, encoded.

    Attributes:
        mutation: The mutation.
        place: Where its table lies.
        name: The record's name.
        data: What is to be stored, for a ``Put``.
        version: The version that it will have then.
    """

    mutation: SingleMutation
    place: Place
    name: str
    data: bytes
    version: Version


class _Lost(Exception):
    """Somebody else was faster: look again."""


async def carry_out(client: QuasardbClient, step: Step, now: int, until: float) -> Outcome:
    """Do what a step says, by ``until``. Raises ``Conflict`` and ``StoreError``; then nothing was written, if it isn't
    ``OutcomeUnknown``."""
    writer = _Writer(client, step, now, until)
    mutation = step.mutation
    try:
        if isinstance(mutation, Put):
            return await writer.put(mutation.expect)
        if isinstance(mutation, Delete):
            return await writer.delete(mutation.expect)
        assert isinstance(mutation, Check)
        return await writer.check(mutation.expect)
    except (StoreError, ValidationError, DecodingError, Conflict) as error:
        # The name that was sent says less than the key that was meant.
        error.table, error.key = step.place.table.name, mutation.key
        raise


class _Writer:
    def __init__(self, client: QuasardbClient, step: Step, now: int, until: float) -> None:
        self._client = client
        self._step = step
        self._place = step.place
        self._now = now
        self._until = until

    # --- putting ------------------------------------------------------------------------------------------------------

    async def put(self, expect: Expectation) -> Outcome:
        """Store the record."""
        step = self._step
        if expect is ANYTHING:
            await self._write("update", step.data)
            return Outcome(Status.WRITTEN, step.version)
        if expect is ABSENT:
            existed = await self._again(self._create)
        elif expect is PRESENT:
            existed = await self._again(self._replace_living)
        else:
            existed = await self._again(lambda: self._replace(expect))
        return Outcome(Status.WRITTEN, step.version, existed)

    async def _create(self) -> bool:
        try:
            await self._write("put", self._step.data)
        except AlreadyExists as error:
            found = await self._get()
            if found is None:
                raise _Lost from error
            if self._place.is_alive(found, self._now):
                raise self._conflict(taken=True) from error
            await self._swap(found)
        return False

    async def _replace_living(self) -> bool:
        if self._place.is_plain:
            try:
                await self._write("get_and_update", self._step.data)
            except NotFound as error:
                raise self._conflict() from error
            return True
        found = await self._get()
        if found is None or not self._place.is_alive(found, self._now):
            raise self._conflict()
        await self._swap(found)
        return True

    async def _replace(self, version: Version) -> bool:
        """Replace the record in one version: the same, or it is a conflict."""
        found = await self._of_version(version)
        try:
            await self._swap(found)
        except _Lost as error:
            raise self._conflict() from error
        return True

    async def _of_version(self, version: Version) -> bytes:
        """Answer the content that has a version, which is the content itself in the plain layout."""
        if self._place.is_plain:
            if not isinstance(version, bytes):
                raise self._conflict()
            return version
        found = await self._get()
        if found is None or self._place.version(found, self._now) != version:
            raise self._conflict()
        return found

    async def _swap(self, found: bytes) -> None:
        """Replace exactly this content."""
        data = self._step.data
        if not found or not data:
            raise ValidationError(
                "the store can't compare and swap empty content: save it with force=True",
                store=self._client.store,
            )
        try:
            other = await self._write("compare_and_swap", data, found)
        except NotFound as error:
            raise _Lost from error
        # Our own stamp there means that an earlier attempt had done it. Without stamps, equal content may be another's.
        if other is not None and (self._place.is_plain or other != data):
            raise _Lost

    # --- deleting -----------------------------------------------------------------------------------------------------

    async def delete(self, expect: Expectation) -> Outcome:
        """Remove the record."""
        if expect is ANYTHING:
            return Outcome(Status.WRITTEN, None, await self._remove())
        if expect is ABSENT:
            return await self.check(ABSENT)
        if expect is PRESENT:
            await self._again(self._remove_living)
        else:
            found = await self._of_version(expect)
            try:
                await self._remove_exactly(found)
            except _Lost as error:
                raise self._conflict() from error
        return Outcome(Status.WRITTEN, None, True)

    async def _remove(self) -> bool:
        """Remove whatever is there, and answer whether it was a live record."""
        try:
            if self._place.is_plain:
                await self._write("remove")
                return True
            found = await self._write("get_and_remove")
        except NotFound:
            return False
        return isinstance(found, bytes) and self._place.is_alive(found, self._now)

    async def _remove_living(self) -> None:
        if self._place.is_plain:
            try:
                await self._write("remove")
            except NotFound as error:
                raise self._conflict() from error
            return
        found = await self._get()
        if found is None or not self._place.is_alive(found, self._now):
            raise self._conflict()
        await self._remove_exactly(found)

    async def _remove_exactly(self, found: bytes) -> None:
        try:
            await self._write("remove_if", found)
        except (Conflict, NotFound) as error:
            raise _Lost from error

    # --- checking -----------------------------------------------------------------------------------------------------

    async def check(self, expect: Expectation) -> Outcome:
        """Verify the expectation, and change nothing."""
        content = await self._get()
        found = None if content is None else self._place.version(content, self._now)
        holds = expect is ANYTHING or (found is None) == (expect is ABSENT)
        if not holds or (expect not in (ANYTHING, ABSENT, PRESENT) and found != expect):
            raise self._conflict()
        return Outcome(Status.WRITTEN, None, found is not None)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _get(self) -> bytes | None:
        name = self._step.name
        try:
            return cast("bytes", await self._client.call("get", name, key=name, until=self._until))
        except NotFound:
            return None

    async def _write(self, operation: str, *contents: bytes) -> bytes | None:
        """Carry out a call that changes something; see to it that its end is known, as far as that can be."""
        name = self._step.name
        pause = _PAUSE
        while True:
            try:
                return cast(
                    "bytes | None",
                    await self._client.call(operation, name, *contents, key=name, until=self._until),
                )
            except OutcomeUnknown as error:
                if isinstance(error.__cause__, asyncio.CancelledError):
                    raise
                if await self._is_ours(error):
                    return None
                # Without a stamp nobody can tell whether it was this call that changed something.
                has_stamp = isinstance(self._step.mutation, Put) and not self._place.is_plain
                if not (has_stamp and _was_refused(error)) or time.monotonic() + pause >= self._until:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _is_ours(self, error: OutcomeUnknown) -> bool:
        """Whether the record that is there now carries our stamp."""
        if not isinstance(self._step.mutation, Put) or self._place.is_plain or time.monotonic() >= self._until:
            return False
        try:
            found = await self._get()
        except KvModelError:
            raise error from error.__cause__
        try:
            return found is not None and self._place.codec.version(found) == self._step.version
        except KvModelError:
            return False

    async def _again(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something until nobody comes in between."""
        pause = _PAUSE
        while True:
            try:
                return await work()
            except _Lost as error:
                if time.monotonic() + pause >= self._until:
                    raise TimedOut(
                        "others wrote this record again and again; nothing was written", store=self._client.store
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _conflict(self, *, taken: bool = False) -> Conflict:
        return conflict_of([(self._place.table.name, self._step.mutation.key)], self._client.store, taken=taken)


def _was_refused(error: OutcomeUnknown) -> bool:
    cause = error.__cause__
    return isinstance(cause, LibraryError) and cause.fault.effect is Effect.AGAIN
