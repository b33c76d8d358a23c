"""Messages between program and worker, with bytes alone."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmodel.drivers.quasardb.protocol import (
    HEAD,
    OPERATIONS,
    Failure,
    Framer,
    Malformed,
    Request,
    decode_reply,
    decode_request,
    encode_failure,
    encode_reply,
    encode_request,
)

SAMPLES = {
    "none": None,
    "text": "entry é",
    "bytes": b"\0\xff",
    "bytes?": None,
    "int": -(1 << 63),
    "int?": 7,
    "bool": True,
    "texts": ["a", ""],
    "contents": [b"x", None],
}
LIMIT = 1 << 20


def body_of(message: bytes) -> bytes:
    """A message without its length."""
    (body,) = Framer(LIMIT).feed(message)
    return body


@pytest.mark.parametrize("name", OPERATIONS)
def test_requests_and_replies_come_back(name: str) -> None:
    """Every operation of the list, with arguments and results of its types, survives the way."""
    operation = OPERATIONS[name]
    request = Request(7, name, 1500, tuple(SAMPLES[kind] for kind in operation.arguments))

    assert decode_request(body_of(encode_request(request))) == request
    result = SAMPLES[operation.result]
    assert decode_reply(body_of(encode_reply(7, result)), request).result == result
    failure = Failure("not_found", "AliasNotFoundError", "qdb_blob_get", "", True)
    assert decode_reply(body_of(encode_failure(7, failure)), request).failure == failure


@pytest.mark.parametrize(
    "message",
    [
        [1, "eval", 10, "1 + 1"],
        [1, "get", 10],
        [1, "get", 10, b"bytes"],
        [1, "put", 10, "key", "text"],
        [1, "get", -1, "key"],
        [True, "get", 10, "key"],
        [1, b"get", 10, "key"],
        [1, "prefix_get", 10, "p", 2**63],
        [1, "prefix_get", 10, "p", True],
        [1, "get_many", 10, ["a", 1], 5],
        {"get": 1},
        "get",
        [],
    ],
)
def test_only_the_list_can_be_asked_for(message: object) -> None:
    """Another operation, other arguments, another form: refused, whatever it is."""
    with pytest.raises(Malformed):
        decode_request(msgpack.packb(message))


@pytest.mark.parametrize(
    "message",
    [[8, 0, b"x"], [7, 0, "x"], [7, 0, None], [7, 2, b"x"], [7, 1, "a", "b", "c", "d", 1], [7, 0, b"x", 1], 7],
)
def test_only_its_own_reply_answers_a_request(message: object) -> None:
    """Another number, another type, another form: no answer."""
    request = Request(7, "get", 10, ("key",))

    with pytest.raises(Malformed):
        decode_reply(msgpack.packb(message), request)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Fuzz: nothing but the one error comes out of either decoder."""
    for decode in (decode_request, lambda body: decode_reply(body, Request(1, "get", 1, ("k",)))):
        with suppress(Malformed):
            decode(data)


@given(
    st.lists(
        st.integers(min_value=0) | st.text(max_size=5) | st.binary(max_size=5) | st.none() | st.booleans(), max_size=5
    )
)
def test_any_list_is_a_request_or_refused(items: list[object]) -> None:
    """Fuzz, with well-formed messages: what is taken is on the list, with its types."""
    for name in ("get", "put", "expires_at"):
        try:
            request = decode_request(msgpack.packb([1, name, *items]))
        except (Malformed, OverflowError):
            continue
        assert len(request.arguments) == len(OPERATIONS[name].arguments)


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_a_stream_may_be_cut_anywhere(bodies: list[bytes], cuts: list[int]) -> None:
    """Messages come out whole and in order, wherever the socket cuts them."""
    stream = b"".join(HEAD.pack(len(body)) + body for body in bodies)
    framer = Framer(LIMIT)
    found: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        found += framer.feed(stream[at : at + step])
        at += step
        turn += 1

    assert found == bodies


def test_a_message_that_is_too_long_is_refused_at_its_head() -> None:
    """A length is not believed: nobody waits for, or makes room for, a gigabyte."""
    with pytest.raises(Malformed):
        list(Framer(100).feed(HEAD.pack(101)))


def test_lists_inside_lists_are_no_message() -> None:
    """Nesting without end neither crashes nor passes."""
    with pytest.raises(Malformed):
        decode_request(b"\x91" * 100_000 + b"\xc0")
