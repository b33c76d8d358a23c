"""Databases: a connection to a store, seen from one namespace."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from kvmodel import _aio
from kvmodel._ambient import open_databases, time_limit
from kvmodel._batching import ReadBatcher
from kvmodel._binding import Bound
from kvmodel._direct import pause
from kvmodel._registry import find_driver, split_options, split_url
from kvmodel._tokens import PlainTokens, SealedTokens, Tokens
from kvmodel.batch import Batch
from kvmodel.drivers.base import Capabilities, Driver, Key, Watcher
from kvmodel.drivers.facets import SelfCheck
from kvmodel.errors import AlreadyExists, Closed, Conflict, SchemaError, StoreError, ValidationError
from kvmodel.limits import check_timeout
from kvmodel.model import Model, declared_models
from kvmodel.schema import Schema, schema_of
from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Connecting", "Connection", "Database", "connect"]

T = TypeVar("T")
FacetT = TypeVar("FacetT")

_ATTEMPTS = 20
_PURGE_STEP = 1000


def _wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Connection:
    """An open driver, and what all namespaces on it share."""

    def __init__(
        self,
        driver: Driver,
        *,
        timeout: float = 10.0,
        prepare: str = "auto",
        token_key: bytes | None = None,
        clock: Callable[[], int] = _wall_clock,
    ) -> None:
        self.driver = driver
        self.timeout = timeout
        self.prepares = prepare != "never"
        self.tokens: Tokens = PlainTokens() if token_key is None else SealedTokens(token_key)
        self.now = clock
        self.loop = _aio.get_running_loop()
        self.preparing = _aio.Lock()
        self._tasks = _aio.TaskSet()
        self.batcher = ReadBatcher(self._tasks)
        self._watchers: set[Watcher] = set()
        self._closed: str | None = None

    def check_usable(self) -> None:
        """Raise ``Closed`` unless this is the loop and the process that opened the connection, and it is open."""
        if self._closed is not None:
            raise Closed(self._closed, store=self.driver.address)
        if _aio.running_loop() is not self.loop:
            raise Closed(
                "this database belongs to an event loop that is not running here: connect in the loop that uses it",
                store=self.driver.address,
            )

    def until(self) -> float:
        """When an operation that starts now has to be over, on the monotonic clock."""
        limit = time_limit.get()
        return time.monotonic() + (self.timeout if limit is None else limit)

    def disown(self, reason: str) -> None:
        """Refuse everything from now on, without touching the driver."""
        self._closed = reason

    async def close(self) -> None:
        if self._closed is None:
            self._closed = "this database is closed: connect again"
            try:
                for watcher in list(self._watchers):
                    await self.drop(watcher)
                await self._tasks.close()
            finally:
                await self.driver.close()

    # --- watches ---

    def keep(self, watcher: Watcher) -> None:
        """Close a watcher with this connection, unless it is dropped before."""
        self._watchers.add(watcher)

    async def drop(self, watcher: Watcher) -> None:
        """Close a watcher, once."""
        if watcher in self._watchers:
            self._watchers.discard(watcher)
            with suppress(StoreError):  # What the store keeps for it goes with the connection at the latest.
                await watcher.close()

    def abandon(self, watcher: Watcher) -> None:
        """Nobody refers to a watch any more: have it closed. May be called from anywhere."""
        if watcher in self._watchers and self._closed is None:
            with suppress(RuntimeError):  # The event loop has been closed.
                self.loop.call_soon_threadsafe(lambda: self._tasks.start(self.drop(watcher)))


class Database:
    """A store, seen from one namespace. Made by :func:`connect` and :meth:`namespace`."""

    def __init__(self, connection: Connection, namespace: tuple[str, ...] = ()) -> None:
        self._connection = connection
        self._namespace = namespace
        self._tables: dict[Schema, Bound[Any]] = {}
        self._views: dict[tuple[str, ...], Database] = {namespace: self}

    def __repr__(self) -> str:
        where = "/".join(self._namespace)
        return f"<Database on {self._connection.driver.address}{', namespace ' + where if where else ''}>"

    # --- what it is ---

    @property
    def capabilities(self) -> Capabilities:
        """What the connected store can truly do."""
        return self._connection.driver.capabilities

    @property
    def native(self) -> object:
        """The store's own client, for what only this store has."""
        return self._connection.driver.native

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        """Answer what only some stores have, or ``None``."""
        return self._connection.driver.facet(kind)

    async def check(self) -> list[str]:
        """Look at the store's settings, and answer in words which of them would lose data silently.

        Empty where nothing was found, and where a store has no such settings.

        Raises:
            StoreError: The store can't be reached.
        """
        self._connection.check_usable()
        facet = self._connection.driver.facet(SelfCheck)
        return [] if facet is None else await facet.check(until=self._connection.until())

    # --- its life ---

    async def close(self) -> None:
        """Close the connection, for every namespace on it. Closing twice is allowed."""
        root = self._views[min(self._views, key=len)]
        open_databases.discard(root)
        await self._connection.close()

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _disown(self, reason: str) -> None:
        self._connection.disown(reason)

    # --- namespaces and models ---

    def namespace(self, name: str) -> Database:
        """Answer a view of the same connection in which all keys begin with ``name``, below this one's namespace.

        Args:
            name: One name, or several with slashes between them.

        Raises:
            ValidationError: A name is empty, or holds a control character.
        """
        path = self._namespace + parse_namespace(name)
        view = self._views.get(path)
        if view is None:
            view = self._views[path] = Database(self._connection, path)
            view._views = self._views
        return view

    def bind(self, *models: type[Model]) -> None:
        """Make this database the models' own: they use it whatever else is open."""
        for model in models:
            open_databases.bind(schema_of(model), self)

    async def prepare(self, *models: type[Model]) -> None:
        """Make models ready in the store now, instead of at their first use.

        Raises:
            SchemaError: The store holds a table of this name that was written by another declaration.
        """
        self._connection.check_usable()
        for schema in _with_companions(map(schema_of, models)):
            await self._bound(schema).prepare(self._connection.until())

    def _bound(self, schema: Schema) -> Bound[Any]:
        bound = self._tables.get(schema)
        if bound is None:
            bound = self._tables[schema] = Bound(schema, self._connection, self._namespace)
        return bound

    # --- changing ---

    def unit_of_work(self, *, verify: bool = False) -> UnitOfWork:
        """Answer a unit of work that is not begun yet: ``async with db.unit_of_work() as uow:``.

        Args:
            verify: Check at commit what was read even if nothing changed.
        """
        return UnitOfWork(self, verify=verify)

    def batch(self) -> Batch:
        """Answer a batch: independent writes in as few requests as the store allows, not atomic together."""
        return Batch(self)

    async def transact(self, function: Callable[[UnitOfWork], Awaitable[T]]) -> T:
        """Await ``function(uow)`` in fresh units of work until one commits, and answer its result.

        After a lost race it is tried again, with growing, random pauses, at least 20 times and until the time limit.
        The function may run many times: what it does besides the unit has to bear that.

        Raises:
            Conflict: Every attempt lost its race.
            AlreadyExists: An added key is taken, and the unit had not read it as absent: it would be again.
        """
        until = self._connection.until()
        attempt = 0
        while True:
            attempt += 1
            unit = self.unit_of_work()
            try:
                async with unit:
                    result = await function(unit)
            except Conflict as error:
                if not unit._may_run_again:
                    raise
                if isinstance(error, AlreadyExists) and not unit._read_as_absent(error.keys):
                    raise
                if time.monotonic() >= until and attempt >= _ATTEMPTS:
                    raise
                await pause(min(attempt, 7), max(until, time.monotonic() + 0.01))
            else:
                return result

    async def purge_expired(self, *models: type[Model], force: bool = False) -> int:
        """Remove expired records, each only in the version that was seen, and answer how many.

        They are invisible before; this gives their space back where the store does not do so by itself.

        Args:
            models: Whose records; left out, those of every model of this program that this database holds.
            force: Remove them even where the store can't compare versions: a record that somebody writes again at that
                very moment may go too.

        Raises:
            Unsupported: The store can't compare versions, and ``force`` was not given.
        """
        self._connection.check_usable()
        removed = 0
        for bound in await self._purged(models):
            after: Key | None = None
            while True:
                step = await bound.driver.purge(
                    bound.table, limit=_PURGE_STEP, after=after, now=bound.now(), until=bound.until(), force=force
                )
                removed += step.removed
                after = step.resume
                if after is None:
                    break
                await _aio.give_way()
        return removed

    async def _purged(self, models: Iterable[type[Model]]) -> list[Bound[Any]]:
        """The tables to purge, ready in the store."""
        bounds = [self._bound(schema) for schema in _with_companions(map(schema_of, models))]
        for bound in bounds:
            await bound.prepared()
        if bounds:
            return bounds
        known = {bound.table.name: bound for bound in self._tables.values() if bound.ready}
        for schema in _with_companions(_declared_schemas()):
            bound = self._bound(schema)
            if schema.name not in known and schema.layout == "record":
                with suppress(SchemaError):  # This program has several classes for one table; this is not the one.
                    await bound.prepared()
                    known[schema.name] = bound
        return [bound for bound in known.values() if bound.table.layout == "record"]


def _declared_schemas() -> Iterator[Schema]:
    """Yield the schemas of this program, but for classes that can't be compiled: whoever uses one is told."""
    for model in declared_models():
        with suppress(SchemaError):
            yield schema_of(model)


def _with_companions(schemas: Iterable[Schema]) -> Iterator[Schema]:
    """Yield schemas, each before those of the tables that go along with its own."""
    for schema in schemas:
        yield schema
        yield from schema.companions


# --- connecting -------------------------------------------------------------------------------------------------------


class Connecting:
    """A connection in the making: ``await`` it, or enter it with ``async with``."""

    def __init__(self, url: str | None, options: Mapping[str, object]) -> None:
        self._url = url
        self._options = options
        self._database: Database | None = None

    def __await__(self) -> Generator[object, None, Database]:
        return self._open().__await__()

    async def __aenter__(self) -> Database:
        self._database = await self._open()
        return self._database

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.close()

    async def _open(self) -> Database:
        parts = split_url(self._url)
        driver_class = find_driver(parts.scheme)
        common, own = split_options(driver_class, parts, self._options, _COMMON)
        namespace = _namespace_option(common.pop("namespace", ()))
        driver = driver_class.from_url(parts, own)
        connection = Connection(driver, **_checked(common))
        try:
            await driver.open()
        except BaseException:
            await driver.close()
            raise
        database = Database(connection, namespace)
        open_databases.add(database)
        return database


def connect(url: str | None = None, **options: object) -> Connecting:
    """Connect to a store: ``async with kv.connect(url) as db``, or ``db = await kv.connect(url)``.

    Args:
        url: The store's URL; left out, the environment's ``KVMODEL_URL``.
        options: The driver's options, and these of every store: ``timeout`` (seconds for one operation, default 10),
            ``namespace`` (the first key component; names with slashes between them), ``prepare`` (``auto`` or
            ``never``), ``token_key`` (32 bytes: page tokens are encrypted then), ``clock`` (a callable that answers
            microseconds since the epoch). All may stand in the URL's query; keywords win.

    Raises:
        ValidationError: The URL, or an option, is refused; known schemes and options are named.
        Unsupported: The driver's own dependencies are not installed.
        Unavailable: The store can't be reached.
        AuthenticationFailed: The store refused the credentials.
    """
    return Connecting(url, options)


def parse_namespace(text: str) -> tuple[str, ...]:
    """Take a namespace apart at its slashes. Raises ``ValidationError`` for an empty or unprintable name."""
    names = tuple(text.split("/")) if isinstance(text, str) else ()
    if not names or any(not re.fullmatch(r"[^\x00-\x1f\x7f/]{1,200}", name) for name in names):
        raise ValidationError(f"a namespace is a name, or names with slashes between them, not {text!r}")
    return names


def _namespace_option(value: object) -> tuple[str, ...]:
    """A namespace as it came from a URL, in parts, or by keyword."""
    names = value if isinstance(value, tuple) else (value,)
    return tuple(name for part in names for name in parse_namespace(part))


_COMMON: dict[str, Callable[[str], object]] = {
    "timeout": float,
    "namespace": parse_namespace,
    "prepare": str,
    "token_key": bytes.fromhex,
    "clock": lambda text: _refuse_text("clock"),
}


def _refuse_text(name: str) -> object:
    raise ValueError(f"{name} can't stand in a URL: give it by keyword")


def _checked(common: dict[str, object]) -> dict[str, Any]:
    """The options of every store, checked as far as their types go."""
    if "timeout" in common:
        common["timeout"] = check_timeout(common["timeout"])
    if common.get("prepare", "auto") not in ("auto", "never"):
        raise ValidationError(f"prepare is auto or never, not {common['prepare']!r}", field="prepare")
    if not callable(common.get("clock", _wall_clock)):
        raise ValidationError("clock takes a callable that answers microseconds since the epoch", field="clock")
    return common
