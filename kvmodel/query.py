"""Ranges: immutable questions about one partition (or one table), asked when awaited or iterated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from kvmodel import _aio
from kvmodel._tokens import query_digest
from kvmodel.drivers.base import ANYTHING, Delete, Edge, Key, Rows, Slice
from kvmodel.errors import DecodingError, Unsupported, ValidationError

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model
    from kvmodel.repository import Repository
    from kvmodel.schema import Schema
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Page", "Plan", "Range", "Starts", "make_slice", "not_in_unit", "parse_prefix", "starts"]

M = TypeVar("M", bound="Model")

_FIRST_PAGE = 64
_LARGEST_PAGE = 1024


@attrs.frozen
class Starts:
    """The beginning of a key component, as the last element of a ``prefix`` tuple."""

    text: str | bytes


def starts(text: str | bytes) -> Starts:
    """Match the components that begin with ``text``: ``prefix=("b", kv.starts("x"))``.

    Raises:
        ValidationError: It is neither ``str`` nor ``bytes``.
    """
    if not isinstance(text, str | bytes):
        raise ValidationError(f"kv.starts() takes the first characters of a str or bytes component, not {text!r}")
    return Starts(text)


@attrs.frozen
class Page(Generic[M]):
    """One page of a range.

    Attributes:
        items: The objects, in order.
        next_token: What to give ``page()`` for the next one; ``None`` at the end.
    """

    items: list[M]
    next_token: str | None


@attrs.frozen
class Plan:
    """What a range will send, in order, and what that costs.

    Attributes:
        store: The store's name.
        steps: What is sent, in words.
        round_trips: How many exchanges it takes; ``None`` where that depends on how much is found.
        keys: How many keys the store reads; ``None`` where that depends on how much is found.
    """

    store: str
    steps: tuple[str, ...]
    round_trips: int | None
    keys: int | None

    def __str__(self) -> str:
        lines = [f"{number}. {step}" for number, step in enumerate(self.steps, 1)]
        trips = "one or more a page" if self.round_trips is None else str(self.round_trips)
        keys = "as many as are found" if self.keys is None else f"at most {self.keys}"
        return "\n".join([*lines, f"on {self.store}: round trips: {trips}; keys read: {keys}"])


class Range(Generic[M]):
    """The records of a slice, in clustering order. Nothing is sent before it is awaited or iterated.

    ``await`` answers a list; ``async for`` streams page by page, each page consistent in itself, each record at most
    once, the whole not one snapshot.
    """

    __slots__ = ("_allow_costly", "_checked", "_repository", "_slice")

    def __init__(
        self,
        repository: Repository[M, *tuple[Any, ...]],
        slice: Slice,
        *,
        checked: bool = True,
        allow_costly: bool = False,
    ) -> None:
        self._repository = repository
        self._slice = slice
        self._checked = checked
        self._allow_costly = allow_costly

    def __repr__(self) -> str:
        return f"<Range of {self._repository.model.__name__} {_describe(self._slice)}>"

    def __await__(self) -> Generator[object, None, list[M]]:
        return self._list().__await__()

    async def _list(self) -> list[M]:
        bound, unit = self._where()
        if unit is not None:
            return await unit._joined.scan(bound, self._slice, checked=self._checked)
        return [] if self._slice.limit == 0 else await self._repository._direct.scan(bound, self._slice)

    async def __aiter__(self) -> AsyncIterator[M]:
        bound, unit = self._where()
        if unit is not None:
            for obj in await self._list():
                yield obj
            return
        until = await bound.prepared()
        load = bound.schema.load
        size, slice = _FIRST_PAGE, self._slice
        while True:
            wanted = size if slice.limit is None else min(size, slice.limit)
            page = await bound.driver.scan(bound.table, slice._replace(limit=wanted), now=bound.now(), until=until)
            for row in page.rows:
                yield load(row)
            rest = _rest(slice, page, wanted)
            if rest is None:
                return
            slice = rest
            size = min(size * 2, _LARGEST_PAGE)
            await _aio.give_way()
            until = bound.until()

    async def first(self) -> M | None:
        """Answer the first record, or ``None``. Costs one key."""
        if self._slice.limit == 0:
            return None
        found = await self._like(self._slice._replace(limit=1), checked=self._checked)._list()
        return found[0] if found else None

    async def count(self) -> int:
        """Count the records, without moving their values where the store can.

        Raises:
            Unsupported: Inside a unit of work, which could not vouch for the number.
        """
        bound = self._outside_unit("count()")
        if self._slice.limit == 0:
            return 0
        until = await bound.prepared()
        return await bound.driver.count(bound.table, self._slice, now=bound.now(), until=until)

    async def delete(self) -> int:
        """Remove the records, page by page, and answer how many; each page is a batch, the whole is not atomic.

        Raises:
            BatchError: Some could not be removed; the pages before are gone.
            Unsupported: Inside a unit of work.
        """
        bound = self._outside_unit("delete()")
        await bound.prepared()
        removed, slice = 0, self._slice
        while True:
            wanted = _LARGEST_PAGE if slice.limit is None else min(_LARGEST_PAGE, slice.limit)
            page = await bound.driver.scan(
                bound.table, slice._replace(limit=wanted), values=False, now=bound.now(), until=bound.until()
            )
            if page.rows:
                deletes = [Delete(bound.table, row.key, ANYTHING) for row in page.rows]
                removed += await self._repository._bulk(bound).remove(deletes, done=removed)
            rest = _rest(slice, page, wanted)
            if rest is None:
                return removed
            slice = rest

    async def page(self, size: int, token: str | None = None) -> Page[M]:
        """Answer one page, and the token of the next.

        Reads ``size + 1`` keys, so that the last page is known to be the last.

        Args:
            size: How many records at the most, 1 or more.
            token: The ``next_token`` of the page before; ``None`` for the first.

        Raises:
            ValidationError: The token belongs to another query or is damaged, or the range has a limit of its own.
            Unsupported: Inside a unit of work.
        """
        bound = self._outside_unit("page()")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValidationError(f"a page holds one record or more, not {size!r}")
        if self._slice.limit is not None:
            raise ValidationError("the size of its pages limits a paged range: leave limit= out")
        tokens = bound.connection.tokens
        digest = query_digest(*self._identity(bound))
        after = None if token is None else _position(bound, tokens.read(digest, token), self._slice)
        found = await self._behind(bound, after, size + 1)
        if len(found) <= size:
            return Page(found, None)
        items = found[:size]
        position = bound.order.encode_key(bound.schema.key_of(items[-1]))
        return Page(items, tokens.make(digest, position))

    def unchecked(self) -> Range[M]:
        """Answer the same range, not protected in a unit of work: its rows may change and newcomers may appear."""
        return self._like(self._slice, checked=False)

    def explain(self) -> Plan:
        """Say what will be sent and what it costs. Sends nothing."""
        bound, unit = self._where()
        capabilities = bound.driver.capabilities
        step = f"scan {bound.table.name} {_describe(self._slice)}"
        if unit is not None:
            step += ", with this unit's own changes" + (", checked again at commit" if self._checked else ", unchecked")
        limit = self._slice.limit
        if limit == 0:
            return Plan(capabilities.store, (), 0, 0)
        costs = bound.driver.costs(bound.table, self._slice)
        if costs is not None:
            return Plan(capabilities.store, (step, *costs.steps), costs.round_trips, costs.keys)
        return Plan(capabilities.store, (step,), 1 if limit is not None and limit <= _FIRST_PAGE else None, limit)

    # --- inside ---

    def _identity(self, bound: Bound[M]) -> tuple[object, ...]:
        """What makes this query the one that its page tokens belong to."""
        table = bound.table
        return (table.namespace, table.key, *bound.order.bounds(self._slice), self._slice.reverse)

    async def _behind(self, bound: Bound[M], after: Key | None, limit: int) -> list[M]:
        """Answer the first records behind a key, in the direction of reading."""
        return await self._repository._direct.scan(bound, self._slice._replace(limit=limit, after=after))

    def _like(self, slice: Slice, *, checked: bool) -> Range[M]:
        """Answer a range of this kind over another slice."""
        return Range(self._repository, slice, checked=checked, allow_costly=self._allow_costly)

    def _where(self) -> tuple[Bound[M], UnitOfWork | None]:
        bound, unit = self._repository._where()
        bound.require_range(self._slice, allow_costly=self._allow_costly)
        if unit is not None and self._slice.partition is None:
            raise not_in_unit("scan()")
        return bound, unit

    def _outside_unit(self, what: str) -> Bound[M]:
        bound, unit = self._where()
        if unit is not None:
            raise not_in_unit(what)
        return bound


def _rest(slice: Slice, page: Rows, wanted: int) -> Slice | None:
    """What of a slice lies behind a page that was asked for with ``limit=wanted``; ``None`` at the end."""
    after = page.resume
    if after is None and len(page.rows) == wanted:
        after = page.rows[-1].key if page.rows else None
    left = None if slice.limit is None else slice.limit - len(page.rows)
    return None if after is None or left == 0 else slice._replace(after=after, limit=left)


def not_in_unit(what: str) -> Unsupported:
    """The error for what can't be part of a unit of work."""
    return Unsupported(
        f"{what} can't be part of a unit of work, which could not vouch for it at commit: "
        "ask before or after the unit, or with objects.using(db, outside=True)"
    )


def _position(bound: Bound[M], data: bytes, slice: Slice) -> Key:
    """The key inside a token; it may be forged, so it has to be a key of this very partition."""
    try:
        key = bound.order.decode_key(data)
    except DecodingError as error:
        raise ValidationError("this page token is damaged: start again without a token") from error
    if slice.partition is not None and key[: len(slice.partition)] != slice.partition:
        raise ValidationError("this page token is not one of this query: start again without a token")
    return key


# --- bounds -----------------------------------------------------------------------------------------------------------


def make_slice(
    schema: Schema,
    partition: tuple[object, ...],
    *,
    first: object,
    last: object,
    after: object,
    before: object,
    prefix: object,
    limit: int | None,
    reverse: bool,
) -> Slice:
    """Turn what a caller wrote into a slice. Raises ``ValidationError`` for what makes no sense."""
    check_limit(limit)
    for one, other, names in ((first, after, "first and after"), (last, before, "last and before")):
        if one is not None and other is not None:
            raise ValidationError(f"give either of {names}, not both: they bound the same end", table=schema.name)
    whole, begins = parse_prefix(schema, prefix)
    return Slice(
        schema.make_partition(*partition),
        lower=_edge(schema, first, after),
        upper=_edge(schema, last, before),
        prefix=whole,
        starts=begins,
        reverse=bool(reverse),
        limit=limit,
    )


def check_limit(limit: object) -> None:
    """Raise ``ValidationError`` unless it is ``None`` or a number of records."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ValidationError(f"a limit is a number of records, 0 or more, or None for all, not {limit!r}")


def _edge(schema: Schema, inclusive: object, exclusive: object) -> Edge | None:
    value = exclusive if inclusive is None else inclusive
    if value is None:
        return None
    return Edge(schema.make_clustering(_parts(schema, value)), inclusive is not None)


def _parts(schema: Schema, value: object) -> tuple[object, ...]:
    """A bound as a tuple of components. A lone value stands for the first one, even where that is itself a tuple."""
    if not isinstance(value, tuple):
        return (value,)
    takes_tuple = bool(schema.clustering) and schema.clustering[0].type.kind == "tuple"
    if takes_tuple and not (value and isinstance(value[0], tuple)):
        return (value,)
    return value


def parse_prefix(schema: Schema, prefix: object) -> tuple[Key, str | bytes | None]:
    """Turn what a caller wrote into whole components, and the beginning of the one behind them."""
    if prefix is None:
        return (), None
    if isinstance(prefix, str | bytes | Starts):
        parts: tuple[object, ...] = (prefix if isinstance(prefix, Starts) else Starts(prefix),)
    elif isinstance(prefix, tuple):
        parts = prefix
    else:
        raise ValidationError(
            "prefix takes the first characters of a str or bytes component, or a tuple of whole components "
            f"(the last may be kv.starts(...)), not {prefix!r}",
            table=schema.name,
        )
    begins: str | bytes | None = None
    if parts and isinstance(parts[-1], Starts):
        begins, parts = parts[-1].text, parts[:-1]
        _check_starts(schema, len(parts), begins)
    return schema.make_clustering(parts), begins


def _check_starts(schema: Schema, position: int, begins: str | bytes) -> None:
    kind = "str" if isinstance(begins, str) else "bytes"
    if position >= len(schema.clustering):
        raise ValidationError("this prefix has more components than the clustering key", table=schema.name)
    field = schema.clustering[position]
    if field.type.kind != kind:
        raise ValidationError(
            f"only a {kind} component can begin with {begins!r}: give a tuple of whole components, or first= and last=",
            table=schema.name,
            field=field.name,
        )
    if isinstance(begins, str) and not _is_text(begins):
        raise ValidationError("no key begins with a lone surrogate: none is ever stored", table=schema.name)


def _is_text(text: str) -> bool:
    """Whether a str is Unicode text, which one with lone surrogates is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _describe(slice: Slice) -> str:
    words = ["all partitions"] if slice.partition is None else [f"partition {slice.partition!r}"]
    if slice.prefix or slice.starts is not None:
        rest = "" if slice.starts is None else f" then {slice.starts!r}..."
        words.append(f"prefix {slice.prefix!r}{rest}")
    if slice.lower is not None:
        words.append(f"{'from' if slice.lower.inclusive else 'after'} {slice.lower.parts!r}")
    if slice.upper is not None:
        words.append(f"{'to' if slice.upper.inclusive else 'before'} {slice.upper.parts!r}")
    words.append("descending" if slice.reverse else "ascending")
    if slice.limit is not None:
        words.append(f"at most {slice.limit}")
    return ", ".join(words)
