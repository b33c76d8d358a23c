"""Paths of trees: each part of a path is a part of a node's key.

Rules. A ``str`` is a part as it stands. In a path that takes nothing but ``int`` or nothing but ``UUID``, a part is its
ordered text. In one that takes several types, an ``int`` or ``UUID`` has a mark before its text, and the mark sorts
behind every ``str``, as these types do in a path: the last character there is, U+10FFFF, with which no ``str`` may
begin there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast
from uuid import UUID

from kvmodel.drivers.acapella.keys import Address, TableKeys, decoder_of, encoder_of
from kvmodel.drivers.base import Key, KeyField, KeyPart, KeyType, Table
from kvmodel.drivers.formats.components import KINDS
from kvmodel.errors import DecodingError, ValidationError

__all__ = ["BEHIND_ALL", "TreeKeys"]

_MARK: Final = "\U0010ffff"
_TAGS: Final = {"int": "d", "uuid": "h"}
BEHIND_ALL: Final = (_MARK * 8,)
"""A key behind those of all nodes."""


class TreeKeys(TableKeys):
    """The keys of one table that is kept in trees: its one clustering component is the path."""

    __slots__ = ("_kinds", "_mark")

    def __init__(self, table: Table, max_key_bytes: int) -> None:
        super().__init__(table, max_key_bytes)
        (part,) = table.clustering[0].type.items
        kinds = [item.kind for item in (part.items if part.kind == "union" else (part,))]
        self._kinds = {KINDS[kind]: (kind, encoder_of(KeyField("path", KeyType(kind)))) for kind in kinds}
        self._mark = "" if len(kinds) == 1 else _MARK if "str" in kinds else "~"

    def address(self, key: Key) -> Address:
        """Answer the tree and the node's key. Raises ``ValidationError``."""
        if len(key) != self._width + 1:
            raise ValidationError("a key has all components that the model declares", table=self._table.name, key=key)
        name = self.partition(key[:-1])
        path = self._path(key, bound=False)
        self._check_size((*name, *path), key)
        return Address(name, path)

    def clustering_texts(self, parts: Key) -> tuple[str, ...]:
        """Write a path as a bound."""
        return self._path(parts, bound=True) if parts else ()

    def key(self, partition: Key, clustering: Sequence[str]) -> Key:
        """Answer the full key of a node that was read. Raises ``DecodingError``."""
        try:
            return (*partition, tuple(map(self._read, clustering)))
        except (ValueError, LookupError) as error:
            raise DecodingError(
                "a node's key is no path of this model: check the types that its path takes",
                table=self._table.name,
                key=(*partition, *clustering),
            ) from error

    def _path(self, key: Key, *, bound: bool) -> tuple[str, ...]:
        try:
            return tuple([self._write(part, bound=bound) for part in cast("tuple[KeyPart, ...]", key[-1])])
        except UnicodeEncodeError:
            reason = "a str in a path must be Unicode text, without lone surrogates"
        except (ValueError, TypeError, LookupError) as error:
            reason = str(error)
        raise ValidationError(reason, table=self._table.name, key=key, field=self._table.clustering[0].name)

    def _write(self, part: KeyPart, *, bound: bool) -> str:
        kind, encode = self._kinds[type(part)]
        if kind != "str":
            return self._mark + (_TAGS[kind] if self._mark else "") + encode(part)
        text = cast("str", part)
        if bound:
            text.encode()
            return text
        if self._mark and text.startswith(self._mark):
            raise ValueError("where a path takes other types too, a str must not begin with U+10FFFF")
        return encode(text)

    def _read(self, text: str) -> KeyPart:
        if not self._mark:
            ((kind, _),) = self._kinds.values()
            return decoder_of(KeyField("path", KeyType(kind)))(text)
        if not text.startswith(self._mark):
            if str not in self._kinds:
                raise ValueError("a part is no text here")
            return text
        kind = {"d": "int", "h": "uuid"}[text[len(self._mark)]]
        if KINDS[kind] not in self._kinds:
            raise ValueError("a part has a type that the path does not take")
        read = decoder_of(KeyField("path", KeyType(kind)))(text[len(self._mark) + 1 :])
        assert isinstance(read, int | UUID)
        return read
