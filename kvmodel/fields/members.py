"""The members of a class, and the lines of generated functions that load and dump them.

Models and nested objects share these. A line tries the guard of the member's codec first, so that the usual value of a
usual type costs one comparison; what is left goes to the member's ``load`` or ``dump``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from kvmodel.drivers.base import Primitive
from kvmodel.fields.base import MISSING, Codec, Mismatch, Note, wrong_type
from kvmodel.fields.scalars import GUARD_NAMES


@attrs.frozen(eq=False)
class Member:
    """One attribute of a class that is stored.

    Attributes:
        name: The attribute, and the name of the stored field.
        alias: Its name in the constructor.
        codec: How it is stored.
        make_default: Gives what the constructor takes where the stored field is missing; ``None``: it may not miss.
        kw_only: Whether the constructor takes it by name only.
        init: Whether the constructor takes it at all.
        recheck: Called with the object before the field is dumped, where it may have changed in place.
    """

    name: str
    alias: str
    codec: Codec
    make_default: Callable[[], object] | None = None
    kw_only: bool = False
    init: bool = True
    recheck: Callable[[Any], None] | None = None

    def load(self, value: object, note: Note) -> object:
        """Load a value that the guard did not let through; answer what the constructor takes."""
        try:
            if value is MISSING:
                return self._default()
            return self.codec.load(value, note)
        except Mismatch as error:
            raise error.under(f".{self.name}") from error.__cause__

    def _default(self) -> object:
        if self.make_default is not None:
            return self.make_default() if self.init else MISSING
        raise wrong_type(self.codec.text, MISSING)

    def dump(self, value: object) -> Primitive:
        """Dump a value that the guard did not let through."""
        try:
            return self.codec.dump(value)
        except Mismatch as error:
            raise error.under(f".{self.name}") from error.__cause__


def names_of(members: Sequence[Member]) -> dict[str, object]:
    """Answer what the generated lines refer to."""
    names: dict[str, object] = {**GUARD_NAMES, "MISSING": MISSING}
    for index, member in enumerate(members):
        names[f"load_{index}"] = member.load
        names[f"dump_{index}"] = member.dump
        names[f"recheck_{index}"] = member.recheck
    return names


def load_lines(members: Sequence[Member], note: str) -> list[str]:
    """Write the lines that load ``values`` into ``v0``, ``v1``..."""
    lines = []
    for index, member in enumerate(members):
        variable = f"v{index}"
        fetch = f"{variable} = values.get({member.name!r}, MISSING)"
        convert = f"{variable} = load_{index}({variable}, {note})"
        lines += [fetch, *_guarded(member.codec.load_guard, variable, convert)]
    return lines


def dump_lines(members: Sequence[Member]) -> list[str]:
    """Write the lines that dump the attributes of ``obj`` into ``v0``, ``v1``..."""
    lines = []
    for index, member in enumerate(members):
        variable = f"v{index}"
        if member.recheck is not None:
            lines.append(f"recheck_{index}(obj)")
        lines.append(f"{variable} = obj.{member.name}")
        lines += _guarded(member.codec.dump_guard, variable, f"{variable} = dump_{index}({variable})")
    return lines


def _guarded(guard: str | None, variable: str, convert: str) -> list[str]:
    if guard is None:
        return [convert]
    return [f"if not ({guard.format(v=variable)}):", f"    {convert}"]


def dump_result(members: Sequence[Member]) -> str:
    """Write the expression of a dumped object."""
    return "{" + ", ".join(f"{member.name!r}: v{index}" for index, member in enumerate(members)) + "}"


def arguments(items: Sequence[tuple[str, Member]]) -> str:
    """Write the constructor's arguments: each member with the variable that holds its value."""
    positional = [variable for variable, member in items if member.init and not member.kw_only]
    named = [f"{member.alias}={variable}" for variable, member in items if member.init and member.kw_only]
    return ", ".join(positional + named)


def indent(lines: Sequence[str], depth: int = 1) -> list[str]:
    """Indent source lines."""
    return ["    " * depth + line for line in lines]


def late_lines(items: Sequence[tuple[str, Member]]) -> list[str]:
    """Write the lines that set what the constructor does not take, where it is stored."""
    return [
        line
        for variable, member in items
        if not member.init
        for line in (f"if {variable} is not MISSING:", f"    set_attribute(obj, {member.name!r}, {variable})")
    ]


def default_maker(default: Any) -> Callable[[], object] | None:
    """Answer what gives the constructor's argument where a stored field is missing.

    For a factory that is ``NOTHING``: an attrs constructor takes it for an argument that was not given.
    """
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return lambda: attrs.NOTHING
    return lambda: default
