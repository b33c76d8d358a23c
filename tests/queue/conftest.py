"""A database of each kind that is always there, and a clock that moves when told, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import kvmodel as kv
from tests.queue.models import Clock

STORES = {
    "memory": "memory://queue",
    "lmdb": "lmdb://{path}/data?sync=false",
    "record": "memory://queue?atomicity=record&range_checks=false",
    "partition": "memory://queue?atomicity=partition&range_checks=false&max_atomic_changes=6&reads_in_place=false",
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "lmdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return STORES[request.param].format(path=tmp_path)


@pytest.fixture
async def db(url: str, clock: Clock) -> AsyncIterator[kv.Database]:
    async with kv.connect(url, clock=clock) as db:
        yield db


@pytest.fixture
async def connect(url: str, clock: Clock) -> AsyncIterator[Callable[[], Awaitable[kv.Database]]]:
    """Opens further connections to the same store: other processes, as far as the mapper can tell."""
    opened: list[kv.Database] = []

    async def connect() -> kv.Database:
        opened.append(await kv.connect(url, clock=clock))
        return opened[-1]

    yield connect
    for db in opened:
        await db.close()


every_store = pytest.mark.parametrize("url", list(STORES), indirect=True)
"""For what holds wherever messages can be taken."""
