"""Messages as bytes, without a server."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmodel.drivers.etcd import administration, messages
from kvmodel.drivers.etcd.messages import (
    Compare,
    Event,
    KeyValue,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    Result,
    Target,
    TxnRequest,
    WatchCreateRequest,
    WatchRequest,
    WatchResponse,
)
from kvmodel.drivers.etcd.wire import Malformed, Message

INTS = st.integers(-(1 << 63), (1 << 63) - 1)
KVS = st.builds(KeyValue, st.binary(max_size=200), INTS, INTS, INTS, st.binary(max_size=200), INTS)


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (RangeRequest(b"a"), "0a0161"),
        (RangeRequest(b"a", b"b", limit=300), "0a0161 120162 18ac02"),
        (PutRequest(b"k", b"v", lease=-1), "0a016b 120176 18ffffffffffffffffff01"),
        (Compare(Result.LESS, Target.MOD, b"k", mod_revision=0), "0802 1002 1a016b 3000"),
        (Compare(Result.EQUAL, Target.VALUE, b"k", value=b"", range_end=b"l"), "1003 1a016b 3a00 8204016c"),
        (TxnRequest((), [RequestOp(request_txn=TxnRequest())]), "1202 2200"),
        (WatchRequest(create_request=WatchCreateRequest(b"k", filters=[0, 1])), "0a07 0a016b 2800 2801"),
    ],
)
def test_bytes_are_those_of_the_api(message: Message, encoded: str) -> None:
    """Numbers and forms of fields, as etcd's own definition has them; what is default is left out, but for choices."""
    data = bytes.fromhex(encoded.replace(" ", ""))

    assert message.encode() == data
    assert type(message).decode(data) == message


@given(st.lists(KVS, max_size=5), INTS, st.booleans())
def test_messages_come_back(kvs: list[KeyValue], count: int, more: bool) -> None:
    """Whatever their fields hold."""
    answer = RangeResponse(messages.Header(1, (1 << 64) - 1, count, 0), kvs, more, count)

    assert RangeResponse.decode(answer.encode()) == answer


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    """Nothing else comes of them."""
    for cls in (RangeResponse, WatchResponse, messages.TxnResponse, administration.StatusResponse):
        try:
            cls.decode(data)
        except Malformed:
            continue


def test_damaged_messages() -> None:
    """One byte that is another, or missing bytes at the end: a message or ``Malformed``."""
    draw = random.Random(1)
    kv = KeyValue(b"key", 1, 2, 3, b"value" * 40, 7)
    data = WatchResponse(messages.Header(1, 2, 3, 4), 1, events=[Event(0, kv, kv)] * 3).encode()
    refused = 0
    for _ in range(3000):
        damaged = bytearray(data[: draw.randint(0, len(data))])
        if damaged:
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            WatchResponse.decode(bytes(damaged))
        except Malformed:
            refused += 1
    assert refused > 500


def test_unknown_fields_are_skipped() -> None:
    """A newer server may have more of them, of every form."""
    more = "f80701 f90701020304 05060708 fa0702abcd fd0701020304"
    data = KeyValue(b"k", 5).encode()

    assert KeyValue.decode(bytes.fromhex(more.replace(" ", "")) + data) == KeyValue(b"k", 5)


def test_packed_numbers_are_read() -> None:
    """A list of numbers may come in one piece."""
    assert WatchCreateRequest.decode(bytes.fromhex("2a020001")).filters == (0, 1)


def test_nesting_has_an_end() -> None:
    """Transactions inside transactions, deeper than any server takes."""
    data = b""
    for _ in range(100):
        inner = b"\x22" + _length(data) + data
        data = b"\x12" + _length(inner) + inner
    with pytest.raises(Malformed, match="deeply"):
        TxnRequest.decode(data)


def _length(data: bytes) -> bytes:
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes((*out, size))


def test_secrets_are_not_shown() -> None:
    """Passwords and tokens are in no repr."""
    for message in (
        administration.AuthenticateRequest("ada", "open sesame"),
        administration.UserAddRequest("ada", "open sesame"),
        administration.UserPasswordRequest("ada", "open sesame"),
        administration.AuthenticateResponse(token="open sesame"),
    ):
        assert "sesame" not in repr(message)
        assert type(message).decode(message.encode()) == message
