"""What one emulated node holds: keys in order, and atomic updates on them.

Rules.

* An update is a step, as clients send them; a sequence is all or nothing.
* The hole of the real server is there: inside a sequence, deleting a prefix and asserting a range look past what
  earlier steps did, and a deleted prefix stays deleted when a later step fails. ``has_hole=False`` closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from kvmodel.drivers.arakoon import steps as s
from kvmodel.drivers.arakoon.nursery import ClusterNode, Interval, Leaf, Routing, Split
from kvmodel.drivers.arakoon.protocol import Code, Refusal
from kvmodel.drivers.memory import SortedKeys

__all__ = ["MAX_UPDATE_BYTES", "Store", "UserFunction", "View"]

MAX_UPDATE_BYTES: Final = 32 << 20


class View(Protocol):
    """What steps and user functions work on."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write, or with ``None`` delete."""
        ...


UserFunction = Callable[[View, "bytes | None"], "bytes | None"]


class _Overlay:
    """What a sequence has done so far."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.changes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.changes[key] if key in self.changes else self._store.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        self.changes[key] = value


class Store:
    """Keys and values in order, and what the nursery commands keep.

    Attributes:
        stamp: How many updates there were.
        functions: User functions, by name.
    """

    def __init__(self, *, has_hole: bool = True) -> None:
        self._has_hole = has_hole
        self._data: dict[bytes, bytes] = {}
        self._keys = SortedKeys()
        self._longest = 0
        self.stamp = 0
        self.functions: dict[bytes, UserFunction] = {}
        self.interval = Interval()
        self.routing: Routing | None = None
        self.clusters: dict[bytes, tuple[ClusterNode, ...]] = {}
        self.get = self._data.get

    def __len__(self) -> int:
        return len(self._data)

    # --- reading ------------------------------------------------------------------------------------------------------

    def ascend(self, begin: bytes | None, inclusive: bool) -> Iterator[bytes]:
        """Yield keys upwards."""
        start = begin or b""
        keys = self._keys.ascend(start if inclusive else start + b"\x00")
        yield from keys

    def descend(self, begin: bytes | None, inclusive: bool) -> Iterator[bytes]:
        """Yield keys downwards."""
        if begin is None:
            begin = b"\xff" * (self._longest + 1)
        yield from self._keys.descend(begin + b"\x00" if inclusive else begin)

    def with_prefix(self, prefix: bytes) -> list[bytes]:
        """Answer the keys that begin so."""
        found = []
        for key in self._keys.ascend(prefix):
            if not key.startswith(prefix):
                break
            found.append(key)
        return found

    # --- writing ------------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write, or with ``None`` delete."""
        if value is not None:
            if key not in self._data:
                self._keys.add(key)
                self._longest = max(self._longest, len(key))
            self._data[key] = value
        elif self._data.pop(key, None) is not None:
            self._keys.remove(key)

    def apply(self, step: s.Step) -> object:
        """Carry out one update, and answer what its command answers. Raises ``Refusal``."""
        self.stamp += 1
        if not isinstance(step, s.Sequence):
            return self._do(self, step)
        overlay = _Overlay(self)
        self._do(overlay, step)
        for key, value in overlay.changes.items():
            self.put(key, value)
        return None

    def _do(self, view: View, step: s.Step) -> object:
        match step:
            case s.Sequence(steps):
                for inner in steps:
                    self._do(view, inner)
            case s.Set(key, value):
                view.put(key, value)
            case s.Delete(key):
                if view.get(key) is None:
                    raise Refusal(Code.NOT_FOUND, key)
                view.put(key, None)
            case s.TestAndSet(key, expected, wanted):
                before = view.get(key)
                if before == expected:
                    view.put(key, wanted)
                return before
            case s.Replace(key, wanted):
                before = view.get(key)
                view.put(key, wanted)
                return before
            case s.Assert(key, expected):
                if view.get(key) != expected:
                    raise Refusal(Code.ASSERTION_FAILED, key)
            case s.AssertExists(key):
                if view.get(key) is None:
                    raise Refusal(Code.ASSERTION_FAILED, key)
            case s.AssertRange(prefix, keys):
                self._assert_range(view, prefix, keys)
            case s.DeletePrefix(prefix):
                return self._delete_prefix(view, prefix)
            case s.UserFunction(name, argument):
                return self.functions[name](view, argument)
            case s.SetInterval():
                self.interval = Interval(step.public_begin, step.public_end, step.private_begin, step.private_end)
            case s.SetRouting(routing):
                self.routing = routing
            case s.SetRoutingDelta(left, separator, right):
                assert self.routing is not None
                self.routing = _moved(self.routing, left, separator, right)
            case _:
                pass
        return None

    def _assert_range(self, view: View, prefix: bytes, keys: tuple[bytes, ...]) -> None:
        actual = self._as_seen(view, prefix)
        if list(reversed(keys)) != actual:
            said = "; ".join(key.decode("latin-1") for key in reversed(keys))
            seen = ",".join(key.decode("latin-1") for key in actual)
            raise Refusal(Code.ASSERTION_FAILED, f'ContainsExactly [ "{said}" ] actual: {seen}'.encode("latin-1"))

    def _delete_prefix(self, view: View, prefix: bytes) -> int:
        doomed = self._as_seen(view, prefix)
        for key in doomed:
            (self if self._has_hole else view).put(key, None)
        return len(doomed)

    def _as_seen(self, view: View, prefix: bytes) -> list[bytes]:
        keys = self.with_prefix(prefix)
        if self._has_hole or not isinstance(view, _Overlay):
            return keys
        changed = {key for key in view.changes if key.startswith(prefix)}
        return sorted(key for key in changed.union(keys) if view.get(key) is not None)


def _moved(routing: Routing, left: bytes, separator: bytes, right: bytes) -> Routing:
    """Move the boundary between two clusters, or put the right one beside the left one."""
    if isinstance(routing, Leaf):
        return Split(separator, Leaf(left), Leaf(right)) if routing.cluster == left else routing
    if _edge(routing.left, last=True) == left and _edge(routing.right, last=False) == right:
        return Split(separator, routing.left, routing.right)
    if right in _leaves(routing.left) or left in _leaves(routing.left):
        return Split(routing.boundary, _moved(routing.left, left, separator, right), routing.right)
    return Split(routing.boundary, routing.left, _moved(routing.right, left, separator, right))


def _leaves(routing: Routing) -> list[bytes]:
    if isinstance(routing, Leaf):
        return [routing.cluster]
    return _leaves(routing.left) + _leaves(routing.right)


def _edge(routing: Routing, *, last: bool) -> bytes:
    return _leaves(routing)[-1 if last else 0]
