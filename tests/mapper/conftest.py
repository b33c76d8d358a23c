"""A database of each kind that is always there, and a clock that only moves when told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import kvmodel as kv
from tests.mapper.models import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "lmdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"lmdb://{tmp_path}/data"


@pytest.fixture
async def db(url: str, clock: Clock) -> AsyncIterator[kv.Database]:
    async with kv.connect(url, clock=clock) as db:
        yield db
