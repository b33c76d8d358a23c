"""What the original server does to those who use it, each to be switched off by itself."""

from __future__ import annotations

import attrs

__all__ = ["Quirks"]


@attrs.frozen
class Quirks:
    """Harmful habits of the original server, all on as they are there.

    Attributes:
        lose_workers: A request that is not answered ends its worker: from then on, one request in so many is swallowed.
        mount_seconds: How long it takes to mount a database, or to make one. Whatever else reaches the database, or
            makes it too, meanwhile is not answered, as if the request were one of those. 0: no time.
        hide_empty_values: ``GET`` says of an empty value that the key is missing.
        has_exists: It knows ``EXISTS`` and the prefix of ``RANGE``, which came after the last release.
        new_msgpack: It runs a msgpack that writes the new string types, as no server should.
        out_of_order: Requests that wait at the same time are answered the last one first.
    """

    lose_workers: bool = True
    mount_seconds: float = 0.05
    hide_empty_values: bool = True
    has_exists: bool = True
    new_msgpack: bool = False
    out_of_order: bool = False
