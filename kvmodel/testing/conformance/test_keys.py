"""Keys: every type of component comes back as it was, and orders records as its values are ordered."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.keyed import CASES, ByDatetime, ByDecimal, ByFloat, ByInt, ByStr, Case
from kvmodel.testing.conformance.models import Bare, Item, Log, fits, refused

pytestmark = pytest.mark.asyncio

every_case = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


def _storable(db: kv.Database, case: Case) -> tuple[Any, ...]:
    """Answer the values that the store takes."""
    return tuple(part for part in case.ordered if (part != "" or db.capabilities.empty_texts) and fits(db, part))


async def _store(db: kv.Database, model: type[Any], parts: tuple[Any, ...]) -> None:
    """Store one record for each part, in an order of no meaning."""
    shuffled = random.Random(7).sample(parts, len(parts))  # noqa: S311 - repeatable on purpose
    await model.objects.using(db).save_many([model("s", part) for part in shuffled])


@every_case
async def test_a_key_comes_back_as_it_was(kv_db: kv.Database, case: Case) -> None:
    """A record is found under its key alone, and its key has the value and the type that it was stored with."""
    ordered = _storable(kv_db, case)
    await _store(kv_db, case.up, ordered)

    for part in ordered:
        found = await case.up.objects.using(kv_db).get("s", part)
        assert found.part == part
        assert type(found.part) is type(part)


@every_case
@pytest.mark.kv_requires("ordered")
async def test_records_are_in_the_order_of_values(kv_db: kv.Database, case: Case) -> None:
    """The order of a partition is the order of Python's values, whatever their encodings look like."""
    ordered = _storable(kv_db, case)
    await _store(kv_db, case.up, ordered)

    found = await case.up.objects.using(kv_db).range("s")

    assert [each.part for each in found] == list(ordered)


@every_case
@pytest.mark.kv_requires("ordered")
async def test_a_descending_key_turns_the_order(kv_db: kv.Database, case: Case) -> None:
    """The largest value comes first, and bounds count downwards. Where keys are text, some types are refused."""
    try:
        await kv_db.prepare(case.down)
    except kv.SchemaError as error:
        if "keeps keys as text" not in error.message:
            raise
        pytest.skip("this store keeps keys as text, which can't turn this type round")
    ordered = _storable(kv_db, case)
    await _store(kv_db, case.down, ordered)
    downwards = list(ordered[::-1])
    objects = case.down.objects.using(kv_db)

    assert [each.part for each in await objects.range("s")] == downwards
    middle = len(downwards) // 2
    if not isinstance(downwards[middle], tuple):
        assert [each.part for each in await objects.range("s", first=downwards[middle])] == downwards[middle:]
        assert [each.part for each in await objects.range("s", before=downwards[middle])] == downwards[:middle]


@every_case
@pytest.mark.kv_requires("ordered")
async def test_every_value_is_a_bound(kv_db: kv.Database, case: Case) -> None:
    """A bound stands exactly at its value: between it and its neighbours nothing is lost or added."""
    ordered = _storable(kv_db, case)
    await _store(kv_db, case.up, ordered)
    objects, parts = case.up.objects.using(kv_db), list(ordered)

    for place, part in enumerate(parts):
        bound = (part,) if isinstance(part, tuple) else part
        assert [each.part for each in await objects.range("s", first=bound, limit=2)] == parts[place : place + 2]
        assert [each.part for each in await objects.range("s", after=bound, limit=1)] == parts[place + 1 : place + 2]
        assert await objects.range("s", before=bound).count() == place
        assert await objects.range("s", last=bound).count() == place + 1


@pytest.mark.kv_requires("ordered")
async def test_no_component_reaches_into_its_neighbour(kv_db: kv.Database) -> None:
    """Partitions and names that share their characters differently are different, and stay apart."""
    objects = Item.objects.using(kv_db)
    keys = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc", ""),
        ("", "abc"),
        ("a\0", "bc"),
        ("a", "\0bc"),
        ("a\0\xff", "b"),
        ("a", "b/c"),
    ]
    if not kv_db.capabilities.empty_texts:
        keys = [key for key in keys if all(key)]
    keys = [key for key in keys if all(fits(kv_db, part) for part in key)]
    await objects.save_many([Item(*key, count=place) for place, key in enumerate(keys)])

    for place, key in enumerate(keys):
        assert (await objects.get(*key)).count == place
    beside = [name for shelf, name in keys if shelf == "a"]
    assert [item.name for item in await objects.range("a")] == sorted(beside)
    assert [item.name for item in await objects.range("ab")] == ["c"]
    if kv_db.capabilities.empty_texts:
        assert [item.name for item in await objects.range("")] == ["abc"]


@every_case
@pytest.mark.kv_requires("typed_columns")
async def test_what_no_column_holds_is_refused(kv_db: kv.Database, case: Case) -> None:
    """Never cut or rounded, but before anything is sent, by every call that takes a key. As a bound it is itself."""
    objects = case.up.objects.using(kv_db)
    ordered = _storable(kv_db, case)
    await _store(kv_db, case.up, ordered)

    for part in case.ordered:
        if part in ordered:
            continue
        with refused(kv.ValidationError):
            await objects.save(case.up("s", part))
        for call in (objects.find, objects.exists, objects.delete):
            with refused(kv.ValidationError):
                await call("s", part)
        if not isinstance(part, Decimal) or part.is_infinite():
            assert await objects.range("s", before=part).count() == sum(other < part for other in ordered)
            assert await objects.range("s", after=part).count() == sum(other > part for other in ordered)


async def test_equal_values_are_one_key(kv_db: kv.Database) -> None:
    """-0.0 is 0.0, and a Decimal key has no exponent of its own."""
    await ByFloat.objects.using(kv_db).save(ByFloat("s", -0.0))
    await ByDecimal.objects.using(kv_db).save(ByDecimal("s", Decimal("1.50")))

    assert await ByFloat.objects.using(kv_db).exists("s", 0.0)
    assert await ByDecimal.objects.using(kv_db).exists("s", Decimal("15E-1"))
    await ByDecimal.objects.using(kv_db).delete("s", Decimal("1.500"))
    assert not await ByDecimal.objects.using(kv_db).exists("s", Decimal("1.50"))


async def test_strings_are_never_normalised(kv_db: kv.Database) -> None:
    """What looks the same and is written differently is another key."""
    objects = ByStr.objects.using(kv_db)
    await objects.save(ByStr("s", "\u00e9"))

    assert not await objects.exists("s", "e\u0301")


@pytest.mark.parametrize(
    ("model", "part"),
    [
        pytest.param(ByFloat, float("nan"), id="NaN"),
        pytest.param(ByDecimal, Decimal("NaN"), id="decimal NaN"),
        pytest.param(ByDatetime, datetime(2024, 1, 1), id="naive datetime"),  # noqa: DTZ001 - on purpose
        pytest.param(ByStr, "\ud800", id="lone surrogate"),
        pytest.param(ByStr, b"a", id="bytes for str"),
        pytest.param(ByInt, True, id="bool for int"),
        pytest.param(ByInt, 1.0, id="float for int"),
        pytest.param(ByInt, None, id="None"),
    ],
)
async def test_what_has_no_place_in_an_order_is_refused(kv_db: kv.Database, model: type[Any], part: object) -> None:
    """NaN, naive times, lone surrogates and other types are refused before anything is sent."""
    objects = model.objects.using(kv_db)
    await kv_db.prepare(model)

    with refused(kv.ValidationError):
        await objects.find("s", part)
    with refused(kv.ValidationError):
        await objects.save(model("s", part))
    with refused(kv.ValidationError):
        await objects.delete("s", part)


async def test_keys_of_one_component(kv_db: kv.Database) -> None:
    """A model may have partition fields only, or none."""
    await Bare.objects.using(kv_db).save(Bare("a", 1))
    await Log.objects.using(kv_db).save(Log(7, "seven"))

    assert (await Bare.objects.using(kv_db).get("a")).value == 1
    assert (await Log.objects.using(kv_db).get(7)).text == "seven"
