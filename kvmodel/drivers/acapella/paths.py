"""Keys as they stand in paths and queries, both directions.

Rules. A part is percent-encoded by itself, everything but letters, digits and ``_ . - ~``, and the parts are joined
with a bare colon: one key is one segment of the path. In a query that text is one more time percent-encoded. A segment
``.`` or ``..`` would be taken out of the path by whoever normalises it, so its dots are encoded too.

A server takes the raw path apart before it decodes anything. Bounds are decoded leniently, as old clients quoted them
once only: a ``%`` that begins no escape stands for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from kvmodel.errors import ValidationError

__all__ = [
    "WIDEST",
    "check_parts",
    "decode_bound",
    "decode_key",
    "decode_text",
    "encode_bound",
    "encode_key",
    "encode_text",
]

WIDEST: Final = 12
"""How many bytes one character takes in a path at the most."""
_DOTS: Final = {".": "%2E", "..": "%2E%2E"}


def encode_text(text: str) -> str:
    """Write one part."""
    return quote(text, safe="")


def encode_key(parts: Sequence[str]) -> str:
    """Write a key as a segment of a path."""
    text = ":".join([quote(part, safe="") for part in parts])
    return _DOTS.get(text, text)


def encode_bound(parts: Sequence[str]) -> str:
    """Write a key as a value in a query; an empty key is an empty text, which is no bound."""
    return quote(":".join([quote(part, safe="") for part in parts]), safe=":")


def decode_text(text: str) -> str:
    """Undo :func:`encode_text`. Raises ``ValueError`` for what is no UTF-8."""
    return unquote_to_bytes(text).decode()


def decode_key(segment: str) -> tuple[str, ...]:
    """Undo :func:`encode_key`. Raises ``ValueError`` for an empty part, and for what is no UTF-8."""
    parts = tuple([decode_text(part) for part in segment.split(":")])
    if not all(parts):
        raise ValueError("a key has an empty part")
    return parts


def decode_bound(text: str) -> tuple[str, ...]:
    """Undo :func:`encode_bound`, for a text that was taken out of its query; empty for no bound."""
    return decode_key(text) if text else ()


def check_parts(parts: Sequence[str], what: str, *, empty: bool = False) -> tuple[str, ...]:
    """Answer the parts of a key as a tuple. Raises ``ValidationError`` unless they are texts that are not empty.

    Args:
        parts: The parts.
        what: What they are, for the message.
        empty: Whether there may be none at all.
    """
    if isinstance(parts, str | bytes) or not all(isinstance(part, str) for part in parts):
        raise ValidationError(f"{what} is a list of str, not {parts!r}")
    if not (parts or empty):
        raise ValidationError(f"{what} has one part at least")
    if not all(parts):
        raise ValidationError(f"{what} has no empty parts", key=tuple(parts))
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{what} must be Unicode text, without lone surrogates", key=tuple(parts)) from None
    return tuple(parts)
