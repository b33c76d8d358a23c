"""The recorded exchanges in ``transcript.jsonl``: what an original client sent, and what a real server answered.

They were recorded with server 0.5d and two later commits, and client 0.5c, both unmodified on Python 2.7. The file is
whole. Byte strings are ``{"hex": ...}``, long ones ``{"length": ..., "sha256": ...}``, maps
``{"map": [[key, value]]}``; the frames are always complete.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "transcript.jsonl"

Line = dict[str, Any]


@cache
def lines() -> tuple[Line, ...]:
    """All of it."""
    return tuple(json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines())


def sessions() -> dict[str, list[Line]]:
    """The lines of each session, in order."""
    found: dict[str, list[Line]] = {}
    for line in lines():
        found.setdefault(line["session"], []).append(line)
    return found


def named(line: Line) -> str:
    """What to call a line in a test's name."""
    return f"{line['session']}-{line['seq']}-{line['name']}"


def request_frames(line: Line) -> list[bytes]:
    """What was sent."""
    return [bytes.fromhex(frame) for frame in line["request_frames_hex"]]


def response_frames(line: Line) -> list[bytes]:
    """What came back; nothing, if nothing did."""
    return [bytes.fromhex(frame) for frame in line["response_frames_hex"]]


def value(stored: Any) -> Any:
    """Take a value out of its JSON clothes."""
    if isinstance(stored, str):
        return stored.encode()
    if isinstance(stored, list):
        return [value(each) for each in stored]
    if not isinstance(stored, dict):
        return stored
    if "hex" in stored:
        return bytes.fromhex(stored["hex"])
    if "map" in stored:
        return {value(key): value(each) for key, each in stored["map"]}
    return Digest(stored["length"], stored["sha256"])


class Digest:
    """A long byte string of which length and digest are known: equal to it."""

    def __init__(self, length: int, digest: str) -> None:
        self.known = (length, digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and (len(other), hashlib.sha256(other).hexdigest()) == self.known

    def __hash__(self) -> int:
        return hash(self.known)
