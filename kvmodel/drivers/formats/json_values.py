"""Stored values as JSON, directed by their types. Specified in ``docs/spec/records.md``.

JSON knows no bytes, Decimals or times: they become texts, and it takes the declared type to turn them back. A union in
which two members would look the same is refused when the table is compiled. What JSON holds by itself (texts, ints,
booleans, lists and objects of these) passes as it is; the mapper checks its types, as it does for every store.

Readers take a little more than what is written, since other programs write these documents too: any offset and any
number of fractional digits in times, an integer where a float is declared, upper case in UUIDs.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Final, NoReturn, TypeAlias, cast
from uuid import UUID

import attrs

from kvmodel.drivers.base import Primitive, Values, ValueType
from kvmodel.drivers.formats.text import encode_datetime
from kvmodel.errors import SchemaError

__all__ = ["TEXTS", "WIDE_INT", "Form", "dump_json", "form_of", "load_json"]

Convert: TypeAlias = Callable[[Primitive], Primitive]

WIDE_INT: Final = "wide int"
"""The kind of an int that is a text beyond 2 to the 53rd, where JSON numbers may be floats. Not for unions."""
_LONGEST: Final = 0xFFFF
_MICROSECOND: Final = timedelta(microseconds=1)


@attrs.frozen
class Form:
    """How one type is written as JSON and read again.

    ``None`` in place of a function: as it stands. ``shapes`` are the JSON types that it may be written as.
    """

    write: Convert | None
    read: Convert | None
    shapes: frozenset[str]


# --- whole documents --------------------------------------------------------------------------------------------------


def dump_json(value: Primitive) -> bytes:
    """Write JSON values. Raises ``ValueError``, ``TypeError`` or ``RecursionError`` for what JSON does not hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def load_json(data: bytes) -> Primitive:
    """Read JSON. Raises ``ValueError`` or ``RecursionError`` for anything else."""
    value = json.loads(data.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    if b"\\u" in data:
        json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates, which escapes can write
    return cast("Primitive", value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is beyond all floats")
    return value


# --- scalars ----------------------------------------------------------------------------------------------------------


def _write_float(value: float) -> Primitive:
    if value - value == 0.0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _read_number(value: Primitive) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        number = float(value)
        if int(number) == value:
            return number
    raise ValueError("a float is a JSON number")


def _read_float(value: Primitive) -> float:
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return _read_number(value)


_EXACT: Final = 2**53
_DIGITS: Final = re.compile(r"-?[1-9][0-9]{15,3999}", re.ASCII)


def _write_wide_int(value: int) -> Primitive:
    return value if -_EXACT <= value <= _EXACT else str(value)


def _read_wide_int(value: Primitive) -> Primitive:
    if isinstance(value, str) and _DIGITS.fullmatch(value) and not -_EXACT <= int(value) <= _EXACT:
        return int(value)
    if type(value) is not int:
        raise ValueError("an int is a JSON number, or a text beyond 2 to the 53rd")
    return value


_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[Ee][+-]?[0-9]{1,18})?|Infinity|s?NaN[0-9]*)")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?")
_OFFSET: Final = re.compile(r"(?:Z|[+-][0-9]{2}:[0-9]{2})")
_DATETIME: Final = re.compile(f"{_DATE.pattern}T{_TIME.pattern}{_OFFSET.pattern}")
_TIMEDELTA: Final = re.compile(r"(-?)PT([0-9]{1,14})(?:\.([0-9]{1,6}))?S")


def _read_decimal(text: str) -> Decimal:
    if len(text) > _LONGEST:
        raise ValueError("a Decimal is too long")
    value = Decimal(_matched(_DECIMAL, text))
    if value.is_nan() and "NaN" not in text:
        raise ValueError("a Decimal's exponent is out of range")
    return value


def _write_decimal(value: Decimal) -> str:
    text = str(value)
    if len(text) > _LONGEST:
        raise ValueError("a Decimal takes 65535 characters at the most")
    return text


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _read_bytes(text: str) -> bytes:
    value = base64.b64decode(text, validate=True)
    if _write_bytes(value) != text:
        raise ValueError("bytes are written in base64, with padding")
    return value


def _read_datetime(text: str) -> datetime:
    return datetime.fromisoformat(_matched(_DATETIME, text)).astimezone(timezone.utc)


def _write_time(value: time) -> str:
    if value.tzinfo is not None:
        raise ValueError("a time must be naive: keep its zone in a field of its own")
    return value.isoformat(timespec="microseconds")


def _write_timedelta(value: timedelta) -> str:
    count = value // _MICROSECOND
    seconds, rest = divmod(abs(count), 1_000_000)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if count < 0 else ''}PT{seconds}{fraction}S"


def _read_timedelta(text: str) -> timedelta:
    found = _TIMEDELTA.fullmatch(text)
    if found is None:
        raise ValueError("a timedelta is written as PT..S")
    count = int(found[2]) * 1_000_000 + int((found[3] or "").ljust(6, "0"))
    return timedelta(microseconds=-count if found[1] else count)


def _matched(pattern: re.Pattern[str], text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ValueError("a text has another form than its type's")
    return text


TEXTS: Final[dict[str, tuple[Callable[..., str], Callable[[str], Primitive]]]] = {
    "bytes": (_write_bytes, _read_bytes),
    "decimal": (_write_decimal, _read_decimal),
    "uuid": (str, lambda text: UUID(_matched(_UUID, text))),
    "datetime": (encode_datetime, _read_datetime),
    "date": (date.isoformat, lambda text: date.fromisoformat(_matched(_DATE, text))),
    "time": (_write_time, lambda text: time.fromisoformat(_matched(_TIME, text))),
    "timedelta": (_write_timedelta, _read_timedelta),
}
"""What JSON keeps as text."""


def _text_form(kind: str) -> Form:
    write, read = TEXTS[kind]

    def read_text(value: Primitive) -> Primitive:
        if not isinstance(value, str):
            raise ValueError("this type is a JSON string")
        return read(value)

    return Form(write, read_text, _TEXT_SHAPES)


_TEXT_SHAPES: Final = frozenset(("string",))
_ALL_SHAPES: Final = frozenset(("bool", "int", "float", "string", "list", "object"))
_PLAIN: Final = {
    "any": Form(None, None, _ALL_SHAPES),
    "bool": Form(None, None, frozenset(("bool",))),
    "int": Form(None, None, frozenset(("int",))),
    "str": Form(None, None, _TEXT_SHAPES),
}
_WIDE_INT: Final = Form(cast("Convert", _write_wide_int), _read_wide_int, frozenset(("int", "string")))
_FLOAT: Final = Form(cast("Convert", _write_float), _read_float, frozenset(("float", "string")))
_FLOAT_AMONGTEXTS: Final = Form(None, _read_number, frozenset(("float",)))
_SHAPES: Final[dict[type, str]] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
    list: "list",
    dict: "object",
}


# --- by type ----------------------------------------------------------------------------------------------------------


def form_of(declared: ValueType, path: str) -> Form:
    """Answer the form of a type. Raises ``SchemaError`` naming ``path`` for a union that JSON cannot tell apart."""
    form = _form_of(declared, path)
    write, read = form.write, form.read
    if read is None:
        return form

    def write_or_null(value: Primitive) -> Primitive:
        return None if value is None or write is None else write(value)

    def read_or_null(value: Primitive) -> Primitive:
        return None if value is None and declared.nullable else read(value)

    return attrs.evolve(form, write=write and write_or_null, read=read_or_null)


def _form_of(declared: ValueType, path: str) -> Form:
    kind = declared.kind
    if kind in TEXTS:
        return _text_form(kind)
    if kind == "float":
        return _FLOAT
    if kind == WIDE_INT:
        return _WIDE_INT
    if kind == "union":
        return _union_form(declared, path)
    if kind == "list" and declared.fixed:
        return _fixed_form([form_of(item, f"{path}[{index}]") for index, item in enumerate(declared.items)])
    if kind == "list":
        return _list_form(form_of(declared.items[0], f"{path}[]"))
    if kind == "pairs":
        pair = _fixed_form([form_of(item, f"{path}[]") for item in declared.items])
        return _list_form(pair)
    if kind == "dict":
        return _dict_form(form_of(declared.items[0], f"{path}[]"))
    if kind == "object":
        return _object_form(dict(zip(declared.names, declared.items, strict=True)), path)
    return _PLAIN[kind]


def _list_form(item: Form) -> Form:
    shapes = frozenset(("list",))
    write, read = item.write, item.read
    if read is None:
        return Form(None, None, shapes)

    def write_list(value: Primitive) -> Primitive:
        return list(map(write, cast("list[Primitive]", value))) if write else value

    def read_list(value: Primitive) -> Primitive:
        if not isinstance(value, list):
            raise ValueError("this type is a JSON array")
        return list(map(read, value))

    return Form(write and write_list, read_list, shapes)


def _fixed_form(items: list[Form]) -> Form:
    shapes = frozenset(("list",))
    if all(item.read is None for item in items):
        return Form(None, None, shapes)

    def write_fixed(value: Primitive) -> Primitive:
        elements = cast("list[Primitive]", value)
        return [item.write(each) if item.write else each for item, each in zip(items, elements, strict=True)]

    def read_fixed(value: Primitive) -> Primitive:
        if not isinstance(value, list):
            raise ValueError("this type is a JSON array")
        return [item.read(each) if item.read else each for item, each in zip(items, value, strict=True)]

    return Form(write_fixed, read_fixed, shapes)


def _dict_form(item: Form) -> Form:
    shapes = frozenset(("object",))
    write, read = item.write, item.read
    if read is None:
        return Form(None, None, shapes)

    def write_dict(value: Primitive) -> Primitive:
        return {name: write(each) for name, each in cast("Values", value).items()} if write else value

    def read_dict(value: Primitive) -> Primitive:
        if not isinstance(value, dict):
            raise ValueError("this type is a JSON object")
        return {name: read(each) for name, each in value.items()}

    return Form(write and write_dict, read_dict, shapes)


def _object_form(members: Mapping[str, ValueType], path: str) -> Form:
    """Answer the form of an object whose members have these types; others pass as they stand."""
    forms = {name: form_of(declared, f"{path}.{name}" if path else name) for name, declared in members.items()}
    writers = {name: form.write for name, form in forms.items() if form.write is not None}
    readers = {name: form.read for name, form in forms.items() if form.read is not None}
    shapes = frozenset(("object",))
    if not readers:
        return Form(None, None, shapes)

    def write_object(value: Primitive) -> Primitive:
        converted = dict(cast("Values", value))
        for name, write in writers.items():
            if name in converted:
                converted[name] = write(converted[name])
        return converted

    def read_object(value: Primitive) -> Primitive:
        if not isinstance(value, dict):
            raise ValueError("this type is a JSON object")
        for name, read in readers.items():
            if name in value:
                value[name] = read(value[name])
        return value

    return Form(write_object, read_object, shapes)


def _union_form(declared: ValueType, path: str) -> Form:
    items = _merged_objects(declared.items, path)
    forms = [(item, form_of(item, path)) for item in items]
    if any(item.kind == "float" for item in items):
        texts = any(item.kind != "float" and "string" in form.shapes for item, form in forms)
        forms = [(item, _FLOAT_AMONGTEXTS if texts and item.kind == "float" else form) for item, form in forms]
    readers: dict[str, Form] = {}
    for _, form in forms:
        for shape in form.shapes:
            other = readers.setdefault(shape, form)
            if (other.write, other.read) != (form.write, form.read):
                raise SchemaError(
                    "two types of this union look the same in JSON, so that neither could be read back: keep one of"
                    ' them, or take the record layout (or the option "document": "msgpack")',
                    field=path,
                )
    if "float" in readers:
        readers.setdefault("int", readers["float"])
    if all(form.read is None for form in readers.values()):
        return Form(None, None, frozenset(readers))
    writers = {_PYTHON_TYPES[item.kind]: form.write for item, form in forms if item.kind in _PYTHON_TYPES}

    def write_member(value: Primitive) -> Primitive:
        write = writers.get(type(value))
        return write(value) if write else value

    def read_member(value: Primitive) -> Primitive:
        if value is None:
            return None
        form = readers.get(_SHAPES[type(value)])
        if form is None:
            raise ValueError("no type of this union looks like that")
        return form.read(value) if form.read else value

    return Form(write_member, read_member, frozenset(readers))


def _merged_objects(items: tuple[ValueType, ...], path: str) -> list[ValueType]:
    """Make one object type of several: their tag tells the mapper which one it is, their members only must agree."""
    objects = [item for item in items if item.kind == "object"]
    if len(objects) < 2:
        return list(items)
    members: dict[str, ValueType] = {}
    for item in objects:
        for name, declared in zip(item.names, item.items, strict=True):
            if members.setdefault(name, declared) != declared:
                raise SchemaError(
                    "classes of this union have a field of the same name and of different types, which JSON cannot"
                    ' tell apart: rename one, or take the record layout (or the option "document": "msgpack")',
                    field=f"{path}.{name}",
                )
    merged = ValueType("object", tuple(members.values()), tuple(members))
    return [merged, *(item for item in items if item.kind != "object")]


_PYTHON_TYPES: Final[dict[str, type]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "decimal": Decimal,
    "uuid": UUID,
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "list": list,
    "pairs": list,
    "dict": dict,
    "object": dict,
}
