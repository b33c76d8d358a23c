"""Two mappers on SQLite: the async ORM of SQLAlchemy 2 on aiosqlite, and peewee.

Both keep the file in write-ahead mode with ``synchronous=FULL``: a commit that returned is on disk, as on the other
sides, and costs one sync, the least that SQLite can do for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peewee
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.floor import BATCH, batches
from benchmarks.models import fields
from benchmarks.peers_sides import RANGE, Key, Pair, Side

# --- SQLAlchemy ---


class Base(DeclarativeBase):
    """The tables of SQLAlchemy's side."""


class AlchemyUser(Base):
    """The same fields as :class:`benchmarks.models.User`."""

    __tablename__ = "users"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy declares what it is

    team: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    age: Mapped[int] = mapped_column(default=0)
    email: Mapped[str | None] = mapped_column(default=None)


def _make_durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


class Alchemy:
    """SQLAlchemy, with a session for every piece of work, as in a web server's handlers.

    There is one connection: SQLite has one writer, and several that wait for its lock are slower.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._session = async_sessionmaker(engine, expire_on_commit=False)

    @classmethod
    async def open(cls, folder: Path) -> Side:
        """Connect, and make the table."""
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{folder / 'alchemy.db'}", pool_size=1, max_overflow=0, pool_timeout=300
        )
        event.listen(engine.sync_engine, "connect", _make_durable)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        return cls(engine)

    async def fill(self, numbers: range) -> None:
        for batch in batches(numbers, BATCH):
            async with self._session.begin() as session:
                session.add_all(AlchemyUser(**_named(number)) for number in batch)

    async def get_each(self, keys: Sequence[Key]) -> None:
        for key in keys:
            async with self._session() as session:
                await _find(session, key)

    async def read_ranges(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            wanted = (
                select(AlchemyUser)
                .where(AlchemyUser.team == team, AlchemyUser.name >= name)
                .order_by(AlchemyUser.name)
                .limit(RANGE)
            )
            async with self._session() as session:
                found = (await session.scalars(wanted)).all()
            assert len(found) == RANGE

    async def update_each(self, keys: Sequence[Key]) -> None:
        for key in keys:
            await self._update(key)

    async def _update(self, key: Key) -> None:
        async with self._session.begin() as session:
            (await _find(session, key)).age += 1

    async def transfer_each(self, pairs: Sequence[Pair]) -> None:
        for giver, taker in pairs:
            async with self._session.begin() as session:
                (await _find(session, giver)).age -= 1
                (await _find(session, taker)).age += 1

    async def update_at_once(self, keys: Sequence[Key]) -> None:
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(self._update(key))

    async def ages(self, keys: Sequence[Key]) -> list[int]:
        async with self._session() as session:
            return [(await _find(session, key)).age for key in keys]

    async def close(self) -> None:
        await self._engine.dispose()


class AlchemyOneSession(Alchemy):
    """SQLAlchemy as it is fastest at single reads: one session for all of them, emptied after each."""

    async def get_each(self, keys: Sequence[Key]) -> None:
        async with self._session() as session:
            for key in keys:
                await _find(session, key)
                session.expunge_all()


async def _find(session: AsyncSession, key: Key) -> AlchemyUser:
    user = await session.get(AlchemyUser, key)
    if user is None:
        raise LookupError(key)
    return user


def _named(number: int) -> dict[str, Any]:
    return dict(zip(("team", "name", "age", "email"), fields(number), strict=True))


# --- peewee ---

_peewee = peewee.SqliteDatabase(None)


class PeeweeUser(peewee.Model):
    """The same fields once more."""

    team = peewee.TextField()
    name = peewee.TextField()
    age = peewee.IntegerField(default=0)
    email = peewee.TextField(null=True)

    class Meta:
        """Where it is kept."""

        database = _peewee
        table_name = "users"
        primary_key = peewee.CompositeKey("team", "name")
        without_rowid = True


class Peewee:
    """peewee, which is not async: every call holds up the event loop, the disk syncs too."""

    @classmethod
    async def open(cls, folder: Path) -> Side:
        """Connect, and make the table."""
        _peewee.init(str(folder / "peewee.db"), pragmas={"journal_mode": "wal", "synchronous": "full"})
        _peewee.connect()
        _peewee.create_tables([PeeweeUser])
        return cls()

    async def fill(self, numbers: range) -> None:
        for batch in batches(numbers, BATCH):
            with _peewee.atomic("IMMEDIATE"):
                PeeweeUser.bulk_create([PeeweeUser(**_named(number)) for number in batch])

    async def get_each(self, keys: Sequence[Key]) -> None:
        for key in keys:
            PeeweeUser.get_by_id(key)

    async def read_ranges(self, keys: Sequence[Key]) -> None:
        for team, name in keys:
            wanted = (
                PeeweeUser.select()
                .where((PeeweeUser.team == team) & (PeeweeUser.name >= name))
                .order_by(PeeweeUser.name)
                .limit(RANGE)
            )
            found = list(wanted)
            assert len(found) == RANGE

    async def update_each(self, keys: Sequence[Key]) -> None:
        for key in keys:
            await self._update(key)

    async def _update(self, key: Key) -> None:
        with _peewee.atomic("IMMEDIATE"):
            _add_years(key, 1)

    async def transfer_each(self, pairs: Sequence[Pair]) -> None:
        for giver, taker in pairs:
            with _peewee.atomic("IMMEDIATE"):
                _add_years(giver, -1)
                _add_years(taker, 1)

    async def update_at_once(self, keys: Sequence[Key]) -> None:
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(self._update(key))

    async def ages(self, keys: Sequence[Key]) -> list[int]:
        return [PeeweeUser.get_by_id(key).age for key in keys]

    async def close(self) -> None:
        _peewee.close()


def _add_years(key: Key, years: int) -> None:
    user = PeeweeUser.get_by_id(key)
    user.age += years
    user.save()
