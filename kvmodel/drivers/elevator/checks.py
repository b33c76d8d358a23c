"""What is refused before it is sent, because a server would never answer it.

An argument that the server does not expect ends the worker that took the request: there is no reply, and from then on
one request in so many is swallowed, for every client. So nothing leaves that could do that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kvmodel.drivers.elevator.protocol import Value
from kvmodel.errors import TooLarge, ValidationError

__all__ = ["check_bound", "check_count", "check_flags", "check_keys", "check_name", "check_options", "encode"]

MAX_STRING: Final = (1 << 32) - 1
"""The longest string that the wire has a length for."""

_MOST: Final = (1 << 31) - 1
_OPTIONS: Final[dict[str, type]] = {
    "create_if_missing": bool,
    "error_if_exists": bool,
    "paranoid_checks": bool,
    "bloom_filter_bits": int,
    "lru_cache_size": int,
    "write_buffer_size": int,
    "block_size": int,
    "max_open_files": int,
}


def encode(what: str, given: str | bytes) -> bytes:
    """Answer a key or a value as bytes; text is UTF-8. Raises ``ValidationError``."""
    if isinstance(given, str):
        try:
            given = given.encode()
        except UnicodeEncodeError:
            raise ValidationError(f"a {what} must be Unicode text, without lone surrogates") from None
    elif not isinstance(given, bytes):
        raise ValidationError(f"a {what} is bytes, or str as UTF-8, not {type(given).__name__}")
    if len(given) > MAX_STRING:
        raise TooLarge(f"a {what} is larger than the protocol can say", size=len(given), limit=MAX_STRING)
    return given


def check_keys(keys: Iterable[str | bytes]) -> list[bytes]:
    """Answer keys as bytes, in order and with those that come again."""
    if isinstance(keys, str | bytes):
        raise ValidationError("give several keys, as a list, and not one")
    return [encode("key", key) for key in keys]


def check_bound(given: str | bytes | None) -> bytes | None:
    """Answer one end of a range as bytes; ``None`` is an open end."""
    return None if given is None else encode("bound", given)


def check_count(given: int) -> int:
    """Answer how many rows are wanted."""
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST:
        raise ValidationError(f"a count of rows is a whole number, 0 or more, not {given!r}")
    return given


def check_flags(include_key: bool, include_value: bool) -> None:
    """Raise unless both are bools: other values that count as true are never answered."""
    if not (isinstance(include_key, bool) and isinstance(include_value, bool)):
        raise ValidationError("include_key and include_value are True or False")


def check_name(given: str | bytes) -> bytes:
    """Answer the name of a database: ASCII, not empty; with a slash it is a path on the server's disk.

    The server itself loses databases whose names are not ASCII when it is restarted, or forgets all others with them;
    and the empty name stands for the folder that holds all of them.
    """
    name = encode("database name", given)
    if not name:
        raise ValidationError("the name of a database is not empty")
    if not name.isascii() or b"\0" in name:
        raise ValidationError(f"the name of a database is ASCII, without NUL: the server loses {name!r} in a restart")
    return name


def check_options(given: Mapping[str, object]) -> dict[Value, Value]:
    """Answer the options of a new database. Raises for unknown ones and for values of another type."""
    options: dict[Value, Value] = {}
    for name, value in given.items():
        kind = _OPTIONS.get(name)
        if kind is None:
            raise ValidationError(f"there is no option {name}. Known are: {', '.join(_OPTIONS)}", field=name)
        if type(value) is not kind or not isinstance(value, int) or (kind is int and not 0 < value <= _MOST):
            wanted = "True or False" if kind is bool else f"a whole number from 1 to {_MOST}"
            raise ValidationError(f"the option {name} takes {wanted}, not {value!r}", field=name)
        options[name.encode()] = value
    return options
