"""Watching: changes know their model."""

from __future__ import annotations

from typing import assert_type

import kvmodel as kv
from tests.typing.right.models import Reading, User


async def watching() -> None:
    """In a block and without, of partitions and of records."""
    async with User.objects.watch("red", prefix="a") as changes:
        assert_type(changes, kv.Changes[User])
        assert_type(changes.position, str | None)
        async for change in changes:
            assert_type(change, kv.Change[User])
            assert_type(change.new, User | None)
            assert_type(change.old, User | None)
            assert_type(change.kind, kv.ChangeKind)
            assert_type(change.position, str | None)
            if change.kind is kv.ChangeKind.DELETED:
                return
    async for reading in Reading.objects.watch("s", 1, position="x"):
        assert_type(reading, kv.Change[Reading])
        return
    assert_type(await anext(User.objects.watch()), kv.Change[User])
