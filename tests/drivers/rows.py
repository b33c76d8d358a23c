"""Tables, mutations and short cuts for tests that speak to drivers directly."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from kvmodel.drivers.base import (
    ANYTHING,
    Absent,
    Driver,
    Expectation,
    Key,
    KeyField,
    KeyType,
    Mutation,
    Outcome,
    Put,
    Row,
    Slice,
    Table,
    ValueField,
    ValueType,
    Version,
)

NOW = 1_700_000_000_000_000
PAST = NOW - 1_000_000
FUTURE = NOW + 1_000_000
RED = Slice(("red",))

_stamps = itertools.count(1)


def make_table(name: str = "users", *, key: str = "str", layout: str = "record") -> Table:
    """Answer a table of people: team and name, then age and a note."""
    return Table(
        name,
        (KeyField("team", KeyType("str")),),
        (KeyField("name", KeyType(key)),),
        (ValueField("age", ValueType("int")), ValueField("note", ValueType("str", nullable=True))),
        layout="plain" if layout == "plain" else "record",
    )


USERS = make_table()


def until(seconds: float = 20.0) -> float:
    """Answer a point in time, far enough for a slow machine."""
    return time.monotonic() + seconds


def stamp() -> bytes:
    """Answer a stamp that was not used before."""
    return next(_stamps).to_bytes(12, "big")


def put(
    name: str,
    age: int = 0,
    expect: Expectation = ANYTHING,
    *,
    team: str = "red",
    note: str | None = None,
    expires_at: int | None = None,
    table: Table = USERS,
) -> Put:
    """Answer a put of one person."""
    return Put(table, (team, name), {"age": age, "note": note}, stamp(), expires_at, expect)


async def write(driver: Driver, *mutations: Mutation, atomic: bool = True, seconds: float = 20.0) -> list[Outcome]:
    """Write."""
    return await driver.write(mutations, atomic=atomic, now=NOW, until=until(seconds))


async def condition(holds: Callable[[], object]) -> None:
    """Let other tasks and threads work until a condition holds."""
    end = until()
    while not holds():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0)


async def find(driver: Driver, name: str, *, team: str = "red", table: Table = USERS, now: int = NOW) -> Row | Absent:
    """Read one person."""
    (row,) = await driver.read(table, [(team, name)], now=now, until=until())
    return row


async def age(driver: Driver, name: str, *, team: str = "red", table: Table = USERS) -> object:
    """Read one person's age; ``None`` where there is no such person."""
    row = await find(driver, name, team=team, table=table)
    return row.values["age"] if isinstance(row, Row) else None


async def version(driver: Driver, name: str) -> Version:
    """Read one person's version."""
    row = await find(driver, name)
    assert isinstance(row, Row)
    return row.version


async def pages(driver: Driver, slice: Slice = RED, *, table: Table = USERS, values: bool = True) -> list[list[Row]]:
    """Read a slice to its end, page by page."""
    found = []
    limit = slice.limit
    while True:
        page = await driver.scan(table, slice, values=values, now=NOW, until=until())
        found.append(page.rows)
        if page.resume is None:
            return found
        if limit is not None:
            limit -= len(page.rows)
        slice = slice._replace(after=page.resume, limit=limit)


async def keys(driver: Driver, slice: Slice = RED, *, table: Table = USERS) -> list[Key]:
    """Read the keys of a slice."""
    return [row.key for page in await pages(driver, slice, table=table) for row in page]


async def names(driver: Driver, slice: Slice = RED, *, table: Table = USERS) -> list[object]:
    """Read the last key component of everybody in a slice."""
    return [key[-1] for key in await keys(driver, slice, table=table)]
