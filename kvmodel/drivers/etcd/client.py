"""A client of a whole etcd cluster: the store's own vocabulary, on asyncio, with errors of kvmodel's tree."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final

import grpc
import grpc.aio

from kvmodel.drivers.etcd.admin import Administrating
from kvmodel.drivers.etcd.administration import SnapshotResponse
from kvmodel.drivers.etcd.calls import Calls
from kvmodel.drivers.etcd.commands import RANGE, Text, to_bytes
from kvmodel.drivers.etcd.endpoints import Endpoints, parse_hosts
from kvmodel.drivers.etcd.errors import fault_of
from kvmodel.drivers.etcd.messages import RangeRequest, WatchCreateRequest, WatchFilter
from kvmodel.drivers.etcd.watches import EtcdWatch, Place
from kvmodel.errors import AuthenticationFailed, Unavailable, ValidationError

__all__ = ["MAX_REPLY_BYTES", "EtcdClient"]

MAX_REPLY_BYTES: Final = 64 << 20


class EtcdClient(Administrating):
    """A client of one cluster. ``async with EtcdClient("host:2379,host:2379") as client:``, or open and close it.

    One connection to each node carries all calls. Any node will do, and when it fails the next one takes its place.

    Args:
        hosts: Where the nodes are: ``host:port,host:port``, or a list of such.
        user, password: Who asks, where the cluster wants to know.
        credentials: How to encrypt (``grpc.ssl_channel_credentials(...)``); ``None`` for plain TCP.
        server_name: The name that the nodes' certificates are checked for, where it is not the host's.
        timeout: How many seconds a call may take, whatever happens on the way.
        max_reply_bytes: The longest answer that is read.
    """

    def __init__(
        self,
        hosts: str | Sequence[str],
        user: str | None = None,
        password: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str | None = None,
        timeout: float = 10.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        targets = parse_hosts(hosts if isinstance(hosts, str) else ",".join(hosts))
        if user == "":
            raise ValidationError("a user has a name: etcd://user:password@host:port", field="url")
        scheme = "etcd" if credentials is None else "etcd+tls"
        self.store = f"{scheme}://{','.join(targets)}"
        self.timeout = timeout
        endpoints = Endpoints(targets, credentials, server_name, max_reply_bytes)
        self._calls = Calls(endpoints, user, password, self.store)

    def __repr__(self) -> str:
        return f"<EtcdClient of {self.store}>"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Reach the cluster, and log in.

        Raises:
            Unavailable: No node can be reached, or the cluster has no leader.
            AuthenticationFailed: It refused the user's name or password, or wants a user.
        """
        until = time.monotonic() + self.timeout
        try:
            await self._calls.open(until)
            await self._greet(until)
        except TimeoutError as error:
            raise Unavailable("no node of the cluster answered in time", store=self.store) from error

    async def _greet(self, until: float) -> None:
        """Read something: whether the cluster can do that shows whether it can be used."""
        try:
            await self._calls.call(RANGE, RangeRequest(b"\0kvmodel", count_only=True), until=until)
        except AuthenticationFailed as error:
            cause = error.__cause__
            is_known = isinstance(cause, grpc.aio.AioRpcError) and cause.code() is grpc.StatusCode.PERMISSION_DENIED
            if not is_known:  # A user who may not read this key is a user all the same.
                raise

    async def close(self) -> None:
        """Wait for the writes that are under way, and close all connections. Closing twice is allowed."""
        await self._calls.close()

    async def __aenter__(self) -> EtcdClient:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- streams ------------------------------------------------------------------------------------------------------

    def watch(
        self,
        key: Text,
        range_end: Text = b"",
        *,
        start_revision: int = 0,
        place: Place | None = None,
        prev_kv: bool = False,
        filters: Sequence[WatchFilter] = (),
    ) -> EtcdWatch:
        """Answer the changes of one key, or of a range. Nothing is sent before it is entered.

        Args:
            key, range_end: The range, as in :meth:`range`.
            start_revision: Begin with the changes of this revision; 0: with those that come from now on.
            place: Begin where another watch was.
            prev_kv: Tell what was there before, too.
            filters: What not to tell.
        """
        request = WatchCreateRequest(
            to_bytes(key), to_bytes(range_end), 0, True, tuple(filters), prev_kv, fragment=True
        )
        if place is None and start_revision:
            place = Place(start_revision)
        return EtcdWatch(self._calls, request, place, self.timeout)

    async def snapshot(self, *, node: str | None = None) -> AsyncIterator[bytes]:
        """Yield a copy of a node's whole store, piece by piece: a file to restore from."""
        self._calls.check_open()
        endpoints = self._calls.endpoints
        endpoint = endpoints.current if node is None else endpoints.find(node)
        ask: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        ask = endpoint.channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")
        call = ask(b"", metadata=self._calls.metadata())
        try:
            async for piece in call:
                yield SnapshotResponse.decode(piece).blob
        except grpc.aio.AioRpcError as error:
            raise fault_of(error).make(error, self.store) from error
        finally:
            call.cancel()
