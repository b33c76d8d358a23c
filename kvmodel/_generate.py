"""Generate what a schema does for every record: make and take keys, dump and load objects.

The functions are source, compiled once for each model. Each tries the usual case in line and leaves the rest, errors
above all, to plain functions of the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvmodel._compile import compile_function
from kvmodel._state import Status, set_state
from kvmodel.fields.base import Mismatch, cause_of
from kvmodel.fields.members import Member, arguments, dump_lines, dump_result, indent, late_lines, load_lines, names_of
from kvmodel.fields.scalars import GUARD_NAMES

if TYPE_CHECKING:
    from kvmodel.schema import KeyMember, Schema


def _key_lines(members: Sequence[KeyMember], whole: str) -> list[str]:
    """Write the lines that return the key made of ``k0``, ``k1``..., which ``whole`` is already if all guards hold.

    They fall through where a part is refused, so that what follows can say which.
    """
    guards = [member.codec.guard and member.codec.guard.format(v=f"k{index}") for index, member in enumerate(members)]
    at_once = " and ".join(f"({guard})" for guard in guards if guard) or "True"
    lines = [] if None in guards else [f"if {at_once}:", f"    return {whole}"]
    lines.append("try:")
    for index, guard in enumerate(guards):
        condition = f"if not ({guard}): " if guard else ""
        lines.append(f"    {condition}k{index} = convert_{index}(k{index})")
    return [*lines, f"    return ({_names(members)})", "except Mismatch:", "    pass"]


def _names(members: Sequence[KeyMember]) -> str:
    return "".join(f"k{index}, " for index in range(len(members)))


def _key_names(schema: Schema, members: Sequence[KeyMember]) -> dict[str, object]:
    def explain(parts: tuple[Any, ...]) -> Any:
        return schema.convert_key(parts, members)

    converts = {f"convert_{index}": member.codec.convert for index, member in enumerate(members)}
    return {**GUARD_NAMES, **converts, "Mismatch": Mismatch, "explain": explain}


def generate_make(schema: Schema, members: Sequence[KeyMember], name: str) -> Callable[..., Any]:
    """Make the function from a user's arguments to (a leading part of) a key."""
    lines = [
        f"def {name}(*parts):",
        f"    if len(parts) == {len(members)}:",
        *indent([f"{_names(members)}= parts"] if members else [], 2),
        *indent(_key_lines(members, "parts"), 2),
        "    return explain(parts)",
    ]
    return compile_function(name, lines, _key_names(schema, members), f"{schema.model_name}.{name}")


def generate_key_of(schema: Schema) -> Callable[..., Any]:
    """Make the function from an object to its key."""
    members = schema.key_members
    parts = ", ".join(f"obj.{member.name}" for member in members)
    lines = [
        "def key_of(obj):",
        "    if type(obj) is not model:",
        "        raise stranger(obj)",
        f"    {_names(members)}= {parts},",
        *indent(_key_lines(members, f"({_names(members)})")),
        f"    return explain(({parts},))",
    ]
    names = {**_key_names(schema, members), "model": schema.model, "stranger": schema.stranger}
    return compile_function("key_of", lines, names, f"{schema.model_name}.key_of")


def generate_dump(schema: Schema) -> Callable[..., Any]:
    """Make the function from an object to its stored values."""
    members = schema.value_members
    lines = [
        "def dump(obj):",
        "    if type(obj) is not model:",
        "        raise stranger(obj)",
        "    try:",
        *indent(dump_lines(members), 2),
        f"        values = {dump_result(members)}",
        "        state = obj._kv_state",
        "        if state is not None and state[4] is not None:",
        "            return merge(values, state[4])",
        "        return values",
        "    except Exception as error:",
        "        raise dump_failed(error, obj) from cause_of(error)",
    ]
    names = {
        **names_of(members),
        "model": schema.model,
        "stranger": schema.stranger,
        "merge": schema.merge,
        "dump_failed": schema.dump_failed,
        "cause_of": cause_of,
    }
    return compile_function("dump", lines, names, f"{schema.model_name}.dump")


def generate_load(schema: Schema) -> Callable[..., Any]:
    """Make the function from a row to an object."""
    values = schema.value_members
    noting = any(member.codec.holds_objects for member in values)
    variables = {member.name: f"v{index}" for index, member in enumerate(values)}
    variables |= {member.name: f"k{index}" for index, member in enumerate(schema.key_members)}
    ordered: list[tuple[str, Member]] = [(variables[member.name], member) for member in schema.constructor]
    body = [
        f"{_names(schema.key_members)}= key",
        *_restore_lines(schema.key_members),
        f"if number != {schema.number}:",
        "    values = upgrade(values, number)",
        *(["note = []"] if noting else []),
        *load_lines(values, "note" if noting else "None"),
        f"obj = model({arguments(ordered)})",
        *late_lines(ordered),
    ]
    unknown = f"len(values) != {len(values)}" + (" or note" if noting else "")
    lines = [
        "def load(row):",
        "    key, values, version, expires_at, number = row",
        "    try:",
        *indent(body, 2),
        f"        raw = keep(values, {'note' if noting else 'None'}) if {unknown} else None",
        "    except Exception as error:",
        "        raise load_failed(error, key) from cause_of(error)",
        f"    {_set_state(schema.model)}",
        "    return obj",
    ]
    names = {
        **names_of(values),
        **{f"restore_{index}": member.restore for index, member in enumerate(schema.key_members)},
        "model": schema.model,
        "upgrade": schema.upgrade,
        "keep": schema.keep,
        "load_failed": schema.load_failed,
        "cause_of": cause_of,
        "set_state": set_state,
        "set_attribute": object.__setattr__,
        "LOADED": Status.LOADED,
    }
    return compile_function("load", lines, names, f"{schema.model_name}.load")


def _set_state(model: type) -> str:
    """The statement that gives a new object its state, which a class with checked assignment must not see."""
    state = "(LOADED, key, version, expires_at, raw)"
    assignment: object = model.__setattr__
    return f"obj._kv_state = {state}" if assignment is object.__setattr__ else f"set_state(obj, {state})"


def _restore_lines(members: Sequence[KeyMember]) -> list[str]:
    return [
        f"k{index} = restore_{index}(k{index})"
        for index, member in enumerate(members)
        if member.codec.restore is not None
    ]
