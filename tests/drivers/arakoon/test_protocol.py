"""Bytes that nobody should send: bounded, and refused with one error, whatever they are."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmodel.drivers.arakoon import protocol as p
from kvmodel.drivers.arakoon import steps as s
from kvmodel.drivers.arakoon.nursery import Leaf, Split, cluster_of
from kvmodel.drivers.arakoon.protocol import (
    COMMANDS,
    Command,
    ReplyParser,
    RequestParser,
    encode_prologue,
    encode_reply,
)
from kvmodel.drivers.arakoon.wire import INT32, Incomplete, Limits, Malformed, Reader, TooLong

every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)

FOUR_GIGABYTES = b"\xff\xff\xff\xff"
TWO_GIGABYTES = b"\xff\xff\xff\x7f"
ANSWERING = [command for command in COMMANDS.values() if command.result.smallest >= 4]


@every_command
@settings(max_examples=40)
@given(data=st.binary(max_size=80))
def test_no_reply_is_more_than_malformed(command: Command[Any], data: bytes) -> None:
    """Any bytes are a reply, the beginning of one, or ``Malformed``."""
    parser = ReplyParser(command.result)
    try:
        parser.feed(data)
    except Malformed:
        return
    if parser.refusal is not None:
        assert isinstance(parser.refusal.text, bytes)


@every_command
@settings(max_examples=40)
@given(data=st.binary(max_size=80))
def test_results_of_any_bytes(command: Command[Any], data: bytes) -> None:
    """The same behind a code that promises a result."""
    with contextlib.suppress(Malformed):
        ReplyParser(command.result).feed(bytes(4) + data)


@given(data=st.binary(max_size=200), number=st.sampled_from(sorted(COMMANDS)))
def test_requests_of_any_bytes(data: bytes, number: int) -> None:
    """What a server is sent is a request, the beginning of one, or ``Malformed``."""
    parser = RequestParser()
    parser.feed(encode_prologue(b"x") + (0xB1FF0000 | number).to_bytes(4, "little") + data)
    try:
        while parser.next() is not None:
            pass
    except Malformed:
        pass


@given(data=st.binary(max_size=200))
def test_sequences_of_any_bytes(data: bytes) -> None:
    """What a sequence is said to be is one, cut short, or ``Malformed``."""
    with contextlib.suppress(Malformed, Incomplete):
        s.decode_sequence(Reader(Limits(), INT32.write(5) + data))


@pytest.mark.parametrize("command", ANSWERING, ids=lambda command: command.name)
@pytest.mark.parametrize("length", [FOUR_GIGABYTES, TWO_GIGABYTES])
def test_no_length_is_believed(command: Command[Any], length: bytes) -> None:
    """A result, a list or a message of gigabytes is refused when it is announced, and no room is made for it."""
    tracemalloc.start()
    try:
        for head in (bytes(4), b"\x05\x00\x00\x00"):
            if head == bytes(4) and command.result in (
                p.VERSION.result,
                p.GET_KEY_COUNT.result,
                p.DELETE_PREFIX.result,
            ):
                continue
            parser = ReplyParser(command.result)
            with pytest.raises(Malformed):
                parser.feed(head + length)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_reply_may_not_grow_without_end() -> None:
    """Many short elements are as much as one long one."""
    parser = ReplyParser(p.RANGE.result, Limits(string=1000, message=1000))

    assert not parser.feed(bytes(4) + INT32.write(200))
    with pytest.raises(TooLong):
        for _ in range(100):
            parser.feed(INT32.write(40) + b"x" * 40)


def test_a_long_list_is_read_once() -> None:
    """However many pieces it comes in: its time grows with its length, not with its square."""
    reply = encode_reply(p.RANGE, [b"%06d" % number for number in range(20_000)])
    parser = ReplyParser(p.RANGE.result)
    read = 0
    original = Reader.string

    def counted(reader: Reader) -> bytes:
        nonlocal read
        read += 1
        return original(reader)

    shape = p.RANGE.result.item  # type: ignore[attr-defined]
    object.__setattr__(shape, "read", counted)
    try:
        ends = [parser.feed(reply[at : at + 100]) for at in range(0, len(reply), 100)]
    finally:
        object.__setattr__(shape, "read", original)

    assert ends.count(True) == 1
    assert len(parser.result or ()) == 20_000
    assert read < 25_000


@given(
    st.recursive(st.binary(max_size=3).map(Leaf), lambda inner: st.builds(Split, st.binary(max_size=3), inner, inner))
)
def test_routings_come_back(routing: Any) -> None:
    """Of any form; and every key has a cluster."""
    parser = ReplyParser(p.GET_ROUTING.result)

    assert parser.feed(encode_reply(p.GET_ROUTING, routing))
    assert parser.result == routing
    assert isinstance(cluster_of(routing, b"k"), bytes)


def test_the_boundary_goes_right() -> None:
    """Keys below a boundary are the left cluster's."""
    routing = Split(b"m", Leaf(b"left"), Split(b"t", Leaf(b"mid"), Leaf(b"right")))

    assert [cluster_of(routing, key) for key in (b"", b"lz", b"m", b"sz", b"t", b"\xff")] == [
        b"left",
        b"left",
        b"mid",
        b"mid",
        b"right",
        b"right",
    ]


def nested(depth: int) -> bytes:
    """A sequence inside a sequence inside..."""
    return (INT32.write(5) + INT32.write(1)) * depth + INT32.write(6)


def test_nesting_is_bounded() -> None:
    """A sequence, statistics or a routing of a thousand levels are refused, not a crash."""
    assert s.decode_sequence(Reader(Limits(), nested(20))).steps
    with pytest.raises(Malformed):
        s.decode_sequence(Reader(Limits(), nested(20_000)))
    fields = (INT32.write(5) + INT32.write(0) + INT32.write(1)) * 5_000
    with pytest.raises(Malformed):
        ReplyParser(p.STATISTICS_.result).feed(bytes(4) + INT32.write(len(fields)) + fields)
    with pytest.raises(Malformed):
        ReplyParser(p.GET_ROUTING.result).feed(bytes(4) + INT32.write(50_000) + b"\0\0\0\0\0" * 10_000)


step = st.one_of(
    st.builds(s.Set, st.binary(max_size=4), st.binary(max_size=4)),
    st.builds(s.Delete, st.binary(max_size=4)),
    st.builds(
        s.TestAndSet, st.binary(max_size=4), st.none() | st.binary(max_size=4), st.none() | st.binary(max_size=4)
    ),
    st.builds(s.Nop),
    st.builds(s.Replace, st.binary(max_size=4), st.none() | st.binary(max_size=4)),
    st.builds(s.UserFunction, st.binary(max_size=4), st.none() | st.binary(max_size=4)),
    st.builds(s.SetInterval, *[st.none() | st.binary(max_size=4)] * 4),
    st.builds(s.AssertExists, st.binary(max_size=4)),
    st.builds(s.Assert, st.binary(max_size=4), st.none() | st.binary(max_size=4)),
    st.builds(s.AssertRange, st.binary(max_size=4), st.lists(st.binary(max_size=4))),
    st.builds(s.DeletePrefix, st.binary(max_size=4)),
    st.builds(s.SetRouting, st.binary(max_size=4).map(Leaf)),
    st.builds(s.SetRoutingDelta, st.binary(max_size=4), st.binary(max_size=4), st.binary(max_size=4)),
)


@given(
    st.lists(st.recursive(step, lambda inner: st.lists(inner, max_size=3).map(s.Sequence), max_leaves=8), max_size=5)
)
def test_steps_come_back(steps: list[s.Step]) -> None:
    """All of them, nested as they are."""
    sequence = s.Sequence(steps)

    assert s.size_of([sequence]) == s.size_of(steps) + s.HEAD_BYTES == len(s.encode_step(sequence))
    assert s.decode_sequence(Reader(Limits(), s.encode_step(sequence))) == sequence


@pytest.mark.parametrize("extra", [b"", b"x"])
def test_a_string_holds_one_value_and_nothing_else(extra: bytes) -> None:
    """What is behind the value in a string is no part of a reply."""
    leaf = b"\x01" + INT32.write(4) + b"left"
    parser = ReplyParser(p.GET_ROUTING.result)
    reply = bytes(4) + INT32.write(len(leaf + extra)) + leaf + extra
    if extra:
        with pytest.raises(Malformed):
            parser.feed(reply)
    else:
        assert parser.feed(reply)
        assert parser.result == Leaf(b"left")
