"""Options of drivers: from the text of a URL's query, or as they were given by keyword."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import SplitResult, unquote

from kvmodel.errors import ValidationError

__all__ = ["choose", "local_path", "parse_bool", "parse_enum", "parse_int", "parse_size", "parse_text"]

T = TypeVar("T")
EnumT = TypeVar("EnumT", bound=enum.Enum)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_SIZE = re.compile(r"(\d{1,18})\s*([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bool(text: str) -> bool:
    """Read ``true`` or ``false``, ``yes`` or ``no``, ``on`` or ``off``, ``1`` or ``0``."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"expected true or false, not {text!r}")


def parse_int(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, not {text!r}") from None


def parse_size(text: str) -> int:
    """Read a size in bytes: ``1048576``, ``64KiB`` (of 1024), ``64kB`` (of 1000)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected a size such as 1048576 or 64MiB, not {text!r}")
    number, unit, binary = match.groups()
    if binary and not unit:
        raise ValueError(f"expected a size such as 1048576 or 64MiB, not {text!r}")
    return int(number) * int((1024 if binary else 1000) ** _POWER[unit.lower()])


def parse_text(text: str) -> str:
    """Read a text that is not empty."""
    if not text:
        raise ValueError("expected some text, not an empty one")
    return text


def parse_enum(kind: type[EnumT]) -> Callable[[str], EnumT]:
    """Answer a parser that takes the names of an enumeration's members, in any case."""

    def parse(text: str) -> EnumT:
        try:
            return kind[text.strip().upper()]
        except KeyError:
            known = ", ".join(member.name.lower() for member in kind)
            raise ValueError(f"expected one of {known}, not {text!r}") from None

    return parse


def choose(options: Mapping[str, object], name: str, kind: type[T], default: T) -> T:
    """Answer an option's value, or the default where it was not given. Raises ``ValidationError`` for a wrong type."""
    value = options.get(name, default)
    # A bool is an int to Python, never to a reader.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValidationError(f"the option {name} takes a value of type {kind.__name__}, not {value!r}", field=name)
    return value


def local_path(url: SplitResult) -> str:
    """Answer the file path in a URL: ``scheme:///absolute/path`` or ``scheme://relative/path``, percent-decoded."""
    if url.fragment:
        raise ValidationError("a # in the path of a URL has to be written %23", field="url")
    path = unquote(url.netloc + url.path)
    if not path or "\0" in path:
        raise ValidationError(
            f"give a path: {url.scheme}:///absolute/path or {url.scheme}://relative/path", field="url"
        )
    return path
