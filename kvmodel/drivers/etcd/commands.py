"""etcd's commands on keys and leases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

from kvmodel.drivers.etcd.calls import Calls, Method
from kvmodel.drivers.etcd.messages import (
    TO_THE_END,
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    KeyValue,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    SortOrder,
    SortTarget,
    TxnRequest,
    TxnResponse,
)
from kvmodel.drivers.etcd.wire import Message
from kvmodel.errors import NotFound, ValidationError

__all__ = ["PUT", "RANGE", "TXN", "Commands", "Text", "prefix_end", "to_bytes"]

Text: TypeAlias = "bytes | str"
"""Keys and values; a ``str`` is taken as UTF-8."""

R = TypeVar("R", bound=Message)

_KV: Final = "/etcdserverpb.KV/"
_LEASE: Final = "/etcdserverpb.Lease/"
RANGE: Final = Method(_KV + "Range", RangeResponse)
PUT: Final = Method(_KV + "Put", PutResponse, writes=True)
DELETE_RANGE: Final = Method(_KV + "DeleteRange", DeleteRangeResponse, writes=True)
TXN: Final = Method(_KV + "Txn", TxnResponse, writes=True)
READ_TXN: Final = Method(_KV + "Txn", TxnResponse)
COMPACT: Final = Method(_KV + "Compact", CompactionResponse, writes=True)
LEASE_GRANT: Final = Method(_LEASE + "LeaseGrant", LeaseGrantResponse, writes=True)
LEASE_REVOKE: Final = Method(_LEASE + "LeaseRevoke", LeaseRevokeResponse, writes=True)
LEASE_TIME_TO_LIVE: Final = Method(_LEASE + "LeaseTimeToLive", LeaseTimeToLiveResponse)
LEASE_LEASES: Final = Method(_LEASE + "LeaseLeases", LeaseLeasesResponse)
LEASE_KEEP_ALIVE: Final = Method(_LEASE + "LeaseKeepAlive", LeaseKeepAliveResponse, streams=True)


def to_bytes(value: Text) -> bytes:
    """Take text as UTF-8."""
    return value.encode() if isinstance(value, str) else bytes(value)


def prefix_end(prefix: Text) -> bytes:
    """Answer the end of the range of all keys that begin so."""
    kept = to_bytes(prefix).rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else TO_THE_END


class Commands:
    """Commands on keys and leases. Each takes ``timeout``, in seconds, in place of the client's own.

    All raise ``Unavailable``, ``TimedOut`` and ``AuthenticationFailed``; those that change something
    ``OutcomeUnknown`` too, where nobody knows whether they did.
    """

    timeout: float
    _calls: Calls

    async def _call(self, method: Method[R], request: Message, timeout: float | None, node: str | None = None) -> R:
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        return await self._calls.call(method, request, until=until, node=node)

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def get(self, key: Text, *, revision: int = 0, timeout: float | None = None) -> KeyValue | None:
        """Read one key; ``None`` if it is absent. Linearizable: no older than what was acknowledged before."""
        found = await self.range(key, revision=revision, timeout=timeout)
        return found.kvs[0] if found.kvs else None

    async def range(
        self,
        key: Text,
        range_end: Text = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        sort_order: SortOrder = SortOrder.NONE,
        sort_target: SortTarget = SortTarget.KEY,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        timeout: float | None = None,
    ) -> RangeResponse:
        """Read the keys from ``key`` up to ``range_end``, in order.

        Args:
            key, range_end: The range: see :data:`TO_THE_END` and :func:`prefix_end`; without an end, the one key.
            limit: How many at the most; 0 for all. Not together with a sort order: the server reads the whole range
                then, and sends it, in spite of the limit.
            revision: The state of then; 0: of now.
            sort_order, sort_target: How to sort.
            serializable: Answered by the node that is asked, from what it has, which may be old.
            keys_only, count_only: Leave out values, or everything.

        Raises:
            ValidationError: A limit and a sort order were given.
            NotFound: The revision has been compacted away.
        """
        if limit and sort_order is not SortOrder.NONE:
            raise ValidationError("the server drops the limit when it sorts: give one of limit and sort_order")
        request = RangeRequest(
            to_bytes(key),
            to_bytes(range_end),
            limit,
            revision,
            sort_order,
            sort_target,
            serializable,
            keys_only,
            count_only,
        )
        return await self._call(RANGE, request, timeout)

    async def put(
        self, key: Text, value: Text, *, lease: int = 0, prev_kv: bool = False, timeout: float | None = None
    ) -> PutResponse:
        """Write one key, whatever is there.

        Args:
            key, value: What to write.
            lease: The lease that it ends with; 0 for none.
            prev_kv: Answer what was there.

        Raises:
            NotFound: There is no such lease.
        """
        return await self._call(PUT, PutRequest(to_bytes(key), to_bytes(value), lease, prev_kv), timeout)

    async def delete_range(
        self, key: Text, range_end: Text = b"", *, prev_kv: bool = False, timeout: float | None = None
    ) -> DeleteRangeResponse:
        """Remove one key, or those of a range; answer how many there were, and with ``prev_kv`` what."""
        request = DeleteRangeRequest(to_bytes(key), to_bytes(range_end), prev_kv)
        return await self._call(DELETE_RANGE, request, timeout)

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[RequestOp] = (),
        failure: Sequence[RequestOp] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResponse:
        """Do one of two lists of operations, in one step: which one, the comparisons say.

        Raises:
            TooLarge: There are more of any of them than the server takes (128).
            ValidationError: A key is changed twice.
        """
        request = TxnRequest(compare, success, failure)
        method = READ_TXN if all(op.request_range is not None for op in (*success, *failure)) else TXN
        return await self._call(method, request, timeout)

    async def compact(self, revision: int, *, physical: bool = False, timeout: float | None = None) -> None:
        """Forget all states before a revision. Watches and reads of older ones are lost."""
        await self._call(COMPACT, CompactionRequest(revision, physical), timeout)

    # --- leases -------------------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl: int, id: int = 0, *, timeout: float | None = None) -> LeaseGrantResponse:
        """Make a lease of so many seconds; the answer says how many it got."""
        return await self._call(LEASE_GRANT, LeaseGrantRequest(ttl, id), timeout)

    async def lease_revoke(self, id: int, *, timeout: float | None = None) -> None:
        """End a lease, and its keys. Raises ``NotFound``."""
        await self._call(LEASE_REVOKE, LeaseRevokeRequest(id), timeout)

    async def lease_keep_alive(self, id: int, *, timeout: float | None = None) -> int:
        """Let a lease begin anew, once; answer how many seconds it has. Raises ``NotFound``."""
        answer = await self._call(LEASE_KEEP_ALIVE, LeaseKeepAliveRequest(id), timeout)
        if answer.ttl <= 0:
            raise NotFound("there is no such lease, or it has ended", key=(id,), store=self._calls.store)
        return answer.ttl

    async def lease_time_to_live(
        self, id: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseTimeToLiveResponse:
        """Ask how long a lease lasts (``ttl`` is -1 where there is none), and which keys it has."""
        return await self._call(LEASE_TIME_TO_LIVE, LeaseTimeToLiveRequest(id, keys), timeout)

    async def leases(self, *, timeout: float | None = None) -> list[int]:
        """List all leases."""
        found = await self._call(LEASE_LEASES, LeaseLeasesRequest(), timeout)
        return [lease.id for lease in found.leases]
