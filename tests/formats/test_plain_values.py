"""Values of the plain layout: one field as it stands, or the fields as a document; what is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmodel.drivers.base import Primitive, Row, Table, ValueField, Values, ValueType
from kvmodel.drivers.formats.codec import ByteCodec, compile_codec
from kvmodel.errors import DecodingError, SchemaError, TooLarge, ValidationError
from tests.formats.cases import durations, fields_of, instants, plain_table, primitives, same, stored_decimals, times
from tests.formats.vectors import primitive_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "plain.json").read_text("utf-8"))


def codec_of(table: Table, limit: int | None = None) -> ByteCodec:
    return compile_codec(table, store="teststore", max_value_bytes=limit)


def value_type(written: object) -> ValueType:
    """Read a type: a kind, one with ``?`` for nullable, or ``[kind, items...]`` with ``{names: types}`` for objects."""
    if isinstance(written, str):
        return ValueType(written.rstrip("?"), nullable=written.endswith("?"))
    kind, *items = cast("list[object]", written)
    name = cast("str", kind).rstrip("?!")
    nullable = cast("str", kind).endswith("?")
    if name == "object":
        members = cast("dict[str, object]", items[0])
        return ValueType(name, tuple(map(value_type, members.values())), tuple(members), nullable)
    return ValueType(name, tuple(map(value_type, items)), nullable=nullable, fixed=cast("str", kind).endswith("!"))


@pytest.mark.parametrize("vector", VECTORS["whole values"], ids=lambda vector: f"{vector['type']}-{vector['text']}")
def test_whole_value_vectors(vector: dict[str, object]) -> None:
    """A whole value stands in the store as it is, without anything of ours."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("body", value_type(vector["type"])), whole="body"))
    value = primitive_of(vector["value"])
    expected = cast("str", vector["text"]).encode()

    assert expected == codec.dump({"body": value}, b"", None)
    row = codec.load(("a",), expected, 0)
    assert isinstance(row, Row)
    assert same({"body": value}, row.values)


@pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda vector: vector["text"])
def test_document_vectors(vector: dict[str, object]) -> None:
    """Fields are one JSON object, in the order of declaration, each in the form of its type."""
    types = cast("dict[str, object]", vector["types"])
    fields = [ValueField(name, value_type(written)) for name, written in types.items()]
    codec = codec_of(plain_table(fields_of("str"), (), *fields))
    values = cast("Values", primitive_of(vector["values"]))
    expected = cast("str", vector["text"]).encode()

    assert expected == codec.dump(values, b"", None)
    row = codec.load(("a",), expected, 0)
    assert isinstance(row, Row)
    assert same(values, row.values)


@pytest.mark.parametrize("vector", VECTORS["read too"], ids=lambda vector: vector["text"])
def test_forms_of_others_are_read(vector: dict[str, object]) -> None:
    """Other programs write documents too: what is surely meant is understood."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("a", value_type(vector["type"]))))
    row = codec.load(("k",), b'{"a":%b}' % cast("str", vector["text"]).encode(), 0)

    assert isinstance(row, Row)
    assert same({"a": primitive_of(vector["value"])}, row.values)


@pytest.mark.parametrize("vector", VECTORS["refused documents"], ids=lambda vector: vector["text"])
def test_refused_documents(vector: dict[str, object]) -> None:
    """What is not of the declared type is a DecodingError that names table, key and field."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("a", value_type(vector["type"]))))
    with pytest.raises(DecodingError) as refusal:
        codec.load(("k",), cast("str", vector["text"]).encode(), 0)

    assert (refusal.value.table, refusal.value.key) == ("users", ("k",))
    assert refusal.value.field == vector.get("field", "a")


@pytest.mark.parametrize(
    "vector", VECTORS["refused whole values"], ids=lambda vector: f"{vector['type']}-{vector['text']}"
)
def test_refused_whole_values(vector: dict[str, object]) -> None:
    """A whole value that is none of its type is a DecodingError."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("body", value_type(vector["type"])), whole="body"))
    with pytest.raises(DecodingError) as refusal:
        codec.load(("k",), cast("str", vector["text"]).encode("latin-1"), 0)

    assert refusal.value.field == "body"


def test_versions_are_the_content() -> None:
    """There is no stamp: a plain record's version is what it holds."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("a", ValueType("int"))))
    data = codec.dump({"a": 1}, b"a stamp", None)

    assert codec.version(data) == data
    assert codec.peek_header(data, 1 << 60) == (data, None)
    assert codec.load(("k",), data, 1 << 60) == Row(("k",), {"a": 1}, data)


def test_deadlines_are_refused() -> None:
    """There is no place for a deadline, so that none is dropped silently."""
    with pytest.raises(ValidationError) as refusal:
        codec_of(plain_table(fields_of("str"))).dump({}, b"", 5)
    assert refusal.value.table == "users"


def test_too_large_tells_size_and_limit() -> None:
    """Over the store's limit is told before anything is sent."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("a", ValueType("str"))), 12)

    assert len(codec.dump({"a": "xxxx"}, b"", None)) == 12
    with pytest.raises(TooLarge) as refusal:
        codec.dump({"a": "xxxxx"}, b"", None)
    assert (refusal.value.size, refusal.value.limit) == (13, 12)


json_natives = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[str, st.SearchStrategy[Primitive]] = {
    "bool": st.booleans(),
    "int": st.integers(),
    "float": st.floats(),
    "str": st.text(max_size=5),
    "bytes": st.binary(max_size=5),
    "decimal": stored_decimals,
    "uuid": st.uuids(),
    "datetime": instants,
    "date": st.dates(),
    "time": times,
    "timedelta": durations,
    "any": json_natives,
}


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 2) -> tuple[ValueType, Primitive]:
    kind = draw(st.sampled_from([*SCALARS, *(["list", "fixed", "dict", "pairs", "object", "union"] if depth else [])]))
    nullable = kind != "any" and draw(st.booleans())
    value: Primitive
    if kind in SCALARS:
        declared, value = ValueType(kind, nullable=nullable), draw(SCALARS[kind])
    elif kind == "union":
        inner, value = draw(typed_values(0).filter(lambda case: case[0].kind in ("int", "bool", "bytes", "date")))
        other = {"int": "datetime", "bool": "time", "bytes": "float", "date": "int"}[inner.kind]
        declared = ValueType("union", (inner, ValueType(other)), nullable=nullable)
    elif kind in ("list", "dict"):
        inner, one = draw(typed_values(depth - 1))
        declared = ValueType(kind, (inner,), nullable=nullable)
        value = [one, one] if kind == "list" else {"x": one, "": one}
    else:
        cases = draw(st.lists(typed_values(depth - 1), min_size=2, max_size=2))
        types, parts = tuple(case[0] for case in cases), [case[1] for case in cases]
        names = ("a", "b") if kind == "object" else ()
        declared = ValueType("list" if kind == "fixed" else kind, types, names, nullable, fixed=kind == "fixed")
        value = {"pairs": [parts, parts], "fixed": parts, "object": dict(zip("ab", parts, strict=True))}[kind]  # type: ignore[assignment]
    return declared, None if nullable and draw(st.booleans()) else value


@settings(max_examples=200)
@given(st.lists(typed_values(), max_size=3))
def test_documents_round_trip(cases: list[tuple[ValueType, Primitive]]) -> None:
    """Values come back in value, type and form, through strict JSON."""
    fields = [ValueField(f"f{index}", declared) for index, (declared, _) in enumerate(cases)]
    values: Values = {f"f{index}": value for index, (_, value) in enumerate(cases)}
    before = repr(values)
    codec = codec_of(plain_table(fields_of("str"), (), *fields))
    data = codec.dump(values, b"", None)
    row = codec.load(("k",), data, 0)

    json.loads(data, parse_constant=pytest.fail)
    assert isinstance(row, Row)
    assert same(values, row.values)
    assert before == repr(values)


@settings(max_examples=150)
@given(typed_values())
def test_whole_values_round_trip(case: tuple[ValueType, Primitive]) -> None:
    """One field as the whole value comes back in value, type and form."""
    declared, value = case
    table = plain_table(fields_of("str"), (), ValueField("body", declared), whole="body")
    try:
        codec = codec_of(table)
    except SchemaError:
        assert declared.nullable
        return
    row = codec.load(("k",), codec.dump({"body": value}, b"", None), 0)

    assert isinstance(row, Row)
    assert same({"body": value}, row.values)


@given(st.dictionaries(st.text(max_size=3), primitives, max_size=3))
def test_msgpack_documents_round_trip(values: Values) -> None:
    """With the option "document": "msgpack", the fields are the map that records hold, without its header."""
    codec = codec_of(plain_table(fields_of("str"), (), options={"document": "msgpack"}))
    row = codec.load(("k",), codec.dump(values, b"", None), 0)

    assert isinstance(row, Row)
    assert same(values, row.values)


def test_unknown_fields_are_kept() -> None:
    """Members that the model does not know come along, in the document and in objects inside it."""
    inner = ValueType("object", (ValueType("date"),), ("day",))
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("a", inner)))
    data = b'{"a":{"day":"2024-02-29","x":[1]},"later":{"y":null}}'
    row = codec.load(("k",), data, 0)

    assert isinstance(row, Row)
    assert data == codec.dump(row.values, b"", None)


@pytest.mark.parametrize(
    "members",
    [
        ("str", "bytes"),
        ("date", "datetime"),
        ("decimal", "str"),
        ("any", "date"),
        (["list", "int"], ["list", "date"]),
        (["dict", "date"], ["object", {"a": "int"}]),
        (["object", {"a": "int"}], ["object", {"a": "date"}]),
    ],
)
def test_ambiguous_unions_are_refused(members: tuple[object, ...]) -> None:
    """Two types that look the same in JSON are told when the table is compiled, naming the field."""
    union = ValueType("union", tuple(map(value_type, members)))
    nested = ValueType("dict", (ValueType("list", (union,)),))

    for declared in (union, nested):
        with pytest.raises(SchemaError) as refusal:
            codec_of(plain_table(fields_of("str"), (), ValueField("a", declared)))
        assert refusal.value.field is not None
        assert refusal.value.field.startswith("a")
        codec_of(plain_table(fields_of("str"), (), ValueField("a", declared), options={"document": "msgpack"}))


@pytest.mark.parametrize("kind", ["str", "bytes", "int", "float", "bool", "date"])
def test_whole_values_of_text_cannot_be_none(kind: str) -> None:
    """Every text already means something: None has none."""
    with pytest.raises(SchemaError):
        codec_of(plain_table(fields_of("str"), (), ValueField("body", ValueType(kind, nullable=True)), whole="body"))


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("str", "\ud800"),
        ("any", Decimal(1)),
        ("any", b"a"),
        ("any", float("nan")),
        (["list", "any"], [{"x": timedelta(1)}]),
        ("decimal", Decimal("9" * 65536)),
        (["union", "float", "str"], float("inf")),
        pytest.param("int", 10**5000, id="huge"),
    ],
)
def test_values_that_json_lacks_are_refused(declared: object, value: Primitive) -> None:
    """What JSON cannot hold is refused before it is written; the error names table and field."""
    fields = [ValueField("ok", ValueType("int")), ValueField("bad", value_type(declared))]
    with pytest.raises(ValidationError) as refusal:
        codec_of(plain_table(fields_of("str"), (), *fields)).dump({"ok": 1, "bad": value}, b"", None)

    assert (refusal.value.table, refusal.value.field) == ("users", "bad")


def test_nesting_is_bounded_both_ways() -> None:
    """Deep documents are refused on either side, however deep they are."""
    codec = codec_of(plain_table(fields_of("str"), (), ValueField("a", ValueType("any"))))
    value: Primitive = 1
    for _ in range(200):
        value = [value]

    with pytest.raises(ValidationError):
        codec.dump({"a": value}, b"", None)
    for depth in (200, 100_000):
        with pytest.raises(DecodingError):
            codec.load(("k",), b'{"a":' + b"[" * depth + b"]" * depth + b"}", 0)


@settings(max_examples=200)
@given(typed_values(), st.data())
def test_damaged_documents(case: tuple[ValueType, Primitive], data: st.DataObject) -> None:
    """Any bytes at all give a row or a DecodingError, as documents and as whole values."""
    field = ValueField("a", case[0])
    document = codec_of(plain_table(fields_of("str"), (), field))
    record = bytearray(document.dump({"a": case[1]}, b"", None))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.sampled_from([b"", b"1", b'"', b"[", b"9e999", b"\xff", b"\\ud800"])
    )
    codecs = [document]
    if not case[0].nullable:
        codecs.append(codec_of(plain_table(fields_of("str"), (), field, whole="a")))
    for codec in codecs:
        for damaged in (bytes(record), bytes(record)[5:-1]):
            try:
                row = codec.load(("k",), damaged, 0)
            except DecodingError as error:
                refusal = error
                assert refusal.table
            else:
                assert isinstance(row, Row)
