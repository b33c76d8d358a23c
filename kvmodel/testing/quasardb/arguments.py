"""The argument checks of the package: which types a method takes, and what is said of others.

The package's own message lists all arguments that it was given, credentials included; so does this one, as programs
that log it have to be tested with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from types import FunctionType
from typing import Final, TypeVar, cast

from kvmodel.testing.quasardb import errors

__all__ = [
    "fault_of",
    "is_bool",
    "is_data",
    "is_float",
    "is_integer",
    "is_moment",
    "is_span",
    "is_text",
    "is_texts",
    "is_unsigned",
    "method",
    "the_alias",
]

Check = Callable[[object], bool]
F = TypeVar("F", bound=Callable[..., object])
MAX_ALIAS: Final = 1024


def is_text(value: object) -> bool:
    """Whether a value goes where the package wants text: ``bytes`` do, lone surrogates don't."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    return isinstance(value, bytes)


def is_bool(value: object) -> bool:
    """Whether it is a truth value."""
    return isinstance(value, bool)


def is_data(value: object) -> bool:
    """Whether it is the content of a blob: text goes as UTF-8."""
    return is_text(value) or isinstance(value, bytearray)


def is_integer(value: object) -> bool:
    """Whether it has 64 bits, signed; ``bool`` passes."""
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63


def is_unsigned(value: object) -> bool:
    """Whether it has 64 bits, unsigned."""
    return isinstance(value, int) and 0 <= value < 1 << 64


def is_float(value: object) -> bool:
    """Whether it is a number."""
    return isinstance(value, float | int)


def is_moment(value: object) -> bool:
    """Whether it is a ``datetime``, naive or not."""
    return isinstance(value, datetime)


def is_span(value: object) -> bool:
    """Whether it is a span of time, or seconds as a ``float``."""
    return isinstance(value, timedelta | float)


def is_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def method(*checks: Check, what: str = "function") -> Callable[[F], F]:
    """Make a method refuse what the package's would refuse."""

    def decorate(function: F) -> F:
        assert isinstance(function, FunctionType)
        code = function.__code__
        names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        positional = code.co_argcount - 1
        only = max(code.co_posonlyargcount - 1, 0)
        required = names[: positional - len(function.__defaults__ or ())]

        @functools.wraps(function)
        def checked(self: object, *args: object, **kwargs: object) -> object:
            given = dict(zip(names, args, strict=False))
            fits = (
                len(args) <= positional
                and not any(name in given or name not in names[only:] for name in kwargs)
                and all(name in given or name in kwargs for name in required)
            )
            given.update(kwargs)
            if fits and all(check(given[name]) for name, check in zip(names, checks, strict=True) if name in given):
                return function(self, *args, **kwargs)
            listed = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
            raise TypeError(f"{function.__name__}(): incompatible {what} arguments. Invoked with: {listed}")

        return cast("F", checked)

    return decorate


def fault_of(function: str, fault: str) -> errors.Error:
    """Answer what the package would raise."""
    kind, text = errors.TEXTS[fault]
    error = getattr(errors, kind)(f"at {function}: {text}")
    assert isinstance(error, errors.Error)
    return error


def the_alias(function: str, alias: str | bytes, what: str = "alias") -> str:
    """Answer the alias that is meant: all up to the first NUL, as the library's C strings end there."""
    data = alias.encode() if isinstance(alias, str) else alias
    data = data.partition(b"\0")[0]
    if not data:
        raise errors.InvalidArgumentError(f"at {function}: Got empty {what}")
    if len(data) > MAX_ALIAS:
        raise errors.Error(f"at {function}: Got too big {what} (max {MAX_ALIAS} characters)")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise errors.InvalidArgumentError(f"at {function}: Got invalid UTF-8 string (size {len(data)})") from None
