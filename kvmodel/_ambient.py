"""What surrounds a call without being passed: the unit of work it runs in, the open databases, the time limit.

The unit of work and the time limit are context variables, so that tasks inherit them. The open databases are one list
for the process: tasks that were started before ``connect`` must see the same answer as those started after it.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary, WeakSet

from kvmodel.errors import NoDatabase

if TYPE_CHECKING:
    from kvmodel.database import Database
    from kvmodel.schema import Schema
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["current_unit", "open_databases", "time_limit", "unit_variable"]

unit_variable: ContextVar[UnitOfWork | None] = ContextVar("kvmodel_unit_of_work", default=None)
current_unit = unit_variable.get
time_limit: ContextVar[float | None] = ContextVar("kvmodel_time_limit", default=None)


class Near(Protocol):
    """Keeps something that is derived from the open databases."""

    def forget(self) -> None:
        """Derive it anew at the next use."""
        ...


class OpenDatabases:
    """The databases that are open in this process."""

    def __init__(self) -> None:
        self._databases: list[Database] = []
        self._own: WeakKeyDictionary[Schema, Database] = WeakKeyDictionary()
        self._near: WeakSet[Near] = WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def add(self, database: Database) -> None:
        self._databases.append(database)
        self.changed()

    def discard(self, database: Database) -> None:
        if database in self._databases:
            self._databases.remove(database)
        self.changed()

    def bind(self, schema: Schema, database: Database) -> None:
        """Make a database a model's own."""
        self._own[schema] = database
        self.changed()

    def bound(self, schema: Schema) -> Database | None:
        """Answer the model's own database, if it has one."""
        return self._own.get(schema)

    def changed(self) -> None:
        """Invalidate what was derived: a database was opened or closed, or a model bound."""
        for near in self._near:
            near.forget()
        self._near.clear()

    def watch(self, near: Near) -> None:
        """Have something that is derived from the open databases forgotten at their next change."""
        self._near.add(near)

    def only(self) -> Database:
        """Answer the one open database. Raises ``NoDatabase`` where there is none, or a choice."""
        if len(self._databases) == 1:
            return self._databases[0]
        if self._databases:
            raise NoDatabase(
                "several databases are open: choose one with objects.using(db), or once for a model with db.bind(Model)"
            )
        raise NoDatabase(
            "no database is open: write `async with kv.connect(url):` around this, or `db = await kv.connect(url)` "
            "before it"
        )

    def _after_fork(self) -> None:
        for database in self._databases:
            database._disown("this process was forked from the one that opened the database: connect again in here")
        self._databases.clear()
        self.changed()


open_databases = OpenDatabases()
