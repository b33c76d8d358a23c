"""Making what a driver stands on: nodes, their topology, redis-py's own client, and what the servers say at first."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kvmodel.drivers.redis.address import Kind, Target
from kvmodel.drivers.redis.health import State, state_of
from kvmodel.drivers.redis.link import Address, Link, LinkLost, Settings, Unreachable, open_link, pool_arguments
from kvmodel.drivers.redis.nodes import Node
from kvmodel.drivers.redis.refusals import Verdict, error_of, is_final, judge, unreachable
from kvmodel.drivers.redis.topology import Cluster, MakeNode, Sentinels, Server, Topology
from kvmodel.errors import StoreError, TimedOut, Unavailable, Unsupported, ValidationError

__all__ = ["check_states", "examine", "make_native", "make_topology", "welcome_all"]

_PAUSE: Final = 0.05
_OLDEST: Final = (6, 2)
_LOADING_SECONDS: Final = 3.0
_FAILOVER_SECONDS: Final = 3.0


def _maker(settings: Settings, limit: int) -> MakeNode:
    async def dial(address: Address) -> Link:
        return await open_link(address, settings)

    return lambda address: Node(address, dial, limit)


def make_topology(target: Target) -> Topology:
    """Make what knows where to ask. Nothing is reached yet."""
    make = _maker(target.settings, target.max_connections)
    match target.kind:
        case Kind.SERVER:
            return Server(target.addresses[0], make)
        case Kind.SENTINEL:
            return Sentinels(target.addresses, target.service, make, _maker(target.sentinel_settings, 2))
        case Kind.CLUSTER:
            return Cluster(target.addresses, make, target.remap, welcome)


async def welcome(node: Node) -> None:
    """Have a server know our scripts."""
    await node.load_scripts(time.monotonic() + _LOADING_SECONDS)


async def welcome_all(topology: Topology, until: float, store: str) -> None:
    """Have all servers know our scripts. Raises as opening a driver does."""
    for node in topology.masters():
        try:
            if not node.has_scripts:
                await node.load_scripts(min(until, time.monotonic() + _LOADING_SECONDS))
        except (Unreachable, LinkLost, TimeoutError) as error:
            if not topology.is_patient:  # Else whoever takes over is given them with the first request.
                raise _error_of(error, store) from error


def make_native(target: Target, topology: Topology) -> Redis[Any] | RedisCluster[Any]:
    """Make redis-py's client of the same servers. It connects when it is used, and tries nothing again by itself."""
    retry = Retry(NoBackoff(), 0)
    if target.kind is Kind.CLUSTER:
        if target.settings.tls is not None:
            raise Unsupported(
                "redis-py's client of a cluster takes no SSLContext: make a redis.asyncio.RedisCluster by hand",
                store=target.text,
            )
        first = target.addresses[0]
        settings = target.settings
        remap: dict[str, Any] = {} if target.remap is None else {"address_remap": target.remap}
        return RedisCluster(
            host=first.host,
            port=first.port,
            username=settings.username,
            password=settings.password,
            client_name=settings.client_name,
            retry=cast("Any", retry),
            **remap,
        )
    node = topology.node(0)
    address = target.addresses[0] if node is None else node.address
    pool = cast("Any", ConnectionPool)(**pool_arguments(address, target.settings), retry=retry)
    return cast("Redis[Any]", cast("Any", Redis).from_pool(pool))  # It closes the pool when it is closed.


async def examine(topology: Topology, until: float, store: str) -> list[State]:
    """Reach all masters, and answer what they say. Raises as opening a driver does.

    Where others take over from a master that is gone, it is waited for a while that they do; then those that answer
    have to do.
    """
    patience = min(until, time.monotonic() + _FAILOVER_SECONDS)
    while True:
        failure = await topology.refresh(until)
        if failure is not None:
            raise _error_of(failure, store)
        asked = [_ask(node, patience if topology.is_patient else until) for node in topology.masters()]
        answers = await asyncio.gather(*asked)
        states = [answer for answer in answers if isinstance(answer, State)]
        trouble = next((answer for answer in answers if not isinstance(answer, State)), None)
        if trouble is None:
            return states
        is_over = time.monotonic() + _PAUSE >= (patience if topology.is_patient else until)
        if is_over and states and topology.is_patient:
            return states
        if is_over or is_final(trouble) or not (topology.is_patient or _is_passing(trouble)):
            raise _error_of(trouble, store)
        await asyncio.sleep(_PAUSE)


async def _ask(node: Node, until: float) -> State | Exception:
    try:
        return await state_of(node, until)
    except (RedisError, Unreachable, LinkLost, TimeoutError) as error:
        return error


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, RedisError) and judge(error).verdict is Verdict.WAIT


def _error_of(error: BaseException, store: str) -> Exception:
    if isinstance(error, RedisError):
        return error_of(error, store)
    if isinstance(error, Unreachable):
        return unreachable(error.__cause__ or error, None, store)
    if isinstance(error, LinkLost):
        return Unavailable("what answers there is no Redis server, or it broke the connection", store=store)
    return TimedOut("the server did not answer in time", store=store)


def check_states(states: list[State], target: Target) -> None:
    """Raise unless these servers are what the URL says, and what this driver can work with."""
    for state in states:
        if state.version < _OLDEST:
            raise Unsupported(
                f"this needs Redis 6.2 or later, and {state.address} is {'.'.join(map(str, state.version))}",
                store=target.text,
            )
        if state.is_cluster is not (target.kind is Kind.CLUSTER):
            scheme = "redis+cluster://" if state.is_cluster else "redis://"
            raise ValidationError(
                f"this server is {'a node of a' if state.is_cluster else 'no'} cluster: connect with {scheme}",
                field="url",
                store=target.text,
            )
        if not state.is_master:
            raise StoreError(
                "this server is a replica and takes no writes: connect to its master, or through sentinels",
                store=target.text,
            )
