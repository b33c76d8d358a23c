"""The store's own client, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.etcd import TO_THE_END, EtcdClient, prefix_end
from kvmodel.drivers.etcd import messages as m
from kvmodel.drivers.etcd.administration import PermissionType
from kvmodel.drivers.etcd.endpoints import parse_hosts
from kvmodel.testing.etcd import EtcdCluster
from kvmodel.testing.proxy import Proxy, Way
from tests.drivers.etcd.conftest import need_server
from tests.drivers.rows import condition

_CALL = 30
"""What the smallest call has in bytes, and what ends an earlier one has not."""


def put(key: str, value: str) -> m.RequestOp:
    """An operation of a transaction."""
    return m.RequestOp(request_put=m.PutRequest(key.encode(), value.encode()))


async def values(client: EtcdClient, key: str = "\0", end: str | bytes = TO_THE_END) -> dict[bytes, bytes]:
    """All keys of a range."""
    return {kv.key: kv.value for kv in (await client.range(key, end)).kvs}


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_keys(client: EtcdClient) -> None:
    """Written, read, read as they were, removed."""
    first = await client.put("a", "1")
    assert (await client.put("a", "2", prev_kv=True)).prev_kv == await client.get("a", revision=revision(first))
    found = await client.get("a")
    assert found is not None
    assert (found.value, found.version) == (b"2", 2)
    assert await client.get("b") is None
    deleted = await client.delete_range("a", prev_kv=True)
    assert (deleted.deleted, deleted.prev_kvs[0].value) == (1, b"2")
    assert (await client.delete_range("a")).deleted == 0


def revision(answer: Any) -> int:
    """The store's revision when it answered."""
    return int(answer.header.revision)


async def test_ranges(client: EtcdClient) -> None:
    """In order, limited, counted, without values, of a prefix; sorted, which takes no limit."""
    for key in ("a", "b", "ba", "bb", "c"):
        await client.put(key, key)

    assert list(await values(client, "b", "c")) == [b"b", b"ba", b"bb"]
    assert list(await values(client, "b", prefix_end("b"))) == [b"b", b"ba", b"bb"]
    limited = await client.range("a", TO_THE_END, limit=2)
    assert ([each.key for each in limited.kvs], limited.more, limited.count) == ([b"a", b"b"], True, 5)
    assert (await client.range("a", TO_THE_END, count_only=True)).count == 5
    assert {each.value for each in (await client.range("a", "c", keys_only=True)).kvs} == {b""}
    downwards = await client.range("a", "c", sort_order=m.SortOrder.DESCEND)
    assert [each.key for each in downwards.kvs] == [b"bb", b"ba", b"b", b"a"]
    with pytest.raises(kv.ValidationError, match="drops the limit"):
        await client.range("a", "c", limit=1, sort_order=m.SortOrder.DESCEND)


async def test_why_no_limit_goes_with_a_sort_order(client: EtcdClient) -> None:
    """The server reads all of the range and counts the limit only afterwards: that is what 'costly' is about."""
    await client.put("a", "x" * 1000)
    await client.put("b", "x")
    request = m.RangeRequest(b"a", b"c", limit=1, sort_order=m.SortOrder.DESCEND)
    answer = await client._calls.call(_range_method(), request, until=time.monotonic() + 5)
    assert [each.key for each in answer.kvs] == [b"b"]


def _range_method() -> Any:
    from kvmodel.drivers.etcd.commands import RANGE

    return RANGE


async def test_transactions(client: EtcdClient) -> None:
    """One branch or the other, in one step; inner ones; ranges compared."""
    await client.put("a", "1")
    is_one = m.Compare(m.Result.EQUAL, m.Target.VALUE, b"a", value=b"1")
    look = m.RequestOp(request_range=m.RangeRequest(b"a"))

    done = await client.txn([is_one], [put("a", "2"), put("b", "2")], [look])
    assert done.succeeded
    refused = await client.txn([is_one], [put("a", "3")], [look])
    assert not refused.succeeded
    assert refused.responses[0].response_range is not None
    assert refused.responses[0].response_range.kvs[0].value == b"2"
    inner = m.RequestOp(request_txn=m.TxnRequest([is_one], [put("a", "4")], [put("c", "5")]))
    assert (await client.txn((), [inner])).succeeded
    none_there = m.Compare(m.Result.LESS, m.Target.MOD, b"d", mod_revision=1, range_end=b"z")
    assert (await client.txn([none_there], [put("e", "6")])).succeeded
    assert not (await client.txn([none_there], [put("e", "7")])).succeeded
    assert await values(client) == {b"a": b"2", b"b": b"2", b"c": b"5", b"e": b"6"}


async def test_what_the_server_refuses(client: EtcdClient) -> None:
    """Each is the error of kvmodel's tree that fits, with the server's words as its cause."""
    lease = (await client.lease_grant(60)).id
    header = (await client.put("a", "1")).header
    assert header is not None
    await client.compact(header.revision)
    refusals: list[tuple[type[kv.KvModelError], Awaitable[object]]] = [
        (kv.ValidationError, client.txn((), [put("a", "1"), put("a", "2")])),
        (kv.TooLarge, client.txn((), [put(str(number), "") for number in range(129)])),
        (kv.TooLarge, client.put("a", "x" * (3 << 19))),
        (kv.TooLarge, client.put("a", "x" * (3 << 20))),
        (kv.ValidationError, client.put("", "x")),
        (kv.NotFound, client.put("a", "1", lease=12345)),
        (kv.NotFound, client.lease_revoke(12345)),
        (kv.NotFound, client.lease_keep_alive(12345)),
        (kv.AlreadyExists, client.lease_grant(60, lease)),
        (kv.NotFound, client.get("a", revision=1)),
        (kv.ValidationError, client.get("a", revision=1 << 40)),
        (kv.NotFound, client.user_get("nobody")),
        (kv.NotFound, client.member_remove(12345)),
        (kv.ValidationError, client.status(node="localhost:1")),
    ]
    for error, call in refusals:
        with pytest.raises(error) as caught:
            await call
        assert type(caught.value) is error
        assert (
            "etcd" in str(caught.value.__cause__)
            or caught.value.__cause__ is None
            or "grpc" in repr(caught.value.__cause__)
        )


async def test_leases(client: EtcdClient) -> None:
    """Granted, asked after, kept alive, listed, revoked: then their keys are gone."""
    granted = await client.lease_grant(60)
    await client.put("a", "1", lease=granted.id)
    asked = await client.lease_time_to_live(granted.id, keys=True)
    assert (asked.granted_ttl, list(asked.keys)) == (60, [b"a"])
    assert await client.lease_keep_alive(granted.id) == 60
    assert granted.id in await client.leases()
    await client.lease_revoke(granted.id)
    assert await client.get("a") is None
    assert (await client.lease_time_to_live(granted.id)).ttl == -1


async def test_the_cluster_about_itself(client: EtcdClient, server: EtcdCluster) -> None:
    """Members, state, hash, alarms, space, a copy."""
    (member,) = await client.member_list()
    assert member.name == "node_0"
    await client.defragment()
    status = await client.status(node=server.nodes[0].address)
    assert status.leader == member.id
    assert tuple(map(int, status.version.split("."))) == server.server.version
    assert (await client.hash_kv()).hash
    assert list(await client.alarms()) == []
    assert list(await client.alarm_disarm()) == []
    assert sum([len(piece) async for piece in client.snapshot()]) >= status.db_size_in_use


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_watching(client: EtcdClient) -> None:
    """From now, from a revision, from a place; filtered."""
    first = await client.put("a", "0")
    async with client.watch("a", "c", prev_kv=True) as changes:
        await client.put("a", "1")
        await client.delete_range("a")
        put_event, delete_event = await anext(changes), await anext(changes)
        place = changes.place
        assert (put_event.kv, put_event.prev_kv) != (None, None)
        assert (put_event.type, delete_event.type) == (m.EventType.PUT, m.EventType.DELETE)
        assert delete_event.prev_kv == put_event.kv
    await client.put("b", "2")
    async with client.watch("a", "c", start_revision=revision(first)) as changes:
        seen = [await anext(changes) for _ in range(4)]
        assert [each.kv.key for each in seen if each.kv] == [b"a", b"a", b"a", b"b"]
    async with client.watch("a", "c", place=place) as changes:
        event = await anext(changes)
        assert event.kv is not None
        assert event.kv.key == b"b"
    async with client.watch("a", "c", start_revision=revision(first), filters=[m.WatchFilter.NOPUT]) as changes:
        assert (await anext(changes)).type == m.EventType.DELETE


async def test_a_watch_ends_with_its_client(server: EtcdCluster) -> None:
    """Who waits gets ``Closed``."""
    async with EtcdClient(server.nodes[0].address) as client, client.watch("a") as changes:
        waiting = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(kv.Closed):
            await waiting


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", ["", ":1", "a:b", "a:0", "a:65536", "a,,b", "a/b", "[::1", "a:1:2x"])
def test_hosts_that_are_none(hosts: str) -> None:
    """They are refused when the client is made."""
    with pytest.raises(kv.ValidationError):
        EtcdClient(hosts)


def test_hosts() -> None:
    """Ports can be left out, addresses can be those of IPv6."""
    assert parse_hosts("a,b:1,[::1]:2,[::1]") == ["a:2379", "b:1", "[::1]:2", "[::1]:2379"]


async def test_nobody_is_there() -> None:
    """``Unavailable``, within moments, with the library's words as its cause."""
    start = time.monotonic()
    with pytest.raises(kv.Unavailable) as caught:
        async with EtcdClient("127.0.0.1:1,127.0.0.1:2"):
            pass
    assert time.monotonic() - start < 4
    assert "refused" in str(caught.value.__cause__)


async def test_somebody_else_is_there() -> None:
    """A server that speaks another protocol, or none: an error of the tree, in time."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(kv.StoreError):
            async with EtcdClient(f"127.0.0.1:{port}", timeout=3):
                pass


async def test_the_next_node_is_asked(server: EtcdCluster) -> None:
    """Where the first one in the list can't be reached."""
    async with EtcdClient(["127.0.0.1:1", server.nodes[0].address]) as client:
        await client.put("a", "1")
        start = time.monotonic()
        for _ in range(20):
            await client.get("a")
        assert time.monotonic() - start < 2


async def test_a_closed_client_is_closed(server: EtcdCluster) -> None:
    """So is one that was never opened; closing again is allowed."""
    client = EtcdClient(server.nodes[0].address)
    with pytest.raises(kv.Closed):
        await client.get("a")
    async with client:
        await client.get("a")
    await client.close()
    with pytest.raises(kv.Closed):
        await client.get("a")
    with pytest.raises(kv.Closed):
        async with client.watch("a"):
            pass


async def test_closing_ends_what_is_under_way(proxy: Proxy) -> None:
    """Reads get ``Closed``; a write gets its time, then nobody knows."""
    client = EtcdClient(f"127.0.0.1:{proxy.port}")
    await client.open()
    proxy.stall(Way.TO_CLIENT)
    before = proxy.passed[Way.TO_SERVER]
    reading = asyncio.create_task(client.get("a"))
    await condition(lambda: proxy.passed[Way.TO_SERVER] >= before + _CALL)
    await client.close()
    with pytest.raises(kv.Closed):
        await reading


@pytest.mark.parametrize("call", [lambda client: client.put("a", "1"), lambda client: client.get("a")])
async def test_no_answer_in_time(proxy: Proxy, call: Callable[[EtcdClient], Awaitable[object]]) -> None:
    """A write is unknown, a read timed out; a cancelled write is unknown too."""
    async with EtcdClient(f"127.0.0.1:{proxy.port}", timeout=0.3) as client:
        proxy.stall(Way.TO_CLIENT)
        writes = "put" in call.__code__.co_names
        with pytest.raises(kv.OutcomeUnknown if writes else kv.TimedOut):
            await call(client)
        before = proxy.passed[Way.TO_SERVER]
        task = asyncio.ensure_future(call(client))
        await condition(lambda: proxy.passed[Way.TO_SERVER] >= before + _CALL)
        task.cancel()
        with pytest.raises(kv.OutcomeUnknown if writes else asyncio.CancelledError):
            await task
        proxy.resume()


async def test_a_read_survives_a_cut(proxy: Proxy) -> None:
    """It is sent again; a write is not."""
    async with EtcdClient(f"127.0.0.1:{proxy.port}") as client:
        await client.put("a", "1")
        for _ in range(5):
            proxy.cut_after(1)
            assert await client.get("a") is not None
        proxy.cut_after(1)
        with pytest.raises(kv.OutcomeUnknown):
            await client.put("a", "2")


# --- users ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Any:
    """A server that wants to know who asks."""
    need_server()
    with EtcdCluster(options=("--auth-token", "simple")) as cluster:
        asyncio.run(_guard(cluster))
        yield cluster


async def _guard(cluster: EtcdCluster) -> None:
    async with EtcdClient(cluster.nodes[0].address) as client:
        for name in ("root", "ada"):
            await client.user_add(name, f"{name}'s p@ss:word/1")
        await client.role_add("root")
        await client.user_grant_role("root", "root")
        await client.role_add("writer")
        # Records of the namespace "own" begin so, and this is the marker's and the catalogue's place.
        await client.role_grant_permission("writer", PermissionType.READWRITE, "\0", TO_THE_END)
        await client.user_grant_role("ada", "writer")
        assert list(await client.user_get("ada")) == ["writer"]
        assert sorted(await client.user_list()) == ["ada", "root"]
        assert sorted(await client.role_list()) == ["root", "writer"]
        assert (await client.role_get("writer"))[0].type == PermissionType.READWRITE
        await client.auth_enable()


@pytest.fixture
async def root(guarded: EtcdCluster) -> AsyncIterator[EtcdClient]:
    """A client of it that may do everything."""
    async with EtcdClient(guarded.nodes[0].address, "root", "root's p@ss:word/1") as client:
        yield client


async def test_users(guarded: EtcdCluster, root: EtcdClient) -> None:
    """Nobody, a wrong password, somebody who may not: ``AuthenticationFailed``, and no password in any text."""
    address = guarded.nodes[0].address
    for user, password in ((None, ""), ("ada", "wr0ng"), ("nobody", "wr0ng")):
        with pytest.raises(kv.AuthenticationFailed) as caught:
            async with EtcdClient(address, user, password):
                pass
        assert "wr0ng" not in str(caught.value) + repr(caught.value.__cause__)
    await root.user_add("eve", "x")
    async with EtcdClient(address, "eve", "x") as eve:
        for call in (eve.get("a"), eve.put("a", "1"), eve.user_list()):
            with pytest.raises(kv.AuthenticationFailed):
                await call
        with pytest.raises(kv.AuthenticationFailed):
            async with eve.watch("a"):
                pass
    await root.user_delete("eve")


async def test_a_url_with_a_user(guarded: EtcdCluster) -> None:
    """Name and password are percent-encoded there."""
    url = f"etcd://ada:ada%27s%20p%40ss%3Aword%2F1@{guarded.nodes[0].address}"
    async with kv.connect(url) as db:
        assert "p@ss" not in repr(db) + repr(db.native) + db._connection.driver.address
        native = db.native
        assert isinstance(native, EtcdClient)
        await native.put("a", "1")


async def test_a_token_that_is_not_known_any_more(root: EtcdClient) -> None:
    """Another one is fetched, and the call sent again: reads, writes and watches."""
    for _ in range(2):
        root._calls._token = "stale.1"
        await root.put("a", "1")
        root._calls._token = "stale.2"
        assert await root.get("a") is not None
        root._calls._token = "stale.3"
        async with root.watch("a") as changes:
            await root.put("a", "2")
            assert (await anext(changes)).kv is not None


async def test_calls_while_a_token_is_renewed(root: EtcdClient) -> None:
    """They wait for the new one, and are not taken for calls of nobody."""
    root._calls._token = "stale.1"
    renewing = asyncio.create_task(root.get("a"))
    await condition(lambda: renewing.done() or root._calls._renewing.locked())
    assert not renewing.done()
    await asyncio.gather(renewing, *(root.put("a", str(number)) for number in range(5)))


async def test_users_that_change(guarded: EtcdCluster, root: EtcdClient) -> None:
    """The store's idea of its users moves on: calls with older tokens go on working."""
    async with EtcdClient(guarded.nodes[0].address, "ada", "ada's p@ss:word/1") as ada:
        for number in range(3):
            await root.user_change_password("ada", "ada's p@ss:word/1")
            await ada.put("a", str(number))
    await root.user_revoke_role("ada", "writer")
    await root.role_revoke_permission("writer", "\0", TO_THE_END)
    await root.role_grant_permission("writer", PermissionType.READWRITE, "\0", TO_THE_END)
    await root.user_grant_role("ada", "writer")


async def test_a_user_where_none_is_wanted(server: EtcdCluster) -> None:
    """A store that has authentication switched off takes everybody."""
    async with EtcdClient(server.nodes[0].address, "ada", "x") as client:
        await client.put("a", "1")
    async with EtcdClient(server.nodes[0].address) as client:
        with pytest.raises(kv.StoreError):
            await client.auth_enable()
