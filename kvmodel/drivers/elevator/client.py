"""Elevator's own vocabulary: all of its commands, on asyncio.

Keys, values and names are ``bytes``, or ``str`` as UTF-8; answers are ``bytes``. Every call takes a ``timeout`` in
seconds, and raises the errors of :mod:`kvmodel.errors`. Any number of tasks may use a client at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias, cast, overload

from kvmodel.drivers.elevator import answers
from kvmodel.drivers.elevator.batch import DELETE, PUT, WriteBatch
from kvmodel.drivers.elevator.checks import check_bound, check_count, check_flags, check_keys, check_name, encode
from kvmodel.drivers.elevator.protocol import Code, Reply, Status, Value
from kvmodel.drivers.elevator.session import Session, Text
from kvmodel.drivers.meter import spend
from kvmodel.errors import ValidationError

__all__ = ["ElevatorClient"]

Pair: TypeAlias = "tuple[bytes, bytes]"
Yes: TypeAlias = Literal[True]
No: TypeAlias = Literal[False]

_PAGE: Final = 256


class ElevatorClient(Session):
    """A client of one server, working on one of its databases at a time.

    ``async with ElevatorClient("tcp://127.0.0.1:4141") as client:`` reaches the server and the database; so does
    :meth:`open`.

    Args:
        endpoint: Where the server is: ``tcp://host:port`` or ``ipc://path``.
        database: The database to work on; a name with a slash is a path on the server's disk.
        timeout: Seconds for one call, unless the call says otherwise.
        compression: Whether the server is to compress what it answers.
        sockets: How many sockets at the most, and so how many requests at once.
        address: What messages call the server.
    """

    # --- single keys --------------------------------------------------------------------------------------------------

    async def get(self, key: Text, *, timeout: float | None = None) -> bytes:
        """Answer the value of a key.

        The server says of an empty value that its key is missing: then it is asked again, in a way that tells.

        Raises:
            NotFound: The key has no value.
        """
        encoded, until = encode("key", key), self._until(timeout)
        reply = await self._ask("GET", [encoded], answers.value, until, keys=1)
        if reply.status is Status.FAILURE and reply.code == Code.KEY:
            (found,) = await self._find_all([encoded], until)
            if found is not None:
                return found
        (value,) = cast("list[bytes]", self._data("GET", reply))
        return value

    async def find(self, key: Text, *, timeout: float | None = None) -> bytes | None:
        """Answer the value of a key, ``None`` where it has none. One request, empty values included."""
        (value,) = await self._find_all([encode("key", key)], self._until(timeout))
        return value

    async def mget(self, keys: Iterable[Text], *, timeout: float | None = None) -> list[bytes | None]:
        """Answer the values of keys, in the order asked, ``None`` where there is none.

        The server reads all that lies between the smallest and the largest key: keys that are far apart are better
        asked for one by one.
        """
        encoded = check_keys(keys)
        if not encoded:
            return []
        once = list(dict.fromkeys(encoded))
        found = dict(zip(once, await self._find_all(once, self._until(timeout)), strict=True))
        return [found[key] for key in encoded]

    async def exists(self, key: Text, *, timeout: float | None = None) -> bool:
        """Answer whether a key has a value, be it empty, without moving it (as far as the server knows how to)."""
        encoded, until = encode("key", key), self._until(timeout)
        if self._knows_exists:
            reply = await self._ask("EXISTS", [encoded], answers.flag, until, keys=1)
            if reply.code != Code.KEY:
                return self._data("EXISTS", reply) == [True]
            self._knows_exists = False  # It came to the server after its last release.
        (value,) = await self._find_all([encoded], until)
        return value is not None

    async def put(self, key: Text, value: Text, *, timeout: float | None = None) -> None:
        """Store a value, whatever is there."""
        arguments: list[Value] = [encode("key", key), encode("value", value)]
        await self._change("PUT", arguments, self._until(timeout), self._here(), keys=1)

    async def delete(self, key: Text, *, timeout: float | None = None) -> None:
        """Remove a key; whether it was there is not told."""
        await self._change("DELETE", [encode("key", key)], self._until(timeout), self._here(), keys=1)

    async def _find_all(self, keys: list[bytes], until: float) -> list[bytes | None]:
        reply = await self._ask("MGET", [cast("Value", keys)], answers.values(len(keys)), until, keys=len(keys))
        return cast("list[bytes | None]", self._data("MGET", reply))

    # --- ranges -------------------------------------------------------------------------------------------------------

    @overload
    async def range(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: Yes = True,
        include_value: Yes = True,
        prefix: Text | None = None,
        timeout: float | None = None,
    ) -> list[Pair]: ...
    @overload
    async def range(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: Yes = True,
        include_value: No,
        prefix: Text | None = None,
        timeout: float | None = None,
    ) -> list[bytes]: ...
    @overload
    async def range(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: bool = True,
        include_value: bool = True,
        prefix: Text | None = None,
        timeout: float | None = None,
    ) -> list[Pair] | list[bytes] | list[None]: ...
    async def range(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: bool = True,
        include_value: bool = True,
        prefix: Text | None = None,
        timeout: float | None = None,
    ) -> list[Pair] | list[bytes] | list[None]:
        """Answer rows in order of their keys: pairs, or keys or values alone, or ``None`` for each row.

        Args:
            start: The first key; ``None`` for the beginning.
            limit: The last key, which is included; or how many rows, as an int; ``None`` for all there are.
            include_key: Whether keys are wanted.
            include_value: Whether values are wanted.
            prefix: Only the keys that begin with it; then without the two above.
            timeout: Seconds.
        """
        if prefix is not None:
            if start is not None or limit is not None:
                raise ValidationError("a prefix says where a range begins and ends: leave start and limit out")
            return await self._prefixed(encode("prefix", prefix), include_key, include_value, timeout)
        if isinstance(limit, int):
            return await self.slice(start, limit, include_key=include_key, include_value=include_value, timeout=timeout)
        check_flags(include_key, include_value)
        return await self._read_range(check_bound(start), check_bound(limit), include_key, include_value, timeout)

    async def _prefixed(
        self, prefix: bytes, include_key: bool, include_value: bool, timeout: float | None
    ) -> list[Pair] | list[bytes] | list[None]:
        """Read by a range that every server knows; it includes the first key behind, which is taken off again."""
        check_flags(include_key, include_value)
        kept = prefix.rstrip(b"\xff")
        behind = kept[:-1] + bytes((kept[-1] + 1,)) if kept else None
        rows = await self._read_range(prefix, behind, True, include_value, timeout)
        if rows and (rows[-1][0] if include_value else rows[-1]) == behind:
            del rows[-1]
        if include_key:
            return rows
        return [value for _, value in cast("list[Pair]", rows)] if include_value else [None] * len(rows)

    async def _read_range(
        self, first: bytes | None, last: bytes | None, include_key: bool, include_value: bool, timeout: float | None
    ) -> list[Any]:
        arguments: list[Value] = [first, last, include_key, include_value]
        reply = await self._ask("RANGE", arguments, answers.rows(include_key, include_value), self._until(timeout))
        return self._rows("RANGE", reply, include_key and include_value)

    @overload
    async def slice(
        self,
        start: Text | None,
        limit: int,
        *,
        include_key: Yes = True,
        include_value: Yes = True,
        timeout: float | None = None,
    ) -> list[Pair]: ...
    @overload
    async def slice(
        self,
        start: Text | None,
        limit: int,
        *,
        include_key: Yes = True,
        include_value: No,
        timeout: float | None = None,
    ) -> list[bytes]: ...
    @overload
    async def slice(
        self,
        start: Text | None,
        limit: int,
        *,
        include_key: bool = True,
        include_value: bool = True,
        timeout: float | None = None,
    ) -> list[Pair] | list[bytes] | list[None]: ...
    async def slice(
        self,
        start: Text | None,
        limit: int,
        *,
        include_key: bool = True,
        include_value: bool = True,
        timeout: float | None = None,
    ) -> list[Pair] | list[bytes] | list[None]:
        """Answer at most ``limit`` rows from the first key on that is not below ``start`` (``None``: the first)."""
        check_flags(include_key, include_value)
        count = check_count(limit)
        arguments: list[Value] = [check_bound(start), count, include_key, include_value]
        accept = answers.rows(include_key, include_value, count)
        reply = await self._ask("SLICE", arguments, accept, self._until(timeout))
        return self._rows("SLICE", reply, include_key and include_value)

    @overload
    def range_iter(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: Yes = True,
        include_value: Yes = True,
        page: int = _PAGE,
        timeout: float | None = None,
    ) -> AsyncIterator[Pair]: ...
    @overload
    def range_iter(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: Yes = True,
        include_value: No,
        page: int = _PAGE,
        timeout: float | None = None,
    ) -> AsyncIterator[bytes]: ...
    @overload
    def range_iter(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: bool = True,
        include_value: bool = True,
        page: int = _PAGE,
        timeout: float | None = None,
    ) -> AsyncIterator[Pair | bytes | None]: ...
    async def range_iter(
        self,
        start: Text | None = None,
        limit: int | Text | None = None,
        *,
        include_key: bool = True,
        include_value: bool = True,
        page: int = _PAGE,
        timeout: float | None = None,
    ) -> AsyncIterator[Pair | bytes | None]:
        """Yield what :meth:`range` answers, page by page: in bounded memory, and not from one state of the database.

        ``page`` is how many rows one request brings; ``timeout`` is for each of them.
        """
        check_flags(include_key, include_value)
        if isinstance(page, bool) or not isinstance(page, int) or page < 1:
            raise ValidationError(f"a page holds one row or more, not {page!r}")
        left = check_count(limit) if isinstance(limit, int) else None
        last = None if isinstance(limit, int) else check_bound(limit)
        at = check_bound(start)
        while left is None or left > 0:
            wanted = page if left is None else min(page, left)
            rows: list[Any] = await self.slice(at, wanted, include_value=include_value, timeout=timeout)
            key = b""
            for row in rows:
                key = row[0] if include_value else row
                if last is not None and key > last:
                    return
                yield row if include_key else row[1] if include_value else None
            if len(rows) < wanted:
                return
            at = key + b"\0"
            left = None if left is None else left - len(rows)

    def _rows(self, command: str, reply: Reply, pairs: bool) -> list[Any]:
        rows = cast("list[Any]", self._data(command, reply))
        spend(0, len(rows))
        return list(map(tuple, rows)) if pairs else rows

    # --- batches ------------------------------------------------------------------------------------------------------

    def write_batch(self, dbname: Text | None = None, *, timeout: float | None = None) -> WriteBatch:
        """Answer a batch of writes that are done together, or not at all.

        ``async with client.write_batch() as batch:`` writes it at the end of the block, unless that ends by an
        exception; ``await batch.write()`` does so by hand.

        Args:
            dbname: Another database than the client's own.
            timeout: Seconds for writing it.
        """
        name = None if dbname is None else check_name(dbname)

        async def write(operations: list[Value], seconds: float | None) -> None:
            until = self._until(timeout if seconds is None else seconds)
            if name is None:
                await self._change("BATCH", [operations], until, self._here(), keys=len(operations))
                return
            async with self._elsewhere(name, until) as place:
                await self._change("BATCH", [operations], until, place, keys=len(operations))

        return WriteBatch(write)

    async def write_all(
        self, operations: Sequence[tuple[bytes, bytes | None]], *, keys: int, timeout: float | None = None
    ) -> None:
        """Put values, and delete where there is none, together: what a batch does, for many that are bytes already.

        ``keys`` is what a budget is charged.
        """
        changes: list[Value] = [[DELETE, key] if value is None else [PUT, key, value] for key, value in operations]
        await self._change("BATCH", [changes], self._until(timeout), self._here(), keys=keys)
