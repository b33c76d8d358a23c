"""The emulated server: the raw path, the query and the body, to what the store answers.

It settles what the sources leave open, in one way: see the protocol page of the store's documentation. It is no
database: everything is in memory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Self
from urllib.parse import parse_qs, parse_qsl, quote

import attrs
from aiohttp import web

from kvmodel.drivers.acapella.paths import decode_bound, decode_key, decode_text
from kvmodel.testing.acapella.mishaps import Answer, Mishap, Seen
from kvmodel.testing.acapella.requests import (
    Request,
    check_quorum,
    flag,
    json_body,
    number_of,
    only,
    optional,
    pair_of,
    show_cell,
    write_of,
)
from kvmodel.testing.acapella.store import Cell, Json, Key, Locked, Refused, Store, Write

__all__ = ["AcapellaServer"]

_LINE: Final = 1 << 16
_GIGABYTE: Final = 1 << 30
_PIECE: Final = bytes(1 << 20)
_NOTHING: Final[dict[str, Json]] = {}


class AcapellaServer:
    """An emulated server on loopback. Start it inside an event loop: ``async with AcapellaServer() as server:``.

    Args:
        prefix: What the paths begin with, but those for accounts; may be empty.
        accounts: Passwords by user. Without any, every login is taken and none is needed.
        port: Where to listen; 0 for any free port.
        lock_timeout: How many seconds a request waits for a lock.
        idle: After how many seconds an idle transaction is rolled back and forgotten.
        hides_deleted: Leave deleted rows out of ranges.
        listen: How many seconds a long poll lasts that names no limit.
        tls: Encrypt.

    Attributes:
        seen: All requests that came in.
        mishaps: What goes wrong with the next requests, in order.
        store: What it holds.
    """

    def __init__(
        self,
        *,
        prefix: str = "/acapelladb",
        accounts: Mapping[str, str] | None = None,
        port: int = 0,
        lock_timeout: float = 1.0,
        idle: float = 30.0,
        hides_deleted: bool = False,
        listen: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.prefix = prefix.rstrip("/")
        self.port = port
        self.accounts = dict(accounts or {})
        self.lock_timeout = lock_timeout
        self.hides_deleted = hides_deleted
        self.seen: list[Seen] = []
        self.keeps_log = True
        self.mishaps: list[Mishap] = []
        self._listen = listen
        self._tls = tls
        self._idle = idle
        self._tokens: dict[str, str] = {}
        self._needs_login = bool(self.accounts)
        self._runner: web.ServerRunner | None = None
        self.store = Store(idle)

    @property
    def url(self) -> str:
        """What ``kv.connect`` takes, with the first account if there is one."""
        account = ""
        if self._needs_login:
            user, password = next(iter(self.accounts.items()))
            account = f"{quote(user, safe='')}:{quote(password, safe='')}@"
        return f"acapella://{account}127.0.0.1:{self.port}{self.prefix or '/'}"

    async def start(self) -> Self:
        """Begin to listen."""
        self.store = Store(self._idle)
        server = web.Server(self._serve, access_log=None, max_line_size=_LINE, max_field_size=_LINE)
        runner = self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Stop listening, and drop all connections."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def forget_tokens(self) -> None:
        """Have all tokens expire."""
        self._tokens.clear()

    # --- exchanges ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        path, _, query = request.raw_path.partition("?")
        if self.keeps_log:
            header = request.headers.get("Authorization")
            self.seen.append(Seen(request.method, path, query, body, header))
        mishap = self._mishap(request.method, path)
        if mishap is not None and not mishap.applies:
            return await self._go_wrong(request, mishap)
        try:
            answer = await self._answer(request, path, query, body)
        except Refused as refusal:
            return web.Response(status=refusal.status)
        if mishap is not None:
            return await self._go_wrong(request, mishap)
        return web.Response(text=json.dumps(answer), content_type="application/json")

    def _mishap(self, method: str, path: str) -> Mishap | None:
        for position, mishap in enumerate(self.mishaps):
            if mishap.method in (None, method) and mishap.path in path:
                return self.mishaps.pop(position)
        return None

    async def _go_wrong(self, request: web.BaseRequest, mishap: Mishap) -> web.StreamResponse:
        if mishap.answer is Answer.STATUS:
            return web.Response(status=mishap.status, text="no")
        if mishap.answer is Answer.GARBAGE:
            return web.Response(text="<html>hello</html>", content_type="application/json")
        if mishap.answer is Answer.BODY:
            return web.Response(body=mishap.body, content_type="application/json")
        if mishap.answer in (Answer.GIGABYTE, Answer.STREAM):
            return await self._flood(request, announces=mishap.answer is Answer.GIGABYTE)
        transport = request.transport
        if mishap.answer is Answer.SILENCE:
            await asyncio.Event().wait()
        if transport is not None:
            transport.abort()
        return web.Response(status=500)

    async def _flood(self, request: web.BaseRequest, *, announces: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if announces:
            response.content_length = _GIGABYTE
        with suppress(ConnectionError):
            await response.prepare(request)
            for _ in range(_GIGABYTE // len(_PIECE)):
                await response.write(_PIECE)
                if announces:  # Who reads on waits in vain.
                    await asyncio.Event().wait()
        return response

    # --- routes -------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest, path: str, query: str, body: bytes) -> Json:
        try:
            values = {name: texts[0] for name, texts in parse_qs(query, keep_blank_values=True).items()}
        except ValueError:
            raise Refused(400) from None
        segments = path.split("/")[1:]
        asked = Request(request.method, segments, values, body, request.headers.get("Content-Type", ""))
        if segments[:1] == ["auth"]:
            return self._auth(asked, request.headers.get("Authorization"))
        if not f"{path}/".startswith(f"{self.prefix}/"):
            raise Refused(404)
        self._require_login(request.headers.get("Authorization"))
        inner = path[len(self.prefix) :].split("/")[1:]
        asked = attrs.evolve(asked, segments=inner)
        try:
            return await self._route(asked)
        except (ValueError, RecursionError):
            raise Refused(400) from None

    async def _route(self, request: Request) -> Json:
        match request.segments:
            case ["v2", "kv", "keys", partition]:
                return await self._key(request, (decode_key(partition), ()))
            case ["v2", "kv", "keys", partition, "version"]:
                return self._version(request, (decode_key(partition), ()))
            case ["v2", "kv", "partition", partition, "clustering", row]:
                return await self._key(request, (decode_key(partition), decode_key(row)))
            case ["v2", "kv", "partition", partition, "clustering", row, "version"]:
                return self._version(request, (decode_key(partition), decode_key(row)))
            case ["v2", "kv", "partition", partition]:
                return await self._partition(request, decode_key(partition))
            case ["v2", "kv", "partition", partition, "index-query"]:
                only(request, "GET")
                return self._index_query(request, decode_key(partition))
            case ["v2", "tx"]:
                only(request, "POST")
                return {"index": str(self.store.begin())}
            case ["v2", "tx", index, "commit" | "rollback" | "keep-alive" as what]:
                only(request, "POST")
                return self._end(number_of(index), what)
            case ["v2", "users", user, "keyspaces", keyspace, "indexes", *tag]:
                return self._indexes(request, decode_text(user), decode_text(keyspace), tag)
            case ["v2", "dt", tree, "keys", *rest]:
                return self._tree(request, decode_key(tree), rest)
        raise Refused(404)

    # --- accounts -----------------------------------------------------------------------------------------------------

    def _auth(self, request: Request, authorization: str | None) -> Json:
        match request.segments[1:]:
            case ["signup"]:
                only(request, "POST")
                return self._sign_up(json_body(request))
            case ["login"]:
                only(request, "POST")
                return self._log_in(request)
            case ["logout"]:
                only(request, "POST")
                self._require_login(authorization)
                self._tokens.pop(pair_of(authorization)[1], None)
                return _NOTHING
        raise Refused(404)

    def _sign_up(self, given: Json) -> Json:
        user = given.get("username", given.get("name")) if isinstance(given, dict) else None
        if not isinstance(user, str) or not isinstance(given.get("password"), str) or user in self.accounts:
            raise Refused(400)
        self.accounts[user] = given["password"]
        self._needs_login = True
        return _NOTHING

    def _log_in(self, request: Request) -> Json:
        form = dict(parse_qsl(request.body.decode("ascii", "replace"), keep_blank_values=True))
        try:
            text = base64.b64decode(form["loginAndPassword"], validate=True).decode()
        except (KeyError, ValueError):
            raise Refused(400) from None
        user, colon, password = text.partition(":")
        if not colon or (self._needs_login and self.accounts.get(user) != password):
            raise Refused(401)
        token = f"token-{secrets.token_hex(8)}"
        self._tokens[token] = user
        return {"token": token}

    def _require_login(self, authorization: str | None) -> None:
        if self._needs_login:
            user, token = pair_of(authorization)
            if self._tokens.get(token) != user:
                raise Refused(401)

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def _key(self, request: Request, key: Key) -> Json:
        only(request, "GET", "PUT")
        check_quorum(request)
        index = optional(request, "transaction")
        if request.method == "GET":
            after = optional(request, "waitVersion")
            if after is not None:
                return await self._wait_for(key, after, index, request)
            watch = flag(request, "watch")
            return show_cell(await self._unlocked(lambda: self.store.read(key, index, watch=watch)))
        value = json_body(request) if request.body else None
        write = Write(key, value, optional(request, "oldVersion"), flag(request, "reindex"))
        (version,) = await self._unlocked(lambda: self.store.write([write], index))
        return {"version": version}

    def _version(self, request: Request, key: Key) -> Json:
        only(request, "GET")
        check_quorum(request)
        return {"version": self.store.read(key).version}

    async def _wait_for(self, key: Key, after: int, index: int | None, request: Request) -> Json:
        seconds = optional(request, "waitTimeout")

        def read() -> Cell:
            cell = self.store.read(key, index)
            if cell.version <= after:
                raise Locked
            return cell

        return show_cell(await self._unlocked(read, self._listen if seconds is None else float(seconds)))

    async def _unlocked(self, work: Callable[[], Any], seconds: float | None = None) -> Any:
        """Do something as soon as that can be; 408 when it can't be in time."""
        try:
            async with asyncio.timeout(self.lock_timeout if seconds is None else seconds):
                while True:
                    changed = self.store.changed
                    try:
                        return work()
                    except Locked:
                        await changed.wait()
        except TimeoutError:
            raise Refused(408) from None

    # --- partitions ---------------------------------------------------------------------------------------------------

    async def _partition(self, request: Request, partition: tuple[str, ...]) -> Json:
        only(request, "GET", "PUT")
        check_quorum(request)
        if request.method == "PUT":
            return await self._batch(request, partition)
        bounds = [decode_bound(request.query.get(name, "")) for name in ("from", "to", "prefix")]
        limit = optional(request, "limit") or 0
        found = []
        for clustering, cell in self.store.rows(partition, *bounds):
            if cell.value is None and self.hides_deleted:
                continue
            found.append({"key": list(clustering), **show_cell(cell)})
            if len(found) == limit:
                break
        return found

    async def _batch(self, request: Request, partition: tuple[str, ...]) -> Json:
        items = json_body(request)
        if not isinstance(items, list) or not items:
            raise Refused(400)
        reindex = flag(request, "reindex")
        writes = [write_of(partition, item, reindex=reindex) for item in items]
        if len({write.key for write in writes}) != len(writes):
            raise Refused(400)
        versions = await self._unlocked(lambda: self.store.write(writes))
        return [
            {"key": list(write.key[1]), "version": version} for write, version in zip(writes, versions, strict=True)
        ]

    def _end(self, index: int, what: str) -> Json:
        if what == "commit":
            self.store.commit(index)
        elif what == "rollback":
            self.store.rollback(index)
        else:
            self.store.touch(index)
        return _NOTHING

    # --- indexes ------------------------------------------------------------------------------------------------------

    def _indexes(self, request: Request, user: str, keyspace: str, tag: list[str]) -> Json:
        if not (user and keyspace):
            raise Refused(400)
        if not tag:
            only(request, "GET")
            return {"indexes": self.store.indexes(user, keyspace)}
        if len(tag) > 1:
            raise Refused(404)
        only(request, "PUT")
        body = json_body(request)
        self.store.define_index(
            user, keyspace, number_of(tag[0]), body.get("fields") if isinstance(body, dict) else None
        )
        return _NOTHING

    def _index_query(self, request: Request, partition: tuple[str, ...]) -> Json:
        body = json_body(request)
        query = body.get("query") if isinstance(body, dict) else None
        limit = (body.get("params") or {}).get("limit") if isinstance(body, dict) else None
        if not isinstance(query, dict) or not query or not all(isinstance(each, dict) for each in query.values()):
            raise Refused(400)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise Refused(400)
        hits = self.store.query(partition, query)
        return [
            {"key": list(clustering), **({} if value is None else {"value": value})}
            for clustering, value in hits[: limit or None]
        ]

    # --- trees --------------------------------------------------------------------------------------------------------

    def _tree(self, request: Request, tree: tuple[str, ...], rest: list[str]) -> Json:
        check_quorum(request)
        index = optional(request, "transaction")
        match rest:
            case []:
                only(request, "GET")
                after, last = (decode_bound(request.query.get(name, "")) for name in ("from", "to"))
                limit = optional(request, "limit") or None
                nodes = [] if last and after >= last else self.store.nodes(tree, after, last, index)
                return [{"key": list(key), "value": value} for key, value in nodes[:limit]]
            case [key]:
                only(request, "GET", "PUT")
                if request.method == "PUT":
                    value = json_body(request) if request.body else None
                    self.store.put_node(tree, decode_key(key), value, index)
                    return _NOTHING
                value = self.store.node(tree, decode_key(key), index)
                return {} if value is None else {"value": value}
            case [key, "next" | "prev" as way]:
                only(request, "GET")
                found, value = self.store.step(tree, decode_key(key), index, back=way == "prev")
                return {"key": list(found), "value": value, "node": "node-1"}
        raise Refused(404)
