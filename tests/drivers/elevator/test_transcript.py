"""The protocol code and the emulator against every recorded exchange, from both sides."""

from __future__ import annotations

from typing import Any, cast

import pytest
import zmq

from kvmodel.drivers.elevator.protocol import (
    ABSENT,
    Code,
    Malformed,
    Reply,
    Request,
    Status,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from kvmodel.testing.elevator import ElevatorServer, Quirks, Storage
from kvmodel.testing.elevator.store import Silent
from tests.drivers.elevator.recorded import Line, lines, named, request_frames, response_frames, sessions, value

SENT = [line for line in lines() if line["request_frames_hex"]]
FROM_CLIENT = [line for line in SENT if line["via"] == "client" and line["args"] is not None]
RAW = [line for line in SENT if line not in FROM_CLIENT]
ANSWERED = [line for line in SENT if line["response_frames_hex"]]
DATA = {"GET", "PUT", "DELETE", "EXISTS", "MGET", "RANGE", "SLICE", "BATCH"}


def test_the_transcript_is_whole() -> None:
    """What the other tests run over is all there is, and every command occurs."""
    assert (len(lines()), len(FROM_CLIENT), len(RAW), len(ANSWERED)) == (333, 289, 43, 271)
    server = {"PING", "DBCONNECT", "DBMOUNT", "DBUMOUNT", "DBCREATE", "DBDROP", "DBLIST", "DBREPAIR"}
    assert {line["op"] for line in lines() if isinstance(line["op"], str)} >= DATA | server


def uid_of(line: Line) -> Any:
    """The uid of a line, which is text."""
    return value(line["uid"])


# --- the client's side ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", FROM_CLIENT, ids=named)
def test_requests_are_written_as_recorded(line: Line) -> None:
    """Byte for byte, as the original client wrote them."""
    args = value(line["args"])
    sent = decode_request(request_frames(line)).args
    if line["name"] in ("put-65536-bytes", "create-with-options"):  # Long bytes are a digest; maps have an order.
        assert args == sent
        args = sent
    frame = encode_request(value(line["op"]), args, uid_of(line), compression=line.get("compression", False))

    assert [frame] == request_frames(line)


@pytest.mark.parametrize("line", ANSWERED, ids=named)
def test_replies_are_read_as_recorded(line: Line) -> None:
    """Header and content, compressed or not."""
    reply, recorded = decode_reply(response_frames(line)), line["response"]

    header = recorded["header"]
    assert (int(reply.status), reply.code) == (header["status"], header["err_code"])
    assert reply.text == (None if header["err_msg"] is None else header["err_msg"].encode())
    assert reply.compression == value(header["compression"])
    assert reply.data == value(recorded["datas"])


# --- the server's side ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", FROM_CLIENT, ids=named)
def test_requests_are_read_as_recorded(line: Line) -> None:
    """The command, its arguments, the database and the options."""
    request = decode_request(request_frames(line))

    assert request.command == value(line["op"])
    assert request.args == value(line["args"])
    assert request.uid == uid_of(line)
    assert request.meta == {b"compression": line.get("compression", False)}


@pytest.mark.parametrize("line", RAW, ids=named)
def test_requests_by_hand_are_read(line: Line) -> None:
    """Odd ones too; what is no request at all was never answered."""
    try:
        request = decode_request(request_frames(line))
    except Malformed:
        assert line["response_frames_hex"] == []
        return
    assert request.command is ABSENT or request.command == value(line["op"]) or line["op"] is None
    assert request.args is ABSENT or request.args == value(line["args"]) or line["args"] is None


@pytest.mark.parametrize("line", ANSWERED, ids=named)
def test_replies_are_written_as_recorded(line: Line) -> None:
    """Byte for byte; what is compressed may be packed otherwise by another LZ4, and is compared unpacked."""
    recorded = response_frames(line)
    reply = decode_reply(recorded)

    written = encode_reply(reply)

    assert written[0] == recorded[0]
    assert decode_reply(written) == reply
    if reply.compression is not True:
        assert written[1] == recorded[1]


# --- the emulator -----------------------------------------------------------------------------------------------------


class Stage:
    """A storage, and which recorded uid stands for which of its own."""

    def __init__(self) -> None:
        self.storage = Storage(Quirks(mount_seconds=0))
        self.uids: dict[bytes, bytes] = {}

    def play(self, line: Line) -> Reply | None:
        """Answer what the emulator says to a recorded request, ``None`` for silence."""
        try:
            request = decode_request(request_frames(line))
            return self.storage.answer(
                Request(request.command, self._own(request.args), self._own(request.uid), request.meta)
            )
        except (Malformed, Silent):
            return None

    def _own(self, part: Any) -> Any:
        return self.uids.get(part, part) if isinstance(part, bytes) else part

    def learn(self, line: Line, reply: Reply) -> None:
        """Remember which uid a database has here."""
        if line["op"] == "DBCONNECT" and isinstance(reply.data, list):
            (uid,) = reply.data
            assert isinstance(uid, bytes)
            self.uids[value(line["response"]["datas"])[0]] = uid


def meant(reply: Reply, line: Line, uids: dict[bytes, bytes]) -> tuple[object, ...]:
    """What can be compared of a reply: no order of names, no uids, no texts that hold a map or an address."""
    data, text = reply.data, reply.text
    if line["op"] == "DBLIST" and isinstance(data, list):
        data = sorted(data)  # type: ignore[type-var]
    if line["op"] == "DBCONNECT" and isinstance(data, list):
        data = [uids.get(data[0], data[0])]  # type: ignore[arg-type]
    if text is not None:
        text = text.partition(b" 0x")[0].partition(b" : {")[0]
        for mine, theirs in uids.items():
            text = text.replace(mine, theirs)
    return reply.status, reply.code, text, data, reply.compression


REPLAYED = {
    name: session
    for name, session in sessions().items()
    if name in ("kv", "databases", "client-quirks", "before-restart") or name.startswith("no-reply:")
}
SHIFTED = {"late-reply-taken-for-the-next", "late-reply-still-shifted", "timeout"}
"""What the original client made of a server that was held still is no answer of a server."""


@pytest.mark.parametrize("name", REPLAYED)
def test_the_emulator_answers_as_the_original(name: str) -> None:
    """Every recorded request, in order: the same reply, or none."""
    stage = Stage()
    session = list(REPLAYED[name])
    if name.startswith("no-reply:"):
        default = stage.storage.databases[b"default"]
        uid = session[0]["uid"]
        stage.uids = {value(uid): default.uid} if isinstance(uid, str) and len(uid) == 36 else {}
    replay(stage, session)
    if name == "before-restart":
        stage.storage.restart()
        replay(stage, sessions()["after-restart"])


def replay(stage: Stage, session: list[Line]) -> None:
    """Play a session and compare."""
    for line in session:
        if not line["request_frames_hex"] or line["name"] in SHIFTED:
            continue
        reply = stage.play(line)
        if not line["response_frames_hex"]:
            assert reply is None, named(line)
            continue
        assert reply is not None, named(line)
        stage.learn(line, reply)
        recorded = decode_reply(response_frames(line))
        assert meant(reply, line, {mine: theirs for theirs, mine in stage.uids.items()}) == meant(recorded, line, {}), (
            named(line)
        )


@pytest.mark.parametrize(("name", "workers"), [("dead-worker", 4), ("single-worker-dead", 1)])
def test_the_emulator_loses_workers_as_the_original(name: str, workers: int) -> None:
    """Over real sockets: after a request that is not answered, the same later ones are swallowed as were then."""
    uids: dict[bytes, bytes] = {}
    with ElevatorServer(workers=workers) as server, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(server.endpoint)
        for line in sessions()[name]:
            (frame,) = request_frames(line)
            for recorded, own in uids.items():
                frame = frame.replace(recorded, own)
            dealer.send(frame)
            answered = dealer.poll(5000 if line["response_frames_hex"] else 50) != 0
            assert answered is bool(line["response_frames_hex"]), named(line)
            reply = decode_reply(dealer.recv_multipart()) if answered else None
            if line["op"] == "DBCONNECT" and reply is not None and isinstance(reply.data, list):
                (own,) = cast("list[bytes]", reply.data)
                uids[value(line["response"]["datas"])[0]] = own
        assert server.lost_workers == 1


def test_every_session_is_replayed() -> None:
    """None of the recorded ones is left out."""
    over_sockets = {"dead-worker", "single-worker-dead"}
    assert sessions().keys() == REPLAYED.keys() | over_sockets | {"after-restart"}


@pytest.mark.parametrize("line", [line for line in ANSWERED if "error" in line], ids=named)
def test_every_failure_has_a_known_code(line: Line) -> None:
    """None of those that were seen is missing in the list."""
    reply = decode_reply(response_frames(line))

    assert reply.status is Status.FAILURE
    assert reply.code in list(Code)
