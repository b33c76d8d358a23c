"""Whole keys as bytes, compiled for one table. Specified in ``docs/spec/keys.md``.

A key is the namespace, the table's name, the partition's components and the clustering components, one encoding behind
the other. Descending components are turned around byte by byte, so that the order of bytes is the clustering order as
declared. Because components are prefix-free, the keys that begin with given components are exactly those whose bytes
begin with the joined encodings, and every slice is one half-open range of bytes.

The encoder and the decoder of whole keys are generated: text and small numbers are written in line, the rest by calls.
The encoder looks for trouble only when something failed; then :meth:`KeyCodec.explain` finds out what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from kvmodel.drivers.base import Key, KeyField, KeyPart, Slice, Table
from kvmodel.drivers.formats import components
from kvmodel.drivers.formats._source import compile_function
from kvmodel.drivers.formats.components import FLIP, Encoder, decoder_of, encoder_of, is_of_type, successor
from kvmodel.errors import DecodingError, SchemaError, ValidationError

__all__ = ["KeyCodec", "name_component", "namespace_component", "sort_key"]

_REFUSALS: Final = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError)
_SHOWN: Final = 256


def namespace_component(namespace: tuple[str, ...]) -> bytes:
    """Encode the first component of every key: the parts of the namespace, as a tuple."""
    return b"\x05%b\x00" % b"".join(map(components.encode_str, namespace))


def name_component(name: str) -> bytes:
    """Encode the second component of every key: the table's name."""
    return components.encode_str(name)


def sort_key(fields: tuple[KeyField, ...]) -> Callable[[Key], bytes]:
    """Answer a function that gives the place of a key, or of its leading components, in the order of ``fields``.

    What it gives for leading components is a prefix of what it gives for all keys that begin with them, and of no
    others. It raises ``ValidationError``.
    """
    encoders = tuple(map(_directed, fields))
    count = len(fields)

    def explain(key: Key, error: Exception) -> ValidationError:
        return _explain(key, fields, error, None)

    whole = _generate_encoder(fields, b"", "a sort order", explain)

    def place(key: Key) -> bytes:
        if len(key) == count:
            return whole(key)
        try:
            return _join(encoders, key)
        except _REFUSALS as error:
            raise explain(key, error) from None

    return place


class KeyCodec:
    """The keys of one table.

    Attributes:
        table: The table.
        first, last: The half-open range of all its keys.
        encode_key: Makes the bytes of a full key. Raises ``ValidationError``.
        decode_key: Undoes that. Raises ``DecodingError`` for all other bytes.
    """

    __slots__ = (
        "_encode_partition",
        "_encoders",
        "_limit",
        "_store",
        "decode_key",
        "encode_key",
        "first",
        "last",
        "table",
    )

    encode_key: Callable[[Key], bytes]
    decode_key: Callable[[bytes], Key]

    def __init__(self, table: Table, store: str, max_key_bytes: int | None) -> None:
        self.table = table
        self._store = store
        self._limit = max_key_bytes
        try:
            self.first = namespace_component(table.namespace) + name_component(table.name)
        except UnicodeEncodeError:
            raise SchemaError(
                "a namespace must be Unicode text, without lone surrogates", table=table.name, store=store
            ) from None
        self.last = successor(self.first)
        if max_key_bytes is not None and len(self.first) >= max_key_bytes:
            raise SchemaError(
                "namespace and table name leave no room for keys: shorten them", table=table.name, store=store
            )
        self._encoders = tuple(map(_directed, table.key))
        too_long = None if max_key_bytes is None else self.too_long
        self.encode_key = _generate_encoder(
            table.key, self.first, table.name, self.explain, limit=max_key_bytes, too_long=too_long
        )
        self._encode_partition = _generate_encoder(
            table.partition, self.first, table.name, self._explain_partition, limit=max_key_bytes, too_long=too_long
        )
        self.decode_key = _generate_decoder(table.key, self.first, table.name, self.undecodable)

    # --- slices

    def bounds(self, slice: Slice) -> tuple[bytes, bytes]:
        """Answer the half-open range of bytes that holds the keys of a slice; it may be empty (start >= stop)."""
        if slice.partition is None:
            start, stop = self.first, self.last
        else:
            start, stop = self._piece(slice, slice.partition)
        if slice.after is not None:
            key = self._under(self.first, (), slice.after)
            if slice.reverse:
                stop = min(stop, key)
            else:
                start = max(start, key + b"\x00")
        return self._clamp(start), self._clamp(stop)

    def _piece(self, slice: Slice, partition: Key) -> tuple[bytes, bytes]:
        root = self._encode_partition(partition)
        base = self._under(root, partition, slice.prefix) if slice.prefix else root
        if slice.starts is not None:
            base += self._beginning(len(partition) + len(slice.prefix), slice.starts, partition + slice.prefix)
        start, stop = base, successor(base)
        if slice.lower is not None:
            edge = self._under(root, partition, slice.lower.parts)
            start = max(start, edge if slice.lower.inclusive else successor(edge))
        if slice.upper is not None:
            edge = self._under(root, partition, slice.upper.parts)
            stop = min(stop, successor(edge) if slice.upper.inclusive else edge)
        return start, stop

    def _under(self, root: bytes, partition: Key, parts: Key) -> bytes:
        """Encode the first components of a clustering key, behind the bytes of its partition."""
        try:
            return root + _join(self._encoders[len(partition) :], parts)
        except _REFUSALS as error:
            raise self.explain(partition + parts, error) from None

    def _beginning(self, index: int, text: str | bytes, parts: Key) -> bytes:
        """Encode how the component at ``index`` begins: all but its terminator."""
        field = self.table.key[index] if index < len(self.table.key) else None
        if field is None or field.type.kind != type(text).__name__:
            raise ValidationError(
                "starts() wants the beginning of a str or bytes component, as that one is declared",
                table=self.table.name,
                key=(*parts, text),
                field=field.name if field else None,
            )
        try:
            encoded = (components.encode_str(text) if isinstance(text, str) else components.encode_bytes(text))[:-1]
        except ValueError as error:
            raise self.explain((*parts, text), error) from None
        return encoded.translate(FLIP) if field.descending else encoded

    def _clamp(self, bound: bytes) -> bytes:
        """Shorten a bound that is longer than any key, without letting a key change sides."""
        if self._limit is None or len(bound) <= self._limit:
            return bound
        return successor(bound[: self._limit])

    # --- errors

    def explain(self, key: Key, error: Exception) -> ValidationError:
        """Find out why a key, or its leading components, could not be encoded."""
        return _explain(key, self.table.key, error, self.table.name)

    def _explain_partition(self, key: Key, error: Exception) -> ValidationError:
        return _explain(key, self.table.partition, error, self.table.name)

    def too_long(self, key: Key, size: int) -> ValidationError:
        """Say by how much a key is over the limit, in bytes that the user can do something about."""
        assert self._limit is not None
        return ValidationError(
            f"the key is too long, shorten its components: of the {self._limit} bytes that the store takes,"
            f" {self._limit - len(self.first)} remain after namespace and table, and this one needs"
            f" {size - len(self.first)}",
            table=self.table.name,
            key=key,
            store=self._store,
        )

    def undecodable(self, data: bytes) -> DecodingError:
        """Say that stored bytes are not a key of this table."""
        return DecodingError(
            "stored bytes are no key of this table: check that only kvmodel writes there, and that the model's key"
            " fields are those that the table was written with",
            table=self.table.name,
            key=(data[:_SHOWN],),
        )


def _directed(field: KeyField) -> Encoder:
    encoder = encoder_of(field.type)
    if not field.descending:
        return encoder

    def encode(value: KeyPart) -> bytes:
        return encoder(value).translate(FLIP)

    return encode


def _join(encoders: Sequence[Encoder], parts: Key) -> bytes:
    if len(parts) > len(encoders):
        raise ValueError("more components than the key has")
    return b"".join([encoder(part) for encoder, part in zip(encoders, parts, strict=False)])


def _explain(key: Key, fields: tuple[KeyField, ...], error: Exception, table: str | None) -> ValidationError:
    if len(key) > len(fields):
        return ValidationError("a key is a tuple of the components that the model declares", table=table)
    for field, part in zip(fields, key, strict=False):
        if not is_of_type(part, field.type):
            return ValidationError(f"this key field wants {field.type}", table=table, key=key, field=field.name)
        try:
            encoder_of(field.type)(part)
        except UnicodeEncodeError:
            text = "a str in a key must be Unicode text, without lone surrogates"
            return ValidationError(text, table=table, key=key, field=field.name)
        except _REFUSALS as refusal:
            return ValidationError(str(refusal), table=table, key=key, field=field.name)
    if len(key) < len(fields):
        return ValidationError("the key lacks components", table=table, key=key, field=fields[len(key)].name)
    return ValidationError(f"the key cannot be stored: {error}", table=table, key=key)


# --- generated code ---------------------------------------------------------------------------------------------------


def _generate_encoder(
    fields: tuple[KeyField, ...],
    head: bytes,
    origin: str,
    explain: Callable[[Key, Exception], ValidationError],
    *,
    limit: int | None = None,
    too_long: Callable[[Key, int], ValidationError] | None = None,
) -> Callable[[Key], bytes]:
    """Write ``encode_key``: neighbouring texts are encoded together, in one formatted string."""
    names = [f"part_{index}" for index in range(len(fields))]
    scope: dict[str, object] = {
        "FLIP": FLIP,
        "INT_LIMIT": components.INT_LIMIT,
        "INT_SIZES": components.INT_SIZES,
        "INT_STARTS": components.INT_STARTS,
        "encode_int": components.encode_int,
        "escape": components.escape,
        "REFUSALS": _REFUSALS,
        "explain": explain,
        "too_long": too_long,
    }
    checks: list[str] = []
    pieces: list[str] = []
    text = head.decode().replace("{", "{{").replace("}", "}}")
    for index, (name, field) in enumerate(zip(names, fields, strict=True)):
        kind = field.type.kind
        if kind == "str" and not field.descending:
            checks.append(f"        if not {name}.isprintable():")
            checks.append(f"            {name} = escape({name})")
            text += f"\x02{{{name}}}\x00"
            continue
        if text:
            pieces.append(_text_piece(text))
            text = ""
        if kind == "int" and not field.descending:
            pieces.append(
                f"(({name} + INT_STARTS[{name}.bit_length()]).to_bytes(INT_SIZES[{name}.bit_length()], 'big')"
                f" if 0 <= {name} < INT_LIMIT else encode_int({name}))"
            )
            continue
        scope[f"encode_{index}"] = encoder_of(field.type)
        pieces.append(f"encode_{index}({name})" + (".translate(FLIP)" if field.descending else ""))
    if text or not pieces:
        pieces.append(_text_piece(text))
    lines = [
        "def encode_key(key):",
        "    try:",
        f"        {', '.join(names)}{',' if len(names) == 1 else ''} = key" if names else "        () = key",
        *checks,
        f"        data = {' + '.join(pieces)}",
        "    except REFUSALS as error:",
        "        raise explain(key, error) from None",
    ]
    if limit is not None:
        lines += [f"    if len(data) > {limit}:", "        raise too_long(key, len(data))"]
    lines.append("    return data")
    return cast("Callable[[Key], bytes]", compile_function("encode_key", lines, scope, origin))


def _text_piece(text: str) -> str:
    if "{" not in text.replace("{{", ""):
        return repr(text.replace("{{", "{").replace("}}", "}").encode())
    return f"f{text!r}.encode()"


def _generate_decoder(
    fields: tuple[KeyField, ...], head: bytes, origin: str, undecodable: Callable[[bytes], DecodingError]
) -> Callable[[bytes], Key]:
    """Write ``decode_key``: plain texts and ints of up to 8 bytes in line."""
    scope: dict[str, object] = {
        "HEAD": head,
        "FLIP": FLIP,
        "REFUSALS": _REFUSALS,
        "undecodable": undecodable,
        "decode_str": components.decode_str,
    }
    names = [f"part_{index}" for index in range(len(fields))]
    result = f"{', '.join(names)}{',' if len(names) == 1 else ''}"
    lines = [
        "def decode_key(data):",
        "    try:",
        *_only_texts(fields, head, result),
        "        if not data.startswith(HEAD):",
        "            raise ValueError('it belongs to another namespace or table')",
        f"        at = {len(head)}",
    ]
    for index, (name, field) in enumerate(zip(names, fields, strict=True)):
        if field.type.kind == "str" and not field.descending:
            lines += _inline_str(name)
            continue
        scope[f"decode_{index}"] = decoder_of(field.type)
        if field.descending:
            lines.append(f"        {name}, used = decode_{index}(data[at:].translate(FLIP), 0)")
            lines.append("        at += used")
        else:
            lines.append(f"        {name}, at = decode_{index}(data, at)")
    lines += [
        "        if at != len(data):",
        "            raise ValueError('it has more components than the table')",
        "    except REFUSALS as error:",
        "        raise undecodable(data) from error",
        f"    return ({result})",
    ]
    return cast("Callable[[bytes], Key]", compile_function("decode_key", lines, scope, origin))


def _only_texts(fields: tuple[KeyField, ...], head: bytes, result: str) -> list[str]:
    """Write the short cut for keys of nothing but texts: decoded at once, then split where one ends and one begins."""
    if not fields or any(field.type.kind != "str" or field.descending for field in fields):
        return []
    return [
        f"        if data.startswith({head + bytes((components.STR,))!r}) and data[-1] == 0 and 1 not in data:",
        f"            text = data[{len(head) + 1}:-1].decode()",
        f"            if text.count('\\x00') == {len(fields) - 1}:",
        f"                {result} = text.split('\\x00\\x02')",
        f"                return ({result})",
    ]


def _inline_str(name: str) -> list[str]:
    return [
        "        end = data.index(0, at)",
        f"        {name} = data[at + 1:end].decode()",
        f"        if data[at] == {components.STR} and '\\x01' not in {name}:",
        "            at = end + 1",
        "        else:",
        f"            {name}, at = decode_str(data, at)",
    ]
