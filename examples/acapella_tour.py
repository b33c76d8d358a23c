"""The store's own manual, twice: through its native client, and through models that read the very same data.

    python examples/acapella_tour.py [URL]

Each stop is one of the manual's: an entry that is set, compared and read; users in a range; a queue that is written in
batches of ten and read ten at a time, then by a time interval; a tree from a to e; transactions of both kinds. What the
client writes the models read, and the other way round: keys and values are the store's own.

Without a URL it starts an emulated server.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from uuid import UUID

import kvmodel as kv
from kvmodel.drivers.acapella import CasError, Session
from kvmodel.testing.acapella import AcapellaServer

NAMESPACE = ["user", f"tour-{secrets.token_hex(4)}"]  # User and keyspace; a new one for each tour.
START = datetime(2024, 1, 1, tzinfo=timezone.utc)


class Note(kv.Model, table="notes", layout="plain"):
    """The value itself, without a name."""

    name: str = kv.partition_key()
    text: str = kv.field(whole_value=True)


class User(kv.Model, table="users"):
    """A row of the one partition that the table has."""

    name: str = kv.clustering_key()
    age: int = 0


class Message(kv.QueueModel, table="messages"):
    """A message of a queue; its id, which is its key, tells when it was made."""

    queue: str = kv.partition_key()
    number: int = 0


class Node(kv.TreeModel, table="test"):
    """A node of a tree that the store keeps as such."""

    tree: str = kv.partition_key()
    value: str = ""
    path: tuple[str, ...] = kv.clustering_key(kw_only=True)


def time_ordered(moment: datetime) -> UUID:
    """Make a UUID of version 7: milliseconds, then what is random."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62))


# --- through the client -----------------------------------------------------------------------------------------------


async def entries(session: Session) -> None:
    """One key: set, compare and set, get."""
    entry = session.entry([*NAMESPACE, "notes", "note-1"])
    await entry.set("value 1")
    await entry.cas("value 2")
    try:
        await session.entry([*NAMESPACE, "notes", "note-1"]).cas("value 3")  # It believes that nothing is there.
    except CasError:
        print("entry: somebody was faster")
    found = await session.get_entry([*NAMESPACE, "notes", "note-1"])
    print("entry:", found.value, "at version", found.version)


async def users(session: Session) -> None:
    """Rows of one partition, in order."""
    partition = [*NAMESPACE, "users"]
    for name, age in (("first", 25), ("second", 32), ("third", 21)):
        await session.entry(partition, [name]).set({"age": age})
    page = await session.range(partition, limit=2)
    print("range:", [(entry.clustering[0], entry.value) for entry in page])
    page = await session.range(partition, first=page[-1].clustering, limit=2)
    print("range, behind it:", [(entry.clustering[0], entry.value) for entry in page])


async def queue(session: Session) -> None:
    """Messages under time-ordered keys, ten to a request."""
    partition = [*NAMESPACE, "messages", "queue-1"]
    for begin in range(0, 30, 10):
        batch = session.batch_manual()
        for number in range(begin, begin + 10):
            key = str(time_ordered(START + timedelta(seconds=number)))
            session.entry(partition, [key]).set({"number": number}, batch=batch)
        await batch.send()
    last: list[str] = []
    while page := await session.range(partition, first=last, limit=10):
        print("queue:", *[entry.value["number"] for entry in page if isinstance(entry.value, dict)])
        last = page[-1].clustering
    first, end = (str(_lowest(START + timedelta(seconds=seconds))) for seconds in (12, 15))
    some = await session.range(partition, first=[first], last=[end])
    print("queue, from 12 s to 15 s:", *[entry.value["number"] for entry in some if isinstance(entry.value, dict)])


def _lowest(moment: datetime) -> UUID:
    """Answer the least id of a moment."""
    return UUID(int=time_ordered(moment).int >> 80 << 80)


async def tree(session: Session) -> None:
    """A sorted map that may be spread over the cluster."""
    letters = session.tree([*NAMESPACE, "test", "letters"])
    for letter in "abcde":
        await letters.cursor([letter]).set({"value": letter.upper()})
    middle = await letters.get_cursor(["c"])
    following, before = await middle.next(), await middle.prev()
    assert following is not None
    assert before is not None
    print("tree:", before.key[0], middle.key[0], following.key[0])
    print("tree, behind a up to d:", *[cursor.key[0] for cursor in await letters.range(first=["a"], last=["d"])])


async def transactions(session: Session) -> None:
    """Several keys at once: in a block, and by hand."""
    partition = [*NAMESPACE, "users"]
    async with session.transaction() as tx:
        for name in ("first", "second"):
            entry = await tx.get_entry(partition, [name], watch=True)
            assert isinstance(entry.value, dict)
            await entry.cas({"age": int(str(entry.value["age"])) + 1})
    tx = await session.transaction_manual()
    await tx.entry(partition, ["third"]).set({"age": 99})
    await tx.rollback()
    print("transactions:", [entry.value for entry in await session.range(partition)])


# --- through models ---------------------------------------------------------------------------------------------------


async def model_entries(session: Session) -> None:
    """The value itself is a field."""
    note = await Note.objects.get("note-1")
    note.text = "value 4"
    await Note.objects.save(note)
    try:
        await Note.objects.create(Note("note-1", "value 5"))
    except kv.AlreadyExists:
        print("model: it is there already")
    print("model:", await Note.objects.get("note-1"), (await session.get_entry([*NAMESPACE, "notes", "note-1"])).value)


async def model_users(session: Session) -> None:
    """What the client wrote is a list of users; what is saved here the client reads."""
    print("model, range:", await User.objects.range(limit=2))
    print("model, range, behind it:", await User.objects.range(after="second", limit=2))
    await User.objects.create(User("zoe", age=40))
    print("model, for others:", (await session.get_entry([*NAMESPACE, "users"], ["zoe"])).value)
    await User.objects.delete("zoe")


async def model_queue(session: Session) -> None:
    """Both kinds of messages in one queue: those of the client, and those that are put here."""
    page = await Message.objects.read("queue-1", limit=10)
    print("model, queue:", *[message.number for message in page])
    page = await Message.objects.read("queue-1", after=page[-1].id, limit=10)
    print("model, queue, behind it:", *[message.number for message in page])
    start = START + timedelta(seconds=12)
    some = await Message.objects.between("queue-1", start, start + timedelta(seconds=3))
    print("model, queue, from 12 s to 15 s:", *[message.number for message in some])
    await Message.objects.put_many([Message("queue-2", number) for number in range(3)])
    rows = await session.range([*NAMESPACE, "messages", "queue-2"])
    print("model, for others:", [entry.value for entry in rows])


async def model_tree(session: Session) -> None:
    """The same tree, with typed nodes."""
    letters = Node.objects.tree("letters")
    middle = letters.cursor("c")
    before, following = await middle.prev(), await middle.next()
    assert before is not None
    assert following is not None
    print("model, tree:", before.value, (await middle.get() or before).value, following.value)
    print("model, tree, behind a up to d:", *[node.value for node in await letters.range(after="a", last="d")])
    await letters.cursor("c", "x").set("below C")
    print("model, for others:", (await session.tree([*NAMESPACE, "test", "letters"]).get_cursor(["c", "x"])).value)


async def model_transactions(db: kv.Database) -> None:
    """A unit of work: one request where it is one partition, a transaction where it is not."""
    async with db.unit_of_work() as uow:
        for name in ("first", "second"):
            (await User.objects.get(name)).age += 1
        uow.add(Note("note-2", "both are a year older"))
    uow = await db.unit_of_work().begin()
    (await User.objects.get("third")).age = 99
    await uow.rollback()
    print("model, units:", [user.age for user in await User.objects.range()], await Note.objects.get("note-2"))


@asynccontextmanager
async def served(url: str | None) -> AsyncIterator[str]:
    """Answer the URL of a server: yours, or an emulated one."""
    if url is not None:
        yield url
        return
    async with AcapellaServer(accounts={"user": "password"}) as server:
        yield server.url


async def main(url: str | None) -> None:
    """Take the tour."""
    async with served(url) as where, kv.connect(where, namespace="/".join(NAMESPACE)) as db:
        session = db.native
        assert isinstance(session, Session)
        for stop in (entries, users, queue, tree, transactions):
            await stop(session)
        for stop in (model_entries, model_users, model_queue, model_tree):
            await stop(session)
        await model_transactions(db)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="a server; left out, an emulated one is started")
    asyncio.run(main(parser.parse_args().url))
