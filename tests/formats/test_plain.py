"""Keys of the plain layout: as other programs write them, what has order there, what is refused."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmodel.drivers.base import Edge, Key, KeyField, KeyPart, KeyType, Slice, Table
from kvmodel.drivers.formats.codec import ByteCodec, compile_codec
from kvmodel.errors import DecodingError, SchemaError, Unsupported, ValidationError
from tests.formats.cases import compare_keys, fields_of, inside, plain_table, scalars
from tests.formats.vectors import part_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "plain.json").read_text("utf-8"))


def codec_of(table: Table, limit: int | None = None) -> ByteCodec:
    return compile_codec(table, store="teststore", max_key_bytes=limit)


def split_fields(*kinds: str) -> tuple[tuple[KeyField, ...], tuple[KeyField, ...]]:
    fields = fields_of(*kinds)
    return fields[:1], fields[1:]


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["text"])
def test_key_vectors(vector: dict[str, object]) -> None:
    """Keys stand in the store just as other programs write them."""
    kinds = cast("list[str]", vector["kinds"])
    options = cast("dict[str, object]", vector.get("options", {}))
    table = plain_table(*split_fields(*kinds), namespace=tuple(cast("list[str]", vector["namespace"])), options=options)
    key = tuple(
        part_of(KeyType(kind), part) for kind, part in zip(kinds, cast("list[str]", vector["key"]), strict=True)
    )
    expected = cast("str", vector["text"]).encode()
    codec = codec_of(table)

    assert expected == codec.encode_key(key)
    assert key == codec.decode_key(expected)
    assert codec.first <= expected < codec.last


# --- keys -------------------------------------------------------------------------------------------------------------

KINDS = ["str", "bytes", "int", "uuid", "date", "datetime", "bool"]


@settings(max_examples=200)
@given(st.data(), st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), st.sampled_from(["/", "::", "\x1f"]))
def test_keys_come_back_or_are_refused(data: st.DataObject, kinds: list[str], separator: str) -> None:
    """A key that is written comes apart into the same components; one that could not is refused."""
    codec = codec_of(plain_table(fields_of(*kinds), options={"separator": separator}))
    texts = {"str": st.text(alphabet="a:/\x1f", max_size=4), "bytes": st.binary(max_size=3)}
    key: Key = data.draw(st.tuples(*(texts.get(kind, scalars[kind]) for kind in kinds)))
    try:
        encoded = codec.encode_key(key)
    except ValidationError as error:
        refusal = error
    else:
        assert key == codec.decode_key(encoded)
        return
    assert refusal.key == key
    inner = [str(part) if type(part) is str else repr(part) for part in key[:-1]]
    assert any(char in text for text in inner for char in separator) or b"\\x" in repr(inner).encode()


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), st.binary(max_size=20))
def test_random_key_bytes_are_refused_or_canonical(kinds: list[str], tail: bytes) -> None:
    """Any bytes at all give a DecodingError or the one key that is written so."""
    codec = codec_of(plain_table(fields_of(*kinds), options={"separator": "/"}))
    for data in (tail, b"users/" + tail, b"users/" + tail.replace(b"\x00", b"/")):
        try:
            key = codec.decode_key(data)
        except DecodingError:
            continue
        assert data == codec.encode_key(key)


@pytest.mark.parametrize(
    ("kinds", "key", "field"),
    [
        (("str", "str"), ("a:b", "c"), "k0"),
        (("bytes", "str"), (b"a:b", "c"), "k0"),
        (("str",), ("\ud800",), "k0"),
        (("str", "datetime"), ("a", datetime(2024, 1, 1)), "k1"),  # noqa: DTZ001 (a naive one is the point)
        (("int",), ("5",), "k0"),
        (("bytes",), ("5",), "k0"),
        (("str", "str"), ("a",), None),
    ],
)
def test_refused_keys(kinds: tuple[str, ...], key: Key, field: str | None) -> None:
    """Only the last component may hold the separator; the error names table, field and key."""
    codec = codec_of(plain_table(*split_fields(*kinds)))
    with pytest.raises(ValidationError) as refusal:
        codec.encode_key(key)

    assert (refusal.value.table, refusal.value.field, refusal.value.key) == ("users", field, key)


def test_overlong_keys_say_what_remains() -> None:
    """The limit is told in what the user can change."""
    codec = codec_of(plain_table(fields_of("str")), 20)

    assert len(codec.encode_key(("a" * 14,))) == 20
    with pytest.raises(ValidationError, match="14 remain after namespace and table, and this one needs 15"):
        codec.encode_key(("a" * 15,))


@pytest.mark.parametrize("part", ["", "\x00kvmodel", "\x00"])
def test_keys_of_kvmodel_are_out_of_reach(part: str) -> None:
    """Without a prefix, no key is empty or begins as kvmodel's own do."""
    codec = codec_of(plain_table(fields_of("str"), options={"key_prefix": ""}))

    with pytest.raises(ValidationError):
        codec.encode_key((part,))
    with pytest.raises(DecodingError):
        codec.decode_key(part.encode())
    assert codec.first > b"\x00kvmodel"


@pytest.mark.parametrize(
    "table",
    [
        plain_table(fields_of("float")),
        plain_table(fields_of("decimal")),
        plain_table(fields_of(KeyType("tuple", (KeyType("int"),)))),
        plain_table(fields_of(("str", True))),
        plain_table(fields_of("datetime", "str")),
        plain_table(fields_of("uuid", "str"), options={"separator": "-"}),
        plain_table(fields_of("str"), options={"separator": ""}),
        plain_table(fields_of("str"), options={"separator": 5}),
        plain_table(fields_of("str"), options={"key_prefix": b"x"}),
        plain_table(fields_of("str"), namespace=("a:b",)),
        plain_table(fields_of("str"), options={"document": "xml"}),
    ],
)
def test_what_cannot_be_plain_is_told_at_once(table: Table) -> None:
    """A declaration that the plain layout cannot hold is a SchemaError when the table is compiled."""
    with pytest.raises(SchemaError) as refusal:
        codec_of(table)
    assert (refusal.value.table, refusal.value.store) == ("users", "teststore")


# --- slices -----------------------------------------------------------------------------------------------------------

POOL: dict[str, list[KeyPart]] = {
    "str": ["", "a", "a!", "ab", "a:b", "b", "\U0010ffff"],
    "bytes": [b"", b"a", b"a:", b"\xff", b"\xff\xff"],
    "bool": [False, True],
    "int": [-1, 0, 5, 10],
    "date": [datetime(2024, 1, day, tzinfo=timezone.utc).date() for day in (1, 2, 3)],
}


@st.composite
def slices(draw: st.DrawFn) -> tuple[Table, Slice, list[Key]]:
    # Mostly keys that have an order, so that there is something to compare.
    kinds = [draw(st.sampled_from(["str", "int", "bytes"]))]
    kinds += draw(st.lists(st.sampled_from(["bool", "date", "bool", "date", "str", "int"]), max_size=1))
    kinds.append(draw(st.sampled_from(["str", "bytes", "str", "date", "int"])))
    table = plain_table(*split_fields(*kinds), options={"key_prefix": draw(st.sampled_from(["users:", "", "u"]))})
    parts = [st.sampled_from(POOL[kind][: 8 if index else 2]) for index, kind in enumerate(kinds)]
    keys = draw(st.lists(st.tuples(*parts), min_size=3, max_size=10))
    after, reverse = draw(st.none() | st.sampled_from(keys)), draw(st.booleans())
    if draw(st.integers(0, 5)) == 0:
        return table, Slice(None, after=after, reverse=reverse), keys

    def edge() -> Edge | None:
        return draw(
            st.none()
            | st.builds(lambda key, n, on: Edge(key[1:n], on), st.tuples(*parts), st.integers(1, 3), st.booleans())
        )

    prefix = draw(st.tuples(*parts))[1 : 1 + draw(st.integers(0, 1))]
    starts: str | bytes | None = None
    if 1 + len(prefix) < len(kinds) and kinds[1 + len(prefix)] in ("str", "bytes") and draw(st.booleans()):
        starts = cast("str | bytes", draw(parts[1 + len(prefix)]))
    return table, Slice(draw(st.sampled_from(keys))[:1], edge(), edge(), prefix, starts, reverse, None, after), keys


@settings(max_examples=250)
@given(slices(), st.sampled_from([None, None, 12]))
def test_bounds_hold_exactly_the_keys_of_a_slice(case: tuple[Table, Slice, list[Key]], limit: int | None) -> None:
    """A slice is the range of just its keys, in their order; where bytes have another order it is refused."""
    table, slice, keys = case
    codec = codec_of(table, limit)
    stored: dict[bytes, Key] = {}
    for key in keys:
        try:
            stored[codec.encode_key(key)] = key
        except ValidationError:
            continue
    try:
        start, stop = codec.bounds(slice)
    except (ValidationError, Unsupported):
        return
    found = [stored[data] for data in sorted(stored) if start <= data < stop]

    if slice.partition is None:
        order = sorted(stored)
        at = len(order) if slice.after is None else None
        if at is None and slice.after in stored.values():
            position = order.index(codec.encode_key(cast("Key", slice.after)))
            assert found == [stored[data] for data in (order[:position] if slice.reverse else order[position + 1 :])]
        elif at is not None:
            assert sorted(map(repr, found)) == sorted(map(repr, stored.values()))
        return
    varying = 1 + len(slice.prefix)
    chosen = [key for key in stored.values() if inside(table, slice._replace(after=None), key)]
    if slice.after is not None:
        if not inside(table, slice._replace(after=None, lower=None, upper=None), slice.after):
            return
        chosen = [key for key in chosen if inside(table, slice, key)]
    assert sorted(map(repr, chosen)) == sorted(map(repr, found))
    for left, right in itertools.pairwise(found):
        assert compare_keys(table.key[varying:], left[varying:], right[varying:]) <= 0
    assert limit is None or max(len(start), len(stop)) <= limit


@pytest.mark.parametrize(
    ("kinds", "prefix", "works"),
    [
        (("str", "str"), (), True),
        (("str", "bytes"), (), True),
        (("str", "int"), (), False),
        (("str", "int"), (5,), True),
        (("str", "str", "str"), (), False),
        (("str", "str", "str"), ("a",), True),
        (("str", "date", "str"), (), True),
        (("str", "uuid", "int"), (), False),
        (("str",), (), True),
    ],
)
def test_ranges_without_order_are_refused(kinds: tuple[str, ...], prefix: Key, works: bool) -> None:
    """Digits do not sort, nor does a text that others follow: such a range is refused unless the component is fixed."""
    codec = codec_of(plain_table(*split_fields(*kinds)))
    if works:
        start, stop = codec.bounds(Slice(("a",), prefix=prefix))
        assert start < stop
    else:
        with pytest.raises(Unsupported) as refusal:
            codec.bounds(Slice(("a",), prefix=prefix))
        assert (refusal.value.table, refusal.value.store) == ("users", "teststore")
    assert codec.bounds(Slice(None)) == (b"users:", b"users;")


@pytest.mark.parametrize("reverse", [False, True])
def test_going_on_behind_the_longest_key(reverse: bool) -> None:
    """A page that ends at a key of just the store's limit goes on behind it, not at it again."""
    codec = codec_of(plain_table((), fields_of("str")), 16)
    longest = ("x" * 10,)
    encoded = codec.encode_key(longest)
    start, stop = codec.bounds(Slice((), after=longest, reverse=reverse))

    assert len(encoded) == 16
    assert not start <= encoded < stop
    assert start <= codec.encode_key(("a" if reverse else "y",)) < stop


def test_a_store_of_nothing_but_the_table() -> None:
    """Without a prefix the range of a beginning may have no end in bytes: it is then the end of all keys."""
    codec = codec_of(plain_table((), fields_of("bytes"), options={"key_prefix": ""}))
    start, stop = codec.bounds(Slice((), starts=b"\xff"))

    assert start <= codec.encode_key((b"\xff",)) < codec.encode_key((b"\xff\xffz",)) < stop
    assert not start <= codec.encode_key((b"\xfe\xff",)) < stop


def test_starts_wants_a_text() -> None:
    """starts() on a component that has no beginning is an error."""
    codec = codec_of(plain_table(*split_fields("str", "date")))

    with pytest.raises(ValidationError):
        codec.bounds(Slice(("a",), starts="2024"))
    with pytest.raises(ValidationError):
        codec.bounds(Slice(("a:b",)))
