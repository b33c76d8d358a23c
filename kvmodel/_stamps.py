"""Stamps: unique to one write attempt, so that a later read can tell whether that very write took place."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

__all__ = ["STAMP_BYTES", "new_stamp"]

STAMP_BYTES = 12
_ALL = 1 << 8 * STAMP_BYTES


def _stamps() -> Callable[[], bytes]:
    """Answer what gives stamps: a number, random at first, that is counted up.

    Threads draw from it at once, each with a database of its own: a generator would refuse that now and then.
    """
    origin, count = int.from_bytes(os.urandom(STAMP_BYTES), "big"), itertools.count().__next__
    return lambda: ((origin + count()) % _ALL).to_bytes(STAMP_BYTES, "big")


class _Source:
    """The stamps of this process. A forked child starts afresh: otherwise it would repeat its parent's."""

    def __init__(self) -> None:
        self.reseed()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reseed)

    def reseed(self) -> None:
        self.next = _stamps()


_source = _Source()


def new_stamp() -> bytes:
    """Answer 12 bytes that no other write attempt has, in this process or any other."""
    return _source.next()
