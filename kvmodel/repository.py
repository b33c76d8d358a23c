"""The queries of one model: ``User.objects``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Generic, Self, cast, overload

from kvmodel._aio import get_running_loop
from kvmodel._ambient import current_unit, open_databases
from kvmodel._bulk import Bulk
from kvmodel._deadlines import KEEP, Keep, deadline
from kvmodel._direct import Direct, expectation_of, not_found, not_loaded
from kvmodel._state import decode_version, get_state
from kvmodel.drivers.base import ABSENT, ANYTHING, Expectation, Key, Row, Slice
from kvmodel.drivers.meter import current_meter
from kvmodel.errors import NoDatabase, ValidationError
from kvmodel.model import Ks, M
from kvmodel.query import Range, check_limit, make_slice, not_in_unit
from kvmodel.schema import Schema, schema_of
from kvmodel.watching import Changes, watched_slice

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel._joined import Joined
    from kvmodel.database import Database
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Repository"]


class Repository(Generic[M, *Ks]):
    """Everything that can be asked of one model's records, and done to them.

    Inside a unit of work the calls join it: reads are remembered, writes wait for its commit.
    """

    _direct = Direct()

    def __init__(self, model: type[M]) -> None:
        self.model = model
        self._schema: Schema = schema_of(model)
        self._database: Database | None = None
        self._unit: UnitOfWork | None = None
        self._outside = False
        # Where reads are answered at once, as long as the open databases stay the same.
        self._near: Bound[M] | None = None

    def __repr__(self) -> str:
        return f"<Repository of {self.model.__name__}>"

    # --- where ---

    def using(self, where: Database | UnitOfWork, *, outside: bool = False) -> Self:
        """Answer the same queries on a database, or in a unit of work, of your choice.

        Args:
            where: An open database, or a unit of work (for threads and fixtures, which context variables don't cross).
            outside: Leave the unit of work that is in force, if it is one of this database.
        """
        from kvmodel.unit_of_work import UnitOfWork

        chosen = type(self)(self.model)
        if isinstance(where, UnitOfWork) and not outside:
            chosen._unit = where
        elif hasattr(where, "_bound"):  # A database, whose layer is not known here.
            chosen._database = cast("Database", where)
        else:
            raise ValidationError("using() takes an open database, or a unit of work to be in", table=self._schema.name)
        chosen._outside = outside
        return chosen

    def _where(self) -> tuple[Bound[M], UnitOfWork | None]:
        """Find the table, and the unit of work to join."""
        database, unit = self._home()
        return database._bound(self._schema), unit

    def _home(self) -> tuple[Database, UnitOfWork | None]:
        """Find the database, and the unit of work to join."""
        unit = self._unit or (None if self._outside else current_unit())
        own = self._database or open_databases.bound(self._schema)
        if own is None:
            return (open_databases.only() if unit is None else unit.database), unit
        if unit is not None and unit.database._connection is not own._connection:
            if self._database is None:
                raise NoDatabase(
                    "this model is bound to another database than the unit of work it is used in: write "
                    "objects.using(db) to act outside of the unit",
                    table=self._schema.name,
                )
            unit = None
        return own, unit

    def forget(self) -> None:
        """A database was opened or closed: find out anew which one is meant."""
        self._near = None

    def _find_near(self, bound: Bound[M], unit: UnitOfWork | None) -> None:
        """Remember a table that answers reads at once, for :meth:`get`."""
        if unit is None and bound.peek is not None:
            self._near = bound
            open_databases.watch(self)

    def _session(self, unit: UnitOfWork | None) -> Direct | Joined:
        """Where calls go: to the unit of work, or to the store by themselves."""
        return self._direct if unit is None else unit._joined

    def _locate(self, obj: M) -> tuple[Bound[M], Key]:
        """Find the table and the key of an object."""
        bound, _ = self._where()
        return bound, self._key_of(obj)

    def _bulk(self, bound: Bound[M]) -> Bulk[M]:
        return Bulk(bound)

    # --- reading ---

    async def get(self, *key: *Ks) -> M:
        """Answer the record with this key.

        Args:
            key: The key's components: partition fields, then clustering fields.

        Raises:
            NotFound: No record has this key.
            ValidationError: The key has the wrong number of components, or one of the wrong type.
            DecodingError: What is stored there is not a record of this model.
        """
        near = self._near
        if (
            near is not None
            and near.peek is not None
            and current_unit() is None
            and current_meter() is None
            and get_running_loop() is near.loop
        ):
            row = near.peek(near.make_key(*key))
            if type(row) is Row and (row.expires_at is None or row.expires_at > near.now()):
                return near.load(row)
            raise not_found(near, row.key)
        found = await self.find(*key)
        if found is None:
            bound, _ = self._where()
            raise not_found(bound, bound.make_key(*key))
        return found

    async def find(self, *key: *Ks) -> M | None:
        """Answer the record with this key, or ``None``. Raises as :meth:`get` does, but for ``NotFound``."""
        bound, unit = self._where()
        found = await self._session(unit).find(bound, bound.make_key(*key))
        self._find_near(bound, unit)
        return found

    async def get_many(self, keys: Iterable[object]) -> list[M | None]:
        """Answer the records with these keys, in the order asked, ``None`` where there is none.

        Args:
            keys: Tuples of key components; lone values will do where the key has one component.
        """
        bound, unit = self._where()
        wanted = [self._key(key) for key in keys]
        return await self._session(unit).find_many(bound, wanted)

    async def exists(self, *key: *Ks) -> bool:
        """Say whether a record has this key, without moving its value where the store can."""
        bound, unit = self._where()
        return await self._session(unit).exists(bound, bound.make_key(*key))

    async def refresh(self, obj: M) -> None:
        """Read an object's record again, in place; changes that were not saved are lost.

        Raises:
            NotFound: The record is gone.
        """
        bound, unit = self._where()
        key, state = self._key_of(obj), get_state(obj)
        await self._session(unit).refresh(bound, obj, key if state is None else state.key)

    # --- writing ---

    async def create(
        self,
        obj: M,
        *,
        expires_in: timedelta | None | Keep = KEEP,
        expires_at: datetime | None | Keep = KEEP,
    ) -> M:
        """Write an object whose key has to be free, and answer it.

        Args:
            obj: The object; it is loaded at its new version afterwards.
            expires_in: How long the record lives; ``None`` for ever; left out, its model's default.
            expires_at: Until when it lives, aware.

        Raises:
            AlreadyExists: The key is taken; nothing was written.
        """
        bound, unit = self._where()
        until = deadline(expires_in, expires_at, bound.now())
        if until is KEEP and get_state(obj) is not None:
            until = bound.default_deadline()
        await self._session(unit).put(bound, obj, self._key_of(obj), ABSENT, until)
        return obj

    async def save(
        self,
        obj: M,
        *,
        force: bool = False,
        if_version: str | None = None,
        expires_in: timedelta | None | Keep = KEEP,
        expires_at: datetime | None | Keep = KEEP,
    ) -> M:
        """Write an object, and answer it. A new one is written whatever is there.

        A loaded one replaces what was loaded, or nothing.

        Args:
            obj: The object; it is loaded at its new version afterwards.
            force: Write it whatever is there.
            if_version: Write it only over the version with this token (see :func:`kvmodel.version`).
            expires_in: How long the record lives; ``None`` for ever; left out, a loaded object keeps its deadline.
            expires_at: Until when it lives, aware.

        Raises:
            Conflict: The record is not what was loaded; nothing was written.
            ValidationError: A field holds what can't be stored, or the key of a loaded object was changed.
        """
        bound, unit = self._where()
        key = self._key_of(obj)
        expect = self._expect(bound, obj, key, force=force, if_version=if_version)
        until = deadline(expires_in, expires_at, bound.now())
        await self._session(unit).put(bound, obj, key, expect, until)
        return obj

    async def update(self, *key: *Ks, **changes: object) -> M:
        """Read a record, change it and replace it, again after a lost race; answer the new object.

        Args:
            key: The key's components.
            changes: The fields to change: a value, or a callable that takes the old one (``age=lambda n: n + 1``).

        Raises:
            NotFound: No record has this key.
            ValidationError: A field is unknown or belongs to the key, or a value is refused; nothing was written.
            TimedOut: Every race was lost until the time limit.
        """
        self._schema.check_changes(changes)
        bound, unit = self._where()
        return await self._session(unit).update(bound, bound.make_key(*key), changes)

    @overload
    async def delete(self, obj: M, /, *, force: bool = False) -> bool | None: ...
    @overload
    async def delete(self, *key: *Ks) -> bool | None: ...
    async def delete(self, *key: object, force: bool = False) -> bool | None:
        """Remove a record: by object, only if it is what was loaded; by key, whatever it is.

        Returns:
            Whether anything was there; ``None`` where the store does not tell.

        Raises:
            Conflict: The record is not what was loaded; nothing was removed.
        """
        bound, unit = self._where()
        session = self._session(unit)
        if len(key) == 1 and isinstance(key[0], self.model):
            obj = key[0]
            of = self._key_of(obj)
            expect = self._expect(bound, obj, of, force=force, if_version=None)
            if expect is ANYTHING and not force and not (unit and unit._joined.holds(bound, of, obj)):
                raise not_loaded(bound, of)
            return await session.delete(bound, obj, of, expect)
        return await session.delete_key(bound, bound.make_key(*key))

    async def expire(
        self,
        *key: *Ks,
        expires_in: timedelta | None | Keep = KEEP,
        expires_at: datetime | None | Keep = KEEP,
    ) -> None:
        """Change a record's deadline alone; ``None`` takes it away.

        Raises:
            NotFound: No record has this key.
            ValidationError: The deadline is not in the future, or none was given.
        """
        bound, unit = self._where()
        until = deadline(expires_in, expires_at, bound.now())
        if until is KEEP:
            raise ValidationError("say when it expires: expires_in=, expires_at=, or None for never")
        await self._session(unit).expire(bound, bound.make_key(*key), until)

    async def save_many(self, objs: Iterable[M] | AsyncIterable[M]) -> int:
        """Save any number of objects in bounded memory, batch by batch, and answer how many.

        Each batch is as few requests as the store allows, of independent writes; objects are judged as by
        :meth:`save`.

        Raises:
            BatchError: At the first batch in which a write failed; it tells what was done and what remains. The first
                error of that batch is its cause.
            BudgetExceeded: With a ``BatchError`` as its cause, if some batches were written before.
            Unsupported: Inside a unit of work.
        """
        bound, unit = self._where()
        if unit is not None:
            raise not_in_unit("save_many()")
        return await self._bulk(bound).save(objs)

    # --- slices ---

    def range(
        self,
        *partition: object,
        first: object = None,
        last: object = None,
        after: object = None,
        before: object = None,
        prefix: object = None,
        limit: int | None = None,
        reverse: bool = False,
        allow_costly: bool = False,
    ) -> Range[M]:
        """Answer a slice of one partition, in clustering order. Nothing is sent before it is awaited or iterated.

        Bounds take a value or a tuple; a tuple that is shorter than the clustering key bounds by its components. They
        speak of clustering order as declared, in which a descending field counts downwards.

        Args:
            partition: The values of the partition fields.
            first: The lower end, included.
            last: The upper end, included.
            after: The lower end, not included.
            before: The upper end, not included.
            prefix: How the first component begins (``"a"``), whole components (``("b",)``), or both
                (``("b", kv.starts("x"))``).
            limit: How many records at the most.
            reverse: Turn the output; the limit counts from the other end then.
            allow_costly: Read backwards even where the store has to read the whole slice for it.

        Raises:
            ValidationError: The bounds contradict each other or do not fit the key, or the limit is negative.
        """
        slice = make_slice(
            self._schema,
            partition,
            first=first,
            last=last,
            after=after,
            before=before,
            prefix=prefix,
            limit=limit,
            reverse=reverse,
        )
        return Range(self, slice, allow_costly=allow_costly)

    def scan(self, *, limit: int | None = None) -> Range[M]:
        """Answer all records of the table, of every partition; their order is the store's own.

        Raises:
            ValidationError: The limit is negative.
        """
        check_limit(limit)
        return Range(self, Slice(None, limit=limit))

    # --- changes ---

    def watch(self, *partition: object, prefix: object = None, position: str | None = None) -> Changes[M]:
        """Answer the changes of a partition, as they come. Nothing is sent before it is entered or iterated.

        ``async with User.objects.watch("red") as changes:`` has it in place when the block is entered, so that what
        is read inside has no gap to what is told; ``async for change in User.objects.watch("red"):`` does without.

        Args:
            partition: The values of the partition fields; or those of the whole key, for one record; or none, for the
                whole table.
            prefix: Which records of the partition, as in :meth:`range`.
            position: Where to go on: the ``position`` of an earlier change of the same watch.

        Raises:
            ValidationError: The values or the prefix do not fit the key.
        """
        if position is not None and not isinstance(position, str):
            raise ValidationError(f"a position is a text, from an earlier change, not {position!r}")
        return Changes(self, watched_slice(self._schema, partition, prefix), position)

    # --- inside ---

    def _key(self, key: object) -> Key:
        if isinstance(key, tuple) and not self._is_lone_tuple(key):
            return self._schema.make_key(*key)
        return self._schema.make_key(key)

    def _is_lone_tuple(self, key: tuple[object, ...]) -> bool:
        """Whether this tuple is the one component of a key, not its components."""
        fields = self._schema.partition + self._schema.clustering
        return len(fields) == 1 and fields[0].type.kind == "tuple" and not (key and isinstance(key[0], tuple))

    def _key_of(self, obj: M) -> Key:
        if not isinstance(obj, self.model):
            raise ValidationError(
                f"this repository keeps {self.model.__name__} objects, not {type(obj).__name__} ones",
                table=self._schema.name,
            )
        return self._schema.key_of(obj)

    def _expect(self, bound: Bound[M], obj: M, key: Key, *, force: bool, if_version: str | None) -> Expectation:
        if force and if_version is not None:
            raise ValidationError("force and if_version contradict each other: give one of them")
        if if_version is not None:
            return decode_version(if_version)
        return ANYTHING if force else expectation_of(bound, obj, key)
