"""Watching: the changes of a record, a partition or a table, as they come."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import attrs

from kvmodel import _aio
from kvmodel._tokens import Tokens, query_digest
from kvmodel.drivers.base import ChangeKind, Row, RowChange, Slice, Watcher
from kvmodel.drivers.refusals import refuse_watch
from kvmodel.errors import Closed, DecodingError, ValidationError, WatchLost
from kvmodel.query import not_in_unit, parse_prefix

if TYPE_CHECKING:
    from types import TracebackType

    from kvmodel._binding import Bound
    from kvmodel.model import Model
    from kvmodel.repository import Repository
    from kvmodel.schema import Schema

__all__ = ["Change", "Changes", "watched_slice"]

M = TypeVar("M", bound="Model")


@attrs.frozen
class Change(Generic[M]):
    """One change of one record.

    Attributes:
        kind: What became of it: ``CREATED``, ``CHANGED`` or ``DELETED``. A record that takes the place of an expired
            one is created.
        key: The record's key, as :meth:`Repository.get` takes it.
        new: The record as it is now, loaded; ``None`` when it is gone.
        old: The record as it was; ``None`` where there was none, where the store does not tell, and where it can't be
            read as a record of this model any more.
        position: Where to go on behind this change (``watch(..., position=...)``), as text; ``None`` where the store
            keeps no positions.
    """

    kind: ChangeKind
    key: tuple[Any, ...]
    new: M | None
    old: M | None
    position: str | None


class Changes(Generic[M]):
    """The changes of a watch: ``async for change in changes``, each of them once, those of one record in order.

    As an asynchronous context manager it is in place when the block is entered, and let go at its end. Otherwise its
    first step puts it in place, and it is let go when nothing refers to it any more. A step that is cancelled loses
    nothing.
    """

    def __init__(self, repository: Repository[M, *tuple[Any, ...]], slice: Slice, position: str | None) -> None:
        self._repository = repository
        self._slice = slice
        self._position = position
        self._turn = _aio.Lock()
        self._bound: Bound[M] | None = None
        self._watcher: Watcher | None = None
        self._places = _Places(slice)
        self._waiting: deque[RowChange] = deque()
        self._over: WatchLost | Closed | None = None

    def __repr__(self) -> str:
        return f"<Changes of {self._repository.model.__name__}{' (over)' if self._over else ''}>"

    # --- its life ---

    async def __aenter__(self) -> Self:
        async with self._turn:
            await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the watch. Who waits for its next change gets ``Closed``."""
        self._over = self._over or Closed("this watch is over: begin another one", table=self._repository._schema.name)
        self._waiting.clear()
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._bound is not None:
            await self._bound.connection.drop(watcher)

    async def _begin(self) -> tuple[Bound[M], Watcher]:
        """Put the watch in place, once."""
        if self._over is not None:
            raise self._over
        if self._bound is None or self._watcher is None:
            bound, unit = self._repository._where()
            if unit is not None:
                raise not_in_unit("watch()")
            refuse_watch(bound.driver.capabilities, bound.table, self._slice, resumes=self._position is not None)
            self._places.bind(bound)
            position = self._places.read(self._position)
            until = await bound.prepared()
            watcher = await bound.driver.watch(bound.table, self._slice, position, clock=bound.now, until=until)
            bound.connection.keep(watcher)
            self._bound, self._watcher = bound, watcher
            weakref.finalize(self, bound.connection.abandon, watcher).atexit = False
        return self._bound, self._watcher

    # --- what changed ---

    @property
    def position(self) -> str | None:
        """Where to go on behind all changes that were given out; where the watch began, before the first one.

        ``None`` before the watch is in place, unless it was given one, and where the store keeps no positions.
        """
        if self._watcher is not None and not self._waiting:
            return self._places.make(self._watcher.position) or self._position
        return self._position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[M]:
        """Wait for the next change.

        Raises:
            DecodingError: What was stored is no record of this model. The next step gives what comes behind it.
            WatchLost: The store no longer holds what comes next, or more came than is kept for a reader.
            StoreError: The store can't be reached. The next step tries again, where the watch was.
            Closed: The watch, or its database, was closed.
            Unsupported: The store can't be watched so, or this is inside a unit of work; nothing was sent.
        """
        async with self._turn:
            bound, watcher = await self._begin()
            bound.connection.check_usable()
            while not self._waiting:
                try:
                    self._waiting.extend(await watcher.next())
                except WatchLost as lost:
                    self._over = lost
                    raise
                except Closed:
                    if self._over is not None:
                        raise self._over from None
                    bound.connection.check_usable()
                    raise
            change = self._waiting.popleft()
        self._position = self._places.make(change.position)
        return self._load(bound, change)

    def _load(self, bound: Bound[M], change: RowChange) -> Change[M]:
        """Turn rows into objects."""
        if change.error is not None:
            raise change.error
        new = None if change.new is None else bound.load(change.new)
        members = bound.schema.key_members
        key = tuple(member.restore(part) for member, part in zip(members, change.key, strict=True))
        return Change(change.kind, key, new, _old(bound, change.old), self._position)


def _old(bound: Bound[M], row: Row | None) -> M | None:
    if row is None:
        return None
    try:
        return bound.load(row)
    except DecodingError:
        return None


class _Places:
    """The positions of one watch, as users see them: bound to what is watched, as page tokens are to their query."""

    def __init__(self, slice: Slice) -> None:
        self._slice = slice
        self._tokens: Tokens | None = None
        self._digest = b""

    def bind(self, bound: Bound[Any]) -> None:
        table = bound.table
        self._tokens = bound.connection.tokens
        self._digest = query_digest("watch", table.namespace, table.key, *bound.order.bounds(self._slice))

    def make(self, position: str | None) -> str | None:
        if position is None or self._tokens is None:
            return None
        return self._tokens.make(self._digest, position.encode())

    def read(self, text: str | None) -> str | None:
        if text is None or self._tokens is None:
            return None
        try:
            return self._tokens.read(self._digest, text).decode()
        except ValueError as error:
            raise ValidationError(
                "this position is not one of this watch: read again, then watch without position="
            ) from error


def watched_slice(schema: Schema, parts: tuple[object, ...], prefix: object) -> Slice:
    """Turn what a caller wants to watch into a slice: a table, a partition, a part of one, or one record."""
    count = len(schema.partition)
    if not parts and count:
        if prefix is not None:
            raise ValidationError(
                "a prefix belongs to one partition: give the values of its partition fields too", table=schema.name
            )
        return Slice(None)
    if schema.clustering and len(parts) == len(schema.key_fields):
        if prefix is not None:
            raise ValidationError("this is the key of one record: leave prefix= out", table=schema.name)
        key = schema.make_key(*parts)
        return Slice(key[:count], prefix=key[count:])
    if len(parts) != count:
        raise ValidationError(
            "watch() takes the values of the partition fields, or those of the whole key; what lies between is "
            "prefix=(...)",
            table=schema.name,
            key=parts,
        )
    whole, begins = parse_prefix(schema, prefix)
    return Slice(schema.make_partition(*parts), prefix=whole, starts=begins)
