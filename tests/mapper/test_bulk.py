"""save_many, batches and Range.delete when something goes wrong: what is known, and what is left to send."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

import pytest

import kvmodel as kv
from kvmodel import _bulk
from kvmodel.database import Connection, Database
from kvmodel.drivers.base import Delete, Mutation, Outcome
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.testing.faults import Fault, FaultPlan
from tests.mapper.models import Clock, Counter, Score, Session, User


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan(calls=["batch"])


@pytest.fixture
async def planned(plan: FaultPlan) -> AsyncIterator[kv.Database]:
    """A database on which a test says what goes wrong with the next batches."""
    async with kv.connect("memory://", plan=plan, max_batch=10) as db:
        yield db


def _users(count: int) -> list[User]:
    return [User("red", f"{n:05}") for n in range(count)]


# --- inputs that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_input_that_raises(db: kv.Database, kind: str) -> None:
    """The input's own error comes through; the batches before it are written, nothing is left running."""

    def broken() -> Iterator[User]:
        yield from _users(2500)
        raise ZeroDivisionError

    async def slow() -> AsyncIterator[User]:
        for user in broken():
            yield user

    with pytest.raises(ZeroDivisionError):
        await User.objects.save_many(broken() if kind == "sync" else slow())

    assert await User.objects.range("red").count() == 2000
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.usefixtures("planned")
async def test_an_input_that_raises_while_a_batch_is_refused(plan: FaultPlan) -> None:
    """The failure of the batch under way is not reported by the event loop as one that nobody looked at."""

    def broken() -> Iterator[User]:
        yield from _users(10)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), kv.budget(round_trips=0):
        await User.objects.save_many(broken())

    assert await User.objects.range("red") == []


async def test_an_input_that_is_cancelled(db: kv.Database) -> None:
    """Cancelled while it waits for its input, it ends, and so does the batch under way."""
    waiting = asyncio.Event()

    async def stuck() -> AsyncIterator[User]:
        for user in _users(1000):
            yield user
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(User.objects.save_many(stuck()))
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1
    assert await User.objects.range("red").count() in (0, 1000)


async def test_objects_of_a_cancelled_batch_are_unknown() -> None:
    """They may have been written: saving one without looking is a Conflict."""
    plan = FaultPlan(calls=["batch"], script=[Fault.STALL])
    async with kv.connect("memory://", plan=plan):
        users = _users(5)
        task = asyncio.create_task(User.objects.save_many(users))
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, kv.BatchError)):
            await task

        for user in users:
            with pytest.raises(kv.Conflict, match="refresh"):
                await User.objects.save(user)


async def test_a_driver_that_was_cancelled_before_it_sent() -> None:
    """Even where the driver raises the bare cancellation, nothing is taken for certain."""
    driver = MemoryDriver()
    await driver.open()
    db = Database(Connection(driver))
    await db.prepare(User)
    users = _users(5)
    task = asyncio.create_task(User.objects.using(db).save_many(users))
    for _ in range(2):
        await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(kv.Conflict, match="refresh"):
        await User.objects.using(db).save(users[0])
    await db.close()


# --- stores that refuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "written"),
    [(Fault.CUT_BEFORE, kv.Status.UNSENT, 10), (Fault.CUT_AFTER, kv.Status.UNKNOWN, 20)],
)
@pytest.mark.usefixtures("planned")
async def test_a_batch_whose_connection_breaks(plan: FaultPlan, fault: Fault, status: kv.Status, written: int) -> None:
    """The outcomes say what is known, with the store's error as the cause; the rest can be sent again."""
    users = _users(35)
    plan.then(None, fault)

    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(iter(users))

    error = caught.value
    assert [outcome.status for outcome in error.outcomes] == [status] * 10
    assert isinstance(error.__cause__, kv.StoreError)
    assert error.done == 10
    assert await User.objects.range("red").count() == written
    remaining = list(error.remaining)  # type: ignore[arg-type]
    assert remaining == users[10:]
    if status is kv.Status.UNSENT:
        assert await User.objects.save_many(remaining) == 25  # type: ignore[arg-type]
        assert await User.objects.range("red").count() == 35


@pytest.mark.parametrize("how", ["save_many", "batch"])
async def test_a_refusal_in_the_middle_loses_no_progress(planned: kv.Database, how: str) -> None:
    """A budget is exceeded as anywhere; behind the first batch its cause tells what was done and what is left."""

    async def save(users: list[User]) -> None:
        if how == "save_many":
            await User.objects.save_many(users)
        else:
            async with planned.batch() as batch:
                batch.put(*users)

    users = _users(35)
    await planned.prepare(User)
    with pytest.raises(kv.BudgetExceeded) as caught, kv.budget(round_trips=2):
        await save(users)

    progress = caught.value.__cause__
    assert isinstance(progress, kv.BatchError)
    assert progress.done == 20
    assert [outcome.status for outcome in progress.outcomes] == [kv.Status.UNSENT] * 10
    assert list(progress.remaining) == users[20:]  # type: ignore[arg-type]
    with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=0):
        await save(users)


async def test_what_a_store_denies_in_the_middle_loses_no_progress() -> None:
    """A loaded object on a store without conditions is refused, and the batches before it are told of."""
    async with kv.connect("memory://?conditional=false&range_checks=false&max_batch=10"):
        loaded = await User.objects.save(User("blue", "eve"))
        users = [*_users(15), loaded]

        with pytest.raises(kv.BatchError) as caught:
            await User.objects.save_many(users)
        assert isinstance(caught.value.__cause__, kv.Unsupported)
        assert (caught.value.done, list(caught.value.remaining)) == (10, users[10:])  # type: ignore[arg-type]
        with pytest.raises(kv.Unsupported):
            await User.objects.save_many([loaded])


@pytest.mark.usefixtures("planned")
async def test_what_remains_of_an_async_input(plan: FaultPlan) -> None:
    """It is an async iterator: the failed, those that were taken ahead, and the rest of the input."""

    async def stream() -> AsyncIterator[User]:
        for user in _users(50):
            yield user

    plan.then(Fault.CUT_BEFORE)
    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(stream())

    remaining = caught.value.remaining
    assert await User.objects.save_many(remaining) == 50  # type: ignore[arg-type]
    assert await User.objects.range("red").count() == 50


async def test_a_key_over_the_limit_is_an_outcome(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What only the driver can refuse is told like any other failure: which object, and what remains."""
    path = tmp_path_factory.mktemp("store")
    async with kv.connect(f"lmdb://{path}/data") as db:
        users = [User("red", "ada"), User("red", "x" * 600), User("red", "bob")]
        for attempt in ("save_many", "batch"):
            with pytest.raises(kv.BatchError) as caught:
                if attempt == "save_many":
                    await User.objects.save_many(users)
                else:
                    async with db.batch() as batch:
                        batch.put(*users)

            statuses = [outcome.status for outcome in caught.value.outcomes]
            assert statuses == [kv.Status.UNSENT, kv.Status.FAILED, kv.Status.UNSENT]
            assert isinstance(caught.value.__cause__, kv.ValidationError)
            assert list(caught.value.remaining) == users  # type: ignore[arg-type]
        assert await User.objects.range("red") == []


async def test_a_value_over_the_limit_is_an_outcome() -> None:
    """Too large: that object is named, the others were not sent."""
    async with kv.connect("memory://", max_value_bytes=1000):
        users = [User("red", "ada"), User("red", "bob", email="x" * 2000), User("red", "cyd")]
        with pytest.raises(kv.BatchError) as caught:
            await User.objects.save_many(users)

        statuses = [outcome.status for outcome in caught.value.outcomes]
        assert statuses == [kv.Status.UNSENT, kv.Status.TOO_LARGE, kv.Status.UNSENT]


@pytest.mark.usefixtures("planned")
async def test_outcomes_set_the_states_of_objects(plan: FaultPlan) -> None:
    """Of a batch that was done in part, the written are loaded and the others what they were."""
    users = _users(10)
    plan.then(Fault.PARTIAL)

    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(users)

    for user, outcome in zip(users, caught.value.outcomes, strict=True):
        if outcome.status is kv.Status.WRITTEN:
            assert kv.version(user) == kv.version(await User.objects.get("red", user.name))
        else:
            assert outcome.status is kv.Status.UNSENT
            with pytest.raises(kv.ValidationError):
                kv.version(user)


async def test_stale_and_deleted_objects_are_conflicts(db: kv.Database) -> None:
    """A loaded object is judged as by save: a deleted one is refused before anything is sent."""
    ada, bob = _users(2)
    await User.objects.save_many([ada, bob])
    await User.objects.delete(bob)

    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many([ada, bob])

    assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.UNSENT, kv.Status.CONFLICT]


async def test_unknown_fields_are_kept_by_every_way_to_save(db: kv.Database) -> None:
    """save_many, a batch and a unit leave an object ready to be saved again with what its model does not know."""

    class Wide(kv.Model, table="things"):
        name: str = kv.partition_key()
        age: int = 0
        extra: str = ""

    class Narrow(kv.Model, table="things"):
        name: str = kv.partition_key()
        age: int = 0

    await Wide.objects.create(Wide("a", extra="kept"))
    thing = await Narrow.objects.get("a")
    for age in range(1, 7):
        thing.age = age
        if age % 3 == 0:
            await Narrow.objects.save_many([thing])
        elif age % 3 == 1:
            async with db.batch() as batch:
                batch.put(thing)
        else:
            async with db.unit_of_work() as uow:
                uow.put(thing)

        assert await Wide.objects.get("a") == Wide("a", age, "kept")


# --- keys that come again ---------------------------------------------------------------------------------------------


async def test_one_object_many_times(db: kv.Database) -> None:
    """Each time it is saved as it was left by the time before, within a batch and from batch to batch."""
    ada = User("red", "ada")

    assert await User.objects.save_many([ada, *_users(998), ada, ada, *_users(1500), ada]) == 2502

    assert kv.version(ada) == kv.version(await User.objects.get("red", "ada"))


async def test_a_key_that_comes_again_in_the_next_batch(db: kv.Database) -> None:
    """The batch that was encoded ahead is encoded again, or its object would lose against itself."""
    users = _users(1000)

    assert await User.objects.save_many([*users, *users]) == 2000

    await User.objects.save_many(users)


@pytest.mark.parametrize("distinct", [1, 7])
async def test_keys_that_come_again_all_the_time(monkeypatch: pytest.MonkeyPatch, distinct: int) -> None:
    """Nothing is encoded more than a few times, however often a batch has to end early."""
    encoded = 0
    encode = _bulk.Bulk._encode

    def counting(self: _bulk.Bulk[Counter], batch: list[Counter]) -> object:
        nonlocal encoded
        encoded += len(batch)
        return encode(self, batch)

    monkeypatch.setattr(_bulk.Bulk, "_encode", counting)
    async with kv.connect("memory://"):
        assert await Counter.objects.save_many(Counter(f"{n % distinct}", n) for n in range(1400)) == 1400
        assert (await Counter.objects.get("0")).value == 1400 - distinct

    assert encoded < 4 * 1400 + 2000


async def test_batches_grow_again(db: kv.Database) -> None:
    """After keys that came again, the rest goes out in full batches."""
    objs = [Counter("a", n) for n in range(20)] + [Counter(f"{n}") for n in range(4000)]

    with kv.budget() as spent:
        await Counter.objects.save_many(objs)

    assert spent.round_trips < 20 + 20


async def test_what_remains_holds_what_was_put_back() -> None:
    """A failure behind a key that came again loses nothing of the input."""
    plan = FaultPlan(calls=["batch"], script=[None, Fault.CUT_BEFORE])
    async with kv.connect("memory://", plan=plan):
        objs = [Counter("a", 1), Counter("a", 2), Counter("b", 3), Counter("c", 4), Counter("a", 5), Counter("d", 6)]

        async def stream() -> AsyncIterator[Counter]:
            for obj in objs:
                yield obj

        with pytest.raises(kv.BatchError) as caught:
            await Counter.objects.save_many(iter(objs))
        assert [obj.value for obj in caught.value.remaining] == [2, 3, 4, 5, 6]  # type: ignore[union-attr]

        plan.then(None, Fault.CUT_BEFORE)
        with pytest.raises(kv.BatchError) as caught:
            await Counter.objects.save_many(stream())
        left = [obj.value async for obj in caught.value.remaining]  # type: ignore[union-attr]
        assert left == [2, 3, 4, 5, 6]


async def test_memory_is_bounded(db: kv.Database) -> None:
    """Never more than two batches of the input are held at once."""
    alive = most = 0

    class Item(kv.Model, table="items"):
        n: int = kv.partition_key()

    def stream() -> Iterator[Item]:
        nonlocal alive, most
        for n in range(10_000):
            item = Item(n)
            alive += 1
            most = max(most, alive)
            weakref.finalize(item, gone)
            yield item

    def gone() -> None:
        nonlocal alive
        alive -= 1

    assert await Item.objects.save_many(stream()) == 10_000

    assert most <= 3001


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_sent_once(db: kv.Database) -> None:
    """Afterwards it takes nothing more; sent inside its block, it is not sent again at its end."""
    async with db.batch() as batch:
        batch.add(User("red", "ada"))
        assert len(batch) == 1
        assert await batch.send() == 1

    with pytest.raises(kv.Closed):
        batch.add(User("red", "bob"))
    with pytest.raises(kv.Closed):
        await batch.send()


async def test_a_batch_takes_one_write_a_record(db: kv.Database) -> None:
    """A second one for the same key is refused at once, with what was meant before in force."""
    ada = await User.objects.create(User("red", "ada"))

    async with db.batch() as batch:
        batch.delete(ada)
        with pytest.raises(kv.ValidationError, match="one write a record"):
            batch.put(User("red", "ada"))

    assert await User.objects.find("red", "ada") is None


async def test_what_a_batch_relies_on(db: kv.Database) -> None:
    """Loaded objects over what was loaded; new ones can't be deleted without force; force relies on nothing."""
    ada = await User.objects.create(User("red", "ada"))
    await User.objects.update("red", "ada", age=1)

    with pytest.raises(kv.BatchError):
        async with db.batch() as batch:
            batch.put(ada)
    async with db.batch() as batch:
        with pytest.raises(kv.ValidationError):
            batch.delete(User("red", "bob"))
        batch.put(ada, force=True)
        batch.delete(User("red", "bob"), force=True)
    assert (await User.objects.get("red", "ada")).age == 0
    async with db.batch() as batch:
        batch.delete(ada)
    with pytest.raises(kv.Conflict):
        await User.objects.save(ada)


async def test_a_batch_ends_at_the_request_that_fails(planned: kv.Database, plan: FaultPlan) -> None:
    """What was sent before is done, what would have come behind it remains."""
    users = _users(35)
    plan.then(None, Fault.CUT_BEFORE)
    batch = planned.batch()
    batch.put(*users)

    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    assert caught.value.done == 10
    assert list(caught.value.remaining) == users[10:]  # type: ignore[arg-type]
    assert await User.objects.range("red").count() == 10


async def test_a_batch_spans_tables_and_keeps_deadlines(db: kv.Database, clock: Clock) -> None:
    """An added object takes its model's deadline, also one that was loaded; one that is put keeps its own."""
    session = await Session.objects.create(Session("old"), expires_in=timedelta(seconds=10))
    await Session.objects.delete("old")

    async with db.batch() as batch:
        batch.add(session, Counter("a"))
        batch.put(Score("g", 1, "x"), Session("new"))
    clock.advance(3599)
    assert [each and each.token for each in await Session.objects.get_many(["old", "new"])] == ["old", "new"]
    clock.advance(1)

    assert await Session.objects.get_many(["old", "new"]) == [None, None]


async def test_a_batch_of_a_closed_database_is_refused() -> None:
    """When it is entered, and when it is sent."""
    db = await kv.connect("memory://")
    batch = db.batch()
    batch.put(User("red", "ada"))
    await db.close()

    with pytest.raises(kv.Closed):
        async with db.batch():
            pass
    with pytest.raises(kv.Closed):
        await batch.send()


async def test_a_batch_is_not_part_of_a_unit(db: kv.Database) -> None:
    """It stands for itself: sent, it is there, whatever becomes of the unit around it."""
    async with db.unit_of_work() as uow:
        async with db.batch() as batch:
            batch.add(User("red", "ada"))
        await uow.rollback()

    assert await User.objects.exists("red", "ada")


# --- Range.delete -----------------------------------------------------------------------------------------------------


async def test_delete_with_a_limit_and_backwards(db: kv.Database) -> None:
    """The limit counts records, from the end that the range begins at."""
    await User.objects.save_many(_users(3000))

    assert await User.objects.range("red", limit=0).delete() == 0
    assert await User.objects.range("red", limit=1500).delete() == 1500
    assert await User.objects.range("red", limit=2, reverse=True).delete() == 2

    first, *_, last = await User.objects.range("red")
    assert (first.name, last.name) == ("01500", "02997")
    assert await User.objects.range("red", limit=5000).delete() == 1498


async def test_delete_tells_what_failed() -> None:
    """A BatchError with the keys that are left; what was removed before counts."""

    class Failing(MemoryDriver):
        left = 15

        async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
            if not isinstance(mutations[0], Delete):
                return await super().write(mutations, atomic=atomic, now=now, until=until)
            good, bad = mutations[: self.left], mutations[self.left :]
            self.left -= len(good)
            outcomes = await super().write(good, atomic=atomic, now=now, until=until)
            return outcomes + [Outcome(kv.Status.FAILED)] * len(bad)

    driver = Failing(max_batch=10)
    await driver.open()
    db = Database(Connection(driver))
    objects = User.objects.using(db)
    await objects.save_many(_users(30))

    with pytest.raises(kv.BatchError) as caught:
        await objects.range("red").delete()

    assert caught.value.done == 15
    assert len(caught.value.outcomes) == 10
    assert list(caught.value.remaining) == [("red", f"{n:05}") for n in range(15, 30)]  # type: ignore[arg-type]
    assert await objects.range("red").count() == 15
    await db.close()
