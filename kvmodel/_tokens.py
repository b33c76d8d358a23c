"""Page tokens: a position, and a digest of the query it belongs to.

A token holds the last key that was shown, as the ordered bytes of ``docs/spec/keys.md``, behind a digest of the query.
It grants nothing: the query's own bounds apply again, so that a forged position reaches nothing that the query would
not show anyway. With a key it is encrypted as well (ChaCha20-Poly1305), so that it does not show the last key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from kvmodel.errors import ValidationError

__all__ = ["PlainTokens", "SealedTokens", "Tokens", "query_digest"]

_DIGEST_BYTES = 12
_NONCE_BYTES = 12
_MAX_TOKEN = 16 * 1024
_REFUSED = "this page token is not one of this query: start again without a token"


class Tokens(Protocol):
    """How tokens are made and read back. ``digest`` is that of the query."""

    def make(self, digest: bytes, position: bytes) -> str:
        """Answer a token in URL-safe text."""
        ...

    def read(self, digest: bytes, token: str) -> bytes:
        """Answer the position. Raises ``ValidationError`` for a token of another query, or no token at all."""
        ...


def query_digest(*parts: object) -> bytes:
    """Answer a digest of what makes up a query; the parts need a canonical ``repr``."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


class PlainTokens:
    """Tokens that show the last key to whoever decodes them."""

    def make(self, digest: bytes, position: bytes) -> str:
        return base64.urlsafe_b64encode(digest + position).rstrip(b"=").decode("ascii")

    def read(self, digest: bytes, token: str) -> bytes:
        data = _decode(token)
        if data[:_DIGEST_BYTES] != digest:
            raise ValidationError(_REFUSED)
        return data[_DIGEST_BYTES:]


class SealedTokens:
    """Tokens that show nothing.

    Args:
        key: 32 bytes, secret, the same in every process that reads these tokens.
    """

    def __init__(self, key: bytes) -> None:
        if not isinstance(key, bytes) or len(key) != 32:
            raise ValidationError("token_key takes 32 secret bytes, for example os.urandom(32), kept in a safe place")
        self._seal, self._open = _cipher(key)

    def make(self, digest: bytes, position: bytes) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._seal(nonce, position, digest)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def read(self, digest: bytes, token: str) -> bytes:
        data = _decode(token)
        return self._open(data[:_NONCE_BYTES], data[_NONCE_BYTES:], digest)


def _decode(token: str) -> bytes:
    if not isinstance(token, str) or len(token) > _MAX_TOKEN:
        raise ValidationError(_REFUSED)
    try:
        text = token.encode("ascii")
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValidationError(_REFUSED) from error


_Cipher = Callable[[bytes, bytes, bytes], bytes]


def _cipher(key: bytes) -> tuple[_Cipher, _Cipher]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError as error:
        raise ValidationError("token_key needs a cipher: pip install 'kvmodel[tokens]'") from error
    cipher = ChaCha20Poly1305(key)

    def unseal(nonce: bytes, data: bytes, digest: bytes) -> bytes:
        try:
            return cipher.decrypt(nonce, data, digest)
        except (InvalidTag, ValueError) as error:
            raise ValidationError(_REFUSED) from error

    return cipher.encrypt, unseal
