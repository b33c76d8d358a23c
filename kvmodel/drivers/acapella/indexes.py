"""Secondary indexes: of a keyspace, asked one partition at a time."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.entries import Entry
from kvmodel.drivers.acapella.errors import Malformed
from kvmodel.drivers.acapella.paths import check_parts
from kvmodel.drivers.acapella.protocol import USUAL, Json
from kvmodel.errors import ProtocolError, ValidationError

if TYPE_CHECKING:
    from kvmodel.drivers.acapella.session import Session

__all__ = ["IndexField", "IndexFieldOrder", "IndexFieldType", "PartitionIndex", "QueryCondition"]


class IndexFieldType(enum.Enum):
    """What an indexed field holds. Lower case works too, as in the original client."""

    STRING = "string"
    NUMBER = "number"
    string = "string"  # noqa: PIE796 - the original's name
    number = "number"  # noqa: PIE796


class IndexFieldOrder(enum.Enum):
    """In which order a field is indexed; bounds of a query follow it. Lower case works too."""

    ASCENDING = "ascending"
    DESCENDING = "descending"
    ascending = "ascending"  # noqa: PIE796 - the original's name
    descending = "descending"  # noqa: PIE796


@attrs.frozen
class IndexField:
    """One field of an index.

    Attributes:
        name: The name of a member of the values.
        type: What it holds; a text is taken too.
        order: Its order; a text is taken too.
    """

    name: str
    type: IndexFieldType = attrs.field(converter=IndexFieldType)
    order: IndexFieldOrder = attrs.field(converter=IndexFieldOrder, default=IndexFieldOrder.ASCENDING)


@attrs.frozen
class QueryCondition:
    """What one field is to be: equal to a value, or between two, both included, in the order of the field.

    On a descending field ``from_=20`` finds 20 and less.
    """

    eq: str | float | int | None = None
    from_: str | float | int | None = None
    to: str | float | int | None = None


class PartitionIndex:
    """The indexes of the keyspace of a partition, and queries of that partition.

    Attributes:
        partition: The partition key; its first two parts name the keyspace.
    """

    def __init__(self, session: Session, partition: Sequence[str]) -> None:
        self._session = session
        self.partition = list(check_parts(partition, "a partition key"))
        if len(self.partition) < 2:
            raise ValidationError("indexes belong to a keyspace: a partition key with user and keyspace names it")

    def __repr__(self) -> str:
        return f"<PartitionIndex of {self.partition!r}>"

    async def set_index(self, tag: int, fields: Sequence[IndexField]) -> None:
        """Define an index.

        What is stored already is not indexed: write it again with ``reindex=True``.

        Args:
            tag: Names the index; one that has it is replaced, and emptied.
            fields: Its fields, in order.
        """
        if isinstance(tag, bool) or not isinstance(tag, int) or tag < 0:
            raise ValidationError(f"the tag of an index is a small whole number, not {tag!r}")
        if not fields:
            raise ValidationError("an index has one field at least")
        described = [{"name": each.name, "type": each.type.value, "order": each.order.value} for each in fields]
        await self._session.call(protocol.define_index(*self._keyspace, tag, described))

    async def get_indexes(self) -> dict[int, list[IndexField]]:
        """Answer the fields of all indexes of the keyspace, by tag."""
        found = await self._session.call(protocol.indexes(*self._keyspace))
        try:
            return {tag: [_field(each) for each in fields] for tag, fields in found.items()}
        except (Malformed, ValueError) as error:
            raise ProtocolError(
                "the server describes an index in words that this client does not know", store=self._session.store
            ) from error

    async def query(self, query: Mapping[str, QueryCondition], limit: int | None = None) -> list[Entry]:
        """Answer the rows of the partition that an index finds, in the order of their clustering keys.

        They come without their versions, which are 0 here: read a row again before a compare-and-set. A row that was
        written without ``reindex`` may be found by what it held before.

        Args:
            query: Conditions by field. They have to be the first fields of an index, with ``eq`` for all but the last.
            limit: How many at the most; left out, all of them.
        """
        conditions: dict[str, Mapping[str, Json]] = {
            name: {"eq": each.eq, "from": each.from_, "to": each.to} for name, each in query.items()
        }
        found = await self._session.call(protocol.index_query(self.partition, conditions, limit))
        return [Entry(self._session, self.partition, hit.key, 0, hit.value, quorum=USUAL) for hit in found]

    @property
    def _keyspace(self) -> tuple[str, str]:
        return self.partition[0], self.partition[1]


def _field(described: Mapping[str, Json]) -> IndexField:
    name = described.get("name")
    if not isinstance(name, str):
        raise Malformed("a field of an index has a name")
    return IndexField(name, described.get("type"), described.get("order", "ascending"))
