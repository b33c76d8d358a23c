"""What is asked of etcd and what it answers: keys, transactions, leases, watches.

Names and numbers are those of etcd's own API, version 3, so that its documentation can be read beside this. A range of
keys is half open; ``range_end`` empty means the one key, and ``b"\\0"`` means: to the end.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import attrs

from kvmodel.drivers.etcd.wire import (
    Message,
    choice,
    data,
    datas,
    flag,
    integer,
    integers,
    message,
    messages,
    number,
    text,
)

__all__ = [
    "TO_THE_END",
    "CompactionRequest",
    "CompactionResponse",
    "Compare",
    "DeleteRangeRequest",
    "DeleteRangeResponse",
    "Event",
    "EventType",
    "Header",
    "KeyValue",
    "LeaseGrantRequest",
    "LeaseGrantResponse",
    "LeaseKeepAliveRequest",
    "LeaseKeepAliveResponse",
    "LeaseLeasesRequest",
    "LeaseLeasesResponse",
    "LeaseRevokeRequest",
    "LeaseRevokeResponse",
    "LeaseStatus",
    "LeaseTimeToLiveRequest",
    "LeaseTimeToLiveResponse",
    "PutRequest",
    "PutResponse",
    "RangeRequest",
    "RangeResponse",
    "RequestOp",
    "ResponseOp",
    "Result",
    "SortOrder",
    "SortTarget",
    "Target",
    "TxnRequest",
    "TxnResponse",
    "WatchCancelRequest",
    "WatchCreateRequest",
    "WatchFilter",
    "WatchProgressRequest",
    "WatchRequest",
    "WatchResponse",
]

TO_THE_END: Final = b"\0"
"""As the end of a range: all keys from its start on."""


@attrs.frozen
class Header(Message):
    """Who answered, and the store's revision then."""

    cluster_id: int = number(1)
    member_id: int = number(2)
    revision: int = integer(3)
    raft_term: int = number(4)


@attrs.frozen
class KeyValue(Message):
    """One key: when it was created and changed last (revisions of the store), and how often since it was created."""

    key: bytes = data(1)
    create_revision: int = integer(2)
    mod_revision: int = integer(3)
    version: int = integer(4)
    value: bytes = data(5)
    lease: int = integer(6)


class SortOrder(enum.IntEnum):
    """How an answer is sorted. With any but ``NONE`` the server reads the whole range, whatever the limit."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(enum.IntEnum):
    """What an answer is sorted by."""

    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


# --- keys -------------------------------------------------------------------------------------------------------------


@attrs.frozen
class RangeRequest(Message):
    """Read keys."""

    key: bytes = data(1)
    range_end: bytes = data(2)
    limit: int = integer(3)
    revision: int = integer(4)
    sort_order: int = integer(5)
    sort_target: int = integer(6)
    serializable: bool = flag(7)
    keys_only: bool = flag(8)
    count_only: bool = flag(9)
    min_mod_revision: int = integer(10)
    max_mod_revision: int = integer(11)
    min_create_revision: int = integer(12)
    max_create_revision: int = integer(13)


@attrs.frozen
class RangeResponse(Message):
    """Keys. ``count`` is how many the range has, whatever the limit; ``more`` whether the limit left some out."""

    header: Header | None = message(1, lambda: Header)
    kvs: Sequence[KeyValue] = messages(2, lambda: KeyValue)
    more: bool = flag(3)
    count: int = integer(4)


@attrs.frozen
class PutRequest(Message):
    """Write one key."""

    key: bytes = data(1)
    value: bytes = data(2)
    lease: int = integer(3)
    prev_kv: bool = flag(4)
    ignore_value: bool = flag(5)
    ignore_lease: bool = flag(6)


@attrs.frozen
class PutResponse(Message):
    """``prev_kv`` is what was there, if it was asked for."""

    header: Header | None = message(1, lambda: Header)
    prev_kv: KeyValue | None = message(2, lambda: KeyValue)


@attrs.frozen
class DeleteRangeRequest(Message):
    """Remove keys."""

    key: bytes = data(1)
    range_end: bytes = data(2)
    prev_kv: bool = flag(3)


@attrs.frozen
class DeleteRangeResponse(Message):
    """How many were removed, and what they were, if it was asked for."""

    header: Header | None = message(1, lambda: Header)
    deleted: int = integer(2)
    prev_kvs: Sequence[KeyValue] = messages(3, lambda: KeyValue)


@attrs.frozen
class CompactionRequest(Message):
    """Forget what was before a revision."""

    revision: int = integer(1)
    physical: bool = flag(2)


@attrs.frozen
class CompactionResponse(Message):
    """Done."""

    header: Header | None = message(1, lambda: Header)


# --- transactions -----------------------------------------------------------------------------------------------------


class Result(enum.IntEnum):
    """How a comparison has to turn out."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class Target(enum.IntEnum):
    """What is compared. An absent key has 0 for all of the numbers, and no value."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


@attrs.frozen
class Compare(Message):
    """One comparison; with ``range_end``, of every key that is in the range: an empty range has one absent key."""

    result: int = integer(1)
    target: int = integer(2)
    key: bytes = data(3)
    version: int | None = choice(4, int)
    create_revision: int | None = choice(5, int)
    mod_revision: int | None = choice(6, int)
    value: bytes | None = choice(7, bytes)
    lease: int | None = choice(8, int)
    range_end: bytes = data(64)


@attrs.frozen
class RequestOp(Message):
    """One operation of a transaction: one of these."""

    request_range: RangeRequest | None = message(1, lambda: RangeRequest)
    request_put: PutRequest | None = message(2, lambda: PutRequest)
    request_delete_range: DeleteRangeRequest | None = message(3, lambda: DeleteRangeRequest)
    request_txn: TxnRequest | None = message(4, lambda: TxnRequest)


@attrs.frozen
class TxnRequest(Message):
    """Do ``success`` if all comparisons hold, else ``failure``, in one step."""

    compare: Sequence[Compare] = messages(1, lambda: Compare)
    success: Sequence[RequestOp] = messages(2, lambda: RequestOp)
    failure: Sequence[RequestOp] = messages(3, lambda: RequestOp)


@attrs.frozen
class ResponseOp(Message):
    """What became of one operation."""

    response_range: RangeResponse | None = message(1, lambda: RangeResponse)
    response_put: PutResponse | None = message(2, lambda: PutResponse)
    response_delete_range: DeleteRangeResponse | None = message(3, lambda: DeleteRangeResponse)
    response_txn: TxnResponse | None = message(4, lambda: TxnResponse)


@attrs.frozen
class TxnResponse(Message):
    """Whether all comparisons held, and what became of the operations that were done then."""

    header: Header | None = message(1, lambda: Header)
    succeeded: bool = flag(2)
    responses: Sequence[ResponseOp] = messages(3, lambda: ResponseOp)


# --- leases -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class LeaseGrantRequest(Message):
    """Make a lease: keys that are put with it go when it ends. ``ttl`` is in seconds; ``id`` 0: choose one."""

    ttl: int = integer(1)
    id: int = integer(2)


@attrs.frozen
class LeaseGrantResponse(Message):
    """The lease, and how long it really lasts."""

    header: Header | None = message(1, lambda: Header)
    id: int = integer(2)
    ttl: int = integer(3)
    error: str = text(4)


@attrs.frozen
class LeaseRevokeRequest(Message):
    """End a lease, and its keys with it."""

    id: int = integer(1)


@attrs.frozen
class LeaseRevokeResponse(Message):
    """Done."""

    header: Header | None = message(1, lambda: Header)


@attrs.frozen
class LeaseKeepAliveRequest(Message):
    """Let a lease begin anew."""

    id: int = integer(1)


@attrs.frozen
class LeaseKeepAliveResponse(Message):
    """How long it lasts now; 0 where there is none."""

    header: Header | None = message(1, lambda: Header)
    id: int = integer(2)
    ttl: int = integer(3)


@attrs.frozen
class LeaseTimeToLiveRequest(Message):
    """Ask after a lease, and its keys."""

    id: int = integer(1)
    keys: bool = flag(2)


@attrs.frozen
class LeaseTimeToLiveResponse(Message):
    """How long it lasts, -1 where there is none; how long it was given; its keys, if they were asked for."""

    header: Header | None = message(1, lambda: Header)
    id: int = integer(2)
    ttl: int = integer(3)
    granted_ttl: int = integer(4)
    keys: Sequence[bytes] = datas(5)


@attrs.frozen
class LeaseLeasesRequest(Message):
    """List all leases."""


@attrs.frozen
class LeaseStatus(Message):
    """One of them."""

    id: int = integer(1)


@attrs.frozen
class LeaseLeasesResponse(Message):
    """All leases."""

    header: Header | None = message(1, lambda: Header)
    leases: Sequence[LeaseStatus] = messages(2, lambda: LeaseStatus)


# --- watches ----------------------------------------------------------------------------------------------------------


class EventType(enum.IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class WatchFilter(enum.IntEnum):
    """What is not to be told."""

    NOPUT = 0
    NODELETE = 1


@attrs.frozen
class Event(Message):
    """One change; of a deletion, ``kv`` has the key and the revision only."""

    type: int = integer(1)
    kv: KeyValue | None = message(2, lambda: KeyValue)
    prev_kv: KeyValue | None = message(3, lambda: KeyValue)


@attrs.frozen
class WatchCreateRequest(Message):
    """Begin to watch, from a revision on (0: from now)."""

    key: bytes = data(1)
    range_end: bytes = data(2)
    start_revision: int = integer(3)
    progress_notify: bool = flag(4)
    filters: Sequence[int] = integers(5)
    prev_kv: bool = flag(6)
    watch_id: int = integer(7)
    fragment: bool = flag(8)


@attrs.frozen
class WatchCancelRequest(Message):
    """End a watch."""

    watch_id: int = integer(1)


@attrs.frozen
class WatchProgressRequest(Message):
    """Ask how far the stream is."""


@attrs.frozen
class WatchRequest(Message):
    """One of these."""

    create_request: WatchCreateRequest | None = message(1, lambda: WatchCreateRequest)
    cancel_request: WatchCancelRequest | None = message(2, lambda: WatchCancelRequest)
    progress_request: WatchProgressRequest | None = message(3, lambda: WatchProgressRequest)


@attrs.frozen
class WatchResponse(Message):
    """Changes, or news about the watch; with neither, everything up to ``header.revision`` has been told."""

    header: Header | None = message(1, lambda: Header)
    watch_id: int = integer(2)
    created: bool = flag(3)
    canceled: bool = flag(4)
    compact_revision: int = integer(5)
    cancel_reason: str = text(6)
    fragment: bool = flag(7)
    events: Sequence[Event] = messages(11, lambda: Event)
