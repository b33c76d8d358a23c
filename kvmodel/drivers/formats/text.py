"""Key components as text, for stores whose keys are text. Specified in ``docs/spec/keys.md``.

The order of texts by code point (which is the order of their UTF-8 bytes) is the order of values. A store that keeps
the parts of a key apart takes the texts as they are (:class:`TextKeys`); one that wants a single text takes them
joined (:func:`join`), where each part is escaped and ended so that it cannot reach into its neighbour.

Decoders accept only what the encoder writes: what they read, they write again and compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Final, TypeAlias, cast
from uuid import UUID

from kvmodel.drivers.base import Key, KeyField, KeyPart, KeyType, Table
from kvmodel.drivers.formats import components
from kvmodel.drivers.formats.components import KINDS
from kvmodel.errors import DecodingError, SchemaError, ValidationError

__all__ = ["TextKeys", "join", "split", "text_decoder", "text_encoder"]

TextEncoder: TypeAlias = Callable[[KeyPart], str]
TextDecoder: TypeAlias = Callable[[str], KeyPart]

_REFUSALS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError)
_LONGEST_INT: Final = 4000
_NINES: Final = str.maketrans("0123456789", "9876543210")
_FIFTEENS: Final = str.maketrans("0123456789abcdef", "fedcba9876543210")
_TAGS: Final = {
    "bytes": "a",
    "str": "b",
    "tuple": "c",
    "int": "d",
    "float": "e",
    "decimal": "f",
    "bool": "g",
    "uuid": "h",
    "date": "i",
    "datetime": "j",
}


# --- joining ----------------------------------------------------------------------------------------------------------

_LOW: Final = {code: "!" + chr(code + 0x30) for code in range(0x22)}
_ORIGINALS: Final = {escape: chr(code) for code, escape in _LOW.items()}
_ESCAPED: Final = re.compile("!.?", re.DOTALL)


def join(parts: Iterable[str]) -> str:
    """Make one text of the parts of a key, or of its first ones: then it is the beginning of the whole."""
    return "".join([part.translate(_LOW) + " " for part in parts])


def split(text: str) -> tuple[str, ...]:
    """Undo :func:`join`. Raises ``ValueError`` for any other text."""
    *pieces, rest = text.split(" ")
    parts = tuple([_ESCAPED.sub(_original, piece) for piece in pieces])
    if rest or join(parts) != text:
        raise ValueError("the text is not what join() writes")
    return parts


def _original(escaped: re.Match[str]) -> str:
    original = _ORIGINALS.get(escaped[0])
    if original is None:
        raise ValueError("! begins something that is not an escape")
    return original


# --- components -------------------------------------------------------------------------------------------------------


def _encode_str(value: str) -> str:
    value.encode()  # refuses lone surrogates
    return value


def _encode_int(value: int) -> str:
    digits = str(abs(value))
    count = len(digits)
    if count > _LONGEST_INT:
        raise ValueError(f"an int in a key takes {_LONGEST_INT} digits at the most here")
    if value >= 0:
        return f"p{chr(96 + count) if count < 26 else f'z{count:05}'}{digits}"
    nines = digits.translate(_NINES)
    return f"m{chr(123 - count) if count < 26 else 'a' + f'{count:05}'.translate(_NINES)}{nines}"


def _decode_int(text: str) -> int:
    begin = 7 if text[1] == ("z" if text[0] == "p" else "a") else 2
    digits = text[begin:]
    if len(digits) > _LONGEST_INT:
        raise ValueError("an int is too long")
    return int(digits) if text[0] == "p" else -int(digits.translate(_NINES))


def _encode_float(value: float) -> str:
    return f"{components.float_bits(value):016x}"


def _decode_float(text: str) -> float:
    return components.float_of_bits(int(text[:17], 16))


_EXPONENT: Final = 5_000_000_000


def _encode_decimal(value: Decimal) -> str:
    kind, exponent, digits = components.decimal_parts(value)
    if not digits:
        return str(kind)
    tail = f"{exponent + _EXPONENT:010}{digits}"
    return f"{kind}{tail}" if kind == components.POSITIVE else f"{kind}{tail.translate(_NINES)}~"


def _decode_decimal(text: str) -> Decimal:
    kind = int(text[:1])
    if kind not in (components.NEGATIVE, components.POSITIVE):
        return components.decimal_of_parts(kind, 0, "")
    tail = text[1:] if kind == components.POSITIVE else text[1:-1].translate(_NINES)
    return components.decimal_of_parts(kind, int(tail[:10]) - _EXPONENT, tail[10:])


def encode_datetime(value: datetime) -> str:
    """Write an aware datetime in UTC, with all six digits of its microseconds."""
    components.microseconds_of(value)
    return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def decode_datetime(text: str) -> datetime:
    """Undo :func:`encode_datetime`. Raises ``ValueError`` for all other forms."""
    value = datetime.fromisoformat(text)
    if encode_datetime(value) != text:
        raise ValueError("a datetime has another form than YYYY-MM-DDTHH:MM:SS.ffffffZ")
    return value.replace(tzinfo=timezone.utc)


_ENCODERS: Final[dict[str, Callable[..., str]]] = {
    "str": _encode_str,
    "bytes": bytes.hex,
    "int": _encode_int,
    "float": _encode_float,
    "bool": lambda value: "1" if value else "0",
    "decimal": _encode_decimal,
    "uuid": str,
    "datetime": encode_datetime,
    "date": date.isoformat,
}
_DECODERS: Final[dict[str, TextDecoder]] = {
    "str": str,
    "bytes": bytes.fromhex,
    "int": _decode_int,
    "float": _decode_float,
    "bool": lambda text: text == "1",
    "decimal": _decode_decimal,
    "uuid": UUID,
    "datetime": decode_datetime,
    "date": date.fromisoformat,
}


# --- descending -------------------------------------------------------------------------------------------------------

_TURNED_ENCODERS: Final[dict[str, Callable[..., str]]] = {
    "bytes": lambda value: value.hex().translate(_FIFTEENS) + "~",
    "int": lambda value: _encode_int(~value),
    "float": lambda value: _encode_float(value).translate(_FIFTEENS),
    "bool": lambda value: "0" if value else "1",
    "decimal": lambda value: _encode_decimal(value.copy_negate()),
    "uuid": lambda value: str(value).translate(_FIFTEENS),
    "datetime": lambda value: encode_datetime(value).translate(_NINES),
    "date": lambda value: value.isoformat().translate(_NINES),
}
_TURNED_DECODERS: Final[dict[str, TextDecoder]] = {
    "bytes": lambda text: bytes.fromhex(text[:-1].translate(_FIFTEENS)),
    "int": lambda text: ~_decode_int(text),
    "float": lambda text: _decode_float(text.translate(_FIFTEENS)),
    "bool": lambda text: text == "0",
    "decimal": lambda text: _decode_decimal(text).copy_negate() or Decimal(0),
    "uuid": lambda text: UUID(text.translate(_FIFTEENS)),
    "datetime": lambda text: decode_datetime(text.translate(_NINES)),
    "date": lambda text: date.fromisoformat(text.translate(_NINES)),
}


# --- by type ----------------------------------------------------------------------------------------------------------


def text_encoder(field: KeyField) -> TextEncoder:
    """Answer the text encoder of a component. It raises ``ValueError``.

    Raises ``SchemaError`` for a descending field whose texts cannot be turned around.
    """
    if not field.descending:
        return _encoder(field.type)
    turned = _TURNED_ENCODERS.get(field.type.kind)
    if turned is None:
        raise SchemaError(
            "this store keeps keys as text, where a str or tuple cannot be descending: declare the field ascending"
            " and read with reverse=True",
            field=field.name,
        )
    return turned


def text_decoder(field: KeyField) -> TextDecoder:
    """Answer the text decoder of a component. It raises ``ValueError`` for what the encoder does not write."""
    encode = text_encoder(field)
    decode = _TURNED_DECODERS[field.type.kind] if field.descending else _decoder(field.type)

    def strict(text: str) -> KeyPart:
        try:
            value = decode(text)
            if encode(value) == text:
                return value
        except _REFUSALS as error:
            raise ValueError("the text is no key component of this type") from error
        raise ValueError("the text is another form of a key component than the one that is written")

    return strict


def _encoder(declared: KeyType) -> TextEncoder:
    if declared.kind != "tuple":
        return _ENCODERS[declared.kind]
    if declared.variadic:
        each = _tagged_encoder(declared.items[0])
        return lambda value: join(map(each, cast("tuple[KeyPart, ...]", value)))
    encoders = tuple(map(_tagged_encoder, declared.items))

    def encode(value: KeyPart) -> str:
        assert isinstance(value, tuple)
        return join([encoder(element) for encoder, element in zip(encoders, value, strict=True)])

    return encode


def _tagged_encoder(declared: KeyType) -> TextEncoder:
    if declared.kind == "union":
        encoders = {KINDS[item.kind]: _tagged_encoder(item) for item in declared.items}
        return lambda value: encoders[type(value)](value)
    tag = _TAGS[declared.kind]
    encode = _encoder(declared)
    return lambda value: tag + encode(value)


def _decoder(declared: KeyType) -> TextDecoder:
    if declared.kind != "tuple":
        return _DECODERS[declared.kind]
    if declared.variadic:
        each = _tagged_decoder(declared.items[0])
        return lambda text: tuple(map(each, split(text)))
    decoders = tuple(map(_tagged_decoder, declared.items))

    def decode(text: str) -> KeyPart:
        return tuple([decoder(element) for decoder, element in zip(decoders, split(text), strict=True)])

    return decode


def _tagged_decoder(declared: KeyType) -> TextDecoder:
    items = declared.items if declared.kind == "union" else (declared,)
    decoders = {_TAGS[item.kind]: _decoder(item) for item in items}
    return lambda text: decoders[text[:1]](text[1:])


class TextKeys:
    """The keys of one table as parts: one text a component, namespace and table apart."""

    __slots__ = ("_decoders", "_encoders", "_table")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._encoders = tuple(map(text_encoder, table.key))
        self._decoders = tuple(map(text_decoder, table.key))

    def parts(self, key: Key) -> tuple[str, ...]:
        """Write the components of a key, or its first ones. Raises ``ValidationError``."""
        try:
            return tuple([encode(part) for encode, part in zip(self._encoders, key, strict=False)])
        except UnicodeEncodeError:
            raise self._refused(key, "a str in a key must be Unicode text, without lone surrogates") from None
        except _REFUSALS as error:
            raise self._refused(key, str(error)) from None

    def key(self, parts: Sequence[str]) -> Key:
        """Undo :meth:`parts` for a whole key. Raises ``DecodingError``."""
        try:
            return tuple([decode(part) for decode, part in zip(self._decoders, parts, strict=True)])
        except ValueError as error:
            raise DecodingError(
                "stored parts are no key of this table: check that only kvmodel writes there, and that the model's key"
                " fields are those that the table was written with",
                table=self._table.name,
                key=tuple(parts),
            ) from error

    def _refused(self, key: Key, reason: str) -> ValidationError:
        for field, encode, part in zip(self._table.key, self._encoders, key, strict=False):
            try:
                encode(part)
            except _REFUSALS:
                return ValidationError(reason, table=self._table.name, key=key, field=field.name)
        return ValidationError(reason, table=self._table.name, key=key)
