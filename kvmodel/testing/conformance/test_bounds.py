"""Ranges: every bound means what it says, in every combination, to every way of asking."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, Log, Reading, fits, gather_all, names, refused

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_requires("ordered")]

_KINDS = ("a", "ab", "b", "ba", "c")
_TIMES = (3, 2, 1)
_ALL = [(kind, at) for kind in _KINDS for at in _TIMES]
"""In clustering order: times count downwards."""

_LOWER: dict[str, tuple[dict[str, Any], Callable[[tuple[str, int]], bool]]] = {
    "none": ({}, lambda key: True),
    "first": ({"first": "ab"}, lambda key: key[0] >= "ab"),
    "first between": ({"first": "aa"}, lambda key: key[0] >= "aa"),
    "first whole": ({"first": ("ab", 2)}, lambda key: key[0] > "ab" or (key[0] == "ab" and key[1] <= 2)),
    "after": ({"after": "ab"}, lambda key: key[0] > "ab"),
    "after whole": ({"after": ("ab", 2)}, lambda key: key[0] > "ab" or (key[0] == "ab" and key[1] < 2)),
}
_UPPER: dict[str, tuple[dict[str, Any], Callable[[tuple[str, int]], bool]]] = {
    "none": ({}, lambda key: True),
    "last": ({"last": "b"}, lambda key: key[0] <= "b"),
    "last whole": ({"last": ("b", 2)}, lambda key: key[0] < "b" or (key[0] == "b" and key[1] >= 2)),
    "before": ({"before": "b"}, lambda key: key[0] < "b"),
    "before whole": ({"before": ("b", 2)}, lambda key: key[0] < "b" or (key[0] == "b" and key[1] > 2)),
}
_PREFIX: dict[str, tuple[dict[str, Any], Callable[[tuple[str, int]], bool]]] = {
    "none": ({}, lambda key: True),
    "start": ({"prefix": "a"}, lambda key: key[0].startswith("a")),
    "component": ({"prefix": ("ab",)}, lambda key: key[0] == "ab"),
    "starts": ({"prefix": (kv.starts("b"),)}, lambda key: key[0].startswith("b")),
    "whole": ({"prefix": ("b", 3)}, lambda key: key == ("b", 3)),
    "nothing": ({"prefix": "x"}, lambda key: False),
}


async def _store(db: kv.Database) -> None:
    keys = [("s", *key) for key in _ALL] + [("r", "zz", 9), ("t", "a", 1), (_least(db), "b", 2)]
    await Reading.objects.using(db).save_many([Reading(*key) for key in reversed(keys)])


def _least(db: kv.Database) -> str:
    """Answer the least name that a partition can have."""
    return "" if db.capabilities.empty_texts else "\0"


def _keys(readings: list[Reading]) -> list[tuple[str, int]]:
    return [(reading.kind, reading.at) for reading in readings]


@pytest.mark.parametrize(("lower", "upper"), list(itertools.product(_LOWER, _UPPER)))
async def test_bounds(kv_db: kv.Database, lower: str, upper: str) -> None:
    """Lower end, upper end and prefix narrow a range together; limits count from the end that is read first."""
    await _store(kv_db)
    directions = (False, True) if kv_db.capabilities.reverse is kv.Reverse.NATIVE else (False,)

    for prefix, reverse, limit in itertools.product(_PREFIX, directions, (None, 0, 1, 4, 100)):
        bounds = _LOWER[lower][0] | _UPPER[upper][0] | _PREFIX[prefix][0]
        lets_in = (_LOWER[lower][1], _UPPER[upper][1], _PREFIX[prefix][1])
        expected = [key for key in _ALL if all(each(key) for each in lets_in)]
        expected = expected[::-1] if reverse else expected
        expected = expected[:limit]

        query = Reading.objects.using(kv_db).range("s", **bounds, limit=limit, reverse=reverse)

        assert _keys(await query) == expected, (bounds, reverse, limit)


async def test_every_way_of_asking_gives_the_same(kv_db: kv.Database) -> None:
    """A list, a stream, first, count and pages are one answer."""
    await _store(kv_db)
    query = Reading.objects.using(kv_db).range("s", after=("a", 2), before="ba")
    expected = _ALL[2:9]

    assert _keys(await query) == expected
    assert _keys(await gather_all(query)) == expected
    first = await query.first()
    assert first is not None
    assert _keys([first]) == expected[:1]
    assert await query.count() == len(expected)
    assert _keys((await query.page(3)).items) == expected[:3]


async def test_a_range_keeps_to_its_partition(kv_db: kv.Database) -> None:
    """Neighbouring partitions, the empty one included, are out of reach of every bound."""
    await _store(kv_db)
    objects = Reading.objects.using(kv_db)

    assert _keys(await objects.range("r", first="a")) == [("zz", 9)]
    assert _keys(await objects.range("t", last="zz")) == [("a", 1)]
    assert _keys(await objects.range(_least(kv_db), after="a")) == [("b", 2)]
    assert await objects.range("q") == []


async def test_a_model_without_partition_fields_is_one_partition(kv_db: kv.Database) -> None:
    """``range()`` takes no partition there, and reads everything in order."""
    objects = Log.objects.using(kv_db)
    await objects.save_many([Log(number) for number in (5, -1, 300, 0)])

    assert [log.number for log in await objects.range()] == [-1, 0, 5, 300]
    assert [log.number for log in await objects.range(after=-1, limit=2)] == [0, 5]


@pytest.mark.parametrize("bound", ["", "\0", "a\0", "\U0010ffff", "x" * 2000])
async def test_a_bound_need_not_be_a_key(kv_db: kv.Database, bound: str) -> None:
    """Bounds may hold what no record holds, be it longer than a key can be."""
    objects = Item.objects.using(kv_db)
    stored = [name for name in (_least(kv_db), "a", "a\0", "xx", "xy") if fits(kv_db, name)]
    await objects.save_many([Item("s", name) for name in stored])

    assert names(await objects.range("s", first=bound)) == [name for name in stored if name >= bound]
    assert names(await objects.range("s", before=bound)) == [name for name in stored if name < bound]


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_limit_costs_what_it_says(kv_db: kv.Database, reverse: bool) -> None:
    """A range with a limit reads no more records than that: in one exchange, unless ``explain()`` says otherwise."""
    if reverse and kv_db.capabilities.reverse is not kv.Reverse.NATIVE:
        pytest.skip("this store lacks the capability reverse=NATIVE")
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", f"{number:03}") for number in range(200)])

    plan = objects.range("s", limit=2, reverse=reverse).explain()
    assert plan.round_trips == 1 or len(plan.steps) > 1
    assert plan.keys == 2
    with kv.budget(round_trips=plan.round_trips, keys=plan.keys):
        found = await objects.range("s", limit=2, reverse=reverse)

    assert names(found) == (["199", "198"] if reverse else ["000", "001"])


async def test_delete_removes_the_slice_alone(kv_db: kv.Database) -> None:
    """``Range.delete`` answers how many records it removed; their neighbours stay."""
    await _store(kv_db)
    objects = Reading.objects.using(kv_db)

    assert await objects.range("s", first="ab", before="c", limit=4).delete() == 4
    assert await objects.range("s", prefix="b").delete() == 5

    assert _keys(await objects.range("s")) == [("a", 3), ("a", 2), ("a", 1), ("c", 3), ("c", 2), ("c", 1)]
    assert await objects.range("t").count() == 1


# --- denied -----------------------------------------------------------------------------------------------------------


@pytest.mark.kv_denied(reverse=kv.Reverse.NATIVE)
async def test_reading_backwards_is_refused(kv_db: kv.Database) -> None:
    """Where it can't be had, or would cost the whole slice and that was not allowed, nothing is sent."""
    await _store(kv_db)
    query = Reading.objects.using(kv_db).range("s", limit=1, reverse=True)

    with refused():
        await query
    with refused():
        await gather_all(query)
    with refused():
        await query.first()
    with refused():
        await Reading.objects.using(kv_db).range("s", reverse=True).page(1)


@pytest.mark.kv_requires(reverse=kv.Reverse.COSTLY)
async def test_reading_backwards_at_a_price(kv_db: kv.Database) -> None:
    """``allow_costly`` gives the same as a store that reads backwards by itself."""
    await _store(kv_db)
    objects = Reading.objects.using(kv_db)

    found = await objects.range("s", first="b", limit=4, reverse=True, allow_costly=True)

    assert _keys(found) == [("c", 1), ("c", 2), ("c", 3), ("ba", 1)]


@pytest.mark.kv_requires(reverse=kv.Reverse.NONE)
async def test_no_price_buys_what_cannot_be_had(kv_db: kv.Database) -> None:
    """``allow_costly`` is no promise."""
    await _store(kv_db)

    with refused():
        await Reading.objects.using(kv_db).range("s", reverse=True, allow_costly=True)
