"""Find the codec of a type."""

from __future__ import annotations

from typing import Any

from kvmodel.fields.base import Codec, Refused, describe
from kvmodel.fields.plain import members_of, strip
from kvmodel.fields.scalars import SCALARS
from kvmodel.fields.choices import NullableCodec


def codec_of(annotation: Any) -> Codec:
    annotation = strip(annotation)
    if annotation in SCALARS:
        return SCALARS[annotation]
    members = members_of(annotation)
    if members is not None and len(members) == 2 and type(None) in members:
        return NullableCodec(codec_of(next(m for m in members if m is not type(None))))
    raise Refused(f"nothing knows how {describe(annotation)} is stored: register its hooks with kv.converter")
