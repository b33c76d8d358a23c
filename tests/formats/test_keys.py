"""Keys as bytes: golden vectors, order, prefix-freeness, slices, refusals, damage."""

from __future__ import annotations

import functools
import gc
import itertools
import json
import linecache
import re
import traceback
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmodel.drivers.base import Edge, Key, KeyField, KeyPart, KeyType, Slice, Table
from kvmodel.drivers.formats.components import FLIP, decoder_of, encoder_of, successor
from kvmodel.drivers.formats.keys import KeyCodec, sort_key
from kvmodel.errors import DecodingError, SchemaError, ValidationError
from tests.formats.cases import compare, compare_keys, fields_of, inside, key_types, same, table_of, values_of
from tests.formats.vectors import key_of, key_type_of, part_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text("utf-8"))


def codec_of(table: Table, limit: int | None = None) -> KeyCodec:
    return KeyCodec(table, "teststore", limit)


def sign(left: bytes, right: bytes) -> int:
    return (left > right) - (left < right)


# --- golden vectors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["components"], ids=lambda vector: f"{vector['type']}-{vector['value']}"[:40])
def test_component_vectors(vector: dict[str, str]) -> None:
    """The bytes of components never change: what was written is found again by every later version."""
    declared = key_type_of(vector["type"])
    value = part_of(declared, vector["value"])
    expected = bytes.fromhex(vector["bytes"])

    assert expected == encoder_of(declared)(value)
    decoded, end = decoder_of(declared)(expected, 0)
    assert len(expected) == end
    assert decoded == value
    assert type(decoded) is type(value)


def test_specification_shows_the_vectors() -> None:
    """Every encoding that the specification shows is a vector that is checked here."""
    text = (Path(__file__).parents[2] / "docs" / "spec" / "keys.md").read_text("utf-8")
    section = text[text.index("## 5. Worked vectors") : text.index("## 6.")]
    rows = [re.findall(r"`([0-9a-f]+)`", row.split("|")[-2]) for row in section.splitlines() if row.startswith("|")]
    shown = {"".join(found) for found in rows if found}

    assert len(shown) >= 24
    assert shown <= {vector["bytes"] for vector in VECTORS["components"] + VECTORS["keys"]}


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: str(vector["bytes"])[:40])
def test_key_vectors(vector: dict[str, object]) -> None:
    """The bytes of whole keys never change, and decode to the same keys."""
    table, key = key_of(vector)
    expected = bytes.fromhex(cast("str", vector["bytes"]))
    codec = codec_of(table)

    assert expected == codec.encode_key(key)
    assert key == codec.decode_key(expected)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: f"{vector['type']}-{vector['bytes']}"[:40])
def test_refused_vectors(vector: dict[str, str]) -> None:
    """Another form of a value than the one that is written is no key: the record behind it could not be found."""
    codec = codec_of(table_of(fields_of(key_type_of(vector["type"]))))

    with pytest.raises(DecodingError):
        codec.decode_key(codec.first + bytes.fromhex(vector["bytes"]))


# --- order, round trip, prefix-freeness -------------------------------------------------------------------------------


@st.composite
def fields_and_keys(draw: st.DrawFn, count: int) -> tuple[tuple[KeyField, ...], list[Key]]:
    types = draw(st.lists(st.tuples(key_types, st.booleans()), min_size=1, max_size=3))
    fields = fields_of(*types)
    parts = [values_of(field.type) for field in fields]
    keys = [draw(st.tuples(*parts)) for _ in range(count)]
    # A second key that shares the first one's beginning tells more than one that differs at once.
    shared = draw(st.integers(0, len(fields)))
    return fields, [keys[0], *(keys[0][:shared] + key[shared:] for key in keys[1:])]


@settings(max_examples=150)
@given(fields_and_keys(2))
def test_order_of_bytes_is_order_of_keys(case: tuple[tuple[KeyField, ...], list[Key]]) -> None:
    """Bytes compare as the keys do, whatever the types and directions."""
    fields, (left, right) = case
    codec = codec_of(table_of(fields))

    assert compare_keys(fields, left, right) == sign(codec.encode_key(left), codec.encode_key(right))


@settings(max_examples=150)
@given(fields_and_keys(1))
def test_round_trip(case: tuple[tuple[KeyField, ...], list[Key]]) -> None:
    """A key comes back equal, in the types that went in."""
    fields, (key,) = case
    codec = codec_of(table_of(fields, namespace=("a{b}", "\x00\x01")))
    decoded = codec.decode_key(codec.encode_key(key))

    assert key == decoded
    assert [type(part) for part in key] == [type(part) for part in decoded]
    assert codec.first <= codec.encode_key(key) < codec.last


@settings(max_examples=150)
@given(st.data(), key_types)
def test_no_component_begins_another(data: st.DataObject, declared: KeyType) -> None:
    """Prefix-free: the encoding of a value is never the beginning of that of another one, in either direction."""
    left, right = data.draw(values_of(declared)), data.draw(values_of(declared))
    ours, theirs = encoder_of(declared)(left), encoder_of(declared)(right)

    assert (compare(left, right) == 0) == theirs.startswith(ours) == ours.startswith(theirs)


@pytest.mark.parametrize("descending", [False, True])
def test_low_bytes_keep_order_and_stay_apart(descending: bool) -> None:
    """Texts of the bytes that the encoding itself uses are ordered and prefix-free, exhaustively up to length 3."""
    alphabet = "\x00\x01\x02\xff"
    texts = ["".join(chars) for size in range(4) for chars in itertools.product(alphabet, repeat=size)]
    codec = codec_of(table_of(fields_of(("str", descending))))
    encoded = [codec.encode_key((text,)) for text in sorted(texts, reverse=descending)]

    assert sorted(encoded) == encoded
    assert not any(later.startswith(earlier) for earlier, later in itertools.pairwise(encoded))
    assert sorted(texts, reverse=descending) == [codec.decode_key(key)[0] for key in encoded]


@given(st.floats(allow_nan=False))
def test_equal_values_encode_equally(value: float) -> None:
    """Keys that Python calls equal are one key: -0.0 is 0.0, and Decimals lose their exponent."""
    encode_float, encode_decimal = encoder_of(KeyType("float")), encoder_of(KeyType("decimal"))

    assert encode_float(0.0) == encode_float(-0.0)
    assert encode_float(value) == encode_float(value + 0.0)
    assert encode_decimal(Decimal(1)) == encode_decimal(Decimal("1.00")) == encode_decimal(Decimal("10E-1"))
    assert encode_decimal(Decimal(0)) == encode_decimal(Decimal("-0.00"))


@pytest.mark.parametrize(
    ("value", "text"), [("100", "100"), ("1.50", "1.5"), ("-12E+3", "-12000"), ("1E+28", "1E+28"), ("0E-7", "0")]
)
def test_decimals_come_back_readable(value: str, text: str) -> None:
    """The exponent is lost, but an integer of moderate size looks like one."""
    declared = KeyType("decimal")
    decoded, _ = decoder_of(declared)(encoder_of(declared)(Decimal(value)), 0)

    assert text == str(decoded)


def test_aware_datetimes_of_all_zones_are_one_instant() -> None:
    """A datetime is stored in UTC: the same instant in another zone is the same key."""
    encode = encoder_of(KeyType("datetime"))
    there = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    assert encode(there.astimezone(timezone.utc)) == encode(there)


@settings(max_examples=150)
@given(fields_and_keys(2))
def test_sort_key_orders_whole_keys_and_leading_parts(case: tuple[tuple[KeyField, ...], list[Key]]) -> None:
    """What sort_key gives for leading components is the beginning of what it gives for just the keys behind them."""
    fields, (left, right) = case
    place = sort_key(fields)

    assert compare_keys(fields, left, right) == sign(place(left), place(right))
    for count in range(len(fields) + 1):
        matches = compare_keys(fields, left[:count], right[:count]) == 0
        assert place(right).startswith(place(left[:count])) == matches


# --- slices -----------------------------------------------------------------------------------------------------------


POOL: dict[str, list[KeyPart]] = {
    "str": ["", "a", "a\x00", "a\x01", "ab", "b", "\U0010ffff", "\U0010ffffz"],
    "bytes": [b"", b"\x00", b"a", b"ab", b"\xff", b"\xff\xff", b"\xff\xffz"],
    "int": [-(1 << 70), -257, -1, 0, 1, 255, 256, 1 << 70],
    "bool": [False, True],
}


@st.composite
def slices(draw: st.DrawFn) -> tuple[Table, Slice, list[Key]]:
    kinds = st.tuples(st.sampled_from(sorted(POOL)), st.booleans())
    partition = fields_of(*draw(st.lists(kinds, max_size=1)))
    clustering = fields_of(*draw(st.lists(kinds, min_size=1, max_size=2)))
    table = table_of(partition, clustering)
    at = len(partition)
    # Few partitions, so that many keys meet in one.
    parts = [st.sampled_from(POOL[field.type.kind][: 8 if index >= at else 2]) for index, field in enumerate(table.key)]
    keys = draw(st.lists(st.tuples(*parts), min_size=3, max_size=12))

    def edge() -> Edge | None:
        if draw(st.booleans()):
            return None
        return Edge(draw(st.tuples(*parts))[at : at + draw(st.integers(0, len(clustering)))], draw(st.booleans()))

    after = draw(st.none() | st.tuples(*parts))
    reverse = draw(st.booleans())
    if draw(st.integers(0, 5)) == 0:
        return table, Slice(None, after=after, reverse=reverse), keys
    prefix = draw(st.tuples(*parts))[at : at + draw(st.integers(0, 1))]
    starts: str | bytes | None = None
    if len(prefix) < len(clustering) and draw(st.booleans()):
        kind = clustering[len(prefix)].type.kind
        if kind in ("str", "bytes"):
            starts = cast("str | bytes", draw(st.sampled_from(POOL[kind])))
    chosen = draw(st.sampled_from(keys))[:at]
    return table, Slice(chosen, edge(), edge(), prefix, starts, reverse, None, after), keys


@settings(max_examples=300)
@given(slices(), st.sampled_from([None, 18]))
def test_bounds_hold_exactly_the_keys_of_a_slice(case: tuple[Table, Slice, list[Key]], limit: int | None) -> None:
    """A slice is one range of bytes: just the keys that comparing components would choose, and none of other tables."""
    table, slice, keys = case
    codec = codec_of(table, limit)
    stored = {}
    for key in keys:
        try:
            stored[codec.encode_key(key)] = key
        except ValidationError:
            continue
    try:
        start, stop = codec.bounds(slice)
    except ValidationError:
        assert limit is not None
        assert slice.partition is not None
        return

    expected = sorted(data for data, key in stored.items() if inside(table, slice, key))
    assert expected == sorted(data for data in stored if start <= data < stop)
    assert limit is None or max(len(start), len(stop)) <= limit
    assert start >= stop or (codec.first <= start and stop <= codec.last)


@pytest.mark.parametrize("reverse", [False, True])
def test_going_on_behind_the_longest_key(reverse: bool) -> None:
    """A page that ends at a key of just the store's limit goes on behind it, not at it again."""
    codec = codec_of(table_of((), fields_of("str")), 16)
    longest = ("x" * (16 - len(codec.first) - 2),)
    encoded = codec.encode_key(longest)
    start, stop = codec.bounds(Slice((), after=longest, reverse=reverse))

    assert len(encoded) == 16
    assert not start <= encoded < stop
    assert start <= codec.encode_key(("a" if reverse else "y",)) < stop


def test_tables_and_namespaces_do_not_overlap() -> None:
    """The ranges of tables are apart, whatever their names begin with, and metadata keys lie below all of them."""
    spaces: list[tuple[str, ...]] = [(), ("a",), ("a", "b"), ("ab",), ("a\x00",), ("",)]
    codecs = [
        codec_of(table_of(fields_of("str"), name=name, namespace=space))
        for space in spaces
        for name in ("t", "tt", "t1", "u")
    ]
    ranges = sorted((codec.first, codec.last) for codec in codecs)

    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ranges))
    assert ranges[0][0] > b"\x00\xff"


@pytest.mark.parametrize("prefix", [b"a", b"a\xff", b"\x00\xff\xff"])
def test_successor_is_the_first_bytes_behind(prefix: bytes) -> None:
    """successor() is above everything with the prefix, and nothing lies between."""
    assert successor(prefix) > prefix + b"\xff" * 9
    assert successor(prefix) <= prefix.rstrip(b"\xff")[:-1] + bytes([prefix.rstrip(b"\xff")[-1] + 1])


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float", float("nan")),
        ("decimal", Decimal("NaN")),
        ("decimal", Decimal("sNaN")),
        ("decimal", Decimal("1E+2147483648")),
        ("str", "a\ud800"),
        ("datetime", datetime(2024, 1, 1)),  # noqa: DTZ001 (a naive one is the point)
        ("datetime", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
        pytest.param("int", 1 << 8 * 65536, id="huge"),
        ("int", 1.0),
        ("str", 5),
        ("str", b"a"),
        ("uuid", "01234567-89ab-cdef-0123-456789abcdef"),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
def test_values_that_have_no_place_are_refused(kind: str, value: KeyPart, descending: bool) -> None:
    """What has no order, or no single form, is refused, and the error names table, field and key."""
    codec = codec_of(table_of(fields_of("str"), fields_of("int", (kind, descending))[1:], name="refusing"), 511)
    key = ("red", value)

    with pytest.raises(ValidationError) as refusal:
        codec.encode_key(key)
    assert (refusal.value.table, refusal.value.field, refusal.value.key) == ("refusing", "k1", key)
    with pytest.raises(ValidationError):
        codec.bounds(Slice(("red",), Edge((value,), inclusive=True)))


@pytest.mark.parametrize("key", [(), ("a",), ("a", "b", "c")])
def test_wrong_number_of_components(key: Key) -> None:
    """A key has as many components as the table's."""
    with pytest.raises(ValidationError):
        codec_of(table_of(fields_of("str", "str"))).encode_key(key)


def test_bounds_refuse_what_is_no_slice() -> None:
    """Edges with more components than the key, and starts() on something that has no beginning, are errors."""
    codec = codec_of(table_of(fields_of("str"), fields_of("str", "int")[1:]))

    with pytest.raises(ValidationError):
        codec.bounds(Slice(("a",), Edge((1, 2), inclusive=True)))
    with pytest.raises(ValidationError):
        codec.bounds(Slice(("a",), starts="1"))
    with pytest.raises(ValidationError):
        codec.bounds(Slice(("a",), prefix=(1,), starts="1"))


def test_overlong_key_says_what_remains() -> None:
    """The limit is told in what the user can change: the bytes behind namespace and table."""
    codec = codec_of(table_of(fields_of("str"), fields_of("str", "str")[1:], namespace=("test",)), 40)
    room = 40 - len(codec.first)

    assert len(codec.encode_key(("a", "b" * (room - 5)))) == 40
    with pytest.raises(
        ValidationError, match=f"{room} remain after namespace and table, and this one needs {room + 1}"
    ):
        codec.encode_key(("a", "b" * (room - 4)))
    with pytest.raises(ValidationError, match="remain after"):
        codec.bounds(Slice(("a" * 40,)))


def test_name_that_leaves_no_room() -> None:
    """A namespace that uses up the store's keys is told when the table is prepared, not at each write."""
    with pytest.raises(SchemaError):
        codec_of(table_of(fields_of("str"), namespace=("x" * 20,)), 20)


def test_namespace_that_is_no_text() -> None:
    """A namespace with lone surrogates has no bytes."""
    with pytest.raises(SchemaError):
        codec_of(table_of(fields_of("str"), namespace=("\ud800",)))


def test_union_of_tuples_is_refused() -> None:
    """Two tuple types share a type code, so that a union of them could not be told apart."""
    union = KeyType("union", (KeyType("tuple", (KeyType("int"),)), KeyType("tuple", (KeyType("str"),))))

    with pytest.raises(SchemaError):
        encoder_of(union)


def test_traceback_shows_generated_source() -> None:
    """A failure inside generated code shows its line, like any other code."""
    codec = codec_of(table_of(fields_of("str")))
    with pytest.raises(ValidationError) as refusal:
        codec.encode_key(("\ud800",))

    assert "raise explain(key, error) from None" in "".join(traceback.format_tb(refusal.value.__traceback__))


def test_generated_source_goes_with_its_codec() -> None:
    """Codecs are made for every namespace: what they leave in the line cache goes when they do."""
    gc.collect()
    before = len(linecache.cache)
    codec = codec_of(table_of(fields_of("str")))
    assert len(linecache.cache) > before
    del codec
    gc.collect()

    assert len(linecache.cache) <= before


# --- damage -----------------------------------------------------------------------------------------------------------


def check_decoding(codec: KeyCodec, data: bytes) -> None:
    """Either the bytes are refused, or they are just what the key that they decode to is written as."""
    try:
        key = codec.decode_key(data)
    except DecodingError as error:
        refusal = error
    else:
        assert data == codec.encode_key(key)
        return
    assert refusal.table == codec.table.name
    assert refusal.key


@settings(max_examples=300)
@given(fields_and_keys(1), st.data())
def test_mutated_keys_are_refused_or_canonical(
    case: tuple[tuple[KeyField, ...], list[Key]], data: st.DataObject
) -> None:
    """Damage is noticed, or gives a key that is written exactly so: never two forms of one key."""
    fields, (key,) = case
    codec = codec_of(table_of(fields))
    encoded = bytearray(codec.encode_key(key))
    at = data.draw(st.integers(len(codec.first), len(encoded) - 1)) if len(encoded) > len(codec.first) else 0
    change = data.draw(st.sampled_from(["set", "cut", "insert"]))
    if change == "set":
        encoded[at] = data.draw(st.sampled_from([0, 1, 2, 0x14, 0x80, 0xFF]) | st.integers(0, 255))
    elif change == "cut":
        del encoded[at:]
    else:
        encoded.insert(at, data.draw(st.integers(0, 255)))
    check_decoding(codec, bytes(encoded))


@settings(max_examples=150)
@given(key_types, st.booleans(), st.binary(max_size=30))
def test_random_bytes_are_refused_or_canonical(declared: KeyType, descending: bool, tail: bytes) -> None:
    """Any bytes at all give a DecodingError or the one key that is written so."""
    codec = codec_of(table_of(fields_of((declared, descending))))
    code = encoder_of_first_byte(declared)
    check_decoding(codec, tail)
    check_decoding(codec, codec.first + tail)
    check_decoding(codec, codec.first + (code.translate(FLIP) if descending else code) + tail)


def encoder_of_first_byte(declared: KeyType) -> bytes:
    """The type code that a plain component of this type begins with."""
    examples: dict[str, KeyPart] = {
        "str": "",
        "bytes": b"",
        "int": 1 << 70,
        "float": 1.0,
        "bool": True,
        "decimal": Decimal(1),
        "uuid": UUID(int=0),
        "datetime": datetime(2024, 1, 1, tzinfo=timezone.utc),
        "date": date(2024, 1, 1),
    }
    return b"\x05" if declared.kind == "tuple" else encoder_of(declared)(examples[declared.kind])[:1]


def test_keys_of_others_are_refused() -> None:
    """A key of another table, or of another namespace, is not taken for one of this table."""
    ours = codec_of(table_of(fields_of("str"), name="ours"))
    theirs = codec_of(table_of(fields_of("str"), name="theirs"))

    with pytest.raises(DecodingError):
        ours.decode_key(theirs.encode_key(("a",)))


def test_hostile_lengths_cost_nothing() -> None:
    """Announced lengths are not believed, and long input takes time in proportion."""
    codec = codec_of(table_of(fields_of("int")))
    nested = codec_of(table_of(fields_of(KeyType("tuple", (KeyType("int"),), variadic=True))))

    for tail in (b"\x1d\xff\xff" + b"\x01" * 100, b"\x05" * 100_000, b"\x14" * 100_000, b"\x23\x03" + b"9" * 100_000):
        with pytest.raises(DecodingError):
            codec.decode_key(codec.first + tail)
        with pytest.raises(DecodingError):
            nested.decode_key(nested.first + tail)


def test_sorting_with_functools_agrees() -> None:
    """The comparison used here is a total order itself: sorting by it and by bytes gives one sequence."""
    fields = fields_of(("int", True), "str")
    keys: list[Key] = [(number, text) for number in (-300, -1, 0, 7, 1 << 65) for text in ("", "a", "a\x00", "b")]
    codec = codec_of(table_of(fields))

    by_value = sorted(keys, key=functools.cmp_to_key(functools.partial(compare_keys, fields)))
    assert by_value == sorted(keys, key=codec.encode_key)
    assert same(by_value[0], (1 << 65, ""))
