"""From a data key to the key of one column, and the associated data that ties a cell to its place.

RFC 5869 with the realm as salt; the info bytes and the AAD are written down in docs/envelope.md, "Keys" and
"Associated data". One reason to change: another version of the envelope.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DEK_SIZE: Final = 32
REALM_SIZE: Final = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell belongs. `tenant` is the one of the AAD: empty for the domain of all tenants. `label` is
    schema.table.column, for messages only. `realm` is no secret but stays out of the repr as noise."""

    realm: bytes = field(repr=False)
    tenant: str
    context: str
    family: str
    label: str


def lp(part: bytes) -> bytes:
    """Length in 4 bytes, big-endian, then the part."""
    return len(part).to_bytes(4, "big") + part


def joined(parts: Iterable[bytes]) -> bytes:
    """LP of each part, one after the other."""
    return b"".join(map(lp, parts))


def info(purpose: str, suite: str, place: Place, compare: str) -> bytes:
    """HKDF's info for a derived key."""
    words = (purpose, suite, place.context, place.family, compare)
    return b"pgseal/1" + joined(word.encode() for word in words)


def _derive(dek: bytes | bytearray, place: Place, info_bytes: bytes, size: int) -> bytes:
    assert len(dek) == DEK_SIZE and len(place.realm) == REALM_SIZE
    return HKDF(hashes.SHA256(), size, place.realm, info_bytes).derive(bytes(dek))


def randomised_key(dek: bytes | bytearray, place: Place) -> bytes:
    """32 bytes for AES-256-GCM, from a data key of purpose `data`."""
    return _derive(dek, place, info("data", "1", place, ""), 32)


def deterministic_key(dek: bytes | bytearray, place: Place) -> bytes:
    """64 bytes for AES-256-SIV, from a data key of purpose `index`."""
    return _derive(dek, place, info("index", "2", place, "exact"), 64)


def token_key(dek: bytes | bytearray, place: Place, compare: str) -> bytes:
    """32 bytes for HMAC-SHA-256, from a data key of purpose `index`; `compare` is 'exact' or 'nocase'."""
    return _derive(dek, place, info("index", "token", place, compare), 32)


def aad_start(place: Place) -> bytes:
    """The associated data up to the header, equal for all cells of a column and tenant."""
    return b"pgseal/aad/1" + joined((place.realm, place.tenant.encode(), place.context.encode()))
