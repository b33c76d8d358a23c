"""What goes wrong on the way: the right error, in time; ``OutcomeUnknown`` exactly where the truth can't be known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

import kvmodel as kv
from kvmodel.drivers.acapella import KvError, Session
from kvmodel.testing.acapella import AcapellaServer, Answer, Mishap
from tests.drivers.rows import condition


class Item(kv.Model, table="items"):
    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0


async def read(db: kv.Database) -> object:
    """One GET."""
    return await Item.objects.using(db).find("s", "a")


async def scan(db: kv.Database) -> object:
    """One GET of a range."""
    return await Item.objects.using(db).range("s", limit=3)


async def save(db: kv.Database) -> object:
    """One PUT."""
    return await Item.objects.using(db).save(Item("s", "a", 1))


async def create(db: kv.Database) -> object:
    """One PUT, should the key be free."""
    return await Item.objects.using(db).create(Item("s", "a", 1))


async def commit_batch(db: kv.Database) -> None:
    """One PUT of a batch."""
    async with db.unit_of_work() as uow:
        uow.add(Item("s", "a", 1), Item("s", "b", 1))


async def commit_transaction(db: kv.Database) -> None:
    """A transaction."""
    async with db.unit_of_work() as uow:
        uow.add(Item("s", "a", 1), Item("t", "b", 1))


Work = Callable[[kv.Database], Awaitable[object]]
READS: list[Work] = [read, scan]
WRITES: list[Work] = [save, create, commit_batch]


async def written(session: Session) -> bool:
    """Whether anything is there."""
    found = await session.range(["items", "s"]) + await session.range(["items", "t"])
    return any(entry.value is not None for entry in found)


# --- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", READS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, kv.AuthenticationFailed),
        (408, kv.TimedOut),
        (400, KvError),
        (403, KvError),
        (404, KvError),
        (204, KvError),
        (302, KvError),
        (500, kv.Unavailable),
        (503, kv.Unavailable),
    ],
)
async def test_statuses_of_reads(
    db: kv.Database, server: AcapellaServer, work: Work, status: int, error: type[Exception]
) -> None:
    """A read that fails has changed nothing; the connection is fine for the next one."""
    server.mishaps.append(Mishap(Answer.STATUS, status=status))

    with pytest.raises(error):
        await work(db)

    await work(db)


@pytest.mark.parametrize("work", WRITES)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, KvError),
        (401, kv.AuthenticationFailed),
        (403, KvError),
        (415, KvError),
        (408, kv.OutcomeUnknown),
        (500, kv.OutcomeUnknown),
        (503, kv.OutcomeUnknown),
        (204, kv.OutcomeUnknown),
    ],
)
async def test_statuses_of_writes(
    db: kv.Database, server: AcapellaServer, session: Session, work: Work, status: int, error: type[Exception]
) -> None:
    """A refusal is a refusal; after a time-out or a failure of the server nobody knows. Nothing is sent twice."""
    server.mishaps.append(Mishap(Answer.STATUS, method="PUT", status=status))

    with pytest.raises(error) as caught:
        await work(db)

    assert sum(seen.method == "PUT" for seen in server.seen) == 1
    assert not await written(session)
    if error is kv.OutcomeUnknown:
        assert isinstance(caught.value.__cause__, KvError)
        assert caught.value.__cause__.status == status


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/tx", 500, kv.Unavailable),
        ("POST", "/tx", 408, kv.TimedOut),
        ("POST", "/tx", 401, kv.AuthenticationFailed),
        ("GET", "clustering", 408, kv.Conflict),
        ("GET", "clustering", 410, kv.Conflict),
        ("GET", "clustering", 412, kv.Conflict),
        ("GET", "clustering", 500, kv.Unavailable),
        ("PUT", "clustering", 408, kv.Conflict),
        ("PUT", "clustering", 409, kv.Conflict),
        ("PUT", "clustering", 410, kv.Conflict),
        ("PUT", "clustering", 412, kv.Conflict),
        ("PUT", "clustering", 500, kv.Unavailable),
        ("POST", "/commit", 410, kv.Conflict),
        ("POST", "/commit", 412, kv.Conflict),
        ("POST", "/commit", 400, KvError),
        ("POST", "/commit", 408, kv.OutcomeUnknown),
        ("POST", "/commit", 500, kv.OutcomeUnknown),
    ],
)
async def test_statuses_of_transactions(
    db: kv.Database,
    server: AcapellaServer,
    session: Session,
    method: str,
    path: str,
    status: int,
    error: type[Exception],
) -> None:
    """Before the commit nothing counts, whatever fails; of the commit alone nobody may know. None is left open."""
    server.mishaps.append(Mishap(Answer.STATUS, method=method, path=path, status=status))

    with pytest.raises(error) as caught:
        await commit_transaction(db)

    assert type(caught.value) is not kv.OutcomeUnknown or error is kv.OutcomeUnknown
    assert not await written(session)
    if error is not kv.OutcomeUnknown:
        await condition(lambda: server.store.open_transactions == 0)


# --- answers that never come, or are none -----------------------------------------------------------------------------

LOST = [
    Mishap(Answer.CLOSE),
    Mishap(Answer.CLOSE, applies=True),
    Mishap(Answer.GARBAGE, applies=True),
    Mishap(Answer.BODY, applies=True, body=b'{"version": {}}'),
    Mishap(Answer.GIGABYTE, applies=True),
    Mishap(Answer.STREAM, applies=True),
    Mishap(Answer.SILENCE),
    Mishap(Answer.SILENCE, applies=True),
]


@pytest.mark.parametrize("mishap", LOST, ids=lambda mishap: f"{mishap.answer.value}-{mishap.applies}")
@pytest.mark.parametrize("work", WRITES)
async def test_lost_answers_of_writes(
    db: kv.Database, server: AcapellaServer, session: Session, work: Work, mishap: Mishap
) -> None:
    """Plain JSON carries no stamp, so nobody can look: ``OutcomeUnknown``, in time; nothing is sent twice."""
    await read(db)  # A connection that is kept open: what the library would send again by itself.
    server.seen.clear()
    server.mishaps.append(mishap)
    began = time.monotonic()

    with pytest.raises(kv.OutcomeUnknown), kv.timeout(0.3 if mishap.answer is Answer.SILENCE else 10):
        await work(db)

    assert time.monotonic() - began < 5
    assert len(server.seen) == 1
    assert await written(session) is mishap.applies


@pytest.mark.parametrize("work", READS)
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer.GARBAGE, kv.ProtocolError),
        (Answer.GIGABYTE, kv.ProtocolError),
        (Answer.STREAM, kv.ProtocolError),
        (Answer.SILENCE, kv.TimedOut),
    ],
)
async def test_lost_answers_of_reads(
    db: kv.Database, server: AcapellaServer, work: Work, answer: Answer, error: type[Exception]
) -> None:
    """In time, and without reading a gigabyte; what comes next meets a connection of its own."""
    server.mishaps += [Mishap(answer)] * 8
    began = time.monotonic()

    with pytest.raises(error), kv.timeout(0.3 if answer is Answer.SILENCE else 10):
        await work(db)

    assert time.monotonic() - began < 5
    server.mishaps.clear()
    await work(db)


async def test_a_read_may_be_sent_again(db: kv.Database, server: AcapellaServer) -> None:
    """Once, on another connection, when one that was kept open turns out to be closed; then it is told."""
    await save(db)
    server.mishaps.append(Mishap(Answer.CLOSE))
    assert await read(db) == Item("s", "a", 1)

    server.mishaps += [Mishap(Answer.CLOSE)] * 2
    with pytest.raises(kv.Unavailable):
        await read(db)


@pytest.mark.parametrize("applies", [False, True])
@pytest.mark.parametrize("answer", [Answer.CLOSE, Answer.GARBAGE, Answer.SILENCE])
async def test_a_lost_commit(
    db: kv.Database, server: AcapellaServer, session: Session, answer: Answer, applies: bool
) -> None:
    """Of a transaction's requests it is the only one whose loss leaves anything in doubt. (Its answer is not read.)"""
    server.mishaps.append(Mishap(answer, applies=applies, path="/commit"))

    if answer is Answer.GARBAGE:
        await commit_transaction(db)
        return
    with pytest.raises(kv.OutcomeUnknown), kv.timeout(0.3):
        await commit_transaction(db)

    assert await written(session) is applies


@pytest.mark.parametrize("path", ["GET", "PUT"])
async def test_a_lost_step(db: kv.Database, server: AcapellaServer, session: Session, path: str) -> None:
    """Before the commit the transaction is rolled back, and nothing has happened."""
    server.mishaps += [Mishap(Answer.CLOSE, applies=True, method=path, path="clustering")] * 2

    with pytest.raises(kv.Unavailable):
        await commit_transaction(db)

    await condition(lambda: server.store.open_transactions == 0)
    assert not await written(session)


async def test_an_object_whose_write_was_lost_is_unknown(db: kv.Database, server: AcapellaServer) -> None:
    """It is read again before it is saved again."""
    item = await Item.objects.create(Item("s", "a", 1))
    item.count = 2
    server.mishaps.append(Mishap(Answer.CLOSE, applies=True))
    with pytest.raises(kv.OutcomeUnknown):
        await Item.objects.save(item)

    with pytest.raises(kv.Conflict):
        await Item.objects.save(item)
    await Item.objects.refresh(item)
    assert item.count == 2


async def test_a_batch_of_which_a_part_is_lost(db: kv.Database, server: AcapellaServer) -> None:
    """The partition whose answer was lost is unknown, the others are written."""
    server.mishaps.append(Mishap(Answer.CLOSE, path="items:s"))

    with pytest.raises(kv.BatchError) as caught:
        await Item.objects.save_many([Item("s", "a"), Item("s", "b"), Item("t", "a")])

    statuses = [outcome.status for outcome in caught.value.outcomes]
    assert statuses == [kv.Status.UNKNOWN, kv.Status.UNKNOWN, kv.Status.WRITTEN]


# --- cancelled, and out of time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [*WRITES, commit_transaction])
async def test_a_cancelled_write_is_unknown(db: kv.Database, server: AcapellaServer, work: Work) -> None:
    """Once it may have been sent; the connection answers nobody else."""
    path = "/commit" if work is commit_transaction else ""
    server.mishaps.append(Mishap(Answer.SILENCE, method=None if path else "PUT", path=path))
    task = asyncio.ensure_future(work(db))
    await condition(
        lambda: any((seen.method == "PUT" and path in seen.path) or "/commit" in seen.path for seen in server.seen)
    )
    if path:
        await condition(lambda: any("/commit" in seen.path for seen in server.seen))
    task.cancel()

    with pytest.raises(kv.OutcomeUnknown):
        await task
    assert await read(db) in (None, Item("s", "a", 1))


async def test_a_cancelled_transaction_is_rolled_back(
    db: kv.Database, server: AcapellaServer, session: Session
) -> None:
    """Before its commit a cancellation is one."""
    server.mishaps.append(Mishap(Answer.SILENCE, method="PUT"))
    task = asyncio.ensure_future(commit_transaction(db))
    await condition(lambda: any(seen.method == "PUT" for seen in server.seen))
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await condition(lambda: server.store.open_transactions == 0)
    assert not await written(session)


async def test_a_cancelled_read_is_cancelled(db: kv.Database, server: AcapellaServer) -> None:
    """And nothing else."""
    server.mishaps.append(Mishap(Answer.SILENCE))
    task = asyncio.ensure_future(read(db))
    await condition(lambda: server.seen)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_time_left(db: kv.Database, server: AcapellaServer) -> None:
    """What was surely not sent is ``TimedOut``."""
    await db.prepare(Item)
    server.seen.clear()

    for work in (save, commit_transaction, read):
        with pytest.raises(kv.TimedOut), kv.timeout(1e-9):
            await work(db)

    assert server.seen == []


async def test_waiting_for_a_connection_is_not_sending(server: AcapellaServer) -> None:
    """Time may run out before there is one."""
    async with kv.connect(f"{server.url}?connections=1") as db:
        server.mishaps.append(Mishap(Answer.SILENCE))
        with kv.timeout(0.6):
            holding = asyncio.create_task(Item.objects.using(db).find("s", "b"))
        await condition(lambda: len(server.seen) >= 2)

        with pytest.raises(kv.TimedOut), kv.timeout(0.1):
            await save(db)
        holding.cancel()
        with pytest.raises((asyncio.CancelledError, kv.TimedOut)):
            await holding


async def test_a_budget_that_is_spent_rolls_back(db: kv.Database, server: AcapellaServer, session: Session) -> None:
    """A transaction that is cut short by its caller's budget is not left open either."""
    await db.prepare(Item)
    with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=2):
        await commit_transaction(db)

    await condition(lambda: server.store.open_transactions == 0)
    assert not await written(session)


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_a_watch_outlives_faults(db: kv.Database, server: AcapellaServer) -> None:
    """408 is nothing new, a lost connection is made again, and nothing is lost."""
    async with Item.objects.watch("s", "a") as changes:
        server.mishaps += [
            Mishap(Answer.STATUS, status=408, path="clustering"),
            Mishap(Answer.CLOSE, path="clustering", method="GET"),
            Mishap(Answer.STATUS, status=503, path="clustering"),
        ]
        waiting = asyncio.create_task(anext(changes))
        await condition(lambda: not server.mishaps)
        await Item.objects.save(Item("s", "a", 1))
        assert (await waiting).new == Item("s", "a", 1)
