"""Tokens: what makes equal values of a randomised column findable without showing them.

HMAC-SHA-256 under the column's derived index key, cut to 15 bytes so that it ends on a base64 boundary.
One reason to change: how tokens are made (docs/envelope.md, "Plaintext").
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from proxy.crypto.derive import Place, token_key
from proxy.crypto.envelope import TOKEN_SIZE


class IndexTokens:
    """The tokens of one column within one index domain; `compare` is 'exact' or 'nocase'."""

    __slots__ = ("_keyed",)

    def __init__(self, place: Place, dek: bytes | bytearray, compare: str) -> None:
        self._keyed = HMAC(token_key(dek, place, compare), hashes.SHA256())

    def token(self, equality_form: bytes) -> bytes:
        """15 bytes, equal exactly for equal forms (up to chance: docs/envelope.md, "Limits")."""
        keyed = self._keyed.copy()
        keyed.update(equality_form)
        return keyed.finalize()[:TOKEN_SIZE]
