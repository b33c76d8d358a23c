"""The protocol code and bytes that nobody recorded."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmodel.drivers.elevator.protocol import (
    Malformed,
    Reply,
    Status,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    is_new_msgpack,
)
from tests.drivers.elevator.recorded import lines, request_frames, response_frames

HEADER = encode_reply(Reply(Status.SUCCESS))[0]
COMPRESSED = encode_reply(Reply(Status.SUCCESS, compression=True))[0]
ROWS = encode_reply(Reply(Status.SUCCESS, [[b"key", b"value" * 20]] * 50, compression=True))

_scalars: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary()
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=10)
_replies = [response_frames(line) for line in lines() if line["response_frames_hex"]]
_requests = [request_frames(line) for line in lines() if line["request_frames_hex"]]


@given(st.binary(min_size=1), st.lists(_values), st.none() | st.binary(), st.booleans())
def test_requests_come_back(command: bytes, args: list[Any], uid: bytes | None, compression: bool) -> None:
    """Whatever is written is read as it was."""
    request = decode_request([encode_request(command, args, uid, compression=compression)])

    assert (request.command, request.args, request.uid) == (command, args, uid)
    assert request.meta == {b"compression": compression}


@given(st.sampled_from(Status), st.none() | st.just(False) | st.lists(_values), st.booleans(), st.integers(0, 9))
def test_replies_come_back(status: Status, data: Any, compression: bool, code: int) -> None:
    """Compressed or not."""
    reply = Reply(status, data, code, b"words", compression)

    assert decode_reply(encode_reply(reply)) == reply


@given(st.binary(max_size=300))
def test_strings_are_of_the_old_kind(data: bytes) -> None:
    """A server of those days may fall over the new ones."""
    frame = encode_request(b"GET", [data])

    assert frame.endswith(data)
    assert frame[len(frame) - len(data) - 3 :][:3] != b"\xd9"
    assert b"\xc4" not in frame[: len(frame) - len(data)]


# --- garbage ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_any_frames_are_read_or_malformed(frames: list[bytes]) -> None:
    """Never another exception."""
    for read in (decode_reply, decode_request):
        try:
            read(frames)
        except Malformed:
            continue


@given(st.binary(max_size=500), st.sampled_from([HEADER, COMPRESSED]))
def test_any_content_is_read_or_malformed(content: bytes, header: bytes) -> None:
    """Behind a header that is right."""
    with contextlib.suppress(Malformed):
        decode_reply([header, content])


@given(st.sampled_from(_replies + _requests), st.data())
def test_damaged_recordings_are_read_or_malformed(frames: list[bytes], data: st.DataObject) -> None:
    """A byte changed, or the end cut off."""
    number = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[number])
    if frame:
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        del frame[data.draw(st.integers(0, len(frame))) :]
    damaged = [*frames[:number], bytes(frame), *frames[number + 1 :]]
    for read in (decode_reply, decode_request):
        try:
            read(damaged)
        except Malformed:
            continue


@pytest.mark.parametrize("size", [0, 1, 8, 70_000, 2**31 - 1, 2**32 - 1])
def test_a_length_that_lies_is_refused(size: int) -> None:
    """However large it claims to be, no memory is taken for it."""
    content = struct.pack("<I", size) + ROWS[1][4:]
    tracemalloc.start()
    with pytest.raises(Malformed):
        decode_reply([COMPRESSED, content])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"\x81\xa5datas\xdd\xff\xff\xff\xff",
        b"\x81\xa5datas\xdb\xff\xff\xff\xff",
        b"\x81\xa5datas" + b"\xdd\x00\x0f\x00\x00" * 200_000,
        b"\x81\xa5datas" + b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
    ],
    ids=["list", "string", "lists of lists", "deep", "map"],
)
def test_announced_lengths_are_not_believed(content: bytes) -> None:
    """What is announced and not there takes no memory."""
    tracemalloc.start()
    with pytest.raises(Malformed):
        decode_reply([HEADER, content])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * len(content) + (1 << 20)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [HEADER],
        [HEADER, b"\x81\xa5datas\xc0", b""],
        [HEADER, b""],
        [HEADER, b"\x80"],
        [HEADER, b"\x81\xa5datas\xc3"],
        [HEADER, b"\x81\xa5datas\xa1x"],
        [HEADER, b"\x81\xa5datas\x81\x01\x02"],
        [HEADER, b"\x81\xa5datas\xc0\xc0"],
        [HEADER, b"\x82\xa5datas\xc0\xa1x\xc0"],
        [b"\x81\xa6status\x02", b"\x81\xa5datas\xc0"],
        [b"\x81\xa6status\xc3", b"\x81\xa5datas\xc0"],
        [b"\x82\xa6status\x01\xa8err_code\xa1x", b"\x81\xa5datas\xc0"],
        [b"\x82\xa6status\x01\xa7err_msg\x01", b"\x81\xa5datas\xc0"],
        [COMPRESSED, b"\x01\x00"],
        [COMPRESSED, b"\x81\xa5datas\xc0"],
    ],
)
def test_what_is_no_reply_is_refused(frames: list[bytes]) -> None:
    """One frame is the later rewrite's; two have to be a header that is known and a content with its data."""
    with pytest.raises(Malformed):
        decode_reply(frames)


def test_a_failure_is_told_by_its_status() -> None:
    """The code of a failed type is 0, which Python takes for false."""
    reply = decode_reply(encode_reply(Reply(Status.FAILURE, None, 0, b"no")))

    assert (reply.status, reply.code) == (Status.FAILURE, 0)


def test_only_true_means_compressed() -> None:
    """Anything else is an echo of what was asked, and the content is plain."""
    for echo in (1, b"yes", None):
        assert decode_reply(encode_reply(Reply(Status.SUCCESS, [b"v"], compression=echo))).data == [b"v"]


def test_a_new_msgpack_is_recognised() -> None:
    """By how it writes the 36 bytes of a uid."""
    uid = b"8b05720d-77a3-4d40-bf7a-9bf328e4af7f"

    assert is_new_msgpack([HEADER, b"\x81\xa5datas\x91\xd9\x24" + uid])
    assert is_new_msgpack([HEADER, b"\x81\xa5datas\x91\xc4\x24" + uid])
    assert not is_new_msgpack(encode_reply(Reply(Status.SUCCESS, [uid])))
