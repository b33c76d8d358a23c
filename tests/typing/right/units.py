"""Databases, units of work, batches, limits."""

from __future__ import annotations

from typing import assert_type

import kvmodel as kv
from tests.typing.right.models import Reading, User


async def connecting() -> None:
    """Both ways of connecting give a database."""
    async with kv.connect("memory://", timeout=5) as db:
        assert_type(db, kv.Database)
    opened = await kv.connect()
    assert_type(opened, kv.Database)
    assert_type(opened.namespace("t1"), kv.Database)
    assert_type(opened.capabilities, kv.Capabilities)
    assert_type(opened.capabilities.atomicity, kv.Atomicity)
    assert_type(opened.capabilities.max_key_bytes, int | None)
    opened.bind(User, Reading)
    await opened.prepare(User, Reading)
    assert_type(await opened.purge_expired(), int)
    await opened.close()


async def units(db: kv.Database) -> None:
    """A unit takes objects of any model."""
    async with db.unit_of_work() as unit:
        assert_type(unit, kv.UnitOfWork)
        user = await User.objects.get("red", "ada")
        assert_type(user, User)
        unit.add(user, Reading("s", 1))
        unit.put(user)
        unit.delete(user)
    by_hand = await db.unit_of_work(verify=True).begin()
    assert_type(by_hand, kv.UnitOfWork)
    await by_hand.commit()
    await by_hand.rollback()


async def transactions(db: kv.Database) -> None:
    """``transact`` answers what its function does."""

    async def oldest(unit: kv.UnitOfWork) -> User | None:
        return await User.objects.using(unit).range("red").first()

    async def nothing(unit: kv.UnitOfWork) -> None:
        unit.add(User("red", "ada"))

    assert_type(await db.transact(oldest), User | None)
    await db.transact(nothing)


async def batches(db: kv.Database) -> None:
    """A batch takes objects of any model, and tells how many were written."""
    async with db.batch() as batch:
        assert_type(batch, kv.Batch)
        batch.add(User("red", "ada"), Reading("s", 1))
        batch.put(User("red", "bob"), force=True)
        batch.delete(User("red", "eve"), force=True)
    assert_type(await db.batch().send(), int)


def limits() -> None:
    """Limits are for blocks."""
    with kv.timeout(60), kv.budget(round_trips=2, keys=100) as spent:
        assert_type(spent.round_trips, int)
        assert_type(spent.keys, int)


def errors(error: kv.KvModelError, batch: kv.BatchError, conflict: kv.Conflict, large: kv.TooLarge) -> None:
    """Facts are attributes, with types."""
    assert_type(error.table, str | None)
    assert_type(error.key, tuple[object, ...] | None)
    assert_type(error.field, str | None)
    assert_type(error.store, str | None)
    assert_type(batch.done, int)
    assert_type(batch.outcomes[0], kv.Outcome)
    assert_type(batch.outcomes[0].status, kv.Status)
    assert_type(large.limit, int | None)
    assert_type(conflict.keys, tuple[tuple[str, tuple[object, ...]], ...])
