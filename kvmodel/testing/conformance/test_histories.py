"""Histories: whatever many tasks do at once, some order of one after the other explains all that they saw."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.testing.histories import judge
from kvmodel.testing.ledger import Ledger

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_requires("conditional")]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.kv_requires(atomicity=kv.Atomicity.PARTITION)
async def test_units_are_serialisable(kv_db: kv.Database, seed: int) -> None:
    """Reads by key of several records, and writes to several."""
    ledger = Ledger(db=kv_db, seed=seed, ranges=False)

    history = await ledger.run()

    assert judge(history, await ledger.final()) == []
    assert sum(bool(each.committed) for each in history.transactions) >= 5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.kv_requires("ordered", "range_checks", atomicity=kv.Atomicity.PARTITION)
async def test_units_that_read_ranges_are_serialisable(kv_db: kv.Database, seed: int) -> None:
    """What a range did not show was not there."""
    ledger = Ledger(db=kv_db, seed=seed, lines=5, steps=4 if kv_db.capabilities.max_atomic_checks is None else 2)

    history = await ledger.run()

    assert judge(history, await ledger.final()) == []
    assert sum(bool(each.committed) for each in history.transactions) >= 5


@pytest.mark.parametrize("seed", range(3))
async def test_units_of_one_record_are_serialisable(kv_db: kv.Database, seed: int) -> None:
    """What every store with conditions can do."""
    ledger = Ledger(db=kv_db, seed=seed, lines=1, ranges=False)

    history = await ledger.run()

    assert judge(history, await ledger.final()) == []
    assert sum(bool(each.committed) for each in history.transactions) >= 5
