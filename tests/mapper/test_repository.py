"""The calls of ``User.objects`` outside a unit of work, and the states of objects."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import attrs
import pytest

import kvmodel as kv
from tests.mapper.models import Clock, Counter, Fixed, Session, User


async def test_create_wants_its_key_free(db: kv.Database) -> None:
    """A taken key is AlreadyExists, which is a Conflict, and what was there stays."""
    await User.objects.create(User("red", "ada", age=36))

    with pytest.raises(kv.AlreadyExists) as caught:
        await User.objects.create(User("red", "ada", age=1))

    assert isinstance(caught.value, kv.Conflict)
    assert caught.value.keys == (("users", ("red", "ada")),)
    assert (await User.objects.get("red", "ada")).age == 36


async def test_get_and_find(db: kv.Database) -> None:
    """get raises NotFound, a LookupError with the key; find answers None."""
    await User.objects.create(User("red", "ada", age=36))

    assert await User.objects.get("red", "ada") == User("red", "ada", age=36)
    assert await User.objects.find("red", "bob") is None
    with pytest.raises(LookupError) as caught:
        await User.objects.get("red", "bob")
    assert isinstance(caught.value, kv.NotFound)
    assert (caught.value.table, caught.value.key) == ("users", ("red", "bob"))


async def test_get_many_keeps_the_order(db: kv.Database) -> None:
    """One answer for each key, in the order asked, repetitions and gaps included."""
    await User.objects.save_many([User("red", name) for name in "abc"])

    found = await User.objects.get_many([("red", "c"), ("red", "x"), ("red", "a"), ("red", "c")])

    assert [user and user.name for user in found] == ["c", None, "a", "c"]
    assert await User.objects.get_many([]) == []


async def test_lone_values_are_keys_of_one_component(db: kv.Database) -> None:
    """Where the key has one component, get_many takes values as well as tuples."""
    await Counter.objects.create(Counter("a", 1))

    one, two = await Counter.objects.get_many(["a", ("a",)])

    assert one == two == Counter("a", 1)


async def test_exists(db: kv.Database) -> None:
    """exists says whether a live record is there."""
    await User.objects.create(User("red", "ada"))

    assert await User.objects.exists("red", "ada")
    assert not await User.objects.exists("red", "bob")


async def test_save_of_a_new_object_overwrites(db: kv.Database) -> None:
    """A new object is written whatever is there; afterwards it is loaded."""
    await User.objects.create(User("red", "ada", age=1))
    ada = User("red", "ada", age=2)

    assert await User.objects.save(ada) is ada
    ada.age = 3
    await User.objects.save(ada)

    assert (await User.objects.get("red", "ada")).age == 3


async def test_save_of_a_loaded_object_is_checked(db: kv.Database) -> None:
    """A stale object is a Conflict and writes nothing; force skips the check."""
    await User.objects.create(User("red", "ada"))
    mine, yours = await User.objects.get("red", "ada"), await User.objects.get("red", "ada")
    yours.age = 1
    await User.objects.save(yours)

    mine.age = 2
    with pytest.raises(kv.Conflict) as caught:
        await User.objects.save(mine)
    assert caught.value.keys == (("users", ("red", "ada")),)
    assert (await User.objects.get("red", "ada")).age == 1

    await User.objects.save(mine, force=True)
    assert (await User.objects.get("red", "ada")).age == 2


async def test_a_recreated_record_is_not_the_loaded_one(db: kv.Database) -> None:
    """A version never repeats: the same content, deleted and created again, is another record."""
    await User.objects.create(User("red", "ada"))
    mine = await User.objects.get("red", "ada")
    await User.objects.delete("red", "ada")
    await User.objects.create(User("red", "ada"))

    with pytest.raises(kv.Conflict):
        await User.objects.save(mine)


async def test_if_version_is_an_etag(db: kv.Database) -> None:
    """save(if_version=) judges by the token alone, whatever the object's state is."""
    await User.objects.create(User("red", "ada"))
    token = kv.version(await User.objects.get("red", "ada"))

    await User.objects.save(User("red", "ada", age=1), if_version=token)
    with pytest.raises(kv.Conflict):
        await User.objects.save(User("red", "ada", age=2), if_version=token)
    with pytest.raises(kv.ValidationError):
        await User.objects.save(User("red", "ada", age=2), if_version="no token")
    with pytest.raises(kv.ValidationError):
        await User.objects.save(User("red", "ada", age=2), if_version=token, force=True)

    assert (await User.objects.get("red", "ada")).age == 1


async def test_copies_keep_the_state_evolve_does_not(db: kv.Database) -> None:
    """copy and kv.replace stand for the same record; attrs.evolve makes a new object."""
    await User.objects.create(User("red", "ada"))
    ada = await User.objects.get("red", "ada")
    await User.objects.update("red", "ada", age=1)

    for same in (copy.copy(ada), copy.deepcopy(ada), kv.replace(ada, age=9)):
        with pytest.raises(kv.Conflict):
            await User.objects.save(same)
    await User.objects.save(attrs.evolve(ada, age=9))  # type: ignore[misc]

    assert (await User.objects.get("red", "ada")).age == 9


async def test_update_reads_changes_and_replaces(db: kv.Database) -> None:
    """Values and callables of the old value; the new object comes back, loaded."""
    await User.objects.create(User("red", "ada", age=36, email="a@example.org"))

    ada = await User.objects.update("red", "ada", age=lambda age: age + 1, email=None)

    assert ada == User("red", "ada", age=37)
    await User.objects.save(ada)
    with pytest.raises(kv.NotFound):
        await User.objects.update("red", "bob", age=1)


@pytest.mark.parametrize("changes", [{"agee": 1}, {"name": "eve"}, {"age": "old"}, {"tags": [1]}])
async def test_a_refused_update_writes_nothing(db: kv.Database, changes: dict[str, object]) -> None:
    """Unknown fields, key fields and wrong types are refused before anything is written."""
    await User.objects.create(User("red", "ada", age=36))

    with pytest.raises(kv.ValidationError):
        await User.objects.update("red", "ada", **changes)

    assert await User.objects.get("red", "ada") == User("red", "ada", age=36)


async def test_concurrent_updates_all_arrive(db: kv.Database) -> None:
    """Lost races are run again: no increment is lost."""
    await Counter.objects.create(Counter("hits"))

    await asyncio.gather(*(Counter.objects.update("hits", value=lambda n: n + 1) for _ in range(50)))

    assert (await Counter.objects.get("hits")).value == 50


async def test_delete_by_key_and_by_object(db: kv.Database) -> None:
    """By key: whether anything was there. By object: only what was loaded, unless forced."""
    await User.objects.save_many([User("red", "ada"), User("red", "bob")])

    assert await User.objects.delete("red", "ada") is True
    assert await User.objects.delete("red", "ada") is False

    bob = await User.objects.get("red", "bob")
    await User.objects.update("red", "bob", age=1)
    with pytest.raises(kv.Conflict):
        await User.objects.delete(bob)
    assert await User.objects.exists("red", "bob")
    await User.objects.delete(bob, force=True)
    assert not await User.objects.exists("red", "bob")


async def test_delete_of_a_new_object_is_refused(db: kv.Database) -> None:
    """There is nothing to compare it with: the caller has to say what is meant."""
    await User.objects.create(User("red", "ada"))

    with pytest.raises(kv.ValidationError):
        await User.objects.delete(User("red", "ada"))

    assert await User.objects.exists("red", "ada")


async def test_a_deleted_object_is_not_saved_by_accident(db: kv.Database) -> None:
    """save of a deleted object is a Conflict; create writes it anew."""
    ada = await User.objects.create(User("red", "ada"))
    await User.objects.delete(ada)

    with pytest.raises(kv.Conflict):
        await User.objects.save(ada)
    await User.objects.create(ada)

    assert await User.objects.exists("red", "ada")


async def test_the_key_of_a_loaded_object_is_fixed(db: kv.Database) -> None:
    """Saving a loaded object under another key would leave the old record behind: refused."""
    ada = await User.objects.create(User("red", "ada"))
    ada.name = "eve"

    with pytest.raises(kv.ValidationError, match="key"):
        await User.objects.save(ada)

    assert await User.objects.find("red", "eve") is None


async def test_refresh_reads_in_place(db: kv.Database) -> None:
    """The same object, at the record's present state; NotFound when it is gone."""
    ada = await User.objects.create(User("red", "ada"))
    await User.objects.update("red", "ada", age=5)

    await User.objects.refresh(ada)

    assert ada.age == 5
    await User.objects.save(ada)
    await User.objects.delete("red", "ada")
    with pytest.raises(kv.NotFound):
        await User.objects.refresh(ada)


@pytest.mark.parametrize(
    "key",
    [(), ("red",), ("red", "ada", "x"), ("red", 1), (b"red", "ada"), (None, "ada"), ("red", "\ud800")],
    ids=repr,
)
async def test_a_wrong_key_is_refused(db: kv.Database, key: tuple[object, ...]) -> None:
    """Arity, type and lone surrogates, on every call that takes a key."""
    objects = User.objects
    for attempt in (objects.get, objects.find, objects.exists, objects.delete, objects.update):
        with pytest.raises(kv.ValidationError):
            await attempt(*key)
    with pytest.raises(kv.ValidationError):
        await objects.get_many([key])


async def test_a_key_over_the_limit_says_what_remains(db: kv.Database) -> None:
    """On a store with a limit, the message counts the bytes that namespace and table leave."""
    if db.capabilities.max_key_bytes is None:
        pytest.skip("this store has no limit on keys")

    with pytest.raises(kv.ValidationError, match=r"\d+") as caught:
        await User.objects.create(User("red", "x" * 600))

    assert caught.value.table == "users"
    assert await User.objects.range("red") == []


@pytest.mark.parametrize("value", ["12", 1.0, True, None], ids=repr)
async def test_a_wrong_value_is_refused_before_anything_is_written(db: kv.Database, value: object) -> None:
    """What could not be read back is not written; the error names the field."""
    with pytest.raises(kv.ValidationError) as caught:
        await User.objects.create(User("red", "ada", age=value))  # type: ignore[arg-type]

    assert caught.value.field == "age"
    assert await User.objects.find("red", "ada") is None


async def test_objects_of_another_model_are_refused(db: kv.Database) -> None:
    """A repository keeps its own model's objects only."""
    with pytest.raises(kv.ValidationError):
        await User.objects.save(Counter("a"))  # type: ignore[arg-type]
    with pytest.raises(kv.ValidationError):
        await User.objects.delete(Counter("a"))
    with pytest.raises(kv.BatchError):
        await User.objects.save_many([Counter("a")])  # type: ignore[list-item]


# --- expiry -----------------------------------------------------------------------------------------------------------


async def test_expired_records_are_invisible_everywhere(db: kv.Database, clock: Clock) -> None:
    """At the deadline a record is gone from every kind of read at once."""
    await User.objects.create(User("red", "ada"), expires_in=timedelta(seconds=10))
    await User.objects.create(User("red", "bob"))
    clock.advance(9.999999)
    assert await User.objects.exists("red", "ada")
    clock.advance(0.000001)

    assert await User.objects.find("red", "ada") is None
    assert not await User.objects.exists("red", "ada")
    assert await User.objects.get_many([("red", "ada")]) == [None]
    assert [user.name for user in await User.objects.range("red")] == ["bob"]
    assert await User.objects.range("red").count() == 1
    assert [user.name async for user in User.objects.scan()] == ["bob"]
    assert [user.name for user in await User.objects.range("red", limit=1)] == ["bob"]
    with pytest.raises(kv.NotFound):
        await User.objects.update("red", "ada", age=1)
    assert await User.objects.delete("red", "ada") is False
    await User.objects.create(User("red", "ada", age=2))
    assert (await User.objects.get("red", "ada")).age == 2


async def test_a_model_may_set_a_default(db: kv.Database, clock: Clock) -> None:
    """New objects take the model's deadline, unless told otherwise."""
    await Session.objects.create(Session("a"))
    await Session.objects.create(Session("b"), expires_in=None)
    await Session.objects.save_many([Session("c")])
    clock.advance(3600)

    assert [session and session.token for session in await Session.objects.get_many("abc")] == [None, "b", None]


async def test_a_loaded_object_keeps_its_deadline(db: kv.Database, clock: Clock) -> None:
    """save, update and commit leave the deadline alone, unless told otherwise."""
    await User.objects.create(User("red", "ada"), expires_in=timedelta(seconds=100))
    ada = await User.objects.get("red", "ada")
    until = kv.expires_at(ada)
    assert until == datetime.fromtimestamp(clock.micros / 1e6 + 100, UTC)

    clock.advance(50)
    await User.objects.save(ada)
    ada = await User.objects.update("red", "ada", age=1)
    async with db.unit_of_work():
        (await User.objects.get("red", "ada")).age = 2
    assert kv.expires_at(await User.objects.get("red", "ada")) == until

    ada = await User.objects.get("red", "ada")
    await User.objects.save(ada, expires_at=None)
    assert kv.expires_at(await User.objects.get("red", "ada")) is None


async def test_expire_changes_the_deadline_alone(db: kv.Database, clock: Clock) -> None:
    """The values stay; None takes the deadline away."""
    await User.objects.create(User("red", "ada", age=5))

    await User.objects.expire("red", "ada", expires_in=timedelta(seconds=10))
    assert (await User.objects.get("red", "ada")).age == 5
    await User.objects.expire("red", "ada", expires_at=None)
    clock.advance(11)
    assert await User.objects.exists("red", "ada")
    with pytest.raises(kv.NotFound):
        await User.objects.expire("red", "bob", expires_in=timedelta(seconds=10))
    with pytest.raises(kv.ValidationError):
        await User.objects.expire("red", "ada")


async def test_deadlines_that_make_no_sense_are_refused(db: kv.Database, clock: Clock) -> None:
    """Past, naive, doubled or of the wrong type: refused, and nothing is written."""
    past = datetime.fromtimestamp(clock.micros / 1e6 - 1, UTC)
    for options in (
        {"expires_in": timedelta(0)},
        {"expires_in": timedelta(seconds=-1)},
        {"expires_in": 10},
        {"expires_at": past},
        {"expires_at": datetime(2100, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"expires_at": "2100-01-01"},
        {"expires_in": timedelta(seconds=1), "expires_at": None},
    ):
        with pytest.raises(kv.ValidationError):
            await User.objects.create(User("red", "ada"), **options)

    assert await User.objects.find("red", "ada") is None


async def test_purge_removes_the_expired_only(db: kv.Database, clock: Clock) -> None:
    """purge_expired answers how many records it removed, of all models that are kept here."""
    await User.objects.save_many([User("red", str(n)) for n in range(20)])
    for n in range(0, 20, 2):
        await User.objects.expire("red", str(n), expires_in=timedelta(seconds=1))
    await Session.objects.create(Session("t"))
    clock.advance(2)

    assert await db.purge_expired() == 10
    assert await db.purge_expired() == 0
    clock.advance(4000)
    assert await db.purge_expired(User) == 0
    assert await db.purge_expired(Session) == 1
    assert await User.objects.range("red").count() == 10


# --- save_many --------------------------------------------------------------------------------------------------------


async def test_save_many_takes_any_iterable(db: kv.Database) -> None:
    """Lists, generators, async generators, of more than one batch; the number comes back."""

    async def stream() -> AsyncIterator[User]:
        for n in range(2500):
            yield User("blue", f"{n:05}")

    assert await User.objects.save_many(User("red", f"{n:05}") for n in range(2500)) == 2500
    assert await User.objects.save_many(stream()) == 2500
    assert await User.objects.save_many([]) == 0
    assert await User.objects.range("red").count() == await User.objects.range("blue").count() == 2500


async def test_save_many_makes_objects_loaded(db: kv.Database) -> None:
    """Afterwards each object can be saved again, checked."""
    users = [User("red", "ada"), User("red", "bob")]
    await User.objects.save_many(users)
    users[0].age = 1
    await User.objects.save_many(users)
    await User.objects.update("red", "ada", age=2)

    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(users)

    assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.CONFLICT, kv.Status.WRITTEN]


async def test_save_many_stops_at_the_first_failing_batch(db: kv.Database) -> None:
    """outcomes are those of the batch, done counts all, remaining can be sent again."""
    stale = await User.objects.create(User("red", "01500"))
    await User.objects.update("red", "01500", age=1)
    users = [stale if n == 1500 else User("red", f"{n:05}") for n in range(3000)]

    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(users)

    error = caught.value
    assert error.done == 1999
    assert len(error.outcomes) == 1000
    remaining = list(error.remaining)  # type: ignore[arg-type]
    assert len(remaining) == 1001
    assert remaining[0] is stale
    assert await User.objects.range("red").count() == 2000


async def test_save_many_of_an_invalid_object_sends_nothing_of_its_batch(db: kv.Database) -> None:
    """A field that can't be stored is found before the batch is sent."""
    users = [User("red", "ada"), User("red", "bob", age="old")]  # type: ignore[arg-type]

    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(users)

    assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.UNSENT, kv.Status.FAILED]
    assert isinstance(caught.value.outcomes[1].error, kv.ValidationError)
    assert caught.value.done == 0
    assert await User.objects.range("red") == []


async def test_the_last_of_two_objects_with_one_key_wins(db: kv.Database) -> None:
    """One write takes one mutation a key: a repetition goes out behind the first."""
    assert await User.objects.save_many([User("red", "a", age=n) for n in range(3)]) == 3

    assert (await User.objects.get("red", "a")).age == 2


# --- batch ------------------------------------------------------------------------------------------------------------


async def test_a_batch_sends_at_its_end(db: kv.Database) -> None:
    """add, put and delete go out together; an exception sends nothing."""
    bob = await User.objects.create(User("red", "bob"))

    async with db.batch() as batch:
        batch.add(User("red", "ada"))
        batch.put(Counter("n", 1))
        batch.delete(bob)
        assert await User.objects.find("red", "ada") is None
    with pytest.raises(ZeroDivisionError):
        async with db.batch() as batch:
            batch.add(User("red", "eve"))
            _ = 1 / 0

    assert [user.name for user in await User.objects.range("red")] == ["ada"]
    assert (await Counter.objects.get("n")).value == 1


async def test_a_batch_tells_what_failed(db: kv.Database) -> None:
    """Failures are outcomes; the other writes are done."""
    await User.objects.create(User("red", "ada"))

    with pytest.raises(kv.BatchError) as caught:
        async with db.batch() as batch:
            batch.add(User("red", "ada"), User("red", "bob"))

    assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.CONFLICT, kv.Status.WRITTEN]
    assert caught.value.done == 1
    assert await User.objects.exists("red", "bob")


async def test_frozen_objects_are_saved_too(db: kv.Database) -> None:
    """State does not need a mutable class."""
    one = await Fixed.objects.create(Fixed("a", 1))
    await Fixed.objects.save(kv.replace(one, value=2))

    with pytest.raises(kv.Conflict):
        await Fixed.objects.save(kv.replace(one, value=3))

    assert (await Fixed.objects.get("a")).value == 2
