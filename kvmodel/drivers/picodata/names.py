"""Names of tables and columns: validated, quoted, and injective."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from kvmodel.drivers.base import Table
from kvmodel.errors import SchemaError

__all__ = ["EXPIRES", "PARTITION", "RESERVED", "SCHEMA", "VERSION", "is_name", "quote", "table_name"]

VERSION: Final = "kv_version"
EXPIRES: Final = "kv_expires"
SCHEMA: Final = "kv_schema"
PARTITION: Final = "kv_partition"
RESERVED: Final = frozenset((VERSION, EXPIRES, SCHEMA, PARTITION, "bucket_id"))
"""Columns that are not a model's."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST: Final = 63
_NAMESPACED: Final = re.compile(r".*_ns_[0-9a-f]{16}")
_SHOWN: Final = 42


def is_name(name: object) -> bool:
    """Whether this may name a table or column: quotes in quoted names are not undone by the server."""
    return isinstance(name, str) and len(name) <= _LONGEST and _NAME.fullmatch(name) is not None


def quote(name: str) -> str:
    """Quote a name. Raises ``SchemaError`` for what can't be one."""
    if not is_name(name):
        raise SchemaError(f"names are letters, digits and underscores here, at most {_LONGEST}, not {name!r}")
    return f'"{name}"'


def table_name(table: Table) -> str:
    """Answer what a table is called in the store.

    Without a namespace, as its model calls it. In a namespace, that and a digest of both: a namespace may be longer
    than names can be, and hold anything.
    """
    name = table.name
    if not table.namespace:
        if _NAMESPACED.fullmatch(name):
            raise SchemaError("tables of namespaces are called like that: choose another name", table=name)
        quote(name)
        return name
    whole = "\0".join((*table.namespace, "", name)).encode(errors="surrogatepass")
    digest = hashlib.blake2b(whole, digest_size=8).hexdigest()
    return f"{name[:_SHOWN]}_ns_{digest}"
