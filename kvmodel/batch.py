"""Batches: independent writes that travel together. The honest name for writes that need no atomicity."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from kvmodel._bulk import failure, send, settle_all
from kvmodel._deadlines import KEEP
from kvmodel._direct import expectation_of, new_deadline, not_loaded
from kvmodel._stamps import new_stamp
from kvmodel.drivers.base import ABSENT, ANYTHING, Delete, Put, Table
from kvmodel.drivers.base import Status as Ended
from kvmodel.errors import BatchError, Closed, ValidationError

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.database import Database
    from kvmodel.drivers.base import Key
    from kvmodel.model import Model

__all__ = ["Batch"]


class Batch:
    """Writes to send together, each standing for itself. Made by ``db.batch()``.

    ``async with db.batch() as batch:`` sends at the end of the block, and nothing when it ends by an exception.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writes: dict[tuple[Table, Key], tuple[Bound[Any], Model, Put | Delete]] = {}
        self._sent = False

    def __len__(self) -> int:
        return len(self._writes)

    def add(self, *objs: Model) -> None:
        """Write new objects whose keys have to be free."""
        for obj in objs:
            bound, key = self._of(obj)
            deadline = bound.default_deadline()
            self._take(bound, obj, Put(bound.table, key, bound.schema.dump(obj), new_stamp(), deadline, ABSENT))

    def put(self, *objs: Model, force: bool = False) -> None:
        """Write objects: new ones whatever is there, loaded ones over what was loaded, unless ``force``."""
        for obj in objs:
            bound, key = self._of(obj)
            expect = ANYTHING if force else expectation_of(bound, obj, key)
            deadline = new_deadline(bound, obj, KEEP, expect)
            self._take(bound, obj, Put(bound.table, key, bound.schema.dump(obj), new_stamp(), deadline, expect))

    def delete(self, *objs: Model, force: bool = False) -> None:
        """Remove the records of loaded objects if they are what was loaded, or whatever they are with ``force``."""
        for obj in objs:
            bound, key = self._of(obj)
            expect = ANYTHING if force else expectation_of(bound, obj, key)
            if expect is ANYTHING and not force:
                raise not_loaded(bound, key)
            self._take(bound, obj, Delete(bound.table, key, expect))

    async def send(self) -> int:
        """Send everything, and answer how many writes were done.

        Raises:
            BatchError: Some failed. ``outcomes`` are those of the request that did, ``remaining`` the objects whose
                writes were not done.
        """
        self._check_unsent()
        self._sent = True
        writes = list(self._writes.values())
        for bound in dict.fromkeys(bound for bound, _, _ in writes):
            await bound.prepared()
        done = 0
        while writes:
            ahead = [write for _, _, write in writes]
            outcomes = await send(writes[0][0], ahead, [obj for _, obj, _ in writes], done=done)
            settle_all(ahead, [obj for _, obj, _ in writes], outcomes)
            good = sum(outcome.status is Ended.WRITTEN for outcome in outcomes)
            done += good
            if good < len(outcomes):
                raise self._failed(writes, outcomes, done)
            writes = writes[len(outcomes) :]
        return done

    def _failed(self, writes: list[Any], outcomes: list[Any], done: int) -> Exception:
        ended = [outcome.status for outcome in outcomes]
        undone = [obj for (_, obj, _), status in zip(writes, ended, strict=False) if status is not Ended.WRITTEN]
        error = BatchError(
            "some of a batch were not written: look at .outcomes, mend, and send .remaining again",
            outcomes=outcomes,
            done=done,
            remaining=undone + [obj for _, obj, _ in writes[len(outcomes) :]],
            store=self._database._connection.driver.address,
        )
        return failure(error)

    async def __aenter__(self) -> Batch:
        self._database._connection.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            await self.send()

    def _of(self, obj: Model) -> tuple[Bound[Any], Key]:
        self._check_unsent()
        return type(obj).objects.using(self._database, outside=True)._locate(obj)

    def _take(self, bound: Bound[Any], obj: Model, write: Put | Delete) -> None:
        if (bound.table, write.key) in self._writes:
            raise ValidationError(
                "a batch takes one write a record: send this one in a batch of its own",
                table=bound.table.name,
                key=write.key,
            )
        self._writes[bound.table, write.key] = (bound, obj, write)

    def _check_unsent(self) -> None:
        if self._sent:
            raise Closed("this batch was sent: make another one with db.batch()")
