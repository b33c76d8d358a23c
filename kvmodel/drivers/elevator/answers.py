"""What an answer to each command looks like.

Replies carry no id. That one has the shape of an answer to what was asked is the last guard against taking another
request's reply for it; what has not is refused, and its socket closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from kvmodel.drivers.elevator.protocol import Reply, Status

__all__ = ["Accept", "flag", "names", "nothing", "pong", "rows", "uid", "value", "values"]

Accept: TypeAlias = Callable[[Reply], bool]

_UID: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _success(accept: Accept) -> Accept:
    """Take failures, whose words are looked at later, and what is accepted of the rest."""

    def check(reply: Reply) -> bool:
        if reply.status is Status.FAILURE:
            return not reply.data and reply.code is not None
        return reply.status is Status.SUCCESS and accept(reply)

    return check


nothing: Final = _success(lambda reply: reply.data is None)
pong: Final = _success(lambda reply: reply.data == [b"PONG"])
flag: Final = _success(lambda reply: reply.data is False or reply.data == [True])
value: Final = _success(
    lambda reply: isinstance(reply.data, list) and len(reply.data) == 1 and type(reply.data[0]) is bytes
)
names: Final = _success(lambda reply: isinstance(reply.data, list) and all(type(each) is bytes for each in reply.data))


def _is_uid(reply: Reply) -> bool:
    data = reply.data
    if not isinstance(data, list) or len(data) != 1:
        return False
    return isinstance(data[0], bytes) and _UID.fullmatch(data[0]) is not None


uid: Final = _success(_is_uid)


def values(count: int) -> Accept:
    """So many values, or ``None`` for what is missing. That something is missing is a warning, which is a success."""

    def check(reply: Reply) -> bool:
        if reply.status is Status.FAILURE:
            return not reply.data and reply.code is not None
        data = reply.data
        return (
            isinstance(data, list) and len(data) == count and all(each is None or type(each) is bytes for each in data)
        )

    return check


def rows(include_key: bool, include_value: bool, most: int | None = None) -> Accept:
    """So many rows at the most, each with what was asked for."""
    kind = bytes if include_key or include_value else type(None)
    pairs = include_key and include_value

    def check(reply: Reply) -> bool:
        data = reply.data
        if not isinstance(data, list) or (most is not None and len(data) > most):
            return False
        if not pairs:
            return all(type(each) is kind for each in data)
        return all(
            type(each) is list and len(each) == 2 and type(each[0]) is bytes and type(each[1]) is bytes for each in data
        )

    return _success(check)
