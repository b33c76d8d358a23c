"""How requests to the emulated server go wrong, and what is remembered of them."""

from __future__ import annotations

import enum

import attrs

__all__ = ["Answer", "Mishap", "Seen"]


class Answer(enum.Enum):
    """How a request goes wrong."""

    STATUS = "status"
    """It is answered with a status."""
    CLOSE = "close"
    """The connection is closed without a word."""
    GARBAGE = "garbage"
    """The answer is no JSON."""
    GIGABYTE = "gigabyte"
    """The answer is a gigabyte long, says so, and comes slowly."""
    STREAM = "stream"
    """The answer is a gigabyte long, and does not say so."""
    SILENCE = "silence"
    """There is no answer, as long as the connection stands."""
    BODY = "body"
    """The answer is another body."""


@attrs.frozen
class Mishap:
    """What goes wrong with the next request that fits.

    Attributes:
        answer: How.
        applies: Whether the request is carried out all the same.
        method: The method that fits; ``None`` for every one.
        path: What the path has to contain.
        status: The status, for ``Answer.STATUS``.
        body: The body, for ``Answer.BODY``.
    """

    answer: Answer
    applies: bool = False
    method: str | None = None
    path: str = ""
    status: int = 500
    body: bytes = b""


@attrs.frozen
class Seen:
    """A request that came in."""

    method: str
    path: str
    query: str
    body: bytes
    authorization: str | None
