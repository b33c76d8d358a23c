"""Keys on the wire and replies of every kind, without a server."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.errors import Malformed
from kvmodel.drivers.acapella.paths import decode_bound, decode_key, encode_bound, encode_key
from kvmodel.drivers.acapella.protocol import Call, Found, Quorum, RowItem

SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~:%")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
parts = st.lists(texts, min_size=1, max_size=4).map(tuple)

CALLS: list[Call[Any]] = [
    protocol.login("u", "p"),
    protocol.get(["a"]),
    protocol.version(["a"]),
    protocol.listen(["a"], after=1),
    protocol.put(["a"], [], b"1"),
    protocol.rows(["a"]),
    protocol.batch(["a"], [(["b"], b"1", None)]),
    protocol.begin(),
    protocol.indexes("u", "k"),
    protocol.index_query(["a", "b"], {}),
    protocol.tree_get(["t"], ["a"]),
    protocol.tree_step(["t"], ["a"]),
    protocol.tree_rows(["t"]),
]


# --- keys -------------------------------------------------------------------------------------------------------------


@given(parts)
def test_a_key_survives_its_path(key: tuple[str, ...]) -> None:
    """Whatever its parts hold, one key is one segment of safe characters, and no segment that a library takes out."""
    segment = encode_key(key)

    assert set(segment) <= SAFE
    assert segment not in (".", "..")
    assert decode_key(segment) == key


@given(parts)
def test_a_bound_survives_its_query(key: tuple[str, ...]) -> None:
    """It is quoted twice: once as a key, once as a value of a query."""
    from urllib.parse import parse_qs

    (text,) = parse_qs(f"from={encode_bound(key)}")["from"]

    assert decode_bound(text) == key


@pytest.mark.parametrize(
    ("key", "segment"),
    [
        (["user", "a b", "é"], "user:a%20b:%C3%A9"),
        (["a:b"], "a%3Ab"),
        (["a/b"], "a%2Fb"),
        (["a+b"], "a%2Bb"),
        (["."], "%2E"),
        ([".."], "%2E%2E"),
        ([".", "a"], ".:a"),
        (["~-._"], "~-._"),
    ],
)
def test_keys_in_paths(key: list[str], segment: str) -> None:
    """As the protocol page says."""
    assert encode_key(key) == segment


@pytest.mark.parametrize("segment", ["", ":", "a::b", ":a", "a:", "%FF"])
def test_what_is_no_key(segment: str) -> None:
    """Empty parts, and what is no UTF-8."""
    with pytest.raises(ValueError, match=r"."):
        decode_key(segment)


def test_old_clients_bounds_are_read_leniently() -> None:
    """Quoted once only, a ``%`` that begins no escape stands for itself; small hexadecimal digits will do."""
    assert decode_bound("a%b:c") == ("a%b", "c")
    assert decode_bound("a%3ab") == ("a:b",)
    assert decode_bound("") == ()


# --- replies ----------------------------------------------------------------------------------------------------------


def test_numbers_may_be_texts() -> None:
    """Versions and transactions, in every place."""
    assert protocol.get(["a"]).read(b'{"version": "7", "value": 1}') == Found(7, 1)
    assert protocol.begin().read(b'{"index": "9223372036854775807"}') == 2**63 - 1
    assert protocol.rows(["a"]).read(b'[{"key": ["k"], "version": "7"}]') == [RowItem(("k",), 7, None)]
    batch = protocol.batch(["a"], [(["b"], b"1", None)])
    assert batch.read(b'[{"key": ["b"], "version": "3"}]') == [3]


@pytest.mark.parametrize(
    "version", ["true", "-1", "1.5", "null", '"x"', '"1.0"', "[1]", str(2**63), '"' + "9" * 30 + '"']
)
def test_what_is_no_version(version: str) -> None:
    """Anything but a 64-bit number that is not negative."""
    with pytest.raises(Malformed):
        protocol.version(["a"]).read(f'{{"version": {version}}}'.encode())


def test_a_batch_is_answered_item_by_item() -> None:
    """Matched by key, in any order; another number of items, or another key, is refused."""
    batch = protocol.batch(["p"], [(["a"], b"1", None), (["b"], None, 3)])

    assert batch.body == b'[{"key": ["a"], "value": 1, "version": null}, {"key": ["b"], "value": null, "version": 3}]'
    assert batch.read(b'[{"key": ["b"], "version": 4}, {"key": ["a"], "version": 1}]') == [1, 4]
    for reply in (b"[]", b'[{"key": ["a"], "version": 1}]', b'[{"key":["a"],"version":1},{"key":["c"],"version":1}]'):
        with pytest.raises(Malformed):
            batch.read(reply)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"7",
        b'"x"',
        b"[1]",
        b"{}x",
        b"\xff\xfe",
        b'{"version": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'[{"key": 1, "version": 1, "value": 1}]',
        b'[{"key": [1], "version": 1, "value": 1}]',
        b'{"version": 1, "value": "\\ud800"}',
        b'{"version": 1, "value": 1e999}',
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
)
def test_damaged_replies(call: Call[Any], body: bytes) -> None:
    """Each is refused as what it is, however deep or long: never another error."""
    with pytest.raises(Malformed):
        call.read(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "version", "value", "index", "token", "indexes", "fields", "node"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()), st.sampled_from(CALLS))
def test_any_reply_is_read_or_refused(body: bytes, call: Call[Any]) -> None:
    """Bytes and JSON of any shape: a result, or ``Malformed``."""
    with suppress(Malformed):
        call.read(body)


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers", [(0, 2, 2), (128, 2, 2), (3, 0, 2), (3, 2, 0), (3, 4, 2), (3, 2, 4), (1, 2, 2), (True, 1, 1)]
)
def test_quorums_are_checked(numbers: tuple[int, int, int]) -> None:
    """As the original client does: 1 <= n <= 127, 1 <= r <= n, 1 <= w <= n."""
    with pytest.raises(kv.ValidationError):
        Quorum.checked(*numbers)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1, 2}, "\ud800", {"a": "\ud800"}])
def test_what_json_does_not_hold(value: Any) -> None:
    """It is refused before it is sent."""
    with pytest.raises(kv.ValidationError):
        protocol.dump_json(value)


def test_escapes_of_real_characters_pass() -> None:
    """A text beyond the basic plane is written as two escapes, and is no lone surrogate."""
    assert protocol.dump_json("\U0001f600\\ud800") == b'"\\ud83d\\ude00\\\\ud800"'
