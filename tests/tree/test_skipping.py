"""Skip scans of stores that go to places by themselves: page by page they answer what a plain reading of it would."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar
from uuid import UUID

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvmodel.drivers import byteskips
from kvmodel.drivers.base import (
    Absent,
    Driver,
    Edge,
    Key,
    KeyField,
    KeyType,
    Put,
    Row,
    Slice,
    Table,
    ValueField,
    ValueType,
)
from kvmodel.drivers.bytewrites import ReadTransaction
from kvmodel.drivers.facets import SkipStore
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.drivers.meter import Meter, meter_variable
from tests.drivers.rows import FUTURE, NOW, PAST, stamp, until
from tests.tree.models import Path
from tests.tree.reference import place

T = TypeVar("T")

PART = KeyType("union", (KeyType("str"), KeyType("int"), KeyType("uuid")))
NODES = Table(
    "nodes",
    (KeyField("tree", KeyType("str")),),
    (KeyField("path", KeyType("tuple", (PART,), variadic=True)),),
    (ValueField("note", ValueType("str")),),
)
PARTS = st.sampled_from(["", "a", "a\0", "b", 0, 255, UUID(int=7)])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)

_SHORT_PAGE = 3


@attrs.frozen
class Question:
    """What is asked of a tree: how deep, from where to where, how much, in which direction."""

    deepest: int
    lower: Path | None = None
    upper: Path | None = None
    limit: int | None = None
    reverse: bool = False

    @property
    def slice(self) -> Slice:
        return Slice(
            ("t",),
            lower=None if self.lower is None else Edge((self.lower,), True),
            upper=None if self.upper is None else Edge((self.upper,), False),
            limit=self.limit,
            reverse=self.reverse,
        )

    def answer(self, nodes: dict[Path, bool]) -> list[tuple[Path, bool]]:
        """The paths, and whether a node is there: written from the promises alone. ``nodes`` says which live."""
        live = [path for path, lives in nodes.items() if lives and self._holds(path)]
        places = live if not self.reverse else [path for path in live if len(path) <= self.deepest]
        found = dict.fromkeys(sorted((path[: self.deepest] for path in places), key=place, reverse=self.reverse))
        answer = [(path, path in live) for path in found]
        if self.limit is not None:
            ends = itertools.accumulate(lives for _, lives in answer)
            answer = [one for one, end in zip(answer, ends, strict=True) if end - one[1] < self.limit]
        return answer

    def _holds(self, path: Path) -> bool:
        above = self.lower is None or place(self.lower) <= place(path)
        return above and (self.upper is None or place(path) < place(self.upper))


QUESTIONS = st.builds(
    Question,
    st.integers(1, 3),
    st.none() | PATHS,
    st.none() | PATHS,
    st.none() | st.integers(0, 4),
    st.booleans(),
)


async def store(nodes: dict[Path, bool]) -> Driver:
    """A driver that holds a tree: nodes that live, and expired ones."""
    driver = MemoryDriver()
    await fill(driver, nodes)
    return driver


async def fill(driver: MemoryDriver, nodes: dict[Path, bool]) -> None:
    await driver.open()
    puts = [
        Put(NODES, ("t", path), {"note": "short"}, stamp(), FUTURE if lives else PAST) for path, lives in nodes.items()
    ]
    await driver.write(puts, atomic=True, now=PAST - 1, until=until())


async def ask(driver: Driver, question: Question, *, values: bool = True) -> list[Row | Absent]:
    """Read all pages."""
    skips = driver.facet(SkipStore)
    assert skips is not None
    found: list[Row | Absent] = []
    slice, left = question.slice, question.limit
    while True:
        rows, resume = await skips.skip_scan(
            NODES, slice._replace(limit=left), question.deepest, values=values, now=NOW, until=until()
        )
        found += rows
        left = None if left is None else left - sum(isinstance(row, Row) for row in rows)
        if resume is None:
            return found
        slice = slice._replace(after=resume)


def told(rows: list[Row | Absent]) -> list[tuple[Key, bool]]:
    return [(row.key, isinstance(row, Row)) for row in rows]


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that pages end everywhere."""
    with monkeypatch.context() as patch:
        patch.setattr(byteskips, "_PAGE", _SHORT_PAGE)
        yield


@pytest.mark.usefixtures("short_pages")
@settings(max_examples=300, suppress_health_check=[])
@given(st.dictionaries(PATHS, st.booleans(), max_size=25), QUESTIONS)
@example({("a",): False, ("a", 0): False, ("a", 255): True, ("b",): False}, Question(1))
@example({("a",): False, ("b",): False, ("b", 0): False, ("b", "a"): False, ("b", "b"): True}, Question(1))
def test_any_tree(nodes: dict[Path, bool], question: Question) -> None:
    """Nodes down to a level, and places where only others are below, wherever pages end and whatever has expired."""

    async def run() -> list[Row | Absent]:
        return await ask(await store(nodes), question)

    expected = [(("t", path), lives) for path, lives in question.answer(nodes)]
    assert told(asyncio.run(run())) == expected


async def test_a_page_is_bounded() -> None:
    """Many expired nodes do not make a transaction long: a page looks at no more records than others do."""
    nodes: dict[Path, bool] = {("top", number): number == 1_000 for number in range(1_001)}
    driver = await store(nodes)
    meter = Meter()

    with_meter = meter_variable.set(meter)
    rows = await ask(driver, Question(2))
    meter_variable.reset(with_meter)

    assert told(rows) == [(("t", ("top", 1_000)), True)]
    assert meter.round_trips >= 4
    assert meter.keys <= 1_001 + meter.round_trips


async def test_large_records_end_a_page() -> None:
    """A page is bounded by bytes too; but what comes first is passed over, however large it is."""
    driver = MemoryDriver()
    await driver.open()
    puts = [
        Put(NODES, ("t", (number,)), {"note": "long" * 300_000}, stamp(), FUTURE if number else PAST)
        for number in range(3)
    ]
    await driver.write(puts, atomic=True, now=PAST - 1, until=until())
    meter = Meter()

    with_meter = meter_variable.set(meter)
    rows = await ask(driver, Question(1))
    meter_variable.reset(with_meter)

    assert [row.key for row in rows] == [("t", (number,)) for number in (1, 2)]
    assert meter.round_trips == 2


async def test_a_transaction_that_has_to_be_begun_again() -> None:
    """What was read before a store had to begin again is not told twice."""

    class Restless(MemoryDriver):
        """Begins again every time, as LMDB does when its file has grown."""

        def look(self, work: Callable[[ReadTransaction], T]) -> T:
            super().look(work)
            return super().look(work)

    driver = Restless()
    await fill(driver, {("a",): True, ("a", "b"): True, ("c", "d"): True})

    assert told(await ask(driver, Question(1))) == [(("t", ("a",)), True), (("t", ("c",)), False)]
    assert told(await ask(driver, Question(1, reverse=True))) == [(("t", ("a",)), True)]


async def test_without_values() -> None:
    """Where values are not wanted, none are decoded; versions come all the same."""
    driver = await store({("a",): True, ("b", "c"): True})

    (row, absent) = await ask(driver, Question(1), values=False)

    assert isinstance(row, Row)
    assert (row.values, bool(row.version)) == ({}, True)
    assert absent == Absent(("t", ("b",)))


async def test_not_where_a_network_is_played() -> None:
    """A memory driver that plays a store on the other side of a network has no skip scans, as most such have none."""
    assert MemoryDriver(reads_in_place=False).facet(SkipStore) is None
