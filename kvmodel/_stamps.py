"""Stamps: unique to one write attempt, so that a later read can tell whether that very write took place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

__all__ = ["STAMP_BYTES", "new_stamp"]

STAMP_BYTES = 12
_COUNTED = 1 << 32


def _stamps() -> Iterator[bytes]:
    """Yield stamps: eight random bytes, then a counter of four; new random bytes when the counter has run full."""
    while True:
        origin = os.urandom(8)
        for count in range(_COUNTED):
            yield origin + count.to_bytes(4, "big")


class _Source:
    """The stamps of this process. A forked child starts afresh: otherwise it would repeat its parent's."""

    def __init__(self) -> None:
        self.reseed()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reseed)

    def reseed(self) -> None:
        self.next: Callable[[], bytes] = _stamps().__next__


_source = _Source()


def new_stamp() -> bytes:
    """Answer 12 bytes that no other write attempt has, in this process or any other."""
    return _source.next()
