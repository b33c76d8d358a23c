"""Statements taken apart into tokens, as Picodata does it: no comments, no ``E''``, no lone carriage return."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Refusal", "Token", "syntax_error", "tokens_of"]


class Refusal(Exception):
    """What the server answers instead of a result: an SQLSTATE and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def syntax_error(problem: str) -> Refusal:
    """Answer the error of a statement that the grammar does not know."""
    return Refusal("XX000", f"sbroad: rule parsing error: {problem}")


class Token(NamedTuple):
    """One token: its kind (``name quoted number string param op body end``), its text, and its value."""

    kind: str
    text: str
    value: str


_PATTERN: Final = re.compile(
    r"""
    (?P<space>(?:[ \t\n]|\r\n)+)
  | (?P<body>\$\$.*?\$\$)
  | (?P<param>\$[1-9][0-9]*|\?)
  | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"[^"\x00]*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<op>::|<=|>=|<>|!=|\|\||[-+*/%=<>(),;.\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens_of(text: str) -> list[Token]:
    """Take a statement apart; a token of kind ``end`` comes last. Raises :class:`Refusal`."""
    return [*_tokens(text), Token("end", "", "")]


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    before = None
    while at < len(text):
        if text.startswith(("--", "/*"), at):
            raise syntax_error("comments are not lexed")
        found = _PATTERN.match(text, at)
        if found is None or found.lastgroup is None:
            raise syntax_error(f"unexpected {text[at]!r}")
        kind, piece = found.lastgroup, found[0]
        if kind in ("string", "quoted") and before in ("name", "quoted", "string"):
            raise syntax_error(f"unexpected {piece[0]!r} behind a word")
        at = found.end()
        before = kind
        if kind != "space":
            yield Token(kind, piece, _value(kind, piece))


def _value(kind: str, piece: str) -> str:
    if kind == "name":
        return piece.lower()
    if kind == "quoted":
        return piece[1:-1]
    if kind == "string":
        return piece[1:-1].replace("''", "'")
    return piece
