"""Ranges: bounds, limits, streams, pages, and what they cost."""

from __future__ import annotations

import asyncio
import base64
import os
from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from tests.mapper.models import Score, User


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
    await Reading.objects.save_many(attrs.evolve(row) for row in reversed(ROWS))
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
