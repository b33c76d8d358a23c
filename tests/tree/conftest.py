"""A database of each kind that is always there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["memory", "lmdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"lmdb://{tmp_path}/data?sync=false"


@pytest.fixture
async def db(url: str, clock: VirtualClock) -> AsyncIterator[kv.Database]:
    async with kv.connect(url, clock=clock) as db:
        yield db
