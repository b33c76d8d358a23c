"""Where everything lies: as documented, for users of redis-cli, and such that a partition never leaves its slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel.drivers.base import KeyField, KeyType, Slice, Table
from kvmodel.drivers.redis import slot_of
from kvmodel.drivers.redis.layout import Place
from kvmodel.drivers.redis.slots import SLOTS, slot_names, tag_of
from kvmodel.testing.redis import RedisCluster, RedisServer
from tests.drivers.redis.models import Raw, Team, User


def _place(name: str, clustering: int = 1, partition: str = "str", namespace: tuple[str, ...] = ()) -> Place:
    fields = tuple(KeyField(f"c{number}", KeyType("str")) for number in range(clustering))
    owners = (KeyField("p", KeyType(partition)),) if partition else ()
    return Place(Table(name, owners, fields, (), namespace), "redis", in_cluster=True)


async def test_keys_are_as_documented(db: kv.Database, server: RedisServer) -> None:
    """These names are promised to users of redis-cli."""
    await User.objects.save(User("red", "ada"))
    await Team.objects.save(Team("red"))
    await User.objects.using(db.namespace("t1")).save(User("red", "bob"))
    await Raw.objects.save(Raw("a", "text"))

    assert sorted(server.command("KEYS", "*")) == sorted(
        [
            b"kv:{\x02red\x00}users",
            b"kv:{\x02red\x00}users:\x02ada\x00",
            b"kv:{\x02red\x00}teams:",
            b"kv:{@t1\x00\x02red\x00}users",
            b"kv:{@t1\x00\x02red\x00}users:\x02bob\x00",
            b"kv:partitions:users",
            b"kv:partitions:teams",
            b"kv:partitions:@t1\x00users",
            b"kv:{catalogue}",
            b"kv:{catalogue}users",
            b"kv:{catalogue}teams",
            b"kv:{catalogue}@t1\x00users",
            b"raw:a",
        ]
    )
    assert server.command("ZRANGE", b"kv:{\x02red\x00}users", 0, -1) == [b"\x02ada\x00"]
    assert server.command("ZRANGE", b"kv:partitions:users", 0, -1) == [b"\x02red\x00"]
    assert server.command("GET", "raw:a") == b"text"


async def test_deleting_leaves_nothing(db: kv.Database, server: RedisServer) -> None:
    """With the last record of a partition its index and its place in the directory go."""
    await User.objects.save_many([User("red", "ada"), User("red", "bob"), User("blue", "eve")])
    await Team.objects.save(Team("red"))
    await User.objects.delete("red", "ada")
    assert server.command("ZCARD", "kv:partitions:users") == 2
    await User.objects.range("red").delete()
    await User.objects.delete("blue", "eve")
    await Team.objects.delete("red")

    assert all(key.startswith(b"kv:{catalogue}") for key in server.command("KEYS", "*"))


def test_slots_are_those_of_the_server(cluster: RedisCluster) -> None:
    """``slot_of`` agrees with ``CLUSTER KEYSLOT``, whatever braces a key has."""
    node = cluster.nodes[0]
    for key in (b"a", b"{a}b", b"{}a", b"a{b", b"a}b{c}d", b"{a{b}c}", b"\x00\xff{\x01}", b"kv:{\x02red\x00}users"):
        assert slot_of(key) == node.command("CLUSTER", "KEYSLOT", key), key
    assert tag_of(b"{}a") == b"{}a"


def test_every_slot_has_a_name() -> None:
    """A number whose digits lead there, so that directories lie in the slots that they tell of."""
    names = slot_names()

    assert len(names) == SLOTS
    assert all(slot_of(b"x{%b}y" % names[slot]) == slot for slot in range(0, SLOTS, 97))
    place = _place("users")
    area = place.area(b"\x02red\x00")
    assert slot_of(area.directory) == slot_of(area.index_key) == area.slot


@given(st.text(), st.text(), st.text())
def test_a_partition_shares_its_slot(partition: str, one: str, other: str) -> None:
    """Index, directory and records of all its tables, braces or not: ``CROSSSLOT`` can't occur."""
    users, teams = _place("users"), _place("teams", 0)
    first, second = users.locate((partition, one)), users.locate((partition, other))
    team = teams.locate((partition,))
    assert first.area is not None
    assert team.area is not None

    keys = (first.key, second.key, first.area.index_key, first.area.directory, team.key, team.area.directory)
    assert {slot_of(key) for key in keys} == {first.slot} == {team.slot}


@given(st.binary(), st.binary(), st.text(), st.text())
def test_no_two_records_share_a_key(left: bytes, right: bytes, one: str, other: str) -> None:
    """Whatever partitions hold, and in every namespace."""
    spots = {
        _place("a", 1, "bytes").locate((left, one)).key,
        _place("a", 0, "bytes").locate((left,)).key,
        _place("b", 1, "bytes").locate((left, one)).key,
        _place("a", 1, "bytes", ("n",)).locate((left, one)).key,
        _place("a", 1, "").locate((one,)).key,
        _place("a", 1, "", ("n",)).locate((one,)).key,
        _place("a", 0, "").locate(()).key,
    }
    assert len(spots) == 7
    if (left, one) != (right, other):
        assert _place("a", 1, "bytes").locate((right, other)).key not in spots


@given(st.text(), st.text(), st.text())
def test_keys_come_back(partition: str, one: str, other: str) -> None:
    """A record is found again from its partition and the name that the index has for it."""
    place = _place("users", 2)
    spot = place.locate((partition, one, other))
    assert spot.area is not None

    assert place.decode(spot.area.partition, spot.name) == (partition, one, other)


def test_bounds_of_a_whole_partition_are_open() -> None:
    """The whole of an index is asked for without a byte of it."""
    bounds = _place("users").bounds(Slice(("red",)))

    assert (bounds.low, bounds.high, bounds.is_empty) == (b"-", b"+", False)


async def test_what_came_from_a_single_server_is_noticed(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """Keys that were moved into a cluster one by one lack what scans need: an error, not an empty table."""
    key = b"kv:partitions:users"
    cluster.master_of(slot_of(key)).command("ZADD", key, 0, b"\x02red\x00")

    with pytest.raises(kv.SchemaError, match="single server"):
        await cluster_db.prepare(User)
    cluster.master_of(slot_of(key)).command("DEL", key)


async def test_plain_records_are_not_ordered(db: kv.Database) -> None:
    """What has no index has no ranges; scans walk through all keys and find what is there, in order."""

    class Word(kv.Model, table="words", layout="plain"):
        book: str = kv.partition_key()
        name: str = kv.clustering_key()
        text: str = kv.field(whole_value=True)

    objects = Word.objects.using(db)
    for number in range(700):
        await objects.save(Word("b", f"{number:04}", "x"))
    await User.objects.save(User("words", "x"))

    with pytest.raises(kv.Unsupported, match="no order"):
        await objects.range("b")
    assert [word.name for word in await objects.scan()] == [f"{number:04}" for number in range(700)]
