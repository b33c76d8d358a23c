"""Keys and values as the store keeps them: readable by others, and in order."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel.drivers.acapella.documents import Documents
from kvmodel.drivers.acapella.keys import decoder_of, encoder_of
from kvmodel.drivers.acapella.layout import MAX_KEY_BYTES
from kvmodel.drivers.acapella.tree_keys import TreeKeys
from kvmodel.drivers.base import KeyField, KeyType, Table, ValueField, ValueType
from kvmodel.errors import DecodingError

SAFE = re.compile(r"[A-Za-z0-9._~-]+")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_moments = st.datetimes(timezones=st.just(timezone.utc))
VALUES: dict[str, tuple[KeyType, st.SearchStrategy[Any]]] = {
    "bytes": (KeyType("bytes"), st.binary(max_size=6)),
    "int": (KeyType("int"), st.integers()),
    "float": (KeyType("float"), st.floats(allow_nan=False).map(lambda value: value + 0.0)),
    "bool": (KeyType("bool"), st.booleans()),
    "uuid": (KeyType("uuid"), st.uuids()),
    "datetime": (KeyType("datetime"), _moments),
    "date": (KeyType("date"), st.dates()),
    "pair": (KeyType("tuple", (KeyType("str"), KeyType("bytes"))), st.tuples(texts, st.binary(max_size=4))),
    "path": (KeyType("tuple", (KeyType("str"),), variadic=True), st.lists(texts, max_size=3).map(tuple)),
    "texts": (KeyType("str"), texts.filter(lambda text: text not in ("", ".", ".."))),
}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", list(VALUES))
@given(data=st.data())
def test_texts_are_in_the_order_of_values(kind: str, descending: bool, data: st.DataObject) -> None:
    """They come back as they were, are made of safe characters (but for a plain ``str``), and sort as the values do."""
    declared, values = VALUES[kind]
    field = KeyField("part", declared, descending)
    encode, decode = encoder_of(field), decoder_of(field)
    one, other = data.draw(values), data.draw(values)

    for value in (one, other):
        assert decode(encode(value)) == value
        if declared.kind != "str" or descending:
            assert SAFE.fullmatch(encode(value))
            assert encode(value) not in (".", "..")
    assert (encode(one) < encode(other)) is ((one > other) if descending else (one < other))


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        ("str", "a:b/é", "a:b/é"),
        ("bytes", b"", "x"),
        ("bytes", b"\x00\xff", "x00ff"),
        ("int", 42, "pb42"),
        ("int", -1, "mz8"),
        ("bool", True, "1"),
        ("decimal", Decimal("1.5"), "3500000000015"),
        ("uuid", UUID(int=10), "00000000-0000-0000-0000-00000000000a"),
        ("date", date(2024, 2, 29), "2024-02-29"),
        ("datetime", datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone.utc), "20240229T010203.000004Z"),
    ],
)
def test_forms(declared: str, value: Any, text: str) -> None:
    """Golden texts: what is stored today has to be read tomorrow."""
    encode = encoder_of(KeyField("part", KeyType(declared)))

    assert encode(value) == text


def test_forms_of_tuples() -> None:
    """Marked, escaped and ended; so are descending texts."""
    path = KeyType("tuple", (KeyType("str"),), variadic=True)

    assert encoder_of(KeyField("p", path))(()) == "t"
    assert encoder_of(KeyField("p", path))(("a", "b c", "")) == "tba--bb-20c--b--"
    assert encoder_of(KeyField("p", KeyType("str"), descending=True))("a") == "O~~~"


@pytest.mark.parametrize("text", ["", "y00", "x0", "xZZ", "p", "2024", "t", "ta", "t--", "tba", "x00 "])
@pytest.mark.parametrize("kind", ["bytes", "int", "datetime", "pair"])
def test_other_texts_are_no_keys(kind: str, text: str) -> None:
    """What the encoder does not write is refused, not guessed at."""
    with pytest.raises(ValueError, match=r"."):
        decoder_of(KeyField("part", VALUES[kind][0] if kind in VALUES else KeyType(kind)))(text)


# --- paths of trees ---------------------------------------------------------------------------------------------------


def _tree_keys(*kinds: str) -> TreeKeys:
    part = KeyType(kinds[0]) if len(kinds) == 1 else KeyType("union", tuple(map(KeyType, kinds)))
    path = KeyField("path", KeyType("tuple", (part,), variadic=True))
    tree = KeyField("tree", KeyType("str"))
    return TreeKeys(Table("test", (tree,), (path,), ()), MAX_KEY_BYTES)


@given(
    *[
        st.lists(
            texts.filter(lambda text: text[:1] != "\U0010ffff" and text not in ("", ".", ".."))
            | st.integers()
            | st.uuids(),
            min_size=1,
            max_size=3,
        )
    ]
    * 2
)
def test_paths_sort_as_they_do_everywhere(one: list[Any], other: list[Any]) -> None:
    """str before int before UUID, part by part; and each comes back."""
    keys = _tree_keys("str", "int", "uuid")
    ranks = {str: 0, int: 1, UUID: 2}

    def order(path: list[Any]) -> list[tuple[int, Any]]:
        return [(ranks[type(part)], part) for part in path]

    first, second = keys.address(("t", tuple(one))), keys.address(("t", tuple(other)))
    assert (first < second) is (order(one) < order(other))
    assert keys.key(("t",), first.clustering) == ("t", tuple(one))


def test_parts_of_paths() -> None:
    """A str is the part; what else there is has a mark only where it is needed."""
    assert _tree_keys("str").address(("t", ("a", "b:c"))) == (("test", "t"), ("a", "b:c"))
    assert _tree_keys("int").address(("t", (5,))).clustering == ("pa5",)
    assert _tree_keys("str", "int", "uuid").address(("t", ("a", 5))).clustering == ("a", "\U0010ffffdpa5")
    with pytest.raises(kv.ValidationError, match="10FFFF"):
        _tree_keys("str", "int", "uuid").address(("t", ("\U0010ffffx",)))
    with pytest.raises(kv.ValidationError):
        _tree_keys("str").address(("t", ("a", "")))
    with pytest.raises(DecodingError):
        _tree_keys("str", "int", "uuid").key(("t",), ["\U0010ffffzz"])


# --- values -----------------------------------------------------------------------------------------------------------


def _documents(*fields: tuple[str, ValueType], **options: Any) -> Documents:
    table = Table("things", (), (), tuple(ValueField(name, declared) for name, declared in fields), **options)
    return Documents(table, "acapella", 1000)


def test_values_are_plain_json() -> None:
    """No envelope; a schema number is a member that no field can be called; types that JSON lacks are texts."""
    fields = [("age", ValueType("int")), ("at", ValueType("date")), ("data", ValueType("bytes"))]
    values: Any = {"age": 25, "at": date(2024, 1, 2), "data": b"x"}

    assert _documents(*fields).dump(values) == b'{"age":25,"at":"2024-01-02","data":"eA=="}'
    numbered = _documents(*fields, schema_number=3)
    assert numbered.dump({"age": 25}) == b'{"age":25,"$schema":3}'
    row = numbered.load((), {"age": 25, "$schema": 3}, 7)
    assert (row.values, row.version, row.schema_number) == ({"age": 25}, 7, 3)


def test_ints_beyond_doubles_are_texts() -> None:
    """The number type of the server is not known: what a double does not hold exactly is written as text."""
    documents = _documents(("n", ValueType("int")), ("all", ValueType("list", (ValueType("int"),))))
    big = 2**53 + 1

    assert documents.dump({"n": big, "all": [2**53, -big]}) == b'{"n":"%d","all":[%d,"-%d"]}' % (big, 2**53, big)
    stored: Any
    for stored in (str(big), big):
        assert documents.load((), {"n": stored}, 1).values == {"n": big}
    for stored in ("25", "0" * 20, "x", 1.0, True):
        with pytest.raises(DecodingError):
            documents.load((), {"n": stored}, 1)


@pytest.mark.parametrize("value", [7, "x", [1], True])
def test_other_values_are_no_records(value: Any) -> None:
    """A record is an object, unless one field is the whole value."""
    with pytest.raises(DecodingError) as caught:
        _documents(("age", ValueType("int"))).load(("k",), value, 1)

    assert (caught.value.table, caught.value.key) == ("things", ("k",))


def test_a_whole_value_is_never_null() -> None:
    """Which would remove the record."""
    with pytest.raises(kv.SchemaError):
        _documents(("n", ValueType("int", nullable=True)), layout="plain", whole_value="n")
    assert _documents(("n", ValueType("int")), layout="plain", whole_value="n").dump({"n": 7}) == b"7"


def test_too_large() -> None:
    """Told with both sizes, before anything is sent."""
    with pytest.raises(kv.TooLarge) as caught:
        _documents(("text", ValueType("str"))).dump({"text": "x" * 1000})

    assert (caught.value.size, caught.value.limit) == (1011, 1000)
