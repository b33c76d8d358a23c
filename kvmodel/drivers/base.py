"""The narrow waist: what the mapper asks of a store, and what a store answers.

Rules. Nothing here names a store or a model class. Everything that crosses is plain data: typed key components,
mappings of primitive values, versions, deadlines. Times are integers, microseconds since the Unix epoch in UTC;
``until`` is a point on :func:`time.monotonic`'s clock, in seconds.

The values that cross often (rows, mutations, outcomes) are named tuples: they are made once for every record that is
read or written, and cost half of what any class with an ``__init__`` costs.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

import attrs

from kvmodel.errors import DecodingError, Unsupported

KeyPart: TypeAlias = "str | bytes | int | float | bool | Decimal | UUID | datetime | date | tuple[KeyPart, ...]"
"""One component of a key."""

Key: TypeAlias = tuple[KeyPart, ...]
"""All components of a key: partition fields, then clustering fields, in declaration order."""

Primitive: TypeAlias = """(
    None | bool | int | float | str | bytes | Decimal | UUID | datetime | date | time | timedelta
    | list[Primitive] | dict[str, Primitive]
)"""
"""One stored value. Sets, tuples, enumerations, nested objects and mappings with other keys than ``str`` have been
turned into these above the waist; how a store keeps each of them is its format's business."""

Values: TypeAlias = dict[str, Primitive]
Version: TypeAlias = bytes | int | str
"""Opaque, compared for equality only; never repeats for a key, not even across delete and re-create."""


# --- tables -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class KeyType:
    """The type of one key component, as data.

    ``kind`` is one of ``str bytes int float bool decimal uuid datetime date tuple union``. ``items`` are the element
    types of a tuple, or the members of a union (which occurs inside tuples only); ``variadic`` marks ``tuple[X, ...]``.
    """

    kind: str
    items: tuple[KeyType, ...] = ()
    variadic: bool = False

    def __str__(self) -> str:
        if self.kind == "union":
            return " | ".join(map(str, self.items))
        if self.kind == "tuple":
            inner = ", ".join(map(str, self.items))
            return f"tuple[{inner}, ...]" if self.variadic else f"tuple[{inner}]"
        return self.kind


@attrs.frozen
class KeyField:
    """One field of a table's key."""

    name: str
    type: KeyType
    descending: bool = False
    options: Mapping[str, object] = attrs.field(factory=dict, hash=False)


@attrs.frozen
class ValueType:
    """The type of a stored value, as data: what crosses the waist, for stores that hold typed columns or text.

    ``kind`` is one of ``bool int float str bytes decimal uuid datetime date time timedelta``, or

    * ``list``: ``items`` is the one element type (sets and ``tuple[X, ...]`` too), or, where ``fixed``, one for each;
    * ``dict``: a mapping with ``str`` keys, ``items`` is the one value type;
    * ``pairs``: a list of two-element lists, ``items`` are the key's and the value's type;
    * ``object``: a ``dict`` with the keys ``names``, whose types are ``items``; unknown keys may occur;
    * ``union``: one of ``items``;
    * ``any``: any primitive.

    ``nullable`` says that ``None`` may stand there.
    """

    kind: str
    items: tuple[ValueType, ...] = ()
    names: tuple[str, ...] = ()
    nullable: bool = False
    fixed: bool = False


@attrs.frozen
class ValueField:
    """One field of a table's records outside the key."""

    name: str
    type: ValueType
    options: Mapping[str, object] = attrs.field(factory=dict, hash=False)


@attrs.frozen(eq=False)
class Table:
    """A table as one connection sees it: what a model compiled to, inside one namespace.

    Compared by identity, so that drivers may keep what they compiled for it in a dictionary.
    """

    name: str
    partition: tuple[KeyField, ...]
    clustering: tuple[KeyField, ...]
    values: tuple[ValueField, ...]
    namespace: tuple[str, ...] = ()
    schema_number: int = 1
    layout: Literal["record", "plain"] = "record"
    whole_value: str | None = None
    options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)

    @property
    def key(self) -> tuple[KeyField, ...]:
        """All key fields: partition, then clustering."""
        return self.partition + self.clustering


# --- rows and slices --------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A live record.

    ``values`` is fresh: the caller may keep and change it; it is empty when values were not asked for.
    ``schema_number`` is the number that the record was written with, ``expires_at`` is ``None`` for never.
    """

    key: Key
    values: Values
    version: Version
    expires_at: int | None = None
    schema_number: int = 1


class Absent(NamedTuple):
    """No live record. ``token`` is set where the store leaves something behind (an expired row, a tombstone)."""

    key: Key
    token: Version | None = None


class Edge(NamedTuple):
    """One end of a slice: the first components of a clustering key, at most all of them.

    An inclusive edge lets every key in that begins with ``parts``; an exclusive one keeps all of those out.
    """

    parts: Key
    inclusive: bool


class Slice(NamedTuple):
    """A bounded, ordered piece of one partition, or of a whole table (``partition`` is ``None``, then no bounds).

    Attributes:
        partition: The partition's values; ``None`` for the whole table, in an order of the store's own choice that
            stays the same from page to page.
        lower, upper: Ends in clustering order as declared (a descending field counts downwards).
        prefix: Whole components that every clustering key must begin with.
        starts: How the component that follows ``prefix`` must begin.
        reverse: Turns the output only.
        limit: How many live rows are wanted at the most; ``None`` for no limit.
        after: A full key: go on behind it, in the direction of reading.
    """

    partition: Key | None
    lower: Edge | None = None
    upper: Edge | None = None
    prefix: Key = ()
    starts: str | bytes | None = None
    reverse: bool = False
    limit: int | None = None
    after: Key | None = None


class Rows(NamedTuple):
    """One page of a slice.

    ``resume`` is the full key to go on behind (as ``Slice.after``), ``None`` when the slice is done: at its end, or
    when its limit is reached. A page may be empty and yet not be the last one.
    """

    rows: list[Row]
    resume: Key | None = None


class Costs(NamedTuple):
    """What a page of a slice takes, where that is something else than one request: for ``explain()``.

    Attributes:
        steps: What is sent, in order, in words.
        round_trips: How many exchanges that is; ``None`` where it depends on how much is found.
        keys: How many keys the store reads; ``None`` where it depends on how much is found.
    """

    steps: tuple[str, ...]
    round_trips: int | None = None
    keys: int | None = None


class ChangeKind(enum.Enum):
    """What became of a record."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"

    def __repr__(self) -> str:
        return self.name


class RowChange(NamedTuple):
    """One change of one record, as its store tells it.

    Attributes:
        key: The record's full key.
        kind: What became of it. A record that takes the place of an expired one is created.
        new: What is there now; ``None`` when it is gone.
        old: What was there before; ``None`` where nothing was, or where the store does not tell.
        position: Where to go on behind this change, and behind nothing that comes after it. ``None`` where the store
            keeps no positions.
        error: Why neither ``new`` nor, perhaps, ``key`` can be told: what is stored there is no record of this table.
            The changes behind it are told all the same. What was there before and can't be read is left out.
    """

    key: Key
    kind: ChangeKind
    new: Row | None = None
    old: Row | None = None
    position: str | None = None
    error: DecodingError | None = None


class Purged(NamedTuple):
    """What one step of ``purge`` did. ``resume`` is where to go on, ``None`` at the end of the table."""

    removed: int
    resume: Key | None = None


# --- mutations --------------------------------------------------------------------------------------------------------


class Expect(enum.Enum):
    """What a mutation relies on, besides a version that it names."""

    ANYTHING = "anything"
    ABSENT = "absent"
    PRESENT = "present"

    def __repr__(self) -> str:
        return self.name


ANYTHING: Final = Expect.ANYTHING
ABSENT: Final = Expect.ABSENT
PRESENT: Final = Expect.PRESENT

Expectation: TypeAlias = Expect | Version


class Put(NamedTuple):
    """Store a record, whole. ``stamp`` is unique to this write attempt, which may be one of many records (12 bytes)."""

    table: Table
    key: Key
    values: Values
    stamp: bytes
    expires_at: int | None = None
    expect: Expectation = Expect.ANYTHING


class Delete(NamedTuple):
    """Remove a record."""

    table: Table
    key: Key
    expect: Expectation = Expect.ANYTHING


class Check(NamedTuple):
    """Change nothing, but fail the write unless the expectation holds."""

    table: Table
    key: Key
    expect: Expectation


class CheckRange(NamedTuple):
    """Change nothing, but fail the write unless the slice still gives exactly these keys at these versions."""

    table: Table
    slice: Slice
    rows: tuple[tuple[Key, Version], ...]


Mutation: TypeAlias = Put | Delete | Check | CheckRange


class Status(enum.Enum):
    """How one write ended."""

    WRITTEN = "written"
    CONFLICT = "conflict"
    TOO_LARGE = "too large"
    UNKNOWN = "unknown"
    FAILED = "failed"
    UNSENT = "unsent"

    def __repr__(self) -> str:
        return self.name


class Outcome(NamedTuple):
    """What became of one mutation.

    Attributes:
        status: How it ended.
        version: The record's new version, after a ``Put`` that was written.
        existed: Whether a live record was there before; ``None`` where the store does not tell.
        error: Why it failed, unless it was written.
    """

    status: Status
    version: Version | None = None
    existed: bool | None = None
    error: Exception | None = None


# --- capabilities -----------------------------------------------------------------------------------------------------


class Atomicity(enum.IntEnum):
    """How far one atomic write may reach."""

    RECORD = 1
    PARTITION = 2
    STORE = 3


class Reverse(enum.Enum):
    """Whether a slice can be read backwards."""

    NATIVE = "native"
    COSTLY = "costly"
    NONE = "none"


class Expiry(enum.Enum):
    """Who gives the space of expired records back: the store itself, or ``purge_expired``."""

    NATIVE = "native"
    EMULATED = "emulated"
    NONE = "none"


class Watch(enum.Enum):
    """What can be watched for changes."""

    NONE = "none"
    RECORD = "record"
    PARTITION = "partition"
    TABLE = "table"


class Durability(enum.IntEnum):
    """What an acknowledged write survives: nothing, a killed process, a power cut, the loss of a machine."""

    MEMORY = 1
    PROCESS = 2
    DISK = 3
    MAJORITY = 4


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a store can truly do. Every claim is proved by the conformance suite; what is denied raises
    :class:`~kvmodel.Unsupported` before a byte is sent.

    Limits are ``None`` where there is none. Sizes are in bytes.

    Attributes:
        store: The store's name, for messages.
        atomicity: How far one atomic write may reach.
        conditional: Whether writes can rely on absence, presence or a version.
        range_checks: Whether a write can rely on a slice being unchanged (no phantoms).
        ordered: Whether slices of a partition can be read in key order.
        reverse: Whether they can be read backwards.
        scan_table: Whether all partitions of a table can be read.
        expiry: Whether the store reclaims the space of expired records.
        watch: What can be watched.
        watch_resumes: Whether a watch can start from a stored position.
        watch_local: Whether a watch tells only of what is changed by this very process.
        catalogue: Whether the store holds a description of each table, so that another declaration of its key is
            refused.
        empty_texts: Whether a ``str`` in a key may be empty.
        shared_partitions: Whether a partition holds the records of several tables, so that a change of them is one
            write to it.
        leaves_deleted: Whether deleted records leave something behind that ranges have to pass over.
        durability: What an acknowledged write survives.
        failover_may_lose: Whether a failover may lose acknowledged writes.
        reads_in_place: Whether :meth:`Driver.peeker` has a reader that answers at once, without I/O that would hold up
            the event loop.
        typed_columns: Whether fields are kept in columns of the store's own types. Those hold less than Python's do:
            what does not fit is refused with ``ValidationError``, and a declaration that differs in directions alone
            is no other table.
        max_key_bytes: The longest key, whole.
        max_value_bytes: The largest record.
        max_read_batch: How many keys one ``read`` sends in one request.
        max_batch: How many mutations one non-atomic write sends in one request.
        max_atomic_changes: How many records one atomic write may change.
        max_atomic_checks: How many expectations one atomic write may carry.
        max_request_bytes: The largest request.
    """

    store: str
    atomicity: Atomicity = Atomicity.RECORD
    conditional: bool = False
    range_checks: bool = False
    ordered: bool = True
    reverse: Reverse = Reverse.NONE
    scan_table: bool = False
    expiry: Expiry = Expiry.EMULATED
    watch: Watch = Watch.NONE
    watch_resumes: bool = False
    watch_local: bool = False
    catalogue: bool = True
    empty_texts: bool = True
    shared_partitions: bool = True
    leaves_deleted: bool = False
    durability: Durability = Durability.MEMORY
    failover_may_lose: bool = False
    reads_in_place: bool = False
    typed_columns: bool = False
    max_key_bytes: int | None = None
    max_value_bytes: int | None = None
    max_read_batch: int = 1
    max_batch: int | None = None
    max_atomic_changes: int | None = None
    max_atomic_checks: int | None = None
    max_request_bytes: int | None = None


# --- the contract -----------------------------------------------------------------------------------------------------

FacetT = TypeVar("FacetT")


class Watcher(Protocol):
    """The changes of one slice, as they come, each of them once and those of one key in order.

    Subclass it: what a store need not bring has a default here. One task at a time waits for what is next.
    """

    @property
    def position(self) -> str | None:
        """Where to go on behind everything that was told; where the watch began, before that.

        It may move on while nothing is told, so that it stays one that the store still holds. ``None`` where the store
        keeps no positions.
        """
        return None

    async def next(self) -> Sequence[RowChange]:
        """Wait until something changed, however long that takes; may be cancelled and called again, losing nothing.

        Not cut short by what can't be decoded: that is a :class:`RowChange` with an ``error``. After a ``StoreError``
        it may be called again, and goes on where it was.

        Raises:
            WatchLost: The store has no longer what comes next, or has never promised to keep it.
            StoreError: The store can't be reached any more, and trying again by itself came to nothing.
            Closed: The watcher or its driver was closed meanwhile.
        """
        ...

    async def close(self) -> None:
        """Let go what the store keeps for this watch. Who waits for what is next gets ``Closed``.

        Closing twice is allowed.
        """
        ...


class Driver(Protocol):
    """One store's side of the mapper. Subclass it: what a store need not bring has a default here.

    Any number of tasks of one event loop may use a driver at once. Every call ends by ``until``: in a result or in an
    error of :mod:`kvmodel.errors`. A cancelled call never leaves a connection that answers the next request with the
    last one's reply. Requests are counted through :mod:`kvmodel.drivers.meter`.
    """

    capabilities: Capabilities

    @property
    def address(self) -> str:
        """Where the store is, as a URL without credentials, for messages."""
        ...

    @property
    def native(self) -> object:
        """The store's own client, for what only this store has."""
        ...

    async def open(self) -> None:
        """Reach the store. Raises ``Unavailable``, ``AuthenticationFailed`` or ``StoreError``."""
        ...

    async def close(self) -> None:
        """Let everything go. Writes that are under way are finished first. Closing twice is allowed."""
        ...

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Make ready what the store needs for a table, and compare with what it holds of it.

        Raises ``SchemaError`` where keys of this table were written by another declaration.
        """
        ...

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity that a record belongs to: all mutations of one atomic write must share it."""
        ...

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked, however many they are.

        All keys are encoded, and so refused if need be, before the first request is sent; a request carries
        ``max_read_batch`` of them at the most.
        """
        ...

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Answer a function that reads one record at once. Only where ``capabilities.reads_in_place``.

        It answers expired records too, and counts for no budget: both are left to the caller, who sees to them only
        when needed. It must not be called once the driver is closed.
        """
        raise NotImplementedError

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        ...

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice."""
        ...

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write. An outcome for each mutation, in order.

        ``atomic=True`` is all or nothing: a failed expectation raises ``Conflict`` (``AlreadyExists`` where the
        expectation was ``ABSENT``) and nothing was written; what the store cannot do atomically raises
        ``Unsupported`` before anything is sent. ``atomic=False`` is a batch of independent writes; its failures are
        outcomes. What is over a limit raises ``TooLarge`` before anything is sent, either way.
        """
        ...

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records behind ``after``, each only in the version that was seen.

        A store that can't compare versions removes blindly with ``force``, and raises ``Unsupported`` without.
        """
        ...

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> Watcher:
        """Begin to follow the changes of a slice, where ``capabilities.watch`` says so.

        Answers once the watch is in place: every change from then on is told, or from behind ``position``, which an
        earlier change of the same slice had. ``clock`` tells the time by which records expire; an expired record is
        told of as deleted when its store removes it, or not at all.

        The slice has a partition, or none for the whole table, and perhaps ``prefix`` and ``starts``; no other bounds.
        One record is a slice whose ``prefix`` has all clustering components: its key is ``partition + prefix``. What
        the capabilities deny was refused before (:func:`kvmodel.drivers.refusals.refuse_watch`).

        Raises ``WatchLost`` where the store holds no longer what comes after the position, ``ValidationError`` where
        the position is none.
        """
        raise Unsupported(
            "this store cannot be watched: poll with range(after=...) instead", store=self.capabilities.store
        )

    def costs(self, table: Table, slice: Slice) -> Costs | None:
        """Say what a page of a slice takes; ``None`` where that is one request. Sends nothing."""
        return None

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        """Answer what only some stores have, or ``None``."""
        return None
