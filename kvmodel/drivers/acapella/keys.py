"""Keys as AcapellaDB keeps them: lists of texts, compared part by part in the order of their UTF-8 bytes.

Rules. A partition is the namespace, the table and the partition components; a row's clustering key is the clustering
components. A ``str`` is a part as it stands, so that keys of other programs are read and written as they are. All other
types have a text of letters, digits and ``- . _ ~``, never empty, whose order is the order of values:

* ``bytes``: ``x`` and hexadecimal digits; ``datetime``: ``20240229T010203.000004Z``;
* a tuple: ``t``, then each element, marked with its type, escaped to those characters and ended by ``--``;
* a descending ``str`` (escaped and ended likewise) or tuple: each character turned around, then ``~``;
* int, float, Decimal, bool, UUID, date: the text form of ``docs/spec/keys.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from kvmodel.drivers.acapella.paths import WIDEST, encode_key
from kvmodel.drivers.base import Key, KeyField, KeyPart, KeyType, Table
from kvmodel.drivers.formats.components import KINDS
from kvmodel.drivers.formats.text import text_decoder, text_encoder
from kvmodel.errors import DecodingError, SchemaError, ValidationError

__all__ = ["Address", "TableKeys", "decoder_of", "encoder_of"]

Encode = Callable[[KeyPart], str]
Decode = Callable[[str], KeyPart]

_REFUSALS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError)
_UNFIT: Final = frozenset(("", ".", ".."))


class Address(NamedTuple):
    """Where a row lies. Addresses sort as the store sorts keys."""

    partition: tuple[str, ...]
    clustering: tuple[str, ...]


# --- components -------------------------------------------------------------------------------------------------------


def encoder_of(field: KeyField) -> Encode:
    """Answer what writes a component. It raises ``ValueError``. Raises ``SchemaError`` for what can't be descending."""
    kind = field.type.kind
    if kind == "str":
        return _encode_str_downwards if field.descending else _encode_str
    if kind == "tuple":
        upwards = _tuple_encoder(field.type)
        return (lambda value: _turn(upwards(value))) if field.descending else upwards
    write = text_encoder(field)
    if kind == "bytes" and not field.descending:
        return lambda value: "x" + write(value)
    if kind == "datetime":
        return lambda value: _SEPARATORS.sub("", write(value))
    return write


def decoder_of(field: KeyField) -> Decode:
    """Answer what reads a component. It raises ``ValueError`` for what the encoder does not write."""
    kind = field.type.kind
    encode = encoder_of(field)
    read: Decode
    if kind == "str":
        if not field.descending:
            return str
        read = _unescape
    else:
        read = _tuple_decoder(field.type) if kind == "tuple" else text_decoder(field)

    def decode(text: str) -> KeyPart:
        try:
            value = read(_original(kind, text, descending=field.descending))
            if encode(value) == text:
                return value
        except _REFUSALS as error:
            raise ValueError("the text is no key component of this type") from error
        raise ValueError("the text is another form of a key component than the one that is written")

    return decode


_SEPARATORS: Final = re.compile(r"[-:]")


def _encode_str(value: KeyPart) -> str:
    if value in _UNFIT:
        raise ValueError("a str in a key of this store must not be empty, nor . or .. alone: these can't be in a path")
    cast("str", value).encode()  # refuses lone surrogates
    return cast("str", value)


def _encode_str_downwards(value: KeyPart) -> str:
    return _turn(_escape(_encode_str(value)) + _END)


def _original(kind: str, text: str, *, descending: bool) -> str:
    """Undo what was done here to the text form of a component."""
    if descending and kind in ("str", "tuple"):
        turned = text[:-1].translate(_TURNED)
        return turned if kind == "tuple" else turned.removesuffix(_END)
    if kind == "bytes" and not descending:
        return text[1:]
    if kind == "datetime":
        return f"{text[:4]}-{text[4:6]}-{text[6:11]}:{text[11:13]}:{text[13:]}"
    return text


# --- tuples -----------------------------------------------------------------------------------------------------------

_END: Final = "--"
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
"""As in the text form of tuples."""


def _escapes() -> dict[int, str]:
    """Map every byte, as a character, to safe ones: letters and digits mostly to themselves, in order."""
    safe = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
    leaders = {0x00: "-", 0x39: "9", 0x5A: "Z", 0x5F: "_", 0x7B: "~"}  # For all up to the next safe character.
    table: dict[int, str] = {}
    leader = ""
    for code in range(256):
        leader = leaders.get(code, leader)
        if code in leaders or chr(code) not in safe:
            table[code] = f"{leader}{code:02X}"
    return table


_ESCAPES: Final = _escapes()
_ESCAPED: Final = re.compile(r"[-9Z_~](..)", re.DOTALL)


def _escape(text: str) -> str:
    return text.encode().decode("latin-1").translate(_ESCAPES)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1").decode()


def _tuple_encoder(declared: KeyType) -> Encode:
    if declared.variadic:
        each = _tagged_encoder(declared.items[0])
        return lambda value: "t" + "".join([each(item) for item in cast("tuple[KeyPart, ...]", value)])
    encoders = tuple(map(_tagged_encoder, declared.items))

    def encode(value: KeyPart) -> str:
        items = cast("tuple[KeyPart, ...]", value)
        return "t" + "".join([encoder(item) for encoder, item in zip(encoders, items, strict=True)])

    return encode


def _tagged_encoder(declared: KeyType) -> Encode:
    if declared.kind == "union":
        encoders = {KINDS[item.kind]: _tagged_encoder(item) for item in declared.items}
        return lambda value: encoders[type(value)](value)
    tag = _TAGS[declared.kind]
    encode = _inner_encoder(declared)
    return lambda value: tag + _escape(encode(value)) + _END


def _inner_encoder(declared: KeyType) -> Encode:
    """Inside of a tuple a str may be empty, or a dot."""
    field = KeyField("", declared)
    return text_encoder(field) if declared.kind == "str" else encoder_of(field)


def _tuple_decoder(declared: KeyType) -> Decode:
    def decode(text: str) -> KeyPart:
        if text[:1] != "t":
            raise ValueError("the text is no tuple")
        *elements, rest = text[1:].split(_END)
        if rest:
            raise ValueError("the text is no tuple")
        if declared.variadic:
            each = _tagged_decoder(declared.items[0])
            return tuple(map(each, elements))
        decoders = map(_tagged_decoder, declared.items)
        return tuple([decoder(element) for decoder, element in zip(decoders, elements, strict=True)])

    return decode


def _tagged_decoder(declared: KeyType) -> Decode:
    items = declared.items if declared.kind == "union" else (declared,)
    decoders = {_TAGS[item.kind]: str if item.kind == "str" else decoder_of(KeyField("", item)) for item in items}
    return lambda text: decoders[text[:1]](_unescape(text[1:]))


# --- descending -------------------------------------------------------------------------------------------------------

_SAFE: Final = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_TURNED: Final = str.maketrans(_SAFE, _SAFE[::-1])


def _turn(text: str) -> str:
    """Turn the order of texts around that end with ``--``; one that begins another comes behind it then."""
    return text.translate(_TURNED) + "~"


# --- keys of one table ------------------------------------------------------------------------------------------------


class TableKeys:
    """The keys of one table.

    Attributes:
        head: What all partitions begin with: namespace and table.
    """

    __slots__ = ("_decoders", "_encoders", "_limit", "_room", "_table", "_width", "head")

    def __init__(self, table: Table, max_key_bytes: int) -> None:
        self._table = table
        self._limit = max_key_bytes
        self._width = len(table.partition)
        self._encoders = self._compile(encoder_of)
        self._decoders = self._compile(decoder_of)
        self.head = (*table.namespace, table.name)
        self._room = max_key_bytes - _size(self.head)
        if not _UNFIT.isdisjoint(self.head):
            raise ValidationError("a namespace of this store must not have a part . or ..", table=table.name)

    def _compile(self, make: Callable[[KeyField], Callable[..., object]]) -> tuple[Callable[..., object], ...]:
        try:
            return tuple([make(field) for field in self._table.key])
        except SchemaError as error:
            error.table = self._table.name
            raise

    def address(self, key: Key) -> Address:
        """Answer where the row of a full key lies. Raises ``ValidationError``."""
        texts = self.texts(key)
        if len(texts) != len(self._encoders):
            raise ValidationError("a key has all components that the model declares", table=self._table.name, key=key)
        self._check_size(self.head + texts, key)
        return Address(self.head + texts[: self._width], texts[self._width :])

    def _check_size(self, parts: Sequence[str], key: Key) -> None:
        texts = parts[len(self.head) :]
        if sum(map(len, texts)) * WIDEST + len(texts) <= self._room:
            return
        size = _size(texts)
        if size > self._room:
            raise ValidationError(
                f"the key is too long, shorten its components: of the {self._limit} bytes that a key may take in a"
                f" URL, {max(self._room, 0)} remain after namespace and table, and this one needs {size}",
                table=self._table.name,
                key=key,
            )

    def partition(self, partition: Key) -> tuple[str, ...]:
        """Answer a partition's key. Raises ``ValidationError``."""
        parts = self.head + self.texts(partition)
        self._check_size(parts, partition)
        return parts

    def texts(self, key: Key) -> tuple[str, ...]:
        """Write the components of a key, or its first ones. Raises ``ValidationError``."""
        try:
            return tuple([cast("str", encode(part)) for encode, part in zip(self._encoders, key, strict=False)])
        except UnicodeEncodeError:
            raise self._refused(key, "a str in a key must be Unicode text, without lone surrogates") from None
        except _REFUSALS as error:
            raise self._refused(key, str(error)) from None

    def clustering_texts(self, parts: Key) -> tuple[str, ...]:
        """Write clustering components, or the first ones; as a bound, so that a text may be empty."""
        texts: list[str] = []
        for encode, field, part in zip(self._encoders[self._width :], self._table.clustering, parts, strict=False):
            if field.type.kind == "str" and part in _UNFIT:
                texts.append(cast("str", part))
                continue
            try:
                texts.append(cast("str", encode(part)))
            except UnicodeEncodeError:
                raise self._refused(parts, "a str in a key must be Unicode text, without lone surrogates") from None
            except _REFUSALS as error:
                raise self._refused(parts, str(error)) from None
        return tuple(texts)

    def beginning(self, position: int, text: str | bytes) -> str:
        """Answer what the texts of the clustering components at a position begin with, if the component does so."""
        field = self._table.clustering[position] if position < len(self._table.clustering) else None
        if field is None or type(text) is not KINDS[field.type.kind]:
            raise ValidationError(
                "starts() wants the beginning of a str or bytes component, as that one is declared",
                table=self._table.name,
                field=field.name if field else None,
            )
        if isinstance(text, str):
            return text
        written = cast("str", self._encoders[self._width + position](text))
        return written.rstrip("~") if field.descending else written

    def key(self, partition: Key, clustering: Sequence[str]) -> Key:
        """Answer the full key of a row that was read. Raises ``DecodingError``."""
        decoders = self._decoders[self._width :]
        try:
            parts = [cast("KeyPart", decode(text)) for decode, text in zip(decoders, clustering, strict=True)]
        except ValueError as error:
            raise DecodingError(
                "a row's key is none of this table: check the model's clustering keys against what is stored",
                table=self._table.name,
                key=(*partition, *clustering),
            ) from error
        return (*partition, *parts)

    def _refused(self, key: Key, reason: str) -> ValidationError:
        for field, encode, part in zip(self._table.key, self._encoders, key, strict=False):
            try:
                encode(part)
            except _REFUSALS:
                return ValidationError(reason, table=self._table.name, key=key, field=field.name)
        return ValidationError(reason, table=self._table.name, key=key)


def _size(texts: Sequence[str]) -> int:
    """How many bytes parts take in a URL, with what separates them."""
    return sum(len(encode_key([text])) + 1 for text in texts)
