"""The pieces of a write: what each mutation relies on, and what it changes.

Rules.

* A piece relies on a revision: on the one that its expectation names, or, where 'absent' meets an expired record and
  'present' any, on the one that was read.
* A damaged record counts as one that is there, in a version that nobody holds.
* The check of a range relies on the revision of each of its rows, and on there being no other keys in the gaps between
  them. Where they are too many for that, or an expired record lies there, the range is read once more: then it relies
  on no key in it having changed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from kvmodel.drivers.base import ANYTHING, PRESENT, CheckRange, Delete, Expect, Expectation, Key, Put, Version
from kvmodel.drivers.base import Check as Checked
from kvmodel.drivers.etcd.catalogue import unchanged
from kvmodel.drivers.etcd.layout import Place, make_version, read_version
from kvmodel.drivers.etcd.messages import (
    Compare,
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RequestOp,
    ResponseOp,
    Result,
    Target,
    TxnRequest,
)

__all__ = ["AnyPiece", "Piece", "RangePiece", "alone", "look", "looked", "written_version"]


@attrs.define(eq=False)
class Piece:
    """One mutation of one record, encoded.

    Attributes:
        mutation: What is meant; ``None`` for the removal of a dead record.
        key: Where the record lies.
        data: What to store, ``None`` where nothing is.
        expect: What it relies on.
        lease: What removes the record when it has expired; 0 for none.
        seen: The revision that was read, to rely on it instead; 0 for an absent key.
    """

    mutation: Put | Delete | Checked | None
    place: Place
    key: bytes
    data: bytes | None
    expect: Expectation
    lease: int = 0
    seen: int | None = None

    @property
    def changes(self) -> bool:
        """Whether it stores or removes a record."""
        return not isinstance(self.mutation, Checked)

    @property
    def is_conditional(self) -> bool:
        """Whether it relies on anything."""
        return self.expect is not ANYTHING

    @property
    def must_read(self) -> bool:
        """Whether the key has to be read first: 'present' says nothing of what is there."""
        return self.expect is PRESENT and self.seen is None

    @property
    def expires_at(self) -> int | None:
        """The deadline of what is to be stored."""
        return self.mutation.expires_at if isinstance(self.mutation, Put) else None

    @property
    def named_revision(self) -> int | None:
        """The revision that the expectation names, which never comes back once it is gone."""
        if isinstance(self.expect, Expect):
            return None
        named = read_version(_version(self.expect))
        return None if named is None else named[0]

    @property
    def size(self) -> int:
        """About how many bytes it has in a request, and never fewer."""
        return 3 * len(self.key) + len(self.data or b"") + 128

    def can_hold(self, now: int) -> bool:
        """Whether the expectation can hold at all: a version that has expired, or is none, can not."""
        if isinstance(self.expect, Expect) or self.mutation is None:
            return True
        named = read_version(_version(self.expect))
        return named is not None and (named[1] is None or named[1] > now)

    def compares(self) -> list[Compare]:
        """Answer what has to hold."""
        if self.expect is ANYTHING:
            return []
        if self.seen is not None:
            return [unchanged(self.key, self.seen)]
        return [unchanged(self.key, self.named_revision or 0)]

    def operations(self) -> list[RequestOp]:
        """Answer what is to be done."""
        if self.data is not None:
            return [RequestOp(request_put=PutRequest(self.key, self.data, self.lease))]
        if self.changes:
            # Without an expectation, what was there tells whether it was alive.
            asks = self.expect is ANYTHING
            return [RequestOp(request_delete_range=DeleteRangeRequest(self.key, prev_kv=asks))]
        return []

    def holds(self, kv: KeyValue | None, now: int) -> bool | None:
        """Whether the expectation holds of what was read; if so, it is what is relied on from now on.

        ``None`` where the value is needed to tell, and was not read.
        """
        if self.expect is ANYTHING:
            return True
        revision = 0 if kv is None else kv.mod_revision
        if not isinstance(self.expect, Expect):
            return revision == self.named_revision
        if kv is not None and kv.lease and not kv.value:
            return None
        is_alive = kv is not None and self.place.is_alive(kv, now)
        if is_alive is (self.expect is PRESENT):
            self.seen = revision
            return True
        return False


def _version(expect: Expectation) -> Version:
    assert isinstance(expect, bytes | int | str)
    return expect


@attrs.define(eq=False)
class RangePiece:
    """The check of a slice, encoded.

    Attributes:
        start, stop: The range of keys that the rows tell about.
        rows: The version of each row, by its key, in order.
        read_at: The revision in which the range was read once more, and was as it should be.
    """

    mutation: CheckRange
    place: Place
    start: bytes
    stop: bytes
    rows: dict[bytes, Version]
    read_at: int | None = None

    @classmethod
    def make(cls, check: CheckRange, place: Place) -> RangePiece:
        """Encode a check."""
        codec = place.codec
        start, stop = codec.bounds(check.slice)
        rows = dict(sorted((codec.encode_key(key), version) for key, version in check.rows))
        if rows and len(rows) == check.slice.limit:
            # What is behind the last row was not seen, and does not matter.
            start, stop = (
                (max(start, min(rows)), stop) if check.slice.reverse else (start, min(stop, max(rows) + b"\0"))
            )
        return cls(check, place, start, stop, rows)

    @property
    def is_conditional(self) -> bool:
        """It is nothing else."""
        return True

    @property
    def is_empty(self) -> bool:
        """Whether no key can be in the slice."""
        return self.start >= self.stop or self.mutation.slice.limit == 0

    @property
    def size(self) -> int:
        """About how many bytes it has in a request, and never fewer."""
        return sum(4 * len(key) + 256 for key in self.rows) + 2 * len(self.start) + 2 * len(self.stop) + 256

    def count(self, *, brief: bool) -> int:
        """Answer how many comparisons it takes: in full, or once it has been read again."""
        if self.is_empty:
            return 0
        return len(self.rows) + (1 if brief or self.read_at is not None else len(list(self._gaps())))

    def can_hold(self, now: int) -> bool:
        """Whether its rows can still be what they were: none that has expired is."""
        return all(
            (named := read_version(version)) is not None and (named[1] is None or named[1] > now)
            for version in self.rows.values()
        )

    def compares(self) -> list[Compare]:
        """Answer what has to hold."""
        if self.is_empty:
            return []
        found = [unchanged(key, _revision(version)) for key, version in self.rows.items()]
        if self.read_at is None:
            return found + [_older(start, stop, 1) for start, stop in self._gaps()]
        return [*found, _older(self.start, self.stop, self.read_at + 1)]

    def _gaps(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the ranges between the rows, but for those that no key can be in."""
        start = self.start
        for key in self.rows:
            if start < key:
                yield start, key
            start = key + b"\0"
        if start < self.stop:
            yield start, self.stop

    def differences(self, there: Sequence[KeyValue], revision: int, now: int) -> list[Key]:
        """Compare with what was read of the range; answer the keys that entered, left or changed."""
        place = self.place
        found = {kv.key: kv.mod_revision for kv in there if place.is_alive(kv, now)}
        seen = {key: _revision(version) for key, version in self.rows.items()}
        self.read_at = revision
        changed = dict.fromkeys(key for key in (*seen, *found) if seen.get(key) != found.get(key))
        return [place.codec.decode_key(key) for key in changed]


def _revision(version: Version) -> int:
    named = read_version(version)
    return -1 if named is None else named[0]


def _older(start: bytes, stop: bytes, revision: int) -> Compare:
    """Every key of a range was changed before this revision; with 1, there is none."""
    return Compare(Result.LESS, Target.MOD, start, mod_revision=revision, range_end=stop)


AnyPiece = Piece | RangePiece


def written_version(piece: Piece, revision: int) -> bytes | None:
    """Answer the version of what a piece has stored."""
    return None if piece.data is None else make_version(revision, piece.expires_at)


def look(piece: Piece) -> RequestOp:
    """Ask what is there, where the comparisons do not hold."""
    return RequestOp(request_range=RangeRequest(piece.key, keys_only=True))


def looked(response: ResponseOp) -> KeyValue | None:
    """Answer what was there."""
    found = response.response_range
    return found.kvs[0] if found is not None and found.kvs else None


def alone(piece: Piece) -> RequestOp:
    """Answer a piece of a batch: as it is, or as a transaction of its own."""
    operations = piece.operations()
    if piece.is_conditional or not operations:
        looks = [look(piece)] if piece.is_conditional else []
        return RequestOp(request_txn=TxnRequest(piece.compares(), operations, looks))
    return operations[0]
