"""The protocol code against every recorded exchange, from both sides."""

from __future__ import annotations

from typing import Any

import pytest

from kvmodel.drivers.arakoon import protocol
from kvmodel.drivers.arakoon.protocol import (
    COMMANDS,
    STAYS_OPEN,
    Call,
    Code,
    Prologue,
    ReplyParser,
    RequestParser,
    UnknownCommand,
    UnmaskedCommand,
    encode_prologue,
    encode_refusal,
    encode_reply,
)
from kvmodel.drivers.arakoon.statistics import Statistics, Timing
from kvmodel.drivers.arakoon.steps import decode_sequence, encode_step
from kvmodel.drivers.arakoon.wire import Incomplete, Limits, Malformed, Reader
from tests.drivers.arakoon.recorded import Line, call_of, calls, is_same, lines, named, response, result_of, value

CALLS = calls()
ANSWERED = [line for line in CALLS if line.get("response_hex")]
OTHERS = [line for line in lines() if line["op"] in ("raw", "pipeline")]

every_call = pytest.mark.parametrize("line", CALLS, ids=named)
every_answer = pytest.mark.parametrize("line", ANSWERED, ids=named)


def test_the_transcript_is_whole() -> None:
    """What the other tests run over is all there is, and every command but those of tools occurs."""
    assert len(lines()) == 515
    assert len(CALLS) == 390
    # A sequence that is synced is recorded as a sequence; the other two are listed, and were not recorded.
    unrecorded = {"synced_sequence", "collapse_tlogs", "copy_db_to_head"}
    assert {command.name for command in COMMANDS.values()} - {line["op"] for line in CALLS} == unrecorded


# --- the client's side ------------------------------------------------------------------------------------------------


@every_call
def test_requests_are_written_as_recorded(line: Line) -> None:
    """Byte for byte."""
    assert is_same(call_of(line).encode(), line, "request")


@every_answer
def test_replies_are_read_as_recorded(line: Line) -> None:
    """However they are cut into pieces, down to single bytes, and no sooner than they are complete."""
    data = response(line)
    for size in (1, 7, 1 << 20):
        parser = ReplyParser(call_of(line).command.result)

        ends = [parser.feed(data[at : at + size]) for at in range(0, len(data), size)]

        assert ends == [False] * (len(ends) - 1) + [True]
        check_reply(parser, line)
        assert parser.rest == b""


@every_answer
def test_what_follows_a_reply_is_not_its_own(line: Line) -> None:
    """The reply is the same, and what is behind it is handed back."""
    parser = ReplyParser(call_of(line).command.result)

    assert parser.feed(response(line) + b"more")
    check_reply(parser, line)
    assert parser.rest == b"more"


def check_reply(parser: ReplyParser[Any], line: Line) -> None:
    """Compare with what the original client made of it."""
    if "error" in line:
        assert parser.refusal is not None
        assert parser.refusal.code == line["error"]["code"]
        assert parser.refusal.text == value(line["error"]["message"])
        assert Code(parser.refusal.code).name in line["error"]["name"].replace("USERHOOK", "USER_HOOK").replace(
            "USERFUNCTION", "USER_FUNCTION"
        )
        return
    assert parser.refusal is None
    if line["op"] == "statistics":
        assert parser.result is not None
        check_statistics(parser.result, value(line["result"]))
    elif line["result"] != {"raw": True}:
        assert parser.result == result_of(line)


def check_statistics(found: Statistics, recorded: dict[str, Any]) -> None:
    """Every number, by its name; NaN is equal to itself here."""
    assert found.others == {}
    for name, expected in recorded.items():
        given = getattr(found, name)
        if isinstance(given, Timing):
            assert {key: repr(each) for key, each in expected.items()} == {
                key: repr(getattr(given, key)) for key in expected
            }
        else:
            assert given == expected


# --- the server's side ------------------------------------------------------------------------------------------------


def parse(data: bytes, size: int) -> list[Any]:
    """Read all messages of a connection that come in pieces."""
    parser = RequestParser()
    found: list[Any] = []
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
        while (message := parser.next()) is not None:
            found.append(message)
    return found


@pytest.mark.parametrize("line", [line for line in CALLS if "request_hex" in line], ids=named)
def test_requests_are_read_as_recorded(line: Line) -> None:
    """However they are cut: the command and its arguments; written again they are the same bytes."""
    data = bytes.fromhex(line["request_hex"])
    expected = call_of(line)
    for size in (1, 1 << 20):
        prologue, request = parse(encode_prologue(b"kvm_check") + data, size)

        assert prologue == Prologue(b"kvm_check")
        assert request.command is expected.command
        assert request.values == expected.values
        assert request.encode() == data


@pytest.mark.parametrize("line", [line for line in CALLS if "request_len" in line], ids=named)
def test_long_requests_are_read(line: Line) -> None:
    """Those that are too long to be kept in the transcript."""
    expected = call_of(line)
    _, request = parse(encode_prologue(b"") + expected.encode(), 1 << 20)

    assert request.command is expected.command
    assert request.values == expected.values


@every_answer
def test_replies_are_written_as_recorded(line: Line) -> None:
    """Byte for byte: results from what the client was answered, refusals from code and message."""
    call = call_of(line)
    parser = ReplyParser(call.command.result)
    assert parser.feed(response(line))

    if parser.refusal is not None:
        assert encode_refusal(parser.refusal.code, parser.refusal.text) == response(line)
    else:
        assert encode_reply(call.command, parser.result) == response(line)


@pytest.mark.parametrize("line", [line for line in CALLS if line["op"] == "sequence"], ids=named)
def test_sequences_are_read_and_written(line: Line) -> None:
    """Their steps come back, and give the same bytes again."""
    (body,) = call_of(line).values
    assert isinstance(body, bytes)

    sequence = decode_sequence(Reader(Limits(), body))

    assert encode_step(sequence) == body


@pytest.mark.parametrize("line", [line for line in lines() if line["op"] == "prologue"], ids=named)
def test_prologues(line: Line) -> None:
    """Written and read; only a valid one is answered with silence and an open connection."""
    data = bytes.fromhex(line["request_hex"])
    is_accepted = not line["closed"] or line["session"] == "maxconn"

    if data[:8] != encode_prologue(b"")[:8]:
        with pytest.raises(Malformed) as caught:
            parse(data, 1)
        assert not is_accepted
        assert not caught.value.answered
        return
    (prologue,) = parse(data, 1)
    assert encode_prologue(prologue.cluster_id) == data
    assert is_accepted is (prologue.cluster_id == b"kvm_check")


@pytest.mark.parametrize("line", OTHERS, ids=named)
def test_bytes_by_hand(line: Line) -> None:
    """Malformed requests are refused the way the server refused them; pipelined ones are read one by one."""
    data = bytes.fromhex(line["request_hex"])
    outcome = judge(data)

    if line["op"] == "pipeline":
        replies, commands = response(line), parse(encode_prologue(b"") + data, 1)[1:]
        for request in commands:
            parser = ReplyParser(request.command.result)
            assert parser.feed(replies)
            replies = parser.rest
            if parser.refusal is not None and parser.refusal.code not in STAYS_OPEN:
                break
        assert replies == b""
        return
    error = line.get("error")
    if error is None:
        assert outcome is None
    elif error["code"] is None:
        assert isinstance(outcome, Malformed)
        assert not outcome.answered
    elif error["code"] == Code.NO_MAGIC:
        assert isinstance(outcome, UnmaskedCommand)
        assert encode_refusal(Code.NO_MAGIC) == response(line)
    elif error["code"] == Code.NOT_FOUND:
        assert isinstance(outcome, UnknownCommand)
        assert encode_refusal(Code.NOT_FOUND, str(outcome).encode()) == response(line)
    else:
        assert isinstance(outcome, Incomplete) or (isinstance(outcome, Malformed) and outcome.answered)


def judge(data: bytes) -> Exception | None:
    """What is wrong with a request, if something is."""
    parser = RequestParser()
    parser.feed(encode_prologue(b"") + data)
    try:
        parser.next()
        request = parser.next()
        if isinstance(request, Call) and request.command is protocol.SEQUENCE:
            (body,) = request.values
            assert isinstance(body, bytes)
            decode_sequence(Reader(Limits(), body))
    except (Malformed, Incomplete) as error:
        return error
    return None
