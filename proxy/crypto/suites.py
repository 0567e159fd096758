"""Seal and open one cell under a derived key: suite 1 (AES-256-GCM) and suite 2 (AES-256-SIV, RFC 5297).

An object holds one derived key with everything that is equal for all its cells already joined, since a row
read passes here once a cell. The AEAD objects copy the key; what was derived is dropped at once.
One reason to change: a suite (docs/envelope.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from proxy.crypto.derive import Place, aad_start, deterministic_key, joined, randomised_key
from proxy.crypto.envelope import (
    DETERMINISTIC_LEAST,
    DETERMINISTIC_SUITE,
    HEADER_SIZE,
    MAX_INDEX_VERSION,
    NONCE_SIZE,
    PADDED_BIT,
    PLAIN_FLAGS,
    RANDOMISED_SUITE,
    TOKEN_BIT,
    TOKEN_END,
    TOKEN_FLAGS,
    block_of,
    check_size,
    header,
    not_open,
    pad,
    unpad,
)
from proxy.errors import InternalError

_WRONG_TOKEN: Final = "a token must be given exactly where the rule has search"
_WRONG_BOUND: Final = "deterministic cells are bound to no row"


class RandomisedCells:
    """Suite 1. `index_version` 1 to 15 where the cells carry a token, 0 where they carry none."""

    __slots__ = ("_aad", "_aead", "_block", "_decrypt", "_head", "_header", "_label", "_openable")

    def __init__(
        self, place: Place, dek: bytes | bytearray, key_id: int, *, index_version: int, pad: int
    ) -> None:
        assert 0 <= index_version <= MAX_INDEX_VERSION
        has_token = index_version > 0
        self._block = block_of(place.family, pad)
        flags = index_version << 4 | (TOKEN_BIT if has_token else 0) | (PADDED_BIT if self._block else 0)
        self._header = header(RANDOMISED_SUITE, flags, key_id)
        self._aead = AESGCM(randomised_key(dek, place))
        self._decrypt = self._aead.decrypt
        self._aad = aad_start(place)
        self._head = TOKEN_END if has_token else HEADER_SIZE
        self._label = place.label
        # every header this key may have written -> what follows from it: AAD up to the token, offset, padding
        self._openable: dict[bytes, tuple[bytes, int, bool]] = {}
        for each in TOKEN_FLAGS if has_token else PLAIN_FLAGS:
            start = header(RANDOMISED_SUITE, each, key_id)
            self._openable[start] = (self._aad + start, self._head, bool(each & PADDED_BIT))

    def seal(self, display: bytes, token: bytes | None, bound: tuple[bytes, ...], nonce: bytes) -> bytes:
        """Display form -> envelope. The nonce is 12 random bytes, never used before."""
        check_size(display, self._label)
        head = self._header + token if token is not None else self._header
        if len(head) != self._head:
            raise InternalError(_WRONG_TOKEN, column=self._label)
        aad = self._aad + head
        if bound:
            aad += joined(bound)
        plain = pad(display, self._block) if self._block else display
        return head + nonce + self._aead.encrypt(nonce, plain, aad)

    def inline(self, head: bytes) -> tuple[Callable[[bytes, bytes, bytes], bytes], bytes, int] | None:
        """What opens padded cells with this header and nothing bound, for a loop that has no time for a call:
        decrypt(nonce, sealed, AAD), the AAD up to the token, the offset behind it. None: use `open`."""
        known = self._openable.get(head)
        return (self._decrypt, known[0], known[1]) if known is not None and known[2] else None

    def open(self, envelope: bytes, bound: tuple[bytes, ...]) -> bytes:
        """Envelope -> display form, else CellNotOpen."""
        known = self._openable.get(envelope[:HEADER_SIZE])
        if known is None:
            raise not_open(self._label)
        aad, head, is_padded = known
        if head != HEADER_SIZE:
            aad += envelope[HEADER_SIZE:head]
        if bound:
            aad += joined(bound)
        body = head + NONCE_SIZE
        try:
            plain = self._decrypt(envelope[head:body], envelope[body:], aad)
        except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
            raise not_open(self._label) from None
        if not is_padded:
            return plain
        plain = plain.rstrip(b"\0")
        if plain[-1:] != b"\x80":
            raise not_open(self._label)
        return plain[:-1]


class DeterministicCells:
    """Suite 2. `index_version` is the version of the data key itself. One value has one envelope."""

    __slots__ = ("_aad", "_aead", "_block", "_header", "_label")

    def __init__(
        self, place: Place, dek: bytes | bytearray, key_id: int, *, index_version: int, pad: int
    ) -> None:
        self._block = block_of(place.family, pad, is_deterministic=True)
        self._header = header(DETERMINISTIC_SUITE, index_version << 4 | PADDED_BIT, key_id)
        self._aead = AESSIV(deterministic_key(dek, place))
        self._aad = [aad_start(place) + self._header]  # exactly one associated string
        self._label = place.label

    def seal(self, display: bytes, token: bytes | None, bound: tuple[bytes, ...]) -> bytes:
        """Display form (here the equality form too) -> envelope."""
        check_size(display, self._label)
        if token is not None:
            raise InternalError(_WRONG_TOKEN, column=self._label)
        if bound:
            raise InternalError(_WRONG_BOUND, column=self._label)
        return self._header + self._aead.encrypt(pad(display, self._block), self._aad)

    def token(self, equality_form: bytes) -> bytes:
        """What equality compares: the whole envelope."""
        return self.seal(equality_form, None, ())

    def inline(self, head: bytes) -> None:
        """No short way."""

    def open(self, envelope: bytes, bound: tuple[bytes, ...]) -> bytes:
        """Envelope -> display form, else CellNotOpen."""
        if bound or len(envelope) < DETERMINISTIC_LEAST or envelope[:HEADER_SIZE] != self._header:
            raise not_open(self._label)
        try:
            plain = self._aead.decrypt(envelope[HEADER_SIZE:], self._aad)
        except InvalidTag:
            raise not_open(self._label) from None
        return _unpadded(plain, self._label)


def _unpadded(plain: bytes, label: str) -> bytes:
    found = unpad(plain)
    if found is None:
        raise not_open(label)
    return found
