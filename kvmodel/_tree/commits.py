"""What changes of whole subtrees have in common: one commit as far as the store reaches, again after a lost race."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from kvmodel._direct import pause
from kvmodel.drivers.base import Atomicity, CheckRange, Mutation, Row, Slice
from kvmodel.errors import AlreadyExists, Conflict, TimedOut, TooLarge, Unsupported

if TYPE_CHECKING:
    from kvmodel._binding import Bound

__all__ = [
    "Costs",
    "again_after_races",
    "most_in_one",
    "read_all",
    "require_commits",
    "unchanged",
    "write_at_once",
]

_REMEDY: Final = "say atomic=False, which does it in batches that stand for themselves"


@attrs.frozen(kw_only=True)
class Costs:
    """What one node adds to a commit where ranges can't be checked."""

    changes: int
    checks: int


def unchanged(bound: Bound[Any], slice: Slice, rows: Sequence[Row]) -> CheckRange:
    """Rely on a slice being as it was read."""
    return CheckRange(bound.table, slice, tuple((row.key, row.version) for row in rows))


def require_commits(bound: Bound[Any], *, conditional: bool = True) -> None:
    """Raise ``Unsupported`` unless the store can change several nodes in one commit, relying on what was read."""
    capabilities = bound.driver.capabilities
    if capabilities.atomicity is Atomicity.RECORD:
        problem = "this store changes one record at a time, so that a subtree can't change in one commit"
    elif conditional and not capabilities.conditional:
        problem = "this store has no conditional writes, so that what others change meanwhile could be lost"
    else:
        return
    raise Unsupported(f"{problem}: {_REMEDY}", table=bound.table.name, store=bound.driver.address)


def most_in_one(bound: Bound[Any], costs: Costs) -> int | None:
    """How many nodes fit into one commit, ``None`` for any number."""
    capabilities = bound.driver.capabilities
    limits = []
    if capabilities.max_atomic_changes is not None:
        limits.append(capabilities.max_atomic_changes // costs.changes)
    if capabilities.max_atomic_checks is not None and costs.checks and not capabilities.range_checks:
        limits.append(capabilities.max_atomic_checks // costs.checks)
    return min(limits, default=None)


async def read_all(
    bound: Bound[Any], slice: Slice, until: float, *, values: bool = True, most: int | None = None
) -> list[Row]:
    """Read all rows of a slice. Raises ``TooLarge`` where they are more than ``most``."""
    if most is not None:
        slice = slice._replace(limit=most + 1)
    rows: list[Row] = []
    while True:
        page = await bound.driver.scan(bound.table, slice, values=values, now=bound.now(), until=until)
        rows += page.rows
        if most is not None and len(rows) > most:
            raise TooLarge(
                f"this subtree has more nodes than the store changes in one commit: {_REMEDY}",
                size=len(rows),
                limit=most,
                table=bound.table.name,
                store=bound.driver.address,
            )
        if page.resume is None:
            return rows
        slice = slice._replace(after=page.resume, limit=None if slice.limit is None else slice.limit - len(page.rows))
        await bound.breathe(until)


async def write_at_once(bound: Bound[Any], mutations: Sequence[Mutation], until: float) -> None:
    """Write in one commit. Raises ``TooLarge`` with the remedy where that is too much."""
    try:
        await bound.driver.write(mutations, atomic=True, now=bound.now(), until=until)
    except TooLarge as error:
        raise TooLarge(
            f"this subtree is more than the store takes in one commit: {_REMEDY}",
            size=error.size,
            limit=error.limit,
            table=bound.table.name,
            store=bound.driver.address,
        ) from error


async def again_after_races(bound: Bound[Any], attempt: Callable[[float], Awaitable[int]]) -> int:
    """Await ``attempt(until)``, again after each lost race until the time limit."""
    until = await bound.prepared()
    count = 0
    while True:
        try:
            return await attempt(until)
        except AlreadyExists:
            raise
        except Conflict as conflict:
            count += 1
            if not await pause(min(count, 7), until):
                raise TimedOut(
                    "others change this subtree all the time and every attempt lost the race: raise the timeout, or "
                    "say atomic=False",
                    table=bound.table.name,
                    store=bound.driver.address,
                ) from conflict
