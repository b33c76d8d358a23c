"""Records as bytes: golden vectors, round trips, headers, limits, damage."""

from __future__ import annotations

import json
import re
import time as clock
import tracemalloc
from datetime import datetime, time, timezone
from decimal import Decimal, localcontext
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmodel.drivers.base import Absent, Primitive, Row, Table, Values
from kvmodel.drivers.formats.records import MAX_DEPTH, RecordCodec, pack, unpack
from kvmodel.errors import DecodingError, TooLarge, ValidationError
from tests.formats.cases import primitives, same, table_of, value_field
from tests.formats.vectors import primitive_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "records.json").read_text("utf-8"))
STAMP = bytes(range(12))
KEY = ("red", "ada")
HEADER = b"\x10" + STAMP

FLAT = table_of((), (), *(value_field(name, "int") for name in ("age", "name", "a")), name="flat")
NESTED = table_of((), (), value_field("a", "any"), value_field("age", "int"), name="nested")
EMPTY = table_of(name="empty")


def codec_of(table: Table, limit: int | None = None) -> RecordCodec:
    return RecordCodec(table, "teststore", limit)


def load(table: Table, data: bytes) -> Row:
    row = codec_of(table).load(KEY, data, 0)
    assert isinstance(row, Row)
    return row


# --- golden vectors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["bodies"], ids=lambda vector: vector["bytes"][:40])
def test_body_vectors(vector: dict[str, str]) -> None:
    """The bytes of fields never change, and read back as the same values."""
    values = cast("Values", primitive_of(vector["values"]))
    expected = bytes.fromhex(vector["bytes"])

    assert expected == pack(values)
    assert same(values, unpack(expected))


def test_specification_shows_the_vectors() -> None:
    """Every record and body that the specification shows is a vector that is checked here."""
    text = (Path(__file__).parents[2] / "docs" / "spec" / "records.md").read_text("utf-8")
    section = text[text.index("## 4. Worked vectors") : text.index("## 5.")]
    rows = [re.findall(r"`([0-9a-f. ]+)`", row.split("|")[2]) for row in section.splitlines() if row.count("|") == 3]
    shown = {"".join(found) for found in rows if found}
    vectors = VECTORS["bodies"] + VECTORS["records"]

    assert len(shown) >= 10
    assert shown <= {vector["bytes"].replace(" ", "") for vector in vectors}


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: vector["bytes"][:40])
def test_record_vectors(vector: dict[str, object]) -> None:
    """The bytes of whole records never change."""
    codec = codec_of(table_of(schema_number=vector["number"]))
    values = cast("Values", primitive_of(vector["values"]))
    stamp = bytes.fromhex(cast("str", vector["stamp"]))
    expires_at = cast("int | None", vector["expires_at"])
    expected = bytes.fromhex(cast("str", vector["bytes"]))

    assert expected == codec.dump(values, stamp, expires_at)
    assert Row(KEY, values, stamp, expires_at, cast("int", vector["number"])) == codec.load(KEY, expected, 0)
    assert (stamp, expires_at) == codec.peek_header(expected, 0)
    assert stamp == codec.version(expected)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["why"])
def test_refused_vectors(vector: dict[str, str]) -> None:
    """What is not written so is a DecodingError that names table and key, whatever the table holds."""
    # A map where a scalar is declared is refused by the mapper, which knows the types: nobody looks inside here.
    for table in [NESTED, EMPTY] if "inside" in vector else [FLAT, NESTED, EMPTY]:
        with pytest.raises(DecodingError, match=vector.get("says")) as refusal:
            load(table, bytes.fromhex(vector["bytes"]))

        assert (refusal.value.table, refusal.value.key) == (table.name, KEY)


# --- round trips ------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=3), primitives, max_size=4), st.none() | st.integers(1, (1 << 64) - 1))
def test_round_trip(values: Values, expires_at: int | None) -> None:
    """Values come back in value, type and form, and the caller's are left alone."""
    codec = codec_of(table_of((), (), value_field("a", "any"), schema_number=3))
    before = repr(values)
    row = codec.load(KEY, codec.dump(values, STAMP, expires_at), 0)

    assert isinstance(row, Row)
    assert same(values, row.values)
    assert (row.key, row.version, row.expires_at, row.schema_number) == (KEY, STAMP, expires_at, 3)
    assert before == repr(values)


@given(st.dictionaries(st.text(max_size=3), primitives, max_size=4))
def test_pack_is_deterministic_and_tells_values_apart(values: Values) -> None:
    """The same fields give the same bytes; what reads back differently has other bytes."""
    again = unpack(pack(values))

    assert pack(values) == pack(again)
    assert pack({"a": 1}) != pack({"a": True}) != pack({"a": 1.0}) != pack({"a": Decimal(1)})
    assert pack({"a": Decimal("1.0")}) != pack({"a": Decimal("1.00")})


def test_unknown_fields_are_kept() -> None:
    """Fields that this program does not know come along, nested ones too."""
    values: Values = {"age": 1, "later": {"deep": [1, {"x": None}]}}

    assert values == load(FLAT, HEADER + pack(values)).values


def test_rows_do_not_share_values() -> None:
    """Values are fresh on every load: the caller may change them."""
    data = HEADER + pack({"a": [1]})
    first, second = load(NESTED, data), load(NESTED, data)
    cast("list[int]", first.values["a"]).append(2)

    assert second.values == {"a": [1]}


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [1000, 1001])
def test_expired_records_are_absent_with_a_token(now: int) -> None:
    """From its deadline on a record counts as absent; its version is the token, and no value is decoded."""
    codec = codec_of(FLAT)
    data = codec.dump({"age": 1}, STAMP, 1000)

    assert codec.load(KEY, data[:-1] + b"\xc1", now) == Absent(KEY, STAMP)
    assert codec.peek_header(data, now) is None
    assert codec.version(data) == STAMP


def test_live_until_the_deadline() -> None:
    """Just before its deadline a record is there."""
    codec = codec_of(FLAT)
    data = codec.dump({"age": 1}, STAMP, 1000)

    assert isinstance(codec.load(KEY, data, 999), Row)
    assert codec.peek_header(data, 999) == (STAMP, 1000)


@pytest.mark.parametrize("expires_at", [-1, 1 << 64])
def test_deadlines_out_of_range_are_refused(expires_at: int) -> None:
    """A deadline fits eight unsigned bytes."""
    with pytest.raises(ValidationError) as refusal:
        codec_of(FLAT).dump({}, STAMP, expires_at)
    assert refusal.value.table == "flat"


@pytest.mark.parametrize("data", [b"", b"\x10", HEADER, b"\x20" + HEADER, b"\x11" + STAMP + b"\x00"])
def test_headers_are_checked_without_a_body(data: bytes) -> None:
    """peek_header and version refuse what is no header."""
    codec = codec_of(FLAT)

    with pytest.raises(DecodingError):
        codec.peek_header(data, 0)
    with pytest.raises(DecodingError):
        codec.version(data)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "a\ud800",
        datetime(2024, 1, 1),  # noqa: DTZ001 (a naive one is the point)
        time(1, 2, tzinfo=timezone.utc),
        (1, 2),
        {1, 2},
        object(),
        pytest.param(1 << 8 * 65535, id="huge int"),
        pytest.param(Decimal("9" * 65536), id="huge Decimal"),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_values_that_cannot_be_stored_are_refused(value: object, depth: int) -> None:
    """What no reader would accept is not written; the error names the table and the field."""
    for _ in range(depth):
        value = [value] if depth == 1 else {"x": value}
    values = cast("Values", {"age": 1, "bad": value})

    with pytest.raises(ValidationError) as refusal:
        codec_of(FLAT).dump(values, STAMP, None)
    assert (refusal.value.table, refusal.value.field) == ("flat", "bad")
    with pytest.raises(ValidationError):
        pack(values)


def nested(depth: int) -> Primitive:
    value: Primitive = 1
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


@pytest.mark.parametrize("table", [FLAT, NESTED], ids=lambda table: table.name)
def test_nesting_is_bounded_both_ways(table: Table) -> None:
    """What can be written can be read; deeper is refused on either side."""
    codec = codec_of(table)
    deepest: Values = {"a": nested(MAX_DEPTH - 1)}
    too_deep: Values = {"a": nested(MAX_DEPTH)}

    assert deepest == load(table, codec.dump(deepest, STAMP, None)).values
    with pytest.raises(ValidationError) as refusal:
        codec.dump(too_deep, STAMP, None)
    assert refusal.value.field == "a"
    with pytest.raises(DecodingError):
        load(table, HEADER + b"\x81\xa1a" + b"\x91" * MAX_DEPTH + b"\x01")


def test_too_large_tells_size_and_limit() -> None:
    """Over the store's limit is told before anything is sent, with the numbers."""
    codec = codec_of(FLAT, 100)

    assert len(codec.dump({"a": "x" * 82}, STAMP, None)) == 100
    with pytest.raises(TooLarge) as refusal:
        codec.dump({"a": "x" * 83}, STAMP, None)
    assert (refusal.value.size, refusal.value.limit, refusal.value.table) == (101, 100, "flat")


@pytest.mark.parametrize("stamp", [b"", b"x" * 11, b"x" * 13])
def test_stamps_have_one_length(stamp: bytes) -> None:
    """A stamp of another length would shift what follows it."""
    with pytest.raises(ValidationError):
        codec_of(FLAT).dump({}, stamp, None)


# --- damage -----------------------------------------------------------------------------------------------------------


def check_loading(table: Table, data: bytes) -> None:
    """Either the bytes are refused, or the row holds nothing but primitives that can be written again."""
    try:
        found = codec_of(table).load(KEY, data, 0)
    except DecodingError as error:
        refusal = error
    else:
        assert isinstance(found, Row)
        assert same(found.values, unpack(pack(found.values)))
        return
    assert (refusal.table, refusal.key) == (table.name, KEY)


@settings(max_examples=200)
@given(st.binary(max_size=40), st.sampled_from([b"", HEADER, HEADER + b"\x81\xa1a", HEADER + b"\x82\xa3age\x01\xa1z"]))
def test_random_bytes(tail: bytes, head: bytes) -> None:
    """Any bytes at all give a row or a DecodingError."""
    check_loading(FLAT, head + tail)
    check_loading(NESTED, head + tail)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["age", "a", "zz"]), primitives, max_size=3), st.data())
def test_mutated_records(values: Values, data: st.DataObject) -> None:
    """A damaged record gives a row or a DecodingError."""
    record = bytearray(HEADER + pack(values))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(13, len(record) - 1)) if len(record) > 14 else 13
        record[at:] = data.draw(
            st.sampled_from([record[at + 1 :], bytes([data.draw(st.integers(0, 255))]) + record[at + 1 :]])
        )
    check_loading(FLAT, bytes(record))
    check_loading(NESTED, bytes(record))


def hostile() -> dict[str, bytes]:
    """Few bytes that ask for much."""
    size = 200_000
    return {
        "lists in lists": b"".join(b"\xdd" + (size - 5 * n).to_bytes(4, "big") for n in range(1000))
        + bytes(size - 5000),
        "short lists in lists": b"\xdc\xff\xff" * 900 + bytes(70_000),
        "maps in maps": b"\xdf\x00\x01\x00\x00\xa1a" * 900 + bytes(size),
        "deep": b"\x91" * 1000 + b"\x01",
        "deeper": b"\x91" * size,
        "long text": b"\xdb\xff\xff\xff\xff",
        "long bytes": b"\xc6\xff\xff\xff\xff",
        "long list": b"\xdd\xff\xff\xff\xff",
        "long map": b"\xdf\xff\xff\xff\xff",
        "big int": b"\xc9\x00\x10\x00\x00\x01" + b"\x7f" * (1 << 20),
        "decimal digits": b"\xc9\x00\x10\x00\x00\x02" + b"9" * (1 << 20),
        "decimal exponent": b"\xc7\x0d\x021E+9999999999",
        "timedelta digits": b"\xc9\x00\x10\x00\x00\x06" + b"9" * (1 << 20),
    }


@pytest.mark.parametrize("name", hostile())
@pytest.mark.parametrize("table", [FLAT, NESTED], ids=lambda table: table.name)
def test_hostile_bytes_cost_little(name: str, table: Table) -> None:
    """Announced sizes are not believed: memory and time stay in proportion to the input."""
    data = HEADER + b"\x81\xa1a" + hostile()[name]
    tracemalloc.start()
    begin = clock.perf_counter()
    try:
        check_loading(table, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < (8 << 20)
    assert clock.perf_counter() - begin < 2


def test_long_honest_values_are_read() -> None:
    """The guard against announced sizes lets honest ones through: long lists, lists in lists, random bytes."""
    values: Values = {
        "a": [[n, n + 1] for n in range(5000)],
        "b": list(range(50_000)),
        "c": b"\xdc\xdd" * 50_000,
        "d": [[0] * 20 for _ in range(500)],
    }

    assert values == load(NESTED, HEADER + pack(values)).values


def test_decimal_context_does_not_matter() -> None:
    """A context without traps, or with little precision, neither lets damage through nor changes a value."""
    value = Decimal("123456789.123456789")
    with localcontext() as context:
        context.prec = 3
        context.clear_traps()
        assert same({"a": value}, load(NESTED, HEADER + pack({"a": value})).values)
        with pytest.raises(DecodingError):
            load(NESTED, HEADER + b"\x81\xa1a\xd4\x02x")
