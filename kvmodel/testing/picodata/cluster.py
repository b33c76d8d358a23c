"""An emulated cluster: nodes in front of one PostgreSQL, in the event loop of whoever starts it."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from types import TracebackType
from urllib.parse import quote

from kvmodel.testing.picodata.backend import Backend
from kvmodel.testing.picodata.node import Node
from kvmodel.testing.picodata.postgres import PostgresServer
from kvmodel.testing.picodata.session import table_rows
from kvmodel.testing.picodata.statement import Statement
from kvmodel.testing.picodata.tables import Catalogue, TableInfo
from kvmodel.testing.picodata.tokens import Refusal

__all__ = ["LocalPicodata"]

_SYSTEM = """
CREATE TABLE _pico_instance (raft_id bigint PRIMARY KEY, name text, uuid text, replicaset_name text,
    replicaset_uuid text, tier text, current_state json);
CREATE TABLE _pico_peer_address (raft_id bigint, address text, connection_type text);
CREATE TABLE _pico_replicaset (name text, uuid text, current_master_name text, tier text);
CREATE TABLE _pico_tier (name text PRIMARY KEY, bucket_count bigint);
CREATE TABLE _pico_table (id bigint, name text PRIMARY KEY, format json, distribution json, engine text);
CREATE TABLE _pico_index (table_id bigint, id bigint, name text, parts json);
INSERT INTO _pico_tier VALUES ('default', 3000);
INSERT INTO _pico_replicaset VALUES ('default_1', 'r1', 'node_0', 'default');
"""


class LocalPicodata:
    """A cluster of nodes on loopback; ``async with`` starts and ends it.

    Args:
        nodes: How many.
        version: Which version of Picodata to play.
        postgres: A running server to put a schema of one's own into; without it, one is started.
        user, password: Who may log in.
        tls: Makes the nodes insist on TLS.
        ports: Where the nodes listen; any free ports by default.

    Attributes:
        nodes: The nodes.
        catalogue: What tables there are.
        readable_catalogue: Whether users may read the tables that describe tables; it takes a grant.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        version: str = "26.1.3",
        postgres: PostgresServer | None = None,
        user: str = "kvmodel",
        password: str = "T0psecret",  # noqa: S107 - of nothing but tests
        tls: ssl.SSLContext | None = None,
        ports: tuple[int, ...] = (),
    ) -> None:
        self.nodes = [Node(self, number) for number in range(nodes)]
        self.version_text = version
        self.version = tuple(int(part) for part in version.split("-", maxsplit=1)[0].split("."))
        self.user = user
        self.password = password
        self.tls = tls
        self.catalogue = Catalogue()
        self.lock = asyncio.Lock()
        self.failed_logins = 0
        self.readable_catalogue = True
        self.schema = f"picodata_{secrets.token_hex(6)}"
        self._ports = ports or (0,) * nodes
        self._own = postgres is None
        self._postgres = postgres
        self._control: Backend | None = None
        self._idle: list[Backend] = []
        self._is_up = False

    async def __aenter__(self) -> LocalPicodata:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def postgres_port(self) -> int:
        """Where the server behind the nodes listens."""
        assert self._postgres is not None
        return self._postgres.port

    @property
    def url(self) -> str:
        """What to connect to."""
        hosts = ",".join(node.address for node in self.nodes)
        return f"picodata://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{hosts}"

    async def start(self) -> None:
        """Start the nodes, and what is behind them. Raises ``MissingPostgres``."""
        if self._postgres is None:
            self._postgres = PostgresServer()
            self._postgres.start()
        try:
            self._control = await Backend.connect(self.postgres_port, self.schema)
            await self._control.query(f'CREATE SCHEMA "{self.schema}"; {_SYSTEM}')
            for node, port in zip(self.nodes, self._ports, strict=True):
                await node.start(port)
            await self.publish()
            self._is_up = True
        except BaseException:
            await self.stop()
            raise

    async def borrow(self) -> Backend:
        """Answer a connection to the server behind the nodes: for every client one."""
        while self._idle:
            backend = self._idle.pop()
            try:
                await backend.query("DISCARD ALL")
            except (OSError, asyncio.IncompleteReadError):
                continue
            return backend
        return await Backend.connect(self.postgres_port, self.schema)

    def give_back(self, backend: Backend) -> None:
        """Keep a connection for the next client."""
        if backend.is_busy or not self._is_up:
            backend.close()
        else:
            self._idle.append(backend)

    async def stop(self) -> None:
        """End everything that was started. Stopping twice is allowed."""
        self._is_up = False
        for node in self.nodes:
            await node.stop()
        for backend in self._idle:
            backend.close()
        self._idle.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._own and self._postgres is not None:
            self._postgres.stop()
            self._postgres = None

    # --- topology -----------------------------------------------------------------------------------------------------

    async def publish(self) -> None:
        """Write what the nodes are into the discovery tables."""
        assert self._control is not None
        rows, addresses = [], []
        for node in self.nodes:
            state = json.dumps(["Online" if node.online else "Offline", 1])
            rows.append(f"({node.number}, '{node.name}', 'u{node.number}', 'default_1', 'r1', 'default', '{state}')")
            addresses.append(f"({node.number}, '{node.address}', 'pgproto')")
        await self._control.query(
            "TRUNCATE _pico_instance, _pico_peer_address;"
            f"INSERT INTO _pico_instance VALUES {', '.join(rows)};"
            f"INSERT INTO _pico_peer_address VALUES {', '.join(addresses)}"
        )

    async def take_down(self, number: int) -> None:
        """Stop a node, and mark it offline."""
        node = self.nodes[number]
        node.online = False
        await node.stop()
        await self.publish()

    async def bring_up(self, number: int) -> None:
        """Start a node again, on its port."""
        node = self.nodes[number]
        node.online = True
        await node.start()
        await self.publish()

    # --- tables -------------------------------------------------------------------------------------------------------

    async def change(self, backend: Backend, statement: Statement) -> None:
        """Carry out a change of the schema. Raises :class:`Refusal`."""
        if statement.kind == "create table":
            await self._create(backend, statement)
        elif statement.kind == "drop table":
            await self._drop(backend, statement)
        elif statement.kind == "alter table":
            await self._alter(backend, statement)
        elif statement.kind == "create index":
            await self._index(backend, statement)
        else:
            await backend.query(statement.sql)

    async def _create(self, backend: Backend, statement: Statement) -> None:
        table = statement.definition
        assert table is not None
        if table.name in self.catalogue.tables:
            if statement.if_not_exists:
                return
            raise Refusal("XX000", f"table {table.name} already exists")
        if self.version < (26, 2) and any(descending for _, descending in table.key):
            raise Refusal("XX000", "sbroad: rule parsing error: expected ), found DESC")
        if self.version < (26, 1) and "bucket_id" in table.key_names:
            raise Refusal("XX000", 'sbroad: primary key column "bucket_id" not found')
        if table.tier not in ("default", "cold"):
            raise Refusal("XX000", f'specified tier "{table.tier}" doesn\'t exist')
        await backend.query(statement.sql)
        for name in table.key_names:
            column = table.column(name)
            if column is not None:
                column.nullable = False
        self.catalogue.tables[table.name] = table
        self.catalogue.touch(table)
        await self._record(backend, table)

    async def _record(self, backend: Backend, table: TableInfo) -> None:
        form, distribution, parts = table_rows(table)
        await backend.query(
            f"DELETE FROM _pico_table WHERE id = {table.id}; DELETE FROM _pico_index WHERE table_id = {table.id};"
            f"INSERT INTO _pico_table"
            f" VALUES ({table.id}, '{table.name}', '{form}', '{distribution}', '{table.engine}');"
            f"INSERT INTO _pico_index VALUES ({table.id}, 0, '{table.name}_pkey', '{parts}')"
        )

    async def _drop(self, backend: Backend, statement: Statement) -> None:
        table = self.catalogue.tables.get(statement.table)
        if table is None and not statement.if_exists:
            self.catalogue.find(statement.table)
        await backend.query(statement.sql)
        if table is not None:
            self.catalogue.touch(table)
            del self.catalogue.tables[table.name]
            await backend.query(
                f"DELETE FROM _pico_table WHERE id = {table.id}; DELETE FROM _pico_index WHERE table_id = {table.id}"
            )

    async def _alter(self, backend: Backend, statement: Statement) -> None:
        table = self.catalogue.find(statement.table)
        assert statement.definition is not None
        (column,) = statement.definition.columns
        if table.column(column.name) is not None:
            if statement.if_not_exists:
                return
            raise Refusal("XX000", f'column "{column.name}" already exists')
        await backend.query(statement.sql)
        table.columns.append(column)
        self.catalogue.touch(table)
        await self._record(backend, table)

    async def _index(self, backend: Backend, statement: Statement) -> None:
        table = self.catalogue.find(statement.table)
        sharding = table.sharding or []
        if statement.unique and statement.columns[: len(sharding)] != sharding:
            raise Refusal("XX000", "sbroad: a unique index must start with all sharding columns")
        await backend.query(statement.sql)
        self.catalogue.touch(table)
