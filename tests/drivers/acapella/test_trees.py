"""Tree models in the store's own trees: what goes over the wire, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

import kvmodel as kv
from kvmodel.drivers.acapella import Session
from kvmodel.testing.acapella import AcapellaServer, Answer, Mishap


class Node(kv.TreeModel, table="test"):
    tree: str = kv.partition_key()
    value: str = ""


class Kept(kv.TreeModel, table="kept", native=False):
    tree: str = kv.partition_key()
    value: str = ""


class User(kv.Model, table="users"):
    name: str = kv.clustering_key()
    age: int = 0


def requests(server: AcapellaServer) -> list[str]:
    """Method and last segments of what came in."""
    return [f"{seen.method} {seen.path.removeprefix('/acapelladb/v2/')}" for seen in server.seen]


async def plant(db: kv.Database, *paths: tuple[str, ...]) -> None:
    """Write a node at each path."""
    for path in paths:
        await Node.objects.using(db).tree("tree").cursor(*path).set("/".join(path))


async def test_trees_have_the_names_of_tables_and_partitions(db: kv.Database, session: Session) -> None:
    """``table="test"``, ``tree("tree")`` is ``["test", "tree"]``, a namespace before it; a path is a node's key."""
    await plant(db, ("a",), ("a", "b"))
    native = session.tree(["test", "tree"])
    await native.cursor(["a", "c"]).set({"value": "theirs"})
    await native.cursor([".hidden", "x:y"]).set({})

    assert (await native.get_cursor(["a", "b"])).value == {"value": "a/b"}
    nodes = [(node.path, node.value) for node in await Node.objects.tree("tree").range()]
    assert nodes == [((".hidden", "x:y"), ""), (("a",), "a"), (("a", "b"), "a/b"), (("a", "c"), "theirs")]

    inner = db.namespace("user/keyspace")
    await plant(inner, ("a",))
    assert (await session.tree(["user", "keyspace", "test", "tree"]).get_cursor(["a"])).value == {"value": "a"}


async def test_steps_are_the_stores_own(db: kv.Database, server: AcapellaServer) -> None:
    """Backwards one request a node, wherever the range ends; forwards a range."""
    await plant(db, *[(name,) for name in "abcde"])
    tree = Node.objects.tree("tree")
    server.seen.clear()

    node = await tree.cursor("c").prev()
    assert node is not None
    assert node.path == ("b",)
    assert requests(server) == ["GET dt/test:tree/keys/c/prev"]
    following = await tree.cursor("c").next()
    assert following is not None
    assert following.path == ("d",)
    assert await tree.cursor("a").prev() is None
    assert await tree.cursor("e").next() is None
    assert "".join(node.path[0] for node in await tree.range(reverse=True)) == "edcba"  # type: ignore[misc]
    backwards = tree.range(first="b", last="d", reverse=True)
    assert [node.path for node in await backwards] == [("d",), ("c",), ("b",)]
    assert "one request a node" in str(backwards.explain())
    assert [node.path for node in await tree.range(first="b", last="d", limit=2)] == [("b",), ("c",)]
    assert [node.path for node in await tree.range(after="b", before="d")] == [("c",)]


async def test_a_unit_is_one_transaction(db: kv.Database, server: AcapellaServer) -> None:
    """Nodes and rows together; a single node needs none."""
    await plant(db, ("a",))
    server.seen.clear()

    async with db.unit_of_work() as uow:
        uow.put(Node("tree", "B", path=("b",)), Node("tree", "A", path=("a",)))
        uow.add(User("ada"))
    assert requests(server) == [
        "POST tx",
        "GET kv/partition/users/clustering/ada",
        "PUT kv/partition/users/clustering/ada",
        "PUT dt/test:tree/keys/a",
        "PUT dt/test:tree/keys/b",
        "POST tx/1/commit",
    ]
    server.seen.clear()
    async with db.unit_of_work() as uow:
        uow.put(Node("tree", "C", path=("c",)))
    assert requests(server) == ["PUT dt/test:tree/keys/c"]
    assert [node.value for node in await Node.objects.tree("tree").range()] == ["A", "B", "C"]


async def test_a_unit_that_fails_changes_nothing(db: kv.Database, server: AcapellaServer) -> None:
    """Neither nodes nor rows."""
    await User.objects.create(User("ada"))
    with pytest.raises(kv.AlreadyExists):
        async with db.unit_of_work() as uow:
            uow.put(Node("tree", "A", path=("a",)))
            uow.add(User("ada"))
    server.mishaps.append(Mishap(Answer.STATUS, method="PUT", path="/dt/", status=503))
    with pytest.raises(kv.Unavailable):
        async with db.unit_of_work() as uow:
            uow.put(Node("tree", "A", path=("a",)), Node("tree", "B", path=("b",)))

    assert await Node.objects.tree("tree").range() == []
    assert server.store.open_transactions == 0


async def test_what_trees_cannot_do(db: kv.Database, server: AcapellaServer) -> None:
    """No versions: no creating only if free, no checked saves, no updates, no expiry. Refused before a byte is sent."""
    await plant(db, ("a",))
    node = await Node.objects.get("tree", ("a",))
    server.seen.clear()

    with pytest.raises(kv.Unsupported):
        await Node.objects.create(Node("tree", "x", path=("b",)))
    with pytest.raises(kv.Unsupported):
        await Node.objects.save(node)
    with pytest.raises(kv.Unsupported):
        await Node.objects.delete(node)
    with pytest.raises(kv.Unsupported):
        await Node.objects.update("tree", ("a",), value="x")
    with pytest.raises(kv.Unsupported):
        await Node.objects.save(Node("tree", "x", path=("b",)), expires_in=timedelta(seconds=1))
    with pytest.raises(kv.Unsupported):
        async with db.unit_of_work() as uow:
            uow.add(Node("tree", "x", path=("b",)), User("ada"))
    with pytest.raises(kv.Unsupported):
        async with Node.objects.watch("tree", ("a",)):
            pass
    assert server.seen == []

    node.value = "new"
    await Node.objects.save(node, force=True)
    assert (await Node.objects.get("tree", ("a",))).value == "new"
    assert await Node.objects.delete("tree", ("a",)) is None
    assert await Node.objects.find("tree", ("a",)) is None


async def test_as_rows_they_can(db: kv.Database, session: Session) -> None:
    """``native=False`` keeps nodes as rows, in the order of paths, with all that rows have."""
    tree = Kept.objects.tree("tree")
    paths: list[tuple[str | int, ...]] = [("a",), ("a", "b c"), ("a", 5), ("a!",), ("é",), (7,)]
    for path in paths:
        await Kept.objects.create(Kept("tree", "x", path=path))

    assert [node.path for node in await tree.range()] == paths
    assert await session.tree(["kept", "tree"]).range() == []
    assert [entry.clustering for entry in await session.range(["kept", "tree"], limit=2)] == [
        ["tba--"],
        ["tba--bb-20c--"],
    ]
    with pytest.raises(kv.AlreadyExists):
        await Kept.objects.create(Kept("tree", "y", path=("a",)))
    await tree.move("a", "z")
    assert [node.path for node in await tree.range(prefix=("z",))] == [("z",), ("z", "b c"), ("z", 5)]


async def test_versions_are_digests(db: kv.Database, session: Session) -> None:
    """They tell whether a node has changed, written or read, whatever the order of its members."""
    saved = await Node.objects.save(Node("tree", "x", path=("a",)))
    assert kv.version(saved) == kv.version(await Node.objects.get("tree", ("a",)))
    await session.tree(["test", "tree"]).cursor(["a"]).set({"value": "y"})
    assert kv.version(saved) != kv.version(await Node.objects.get("tree", ("a",)))


async def test_batches_of_nodes(db: kv.Database) -> None:
    """``save_many`` and non-atomic moves write node by node."""
    await Node.objects.save_many([Node("tree", f"{number}", path=("a", f"{number:03}")) for number in range(100)])
    tree = Node.objects.tree("tree")

    assert await tree.subtree_count("a") == 100
    assert await tree.delete_subtree("a", atomic=False) == 100
    assert await tree.range() == []
