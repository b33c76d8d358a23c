"""Watching: what changed is told, once and in order, to whoever watches it, as far as the store's ``watch`` reaches."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.conformance.models import Bare, Item, Log, Reading, refused
from kvmodel.testing.plugin import Connect

pytestmark = [pytest.mark.asyncio]

watched = pytest.mark.kv_requires("watch")
resumes = pytest.mark.kv_requires("watch", "watch_resumes")

CREATED, CHANGED, DELETED = kv.ChangeKind.CREATED, kv.ChangeKind.CHANGED, kv.ChangeKind.DELETED
_REACH = [kv.Watch.NONE, kv.Watch.RECORD, kv.Watch.PARTITION, kv.Watch.TABLE]
_PATIENCE = 15

M = TypeVar("M", bound=kv.Model)


def reaches(db: kv.Database, watch: kv.Watch) -> bool:
    """Whether the store watches that much."""
    return _REACH.index(db.capabilities.watch) >= _REACH.index(watch)


def need(db: kv.Database, watch: kv.Watch) -> None:
    """Skip the test unless the store watches that much."""
    if not reaches(db, watch):
        pytest.skip(f"this store lacks the capability watch={watch.name}")


async def following(changes: kv.Changes[M], count: int) -> list[kv.Change[M]]:
    """Answer the next changes."""
    async with asyncio.timeout(_PATIENCE):
        return [await anext(changes) for _ in range(count)]


def told(changes: list[kv.Change[Item]]) -> list[tuple[kv.ChangeKind, str, int | None]]:
    """Answer kind, name and new count of changes."""
    return [(change.kind, change.key[1], None if change.new is None else change.new.count) for change in changes]


# --- one record -------------------------------------------------------------------------------------------------------


@watched
async def test_a_record_is_followed_through_its_life(kv_db: kv.Database) -> None:
    """Created, changed, deleted, created again: the new object is loaded, the old one is what was there, if told."""
    objects = Item.objects.using(kv_db)

    async with objects.watch("s", "a") as changes:
        await objects.save(Item("s", "a", 1, tags=["x"]))
        (created,) = await following(changes, 1)
        await objects.save(Item("s", "a", 2))
        (changed,) = await following(changes, 1)
        await objects.delete("s", "a")
        (deleted,) = await following(changes, 1)
        await objects.save(Item("s", "a", 3))
        (again,) = await following(changes, 1)

    every = [created, changed, deleted, again]
    assert [change.kind for change in every] == [CREATED, CHANGED, DELETED, CREATED]
    assert [change.key for change in every] == [("s", "a")] * 4
    one, two, three = Item("s", "a", 1, tags=["x"]), Item("s", "a", 2), Item("s", "a", 3)
    assert [change.new for change in every] == [one, two, None, three]
    assert [created.old, again.old] == [None, None]
    assert changed.old in (one, None)
    assert deleted.old in (two, None)
    assert again.new is not None
    assert kv.version(again.new) == kv.version(await objects.get("s", "a"))


@watched
async def test_only_the_record_is_told(kv_db: kv.Database) -> None:
    """Neighbours are not: neither before nor behind it, nor one whose name goes on, nor one of another partition."""
    objects = Item.objects.using(kv_db)

    async with objects.watch("s", "b") as changes:
        await objects.save_many([Item("s", "a"), Item("s", "bb"), Item("s", "c"), Item("t", "b"), Item("s", "b", 7)])

        assert told(await following(changes, 1)) == [(CREATED, "b", 7)]


@watched
async def test_a_record_that_is_a_partition(kv_db: kv.Database) -> None:
    """Where the partition fields are the whole key, they name the record."""
    objects = Bare.objects.using(kv_db)

    async with objects.watch("a") as changes:
        await objects.save(Bare("b", 1))
        await objects.save(Bare("a", 2))

        (change,) = await following(changes, 1)
    assert (change.kind, change.key, change.new) == (CREATED, ("a",), Bare("a", 2))


@watched
async def test_it_is_in_place_when_the_block_is_entered(kv_db: kv.Database, kv_connect: Connect) -> None:
    """What is read inside has no gap to what is told: a write of another connection is in one of them."""
    other = await kv_connect()
    for number in range(5):
        task = asyncio.create_task(Item.objects.using(other).save(Item("s", "a", number)))
        async with Item.objects.using(kv_db).watch("s", "a") as changes:
            found = await Item.objects.using(kv_db).find("s", "a")
            await task
            if found is None or found.count != number:
                (change,) = await following(changes, 1)
                assert change.new == Item("s", "a", number)


@watched
async def test_what_was_before_is_not_told(kv_db: kv.Database) -> None:
    """A watch without a position begins now."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1))

    async with objects.watch("s", "a") as changes:
        await objects.save(Item("s", "a", 2))

        assert told(await following(changes, 1)) == [(CHANGED, "a", 2)]


@watched
async def test_a_cancelled_step_loses_nothing(kv_db: kv.Database) -> None:
    """Waiting can be given up at any moment, and taken up again."""
    objects = Item.objects.using(kv_db)
    seen: list[kv.Change[Item]] = []

    async with objects.watch("s", "a") as changes:
        for number in range(20):
            waiting = asyncio.create_task(anext(changes))
            await asyncio.sleep(0)
            await objects.save(Item("s", "a", number))
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                seen.append(await waiting)
        while not seen or seen[-1].new != Item("s", "a", 19):
            seen += await following(changes, 1)

    numbers = [change.new.count for change in seen if change.new is not None]
    assert numbers == sorted(set(numbers))
    if kv_db.capabilities.watch_resumes or kv_db.capabilities.watch_local:
        assert numbers == list(range(20))


@watched
async def test_iterating_alone_puts_it_in_place(kv_db: kv.Database) -> None:
    """``async for`` needs no block around it."""
    objects = Item.objects.using(kv_db)

    async def first() -> kv.Change[Item]:
        async for change in objects.watch("s", "a"):
            return change
        raise AssertionError("a watch does not end by itself")

    async with asyncio.timeout(_PATIENCE):
        reader = asyncio.create_task(first())
        number = 0
        while not reader.done():
            number += 1
            await objects.save(Item("s", "a", number))
            await asyncio.sleep(0)
    assert (await reader).key == ("s", "a")


@watched
async def test_a_watch_ends_with_its_block(kv_db: kv.Database) -> None:
    """A step after that is ``Closed``, and so is one that waits."""
    async with Item.objects.using(kv_db).watch("s", "a") as changes:
        waiting = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)

    for step in (waiting, anext(changes)):
        with pytest.raises(kv.Closed):
            async with asyncio.timeout(_PATIENCE):
                await step


@watched
async def test_a_watch_ends_with_its_database(kv_connect: Connect) -> None:
    """Closing it ends the iteration by ``Closed``."""
    db = await kv_connect()
    changes = Item.objects.using(db).watch("s", "a")
    async with changes:
        waiting = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)
        await db.close()

        for step in (waiting, anext(changes)):
            with pytest.raises(kv.Closed):
                async with asyncio.timeout(_PATIENCE):
                    await step


@watched
async def test_every_watch_is_told(kv_db: kv.Database, kv_connect: Connect) -> None:
    """Of one connection and of several."""
    other = await kv_connect()
    objects = Item.objects.using(kv_db)

    async with (
        objects.watch("s", "a") as one,
        objects.watch("s", "a") as two,
        Item.objects.using(other).watch("s", "a") as three,
    ):
        await objects.save(Item("s", "a", 1))

        for changes in (one, two, three):
            assert told(await following(changes, 1)) == [(CREATED, "a", 1)]


@watched
async def test_namespaces_are_apart(kv_db: kv.Database) -> None:
    """A watch tells of its own only."""
    inner = kv_db.namespace("inner")

    async with Item.objects.using(inner).watch("s", "a") as changes:
        await Item.objects.using(kv_db).save(Item("s", "a", 1))
        await Item.objects.using(inner).save(Item("s", "a", 2))

        assert told(await following(changes, 1)) == [(CREATED, "a", 2)]


@watched
@pytest.mark.kv_requires("conditional", "expiry")
async def test_in_the_place_of_an_expired_record(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """A record is created there, whether its store has removed the old one or not."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1), expires_in=timedelta(seconds=10))

    async with objects.watch("s", "a") as changes:
        kv_clock.advance(10)
        await objects.create(Item("s", "a", 2))

        change = (await following(changes, 1))[0]
        while change.kind is DELETED:
            change = (await following(changes, 1))[0]
        assert (change.kind, change.new, change.old) == (CREATED, Item("s", "a", 2), None)


# --- partitions and tables --------------------------------------------------------------------------------------------


@watched
async def test_a_partition_is_followed(kv_db: kv.Database) -> None:
    """All of its records and no others, each in the order in which it was changed."""
    need(kv_db, kv.Watch.PARTITION)
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1))

    async with objects.watch("s") as changes:
        await objects.save(Item("s", "b", 1))
        await objects.save(Item("r", "x"))
        await objects.save(Item("ss", "x"))
        await objects.save(Item("s", "a", 2))
        await objects.delete("s", "b")
        await objects.save(Item("t", "x"))
        await objects.save(Item("s", "c", 3))

        seen = told(await following(changes, 4))
    assert [change for change in seen if change[1] == "b"] == [(CREATED, "b", 1), (DELETED, "b", None)]
    assert [change for change in seen if change[1] != "b"] == [(CHANGED, "a", 2), (CREATED, "c", 3)]


@watched
async def test_a_prefix_is_followed(kv_db: kv.Database) -> None:
    """The beginning of the first component, whole components, or both, as in a range."""
    need(kv_db, kv.Watch.PARTITION)
    items, readings = Item.objects.using(kv_db), Reading.objects.using(kv_db)

    async with items.watch("s", prefix="b") as begins, readings.watch("s", prefix=("b",)) as whole:
        await items.save_many([Item("s", name) for name in ("a", "b", "bb", "c", "ab")])
        await readings.save_many(
            [Reading("s", "a", 1), Reading("s", "b", 1), Reading("s", "b", 2), Reading("s", "bb", 1)]
        )

        assert {change.key for change in await following(begins, 2)} == {("s", "b"), ("s", "bb")}
        assert {change.key for change in await following(whole, 2)} == {("s", "b", 1), ("s", "b", 2)}


@watched
async def test_a_table_without_partition_fields(kv_db: kv.Database) -> None:
    """It is one partition, and ``watch()`` follows it."""
    need(kv_db, kv.Watch.PARTITION)
    objects = Log.objects.using(kv_db)

    async with objects.watch() as changes:
        await objects.save(Log(1, "x"))

        (change,) = await following(changes, 1)
    assert (change.key, change.new) == ((1,), Log(1, "x"))


@watched
async def test_a_table_is_followed(kv_db: kv.Database) -> None:
    """All of its partitions, and no other table."""
    need(kv_db, kv.Watch.TABLE)

    async with Item.objects.using(kv_db).watch() as changes:
        await Reading.objects.using(kv_db).save(Reading("s", "a", 1))
        await Item.objects.using(kv_db).save(Item("s", "a"))
        await Item.objects.using(kv_db).save(Item("t", "a"))

        assert [change.key for change in await following(changes, 2)] == [("s", "a"), ("t", "a")]


@watched
async def test_batches_and_units_are_told(kv_db: kv.Database) -> None:
    """Record by record; what came to nothing is not told."""
    need(kv_db, kv.Watch.PARTITION)
    objects = Item.objects.using(kv_db)
    does_units = kv_db.capabilities.atomicity is not kv.Atomicity.RECORD and kv_db.capabilities.conditional

    async with objects.watch("s") as changes:
        assert await objects.save_many(Item("s", f"{number:03}", number) for number in range(250)) == 250
        seen = await following(changes, 250)
        assert {change.key[1]: change.kind for change in seen} == {f"{number:03}": CREATED for number in range(250)}
        if does_units:
            async with kv_db.unit_of_work() as uow:
                uow.add(Item("s", "x", 1))
                uow.add(Item("s", "y", 2))
                (await objects.using(uow).get("s", "001")).count = 7
            with pytest.raises(kv.AlreadyExists):
                async with kv_db.unit_of_work() as uow:
                    uow.add(Item("s", "z", 1))
                    uow.add(Item("s", "x", 1))
            of_unit = told(await following(changes, 3))
            assert sorted(of_unit, key=lambda each: each[1]) == [
                (CHANGED, "001", 7),
                (CREATED, "x", 1),
                (CREATED, "y", 2),
            ]
        await objects.save(Item("s", "last"))
        assert told(await following(changes, 1)) == [(CREATED, "last", 0)]


@watched
@pytest.mark.kv_requires(expiry=kv.Expiry.EMULATED)
async def test_purging_is_told(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """An expired record is deleted when it is removed, not before."""
    need(kv_db, kv.Watch.PARTITION)
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1), expires_in=timedelta(seconds=10))

    async with objects.watch("s") as changes:
        kv_clock.advance(10)
        await objects.save(Item("s", "b"))
        assert await kv_db.purge_expired(Item, force=not kv_db.capabilities.conditional) == 1

        assert told(await following(changes, 2)) == [(CREATED, "b", 0), (DELETED, "a", None)]


# --- positions --------------------------------------------------------------------------------------------------------


@resumes
async def test_a_watch_goes_on_from_a_stored_position(kv_db: kv.Database, kv_connect: Connect) -> None:
    """Behind that change, on another connection too: nothing is missing, nothing comes twice."""
    objects = Item.objects.using(kv_db)
    async with objects.watch("s", "a") as changes:
        for number in range(4):
            await objects.save(Item("s", "a", number))
        seen = await following(changes, 4)
    await objects.save(Item("s", "a", 4))
    other = await kv_connect()

    for number, change in enumerate(seen):
        assert isinstance(change.position, str)
        async with Item.objects.using(other).watch("s", "a", position=change.position) as changes:
            assert changes.position == change.position
            rest = await following(changes, 4 - number)
            assert [each.new for each in rest] == [Item("s", "a", later) for later in range(number + 1, 5)]


@resumes
async def test_a_watch_goes_on_in_the_middle_of_a_unit(kv_db: kv.Database) -> None:
    """Each change of one commit has a position of its own."""
    need(kv_db, kv.Watch.PARTITION)
    objects = Item.objects.using(kv_db)
    async with objects.watch("s") as changes:
        async with kv_db.unit_of_work() as uow:
            for name in "abc":
                uow.add(Item("s", name))
        seen = await following(changes, 3)

    async with objects.watch("s", position=seen[0].position) as changes:
        assert [each.key for each in await following(changes, 2)] == [each.key for each in seen[1:]]


@resumes
async def test_a_watch_knows_its_position_from_the_start(kv_db: kv.Database) -> None:
    """One that nothing was told to yet can be gone on from, too."""
    objects = Item.objects.using(kv_db)
    async with objects.watch("s", "a") as changes:
        position = changes.position
    assert position is not None
    await objects.save(Item("s", "a", 1))

    async with objects.watch("s", "a", position=position) as changes:
        assert told(await following(changes, 1)) == [(CREATED, "a", 1)]


@resumes
async def test_a_position_of_another_watch_is_refused(kv_db: kv.Database) -> None:
    """Nor is one that is none; nothing is sent."""
    objects = Item.objects.using(kv_db)
    async with objects.watch("s", "a") as changes:
        position = changes.position
    assert position is not None
    await kv_db.prepare(Item)

    for wrong in (objects.watch("s", "b", position=position), objects.watch("s", "a", position="x" + position)):
        with refused(kv.ValidationError):
            await anext(wrong)


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_what_can_not_be_watched_is_refused(kv_db: kv.Database) -> None:
    """A record, a partition, a table: what the store denies is ``Unsupported``, and nothing is sent."""
    objects = Item.objects.using(kv_db)
    await kv_db.prepare(Item)

    for watch, changes in (
        (kv.Watch.RECORD, objects.watch("s", "a")),
        (kv.Watch.PARTITION, objects.watch("s")),
        (kv.Watch.PARTITION, objects.watch("s", prefix="a")),
        (kv.Watch.TABLE, objects.watch()),
    ):
        if not reaches(kv_db, watch):
            with refused():
                await anext(changes)


@watched
@pytest.mark.kv_denied("watch_resumes")
async def test_a_position_is_refused_where_there_is_none(kv_db: kv.Database) -> None:
    """A store without a past can't go on from there; its changes have no positions."""
    objects = Item.objects.using(kv_db)
    async with objects.watch("s", "a") as changes:
        assert changes.position is None
        await objects.save(Item("s", "a"))
        assert (await following(changes, 1))[0].position is None

    with refused():
        await anext(objects.watch("s", "a", position="x"))


@watched
async def test_a_watch_is_no_part_of_a_unit(kv_db: kv.Database) -> None:
    """It could not vouch for what is told."""
    await kv_db.prepare(Item)

    async with kv_db.unit_of_work():
        with refused():
            await anext(Item.objects.using(kv_db).watch("s", "a"))
        with refused():
            async with Item.objects.using(kv_db).watch("s", "a"):
                pass


async def test_what_does_not_fit_the_key_is_refused(kv_db: kv.Database) -> None:
    """When the watch is made: too many or too few values, a prefix of a whole table, a position that is no text."""
    objects, readings = Item.objects.using(kv_db), Reading.objects.using(kv_db)
    for wrong in (
        lambda: objects.watch("s", "a", "x"),
        lambda: objects.watch(1),
        lambda: objects.watch(prefix="a"),
        lambda: objects.watch("s", "a", prefix="a"),
        lambda: objects.watch("s", prefix=1),
        lambda: objects.watch("s", position=1),  # type: ignore[arg-type]
        lambda: readings.watch("s", "a"),
    ):
        with refused(kv.ValidationError):
            wrong()
