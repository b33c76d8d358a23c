"""Random and mutated bytes, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

__all__ = ["inputs"]

_TELLING = bytes(
    (0x00, 0x01, 0x02, 0x05, 0x10, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xC0, 0xC1, 0xC7, 0xC9, 0xD4, 0xDD, 0xDF, 0xFF)
)
"""Bytes that mean something somewhere: terminators, type codes, msgpack's headers of maps, lists and extensions."""

_LENGTHS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdc\xff\xff",
)
"""Headers that announce more than there is."""


def inputs(corpus: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Give so many inputs: the corpus itself, then what random changes make of it, and now and then pure noise."""
    draw = random.Random(seed)
    yield from corpus[:count]
    for number in range(count - len(corpus)):
        if number % 10 == 0:
            yield draw.randbytes(draw.randint(0, 80))
            continue
        data = bytearray(draw.choice(corpus))
        for _ in range(draw.randint(1, 4)):
            _change(draw, data, corpus)
        yield bytes(data)


def _change(draw: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    """Change something, in place."""
    at = draw.randint(0, len(data))
    until = min(len(data), at + draw.randint(1, 8))
    match draw.randint(0, 8):
        case 0 if at < len(data):
            data[at] ^= 1 << draw.randint(0, 7)
        case 1:
            data[at:until] = bytes((draw.choice(_TELLING),))
        case 2:
            data[at:at] = bytes((draw.choice(_TELLING),))
        case 3:
            del data[at:until]
        case 4:
            del data[at:]
        case 5:
            data[at:at] = data[at:until] * draw.randint(1, 100)
        case 6:
            other = draw.choice(corpus)
            data[at:] = other[draw.randint(0, len(other)) :]
        case 7:
            data[at:until] = draw.randbytes(draw.randint(0, 8))
        case _:
            data[at:until] = draw.choice(_LENGTHS) * draw.randint(1, 3)
