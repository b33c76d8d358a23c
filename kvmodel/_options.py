"""The options of a class line: ``class User(kv.Model, table="users", frozen=True)``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal

import attrs

from kvmodel.errors import SchemaError

_TABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_OWN_TABLES: Final = "_kvmodel"
_OF_TABLES: Final = ("schema", "expires_in", "layout", "store_options")

OptionCheck = Callable[[object], str | None]
"""Says what is wrong with the value of an option, ``None`` if nothing is."""


def check_flag(value: object) -> str | None:
    """Check an option that is on or off."""
    return None if type(value) is bool else "is True or False"


@attrs.frozen(kw_only=True)
class Options:
    """What a class line says. Without a table the model is abstract: it holds fields for its subclasses."""

    table: str | None = None
    abstract: bool = False
    frozen: bool = False
    kw_only: bool = False
    schema: int = 1
    expires_in: timedelta | None = None
    layout: Literal["record", "plain"] = "record"
    store_options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)
    own: Mapping[str, object] = attrs.field(factory=dict)


_KNOWN: Final = tuple(attribute.name for attribute in attrs.fields(Options) if attribute.name != "own")


def read_options(
    model: str, given: Mapping[str, Any], *, extends_concrete: bool, own: Mapping[str, OptionCheck]
) -> Options:
    """Check the options of a class line. ``own`` are those that only this kind of model has."""
    known = (*_KNOWN, *own)
    for option in given:
        if option not in known:
            raise SchemaError(f"{model}: unknown option {option!r} in the class line, known are: {', '.join(known)}")
    options = Options(
        **{option: value for option, value in given.items() if option not in own},
        own={option: value for option, value in given.items() if option in own},
    )
    problems = [f"{option}= {problem}" for option, value in options.own.items() if (problem := own[option](value))]
    problems += _problems(options, given, extends_concrete=extends_concrete)
    for problem in problems:
        raise SchemaError(f"{model}: {problem}", table=None if options.table is None else str(options.table))
    return options


def _problems(options: Options, given: Mapping[str, Any], *, extends_concrete: bool) -> list[str]:
    for flag in ("abstract", "frozen", "kw_only"):
        if type(getattr(options, flag)) is not bool:
            return [f"{flag}= is True or False"]
    if options.table is not None:
        return [problem for is_wrong, problem in _problems_of_table(options) if is_wrong]
    if extends_concrete and not options.abstract:
        return ["a subclass of a model with a table needs its own: add table= to the class line, or abstract=True"]
    return [
        f"{option}= belongs to a model with a table: add table=, or move it to the subclass"
        for option in (*_OF_TABLES, *options.own)
        if option in given
    ]


def _problems_of_table(options: Options) -> list[tuple[bool, str]]:
    name: Any = options.table
    number: Any = options.schema
    lifetime: Any = options.expires_in
    is_name = isinstance(name, str) and _TABLE_NAME.fullmatch(name) is not None
    return [
        (options.abstract, "an abstract model has no table: remove table= or abstract=True"),
        (not is_name, "table= is 1 to 63 ASCII letters, digits and underscores, and begins with no digit"),
        (
            is_name and name.lower().startswith(_OWN_TABLES),
            f"tables named {_OWN_TABLES}... are kvmodel's: choose another",
        ),
        (type(number) is not int or not 1 <= number < 2**32, "schema= numbers the declaration: 1, later 2, and so on"),
        (options.layout not in ("record", "plain"), 'layout= is "record" or "plain"'),
        (
            lifetime is not None and not (isinstance(lifetime, timedelta) and lifetime > timedelta(0)),
            "expires_in= is a timedelta above zero",
        ),
        (not _is_nested_mapping(options.store_options), "store_options= maps a store's name to a mapping of options"),
        (
            options.layout == "plain" and (lifetime is not None or number != 1),
            "the plain layout holds no deadline and no schema number: remove expires_in= and schema=",
        ),
    ]


def _is_nested_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(options, Mapping) for name, options in value.items()
    )
