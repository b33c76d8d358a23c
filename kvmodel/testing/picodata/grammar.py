"""The statements of Picodata that the emulator knows: recognised, and written again for PostgreSQL.

Recognised are those of the protocol's description, clause by clause and in their fixed order; everything else is a
syntax error, as it is there. :func:`parse` needs no tables, so that it also serves to check the text of statements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from kvmodel.testing.picodata.definitions import alter, create, drop, ignored, truncate
from kvmodel.testing.picodata.expressions import Expr, Words
from kvmodel.testing.picodata.statement import Statement
from kvmodel.testing.picodata.tokens import Refusal, syntax_error

__all__ = ["parse"]

_LIMITS: Final = ("sql_motion_row_max", "sql_vdbe_opcode_max", "read_preference")


def parse(text: str) -> Statement:
    """Recognise a statement. Raises :class:`Refusal`."""
    words = Words(text)
    first = words.here.value if words.here.kind == "name" else ""
    reader = _READERS.get(first)
    if reader is None:
        raise words.unexpected("a statement")
    words.next()
    statement = reader(words)
    if statement.kind not in ("do", "nothing"):
        statement.options = _options(words)
    words.take(";")
    if words.here.kind != "end":
        raise words.unexpected("the end of the statement")
    if statement.kind != "do":
        statement.parameters = words.parameters
    _check_numbers(statement.parameters)
    return statement


def _check_numbers(numbers: Sequence[int]) -> None:
    if numbers and set(numbers) != set(range(1, max(numbers) + 1)):
        raise syntax_error("parameters are numbered without gaps")


def _options(words: Words) -> dict[str, int]:
    """Read a trailing OPTION clause."""
    options: dict[str, int] = {}
    if not words.take("option"):
        return options
    words.want("(")
    while True:
        name = words.name()
        words.want("=")
        if name not in _LIMITS:
            raise syntax_error(f"unknown option {name}")
        if name == "read_preference":
            words.name()
        else:
            options[name] = words.integer()
        if not words.take(","):
            break
    words.want(")")
    return options


# --- reading ----------------------------------------------------------------------------------------------------------


def _select(words: Words) -> Statement:
    statement = Statement(kind="select", returns=True)
    sql = _query(words, statement)
    while words.at("union") or words.at("except"):
        word = words.next().text.upper()
        if word == "UNION" and words.take("all"):
            word = "UNION ALL"
        words.want("select")
        sql += f" {word} {_query(words, statement)}"
    statement.sql = sql + _order(words) + _limit(words)
    return statement


def _query(words: Words, statement: Statement) -> str:
    sql = "SELECT "
    if words.take("distinct"):
        sql += "DISTINCT "
    sql += ", ".join(_list(words, _projection))
    if words.take("from"):
        sql += " FROM " + _source(words, statement)
        while words.at("inner") or words.at("left") or words.at("join"):
            kind = "" if words.at("join") else words.next().text.upper() + " "
            words.take("outer")
            words.want("join")
            source = _source(words, statement)
            words.want("on")
            sql += f" {kind}JOIN {source} ON {words.expression().sql}"
    if words.take("where"):
        where = words.expression()
        statement.fixed = where.fixed
        sql += f" WHERE {where.sql}"
    if words.take("group", "by"):
        sql += " GROUP BY " + ", ".join(_list(words, lambda words: words.expression().sql))
    if words.take("having"):
        sql += f" HAVING {words.expression().sql}"
    return sql


def _projection(words: Words) -> str:
    if words.take("*"):
        return "*"
    item = words.expression()
    sql = f"{item.sql}::bigint" if item.is_integer else item.sql
    if words.take("as"):
        return f'{sql} AS "{words.name()}"'
    return sql


def _source(words: Words, statement: Statement) -> str:
    if words.at("("):
        raise syntax_error("a subquery is not known here")
    name = words.table()
    statement.table = statement.table or name
    statement.tables.add(name)
    sql = f'"{name}"'
    if words.take("indexed"):
        words.want("by")
        words.name()
    if words.take("as") or (words.here.kind == "quoted"):
        return f'{sql} AS "{words.name()}"'
    ahead = words.here
    if ahead.kind == "name" and ahead.value not in _CLAUSES:
        return f'{sql} AS "{words.name()}"'
    return sql


_CLAUSES: Final = frozenset(
    (
        *("where", "group", "having", "order", "limit", "inner", "left", "join", "on", "union", "except", "option"),
        *("set", "from", "offset", "for", "fetch", "returning", "intersect", "cross", "right", "full", "natural"),
    )
)


def _order(words: Words) -> str:
    if not words.take("order", "by"):
        return ""
    return " ORDER BY " + ", ".join(_list(words, _sort))


def _sort(words: Words) -> str:
    sql = words.expression().sql
    descending = words.take("desc")
    if not descending:
        words.take("asc")
    # NULL is the smallest value there, and the largest in PostgreSQL.
    nulls = "LAST" if descending else "FIRST"
    if words.take("nulls"):
        nulls = "FIRST" if words.take("first") else "LAST"
        if nulls == "LAST":
            words.want("last")
    return f"{sql}{' DESC' if descending else ''} NULLS {nulls}"


def _limit(words: Words) -> str:
    return f" LIMIT {words.integer()}" if words.take("limit") else ""


def _list(words: Words, read: Callable[[Words], str]) -> list[str]:
    found = [read(words)]
    while words.take(","):
        found.append(read(words))
    return found


# --- changing ---------------------------------------------------------------------------------------------------------


def _insert(words: Words) -> Statement:
    words.want("into")
    statement = Statement(kind="insert", table=words.table())
    statement.tables = {statement.table}
    statement.columns = words.names()
    columns = ", ".join(f'"{name}"' for name in statement.columns)
    statement.sql = f'INSERT INTO "{statement.table}" ({columns}) '
    if words.take("values"):
        statement.rows = [_row(words)]
        while words.take(","):
            statement.rows.append(_row(words))
        if any(len(operands) != len(statement.columns) for operands, _ in statement.rows):
            raise Refusal("XX000", "sbroad: a row has another number of values than there are columns")
        statement.sql += "VALUES " + ", ".join(sql for _, sql in statement.rows)
        for place, name in enumerate(statement.columns):
            given = {operands[place] for operands, _ in statement.rows}
            if len(given) == 1 and (one := given.pop()) is not None:
                statement.fixed[name] = one
    else:
        words.want("select")
        inner = _select(words)
        statement.tables |= inner.tables
        statement.sql += inner.sql
    if words.take("on"):
        words.want("conflict")
        if words.at("("):
            raise syntax_error("ON CONFLICT takes no columns outside of a block")
        words.want("do")
        statement.on_conflict = words.next().value
        if statement.on_conflict not in ("fail", "nothing", "replace"):
            raise syntax_error("expected DO FAIL, DO NOTHING or DO REPLACE")
    return statement


def _row(words: Words) -> tuple[list[str | None], str]:
    words.want("(")
    items: list[Expr] = [words.expression()]
    while words.take(","):
        items.append(words.expression())
    words.want(")")
    return [item.operand for item in items], f"({', '.join(item.sql for item in items)})"


def _update(words: Words) -> Statement:
    statement = Statement(kind="update", table=words.table())
    statement.tables = {statement.table}
    words.want("set")
    settings = []
    while True:
        name = words.name()
        words.want("=")
        statement.columns.append(name)
        settings.append(f'"{name}" = {words.expression().sql}')
        if not words.take(","):
            break
    statement.sql = f'UPDATE "{statement.table}" SET {", ".join(settings)}'
    if words.take("from"):
        statement.sql += " FROM " + _source(words, statement)
    statement.sql += _where(words, statement)
    return statement


def _delete(words: Words) -> Statement:
    words.want("from")
    statement = Statement(kind="delete", table=words.table())
    statement.tables = {statement.table}
    statement.sql = f'DELETE FROM "{statement.table}"' + _where(words, statement)
    return statement


def _where(words: Words, statement: Statement) -> str:
    if not words.take("where"):
        return ""
    where = words.expression()
    statement.fixed = where.fixed
    return f" WHERE {where.sql}"


# --- blocks -----------------------------------------------------------------------------------------------------------


def _block(words: Words) -> Statement:
    token = words.next()
    if token.kind != "body":
        raise syntax_error("expected $$ behind DO")
    inner = Words(token.text[2:-2])
    inner.want("begin")
    statement = Statement(kind="do")
    changes = False
    while not inner.take("end"):
        inner.parameters = []
        part = _part(inner)
        part.parameters = inner.parameters
        changes = changes or not part.returns
        if changes and part.returns:
            raise syntax_error("RETURN QUERY comes before all changes")
        statement.parts.append(part)
        statement.parameters += part.parameters
        statement.tables |= part.tables
        inner.want(";")
    inner.take(";")
    if inner.here.kind != "end" or not statement.parts:
        raise inner.unexpected("the end of the block")
    statement.returns = any(part.returns for part in statement.parts)
    statement.options = _options(words)
    return statement


def _part(words: Words) -> Statement:
    """Read one statement of a block."""
    if words.take("return"):
        words.want("query")
        words.want("select")
        return _select(words)
    word = words.next().value
    if word not in ("insert", "update", "delete"):
        raise syntax_error(f"{word.upper()} is not known in a block")
    part = _READERS[word](words)
    if part.kind == "insert" and not part.rows:
        raise syntax_error("INSERT ... SELECT is refused in a block")
    return part


# --- what is answered and not done ------------------------------------------------------------------------------------


def _transaction(tag: str) -> Callable[[Words], Statement]:
    return lambda words: Statement(kind="nothing", tag=tag)


def _deallocate(words: Words) -> Statement:
    words.take("prepare")
    name = "" if words.take("all") else words.name()
    return Statement(kind="deallocate", tag="DEALLOCATE", table=name)


_READERS: Final[dict[str, Callable[[Words], Statement]]] = {
    "select": _select,
    "insert": _insert,
    "update": _update,
    "delete": _delete,
    "do": _block,
    "create": create,
    "drop": drop,
    "truncate": truncate,
    "alter": alter,
    "begin": _transaction("BEGIN"),
    "commit": _transaction("COMMIT"),
    "rollback": _transaction("ROLLBACK"),
    "end": _transaction("COMMIT"),
    "set": lambda words: ignored(words, "SET"),
    "deallocate": _deallocate,
}
