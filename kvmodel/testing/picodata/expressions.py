"""Expressions of Picodata's SQL: recognised, and written again for PostgreSQL.

What is not documented is refused, although Picodata may know some of it: code that passes here shall pass there.
"""

from __future__ import annotations

from typing import Final

import attrs

from kvmodel.testing.picodata.tables import CASTS
from kvmodel.testing.picodata.tokens import Token, syntax_error, tokens_of

__all__ = ["RESERVED", "Expr", "Words"]

RESERVED: Final = frozenset(
    (
        "and",
        "as",
        "between",
        "by",
        "do",
        "else",
        "except",
        "from",
        "group",
        "having",
        "in",
        "inner",
        "insert",
        "into",
        "is",
        "join",
        "left",
        "like",
        "limit",
        "not",
        "null",
        "on",
        "option",
        "or",
        "order",
        "select",
        "set",
        "table",
        "union",
        "update",
        "using",
        "values",
        "where",
        "with",
    )
)
"""Words that cannot be names unless quoted."""

_FUNCTIONS: Final = frozenset(
    (
        *("abs", "coalesce", "lower", "upper", "substr", "trim", "to_char", "to_date", "version", "json_extract_path"),
        *("count", "min", "max", "sum", "avg"),
    )
)


@attrs.frozen
class Expr:
    """An expression.

    Attributes:
        sql: For PostgreSQL.
        column: The column that it is, if it is one alone.
        operand: The parameter or literal that it is, if it is one alone.
        fixed: The columns that have to equal an operand wherever this is true.
        width: How many columns a row value has; 1 for all else.
        is_integer: Whether it is an integer literal.
    """

    sql: str
    column: str | None = None
    operand: str | None = None
    fixed: dict[str, str] = attrs.field(factory=dict)
    width: int = 1
    is_integer: bool = False


class Words:
    """Reads tokens one after the other.

    Attributes:
        parameters: The numbers of the parameters, in the order in which they come.
    """

    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._at = 0
        self.parameters: list[int] = []
        self._questions = 0

    # --- tokens -------------------------------------------------------------------------------------------------------

    @property
    def here(self) -> Token:
        """The next token."""
        return self._tokens[self._at]

    def next(self) -> Token:
        """Take the next token."""
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def at(self, *words: str) -> bool:
        """Whether these words, or signs, come next."""
        following = self._tokens[self._at : self._at + len(words)]
        return len(following) == len(words) and all(
            token.kind in ("name", "op") and token.value == word for token, word in zip(following, words, strict=True)
        )

    def take(self, *words: str) -> bool:
        """Take these words if they come next."""
        if not self.at(*words):
            return False
        self._at += len(words)
        return True

    def want(self, *words: str) -> None:
        """Take these words. Raises :class:`Refusal`."""
        if not self.take(*words):
            raise self.unexpected(" ".join(words).upper())

    def unexpected(self, wanted: str) -> Exception:
        """Answer the error of a token that does not fit."""
        found = self.here.text or "the end"
        return syntax_error(f"expected {wanted}, found {found}")

    def name(self) -> str:
        """Take an identifier; unquoted ones have been lowercased."""
        token = self.here
        if token.kind == "quoted" or (token.kind == "name" and token.value not in RESERVED):
            return self.next().value
        raise self.unexpected("a name")

    def table(self) -> str:
        """Take the name of a table, behind ``public.`` or not."""
        name = self.name()
        if name == "public" and self.take("."):
            name = self.name()
        elif self.at("."):
            raise syntax_error("the only schema is public")
        if name.startswith("pg_") or name == "information_schema":
            raise syntax_error(f"there is no {name}")
        return name

    def names(self) -> list[str]:
        """Take names in parentheses."""
        self.want("(")
        found = [self.name()]
        while self.take(","):
            found.append(self.name())
        self.want(")")
        return found

    def integer(self) -> int:
        """Take a literal integer."""
        token = self.here
        if token.kind != "number" or not token.text.isdigit():
            raise self.unexpected("a literal integer")
        return int(self.next().text)

    # --- expressions --------------------------------------------------------------------------------------------------

    def expression(self) -> Expr:
        """Read an expression."""
        left = self._conjunction()
        while self.take("or"):
            right = self._conjunction()
            left = Expr(f"{left.sql} OR {right.sql}")
        return left

    def _conjunction(self) -> Expr:
        left = self._negation()
        while self.take("and"):
            right = self._negation()
            left = Expr(f"{left.sql} AND {right.sql}", fixed={**left.fixed, **right.fixed})
        return left

    def _negation(self) -> Expr:
        if self.take("not"):
            return Expr(f"NOT {self._negation().sql}")
        return self._comparison()

    def _comparison(self) -> Expr:
        left = self._sum()
        for sign in ("=", "<>", "!=", "<=", ">=", "<", ">"):
            if self.take(sign):
                return self._compare(left, sign, self._sum())
        if self.take("is"):
            denied = self.take("not")
            self.want("null")
            return Expr(f"{left.sql} IS {'NOT ' if denied else ''}NULL")
        denied = self.take("not")
        if self.take("in"):
            return self._membership(left, denied)
        if self.take("between"):
            low = self._sum()
            self.want("and")
            return Expr(f"{left.sql} {'NOT ' if denied else ''}BETWEEN {low.sql} AND {self._sum().sql}")
        if self.take("like"):
            return Expr(f"{left.sql} {'NOT ' if denied else ''}LIKE {self._sum().sql}")
        if denied:
            raise self.unexpected("IN, BETWEEN or LIKE")
        return left

    def _compare(self, left: Expr, sign: str, right: Expr) -> Expr:
        if (left.width > 1 or right.width > 1) and sign != "=":
            raise syntax_error("a comparison of rows other than = and IN gives wrong rows")
        if left.width != right.width:
            raise syntax_error("rows of different widths")
        fixed = {}
        if sign == "=" and left.column is not None and right.operand is not None:
            fixed[left.column] = right.operand
        return Expr(f"{left.sql} {sign} {right.sql}", fixed=fixed)

    def _membership(self, left: Expr, denied: bool) -> Expr:
        self.want("(")
        items = [self._sum()]
        while self.take(","):
            items.append(self._sum())
        self.want(")")
        if any(item.width != left.width for item in items):
            raise syntax_error("rows of different widths")
        return Expr(f"{left.sql} {'NOT ' if denied else ''}IN ({', '.join(item.sql for item in items)})")

    def _sum(self) -> Expr:
        left = self._product()
        while (sign := self.here.value) in ("+", "-", "||") and self.here.kind == "op":
            self.next()
            left = Expr(f"{left.sql} {sign} {self._product().sql}")
        return left

    def _product(self) -> Expr:
        left = self._cast()
        while (sign := self.here.value) in ("*", "/", "%") and self.here.kind == "op":
            self.next()
            left = Expr(f"{left.sql} {sign} {self._cast().sql}")
        return left

    def _cast(self) -> Expr:
        inner = self._primary()
        while self.take("::"):
            inner = Expr(f"{inner.sql}::{self._cast_type()}", operand=inner.operand)
        return inner

    def _cast_type(self) -> str:
        name = self.next().value
        if name not in CASTS:
            raise syntax_error(f"no cast to {name}")
        return CASTS[name]

    def _primary(self) -> Expr:
        token = self.here
        if token.kind == "param":
            sql = self._parameter(self.next().text)
            return Expr(sql, operand=sql)
        if token.kind in ("number", "string"):
            self.next()
            is_integer = token.kind == "number" and token.text.isdigit()
            return Expr(token.text, operand=token.text, is_integer=is_integer)
        if self.take("-"):
            return Expr(f"-{self._cast().sql}")
        if self.take("("):
            return self._parentheses()
        if self.take("null") or self.take("true") or self.take("false"):
            word = self._tokens[self._at - 1].text
            return Expr(word, operand=word)
        if self.take("current_timestamp"):
            return Expr("CURRENT_TIMESTAMP")
        if self.take("cast"):
            return self._spelt_cast()
        name = self.name()
        if token.kind == "name" and self.at("("):
            return self._call(name)
        if self.take("."):
            column = self.name()
            return Expr(f'"{name}"."{column}"', column=column)
        return Expr(f'"{name}"', column=name)

    def _parameter(self, text: str) -> str:
        if self.parameters and bool(self._questions) is not (text == "?"):
            raise syntax_error("? and $1 in one statement")
        if text == "?":
            self._questions += 1
        number = self._questions or int(text[1:])
        self.parameters.append(number)
        return f"${number}"

    def _parentheses(self) -> Expr:
        if self.at("select"):
            raise syntax_error("a subquery is not known here")
        first = self.expression()
        items = [first]
        while self.take(","):
            items.append(self.expression())
        self.want(")")
        sql = f"({', '.join(item.sql for item in items)})"
        if len(items) > 1:
            return Expr(sql, width=len(items))
        return attrs.evolve(first, sql=sql)

    def _spelt_cast(self) -> Expr:
        self.want("(")
        inner = self.expression()
        self.want("as")
        sql = f"({inner.sql})::{self._cast_type()}"
        self.want(")")
        return Expr(sql, operand=inner.operand)

    def _call(self, name: str) -> Expr:
        self.want("(")
        if name == "any" or name.startswith("pg_"):
            raise syntax_error(f"no function {name}")
        if name not in _FUNCTIONS:
            raise syntax_error(f"function {name} not found")
        if name == "count" and self.take("*"):
            self.want(")")
            return Expr("count(*)")
        arguments: list[str] = []
        if not self.at(")"):
            arguments.append(self._argument())
            while self.take(","):
                arguments.append(self._argument())
        self.want(")")
        return Expr(f"{name}({', '.join(arguments)})")

    def _argument(self) -> str:
        inner = self.expression()
        return f"{inner.sql}::bigint" if inner.is_integer else inner.sql
