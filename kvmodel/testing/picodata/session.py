"""What one client has prepared, and how it is run: each in a real transaction, one of the whole cluster at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from kvmodel.testing.picodata import wire
from kvmodel.testing.picodata.backend import Backend
from kvmodel.testing.picodata.grammar import parse
from kvmodel.testing.picodata.statement import Statement
from kvmodel.testing.picodata.tables import TableInfo
from kvmodel.testing.picodata.tokens import Refusal
from kvmodel.testing.picodata.wire import Bind

if TYPE_CHECKING:
    from kvmodel.testing.picodata.node import Node

__all__ = ["Prepared", "Session"]

_KNOWN_TYPES: Final = frozenset((16, 20, 25, 701, 1184, 1700, 2950))
_NARROW: Final = {21: 20, 23: 20, 1043: 25, 700: 701, 705: 25}
_ROWS: Final = 5000
_OPCODES: Final = 45000
_SCHEMA: Final = frozenset(("create table", "drop table", "alter table", "create index", "drop index", "truncate"))


@attrs.define(eq=False)
class Prepared:
    """A prepared statement.

    Attributes:
        text: As the client wrote it.
        names: What PostgreSQL calls it, or the statements of the block.
        oids: The types of its parameters.
        description: Of its rows, with all columns as text; ``None`` where no rows come back.
        numbers: Of its tables' schemas, when it was prepared.
    """

    text: str
    statement: Statement
    names: list[str] = attrs.field(factory=list)
    oids: list[int] = attrs.field(factory=list)
    description: bytes | None = None
    numbers: dict[str, int] = attrs.field(factory=dict)


class Session:
    """One client's statements.

    Attributes:
        backend: Its connection to PostgreSQL.
        portals: What is bound, until the next Sync.
    """

    def __init__(self, node: Node) -> None:
        self.backend: Backend | None = None
        self.portals: dict[str, tuple[Prepared, Bind]] = {}
        self._cluster = node.cluster
        self._prepared: dict[str, Prepared] = {}
        self._limits = {"sql_motion_row_max": _ROWS, "sql_vdbe_opcode_max": _OPCODES}
        self._invalidates = False
        self._count = 0

    def read_options(self, text: str) -> None:
        """Read the startup options: ``name=value,name=value``. Raises :class:`Refusal`."""
        for entry in filter(None, text.split(",")):
            name, equals, value = entry.partition("=")
            if not equals:
                raise Refusal("08P01", "options are name=value,name=value")
            if name in self._limits:
                self._limits[name] = int(value)
            if name == "pico_stmt_invalidation":
                self._invalidates = value.strip().lower() == "true"

    # --- preparing ----------------------------------------------------------------------------------------------------

    async def parse(self, name: str, sql: str, oids: list[int]) -> None:
        """Keep a statement under a name."""
        if name and name in self._prepared:
            raise Refusal("42P05", f'prepared statement "{name}" already exists')
        for oid in oids:
            if oid and _NARROW.get(oid, oid) not in _KNOWN_TYPES:
                raise Refusal("0A000", f"parameters of type {oid} are not supported")
        self._prepared[name] = await self.prepare(name, sql, oids)

    async def prepare(self, name: str, sql: str, oids: list[int]) -> Prepared:
        """Recognise a statement, and prepare what PostgreSQL has to run."""
        statement = parse(sql)
        prepared = Prepared(sql, statement)
        if _own_answer(statement) is not None:
            prepared.description = wire.description([("version", 25)])[5:]
            return prepared
        if statement.kind == "do":
            await self._prepare_block(prepared)
        elif statement.kind in ("select", "insert", "update", "delete"):
            self._note(prepared, statement)
            await self._prepare_one(prepared, statement)
        return prepared

    def _note(self, prepared: Prepared, statement: Statement) -> None:
        catalogue = self._cluster.catalogue
        for table in statement.tables:
            if not table.startswith("_pico_"):
                prepared.numbers[table] = catalogue.find(table).number
        if statement.kind == "update":
            for column in catalogue.find(statement.table).key_names:
                if column in statement.columns:
                    raise Refusal("XX000", f'sbroad: primary key column "{column}" cannot be updated')
        hidden = statement.tables & {"_pico_table", "_pico_index"}
        if hidden and not self._cluster.readable_catalogue:
            raise Refusal("XX000", f"sbroad: Read access to table {hidden.pop()} is denied for user")
        if statement.table.startswith("_pico_") and statement.kind != "select":
            raise Refusal("XX000", f"sbroad: Write access to table {statement.table} is denied")

    async def _prepare_one(self, prepared: Prepared, statement: Statement) -> tuple[list[int], bytes | None]:
        assert self.backend is not None
        self._count += 1
        name = f"s{self._count}"
        answers = await self.backend.run(
            wire.parse(name, self._rewritten(statement)), wire.message(b"D", b"S" + wire.text_of(name))
        )
        oids: list[int] = []
        description = None
        for answer in answers:
            if answer.type == b"t":
                oids = [_NARROW.get(oid, oid) for oid in wire.read_oids(answer.payload)]
            elif answer.type == b"T":
                description = wire.clean_description(answer.payload)
        for oid in oids:
            if oid not in _KNOWN_TYPES:
                raise Refusal("0A000", f"parameters of type {oid} are not supported")
        prepared.names.append(name)
        prepared.oids, prepared.description = oids, description
        return oids, description

    def _rewritten(self, statement: Statement) -> str:
        """Answer what PostgreSQL is told."""
        if statement.kind != "insert" or statement.on_conflict == "fail":
            return statement.sql
        if statement.on_conflict == "nothing":
            return f"{statement.sql} ON CONFLICT DO NOTHING"
        table = self._cluster.catalogue.find(statement.table)
        keys = table.key_names
        rest = [column.name for column in table.columns if column.name not in keys]
        given = frozenset(statement.columns)
        target = ", ".join(f'"{name}"' for name in keys)
        if not rest:
            return f"{statement.sql} ON CONFLICT ({target}) DO NOTHING"
        # The whole row is replaced: what is not given becomes NULL.
        settings = ", ".join(f'"{name}" = EXCLUDED."{name}"' if name in given else f'"{name}" = NULL' for name in rest)
        return f"{statement.sql} ON CONFLICT ({target}) DO UPDATE SET {settings}"

    async def _prepare_block(self, prepared: Prepared) -> None:
        version = self._cluster.version
        statement = prepared.statement
        if version < (26, 1, 1):
            raise Refusal("XX000", "sbroad: rule parsing error: expected a statement, found DO")
        kinds = {part.kind for part in statement.parts}
        if version < (26, 1, 3) and kinds & {"insert", "delete"}:
            raise Refusal("XX000", "sbroad: only UPDATE is supported in a block")
        types: dict[int, int] = {}
        shapes: set[tuple[int, ...]] = set()
        description = None
        for part in statement.parts:
            self._note(prepared, part)
            self._check_bucket(part)
            local, renumbered = _renumbered(part)
            oids, shape = await self._prepare_one(prepared, renumbered)
            for number, oid in zip(local, oids, strict=True):
                if types.setdefault(number, oid) != oid:
                    raise Refusal("XX000", f"sbroad: parameter ${number} has two types")
            if shape is not None:
                shapes.add(tuple(wire.types_of(shape)))
                description = description or shape
        if len(shapes) > 1:
            raise Refusal("XX000", "sbroad: all RETURN QUERY of a block have one shape")
        engines = {self._cluster.catalogue.find(name).engine for name in statement.tables}
        if len(engines) > 1:
            raise Refusal("XX000", "sbroad: a block touches one engine only")
        prepared.oids = [types[number] for number in sorted(types)]
        prepared.description = description
        if description is None and version >= (26, 2):
            prepared.description = b"\0\0"

    def _check_bucket(self, part: Statement) -> None:
        """Refuse a statement of a block that does not fix its bucket."""
        table = self._cluster.catalogue.find(part.table)
        if table.sharding is None:
            raise Refusal("XX000", "sbroad: a block cannot change a global table")
        for column in table.sharding:
            if column not in part.fixed:
                raise Refusal(
                    "XX000", "sbroad: a block has to touch a single bucket, this statement touches all buckets"
                )

    # --- binding ------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Prepared:
        """Answer a prepared statement."""
        prepared = self._prepared.get(name)
        if prepared is None:
            raise Refusal("XX000", f'prepared statement "{name}" does not exist')
        return prepared

    def bind(self, bound: Bind) -> None:
        """Bind values to a statement."""
        prepared = self.find(bound.statement)
        if len(bound.values) != len(prepared.oids):
            raise Refusal("08P01", f"expected {len(prepared.oids)} parameters, got {len(bound.values)}")
        catalogue = self._cluster.catalogue
        for name, number in prepared.numbers.items():
            table = catalogue.tables.get(name)
            if self._invalidates and (table is None or table.number != number):
                raise Refusal("42999", "prepared statement is invalidated by a change of the schema")
        if prepared.statement.kind == "do":
            self._check_one_bucket(prepared.statement, bound)
        self.portals[bound.portal] = (prepared, bound)

    def _check_one_bucket(self, statement: Statement, bound: Bind) -> None:
        """Refuse a block whose statements touch different buckets."""
        buckets = set()
        for part in statement.parts:
            table = self._cluster.catalogue.find(part.table)
            values = []
            for column in table.sharding or ():
                operand = part.fixed[column]
                value: object = operand
                if operand.startswith("$"):
                    place = int(operand[1:]) - 1
                    value = (bound.format_of(place), bound.values[place])
                info = table.column(column)
                values.append((info.type if info else "", value))
            buckets.add((table.tier, tuple(values)))
        if len(buckets) > 1:
            raise Refusal("XX000", "sbroad: the statements of a block touch different buckets")

    def describe(self, kind: bytes, name: str) -> bytes:
        """Answer the description of a statement or a portal."""
        if kind == b"S":
            prepared = self.find(name)
            head = wire.parameter_description(prepared.oids)
            results: tuple[int, ...] = ()
        else:
            prepared, bound = self.portal(name)
            head, results = b"", bound.results
        if prepared.description is None:
            return head + wire.message(b"n")
        return head + wire.message(b"T", wire.clean_description(prepared.description, results))

    def portal(self, name: str) -> tuple[Prepared, Bind]:
        """Answer what is bound."""
        if name not in self.portals:
            raise Refusal("XX000", f'portal "{name}" does not exist')
        return self.portals[name]

    def close(self, kind: bytes, name: str) -> None:
        """Forget a statement or a portal."""
        if kind == b"S":
            self._prepared.pop(name, None)
        else:
            self.portals.pop(name, None)

    # --- running ------------------------------------------------------------------------------------------------------

    async def run(self, prepared: Prepared, bound: Bind, *, partial: bool = False) -> tuple[list[bytes], str]:
        """Run a statement; answer its rows, as messages, and its tag. Raises :class:`Refusal`."""
        assert self.backend is not None
        statement = prepared.statement
        own = _own_answer(statement)
        if own == "version":
            return [wire.row([self._cluster.version_text.encode()])], "SELECT 1"
        async with self._cluster.lock:
            if statement.kind in ("nothing", "deallocate"):
                return [], statement.tag
            if statement.kind in _SCHEMA:
                await self._cluster.change(self.backend, statement)
                return [], statement.tag
            if statement.kind == "do":
                rows, tag = await self._run_block(prepared, bound)
            else:
                rows, tag = await self._run_one(self.backend, prepared, bound, partial)
        self._check_limits(statement, rows)
        return rows, tag

    async def _run_one(
        self, backend: Backend, prepared: Prepared, bound: Bind, partial: bool
    ) -> tuple[list[bytes], str]:
        statement = prepared.statement
        self._check_rows(statement, len(statement.rows))
        if partial:
            await self._run_partly(backend, prepared, bound)
        answers = await backend.run(
            wire.bind(bound._replace(portal="", statement=prepared.names[0])),
            wire.message(b"E", b"\0\0\0\0\0"),
        )
        return _result(answers)

    async def _run_partly(self, backend: Backend, prepared: Prepared, bound: Bind) -> None:
        """Write the rows of the first bucket, and fail: what other nodes did stays undone."""
        statement = prepared.statement
        table = self._cluster.catalogue.find(statement.table)
        places = [statement.columns.index(name) for name in table.sharding or ()]

        def bucket(operands: list[str | None]) -> list[object]:
            given = [operands[place] or "" for place in places]
            return [bound.values[int(one[1:]) - 1] if one.startswith("$") else one for one in given]

        first = bucket(statement.rows[0][0])
        kept = [row for row in statement.rows if bucket(row[0]) == first]
        head = statement.sql.split(" VALUES ")[0]
        part = attrs.evolve(statement, rows=kept, sql=f"{head} VALUES {', '.join(sql for _, sql in kept)}")
        await backend.run(
            wire.parse("", self._rewritten(part), prepared.oids),
            wire.bind(bound._replace(portal="", statement="")),
            wire.message(b"E", b"\0\0\0\0\0"),
        )
        raise Refusal("XX000", "sbroad: failed to dispatch to a part of the cluster")

    async def _run_block(self, prepared: Prepared, bound: Bind) -> tuple[list[bytes], str]:
        backend = self.backend
        assert backend is not None
        found: list[bytes] = []
        changed = 0
        await backend.query("BEGIN")
        try:
            for name, part in zip(prepared.names, prepared.statement.parts, strict=True):
                local = sorted(set(part.parameters))
                given = Bind(
                    "",
                    name,
                    tuple(bound.format_of(number - 1) for number in local),
                    tuple(bound.values[number - 1] for number in local),
                    bound.results if part.returns else (),
                )
                rows, tag = _result(await backend.run(wire.bind(given), wire.message(b"E", b"\0\0\0\0\0")))
                found += rows
                changed += 0 if part.returns else int(tag.split()[-1])
        except Refusal:
            await backend.query("ROLLBACK")
            raise
        await backend.query("COMMIT")
        return found, f"DO {len(found) if prepared.statement.returns else changed}"

    def _check_limits(self, statement: Statement, rows: list[bytes]) -> None:
        self._check_rows(statement, len(rows))
        # An estimate: what a row costs depends on the plan.
        columns = int.from_bytes(rows[0][5:7], "big") if rows else 0
        limit = statement.options.get("sql_vdbe_opcode_max", self._limits["sql_vdbe_opcode_max"])
        if limit and 10 + len(rows) * (columns + 6) > limit:
            raise Refusal("XX000", f"Reached a limit on max executed vdbe opcodes. Limit: {limit}")

    def _check_rows(self, statement: Statement, count: int) -> None:
        limit = statement.options.get("sql_motion_row_max", self._limits["sql_motion_row_max"])
        if limit and count > limit:
            raise Refusal("XX000", f"Exceeded maximum number of rows ({limit}) in virtual table: {count}")


def _own_answer(statement: Statement) -> str | None:
    """Answer what the emulator answers itself."""
    return "version" if statement.kind == "select" and statement.sql == "SELECT version()" else None


def _result(answers: list[wire.Message]) -> tuple[list[bytes], str]:
    rows = [wire.message(answer.type, answer.payload) for answer in answers if answer.type == b"D"]
    tags = [answer.payload[:-1].decode() for answer in answers if answer.type == b"C"]
    return rows, tags[-1] if tags else ""


def _renumbered(part: Statement) -> tuple[list[int], Statement]:
    """Answer the numbers of a part's parameters in the block, and the part with numbers of its own."""
    local = sorted(set(part.parameters))
    places = {number: place + 1 for place, number in enumerate(local)}
    return local, attrs.evolve(part, sql=_replace_numbers(part.sql, places))


def _replace_numbers(sql: str, places: dict[int, int]) -> str:
    import re

    pieces = re.split(r"('(?:[^']|'')*')", sql)
    for at in range(0, len(pieces), 2):
        pieces[at] = re.sub(r"\$(\d+)", lambda found: f"${places[int(found[1])]}", pieces[at])
    return "".join(pieces)


def table_rows(table: TableInfo) -> tuple[str, str, str]:
    """Answer a table's format, its distribution and the parts of its key, as JSON."""
    import json

    form = [
        {"name": column.name, "field_type": column.field_type, "is_nullable": column.nullable}
        for column in table.columns
    ]
    form.insert(1, {"name": "bucket_id", "field_type": "unsigned", "is_nullable": False})
    distribution: object = "Global"
    if table.sharding is not None:
        distribution = {"ShardedImplicitly": [table.sharding, "murmur3", table.tier]}
    parts = []
    for name, descending in table.key:
        column = table.column(name)
        part: list[object] = [name, column.field_type if column else "unsigned", None, False, None]
        parts.append([*part, "desc"] if descending else part)
    return json.dumps(form), json.dumps(distribution), json.dumps(parts)
