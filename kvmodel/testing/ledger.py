"""A workload of concurrent units of work, whose history can be judged: see :mod:`kvmodel.testing.histories`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable

import attrs

import kvmodel as kv
from kvmodel.testing.histories import History, Transaction

__all__ = ["Ledger", "Line"]


class Line(kv.Model, table="ledger_lines"):
    """A record that remembers who wrote it, in order."""

    book: str = kv.partition_key()
    name: str = kv.clustering_key()
    numbers: list[int] = kv.field(factory=list)


@attrs.frozen(kw_only=True)
class Ledger:
    """Tasks that read some lines of one book and append to others, in units of work that get in each other's way.

    Attributes:
        db: Where.
        lines: How many lines there are; they are absent at first.
        tasks: How many tasks work at once.
        units: How many units each task runs, one after the other.
        steps: How many reads and appends a unit makes at the most.
        ranges: Whether units read ranges too; what a range does not show counts as read absent.
        checked: Whether ranges are checked; without, a range protects nothing and the history may show it.
        seed: What the tasks draw from.
    """

    db: kv.Database
    lines: int = 4
    tasks: int = 6
    units: int = 8
    steps: int = 3
    ranges: bool = True
    checked: bool = True
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """The names of all lines."""
        return [f"{number:02}" for number in range(self.lines)]

    async def run(self) -> History:
        """Run all tasks, and answer what they saw and did."""
        history = History()
        async with asyncio.TaskGroup() as group:
            for number in range(self.tasks):
                group.create_task(self._work(history, random.Random(f"{self.seed}/{number}")))  # noqa: S311
        return history

    async def final(self) -> dict[Hashable, tuple[int, ...]]:
        """Answer the lists that are stored now."""
        lines = await Line.objects.using(self.db).get_many([("book", name) for name in self.names])
        return {line.name: tuple(line.numbers) for line in lines if line is not None}

    async def _work(self, history: History, draw: random.Random) -> None:
        for _ in range(self.units):
            unit = self.db.unit_of_work(verify=True)  # A unit that only reads promises nothing otherwise.
            transaction = history.begin()
            try:
                async with unit:
                    for _ in range(draw.randint(1, self.steps)):
                        await self._step(unit, transaction, draw)
                        await asyncio.sleep(0)
            except (kv.Conflict, kv.Unavailable, kv.TimedOut):
                history.end(transaction, committed=False)
            except kv.OutcomeUnknown:
                history.end(transaction, committed=None)
            else:
                history.end(transaction, committed=True)

    async def _step(self, unit: kv.UnitOfWork, transaction: Transaction, draw: random.Random) -> None:
        objects = Line.objects.using(unit)
        kind = draw.random()
        if self.ranges and kind < 0.25:
            await self._read_range(objects.range("book", first=draw.choice(self.names)), transaction)
            return
        name = draw.choice(self.names)
        line = await objects.find("book", name)
        transaction.saw(name, () if line is None else line.numbers)
        if kind < 0.5 or name in transaction.appends:
            return
        transaction.appends.add(name)
        if line is None:
            unit.add(Line("book", name, [transaction.number]))
        else:
            line.numbers.append(transaction.number)

    async def _read_range(self, query: kv.Range[Line], transaction: Transaction) -> None:
        lines = {line.name: line.numbers for line in await (query if self.checked else query.unchecked())}
        lower = query._slice.lower
        assert lower is not None
        for name in self.names:
            if name >= str(lower.parts[0]):
                transaction.saw(name, lines.get(name, ()))
