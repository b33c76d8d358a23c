"""The client sends what the original one sent and reads what that was answered; so does the emulator, the other way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, unquote

import aiohttp
import pytest
from yarl import URL

import kvmodel as kv
from kvmodel.drivers.acapella import (
    AuthenticationFailedError,
    CasError,
    Session,
    TransactionCompletedError,
    TransactionNotFoundError,
)
from kvmodel.drivers.acapella.http import Reply
from kvmodel.drivers.acapella.paths import decode_key
from kvmodel.testing.acapella import AcapellaServer
from tests.drivers.acapella import recorded
from tests.drivers.acapella.recorded import Line, is_broken, lines, named, play

# A call that made several requests is one line for each, and is played once.
# What an object does that is used up has its own tests.
USED_UP = {"tx3_rollback_again", "tx3_commit_after", "tx3_exit"}
CALLS = [line for line in lines() if line.get("part", 1) == 1 and line["name"] not in USED_UP]


class Scripted:
    """Stands where the connections are: answers as it was recorded, and notes what was sent."""

    def __init__(self, answers: list[Line]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._answers = answers

    async def send(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None,
        headers: dict[str, str],
        seconds: float,
        repeats: bool,
        apart: bool = False,
    ) -> Reply:
        path, _, query = target.partition("?")
        self.sent.append({"method": method, "path": path, "query": query, "headers": headers, "body": body})
        if not self._answers:
            return Reply(200, b'{"version": 0, "index": 1}')
        text = {json.dumps(parts_of(each["request"]["path"])): each for each in self._answers}
        answer = text.get(json.dumps(parts_of(path)), self._answers[0])["response"]
        return Reply(answer["status"], (answer["body"] or "").encode())

    async def close(self) -> None:
        """Nothing is open."""


def parts_of(path: str) -> list[list[str]]:
    """Take a raw path apart."""
    return [[unquote(part) for part in segment.split(":")] for segment in path.split("/")]


def scripted(line: Line) -> tuple[Session, Scripted]:
    """A session whose server answers as recorded."""
    session = Session(api_prefix=line["args"].pop("api_prefix", "/acapelladb"))
    same = [each for each in lines() if each["name"] == line["name"] and each["request"]]
    script = Scripted(same)
    session._http = script  # type: ignore[assignment]  # it has all that is asked of it
    return session, script


@pytest.mark.parametrize("line", CALLS, ids=named)
async def test_requests_and_results(line: Line) -> None:
    """What was recorded is sent, but where the original client loses a part of a key; what was answered is read."""
    line = {**line, "args": dict(line["args"])}
    session, script = scripted(line)
    checks = _what_we_check_besides(line)
    try:
        result = await play(session, line)
    except kv.KvModelError as error:
        failure: kv.KvModelError | None = error
    else:
        failure = None
        if "result" in line and not checks:
            assert result == _as_numbers(line["result"])
    finally:
        await session.close()
    if failure is None:
        assert "error" not in line or checks or line["name"] in OURS_WORK
    else:
        assert "error" in line or checks
        assert isinstance(failure, _meant(line))
    _compare(line, script, checks)


def _compare(line: Line, script: Scripted, checks: bool) -> None:
    expected = [each["request"] for each in lines() if each["name"] == line["name"] and each["request"]]
    if checks:
        assert script.sent == []
        return
    if line["name"] in OURS_WORK:
        return
    assert len(script.sent) == len(expected)
    for sent, request in zip(script.sent, expected, strict=True):
        assert sent["method"] == request["method"]
        assert (sent["body"] or b"") == (request["body"] or "").encode()
        if request["body"]:
            assert sent["headers"]["Content-Type"] == request["headers"]["Content-Type"]
        if is_broken(line):
            continue
        if recorded.UNQUOTED.isdisjoint(request["path"]) and "char_index" not in line["name"]:
            assert sent["path"] == request["path"]
        assert parts_of(sent["path"]) == parts_of(request["path"])
        if "/" in request["query"]:  # Which the original client leaves alone.
            assert [(name, unquote(text)) for name, text in parse_qsl(sent["query"])] == parse_qsl(request["query"])
        else:
            assert sent["query"] == request["query"]


OURS_WORK = {"login_cyrillic_then_get", "tx_manual", "tx_manual_index"}
"""Where the original client fails by itself, and ours does what was asked."""


def _what_we_check_besides(line: Line) -> bool:
    """Whether nothing goes out for this line: a fault that the original client lets go, too."""
    return (line["request"] is None and "error" in line and line["name"] not in OURS_WORK) or line["name"].startswith(
        "nocheck_"
    )


def _meant(line: Line) -> type[Exception] | tuple[type[Exception], ...]:
    """Which of our errors stands for a recorded one."""
    if _what_we_check_besides(line):
        return (kv.ValidationError, kv.Closed)
    status = (line["response"] or {}).get("status", 200)
    writes = line["op"].split(".")[-1] in ("set", "cas", "send", "commit", "set_index") and "transaction" not in (
        set(line["args"]) if line["op"] != "tx.commit" else ()
    )
    if writes and (status == 408 or status >= 500):
        return kv.OutcomeUnknown
    if status == 408:
        return kv.TimedOut
    if status >= 500:
        return kv.Unavailable
    if status == 200:
        return kv.OutcomeUnknown if writes else kv.ProtocolError
    kinds: dict[int, type[Exception]] = {
        401: AuthenticationFailedError,
        409: CasError,
        410: TransactionNotFoundError,
        412: TransactionCompletedError,
    }
    return kinds.get(status, kv.StoreError)


def _as_numbers(result: Any) -> Any:
    """A version that came as text is a number here, in ranges too."""
    if isinstance(result, list):
        return [_as_numbers(each) for each in result]
    if isinstance(result, dict) and isinstance(result.get("version"), str):
        return {**result, "version": int(result["version"])}
    return result


@pytest.mark.parametrize("line", [line for line in CALLS if line["request"] and is_broken(line)], ids=named)
async def test_where_the_original_is_broken_ours_is_right(line: Line) -> None:
    """The raw path, taken apart, has the very key that was asked for, and no dot that a library would take out."""
    line = {**line, "args": dict(line["args"])}
    session, script = scripted(line)
    try:
        await play(session, line)
    except kv.KvModelError:
        pass  # The recorded answer may be a refusal of the broken path.
    finally:
        await session.close()

    segments = script.sent[0]["path"].split("/")
    given = line["args"]["items"][0] if "items" in line["args"] else line["args"]
    if "users" in segments:
        keys = [given["partition"][:1], given["partition"][1:2]]
        found = [segments[4], segments[6]]
    elif "tree" in given:
        keys, found = [given["tree"]], [segments[4]]
    else:
        keys, found = [given["partition"]], [segments[5]]
        if "clustering" in segments:
            keys, found = [*keys, given["clustering"]], [*found, segments[7]]
    assert [list(decode_key(segment)) for segment in found] == keys
    assert not {".", ".."} & set(segments)


# --- the emulator -----------------------------------------------------------------------------------------------------

STORY = [line for line in lines() if line["request"] and not line.get("canned")]
ACCOUNTS = {"user": "password", "usér": "pässword", "юзер": "пароль"}


@pytest.fixture
async def server() -> AsyncIterator[AcapellaServer]:
    async with AcapellaServer(accounts=ACCOUNTS, lock_timeout=0.05) as server:
        yield server


async def test_the_emulator_tells_the_recorded_story(server: AcapellaServer) -> None:
    """Every recorded request that is no canned one, byte for byte and in order, gets the recorded status and answer."""
    tokens: dict[str, str] = {}
    differing: list[str] = []
    async with aiohttp.ClientSession() as http:
        for line in STORY:
            await _prepare(server, line)
            request, response = line["request"], line["response"]
            headers = {name: _with_token(text, tokens) for name, text in request["headers"].items()}
            target = f"http://127.0.0.1:{server.port}{request['path']}?{request['query']}"
            async with http.request(
                request["method"],
                URL(target, encoded=True),
                data=(request["body"] or "").encode() or None,
                headers=headers,
            ) as reply:
                text = await reply.text()
            if line["op"] == "login" and reply.status == 200:
                tokens[json.loads(response["body"])["token"]] = json.loads(text)["token"]
                text = response["body"]
            wanted = json.loads(response["body"]) if response["status"] == 200 else None
            got = json.loads(text) if reply.status == 200 else None
            if (reply.status, got) != (response["status"], wanted):
                differing.append(f"{named(line)}: {reply.status} {text}, recorded {response}")
    assert differing == []


def _with_token(header: str, tokens: dict[str, str]) -> str:
    scheme, _, text = header.partition(" ")
    if scheme != "Basic":
        return header
    pair = base64.b64decode(text)
    user, _, token = pair.rpartition(b":")
    return "Basic " + base64.b64encode(user + b":" + tokens.get(token.decode(), token.decode()).encode()).decode()


async def _prepare(server: AcapellaServer, line: Line) -> None:
    """Do what was done between the recorded lines: a few writes that they are to meet."""
    from kvmodel.testing.acapella.store import Write

    def write(key: tuple[tuple[str, ...], tuple[str, ...]], value: Any) -> None:
        server.store.write([Write(key, value, None, False)])

    plain, row = (("user", "ks", "listen"), ()), (("user", "ks", "listen"), ("row",))
    if line["name"] == "listen_ready":
        write(plain, "one")
    elif line["name"] == "dt_tx_set":
        assert server.store.begin() == 5
    elif line["name"] == "listen_woken":
        asyncio.get_running_loop().call_soon(write, plain, "two")
    elif line["name"] == "listen_row":
        write(row, "r")
    elif line["name"] == "listen_delete":
        write(plain, None)


def test_queries_are_read_as_they_were_written() -> None:
    """Bounds that were quoted twice are decoded to the keys that the call was given; those quoted once mostly too."""
    from kvmodel.drivers.acapella.paths import decode_bound

    for line in lines():
        if line["name"].startswith("char_range"):
            query = dict(parse_qsl(line["request"]["query"]))
            for name, argument in (("from", "first"), ("to", "last"), ("prefix", "prefix")):
                assert list(decode_bound(query[name])) == line["args"][argument]
