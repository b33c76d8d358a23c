"""All commands of Arakoon as methods, with the names, parameters and defaults of the original client.

Keys and values are ``bytes``, or ``str`` that is taken as UTF-8; answers are ``bytes``. ``allow_dirty=True`` reads from
any node at once, whatever it has; ``consistency=`` says it finer, and wins where both are given.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Final, TypeAlias, TypeVar, overload

from kvmodel.drivers.arakoon import protocol as p
from kvmodel.drivers.arakoon.builder import SequenceBuilder
from kvmodel.drivers.arakoon.nursery import ClusterNode, Interval, NurseryConfig, Routing
from kvmodel.drivers.arakoon.protocol import Call
from kvmodel.drivers.arakoon.statistics import Statistics
from kvmodel.drivers.arakoon.steps import Sequence, Step, check_safe, encode_step, to_bytes
from kvmodel.drivers.arakoon.wire import CONSISTENT, NO_GUARANTEES, Consistency
from kvmodel.errors import TooLarge, ValidationError

__all__ = ["MAX_REPLY_BYTES", "MAX_UPDATE_BYTES", "MAX_VALUE_BYTES", "Commands", "Text"]

R = TypeVar("R")

Text: TypeAlias = "bytes | str"

MAX_VALUE_BYTES: Final = (8 << 20) - 1
"""The largest value that a server takes, unless it is configured otherwise."""

MAX_UPDATE_BYTES: Final = 32 << 20
"""The largest sequence that a server takes, unless it is configured otherwise."""

MAX_REPLY_BYTES: Final = 64 << 20
"""The largest reply that is read, unless told otherwise."""


def _option(value: Text | None) -> bytes | None:
    return None if value is None else to_bytes(value)


def _freshness(allow_dirty: bool, consistency: Consistency | None) -> Consistency:
    if consistency is not None:
        return consistency
    return NO_GUARANTEES if allow_dirty else CONSISTENT


def _int32(name: str, value: int) -> int:
    if not isinstance(value, int) or not -1 << 31 <= value < 1 << 31:
        raise ValidationError(f"{name} is a whole number of 32 bits", field=name)
    return value


def _bounds(
    begin_key: Text | None, begin_inclusive: bool, end_key: Text | None, end_inclusive: bool, max_elements: int
) -> tuple[object, ...]:
    limit = _int32("max_elements", max_elements)
    return _option(begin_key), begin_inclusive, _option(end_key), end_inclusive, limit


class Commands:
    """What can be asked of a cluster, and of one node.

    Raises, each command as it applies: ``NotFound``, ``Conflict`` (an assertion failed), ``TooLarge`` (before anything
    is sent), ``Unavailable``, ``TimedOut``, ``ProtocolError``, ``Unsupported``, ``Closed``, and for what may change
    something ``OutcomeUnknown`` when its answer was lost.
    """

    max_value_bytes: int = MAX_VALUE_BYTES
    max_update_bytes: int = MAX_UPDATE_BYTES

    @abstractmethod
    async def _ask(self, call: Call[R]) -> R:
        """Carry a call to where it belongs."""
        raise NotImplementedError

    # --- one key ------------------------------------------------------------------------------------------------------

    async def get(self, key: Text, allow_dirty: bool = False, *, consistency: Consistency | None = None) -> bytes:
        """Answer the value of a key. Raises ``NotFound``."""
        return await self._ask(p.GET(_freshness(allow_dirty, consistency), to_bytes(key)))

    async def exists(self, key: Text, allow_dirty: bool = False, *, consistency: Consistency | None = None) -> bool:
        """Answer whether a key is there. An empty value is there."""
        return await self._ask(p.EXISTS(_freshness(allow_dirty, consistency), to_bytes(key)))

    async def set(self, key: Text, value: Text) -> None:
        """Write a value, whatever is there."""
        await self._ask(p.SET(to_bytes(key), self._value(value)))

    async def confirm(self, key: Text, value: Text) -> None:
        """Write a value unless it is there already: then nothing is logged."""
        await self._ask(p.CONFIRM(to_bytes(key), self._value(value)))

    async def delete(self, key: Text) -> None:
        """Remove a key. Raises ``NotFound``."""
        await self._ask(p.DELETE(to_bytes(key)))

    async def replace(self, key: Text, value: Text | None) -> bytes | None:
        """Write, or with ``None`` delete, whatever is there or not; answer the value before."""
        return await self._ask(p.REPLACE(to_bytes(key), None if value is None else self._value(value)))

    async def test_and_set(self, key: Text, test_value: Text | None, set_value: Text | None) -> bytes | None:
        """Write (``None``: delete) if the value is the expected one (``None``: absent).

        Answers the value before, whether it was written or not: compare it with what was expected.
        """
        wanted = None if set_value is None else self._value(set_value)
        return await self._ask(p.TEST_AND_SET(to_bytes(key), _option(test_value), wanted))

    async def assert_(
        self, key: Text, value: Text | None, allow_dirty: bool = False, *, consistency: Consistency | None = None
    ) -> None:
        """Raise ``Conflict`` unless a key has this value (``None``: is absent). This is a read: it guards no write."""
        await self._ask(p.ASSERT(_freshness(allow_dirty, consistency), to_bytes(key), _option(value)))

    async def assert_exists(
        self, key: Text, allow_dirty: bool = False, *, consistency: Consistency | None = None
    ) -> None:
        """Raise ``Conflict`` unless a key is there. This is a read: it guards no write."""
        await self._ask(p.ASSERT_EXISTS(_freshness(allow_dirty, consistency), to_bytes(key)))

    # --- several keys -------------------------------------------------------------------------------------------------

    async def multi_get(
        self, keys: Iterable[Text], allow_dirty: bool = False, *, consistency: Consistency | None = None
    ) -> list[bytes]:
        """Answer the values of keys, in their order. Raises ``NotFound`` if one is missing."""
        return await self._ask(p.MULTI_GET(_freshness(allow_dirty, consistency), list(map(to_bytes, keys))))

    async def multi_get_option(
        self, keys: Iterable[Text], allow_dirty: bool = False, *, consistency: Consistency | None = None
    ) -> list[bytes | None]:
        """Answer the values of keys, in their order, ``None`` where there is none."""
        return await self._ask(p.MULTI_GET_OPTION(_freshness(allow_dirty, consistency), list(map(to_bytes, keys))))

    async def range(
        self,
        begin_key: Text | None,
        begin_inclusive: bool,
        end_key: Text | None,
        end_inclusive: bool,
        max_elements: int = -1,
        allow_dirty: bool = False,
        *,
        consistency: Consistency | None = None,
    ) -> list[bytes]:
        """Answer the keys between two bounds, ascending. ``None`` is an open end; 0 elements are none at all."""
        bounds = _bounds(begin_key, begin_inclusive, end_key, end_inclusive, max_elements)
        return await self._ask(p.RANGE(_freshness(allow_dirty, consistency), *bounds))

    async def range_entries(
        self,
        begin_key: Text | None,
        begin_inclusive: bool,
        end_key: Text | None,
        end_inclusive: bool,
        max_elements: int = -1,
        allow_dirty: bool = False,
        *,
        consistency: Consistency | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """Answer the keys and values between two bounds, ascending."""
        bounds = _bounds(begin_key, begin_inclusive, end_key, end_inclusive, max_elements)
        return await self._ask(p.RANGE_ENTRIES(_freshness(allow_dirty, consistency), *bounds))

    async def rev_range_entries(
        self,
        begin_key: Text | None,
        begin_inclusive: bool,
        end_key: Text | None,
        end_inclusive: bool,
        max_elements: int = -1,
        allow_dirty: bool = False,
        *,
        consistency: Consistency | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """Answer the keys and values between two bounds, descending: ``begin_key`` is the **high** end."""
        bounds = _bounds(begin_key, begin_inclusive, end_key, end_inclusive, max_elements)
        return await self._ask(p.REV_RANGE_ENTRIES(_freshness(allow_dirty, consistency), *bounds))

    async def prefix(
        self,
        prefix: Text,
        max_elements: int = -1,
        allow_dirty: bool = False,
        *,
        consistency: Consistency | None = None,
    ) -> list[bytes]:
        """Answer the keys that begin so, ascending."""
        freshness = _freshness(allow_dirty, consistency)
        return await self._ask(p.PREFIX(freshness, to_bytes(prefix), _int32("max_elements", max_elements)))

    async def delete_prefix(self, prefix: Text) -> int:
        """Remove all keys that begin so, and answer how many. The empty prefix empties the store."""
        return await self._ask(p.DELETE_PREFIX(to_bytes(prefix)))

    async def get_key_count(self) -> int:
        """Answer how many keys there are."""
        return await self._ask(p.GET_KEY_COUNT())

    # --- sequences and functions --------------------------------------------------------------------------------------

    @overload
    def sequence(self) -> SequenceBuilder: ...

    @overload
    async def sequence(self, steps: Iterable[Step] | Step, sync: bool = False, *, force: bool = False) -> None: ...

    def sequence(
        self, steps: Iterable[Step] | Step | None = None, sync: bool = False, *, force: bool = False
    ) -> object:
        """Run steps as one atomic update. Without steps, answer a builder: ``await client.sequence().set(...).run()``.

        Args:
            steps: What to do, in order.
            sync: Have the node flush its log to disk before it answers.
            force: Send also what the server would not keep atomic, or what may stop it.

        Raises:
            NotFound: A ``Delete`` found no key; nothing was done.
            Conflict: An assertion failed; nothing was done.
            Unsupported: A step that can fail follows a ``DeletePrefix``, or there is a ``UserFunction``; see ``force``.
        """
        if steps is None:
            return SequenceBuilder(self._run)
        made = [steps] if isinstance(steps, Step) else list(steps)
        if not force:
            check_safe(made)
        return self._run(made, sync)

    async def _run(self, steps: list[Step], sync: bool) -> None:
        # As the original does: a sequence that is the only step is not wrapped once more.
        outer = steps[0] if len(steps) == 1 and isinstance(steps[0], Sequence) else Sequence(steps)
        body = encode_step(outer)
        if len(body) > self.max_update_bytes:
            raise TooLarge(
                "this sequence is larger than the server takes at once: split it",
                size=len(body),
                limit=self.max_update_bytes,
                store="arakoon",
            )
        await self._ask((p.SYNCED_SEQUENCE if sync else p.SEQUENCE)(body))

    async def user_function(self, function: Text, argument: Text | None) -> bytes | None:
        """Call a function that was loaded into the server. What it wrote before it failed stays written."""
        return await self._ask(p.USER_FUNCTION(to_bytes(function), _option(argument)))

    async def user_hook(self, name: Text, allow_dirty: bool = False, *, consistency: Consistency | None = None) -> None:
        """Begin to speak with a hook that was loaded into the server, and hear that it has ended.

        Raises ``Unsupported`` where there is none of this name. What else a hook may say is not part of the protocol.
        """
        await self._ask(p.USER_HOOK(_freshness(allow_dirty, consistency), to_bytes(name)))

    async def nop(self) -> None:
        """Send nothing through the log: succeeds when the cluster can commit now."""
        await self._ask(p.NOP())

    # --- the state of a node ------------------------------------------------------------------------------------------

    async def hello(self, client_id: Text, cluster_id: Text) -> str:
        """Introduce oneself, and answer the server's name and version. This is not needed for anything."""
        return (await self._ask(p.HELLO(to_bytes(client_id), to_bytes(cluster_id)))).decode("utf-8", "replace")

    async def version(self) -> tuple[int, int, int, str]:
        """Answer the server's version: major, minor, patch, and lines of text about its build."""
        major, minor, patch, text = await self._ask(p.VERSION())
        return major, minor, patch, text.decode("utf-8", "replace")

    async def who_master(self) -> str | None:
        """Answer the name of the master, ``None`` if it is not known now."""
        name = await self._ask(p.WHO_MASTER())
        return None if name is None else name.decode("utf-8", "replace")

    async def expect_progress_possible(self) -> bool:
        """Answer whether the node believes that a majority is in step; it may be late to notice that it is not."""
        return await self._ask(p.EXPECT_PROGRESS_POSSIBLE())

    async def get_current_state(self) -> str:
        """Answer the state of the node, such as ``Stable_master`` or ``Slave_steady_state``."""
        return (await self._ask(p.GET_CURRENT_STATE())).decode("utf-8", "replace")

    async def statistics(self) -> Statistics:
        """Answer what the node has counted since it started."""
        return await self._ask(p.STATISTICS_())

    async def get_tx_id(self) -> Consistency:
        """Answer the node's position in the log, ready to be given as ``consistency=``."""
        return await self._ask(p.GET_TX_ID())

    # --- administration -----------------------------------------------------------------------------------------------

    async def drop_master(self) -> None:
        """Have the master step down; answered when it has."""
        await self._ask(p.DROP_MASTER())

    async def flush_store(self) -> None:
        """Have the node write its store to disk."""
        await self._ask(p.FLUSH_STORE())

    async def optimize_db(self) -> None:
        """Have the node optimise its store. Slaves only."""
        await self._ask(p.OPTIMIZE_DB())

    async def defrag_db(self) -> None:
        """Have the node defragment its store. Slaves only."""
        await self._ask(p.DEFRAG_DB())

    async def collapse_tlogs(self, n: int) -> int:
        """Have the node merge its log files but the newest ``n`` into its head; answer how many were merged.

        It answers file by file, and takes its time: give the client a timeout that is long enough.
        """
        return await self._ask(p.COLLAPSE_TLOGS(_int32("n", n)))

    async def copy_db_to_head(self, tlogs_to_keep: int) -> None:
        """Have the node make its head a copy of its database, and keep so many log files. Slaves only."""
        await self._ask(p.COPY_DB_TO_HEAD(_int32("tlogs_to_keep", tlogs_to_keep)))

    # --- nurseries ----------------------------------------------------------------------------------------------------

    async def get_interval(self) -> Interval:
        """Answer the keys that this cluster is responsible for."""
        return Interval(*await self._ask(p.GET_INTERVAL()))

    async def set_interval(self, interval: Interval) -> None:
        """Say which keys this cluster is responsible for."""
        await self._ask(p.SET_INTERVAL(*_parts(interval)))

    async def get_routing(self) -> Routing:
        """Answer which cluster holds which keys. Raises ``NotFound`` before that was said."""
        return await self._ask(p.GET_ROUTING())

    async def set_routing(self, routing: Routing) -> None:
        """Say which cluster holds which keys."""
        await self._ask(p.SET_ROUTING(routing))

    async def set_routing_delta(self, left: Text, separator: Text, right: Text) -> None:
        """Add ``right`` beside ``left`` at a boundary, or move the boundary between them.

        One that makes no sense for the present routing stops the server.
        """
        await self._ask(p.SET_ROUTING_DELTA(to_bytes(left), to_bytes(separator), to_bytes(right)))

    async def get_nursery_config(self) -> NurseryConfig:
        """Answer routing and nodes of all clusters. Raises ``NotFound`` before a routing was set."""
        return await self._ask(p.GET_NURSERY_CONFIG())

    async def set_nursery_cfg(self, cluster_id: Text, nodes: Iterable[ClusterNode]) -> None:
        """Say where the nodes of a cluster are."""
        await self._ask(p.SET_NURSERY_CFG(to_bytes(cluster_id), list(nodes)))

    async def get_fringe(self, boundary: Text | None, direction: int) -> list[tuple[bytes, bytes]]:
        """Answer entries next to a boundary, about a mebibyte: below it, nearest first (0), or from it up (1)."""
        return await self._ask(p.GET_FRINGE(_option(boundary), _int32("direction", direction)))

    async def migrate_range(self, interval: Interval, steps: Iterable[Step]) -> None:
        """Set the interval and run a sequence, in one update."""
        made = list(steps)
        check_safe(made)
        await self._ask(p.MIGRATE_RANGE(*_parts(interval), encode_step(Sequence(made))))

    def _value(self, value: Text) -> bytes:
        data = to_bytes(value)
        if len(data) > self.max_value_bytes:
            raise TooLarge(
                "this value is larger than the server takes: split it",
                size=len(data),
                limit=self.max_value_bytes,
                store="arakoon",
            )
        return data


def _parts(interval: Interval) -> tuple[bytes | None, ...]:
    return interval.public_begin, interval.public_end, interval.private_begin, interval.private_end
