"""What a tree should do, as a plain dictionary of paths. Written from the promises alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs

from tests.tree.models import Path

RANK: dict[type, int] = {str: 0, int: 1, UUID: 2}


def place(path: Path) -> list[tuple[int, Any]]:
    """Where a path comes: str before int before UUID, a shorter one before what goes on from it."""
    return [(RANK[type(part)], part) for part in path]


@attrs.define
class Reference:
    """One tree."""

    nodes: dict[Path, int] = attrs.field(factory=dict)

    # --- reading ---

    def walk(self, path: Path = ()) -> list[Path]:
        return sorted((one for one in self.nodes if one[: len(path)] == path), key=place)

    def descendants(self, path: Path, depth: int | None = None) -> list[Path]:
        below = [one for one in self.walk(path) if one != path]
        return below if depth is None else [one for one in below if len(one) <= len(path) + depth]

    def child_paths(self, path: Path) -> list[Path]:
        return list(dict.fromkeys(one[: len(path) + 1] for one in self.descendants(path)))

    def ancestors(self, path: Path) -> list[Path]:
        return [path[:length] for length in range(1, len(path)) if path[:length] in self.nodes]

    def after(self, path: Path) -> list[Path]:
        return [one for one in self.walk() if place(one) > place(path)]

    def before(self, path: Path) -> list[Path]:
        return [one for one in self.walk() if place(one) < place(path)]

    # --- changing ---

    def set(self, path: Path, value: int) -> None:
        self.nodes[path] = value

    def delete(self, path: Path) -> bool:
        return self.nodes.pop(path, None) is not None

    def delete_subtree(self, path: Path) -> int:
        gone = self.walk(path)
        for one in gone:
            del self.nodes[one]
        return len(gone)

    def transfer(self, old: Path, new: Path, *, keeps: bool, overwrite: bool) -> int | str:
        """Answer how many nodes went, or the name of the error."""
        if new[: len(old)] == old or (overwrite and old[: len(new)] == new):
            return "ValidationError"
        if self.walk(new) and not overwrite:
            return "AlreadyExists"
        going = self.walk(old)
        if not going:
            return "NotFound"
        values = {new + one[len(old) :]: self.nodes[one] for one in going}
        if not keeps:
            self.delete_subtree(old)
        self.nodes.update(values)
        return len(going)
