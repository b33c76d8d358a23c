"""The store's own client, call by call, against the emulator."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.drivers.acapella import (
    AuthenticationFailedError,
    CasError,
    IndexField,
    IndexFieldOrder,
    IndexFieldType,
    KvError,
    QueryCondition,
    Session,
    TransactionCompletedError,
    TransactionNotFoundError,
)
from kvmodel.testing.acapella import AcapellaServer, Answer, Mishap
from tests.drivers.rows import condition

KEY = ["user", "keyspace", "key"]


# --- entries ----------------------------------------------------------------------------------------------------------


async def test_an_entry_through_its_life(session: Session) -> None:
    """Set, compare and set, get; value, version and keys are what was seen last."""
    entry = session.entry(KEY)
    assert (entry.value, entry.version, entry.partition, entry.clustering) == (None, 0, KEY, [])

    assert await entry.set("value 1") == 1
    assert await entry.cas("value 2") == 2
    with pytest.raises(CasError):
        await session.entry(KEY).cas("value 3")
    with pytest.raises(kv.Conflict):
        await entry.cas("value 3", 1)

    found = await session.get_entry(KEY)
    assert (found.value, found.version) == ("value 2", 2)
    assert await session.get_version(KEY) == 2
    assert await entry.set(None) == 3
    assert (await session.get_entry(KEY)).value is None
    assert await entry.get() is None
    assert await entry.cas("back") == 4


async def test_rows_and_ranges(session: Session) -> None:
    """``first`` leaves its key out, ``last`` does not; prefixes are whole parts; a key is partition and clustering."""
    for name in ("a", "b", "c"):
        await session.entry(["p"], [name, "x"]).set(name)
    await session.entry(["p"], ["b"]).set("B")

    async def names(**bounds: object) -> list[list[str]]:
        return [entry.clustering for entry in await session.range(["p"], **bounds)]  # type: ignore[arg-type]

    assert await names() == [["a", "x"], ["b"], ["b", "x"], ["c", "x"]]
    assert await names(first=["b"]) == [["b", "x"], ["c", "x"]]
    assert await names(last=["b"]) == [["a", "x"], ["b"]]
    assert await names(prefix=["b"], limit=1) == [["b"]]
    assert (await session.range(["p"]))[2].key == ["p", "b", "x"]
    await session.entry(["p"], ["b"]).set(None)
    assert [entry.value for entry in await session.range(["p"], limit=2)] == ["a", None]


async def test_strange_keys(session: Session) -> None:
    """What the original client loses on the way arrives: colons, slashes, dots, in every place."""
    for part in ("a:b", "a/b", ".", "..", "%2F", "a%", "+ +", "?#&=", "é😀", "\0"):
        await session.entry([part], [part]).set(part)
        await session.tree([part]).cursor([part]).set(part)

        assert (await session.get_entry([part], [part])).value == part
        assert [entry.clustering for entry in await session.range([part], prefix=[part])] == [[part]]
        assert [entry.clustering for entry in await session.range([part], last=[part])] == [[part]]
        assert await session.range([part], first=[part]) == []
        assert (await session.tree([part]).get_cursor([part])).value == part


async def test_listening(session: Session) -> None:
    """It ends with the change, or with the time, a timedelta or seconds; the entry knows the new version then."""
    entry = session.entry(KEY)
    waiting = asyncio.create_task(entry.listen(timeout=10))
    await session.entry(KEY).set("news")

    assert await waiting == "news"
    assert entry.version == 1
    with pytest.raises(TimeoutError):
        await entry.listen(timeout=0.5)
    with pytest.raises(TimeoutError):
        await entry.listen(timeout=timedelta(milliseconds=900))
    assert await entry.listen(wait_version=0) == "news"


async def test_waiting_takes_no_connection_from_others(server: AcapellaServer) -> None:
    """Any number of listeners, beside a session of one connection."""
    async with Session("127.0.0.1", server.port, connections=1) as session:
        waiting = [asyncio.create_task(session.entry(KEY).listen(timeout=10)) for _ in range(20)]
        await condition(lambda: len(server.seen) == 20)

        await session.entry(KEY).set("news")

        assert await asyncio.gather(*waiting) == ["news"] * 20


@pytest.mark.parametrize(
    "key", [[], [""], ["a", ""], "text", [1], ["\ud800"]], ids=["none", "empty", "ends", "text", "int", "surrogate"]
)
async def test_keys_are_checked(session: Session, server: AcapellaServer, key: list[str]) -> None:
    """Before anything is sent; the error is a ``ValueError``, as in the original."""
    with pytest.raises(kv.ValidationError):
        session.entry(key)
    with pytest.raises(ValueError, match=r"."):
        await session.get_version(key)
    with pytest.raises(kv.ValidationError):
        await session.range(key)
    with pytest.raises(kv.ValidationError):
        session.tree(key)
    if key:
        with pytest.raises(kv.ValidationError):
            session.entry(["p"], key)
        with pytest.raises(kv.ValidationError):
            await session.range(["p"], first=key)

    assert server.seen == []


async def test_quorums_travel(session: Session, server: AcapellaServer) -> None:
    """With each call, and are checked."""
    await session.get_entry(KEY, n=5, r=3, w=4)
    await session.entry(KEY, n=1, r=1, w=1).set(1)

    assert server.seen[0].query.startswith("n=5&r=3&w=4")
    assert server.seen[1].query.startswith("n=1&r=1&w=1")
    for call in (session.entry, session.tree):
        with pytest.raises(kv.ValidationError):
            call(["a"], n=1)
    with pytest.raises(kv.ValidationError):
        await session.range(["a"], n=3, r=4)


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_one_request_a_partition(session: Session, server: AcapellaServer) -> None:
    """Writes are queued, and sent together; versions come back in the order of the writes."""
    batch = session.batch_manual()
    entries = [session.entry(["p"], [name]) for name in "abc"] + [session.entry(["q"], ["a"])]
    queued = [entry.set(place, batch=batch) for place, entry in enumerate(entries)]
    assert server.seen == []

    assert await batch.send() == [1, 1, 1, 1]

    assert [await each for each in queued] == [1, 1, 1, 1]
    assert sorted((seen.method, seen.path.rpartition("/")[2]) for seen in server.seen) == [("PUT", "p"), ("PUT", "q")]
    assert [entry.version for entry in entries] == [1] * 4
    assert [entry.value for entry in await session.range(["p"])] == [0, 1, 2]


async def test_queueing_may_be_awaited(session: Session) -> None:
    """Before the batch is sent it does not wait; beside a task that sends it, it waits for the version."""
    batch = session.batch_manual()
    assert await session.entry(["p"], ["a"]).set(1, batch=batch) == 0
    await batch.send()

    other = session.batch_manual()
    versions = await asyncio.gather(
        session.entry(["p"], ["a"]).set(2, batch=other), session.entry(["p"], ["b"]).set(2, batch=other), other.send()
    )
    assert list(versions) == [2, 1, [2, 1]]


async def test_a_refused_batch_writes_nothing(session: Session) -> None:
    """One stale version refuses its partition; every write that waited says so."""
    batch = session.batch_manual()
    await session.entry(["p"], ["a"]).set(1)
    first = session.entry(["p"], ["new"]).set(1, batch=batch)
    second = session.entry(["p"], ["a"]).cas(2, 5, batch=batch)

    with pytest.raises(CasError):
        await batch.send()

    for waiting in (first, second):
        with pytest.raises(CasError):
            await waiting
    assert await session.get_version(["p"], ["new"]) == 0


async def test_partitions_stand_for_themselves(session: Session) -> None:
    """Of several, one may fail: ``BatchError`` tells which writes were done."""
    batch = session.batch_manual()
    session.entry(["p"], ["a"]).cas(1, 5, batch=batch)
    session.entry(["q"], ["a"]).set(1, batch=batch)

    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.FAILED, kv.Status.WRITTEN]
    assert caught.value.done == 1


async def test_a_cancelled_batch_is_unknown(session: Session, server: AcapellaServer) -> None:
    """Once any of it may have been sent."""
    server.mishaps.append(Mishap(Answer.SILENCE))
    batch = session.batch_manual()
    for partition in "pq":
        session.entry([partition], ["a"]).set(1, batch=batch)
    sending = asyncio.create_task(batch.send())
    await condition(lambda: len(server.seen) == 2)
    sending.cancel()

    with pytest.raises((kv.OutcomeUnknown, kv.BatchError)):
        await sending


async def test_a_cancelled_batch_tells_what_was_not_sent(server: AcapellaServer) -> None:
    """What waited for a connection was not written: its outcome says so, and so does whoever awaits the write."""
    async with Session("127.0.0.1", server.port, connections=1) as session:
        server.mishaps.append(Mishap(Answer.SILENCE))
        batch = session.batch_manual()
        queued = [session.entry([partition], ["a"]).set(1, batch=batch) for partition in "pq"]
        sending = asyncio.create_task(batch.send())
        await condition(lambda: len(server.seen) == 1)
        sending.cancel()

        with pytest.raises(kv.BatchError) as caught:
            await sending

        assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.UNKNOWN, kv.Status.FAILED]
        assert caught.value.done == 0
        for write, error in zip(queued, (kv.OutcomeUnknown, kv.StoreError), strict=True):
            with pytest.raises(error):
                await write
        assert await session.get_version(["q"], ["a"]) == 0


async def test_a_batch_is_sent_once(session: Session, server: AcapellaServer) -> None:
    """It takes one write a key, and none after it was sent; an empty one sends nothing."""
    batch = session.batch_manual()
    entry = session.entry(["p"], ["a"])
    entry.set(1, batch=batch)
    with pytest.raises(kv.ValidationError):
        session.entry(["p"], ["a"]).set(2, batch=batch)
    await batch.send()

    with pytest.raises(kv.Closed):
        entry.set(3, batch=batch)
    with pytest.raises(kv.Closed):
        await batch.send()
    assert await session.batch_manual().send() == []
    assert len(server.seen) == 1


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_a_transaction_commits_with_its_block(session: Session) -> None:
    """Its own writes are seen inside and nowhere else before."""
    async with session.transaction() as tx:
        entry = await tx.get_entry(KEY, watch=True)
        await entry.set("inside")
        await tx.tree(["t"]).cursor(["a"]).set("node")
        assert (await tx.get_entry(KEY)).value == "inside"
        assert (await tx.tree(["t"]).get_cursor(["a"])).value == "node"
        assert (await session.get_entry(KEY)).value is None
        assert (await session.tree(["t"]).get_cursor(["a"])).value is None

    assert (await session.get_entry(KEY)).value == "inside"
    assert (await session.tree(["t"]).get_cursor(["a"])).value == "node"


async def test_a_tree_takes_a_transaction(session: Session) -> None:
    """``cursor``, ``get_cursor`` and ``range`` of a session's tree are part of the transaction that they are given."""
    tree = session.tree(["t"])
    async with session.transaction() as tx:
        await tree.cursor(["a"], tx).set("node")
        assert (await tree.get_cursor(["a"], tx)).value == "node"
        (found,) = await tree.range(transaction=tx)
        await found.set("again")
        assert (await tree.get_cursor(["a"])).value is None
        assert await tree.range() == []

    assert (await tree.get_cursor(["a"])).value == "again"


async def test_a_failed_commit_frees_its_locks(session: Session, server: AcapellaServer) -> None:
    """A block whose commit is refused rolls back: nobody has to wait until the server loses patience."""
    with pytest.raises(CasError):
        async with session.transaction() as tx:
            await tx.entry(KEY).set(1)
            server.mishaps.append(Mishap(Answer.STATUS, status=409, path="/commit"))

    assert server.store.open_transactions == 0
    assert await session.entry(KEY).set(2) == 1


async def test_an_exception_rolls_back(session: Session, server: AcapellaServer) -> None:
    """And goes on as it is."""
    with pytest.raises(KeyError):
        async with session.transaction() as tx:
            await tx.entry(KEY).set(1)
            raise KeyError

    assert await session.get_version(KEY) == 0
    assert server.store.open_transactions == 0


async def test_by_hand(session: Session, server: AcapellaServer) -> None:
    """Opened, committed or rolled back once: what comes again sends nothing, and no commit follows a rollback."""
    tx = await session.transaction_manual()
    await tx.entry(KEY).set(1)
    await tx.commit()
    await tx.commit()
    await tx.rollback()
    other = await session.transaction_manual()
    await other.rollback()
    await other.rollback()
    with pytest.raises(kv.Closed):
        await other.commit()

    assert [seen.path.rpartition("/")[2] for seen in server.seen if "/tx" in seen.path] == [
        *("tx", "commit"),
        *("tx", "rollback"),
    ]
    assert await session.get_version(KEY) == 1


async def test_joining_a_transaction(session: Session) -> None:
    """By its index."""
    tx = await session.transaction_manual()
    await tx.entry(KEY).set(1)
    same = await session.transaction_manual(tx.index)

    assert (await same.get_entry(KEY)).value == 1
    await same.commit()
    with pytest.raises(TransactionCompletedError):
        await tx.commit()


async def test_lost_transactions(session: Session) -> None:
    """410 and 412 have errors of their own; both are a kind of ``Conflict``."""
    unknown = await session.transaction_manual(999)
    over = await session.transaction_manual()
    await (await session.transaction_manual(over.index)).commit()

    for tx, error in ((unknown, TransactionNotFoundError), (over, TransactionCompletedError)):
        with pytest.raises(error):
            await tx.entry(KEY).set(1)
        with pytest.raises(error):
            await tx.keep_alive()
        with pytest.raises(kv.Conflict):
            await tx.commit()


async def test_locks(session: Session) -> None:
    """``watch`` locks: others wait, then give up."""
    async with session.transaction() as tx:
        await tx.get_entry(KEY, watch=True)

        async with session.transaction() as other:
            with pytest.raises(kv.TimedOut):
                await other.get_entry(KEY, watch=True)
            assert (await other.get_entry(KEY)).version == 0
        with pytest.raises(kv.OutcomeUnknown):
            await session.entry(KEY).set(1)


async def test_it_is_kept_alive_by_itself() -> None:
    """For longer than the server's patience lasts, while anybody has it; then it is let go."""
    async with (
        AcapellaServer(idle=0.3) as server,
        Session("127.0.0.1", server.port, keep_alive=0.05) as session,
    ):
        tx = await session.transaction_manual()
        await condition(lambda: sum("keep-alive" in seen.path for seen in server.seen) >= 10)
        await tx.entry(KEY).set(1)

        del tx
        gc.collect()
        await condition(lambda: server.store.open_transactions == 0)


async def test_what_a_transaction_cannot_do(session: Session, server: AcapellaServer) -> None:
    """It is refused with a remedy before anything is sent."""
    tx = await session.transaction_manual()
    server.seen.clear()

    calls: list[Callable[[], object]] = [
        lambda: tx.range(["p"]),
        tx.batch_manual,
        lambda: tx.get_version(KEY),
        lambda: tx.partition_index(KEY),
        lambda: tx.entry(KEY).set(1, batch=session.batch_manual()),
    ]
    for call in calls:
        with pytest.raises(kv.Unsupported):
            call()

    assert server.seen == []
    await tx.rollback()


# --- trees and indexes ------------------------------------------------------------------------------------------------


async def test_trees(session: Session) -> None:
    """Get, set, next, prev and range."""
    tree = session.tree(["test", "tree"])
    for name in ("a", "b", "c"):
        await tree.cursor([name]).set(name.upper())

    cursor = await tree.get_cursor(["b"])
    following, before = await cursor.next(), await cursor.prev()
    assert following is not None
    assert before is not None
    assert [(each.key, each.value) for each in (before, cursor, following)] == [
        (["a"], "A"),
        (["b"], "B"),
        (["c"], "C"),
    ]
    assert await following.next() is None
    assert [each.key for each in await tree.range(first=["a"], last=["c"], limit=5)] == [["b"], ["c"]]
    await cursor.set(None)
    assert [each.key for each in await tree.range()] == [["a"], ["c"]]
    between = await tree.cursor(["b"]).next()
    assert between is not None
    assert between.key == ["c"]


async def test_a_hint_goes_back(session: Session, server: AcapellaServer) -> None:
    """What the server said of a node helps it to find the next one."""
    tree = session.tree(["t"])
    for name in "abc":
        await tree.cursor([name]).set(1)
    cursor = await tree.cursor(["a"]).next()
    assert cursor is not None
    await cursor.next()

    assert [seen.query.partition("node=")[2] for seen in server.seen[-2:]] == ["", "node-1"]


async def test_indexes(session: Session) -> None:
    """Defined, listed and asked; only what is written with ``reindex`` is found."""
    index = session.partition_index(["user", "keyspace", "people"])
    fields = [IndexField("city", IndexFieldType.STRING), IndexField("age", "number", IndexFieldOrder.descending)]
    await index.set_index(1, fields)
    for name, city, age in (("ada", "oslo", 36), ("bob", "oslo", 25), ("eve", "rome", 30)):
        await session.entry(index.partition, [name]).set({"city": city, "age": age}, reindex=True)
    await session.entry(index.partition, ["zoe"]).set({"city": "oslo", "age": 1})

    assert await index.get_indexes() == {1: fields}
    found = await index.query({"city": QueryCondition(eq="oslo"), "age": QueryCondition(from_=30, to=10)})
    assert [(entry.clustering, entry.version) for entry in found] == [(["bob"], 0)]
    assert len(await index.query({"city": QueryCondition(eq="oslo")}, limit=1)) == 1
    with pytest.raises(KvError) as caught:
        await index.query({"age": QueryCondition(eq=1)})
    assert caught.value.status == 400
    with pytest.raises(kv.ValidationError):
        session.partition_index(["user"])


# --- accounts and connections -----------------------------------------------------------------------------------------


async def test_accounts() -> None:
    """Names and passwords beyond Latin-1 too; without a login, and with a wrong one, nothing is answered."""
    async with AcapellaServer(accounts={"юзер": "па:роль"}) as server, Session("127.0.0.1", server.port) as session:
        with pytest.raises(AuthenticationFailedError):
            await session.get_entry(KEY)
        with pytest.raises(kv.AuthenticationFailed) as caught:
            await session.login("юзер", "wrong-secret")
        assert "wrong-secret" not in f"{caught.value!r} {session!r}"
        await session.login("юзер", "па:роль")
        await session.entry(KEY).set(1)

        assert (await session.get_entry(KEY)).value == 1


async def test_an_expired_token_is_renewed(server: AcapellaServer) -> None:
    """By logging in once more, once for all calls that meet it; a password that was changed is told."""
    server.accounts["user"] = "secret"
    server._needs_login = True
    async with Session("127.0.0.1", server.port) as session:
        await session.login("user", "secret")
        server.forget_tokens()
        await asyncio.gather(*(session.get_entry(KEY) for _ in range(5)))
        assert sum(seen.path == "/auth/login" for seen in server.seen) == 2

        server.forget_tokens()
        server.accounts["user"] = "another"
        with pytest.raises(kv.AuthenticationFailed):
            await session.entry(KEY).set(1)


async def test_a_closed_session_is_closed(session: Session) -> None:
    """Writes that are under way are finished, what waits ends, and nothing begins any more."""
    writes = [asyncio.create_task(session.entry(KEY).set(number)) for number in range(20)]
    listening = asyncio.create_task(session.entry(["other"]).listen())
    await asyncio.sleep(0)

    await session.close()
    await session.close()

    results = await asyncio.gather(*writes, listening, return_exceptions=True)
    assert sorted(results[:-1]) == list(range(1, 21))  # type: ignore[type-var]
    assert isinstance(results[-1], kv.Closed)
    with pytest.raises(kv.Closed):
        await session.get_entry(KEY)
    assert "closed" in repr(session)


async def test_a_session_belongs_to_its_loop(session: Session) -> None:
    """Another one is told so."""
    await session.get_entry(KEY)

    async def elsewhere() -> None:
        with pytest.raises(kv.Closed):
            await session.get_entry(KEY)

    await asyncio.to_thread(asyncio.run, elsewhere())


async def test_nobody_there() -> None:
    """``Unavailable``, at once; over TLS too."""
    async with Session("127.0.0.1", 1) as session:
        with pytest.raises(kv.Unavailable):
            await session.entry(KEY).set(1)
    async with Session("127.0.0.1", 1, tls=ssl.create_default_context()) as session:
        with pytest.raises(kv.Unavailable):
            await session.get_entry(KEY)


async def test_encrypted(tmp_path: Path) -> None:
    """With TLS, by a context of one's own; a server whose certificate nobody vouches for is not spoken to."""
    server_side, client_side = contexts(tmp_path)
    async with AcapellaServer(tls=server_side) as server:
        async with Session("127.0.0.1", server.port, tls=client_side) as session:
            await session.entry(KEY).set(1)
            assert (await session.get_entry(KEY)).value == 1
        async with kv.connect(server.url, tls=client_side) as db:
            assert isinstance(db.native, Session)
        async with Session("127.0.0.1", server.port, tls=True) as session:
            with pytest.raises(kv.Unavailable):
                await session.entry(KEY).set(2)
        async with Session("127.0.0.1", server.port) as session:
            with pytest.raises(kv.StoreError):
                await session.get_entry(KEY)


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side and a client's side that trust each other, with a certificate of their own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(pem, form, plain))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(chain, secret)
    return server_side, ssl.create_default_context(cafile=str(chain))


@pytest.mark.parametrize(
    "options", [{"connections": 0}, {"timeout": 0}, {"keep_alive": -1}, {"max_reply_bytes": 0}, {"api_prefix": "x"}]
)
def test_options_are_checked(options: dict[str, object]) -> None:
    """When the session is made."""
    with pytest.raises(kv.ValidationError):
        Session(**options)  # type: ignore[arg-type]


async def test_tokens_stay_out_of_messages(server: AcapellaServer, session: Session) -> None:
    """Neither token nor password is in what an error says."""
    await session.login("user", "pa55word")
    server.mishaps.append(Mishap(Answer.STATUS, status=500))

    with pytest.raises(kv.Unavailable) as caught:
        await session.get_entry(KEY)

    said = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {session!r}"
    assert "pa55word" not in said
    assert "token" not in said
