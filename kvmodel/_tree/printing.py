"""Trees to look at. ``rich`` gives them colours on a terminal; without it the same lines are plain."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TextIO, TypeVar

import attrs

from kvmodel._tree.paths import Path

if TYPE_CHECKING:
    from kvmodel._tree.tree import Tree
    from kvmodel.model import Model

__all__ = ["print_tree"]

M = TypeVar("M", bound="Model")

_GUIDES: Final = ("├── ", "└── ", "│   ", "    ")
_ASCII_GUIDES: Final = ("+-- ", "`-- ", "|   ", "    ")
_LONGEST_FIELDS: Final = 100


@attrs.define(eq=False)
class _Branch(Generic[M]):
    """A place in the tree, with what is right below it. It has no node where only others are below."""

    path: Path
    node: M | None = None
    below: list[_Branch[M]] = attrs.field(factory=list)


async def print_tree(
    tree: Tree[M], path: Path, depth: int | None, label: Callable[[M], str] | None, file: TextIO | None
) -> None:
    """Read a tree, and print it."""
    root = await _grow(tree, path, depth)
    labels = _Labels(tree, label)
    out = sys.stdout if file is None else file
    if not (out.isatty() and _print_rich(root, labels, out)):
        _print_plain(root, labels, out)


# --- growing ----------------------------------------------------------------------------------------------------------


async def _grow(tree: Tree[M], path: Path, depth: int | None) -> _Branch[M]:
    root: _Branch[M] = _Branch(path, await tree.cursor(*path).get())
    line = [root]  # From the root to where the last node was put.
    async for at, node in _places(tree, path, depth):
        while at[: len(line[-1].path)] != line[-1].path:
            line.pop()
        for length in range(len(line[-1].path) + 1, len(at) + 1):
            branch: _Branch[M] = _Branch(at[:length])
            line[-1].below.append(branch)
            line.append(branch)
        line[-1].node = node
    return root


async def _places(tree: Tree[M], path: Path, depth: int | None) -> AsyncIterator[tuple[Path, M | None]]:
    """Go through all below a path, depth first: nodes, and where nodes would be that others are below."""
    if depth is None:
        async for node in tree.descendants(*path):
            yield tree._path_of(node), node
        return
    for place in await tree._down_to(depth, path).places():
        yield place


# --- labels -----------------------------------------------------------------------------------------------------------


class _Labels(Generic[M]):
    """What to print for each place."""

    def __init__(self, tree: Tree[M], label: Callable[[M], str] | None) -> None:
        self._tree = tree
        self._label = label or self._describe
        keys = {member.name for member in tree._schema.key_members}
        self._fields = [member.name for member in tree._schema.constructor if member.name not in keys]

    def of(self, branch: _Branch[M]) -> str:
        """Answer the label of a place; control characters in it are shown, not sent to the terminal."""
        if branch.node is not None:
            return _printable(self._label(branch.node))
        if branch.path:
            return f"({_printable(str(branch.path[-1]))})"
        return _printable(" ".join(map(str, (self._tree._schema.name, *self._tree._values))))

    def _describe(self, node: M) -> str:
        fields = ((name, getattr(node, name, None)) for name in self._fields)
        text = ", ".join(f"{name}={value!r}" for name, value in fields if value is not None)
        if len(text) > _LONGEST_FIELDS:
            text = f"{text[:_LONGEST_FIELDS]}..."
        name = str(self._tree._path_of(node)[-1])
        return f"{name}  {text}" if text else name


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# --- printing ---------------------------------------------------------------------------------------------------------


def _print_plain(root: _Branch[Any], labels: _Labels[Any], file: TextIO) -> None:
    encoding = getattr(file, "encoding", None) or "utf-8"
    for line in _lines(root, labels, _GUIDES if _takes(encoding, "".join(_GUIDES)) else _ASCII_GUIDES):
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=file)


def _takes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _lines(root: _Branch[Any], labels: _Labels[Any], guides: tuple[str, str, str, str]) -> Iterator[str]:
    """Write the lines. Not by recursion: a tree may be deeper than Python's stack."""
    fork, end, wall, space = guides
    yield labels.of(root)
    waiting = [(branch, "", branch is root.below[-1]) for branch in reversed(root.below)]
    while waiting:
        branch, indent, is_last = waiting.pop()
        yield f"{indent}{end if is_last else fork}{labels.of(branch)}"
        inner = indent + (space if is_last else wall)
        waiting += [(one, inner, one is branch.below[-1]) for one in reversed(branch.below)]


def _print_rich(root: _Branch[Any], labels: _Labels[Any], file: TextIO) -> bool:
    """Print with colours. Answers whether ``rich`` is there to do it."""
    try:
        from rich.console import Console
        from rich.text import Text
        from rich.tree import Tree as RichTree
    except ImportError:
        return False

    def text(branch: _Branch[Any]) -> Text:
        return Text(labels.of(branch), style="dim" if branch.node is None else "bold" if branch.below else "")

    top = RichTree(text(root), guide_style="dim cyan")
    waiting: list[tuple[_Branch[Any], RichTree]] = [(branch, top) for branch in reversed(root.below)]
    while waiting:
        branch, above = waiting.pop()
        here = above.add(text(branch))
        waiting += [(one, here) for one in reversed(branch.below)]
    Console(file=file).print(top)
    return True
