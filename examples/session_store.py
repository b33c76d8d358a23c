"""Sessions of a web application: they expire by themselves, and concurrent requests do not overwrite each other.

    python examples/session_store.py [URL] [--requests 60]

A session is its own partition and lives for half an hour after its last use: Redis itself removes it then.
A request reads the session, and the page that it answers carries the session's version as an ETag. A form that is sent
back brings it along (``If-Match``): if somebody else has changed the session meanwhile, nothing is written and the
answer is 412. Requests that may simply come one after the other are tried again instead.

Without a URL it starts a Redis server of its own, or says why it can't.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus

import attrs

import kvmodel as kv
from kvmodel.testing.redis import NoServer, RedisServer

IDLE = timedelta(minutes=30)


class Session(kv.Model, table="sessions", expires_in=IDLE):
    """What is known of a visitor. The token is all that the visitor holds."""

    token: str = kv.partition_key()
    user: str | None = None
    cart: dict[str, int] = kv.field(factory=dict)
    visits: int = 0


@attrs.frozen
class Answer:
    """What a request gets back."""

    status: HTTPStatus
    session: Session | None = None
    etag: str | None = None


async def log_in(user: str) -> Session:
    """Begin a session."""
    return await Session.objects.create(Session(secrets.token_urlsafe(16), user))


async def show(token: str) -> Answer:
    """``GET /session``: the session and its ETag; every use prolongs its life."""
    try:
        session = await Session.objects.update(token, visits=lambda visits: visits + 1)
    except kv.NotFound:
        return Answer(HTTPStatus.UNAUTHORIZED)
    await Session.objects.expire(token, expires_in=IDLE)
    session = await Session.objects.get(token)
    return Answer(HTTPStatus.OK, session, kv.version(session))


async def replace_cart(token: str, cart: dict[str, int], if_match: str) -> Answer:
    """``PUT /session/cart`` with ``If-Match``: the cart, unless the session is no longer what the visitor saw."""
    session = await Session.objects.find(token)
    if session is None:
        return Answer(HTTPStatus.UNAUTHORIZED)
    session.cart = cart
    try:
        session = await Session.objects.save(session, if_version=if_match)
    except kv.Conflict:
        return Answer(HTTPStatus.PRECONDITION_FAILED)
    return Answer(HTTPStatus.OK, session, kv.version(session))


async def add_to_cart(token: str, goods: str) -> Answer:
    """``POST /session/cart``: one more of something. Order does not matter, so that a lost race is run again."""
    try:
        session = await Session.objects.update(token, cart=lambda cart: {**cart, goods: cart.get(goods, 0) + 1})
    except kv.NotFound:
        return Answer(HTTPStatus.UNAUTHORIZED)
    return Answer(HTTPStatus.OK, session, kv.version(session))


async def visit(requests: int) -> None:
    """Play what visitors do."""
    ada = await log_in("ada")
    page = await show(ada.token)
    assert page.etag is not None
    print("logged in:       ", page.session and page.session.user, page.status)

    answers = await asyncio.gather(*(add_to_cart(ada.token, "bolts") for _ in range(requests)))
    found = await Session.objects.get(ada.token)
    print("concurrent adds: ", Counter(answer.status.value for answer in answers), "bolts:", found.cart["bolts"])

    stale = await replace_cart(ada.token, {"nuts": 1}, page.etag)
    page = await show(ada.token)
    assert page.etag is not None
    fresh = await asyncio.gather(*(replace_cart(ada.token, {"nuts": number}, page.etag) for number in range(10)))
    print("stale form:      ", stale.status.value)
    print("ten fresh forms: ", dict(sorted(Counter(answer.status.value for answer in fresh).items())))

    await Session.objects.expire(ada.token, expires_in=timedelta(milliseconds=1))
    await asyncio.sleep(0.002)
    gone = await add_to_cart(ada.token, "bolts")
    print("after its time:  ", gone.status.value)


@asynccontextmanager
async def connected(url: str | None) -> AsyncIterator[kv.Database]:
    """A database: yours, or a server that ends with this block."""
    if url is not None:
        async with kv.connect(url) as db:
            yield db
        return
    with RedisServer() as server:
        async with kv.connect(server.url) as db:
            yield db


async def run(url: str | None, requests: int) -> None:
    """Run the example."""
    async with connected(url) as db:
        for finding in await db.check():
            print("note:            ", finding.partition(":")[0])
        await visit(requests)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="a store (default: a Redis server of its own)")
    parser.add_argument("--requests", type=int, default=60, help="how many concurrent requests (%(default)s)")
    chosen = parser.parse_args()
    try:
        asyncio.run(run(chosen.url, chosen.requests))
    except NoServer as error:
        sys.exit(f"nothing to connect to: {error}")


if __name__ == "__main__":
    main()
