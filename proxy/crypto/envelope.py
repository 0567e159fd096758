"""The bytes of one encrypted value: header, padding, text storage. Nothing here knows a key.

| offset | size | field |
|---|---|---|
| 0 | 3 | magic and version |
| 3 | 1 | suite |
| 4 | 1 | flags |
| 5 | 4 | key id |
| 9 | 15 | token, only when bit 0 of the flags is set |

docs/envelope.md has what follows, which flags go together, and the vectors. What a cell is, is decided by
rule and plan; these functions are only asked about values that must be cells. One reason to change: another
version of the envelope.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import CellNotOpen, ProgramLimitExceeded

MAGIC: Final = b"\xa6\x0b\x35"
RANDOMISED_SUITE: Final = 1
DETERMINISTIC_SUITE: Final = 2

TOKEN_BIT: Final = 1
PADDED_BIT: Final = 2
MAX_INDEX_VERSION: Final = 15
MAX_KEY_ID: Final = 0xFFFFFFFF

HEADER_SIZE: Final = 9
TOKEN_SIZE: Final = 15
TOKEN_END: Final = HEADER_SIZE + TOKEN_SIZE
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
PLAIN_LEAST: Final = HEADER_SIZE + NONCE_SIZE + TAG_SIZE  # 37: randomised, empty and unpadded
TOKEN_LEAST: Final = PLAIN_LEAST + TOKEN_SIZE  # 52
DETERMINISTIC_LEAST: Final = HEADER_SIZE + TAG_SIZE  # 25
MAX_PLAINTEXT: Final = 256 * 1024 * 1024

NOT_OPEN: Final = "cell does not open"
NOT_OPEN_HINT: Final = "The stored value, its key or its place is not the one it was sealed with."

_INDEX_VERSIONS: Final = tuple(version << 4 for version in range(1, MAX_INDEX_VERSION + 1))
PLAIN_FLAGS: Final = frozenset((0, PADDED_BIT))
TOKEN_FLAGS: Final = frozenset(v | TOKEN_BIT | p for v in _INDEX_VERSIONS for p in (0, PADDED_BIT))
DETERMINISTIC_FLAGS: Final = frozenset(v | PADDED_BIT for v in _INDEX_VERSIONS)

# suite and flags, as they stand in bytes 3 and 4 -> least size; a miss is no envelope of this version
LEAST_SIZES: Final[Mapping[bytes, int]] = {
    **{bytes((RANDOMISED_SUITE, flags)): PLAIN_LEAST for flags in PLAIN_FLAGS},
    **{bytes((RANDOMISED_SUITE, flags)): TOKEN_LEAST for flags in TOKEN_FLAGS},
    **{bytes((DETERMINISTIC_SUITE, flags)): DETERMINISTIC_LEAST for flags in DETERMINISTIC_FLAGS},
}

FIXED_BLOCKS: Final[Mapping[str, int]] = {
    "int": 24,
    "float": 32,
    "bool": 8,
    "date": 16,
    "timestamp": 32,
    "timestamptz": 40,
    "uuid": 40,
}


def not_open(label: str | None = None) -> CellNotOpen:
    """The one error for every cause."""
    return CellNotOpen(NOT_OPEN, column=label, hint=NOT_OPEN_HINT)


def header(suite: int, flags: int, key_id: int) -> bytes:
    """The first 9 bytes."""
    assert bytes((suite, flags)) in LEAST_SIZES and 1 <= key_id <= MAX_KEY_ID
    return MAGIC + bytes((suite, flags)) + key_id.to_bytes(4, "big")


def key_id_of(envelope: bytes) -> int:
    """The id of the data key; CellNotOpen when these bytes are no envelope of version 1."""
    least = LEAST_SIZES.get(envelope[3:5])
    if least is None or len(envelope) < least or envelope[:3] != MAGIC:
        raise not_open()
    key_id = int.from_bytes(envelope[5:9], "big")
    if key_id == 0:
        raise not_open()
    return key_id


@dataclass(frozen=True, slots=True)
class Described:
    """What an envelope says of itself without any key."""

    suite: int
    key_id: int
    is_padded: bool
    index_version: int
    token: bytes | None = field(repr=False)
    plaintext_size: int  # with its padding


def describe(envelope: bytes) -> Described:
    """The envelope's own fields; CellNotOpen when it is none."""
    key_id = key_id_of(envelope)
    suite, flags = envelope[3], envelope[4]
    return Described(
        suite=suite,
        key_id=key_id,
        is_padded=bool(flags & PADDED_BIT),
        index_version=flags >> 4,
        token=envelope[HEADER_SIZE:TOKEN_END] if flags & TOKEN_BIT else None,
        plaintext_size=len(envelope) - LEAST_SIZES[envelope[3:5]],
    )


# --- plaintext --------------------------------------------------------------------------------------


def block_of(family: str, pad: int, *, is_deterministic: bool = False) -> int:
    """Padding block in bytes, 0 for none: the family's where it is fixed, else the rule's `pad`."""
    fixed = FIXED_BLOCKS.get(family)
    if fixed is not None:
        return fixed
    return max(pad, 1) if is_deterministic else pad


def check_size(display: bytes, label: str) -> None:
    """54000 for a value no cell may hold."""
    if len(display) > MAX_PLAINTEXT:
        raise ProgramLimitExceeded("value is longer than the 256 MiB a protected column holds", column=label)


def pad(plain: bytes, block: int) -> bytes:
    """ISO/IEC 7816-4 up to a multiple of `block` (at least 1): one byte 80, then zeros."""
    return (plain + b"\x80").ljust((len(plain) // block + 1) * block, b"\0")


def unpad(padded: bytes) -> bytes | None:
    """What was padded, None when there is no padding."""
    plain = padded.rstrip(b"\0")
    return plain[:-1] if plain[-1:] == b"\x80" else None


# --- storage: text ----------------------------------------------------------------------------------

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # '!' is in no alphabet
_PADDING: Final = (b"", None, b"==", b"=")  # by length modulo 4
_LAST: Final = (None, None, frozenset(b"AQgw"), frozenset(b"AEIMQUYcgkosw048"))  # no bits after the last byte


def to_text(envelope: bytes) -> bytes:
    """The same bytes for `storage: text`: base64 with the URL alphabet, no padding, as ASCII bytes."""
    return binascii.b2a_base64(envelope, newline=False).rstrip(b"=").translate(_TO_URL)


def from_text(text: bytes) -> bytes:
    """The envelope of a text cell; CellNotOpen for anything but its one spelling."""
    left = len(text) % 4
    padding, last = _PADDING[left], _LAST[left]
    if padding is None or not text or (last is not None and text[-1] not in last):
        raise not_open()
    try:
        return binascii.a2b_base64(text.translate(_FROM_URL) + padding, strict_mode=True)
    except binascii.Error:
        raise not_open() from None
