"""The marker and the catalogue: golden bytes, what may change between programs, what is refused and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmodel.drivers.base import KeyField, KeyType, Primitive, Table, Values
from kvmodel.drivers.formats.catalogue import (
    MARKER_KEY,
    check_entry,
    check_marker,
    encode_entry,
    encode_marker,
    entry_key,
)
from kvmodel.drivers.formats.codec import compile_codec
from kvmodel.drivers.formats.records import pack, unpack
from kvmodel.errors import SchemaError
from tests.formats.cases import fields_of, table_of

STR, INT = KeyType("str"), KeyType("int")


def users(*, number: int = 2, **more: object) -> Table:
    partition = (KeyField("team", STR),)
    clustering = (KeyField("name", STR), KeyField("at", INT, descending=True))
    return table_of(partition, clustering, name="users", namespace=("t1",), schema_number=number, **more)


def with_key(*clustering: KeyField) -> Table:
    return table_of((KeyField("team", STR),), clustering, name="users", schema_number=2)


def test_golden_bytes() -> None:
    """Marker and rows never change: every later version finds and reads them."""
    assert bytes.fromhex("006b766d6f64656c") == MARKER_KEY
    assert bytes.fromhex("82a46b65797301a77265636f72647301") == encode_marker()
    assert bytes.fromhex("0063050274310000027573657273 00") == entry_key(users())
    assert unpack(encode_entry(users())) == {
        "name": "users",
        "partition": [["team", "str", False]],
        "clustering": [["name", "str", False], ["at", "int", True]],
        "number": 2,
        "keys": 1,
        "records": 1,
    }


def test_keys_lie_below_all_records() -> None:
    """Neither marker nor rows fall into any table's range, nor do rows of two tables share a key."""
    codec = compile_codec(users(), store="teststore")
    other = table_of(fields_of("str"), name="t1")

    assert max(MARKER_KEY, entry_key(users())) < codec.first
    assert len({MARKER_KEY, entry_key(users()), entry_key(other), entry_key(table_of(name="users"))}) == 4


def test_the_same_table_agrees() -> None:
    """A row that says what the model says wants nothing."""
    check_marker(encode_marker())

    assert check_entry(users(), encode_entry(users())) is False


def test_an_older_schema_number_wants_rewriting() -> None:
    """A model may move on: the row is to be written again, and from then on older programs are refused."""
    old = encode_entry(users(number=1))

    assert check_entry(users(number=2), old) is True
    with pytest.raises(SchemaError, match="version 2 of its model, and this program has version 1: upgrade"):
        check_entry(users(number=1), encode_entry(users(number=2)))


def test_a_renamed_field_wants_rewriting() -> None:
    """Key bytes hold no names, so that a key field may be renamed."""
    old = encode_entry(with_key(KeyField("name", STR)))

    assert check_entry(with_key(KeyField("title", STR)), old) is True


@pytest.mark.parametrize(
    ("clustering", "words"),
    [
        ([KeyField("name", STR)], "2 clustering fields, the model has 1"),
        ([KeyField("name", INT), KeyField("at", INT)], "'name' is str ascending, the model says int ascending"),
        ([KeyField("name", STR), KeyField("at", INT, True)], "'at' is int ascending, the model says int descending"),
    ],
)
def test_another_key_is_refused_in_words(clustering: list[KeyField], words: str) -> None:
    """A mismatch says what differs and what to do, and names table and store."""
    stored = encode_entry(with_key(KeyField("name", STR), KeyField("at", INT)))

    with pytest.raises(SchemaError, match=words) as refusal:
        check_entry(with_key(*clustering), stored, store="lmdb:///data")
    assert "another table name" in refusal.value.message
    assert (refusal.value.table, refusal.value.store) == ("users", "lmdb:///data")


def test_swapped_fields_are_refused() -> None:
    """Two fields of one type that change places would silently mean something else."""
    stored = encode_entry(with_key(KeyField("first", STR), KeyField("second", STR)))

    with pytest.raises(SchemaError, match="in the order first, second"):
        check_entry(with_key(KeyField("second", STR), KeyField("first", STR)), stored)


def test_a_moved_partition_boundary_is_refused() -> None:
    """What was a partition field is not silently a clustering field."""
    stored = encode_entry(table_of(fields_of("str"), fields_of("str", "str")[1:]))

    with pytest.raises(SchemaError, match="1 partition fields, the model has 2"):
        check_entry(table_of(fields_of("str", "str")), stored)


@pytest.mark.parametrize("name", ["keys", "records"])
def test_newer_formats_are_refused(name: str) -> None:
    """What a newer kvmodel wrote is not guessed at."""
    entry = {**unpack(encode_entry(users())), name: 2}
    marker = {**unpack(encode_marker()), name: 2}

    with pytest.raises(SchemaError, match="upgrade kvmodel"):
        check_entry(users(), pack(entry))
    with pytest.raises(SchemaError, match="upgrade kvmodel"):
        check_marker(pack(marker))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", None),
        ("number", "2"),
        ("number", True),
        ("keys", None),
        ("records", 0),
        ("partition", None),
        ("partition", [["team", "str"]]),
        ("clustering", [["name", "str", 0], ["at", "int", 1]]),
        ("clustering", "name"),
    ],
)
def test_damaged_rows_are_refused(name: str, value: Primitive) -> None:
    """A row without what it must say is damage, not agreement."""
    entry: Values = {**unpack(encode_entry(users())), name: value}

    with pytest.raises(SchemaError, match="damaged"):
        check_entry(users(), pack(entry))


@given(st.binary(max_size=40))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Any bytes at all are a SchemaError, unless they say the right thing."""
    for stored in (data, encode_entry(users())[: len(data)] + data):
        with pytest.raises(SchemaError):
            check_entry(users(), stored)
    with pytest.raises(SchemaError):
        check_marker(data)
