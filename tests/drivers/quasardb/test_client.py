"""The native client: the store's own vocabulary, on what stands in for the cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.quasardb import BatchOperation, BatchRequest, Credentials, QuasardbClient
from kvmodel.testing.quasardb.server import LocalServer
from kvmodel.testing.quasardb.store import Store
from tests.drivers.quasardb.conftest import SERVED, client_of

SOON = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)


# --- blobs ------------------------------------------------------------------------------------------------------------


async def test_blobs(client: QuasardbClient) -> None:
    """Create, read, replace, remove; each says what it did not find, or found."""
    await client.put("k", b"one")
    assert await client.get("k") == b"one"
    with pytest.raises(kv.AlreadyExists):
        await client.put("k", b"two")
    await client.update("k", b"two")
    await client.update("new", b"")
    assert await client.get_many(["k", "none", "new", "k"]) == [b"two", None, b"", b"two"]
    assert await client.get_and_update("k", b"three") == b"two"
    assert await client.get_and_remove("k") == b"three"
    await client.remove("new")
    assert not await client.exists("new")
    for call in (client.get("k"), client.remove("k"), client.get_and_remove("k"), client.get_and_update("k", b"x")):
        with pytest.raises(kv.NotFound) as caught:
            await call
        assert caught.value.key == ("k",)


async def test_compare_and_swap_answers_none_or_what_is_there(client: QuasardbClient) -> None:
    """``None`` says that it swapped; anything else is the present content, and nothing was changed."""
    await client.put("k", b"one")

    assert await client.compare_and_swap("k", b"two", b"one") is None
    assert await client.compare_and_swap("k", b"three", b"one") == b"two"
    assert await client.get("k") == b"two"
    with pytest.raises(kv.NotFound):
        await client.compare_and_swap("none", b"a", b"b")


@pytest.mark.parametrize(("new", "old"), [(b"", b"one"), (b"two", b"")])
async def test_compare_and_swap_refuses_empty_content(client: QuasardbClient, new: bytes, old: bytes) -> None:
    """The store's answer to both would mean two things; nothing is sent."""
    with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
        await client.compare_and_swap("k", new, old)


async def test_remove_if(client: QuasardbClient) -> None:
    """Only that content is removed: the package tells by a text alone, which becomes ``Conflict``."""
    await client.put("k", b"one")

    with pytest.raises(kv.Conflict):
        await client.remove_if("k", b"two")
    await client.remove_if("k", b"one")
    with pytest.raises(kv.NotFound):
        await client.remove_if("k", b"one")


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 1025, "é" * 513, "\ud800", "$qdb.statistics", b"bytes", 7, None])
async def test_names_outside_the_librarys_limits_are_refused(client: QuasardbClient, key: Any) -> None:
    """Empty, cut at NUL, too long in bytes, no Unicode, reserved, no text: told before anything is sent."""
    for call in (client.get, client.remove, client.get_tags, client.exists):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await call(key)


async def test_the_longest_name(client: QuasardbClient) -> None:
    """1024 bytes, whatever characters they are."""
    for name in ("x" * 1024, "é" * 512):
        await client.put(name, b"x")
        assert await client.get(name) == b"x"


async def test_contents_are_bytes_within_the_limit(server: LocalServer) -> None:
    """Text is to be encoded by who knows how; too much is ``TooLarge`` before it is sent."""
    async with QuasardbClient(server.address, library=SERVED, workers=1, max_value_bytes=100) as client:
        await client.put("k", b"x" * 100)
        wrong: Any = "text"
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await client.update("k", wrong)
        with pytest.raises(kv.TooLarge) as caught, kv.budget(round_trips=0):
            await client.update("k", b"x" * 101)

    assert (caught.value.size, caught.value.limit) == (101, 100)


# --- expiry -----------------------------------------------------------------------------------------------------------


async def test_expiry(client: QuasardbClient) -> None:
    """A call of its own; ``None`` is never, both ways."""
    await client.put("k", b"x")
    assert await client.get_expiry_time("k") is None

    await client.expires_at("k", SOON)
    assert await client.get_expiry_time("k") == SOON
    await client.expires_at("k", None)
    assert await client.get_expiry_time("k") is None
    await client.expires_from_now("k", timedelta(minutes=1))
    found = await client.get_expiry_time("k")
    assert found is not None
    assert found.tzinfo is not None
    assert abs(found - datetime.now(timezone.utc) - timedelta(minutes=1)) < timedelta(seconds=30)
    await client.expires_from_now("k", 60)
    with pytest.raises(kv.NotFound):
        await client.expires_at("none", SOON)


@pytest.mark.parametrize("operation", ["update", "compare_and_swap", "get_and_update"])
async def test_every_write_takes_the_expiry_away(client: QuasardbClient, operation: str) -> None:
    """The gap that the documentation tells of: there is no write with an expiry, and none keeps it."""
    await client.put("k", b"x")
    await client.expires_at("k", SOON)

    await getattr(client, operation)("k", *([b"y", b"x"] if operation == "compare_and_swap" else [b"y"]))

    assert await client.get_expiry_time("k") is None


async def test_naive_datetimes_are_refused(client: QuasardbClient) -> None:
    """The package would take them for local time; so would nobody who reads the call."""
    naive = datetime(2040, 1, 1)  # noqa: DTZ001 - what is refused
    for moment in (naive, 60, "2040", datetime(1970, 1, 1, tzinfo=timezone.utc)):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await client.expires_at("k", moment)  # type: ignore[arg-type]  # what is refused
    for span in (0, -1, timedelta(), float("nan"), float("inf"), "1", True):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await client.expires_from_now("k", span)  # type: ignore[arg-type]  # what is refused


_UTC = timezone.utc
_EAST, _WEST = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=_EAST),
        datetime.min.replace(tzinfo=_UTC),
        datetime(1970, 7, 1, tzinfo=_UTC),
        datetime.max.replace(tzinfo=_WEST),
    ],
)
async def test_moments_outside_of_the_stores_calendar_are_refused(client: QuasardbClient, moment: datetime) -> None:
    """1970 means never to the store, and Python knows no year 10000: nothing is sent."""
    with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
        await client.expires_at("k", moment)


@pytest.mark.parametrize("span", [timedelta.max, 1e12, float("inf"), float("nan"), timedelta(days=365 * 8200)])
async def test_spans_beyond_the_calendar_are_refused(client: QuasardbClient, span: Any) -> None:
    """Nothing is sent, and the client goes on."""
    await client.put("k", b"one")
    with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
        await client.expires_from_now("k", span)
    assert await client.get("k") == b"one"


async def test_the_past_is_refused_by_the_cluster(client: QuasardbClient) -> None:
    """With some tolerance for clocks, so it has to decide."""
    await client.put("k", b"x")
    with pytest.raises(kv.ValidationError):
        await client.expires_at("k", datetime(2000, 1, 1, tzinfo=timezone.utc))


async def test_what_has_expired_is_gone() -> None:
    """By the cluster's clock."""
    now = [int(SOON.timestamp() * 1_000_000)]
    with LocalServer(Store(lambda: now[0])) as server:
        async with client_of(server, workers=1) as client:
            await client.put("k", b"x")
            await client.expires_at("k", SOON + timedelta(seconds=5))
            server.store.lag = 60_000_000
            now[0] += 5_000_001
            with pytest.raises(kv.NotFound):
                await client.get("k")
            assert await client.prefix_get("k") == ["k"]  # Such a name may show for a while.
            assert [name async for name, _ in client.items("k")] == []


# --- integers and tags ------------------------------------------------------------------------------------------------


async def test_integers(client: QuasardbClient) -> None:
    """64 bits, with an addition that needs no comparing; a type of its own."""
    await client.put_integer("n", 5)
    assert await client.add_integer("n", -7) == -2
    await client.update_integer("n", 2**63 - 1)
    assert await client.get_integer("n") == 2**63 - 1
    with pytest.raises(kv.ValidationError):
        await client.add_integer("n", 1)
    with pytest.raises(kv.AlreadyExists):
        await client.put_integer("n", 1)
    with pytest.raises(kv.NotFound):
        await client.add_integer("none", 1)
    with pytest.raises(kv.DecodingError):
        await client.get("n")
    for number in (2**63, -(2**63) - 1, 1.5, True):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await client.put_integer("m", number)  # type: ignore[arg-type]  # what is refused


async def test_tags(client: QuasardbClient) -> None:
    """Attached, found, detached; sorted, and each once, though the store repeats itself."""
    for key in ("b", "a", "c"):
        await client.put(key, b"x")
    assert await client.attach_tag("a", "red")
    assert not await client.attach_tag("a", "red")
    assert await client.attach_tag("b", "red")
    assert await client.attach_tag("b", "blue")

    assert await client.get_tags("b") == ["blue", "red"]
    assert await client.has_tag("a", "red")
    assert not await client.has_tag("a", "blue")
    assert await client.get_tagged("red") == ["a", "b"]
    assert await client.get_tagged("none") == []
    assert await client.find("find(tag='red' AND NOT tag='blue' AND type=blob)") == ["a"]
    assert await client.detach_tag("b", "red")
    assert not await client.detach_tag("b", "red")
    with pytest.raises(kv.NotFound):
        await client.attach_tag("none", "red")
    with pytest.raises(kv.NotFound):
        await client.has_tag("none", "red")
    with pytest.raises(kv.DecodingError):
        await client.attach_tag("a", "c")
    with pytest.raises(kv.ValidationError):
        await client.find("find(tag=red OR tag='blue')")


# --- names ------------------------------------------------------------------------------------------------------------


async def test_prefix_and_suffix(client: QuasardbClient) -> None:
    """Sorted, all of them; in bounded number where that is asked for."""
    for name in ("log.2", "log.10", "log.1", "dog.1", "é.1"):
        await client.put(name, name.encode())

    assert await client.prefix_get("log.") == ["log.1", "log.10", "log.2"]
    assert await client.suffix_get(".1") == ["dog.1", "log.1", "é.1"]
    assert (await client.prefix_count("log."), await client.suffix_count(".1")) == (3, 3)
    assert await client.prefix_get("none") == []
    some = await client.prefix_get("log.", 2)
    assert len(some) == 2
    assert set(some) < {"log.1", "log.10", "log.2"}
    for prefix, count in (("", None), ("a\0", None), ("a", 0), ("a", True)):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await client.prefix_get(prefix, count)


async def test_iteration_over_what_a_prefix_holds(client: QuasardbClient) -> None:
    """What replaces iteration over the whole cluster: names in order, or names with contents."""
    for name in ("p.b", "p.a", "q.a"):
        await client.put(name, name.encode())

    assert [name async for name in client.keys("p.")] == ["p.a", "p.b"]
    found: AsyncIterator[tuple[str, bytes]] = client.items("p.")
    assert [item async for item in found] == [("p.a", b"p.a"), ("p.b", b"p.b")]


@pytest.mark.parametrize(("count", "calls"), [(7, 1), (8, 2), (70, 3)])
async def test_a_listing_is_whole(server: LocalServer, count: int, calls: int) -> None:
    """The store gives as many names as are asked for, and no more: it is asked for more until fewer come."""
    async with client_of(server) as client:
        for number in range(count):
            server.store.put("blob", f"n{number:03}", b"x")
        with kv.budget(round_trips=calls):
            found = await client.list_names("n", client._until(), first=8)

    assert found == {f"n{number:03}" for number in range(count)}


async def test_a_listing_is_bounded(server: LocalServer) -> None:
    """One name too many is an error that says so, never a short answer."""
    async with client_of(server, max_names=10) as client:
        for number in range(10):
            server.store.put("blob", f"n{number}", b"x")
        assert len(await client.prefix_get("n")) == 10
        server.store.put("blob", "n10", b"x")
        with pytest.raises(kv.TooLarge) as caught:
            await client.prefix_get("n")
        with pytest.raises(kv.TooLarge):
            await client.prefix_get("n", 11)

    assert caught.value.limit == 10
    assert "max_names" in caught.value.message


# --- nodes ------------------------------------------------------------------------------------------------------------


async def test_nodes(client: QuasardbClient, server: LocalServer) -> None:
    """Configuration, status and topology are JSON objects; the library's own version and build are text."""
    assert set(await client.node_config(server.address)) == {"global", "local"}
    assert "overall" in await client.node_status(server.address)
    assert set(await client.node_topology(server.address)) == {"predecessor", "center", "successor"}
    assert await client.endpoints() == [server.address]
    assert await client.version() == "3.14.3"
    assert await client.build()
    with pytest.raises(kv.ValidationError):
        await client.node_status("a b")


async def test_purging_has_to_be_confirmed(client: QuasardbClient, server: LocalServer) -> None:
    """It removes what all programs have: not by accident."""
    await client.put("k", b"x")
    for call in (client.purge_all(), client.purge_all(confirm=1)):  # type: ignore[arg-type]  # what is refused
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await call
    assert await client.exists("k")

    await client.purge_all(confirm=True)

    assert not await client.exists("k")
    server.store.purges = False
    with pytest.raises(kv.Unsupported):
        await client.purge_all(confirm=True)


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_of_everything(client: QuasardbClient) -> None:
    """In order, with the results of the methods."""
    requests = [
        BatchRequest("get", "k"),
        BatchRequest.put("k", b"one"),
        BatchRequest.put("k", b"one"),
        BatchRequest.get("k"),
        BatchRequest.remove_if("k", b"two"),
        BatchRequest.compare_and_swap("k", b"two", b"one"),
        BatchRequest.compare_and_swap("k", b"three", b"one"),
        BatchRequest.get_and_update("k", b"four"),
        BatchRequest.get_and_remove("k"),
        BatchRequest.update("k", b"five"),
        BatchRequest(BatchOperation.REMOVE_IF, "k", comparand=b"five"),
        BatchRequest.remove("k"),
    ]

    successes, results = await client.run_batch(requests)

    errors = [type(result.error) for result in results]
    assert [result.request for result in results] == requests
    assert errors[0] is errors[11] is kv.NotFound
    assert (errors[2], errors[4]) == (kv.AlreadyExists, kv.Conflict)
    assert [result.result for result in results] == [
        None, None, None, b"one", None, None, b"two", b"two", b"four", None, None, None,
    ]  # fmt: skip
    assert successes == sum(result.succeeded for result in results) == 8


async def test_a_batch_raises_for_no_item(client: QuasardbClient) -> None:
    """Items that can't be sent are results too; the others are carried out."""
    wrong: list[Any] = [
        ("put", "a", b"1"),
        ("put", "b"),
        ("get", "c", b"1"),
        ("eval", "x"),
        ("get", "a\0"),
        ("put", "d", "text"),
        ("compare_and_swap", "a", b"", b"1"),
        7,
        BatchRequest("put", "e"),
        BatchRequest("get", "e", b"1"),
        ("get", "a"),
    ]

    successes, results = await client.run_batch(wrong)

    assert successes == 2
    assert results[-1].result == b"1"
    assert all(isinstance(result.error, kv.ValidationError) for result in results[1:-1])
    assert await client.run_batch([]) == (0, [])


async def test_a_batch_goes_on_when_the_cluster_is_gone(client: QuasardbClient, server: LocalServer) -> None:
    """Each item says for itself what became of it."""
    await client.put("a", b"1")
    server.stop()

    successes, results = await client.run_batch([("get", "a"), ("get", "b")])

    assert successes == 0
    assert [type(result.error) for result in results] == [kv.Unavailable, kv.Unavailable]


# --- options ----------------------------------------------------------------------------------------------------------

Make = Callable[[], object]


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuasardbClient(""),
        lambda: QuasardbClient("db:0"),
        lambda: QuasardbClient("db:99999"),
        lambda: QuasardbClient("user@db:1"),
        lambda: QuasardbClient("db:1", workers=0),
        lambda: QuasardbClient("db:1", library_timeout=0.5),
        lambda: QuasardbClient("db:1", library_timeout=2**32 / 1000 + 5),
        lambda: QuasardbClient("db:1", library_timeout=float("nan")),
        lambda: QuasardbClient("db:1", compression="best"),
        lambda: QuasardbClient("db:1", parallelism=65536),
        lambda: QuasardbClient("db:1", library="os; import x"),
        lambda: QuasardbClient("db:1", Credentials(user_name="u")),
        lambda: QuasardbClient("db:1", Credentials(cluster_public_key="P")),
        lambda: QuasardbClient("db:1", Credentials(user_security_file="/missing")),
        lambda: QuasardbClient("db:1", Credentials(user_security_file="/missing", cluster_public_key_file="/missing")),
        lambda: QuasardbClient("db:1", Credentials(user_name="u" * 121, user_private_key="S", cluster_public_key="P")),
    ],
)
def test_options_are_looked_at_before_anything_starts(make: Make) -> None:
    """What the library would refuse, take wrongly, or abort the process for."""
    with pytest.raises(kv.ValidationError):
        make()


async def test_credentials_are_shown_nowhere(server: LocalServer) -> None:
    """Neither in a repr, nor in an error, its causes or its attributes, nor on a command line."""
    secret = "S" + "not-base64-at-all"
    credentials = Credentials(user_name="ada", user_private_key=secret, cluster_public_key="P" + "A" * 43)
    client = QuasardbClient(server.address, credentials, library=SERVED)
    with pytest.raises(kv.AuthenticationFailed) as caught:
        await client.open()
    await client.close()

    told = [repr(client), repr(credentials), repr(caught.value.__dict__)]
    error: BaseException | None = caught.value
    while error is not None:
        told += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    assert not any(secret in text for text in told)
