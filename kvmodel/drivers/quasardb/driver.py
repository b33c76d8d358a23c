"""The driver for quasardb."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import SplitResult, unquote

import attrs

from kvmodel.drivers.base import (
    Absent,
    Atomicity,
    Capabilities,
    CheckRange,
    Costs,
    Driver,
    Durability,
    Expiry,
    Key,
    Mutation,
    Outcome,
    Purged,
    Put,
    Reverse,
    Row,
    Rows,
    Slice,
    Status,
    Table,
)
from kvmodel.drivers.bytewrites import prepare
from kvmodel.drivers.options import choose, parse_bool, parse_int, parse_size, parse_text
from kvmodel.drivers.quasardb.catalogue import Catalogue
from kvmodel.drivers.quasardb.checks import MAX_NAME_BYTES, STORE
from kvmodel.drivers.quasardb.client import MAX_NAMES, MAX_VALUE_BYTES, QuasardbClient, all_of
from kvmodel.drivers.quasardb.connecting import LIBRARY, Credentials
from kvmodel.drivers.quasardb.names import Place, common_prefix
from kvmodel.drivers.quasardb.writes import Step, carry_out
from kvmodel.drivers.refusals import refuse_slice, refuse_write
from kvmodel.errors import (
    Conflict,
    DecodingError,
    KvModelError,
    NotFound,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    Unsupported,
    ValidationError,
)

__all__ = ["QuasardbDriver"]

_FIRST_PAGE: Final = 256
_PAGE: Final = 1024
_PAGE_BYTES: Final = 4 << 20
_READ_AT_ONCE: Final = 256
_WRITES_AT_ONCE: Final = 256
_CREDENTIALS: Final = (
    "user_private_key",
    "cluster_public_key",
    "user_security_file",
    "cluster_public_key_file",
)


class QuasardbDriver(Driver):
    """A connection to a quasardb cluster, through the vendor's package in worker processes.

    Every write is one call on one record. Ranges are made of a listing of names and one call for each record.

    Args:
        client: The client that it works with.
    """

    schemes: ClassVar[tuple[str, ...]] = ("qdb",)
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "user_name": parse_text,
        **dict.fromkeys(_CREDENTIALS, parse_text),
        "library": parse_text,
        "workers": parse_int,
        "connect_timeout": float,
        "library_timeout": float,
        "encryption": parse_bool,
        "compression": parse_text,
        "parallelism": parse_int,
        "max_value_bytes": parse_size,
        "max_names": parse_int,
    }
    capabilities = Capabilities(
        store=STORE,
        atomicity=Atomicity.RECORD,
        conditional=True,
        ordered=True,
        reverse=Reverse.NATIVE,
        scan_table=True,
        expiry=Expiry.EMULATED,
        durability=Durability.PROCESS,
        failover_may_lose=True,
        max_key_bytes=MAX_NAME_BYTES,
        max_value_bytes=MAX_VALUE_BYTES,
    )

    def __init__(self, client: QuasardbClient) -> None:
        self._client = client
        self.capabilities = attrs.evolve(type(self).capabilities, max_value_bytes=client.max_value_bytes)
        self._places: dict[Table, Place] = {}
        self._catalogue = Catalogue(client)

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> QuasardbDriver:
        """Make a driver for ``qdb://host:port,host:port`` or ``qdb://user:private-key@host:port``."""
        user, at, hosts = url.netloc.rpartition("@")
        if url.path.strip("/") or url.fragment or not hosts:
            raise ValidationError("a quasardb URL is qdb://host:port,host:port, without a path", field="url")
        name, colon, key = user.partition(":")
        given = {name: choose(options, name, str, "") for name in ("user_name", *_CREDENTIALS)}
        if at:
            given["user_name"] = given["user_name"] or unquote(name)
            given["user_private_key"] = given["user_private_key"] or (unquote(key) if colon else "")
        return cls(
            QuasardbClient(
                hosts,
                Credentials(**given),
                workers=choose(options, "workers", int, 4),
                timeout=_seconds(options, "connect_timeout"),
                connect_timeout=_seconds(options, "connect_timeout"),
                library_timeout=_seconds(options, "library_timeout"),
                library=choose(options, "library", str, LIBRARY),
                encryption=choose(options, "encryption", bool, False),
                compression=choose(options, "compression", str, "balanced"),
                parallelism=choose(options, "parallelism", int, 0),
                max_value_bytes=choose(options, "max_value_bytes", int, MAX_VALUE_BYTES),
                max_names=choose(options, "max_names", int, MAX_NAMES),
            )
        )

    @property
    def address(self) -> str:
        """Where the cluster is."""
        return self._client.store

    @property
    def native(self) -> QuasardbClient:
        """The store's own client."""
        return self._client

    async def open(self) -> None:
        """Start a worker, and connect."""
        await self._client.open()

    async def close(self) -> None:
        """End all workers, once what is under way has ended."""
        await self._client.close()

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Compare with what the store holds of a table. What is missing is written before the first record."""
        await self._catalogue.compare(self.place(table), until)

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: one record."""
        return table.namespace, table.name, key

    def place(self, table: Table) -> Place:
        """Answer where a table's records lie."""
        place = self._places.get(table)
        if place is None:
            place = self._places[table] = Place(table, self._client.max_value_bytes)
        return place

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked: one call for each, spread over the workers."""
        codec = self.place(table).codec
        names = [codec.encode_key(key).decode() for key in keys]
        found = await self._fetch(table, names, until)
        load = codec.loader(values)
        return [Absent(key) if data is None else load(key, data, now) for key, data in zip(keys, found, strict=True)]

    async def _fetch(self, table: Table, names: Sequence[str], until: float) -> list[bytes | None]:
        try:
            return await self._client.fetch(names, until)
        except DecodingError as error:  # An entry of another type, of which the store's name was told.
            (name,) = error.key or ("",)
            error.table, error.key = table.name, self.place(table).codec.decode_key(str(name).encode())
            raise

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice: list the names below its narrowest prefix, sort, and get the records."""
        refuse_slice(self.capabilities, table, slice)
        place = self.place(table)
        names = await self._names(place, slice, until)
        room = _FIRST_PAGE if slice.after is None else _PAGE
        rows: list[Row] = []
        size = at = 0
        while at < len(names) and at < room and size < _PAGE_BYTES:
            wanted = place.room if slice.limit is None else min(place.room, slice.limit - len(rows))
            part = names[at : min(at + wanted, room)]
            for key, data in await self._records(place, part, until):
                size += len(data)
                row = place.codec.loader(values)(key, data, now)
                if isinstance(row, Row):
                    rows.append(row)
            at += len(part)
            if len(rows) == slice.limit:
                return Rows(rows)
        return Rows(rows, place.codec.decode_key(names[at - 1].encode()) if at < len(names) else None)

    async def _names(self, place: Place, slice: Slice, until: float) -> list[str]:
        """Answer the names of a slice, in its order."""
        start, stop = place.codec.bounds(slice)
        if start >= stop or slice.limit == 0:
            return []
        prefix = self._prefix(place, start, stop)
        found = await self._client.list_names(prefix, until, first=place.names)
        place.names = max(2 * len(found), 1024)
        names = sorted(name for name in found if start <= name.encode() < stop)
        return names[::-1] if slice.reverse else names

    def _prefix(self, place: Place, start: bytes, stop: bytes) -> str:
        prefix = common_prefix(start, stop)
        if not prefix:
            raise Unsupported(
                "this store lists names by their beginning, and these have none in common: set the option key_prefix,"
                " or read by key",
                table=place.table.name,
                store=self.address,
            )
        return prefix

    async def _records(self, place: Place, names: Sequence[str], until: float) -> Iterator[tuple[Key, bytes]]:
        """Get the records of some names, but for those that are gone by now."""
        keys = [place.codec.decode_key(name.encode()) for name in names]
        found = await self._fetch(place.table, names, until)
        size = sum(len(data) for data in found if data is not None)
        place.room = max(1, min(_READ_AT_ONCE, _PAGE_BYTES // (size // max(len(found), 1) + 1)))
        return ((key, data) for key, data in zip(keys, found, strict=True) if data is not None)

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice: all of them are read, or, in the plain layout, their names listed."""
        refuse_slice(self.capabilities, table, slice)
        place = self.place(table)
        names = await self._names(place, slice, until)
        if place.is_plain:
            total = sum(1 for name in names if place.codec.decode_key(name.encode()))
            return total if slice.limit is None else min(total, slice.limit)
        total = at = 0
        while at < len(names) and (slice.limit is None or total < slice.limit):
            part = names[at : at + place.room]
            for _, data in await self._records(place, part, until):
                total += place.codec.peek_header(data, now) is not None
            at += len(part)
        return total if slice.limit is None else min(total, slice.limit)

    def costs(self, table: Table, slice: Slice) -> Costs | None:
        """Say that a page lists names, and gets each record for itself."""
        place = self.place(table)
        start, stop = place.codec.bounds(slice)
        if start >= stop:
            return None
        prefix = self._prefix(place, start, stop)
        listing = (
            f"list the names that begin with {prefix!r}, all of them for every page: one call for {place.names}, more"
            f" calls for more, refused above {self._client.max_names}"
        )
        return Costs(
            (
                listing,
                "sort them here, and take those within the bounds",
                "get each record, one call each; what has gone or expired is passed over",
            ),
            None,
            slice.limit,
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked for size before anything is sent."""
        if not mutations:
            return []
        refuse_write(self.capabilities, self.scope, mutations, atomic)
        steps = self._encode(mutations, now)
        if atomic:
            if len(steps) > 1:
                raise Unsupported(
                    "an atomic write to this store is one mutation of one record: split the unit of work, or use"
                    " db.batch()",
                    store=self.address,
                )
            await self._ready(steps, until)
            return [await carry_out(self._client, steps[0], now, until)]
        return await self._batch(steps, now, until)

    def _encode(self, mutations: Sequence[Mutation], now: int) -> list[Step]:
        encoded = prepare(
            mutations,
            atomic=False,
            now=now,
            store=self.address,
            codec_of=lambda table: self.place(table).codec,
            recorded=set(),
            register=lambda txn, table: [],
        )
        steps = []
        for mutation, _, name, data, version in encoded.steps:
            assert not isinstance(mutation, CheckRange)  # Refused: there are no range checks.
            steps.append(Step(mutation, self.place(mutation.table), name.decode(), data, version))
        return steps

    async def _ready(self, steps: Sequence[Step], until: float) -> None:
        places = {step.place: None for step in steps if isinstance(step.mutation, Put)}
        await self._catalogue.ready(list(places), until)

    async def _batch(self, steps: list[Step], now: int, until: float) -> list[Outcome]:
        """Carry out independent writes, some at once; an outcome for each."""
        outcomes: list[Outcome] = []
        for start in range(0, len(steps), _WRITES_AT_ONCE):
            part = steps[start : start + _WRITES_AT_ONCE]
            try:
                await self._ready(part, until)
                outcomes += await all_of([self._attempt(step, now, until) for step in part])
            except KvModelError as error:
                if not outcomes:
                    raise
                return outcomes + [Outcome(Status.UNSENT, error=error)] * (len(steps) - start)
        first = next((each.error for each in outcomes if each.status is not Status.UNSENT), None)
        if all(each.status is Status.UNSENT for each in outcomes) and outcomes[0].error is not None:
            raise outcomes[0].error from first
        return outcomes

    async def _attempt(self, step: Step, now: int, until: float) -> Outcome:
        try:
            return await carry_out(self._client, step, now, until)
        except Conflict as error:
            return Outcome(Status.CONFLICT, error=error)
        except OutcomeUnknown as error:
            if isinstance(error.__cause__, asyncio.CancelledError):
                raise
            return Outcome(Status.UNKNOWN, error=error)
        except (StoreError, TimedOut) as error:
            return Outcome(Status.UNSENT, error=error)
        except (DecodingError, ValidationError) as error:
            return Outcome(Status.FAILED, error=error)

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records of one page behind ``after``, each only if it is still the same."""
        if table.layout == "plain":
            return Purged(0)
        place = self.place(table)
        names = await self._names(place, Slice(None, after=after), until)
        removed = at = 0
        while at < len(names) and at < _PAGE and removed < limit:
            part = names[at : at + min(place.room, limit - removed)]
            found = await self._records(place, part, until)
            dead = [(key, data) for key, data in found if not place.is_alive(data, now)]
            removed += sum(await all_of([self._reap(place, key, data, until) for key, data in dead])) if dead else 0
            at += len(part)
        return Purged(removed, place.codec.decode_key(names[at - 1].encode()) if at < len(names) else None)

    async def _reap(self, place: Place, key: Key, data: bytes, until: float) -> bool:
        name = place.codec.encode_key(key).decode()
        try:
            await self._client.call("remove_if", name, data, key=name, until=until)
        except (Conflict, NotFound):
            return False  # Somebody has written it again, or removed it.
        return True


def _seconds(options: Mapping[str, object], name: str) -> float:
    given = options.get(name, 10.0)
    seconds = float(given) if isinstance(given, int | float) and not isinstance(given, bool) else 0.0
    if not 0 < seconds < float("inf"):
        raise ValidationError(f"the option {name} is a number of seconds above zero", field=name, store=STORE)
    return seconds
