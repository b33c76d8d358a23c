"""One emulated node: what it answers to each command, in each role, and how it can be told to fail."""

from __future__ import annotations

import asyncio
import enum
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from kvmodel.drivers.arakoon import steps as s
from kvmodel.drivers.arakoon.nursery import NurseryConfig
from kvmodel.drivers.arakoon.protocol import Code, Command, Refusal, Request, Where, encode_refusal, encode_reply
from kvmodel.drivers.arakoon.statistics import Statistics, Timing
from kvmodel.drivers.arakoon.wire import CONSISTENT, AtLeast, Incomplete, Limits, Malformed, Reader
from kvmodel.testing.arakoon.store import MAX_UPDATE_BYTES, Store

if TYPE_CHECKING:
    from kvmodel.testing.arakoon.cluster import LocalCluster

__all__ = ["LIMITS", "Answer", "Mishap", "Node"]

LIMITS: Final = Limits(string=128 << 20, message=160 << 20)
_MAX_VALUE: Final = (8 << 20) - 1
_UNKNOWN_FAILURE: Final = Refusal(Code.UNKNOWN_FAILURE, b"unknown failure")

Reply: TypeAlias = "bytes | None | asyncio.Future[bytes | None]"
"""Bytes to send, ``None`` to close the connection without a word, or what will be either of these later."""


class Answer(enum.Enum):
    """How a write that goes wrong is answered."""

    CLOSE = "the connection is closed"
    NEVER = "no answer ever comes"
    KILL = "the node dies"
    NO_LONGER_MASTER = "the master role was lost meanwhile"
    UNKNOWN_FAILURE = "something failed"

    def __repr__(self) -> str:
        return self.name


@attrs.frozen
class Mishap:
    """What happens to a write.

    Attributes:
        answer: How it is answered.
        applies: Whether it is carried out all the same.
    """

    answer: Answer
    applies: bool


class Node:
    """One node of a :class:`~kvmodel.testing.arakoon.LocalCluster`.

    Attributes:
        name: What the cluster calls it.
        master: The name of the node that it takes for the master; ``None`` if it knows none.
        mishaps: What happens to its next writes, one after the other.
        lags: Whether it gets no updates for now, so that what it answers is stale.
        is_read_only: Whether it refuses all writes.
        requests: How many requests it had, by name.
    """

    def __init__(self, name: str, cluster: LocalCluster, *, has_hole: bool = True) -> None:
        self.name = name
        self.store = Store(has_hole=has_hole)
        self.master: str | None = None
        self.mishaps: deque[Mishap] = deque()
        self.lags = False
        self.is_read_only = False
        self.is_up = False
        self.requests: Counter[str] = Counter()
        self._cluster = cluster
        self._start = time.time()

    def __repr__(self) -> str:
        return f"<Node {self.name}, {'master' if self.is_master else 'slave'}>"

    @property
    def is_master(self) -> bool:
        """Whether it takes itself for the master."""
        return self.master == self.name

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Answer a request."""
        self.requests[request.command.name] += 1
        try:
            self._check_role(request)
            return self._answer(request)
        except Refusal as refusal:
            return encode_refusal(refusal.code, refusal.text)
        except (Malformed, Incomplete) as error:
            text = str(error) if "should have been" in str(error) else "unknown failure"
            return encode_refusal(Code.UNKNOWN_FAILURE, text.encode())

    def _answer(self, request: Request) -> Reply:
        command, values = request.command, request.values
        update = _UPDATES.get(command.name)
        if update is not None:
            return self._update(command, update(*values))
        handler: Callable[..., Any] = getattr(self, f"_{command.name}")
        if command.name in ("confirm", "drop_master"):
            reply: Reply = handler(command, *values)
            return reply
        return encode_reply(command, handler(*values))

    def _check_role(self, request: Request) -> None:
        command = request.command
        if command.name == "user_function" and request.values[0] not in self.store.functions:
            name = cast("bytes", request.values[0])
            raise Refusal(Code.BAD_INPUT, b'User function "' + name + b'" could not be found')
        if command.where is Where.READ:
            self._check_freshness(request.values[0])
        elif command.where is Where.MASTER:
            self._require_master()

    def _check_freshness(self, consistency: object) -> None:
        if consistency is CONSISTENT:
            self._require_master()
        elif isinstance(consistency, AtLeast) and consistency.stamp > self.store.stamp:
            raise Refusal(Code.INCONSISTENT_READ, b"store not fresh enough")

    def _require_master(self) -> None:
        if not self.is_master:
            raise Refusal(Code.NOT_MASTER, (self.master or "None").encode())

    # --- writes -------------------------------------------------------------------------------------------------------

    def _update(self, command: Command[Any], step: s.Step) -> Reply:
        """Carry out an update on all nodes, unless a mishap has it otherwise."""
        if self.is_read_only:
            raise Refusal(Code.READ_ONLY, self.name.encode())
        self._check_size(command, step)
        if not self._cluster.has_majority:
            return self._cluster.hold(lambda: self._carry_out(command, step))
        mishap = self.mishaps.popleft() if self.mishaps else None
        if mishap is None:
            return self._carry_out(command, step)
        if mishap.applies:
            self._carry_out(command, step)
        return self._fail(mishap.answer)

    def _carry_out(self, command: Command[Any], step: s.Step) -> bytes:
        try:
            return encode_reply(command, self._cluster.commit(self, step))
        except Refusal as refusal:
            return encode_refusal(refusal.code, refusal.text)
        except Exception as error:  # noqa: BLE001 - whatever a user function raises
            return encode_refusal(Code.USER_FUNCTION_FAILURE, f'{type(error).__name__}("{error}")'.encode())

    def _fail(self, answer: Answer) -> Reply:
        if answer is Answer.NEVER:
            return asyncio.get_running_loop().create_future()
        if answer is Answer.KILL:
            self._cluster.kill(self.name)
            return None
        if answer is Answer.NO_LONGER_MASTER:
            return encode_refusal(Code.NO_LONGER_MASTER, b"lost master role while handling client request")
        return None if answer is Answer.CLOSE else encode_refusal(Code.UNKNOWN_FAILURE, b"unknown failure")

    def _check_size(self, command: Command[Any], step: s.Step) -> None:
        match step:
            case s.Set(_, value) | s.TestAndSet(_, _, value) | s.Replace(_, value):
                if value is not None and len(value) > _MAX_VALUE:
                    raise _UNKNOWN_FAILURE
                self._check_interval(step.key, command.name in ("set", "confirm"))
            case s.Sequence():
                size = len(s.encode_step(step))
                if size > MAX_UPDATE_BYTES:
                    raise Refusal(Code.BAD_INPUT, f"update Sequence has size {size} > {MAX_UPDATE_BYTES}".encode())

    def _check_interval(self, key: bytes | None, applies: bool = True) -> None:
        interval = self.store.interval
        if key is None or not applies:
            return
        below = interval.public_begin is not None and key < interval.public_begin
        if below or (interval.public_end is not None and key >= interval.public_end):
            raise Refusal(Code.OUTSIDE_INTERVAL, key)

    def _confirm(self, command: Command[Any], key: bytes, value: bytes) -> Reply:
        if self.store.get(key) == value:
            return encode_reply(command, None)
        return self._update(command, s.Set(key, value))

    def _set_nursery_cfg(self, cluster: bytes, nodes: list[Any]) -> None:
        for node in self._cluster.nodes:
            node.store.clusters[cluster] = tuple(nodes)

    # --- reads --------------------------------------------------------------------------------------------------------

    def _get(self, _: object, key: bytes) -> bytes:
        self._check_interval(key)
        value = self.store.get(key)
        if value is None:
            raise Refusal(Code.NOT_FOUND, b"Not_found")
        return value

    def _exists(self, _: object, key: bytes) -> bool:
        return self.store.get(key) is not None

    def _assert_(self, _: object, key: bytes, expected: bytes | None) -> None:
        if self.store.get(key) != expected:
            raise Refusal(Code.ASSERTION_FAILED, key)

    def _assert_exists(self, _: object, key: bytes) -> None:
        if self.store.get(key) is None:
            raise Refusal(Code.ASSERTION_FAILED, key)

    def _multi_get(self, _: object, keys: list[bytes]) -> list[bytes]:
        missing = next((key for key in reversed(keys) if self.store.get(key) is None), None)
        if missing is not None:
            raise Refusal(Code.NOT_FOUND, missing)
        return [self.store.get(key) or b"" for key in keys]

    def _multi_get_option(self, _: object, keys: list[bytes]) -> list[bytes | None]:
        return list(map(self.store.get, keys))

    def _prefix(self, _: object, prefix: bytes, limit: int) -> list[bytes]:
        self._check_interval(prefix)
        below = itertools.takewhile(lambda key: key.startswith(prefix), self.store.ascend(prefix, True))
        return list(_limited(below, limit))

    def _range(self, _: object, begin: bytes | None, first: bool, end: bytes | None, last: bool, limit: int) -> Any:
        self._check_interval(begin)
        self._check_interval(end)
        keys = itertools.takewhile(_within(end, last, up=True), self.store.ascend(begin, first))
        return list(_limited(keys, limit))

    def _range_entries(self, *values: Any) -> list[tuple[bytes, bytes]]:
        return [(key, self.store.get(key) or b"") for key in self._range(*values)]

    def _rev_range_entries(
        self, _: object, begin: bytes | None, first: bool, end: bytes | None, last: bool, limit: int
    ) -> list[tuple[bytes, bytes]]:
        self._check_interval(begin)
        self._check_interval(end)
        keys = itertools.takewhile(_within(end, last, up=False), self.store.descend(begin, first))
        return [(key, self.store.get(key) or b"") for key in _limited(keys, limit)]

    def _get_key_count(self) -> int:
        return len(self.store)

    def _get_fringe(self, boundary: bytes | None, direction: int) -> list[tuple[bytes, bytes]]:
        keys = self.store.ascend(boundary, True) if direction else self.store.descend(boundary, False)
        found, size = [], 0
        for key in keys:
            value = self.store.get(key) or b""
            found.append((key, value))
            size += len(key) + len(value)
            if size > 1 << 20:
                break
        return found

    def _get_interval(self) -> tuple[bytes | None, ...]:
        return attrs.astuple(self.store.interval)

    def _get_routing(self) -> Any:
        if self.store.routing is None:
            raise Refusal(Code.NOT_FOUND, b"Not_found")
        return self.store.routing

    def _get_nursery_config(self) -> NurseryConfig:
        return NurseryConfig(self._get_routing(), dict(self.store.clusters))

    def _user_hook(self, _: object, name: bytes) -> None:
        raise Refusal(Code.USER_HOOK_NOT_FOUND, name)

    # --- the state of the node ----------------------------------------------------------------------------------------

    def _hello(self, _: bytes, cluster_id: bytes) -> bytes:
        if cluster_id != self._cluster.cluster_id.encode():
            raise _UNKNOWN_FAILURE
        return b"Arakoon 1.9.25"

    def _version(self) -> tuple[int, int, int, bytes]:
        return 1, 9, 25, b'revision: "emulated by kvmodel"\n'

    def _who_master(self) -> bytes | None:
        return None if self.master is None else self.master.encode()

    def _expect_progress_possible(self) -> bool:
        return self.master is not None

    def _get_current_state(self) -> bytes:
        if self.is_master:
            return b"Stable_master"
        return b"Slave_steady_state" if self.master is not None else b"Wait_for_accepteds"

    def _statistics(self) -> Statistics:
        counts = {field: Timing(n=self.requests[command]) for command, field in _COUNTED.items()}
        stamps = {node.name: node.store.stamp for node in self._cluster.nodes if len(self._cluster.nodes) > 1}
        return Statistics(start=self._start, last=self._start, node_is=stamps, **counts)  # type: ignore[arg-type]

    def _get_tx_id(self) -> AtLeast:
        return AtLeast(self.store.stamp)

    def _flush_store(self) -> None:
        pass

    def _optimize_db(self) -> None:
        if self.is_master:
            raise Refusal(Code.NOT_SUPPORTED, b"Operation cannot be performed on master node")

    _defrag_db = _optimize_db

    def _copy_db_to_head(self, _: int) -> None:
        self._optimize_db()  # Refused on a master as that is; there is no head that it could be copied to.

    def _collapse_tlogs(self, keep: int) -> int:
        if keep < 1:
            raise Refusal(Code.UNKNOWN_FAILURE, f"{keep} is not acceptable".encode())
        return 0  # There are no log files.

    def _drop_master(self, command: Command[Any]) -> Reply:
        if len(self._cluster.nodes) == 1:
            raise Refusal(Code.NOT_SUPPORTED, b"drop master not supported for singletons")
        if not self.is_master:
            return encode_reply(command, None)
        return self._cluster.step_down(encode_reply(command, None))


def _within(end: bytes | None, inclusive: bool, *, up: bool) -> Callable[[bytes], bool]:
    def within(key: bytes) -> bool:
        if end is None:
            return inclusive or key != b"" or up
        return (key == end and inclusive) or (key < end if up else key > end)

    return within


def _limited(keys: Iterator[bytes], limit: int) -> Iterator[bytes]:
    return keys if limit < 0 else itertools.islice(keys, limit)


def _sequence(body: bytes) -> s.Step:
    return s.decode_sequence(Reader(LIMITS, body))


def _migration(*values: Any) -> s.Step:
    return s.Sequence([s.SetInterval(*values[:4]), _sequence(values[4])])


_UPDATES: Final[dict[str, Callable[..., s.Step]]] = {
    "set": s.Set,
    "delete": s.Delete,
    "test_and_set": s.TestAndSet,
    "replace": s.Replace,
    "delete_prefix": s.DeletePrefix,
    "sequence": _sequence,
    "synced_sequence": _sequence,
    "user_function": s.UserFunction,
    "nop": s.Nop,
    "set_interval": s.SetInterval,
    "set_routing": s.SetRouting,
    "set_routing_delta": s.SetRoutingDelta,
    "migrate_range": _migration,
}
_COUNTED: Final = {
    "set": "set_info",
    "get": "get_info",
    "delete": "del_info",
    "sequence": "seq_info",
    "multi_get": "mget_info",
    "multi_get_option": "mget_option_info",
    "test_and_set": "tas_info",
    "replace": "replace_info",
    "range": "range_info",
    "range_entries": "range_entries_info",
    "rev_range_entries": "rev_range_entries_info",
    "prefix": "prefix_info",
    "delete_prefix": "delete_prefix_info",
}
