"""The nodes of a cluster, a channel to each of them, and which one is asked next.

Rules.

* All calls go to one node, which is as good as any: it passes on to the leader what only that can do. When it can't be
  reached, or does not answer, the next one in the list takes its place.
* A call is handed to a channel only while that is connected. What fails before that was surely not sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import attrs
import grpc
import grpc.aio

from kvmodel.errors import ValidationError

__all__ = ["DEFAULT_PORT", "Endpoint", "Endpoints", "parse_hosts"]

DEFAULT_PORT: Final = 2379

_OPTIONS: Final[list[tuple[str, object]]] = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # What is sent again, and when, is decided here: by what the call does.
    ("grpc.enable_retries", 0),
    # Every client has connections of its own: another one's trouble, or its credentials, are not shared.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The server hangs up on clients that ask more often than every five seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
]


def parse_hosts(hosts: str) -> list[str]:
    """Read ``host:port,host:port``; a port left out is 2379, an IPv6 address stands in brackets."""
    targets = []
    for part in hosts.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = part, str(DEFAULT_PORT)
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        is_odd = set(bare) & set("[]/@ ") or (bare == host and ":" in host)
        if not bare or is_odd or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValidationError("give nodes as host:port,host:port", field="url")
        targets.append(f"{host}:{port}")
    return targets


@attrs.define(eq=False)
class Endpoint:
    """One node, and the channel to it."""

    target: str
    channel: grpc.aio.Channel

    async def connect(self, until: float) -> bool:
        """Wait until calls can be sent; answers ``False`` when that failed, or time is up."""
        while True:
            try:
                state = self.channel.get_state(try_to_connect=True)
            except grpc.aio.UsageError:
                return False  # It has been closed.
            if state is grpc.ChannelConnectivity.READY:
                return True
            remaining = until - time.monotonic()
            if state in _BROKEN or remaining <= 0:
                return False
            try:
                async with asyncio.timeout(remaining):
                    await self.channel.wait_for_state_change(state)
            except (TimeoutError, grpc.aio.UsageError):
                return False


_BROKEN: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class Endpoints:
    """All nodes of a cluster.

    Args:
        targets: Where they are.
        credentials: How to encrypt; ``None`` for plain TCP.
        server_name: The name that certificates are checked for, if it is another one than the host's.
        max_reply_bytes: The longest answer that is read.
    """

    def __init__(
        self,
        targets: Sequence[str],
        credentials: grpc.ChannelCredentials | None,
        server_name: str | None,
        max_reply_bytes: int,
    ) -> None:
        self._targets = list(targets)
        self._credentials = credentials
        self._options = [
            *_OPTIONS,
            ("grpc.max_receive_message_length", max_reply_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        if server_name is not None:
            self._options.append(("grpc.ssl_target_name_override", server_name))
        self._endpoints: list[Endpoint] = []
        self._current = 0

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def current(self) -> Endpoint:
        """The node that is asked."""
        return self._endpoints[self._current]

    def find(self, target: str) -> Endpoint:
        """Answer one node. Raises ``ValidationError`` where there is no such."""
        for endpoint in self._endpoints:
            if endpoint.target == target:
                return endpoint
        raise ValidationError(f"there is no node {target}: there are {', '.join(self._targets)}")

    def open(self) -> None:
        """Make the channels. Nothing is sent yet."""
        self._endpoints = [Endpoint(target, self._channel(target)) for target in self._targets]

    def _channel(self, target: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=self._options)
        return grpc.aio.secure_channel(target, self._credentials, options=self._options)

    def leave(self, endpoint: Endpoint) -> None:
        """Ask the next node from now on, unless another call has seen to that."""
        if self._endpoints and self.current is endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    async def close(self) -> None:
        """Close all channels."""
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            await endpoint.channel.close(None)
