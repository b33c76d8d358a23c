"""Keys as text: golden vectors, order by code point, parts that stay apart, refusals, damage."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmodel.drivers.base import Key, KeyField, KeyPart, KeyType
from kvmodel.drivers.formats.text import TextKeys, join, split, text_decoder, text_encoder
from kvmodel.errors import DecodingError, SchemaError, ValidationError
from tests.formats.cases import compare, compare_keys, fields_of, key_types, table_of, texts, values_of
from tests.formats.vectors import key_of, key_type_of, part_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text("utf-8"))
TURNABLE = ["bytes", "int", "float", "bool", "decimal", "uuid", "datetime", "date"]


def sign(left: str, right: str) -> int:
    return (left > right) - (left < right)


@pytest.mark.parametrize("vector", VECTORS["components"], ids=lambda vector: f"{vector['type']}-{vector['value']}"[:40])
def test_component_vectors(vector: dict[str, str]) -> None:
    """The texts of components never change, in either direction; what cannot be turned around is refused."""
    declared = key_type_of(vector["type"])
    value = part_of(declared, vector["value"])
    ascending = KeyField("k", declared)
    descending = KeyField("k", declared, descending=True)

    assert vector["text"] == text_encoder(ascending)(value)
    assert value == text_decoder(ascending)(vector["text"])
    if "turned" in vector:
        assert vector["turned"] == text_encoder(descending)(value)
        assert value == text_decoder(descending)(vector["turned"])
    else:
        with pytest.raises(SchemaError):
            text_encoder(descending)


@pytest.mark.parametrize("vector", [vector for vector in VECTORS["keys"] if "joined" in vector])
def test_joined_vectors(vector: dict[str, object]) -> None:
    """The joined text of whole keys never changes, and comes apart into the same keys."""
    table, key = key_of(vector)
    keys = TextKeys(table)

    assert vector["joined"] == join(keys.parts(key))
    assert isinstance(vector["joined"], str)
    assert key == keys.key(split(vector["joined"]))


@pytest.mark.parametrize("vector", VECTORS["refused texts"], ids=lambda vector: f"{vector['type']}-{vector['text']}")
def test_refused_vectors(vector: dict[str, str]) -> None:
    """Another form of a value than the one that is written is no key."""
    keys = TextKeys(table_of((KeyField("k", key_type_of(vector["type"]), bool(vector.get("descending"))),)))

    with pytest.raises(DecodingError):
        keys.key((vector["text"],))


@st.composite
def fields_and_keys(draw: st.DrawFn) -> tuple[tuple[KeyField, ...], list[Key]]:
    turned = st.sampled_from(TURNABLE).map(lambda kind: (KeyType(kind), True))
    types = draw(st.lists(key_types.map(lambda found: (found, False)) | turned, min_size=1, max_size=3))
    fields = fields_of(*types)
    keys = [draw(st.tuples(*(values_of(field.type) for field in fields))) for _ in range(2)]
    shared = draw(st.integers(0, len(fields)))
    return fields, [keys[0], keys[0][:shared] + keys[1][shared:]]


@settings(max_examples=200)
@given(fields_and_keys())
def test_order_of_texts_is_order_of_keys(case: tuple[tuple[KeyField, ...], list[Key]]) -> None:
    """Parts compare as components do, joined texts as keys do, and UTF-8 keeps that order."""
    fields, (left, right) = case
    keys = TextKeys(table_of(fields))
    ours, theirs = keys.parts(left), keys.parts(right)

    for field, a, b, x, y in zip(fields, left, right, ours, theirs, strict=True):
        assert (-compare(a, b) if field.descending else compare(a, b)) == sign(x, y)
    expected = compare_keys(fields, left, right)
    assert expected == sign(join(ours), join(theirs))
    assert (expected < 0) == (join(ours).encode() < join(theirs).encode())


@settings(max_examples=150)
@given(fields_and_keys())
def test_round_trip(case: tuple[tuple[KeyField, ...], list[Key]]) -> None:
    """A key comes back equal, in the types that went in, from its parts and from its joined text."""
    fields, (key, _) = case
    keys = TextKeys(table_of(fields))
    decoded = keys.key(split(join(keys.parts(key))))

    assert key == decoded
    assert [type(part) for part in key] == [type(part) for part in decoded]


@given(st.lists(texts, max_size=3), st.lists(texts, max_size=3))
def test_joined_parts_stay_apart(left: list[str], right: list[str]) -> None:
    """A joined text begins another one just where the parts do, and holds no control characters."""
    assert tuple(left) == split(join(left))
    assert join(right).startswith(join(left)) == (right[: len(left)] == left)
    assert min(join(left), default=" ") >= " "


@given(st.text(max_size=12) | st.text(alphabet="!P aQ\n\x00", max_size=6).map(lambda text: text + " "))
def test_split_takes_only_what_join_writes(text: str) -> None:
    """No two joined texts mean the same parts."""
    try:
        parts = split(text)
    except ValueError:
        return
    assert text == join(parts)


@settings(max_examples=150)
@given(
    key_types | st.sampled_from(TURNABLE).map(KeyType),
    st.booleans(),
    st.text(alphabet="0189afpmz~ !-:TZ.bcd", max_size=14),
)
def test_any_text_is_refused_or_canonical(declared: KeyType, descending: bool, text: str) -> None:
    """Any text at all gives a DecodingError or the one key that is written so."""
    keys = TextKeys(table_of((KeyField("k", declared, descending and declared.kind in TURNABLE),)))
    try:
        key = keys.key((text,))
    except DecodingError as error:
        refusal = error
    else:
        assert (text,) == keys.parts(key)
        return
    assert refusal.table == "things"
    assert refusal.key == (text,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float", float("nan")),
        ("decimal", Decimal("NaN")),
        ("str", "\udfff"),
        ("datetime", datetime(2024, 1, 1)),  # noqa: DTZ001 (a naive one is the point)
        pytest.param("int", 10**4000, id="4001 digits"),
        pytest.param("int", 1 << 20_000, id="more digits than Python writes"),
    ],
)
def test_values_that_have_no_place_are_refused(kind: str, value: KeyPart) -> None:
    """What has no order or no text is refused, and the error names table, field and key."""
    keys = TextKeys(table_of(fields_of("str", kind), name="refusing"))

    with pytest.raises(ValidationError) as refusal:
        keys.parts(("a", value))
    assert (refusal.value.table, refusal.value.field, refusal.value.key) == ("refusing", "k1", ("a", value))


def test_wrong_number_of_parts() -> None:
    """Stored parts that are more or fewer than the key's components are not a key."""
    keys = TextKeys(table_of(fields_of("str", "str")))

    assert keys.parts(("a",)) == ("a",)
    for parts in [("a",), ("a", "b", "c")]:
        with pytest.raises(DecodingError):
            keys.key(parts)
