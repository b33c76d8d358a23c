"""The recorded exchanges in ``transcript.jsonl``: what the original client sent, was answered, and made of it.

They were recorded from the unmodified client 0.3.8, against a server that settles what the sources leave open the way
our emulator does. Each line has the call and its arguments, the request as it was on the wire, and the reply.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

from kvmodel.drivers.acapella import Entry, IndexField, QueryCondition, Session, Transaction
from kvmodel.drivers.acapella.entries import Batch
from kvmodel.drivers.acapella.protocol import Quorum

PATH = Path(__file__).parent / "transcript.jsonl"

Line = dict[str, Any]

UNQUOTED = frozenset("!$&'()*,;=@")
"""What the original client's library left alone in paths, and ours encodes: both mean the same."""


@cache
def lines() -> tuple[Line, ...]:
    """All of it."""
    return tuple(json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines())


def named(line: Line) -> str:
    """What to call a line in a test's name."""
    return f"{line['name']}{line.get('part', '')}"


def is_broken(line: Line) -> bool:
    """Whether the original client's path says something else than the key: a colon, a slash or a dot got lost."""
    name = line["name"]
    if name == "batch_chars":
        return True
    if not name.startswith("char_"):
        return False
    place, what = name.split("_", 2)[1:]
    if place == "range":
        return False  # In a query these are encoded.
    if place == "index":
        return what in ("slash", "colon", "percent_seq", "question", "hash", "dot", "dotdot", "newline")
    lost = what in ("slash", "colon")
    return lost or (place == "single" and what in ("dot", "dotdot"))


# --- calls ------------------------------------------------------------------------------------------------------------


async def play(session: Session, line: Line) -> Any:
    """Make the call of a line through the client, and answer its result the way the line says it."""
    name, given = line["op"], dict(line["args"])
    transaction = given.pop("transaction", None)
    calls: dict[str, Callable[..., Awaitable[Any]]] = {
        "login": _login,
        "entry.get": _entry_get,
        "session.entry": _entry,
        "session.get_entry": _get_entry,
        "session.get_version": _get_version,
        "session.range": _range,
        "session.tree": _tree,
        "entry.set": _entry_set,
        "entry.cas": _entry_cas,
        "entry.listen": _entry_listen,
        "batch.send": _batch_send,
        "batch.set": _batch_set,
        "partition_index": _partition_index,
        "partition_index.set_index": _set_index,
        "partition_index.get_indexes": _get_indexes,
        "partition_index.query": _query,
        "transaction.enter": _enter,
        "transaction.exit": _exit,
        "session.transaction_manual": _manual,
        "tx.commit": _commit,
        "tx.rollback": _rollback,
        "tx.keep_alive": _keep_alive,
        "tx.get_entry": _get_entry,
        "tx.entry.set": _entry_set,
        "tx.entry.cas": _entry_cas,
        "tx.entry.listen": _entry_listen,
        "tree.cursor": _cursor,
        "tree.get_cursor": _get_cursor,
        "tree.range": _tree_range,
        "cursor.set": _cursor_set,
        "cursor.next": _cursor_next,
        "cursor.prev": _cursor_prev,
    }
    if line["name"].startswith("read_") and name == "entry.get":
        name = "session.get_entry"
    if name.startswith("session.transaction") or name == "transaction.enter":
        return await calls[name](session, given)
    place: Any = session
    if transaction is not None:
        place = Transaction(session, transaction)
    try:
        return await calls[name](place, given)
    finally:
        if isinstance(place, Transaction):
            place._keeper.cancel()


def _quorum(given: Line) -> dict[str, int]:
    return {name: given[name] for name in ("n", "r", "w") if name in given}


def _entry_of(place: Any, given: Line) -> Entry:
    entry: Entry = place.entry(given["partition"], given.get("clustering"), **_quorum(given))
    return entry


async def _login(session: Any, given: Line) -> None:
    await session.login(given["user"], given["password"])


async def _entry(place: Any, given: Line) -> None:
    _entry_of(place, given)


async def _entry_get(place: Any, given: Line) -> Any:
    return await _entry_of(place, given).get(given.get("watch", False))


async def _get_entry(place: Any, given: Line) -> Any:
    options = {"watch": True} if given.get("watch") else {}
    return show(await place.get_entry(given["partition"], given.get("clustering"), **_quorum(given), **options))


async def _get_version(place: Any, given: Line) -> Any:
    return await place.get_version(given["partition"], given.get("clustering"), **_quorum(given))


async def _range(place: Any, given: Line) -> Any:
    return [show(entry) for entry in await place.range(**given)]


async def _entry_set(place: Any, given: Line) -> Any:
    return await _entry_of(place, given).set(given["value"], reindex=given.get("reindex", False))


async def _entry_cas(place: Any, given: Line) -> Any:
    entry = _entry_of(place, given)
    entry.version = 2  # What the recorded entry had where no version was named.
    return await entry.cas(given["value"], given["old_version"], reindex=given.get("reindex", False))


async def _entry_listen(place: Any, given: Line) -> Any:
    entry = _entry_of(place, given)
    entry.version = 1  # What the recorded entry had where no version was named.
    return await entry.listen(given["wait_version"], given.get("timeout"))


def _queue(place: Any, given: Line) -> Batch:
    batch: Batch = place.batch_manual()
    for item in given["items"]:
        entry = _entry_of(place, item)
        n, r, w = item.get("nrw", (3, 2, 2))
        entry.quorum = Quorum(n, r, w)
        if "old_version" in item:
            entry.cas(item["value"], item["old_version"], reindex=item.get("reindex", False), batch=batch)
        else:
            entry.set(item["value"], reindex=item.get("reindex", False), batch=batch)
    return batch


async def _batch_send(place: Any, given: Line) -> Any:
    return await _queue(place, given).send()


async def _batch_set(place: Any, given: Line) -> Any:
    batch = _queue(place, given)
    if len(given["items"]) == 1:  # The recorded batch was sent before.
        batch.is_begun = True
        _entry_of(place, given["items"][0]).set(1, batch=batch)


async def _partition_index(place: Any, given: Line) -> None:
    place.partition_index(given["partition"])


async def _set_index(place: Any, given: Line) -> None:
    fields = [IndexField(each["name"], each["type"], each["order"]) for each in given["fields"]]
    await place.partition_index(given["partition"]).set_index(given["tag"], fields)


async def _get_indexes(place: Any, given: Line) -> Any:
    found = await place.partition_index(given["partition"]).get_indexes()
    return {
        str(tag): [{"name": each.name, "type": each.type.value, "order": each.order.value} for each in fields]
        for tag, fields in found.items()
    }


async def _query(place: Any, given: Line) -> Any:
    conditions = {
        name: QueryCondition(each.get("eq"), each.get("from"), each.get("to")) for name, each in given["query"].items()
    }
    return [show(entry) for entry in await place.partition_index(given["partition"]).query(conditions, given["limit"])]


async def _enter(session: Session, given: Line) -> Any:
    transaction = await session.transaction_manual()
    transaction._keeper.cancel()
    return {"transaction": transaction.index}


async def _manual(session: Session, given: Line) -> Any:
    transaction = await session.transaction_manual(given.get("index"))
    transaction._keeper.cancel()
    return None


async def _exit(transaction: Any, given: Line) -> None:
    if given.get("exception"):
        await transaction.rollback()
    else:
        await transaction.commit()


async def _commit(transaction: Any, given: Line) -> None:
    await transaction.commit()


async def _rollback(transaction: Any, given: Line) -> None:
    await transaction.rollback()


async def _keep_alive(transaction: Any, given: Line) -> None:
    await transaction.keep_alive()


async def _tree(place: Any, given: Line) -> None:
    place.tree(given["tree"], **_quorum(given))


async def _cursor(place: Any, given: Line) -> None:
    place.tree(given["tree"]).cursor(given["key"])


async def _get_cursor(place: Any, given: Line) -> Any:
    return show(await place.tree(given["tree"], **_quorum(given)).get_cursor(given["key"]))


async def _tree_range(place: Any, given: Line) -> Any:
    bounds = {name: given[name] for name in ("first", "last", "limit") if name in given}
    return [show(cursor) for cursor in await place.tree(given["tree"], **_quorum(given)).range(**bounds)]


async def _cursor_set(place: Any, given: Line) -> int:
    await place.tree(given["tree"], **_quorum(given)).cursor(given["key"]).set(given["value"])
    return 0


def _at(place: Any, given: Line) -> Any:
    cursor = place.tree(given["tree"], **_quorum(given)).cursor(given["key"])
    cursor._hint = given.get("node")
    return cursor


async def _cursor_next(place: Any, given: Line) -> Any:
    return show(await _at(place, given).next())


async def _cursor_prev(place: Any, given: Line) -> Any:
    return show(await _at(place, given).prev())


def show(found: Any) -> Any:
    """Say an entry or a cursor as the recorded lines do."""
    if found is None:
        return None
    if isinstance(found, Entry):
        return {name: getattr(found, name) for name in ("partition", "clustering", "version", "value")}
    return {"key": found.key, "value": found.value}
