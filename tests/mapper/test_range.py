"""Ranges: bounds, limits, streams, pages, and what they cost."""

from __future__ import annotations

import asyncio
import base64
import os
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from tests.mapper.models import Clock, Score, User


class Reading(kv.Model, table="readings"):
    station: str = kv.partition_key()
    kind: str = kv.clustering_key()
    at: int = kv.clustering_key(descending=True)
    value: Decimal = Decimal(0)


ROWS = [Reading("s", kind, at) for kind in ("a", "ab", "b", "ba", "c") for at in (3, 2, 1)]


def _ids(rows: list[Reading]) -> list[str]:
    return [f"{row.kind}{row.at}" for row in rows]


@pytest.fixture
async def rows(db: kv.Database) -> list[Reading]:
    await Reading.objects.save_many(Reading(row.station, row.kind, row.at) for row in reversed(ROWS))
    await Reading.objects.save_many([Reading("r", "z", 1), Reading("t", "a", 1)])
    return ROWS


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, "a3 a2 a1 ab3 ab2 ab1 b3 b2 b1 ba3 ba2 ba1 c3 c2 c1"),
        ({"first": "b"}, "b3 b2 b1 ba3 ba2 ba1 c3 c2 c1"),
        ({"after": "b"}, "ba3 ba2 ba1 c3 c2 c1"),
        ({"last": "ab"}, "a3 a2 a1 ab3 ab2 ab1"),
        ({"before": "ab"}, "a3 a2 a1"),
        ({"first": ("b", 2)}, "b2 b1 ba3 ba2 ba1 c3 c2 c1"),
        ({"after": ("b", 2)}, "b1 ba3 ba2 ba1 c3 c2 c1"),
        ({"first": ("ab", 2), "before": ("b", 1)}, "ab2 ab1 b3 b2"),
        ({"after": ("ab", 2), "last": ("b", 2)}, "ab1 b3 b2"),
        ({"first": ("b",), "last": ("b",)}, "b3 b2 b1"),
        ({"prefix": "b"}, "b3 b2 b1 ba3 ba2 ba1"),
        ({"prefix": ("b",)}, "b3 b2 b1"),
        ({"prefix": ("b", 2)}, "b2"),
        ({"prefix": (kv.starts("a"),)}, "a3 a2 a1 ab3 ab2 ab1"),
        ({"prefix": "b", "after": "b"}, "ba3 ba2 ba1"),
        ({"prefix": "b", "limit": 2}, "b3 b2"),
        ({"prefix": "b", "limit": 2, "reverse": True}, "ba1 ba2"),
        ({"reverse": True, "limit": 4}, "c1 c2 c3 ba1"),
        ({"first": "b", "reverse": True, "limit": 100}, "c1 c2 c3 ba1 ba2 ba3 b1 b2 b3"),
        ({"first": "c", "last": "a"}, ""),
        ({"limit": 0}, ""),
        ({"prefix": "x"}, ""),
        ({"prefix": ()}, "a3 a2 a1 ab3 ab2 ab1 b3 b2 b1 ba3 ba2 ba1 c3 c2 c1"),
    ],
    ids=str,
)
async def test_bounds(bounds: dict[str, object], expected: str) -> None:
    """Each bound means the same to a list, a stream, first, count and pages."""
    query = Reading.objects.range("s", **bounds)  # type: ignore[arg-type]

    assert " ".join(_ids(await query)) == expected
    assert " ".join(_ids([row async for row in query])) == expected
    first = await query.first()
    assert ([] if first is None else _ids([first])) == expected.split()[:1]
    assert await query.count() == len(expected.split())
    if "limit" not in bounds:
        paged, token = [], None
        while True:
            page = await query.page(2, token)
            paged += _ids(page.items)
            token = page.next_token
            if token is None:
                break
        assert " ".join(paged) == expected


@pytest.mark.parametrize(
    "bounds",
    [
        {"first": "a", "after": "a"},
        {"last": "a", "before": "a"},
        {"limit": -1},
        {"limit": True},
        {"limit": 1.5},
        {"first": 1},
        {"first": ("a", "b")},
        {"first": ("a", 1, 2)},
        {"prefix": ("a", 1, 2)},
        {"prefix": b"a"},
        {"prefix": 7},
        {"prefix": ("a", kv.starts("b"))},
        {"prefix": ("a", 1, kv.starts("b"))},
    ],
    ids=str,
)
def test_bad_bounds_are_refused_when_the_range_is_made(bounds: dict[str, object]) -> None:
    """Before there is a database, let alone a request."""
    with pytest.raises(kv.ValidationError):
        Reading.objects.range("s", **bounds)  # type: ignore[arg-type]


@pytest.mark.parametrize("partition", [(), ("a", "b"), (1,), (None,)], ids=repr)
def test_a_wrong_partition_is_refused(partition: tuple[object, ...]) -> None:
    """Arity and types of the partition fields."""
    with pytest.raises(kv.ValidationError):
        Reading.objects.range(*partition)


async def test_a_descending_key_counts_downwards(db: kv.Database) -> None:
    """first and last speak of clustering order as declared."""
    await Score.objects.save_many([Score("g", points, "x") for points in range(10)])

    assert [s.points for s in await Score.objects.range("g", limit=3)] == [9, 8, 7]
    assert [s.points for s in await Score.objects.range("g", first=5, last=3)] == [5, 4, 3]
    assert [s.points for s in await Score.objects.range("g", after=2, reverse=True)] == [0, 1]


async def test_a_stream_sees_each_record_once_while_others_write(db: kv.Database) -> None:
    """Records that come in behind the reader are seen, none comes twice."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(300)])
    seen = []

    async for user in User.objects.range("red"):
        seen.append(user.name)
        if user.name == "0010":
            await User.objects.create(User("red", "0000a"))
            await User.objects.delete("red", "0250")

    assert len(seen) == len(set(seen)) == 299
    assert seen == sorted(seen)


async def test_a_stream_lets_other_tasks_run(db: kv.Database) -> None:
    """Reading a long range does not freeze the event loop."""
    await User.objects.save_many([User("red", f"{n:05}") for n in range(3000)])
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    async for _ in User.objects.range("red"):
        pass
    other.cancel()

    assert turns >= 3


async def test_a_stream_can_be_left_early_and_a_range_asked_twice(db: kv.Database) -> None:
    """A range is a question, not an answer."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(200)])
    query = User.objects.range("red")

    async for user in query:
        if user.name == "0003":
            break
    await User.objects.delete("red", "0000")

    assert len(await query) == len(await query) == 199


async def test_scan_reads_every_partition(db: kv.Database) -> None:
    """The whole table, with a limit of its own."""
    await User.objects.save_many([User(f"t{n % 7}", f"{n:04}") for n in range(500)])

    assert {user.name async for user in User.objects.scan()} == {f"{n:04}" for n in range(500)}
    assert len(await User.objects.scan(limit=123)) == 123
    assert await User.objects.scan().count() == 500
    with pytest.raises(kv.ValidationError):
        User.objects.scan(limit=-1)


async def test_delete_removes_the_slice_only(db: kv.Database) -> None:
    """Range.delete answers how many it removed, and leaves what is outside."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(2500)])
    await User.objects.create(User("blue", "0001"))

    assert await User.objects.range("red", first="0100", before="2400").delete() == 2300
    assert await User.objects.range("red", limit=50).delete() == 50
    assert await User.objects.scan().count() == 151


async def test_limit_costs_what_it_says(db: kv.Database) -> None:
    """limit=2 costs one round trip and two records, and explain says so beforehand."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(100)])
    query = User.objects.range("red", limit=2)

    plan = query.explain()
    assert (plan.round_trips, plan.keys) == (1, 2)
    assert "users" in str(plan)
    with kv.budget(round_trips=1, keys=2):
        assert len(await query) == 2


# --- page tokens ------------------------------------------------------------------------------------------------------


async def test_a_token_belongs_to_its_query(db: kv.Database) -> None:
    """Another partition, bound, direction, table or namespace refuses it."""
    await User.objects.save_many([User(team, f"{n}") for team in ("red", "blue") for n in range(9)])
    token = (await User.objects.range("red").page(2)).next_token
    assert token is not None

    for other in (
        User.objects.range("blue"),
        User.objects.range("red", first="0"),
        User.objects.range("red", reverse=True),
        Reading.objects.range("red"),
    ):
        with pytest.raises(kv.ValidationError):
            await other.page(2, token)
    assert [user.name for user in (await User.objects.range("red").page(2, token)).items] == ["2", "3"]


async def test_damaged_tokens_are_refused(db: kv.Database) -> None:
    """Anything but a token of this query is a ValidationError."""
    await User.objects.save_many([User("red", f"{n}") for n in range(9)])
    token = (await User.objects.range("red").page(2)).next_token
    assert token is not None

    for bad in ("", "?", "ä", "AAAA", token[:-4], token + "AAAA", "A" * 100_000, "x" + token[1:]):
        with pytest.raises(kv.ValidationError):
            await User.objects.range("red").page(2, bad)


async def test_a_forged_position_reaches_nothing_new(db: kv.Database) -> None:
    """The query's own bounds apply again to whatever position a token claims."""
    await User.objects.save_many([User(team, f"{n}") for team in ("a", "red", "z") for n in range(9)])
    query = User.objects.range("red", first="5")
    token = (await query.page(2)).next_token
    assert token is not None
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

    for place in ("0", "4", "9"):
        forged = data.replace(b"6", place.encode())
        page = await query.page(9, base64.urlsafe_b64encode(forged).rstrip(b"=").decode())
        assert all(user.team == "red" and user.name >= "5" for user in page.items)


@given(st.binary(max_size=60))
async def test_random_tokens_are_refused(data: bytes) -> None:
    """No bytes in place of a token raise anything but ValidationError."""
    async with kv.connect("memory://"):
        with pytest.raises(kv.ValidationError):
            await User.objects.using(await _none()).range("red").page(2, base64.urlsafe_b64encode(data).decode())


async def _none() -> kv.Database:
    from kvmodel._ambient import open_databases

    return open_databases.only()


async def test_a_sealed_token_shows_nothing(url: str) -> None:
    """With token_key the last key can't be read from the token, and another key's tokens are refused."""
    pytest.importorskip("cryptography")
    key = os.urandom(32)
    async with kv.connect(url, token_key=key) as db:
        await User.objects.save_many([User("red", f"secret{n}") for n in range(9)])
        query = User.objects.using(db).range("red")
        token = (await query.page(2)).next_token
        assert token is not None
        assert b"secret" not in base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert [user.name for user in (await query.page(2, token)).items] == ["secret2", "secret3"]
    async with kv.connect(url, token_key=os.urandom(32)) as db:
        with pytest.raises(kv.ValidationError):
            await User.objects.using(db).range("red").page(2, token)


async def test_pages_and_limits(db: kv.Database) -> None:
    """A page's size is 1 or more; a range with a limit of its own has no pages."""
    for size in (0, -1, True, 1.5):
        with pytest.raises(kv.ValidationError):
            await User.objects.range("red").page(size)  # type: ignore[arg-type]
    with pytest.raises(kv.ValidationError):
        await User.objects.range("red", limit=5).page(2)


async def test_a_token_belongs_to_its_namespace(url: str) -> None:
    """The same question of another tenant is another query; the same view gives the same tokens."""
    async with kv.connect(url) as db:
        views = [db, db.namespace("t1"), db.namespace("t2")]
        for view in views:
            await User.objects.using(view).save_many([User("red", f"{n}") for n in range(9)])
        token = (await User.objects.using(views[1]).range("red").page(2)).next_token

        for view in (views[0], views[2]):
            with pytest.raises(kv.ValidationError):
                await User.objects.using(view).range("red").page(2, token)
        page = await User.objects.using(db.namespace("t1")).range("red").page(2, token)
        assert [user.name for user in page.items] == ["2", "3"]


async def test_a_token_belongs_to_its_keys_direction() -> None:
    """A table whose clustering key was turned around is asked in another order: its old tokens are refused."""

    class Upwards(kv.Model, table="turned"):
        team: str = kv.partition_key()
        at: int = kv.clustering_key()

    class Downwards(kv.Model, table="turned"):
        team: str = kv.partition_key()
        at: int = kv.clustering_key(descending=True)

    async with kv.connect("memory://"):
        await Upwards.objects.save_many([Upwards("red", n) for n in range(9)])
        token = (await Upwards.objects.range("red").page(2)).next_token
    async with kv.connect("memory://"):
        await Downwards.objects.save_many([Downwards("red", n) for n in range(9)])
        with pytest.raises(kv.ValidationError):
            await Downwards.objects.range("red").page(2, token)


@given(st.binary(max_size=60))
async def test_random_positions_are_refused_or_harmless(data: bytes) -> None:
    """Behind the right digest, any bytes: a ValidationError, or records of this very query."""
    async with kv.connect("memory://") as db:
        objects = User.objects.using(db)
        await objects.save_many([User(team, f"{n}") for team in ("red", "s") for n in range(4)])
        query = objects.range("red", first="1")
        token = (await query.page(1)).next_token
        assert token is not None
        digest = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[:12]
        try:
            page = await query.page(9, base64.urlsafe_b64encode(digest + data).rstrip(b"=").decode())
        except kv.ValidationError:
            return
        assert all(user.team == "red" and user.name >= "1" for user in page.items)


async def test_pages_of_a_scan(db: kv.Database) -> None:
    """The whole table has pages too; a position is any key of it."""
    await User.objects.save_many([User(team, f"{n}") for team in "abc" for n in range(3)])
    seen, token = [], None
    while True:
        page = await User.objects.scan().page(2, token)
        seen += [(user.team, user.name) for user in page.items]
        token = page.next_token
        if token is None:
            break

    assert seen == [(team, f"{n}") for team in "abc" for n in range(3)]


async def test_the_last_page_is_known_to_be_the_last(db: kv.Database) -> None:
    """A page that holds exactly what is left has no token."""
    await User.objects.save_many([User("red", f"{n}") for n in range(4)])

    page = await User.objects.range("red").page(2)
    assert page.next_token is not None
    assert (await User.objects.range("red").page(2, page.next_token)).next_token is None
    assert (await User.objects.range("red").page(4)).next_token is None
    assert await User.objects.range("blue").page(4) == type(page)([], None)


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 64, 300])
async def test_explain_keeps_its_word(db: kv.Database, limit: int) -> None:
    """Where a plan names numbers, a budget of just those is enough; where pages decide, it names none."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(400)])
    query = User.objects.range("red", limit=limit)
    plan = query.explain()

    assert (plan.round_trips is None) == (limit > 64)
    assert len(plan.steps) == min(limit, 1)
    with kv.budget(round_trips=plan.round_trips, keys=plan.keys):
        assert len(await query) == limit


async def test_explain_in_words(db: kv.Database) -> None:
    """Each bound, the direction and the limit are named; in a unit, what is checked at commit."""
    bounded = User.objects.range("red", first="a", before="c", limit=5, reverse=True)
    words = str(bounded.explain())
    for word in ("users", "'red'", "from ('a',)", "before ('c',)", "descending", "at most 5"):
        assert word in words
    assert "prefix" in str(User.objects.range("red", prefix="a").explain())
    assert "after" in str(User.objects.range("red", after="a").explain())
    everything = User.objects.scan().explain()
    assert "all partitions" in str(everything)
    assert "as many as are found" in str(everything)
    assert (everything.round_trips, everything.keys) == (None, None)

    async with db.unit_of_work():
        assert "checked again at commit" in str(bounded.explain())
        assert "unchecked" in str(bounded.unchecked().explain())
        with pytest.raises(kv.Unsupported):
            User.objects.scan().explain()


async def test_a_range_shows_what_it_asks() -> None:
    """Its repr names the model and the bounds, without a database."""
    assert repr(User.objects.range("red", last="z")) == "<Range of User partition ('red',), to ('z',), ascending>"
    assert repr(User.objects) == "<Repository of User>"


@pytest.mark.parametrize("capabilities", [{"reverse": kv.Reverse.NONE}, {"ordered": False}, {"scan_table": False}])
async def test_what_a_store_cannot_answer_is_refused_before_anything_is_sent(capabilities: dict[str, object]) -> None:
    """By every way to ask, explain included; the message says what would do."""
    async with kv.connect("memory://", **capabilities) as db:
        query = User.objects.scan() if "scan_table" in capabilities else User.objects.range("red", reverse=True)
        await db.prepare(User)

        async def streamed() -> None:
            async for _ in query:
                pass

        with kv.budget(round_trips=0):
            for ask in (query._list, query.count, query.first, query.delete, lambda: query.page(1), streamed):
                with pytest.raises(kv.Unsupported):
                    await ask()
            with pytest.raises(kv.Unsupported):
                query.explain()


async def test_a_costly_direction_needs_to_be_asked_for() -> None:
    """allow_costly=True reads backwards where that reads everything; nothing else does."""
    async with kv.connect("memory://", reverse=kv.Reverse.COSTLY) as db:
        await User.objects.save_many([User("red", f"{n}") for n in range(3)])
        with pytest.raises(kv.Unsupported, match="allow_costly"):
            await User.objects.range("red", reverse=True)

        query = User.objects.range("red", reverse=True, allow_costly=True)
        assert [user.name for user in await query] == ["2", "1", "0"]
        first = await query.first()
        assert first is not None
        assert first.name == "2"
        async with db.unit_of_work():
            assert len(await query.unchecked()) == 3


def test_a_prefix_that_no_key_can_have_is_refused_when_the_range_is_made() -> None:
    """A lone surrogate is no text; kv.starts takes text or bytes."""
    for prefix in ("\ud800", kv.starts("a\udfff"), ("a", kv.starts("b"))):
        with pytest.raises(kv.ValidationError):
            User.objects.range("red", prefix=prefix)
    with pytest.raises(kv.ValidationError):
        kv.starts(1)  # type: ignore[arg-type]


async def test_a_lone_tuple_is_one_component(db: kv.Database) -> None:
    """Where the first component is itself a tuple, a tuple of tuples is needed to bound by more."""

    class Place(kv.Model, table="places"):
        path: tuple[str, ...] = kv.clustering_key()

    await Place.objects.save_many([Place(path) for path in ((), ("a",), ("a", "b"), ("c",))])

    assert [place.path for place in await Place.objects.range(first=("a",))] == [("a",), ("a", "b"), ("c",)]
    assert [place.path for place in await Place.objects.range(after=(("a",),))] == [("a", "b"), ("c",)]
    found = await Place.objects.get_many([("a",), (("c",),), ()])
    assert [place and place.path for place in found] == [("a",), ("c",), ()]


async def test_a_limit_of_zero_asks_nothing(db: kv.Database) -> None:
    """No request is needed to know the answer."""
    await db.prepare(User)
    query = User.objects.range("red", limit=0)

    with kv.budget(round_trips=0):
        assert await query == []
        assert await query.first() is None
        assert await query.count() == 0
        assert [user async for user in query] == []
        async with db.unit_of_work():
            assert await query == []


async def test_expired_rows_do_not_end_a_stream(db: kv.Database, clock: Clock) -> None:
    """Pages of nothing but expired records are passed over, by streams, lists, counts and deletions."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(650, 700)])
    async with db.unit_of_work():
        for n in range(650):
            await User.objects.create(User("red", f"{n:04}"), expires_in=timedelta(seconds=1))
    clock.advance(2)

    assert len([user async for user in User.objects.range("red", limit=10)]) == 10
    assert [user.name for user in await User.objects.range("red", limit=2)] == ["0650", "0651"]
    assert await User.objects.range("red").count() == 50
    assert await User.objects.range("red", limit=20).delete() == 20
    assert await User.objects.range("red").delete() == 30


async def test_a_position_in_another_partition_is_refused(db: kv.Database) -> None:
    """Forged behind the right digest, it is no position of this query."""
    await User.objects.save_many([User(team, f"{n}") for team in ("red", "rex") for n in range(4)])
    token = (await User.objects.range("red").page(1)).next_token
    assert token is not None
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    forged = base64.urlsafe_b64encode(data[:12] + data[12:].replace(b"red", b"rex")).rstrip(b"=").decode()

    with pytest.raises(kv.ValidationError, match="not one of this query"):
        await User.objects.range("red").page(1, forged)
