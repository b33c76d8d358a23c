"""Hash slots: where Redis Cluster keeps a key, and a short name for each slot."""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from typing import Final

__all__ = ["SLOTS", "slot_names", "slot_of", "tag_of"]

SLOTS: Final = 16384


def tag_of(key: bytes) -> bytes:
    """Answer what of a key decides about its slot: what is between its first ``{`` and the next ``}``, else all."""
    start = key.find(b"{") + 1
    end = key.find(b"}", start) if start else -1
    return key[start:end] if end > start else key


def slot_of(key: bytes) -> int:
    """Answer the slot of a key, as ``CLUSTER KEYSLOT`` does."""
    return crc_hqx(tag_of(key), 0) % SLOTS


@cache
def slot_names() -> tuple[bytes, ...]:
    """Answer a hash tag for each slot: the smallest whole number whose digits lead there."""
    names: dict[int, bytes] = {}
    number = 0
    while len(names) < SLOTS:
        digits = b"%d" % number
        names.setdefault(crc_hqx(digits, 0) % SLOTS, digits)
        number += 1
    return tuple(names[slot] for slot in range(SLOTS))
