"""Mutations as pieces of SQL: what they rely on, and what they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Check,
    CheckRange,
    Delete,
    Expectation,
    Key,
    Mutation,
    Outcome,
    Put,
    Row,
    Status,
    Version,
)
from kvmodel.drivers.picodata.bounds import Params, encode_key
from kvmodel.drivers.picodata.forms import Wire
from kvmodel.drivers.picodata.layout import Column
from kvmodel.drivers.picodata.place import Place
from kvmodel.drivers.picodata.rows import Stored
from kvmodel.errors import SchemaError

__all__ = ["IMPOSSIBLE", "Piece", "make_piece"]

IMPOSSIBLE: Final = "1 = 0"
"""A condition that never holds: the version is none that a record of this table can have."""


@attrs.define(eq=False)
class Piece:
    """One mutation, encoded.

    Attributes:
        place: Where its table is.
        key: What stands in the columns of its key.
        now: The time, as the column of deadlines holds it.
        time: The same in microseconds.
        stored: Of a put: what it stores.
        wanted: The columns that tell the version it relies on, and what has to stand there.
    """

    mutation: Put | Delete | Check
    place: Place
    key: list[Wire]
    now: Wire
    time: int
    stored: Stored | None = None
    wanted: tuple[list[Column], list[Wire]] | None = None
    _said: tuple[Params, str] | None = None

    @property
    def expect(self) -> Expectation:
        """What it relies on."""
        return self.mutation.expect

    @property
    def name(self) -> tuple[str, Key]:
        """Whose record it is."""
        return self.mutation.table.name, self.mutation.key

    @property
    def is_conditional(self) -> bool:
        """Whether it relies on anything."""
        return self.expect is not ANYTHING

    @property
    def names_version(self) -> bool:
        """Whether it relies on a version, which never comes back."""
        return self.expect not in (ANYTHING, ABSENT, PRESENT)

    @property
    def is_stamped(self) -> bool:
        """Whether the record tells afterwards that this very piece wrote it."""
        return self.stored is not None and self.place.layout.version is not None

    @property
    def is_replacement(self) -> bool:
        """Whether it is a single INSERT that replaces what is there, whatever that is."""
        return self.stored is not None and not self.is_conditional and self.place.layout.is_whole

    def holds(self, found: Row | None) -> bool:
        """Whether its expectation holds for a live record; ``None`` for none."""
        if self.expect is ANYTHING:
            return True
        if self.expect is ABSENT:
            return found is None
        if self.expect is PRESENT:
            return found is not None
        return found is not None and found.version == self.expect

    # --- as SQL -------------------------------------------------------------------------------------------------------

    def at(self, params: Params) -> str:
        """Answer the condition that names its record."""
        pairs = enumerate(zip(self.place.texts.key, self.key, strict=True))
        return " AND ".join(f"{sql} = {params.share((id(self), place), wire)}" for place, (sql, wire) in pairs)

    def alive(self, params: Params) -> str:
        """Answer the condition that its record lives."""
        return self.at(params) + self.place.texts.live(self.now, params)

    def expected(self, params: Params) -> str:
        """Answer the condition that its record is as it relies on; for ``ABSENT``, that it is there."""
        if not self.names_version:
            return self.alive(params)
        if self.wanted is None:
            return f"{self.at(params)} AND {IMPOSSIBLE}"
        if self._said is None or self._said[0] is not params:
            self._said = params, self.alive(params) + self.place.texts.equal(*self.wanted, params)
        return self._said[1]

    def changes(self, params: Params) -> list[str]:
        """Answer the statements that change its record, each of which does nothing if the expectation fails."""
        texts = self.place.texts
        if isinstance(self.mutation, Check):
            return []
        if isinstance(self.mutation, Delete):
            if self.expect is ABSENT:
                return []
            return [texts.delete(self.at(params) if self.expect is ANYTHING else self.expected(params))]
        assert self.stored is not None
        if self.is_replacement:
            return [self.insert(params, "REPLACE")]
        if self.expect is ABSENT:
            first = [] if self.place.layout.expires is None else [self.delete_dead(params)]
            return [*first, self.insert(params, "NOTHING")]
        update = self.update(params)
        if self.expect is ANYTHING:
            return [*update, self.insert(params, "NOTHING")]
        return update

    def update(self, params: Params) -> list[str]:
        """Answer the UPDATE of a put, if there is anything outside the key."""
        assert self.stored is not None
        if not self.stored.columns:
            return []
        where = self.at(params) if self.expect is ANYTHING else self.expected(params)
        return [self.place.texts.update(self.stored.columns, self.stored.wires, where, params)]

    def insert(self, params: Params, conflict: str) -> str:
        """Answer the INSERT of a put."""
        assert self.stored is not None
        texts = self.place.texts
        return texts.insert([*texts.key, *self.stored.columns], [self.row()], conflict, params)

    def row(self) -> list[Wire]:
        """Answer the whole row of a put."""
        assert self.stored is not None
        return [*self.key, *self.stored.wires]

    def delete_dead(self, params: Params) -> str:
        """Answer the statement that removes its record if that has expired."""
        return self.place.texts.delete(f"{self.at(params)} AND {self.place.texts.dead(self.now, params)}")

    def written(self, existed: bool | None) -> Outcome:
        """Answer the outcome of a piece that was carried out."""
        version: Version | None = None if self.stored is None else self.stored.version
        return Outcome(Status.WRITTEN, version, existed)


def make_piece(mutation: Mutation, place: Place, now: int) -> Piece:
    """Encode a mutation. Raises ``ValidationError``, ``TooLarge`` and ``SchemaError``."""
    assert not isinstance(mutation, CheckRange)
    piece = Piece(mutation, place, encode_key(place.layout, mutation.key), place.rows.moment(now), now)
    if piece.names_version:
        piece.wanted = place.rows.expectation(mutation.expect)  # type: ignore[arg-type]  # it is a version
    if isinstance(mutation, Put):
        piece.stored = place.rows.dump(mutation)
        if place.layout.required and mutation.expect in (ANYTHING, ABSENT):
            raise SchemaError(
                "rows can't be inserted without these columns, which take no NULL and which the model lacks:"
                f" {', '.join(place.layout.required)}",
                table=mutation.table.name,
                key=mutation.key,
                store=place.store,
            )
    return piece


def stamped(pieces: Sequence[Piece]) -> list[Piece]:
    """Answer those whose records tell afterwards who wrote them."""
    return [piece for piece in pieces if piece.is_stamped]
