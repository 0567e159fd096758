r"""One-dimensional arrays as parameters: `{a,"b c",NULL}` and the binary form, to elements and back.

PostgreSQL manual, "Arrays", "Array Input and Output Syntax". Binary: int32 dimensions, int32 has-nulls, uint32
element OID, then int32 size and int32 lower bound a dimension, then int32 length (-1 NULL) and bytes an element.
One reason to change: arrays of more dimensions, or as column types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from proxy.errors import (
    InvalidBinaryRepresentation,
    InvalidTextRepresentation,
    ProgramLimitExceeded,
    ProtocolViolation,
    Unsupported,
)
from proxy.values.base import Settings
from proxy.values.encodings import to_utf8
from proxy.values.patterns import re

Elements = tuple[bytes | None, ...]

HEADER: Final = struct.Struct(">iiI")
DIMENSION: Final = struct.Struct(">ii")
LENGTH: Final = struct.Struct(">i")
SPACE: Final = b" \t\n\v\f\r"
QUOTED: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"[ \t\n\v\f\r]*', re.DOTALL)
UNQUOTED: Final = re.compile(rb'(?:[^"\\{},]++|\\.)++', re.DOTALL)
ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
SPACES: Final = re.compile(rb"[ \t\n\v\f\r]*")
MAX_DIMENSIONS: Final = 6
BYTEA: Final = 17


def split_text(raw: bytes, settings: Settings) -> Elements:
    """An array in text form -> its elements in UTF-8, None for NULL; 22P02 where malformed."""
    return tuple(each_in_text(raw, settings))


def each_in_text(raw: bytes, settings: Settings) -> Iterator[bytes | None]:
    """The same one by one: what is malformed is found when it is come to."""
    text = to_utf8(raw, settings)
    at = _skip(text, 0)
    if text[at : at + 1] == b"[":
        raise Unsupported("arrays written with their bounds")
    if text[at : at + 1] != b"{":
        raise _malformed()
    at = _skip(text, at + 1)
    is_first = True
    while text[at : at + 1] != b"}" or not is_first:
        element, at = _element(text, at)
        yield element
        is_first = False
        delimiter = text[at : at + 1]
        if delimiter == b"}":
            break
        if delimiter != b",":
            raise _malformed()
        at = _skip(text, at + 1)
    if _skip(text, at + 1) != len(text):
        raise _malformed()


def _element(text: bytes, at: int) -> tuple[bytes | None, int]:
    match = QUOTED.match(text, at)
    if match is not None:
        return ESCAPE.sub(rb"\1", match[1]), match.end()
    if text[at : at + 1] == b"{":
        raise Unsupported("arrays of more than one dimension")
    match = UNQUOTED.match(text, at)
    if match is None:
        raise _malformed()
    word = _without_last_blanks(match[0])
    if word.upper() == b"NULL":
        return None, match.end()
    return ESCAPE.sub(rb"\1", word), match.end()


def _without_last_blanks(word: bytes) -> bytes:
    """Cut blanks at the end that no backslash stands before."""
    cut = word.rstrip(SPACE)
    n_backslashes = len(cut) - len(cut.rstrip(b"\\"))
    return word[: len(cut) + 1] if n_backslashes % 2 and len(cut) < len(word) else cut


def _skip(text: bytes, at: int) -> int:
    match = SPACES.match(text, at)
    assert match is not None
    return match.end()


def _malformed() -> InvalidTextRepresentation:
    return InvalidTextRepresentation("malformed array literal")


def split_binary(raw: bytes) -> tuple[int, Elements]:
    """An array in binary form -> (element OID, elements); 22P03 and 08P01 as the server's."""
    oid, _, elements = each_in_binary(raw)
    return oid, tuple(elements)


def each_in_binary(raw: bytes) -> tuple[int, int, Iterator[bytes | None]]:
    """The same, with the number of elements, which come one by one: what is malformed among them is found when
    it is come to."""
    if len(raw) < HEADER.size:
        raise ProtocolViolation("insufficient data left in message")
    n_dimensions, flags, oid = HEADER.unpack_from(raw)
    if n_dimensions < 0:
        raise InvalidBinaryRepresentation("invalid number of dimensions")
    if n_dimensions > MAX_DIMENSIONS:
        raise ProgramLimitExceeded("number of array dimensions exceeds the maximum allowed (6)")
    if flags not in (0, 1):
        raise InvalidBinaryRepresentation("invalid array flags")
    if n_dimensions > 1:
        raise Unsupported("arrays of more than one dimension")
    if n_dimensions == 0:
        _expect_end(raw, HEADER.size)
        return oid, 0, iter(())
    at = HEADER.size + DIMENSION.size
    if len(raw) < at:
        raise ProtocolViolation("insufficient data left in message")
    count, _ = DIMENSION.unpack_from(raw, HEADER.size)
    if count < 0 or count * LENGTH.size > len(raw) - at:
        raise ProtocolViolation("insufficient data left in message")
    return oid, count, _elements(raw, at, count)


def _elements(raw: bytes, at: int, count: int) -> Iterator[bytes | None]:
    for _ in range(count):
        if len(raw) - at < LENGTH.size:
            raise ProtocolViolation("insufficient data left in message")
        (size,) = LENGTH.unpack_from(raw, at)
        at += LENGTH.size
        if size < -1 or size > len(raw) - at:
            raise InvalidBinaryRepresentation("insufficient data left in message")
        yield None if size < 0 else raw[at : at + size]
        at += max(size, 0)
    _expect_end(raw, at)


def _expect_end(raw: bytes, at: int) -> None:
    if at != len(raw):
        raise InvalidBinaryRepresentation("incorrect binary data format")


def build_text(elements: Iterable[bytes | None], element_oid: int) -> bytes:
    """Raw bytes (bytea, OID 17) or UTF-8 texts -> the array's text form in UTF-8."""
    return b"{" + b",".join(_shown(element, element_oid) for element in elements) + b"}"


def _shown(element: bytes | None, element_oid: int) -> bytes:
    if element is None:
        return b"NULL"
    if element_oid == BYTEA:
        return b'"\\\\x' + element.hex().encode("ascii") + b'"'
    return b'"' + element.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def build_binary(elements: Iterable[bytes | None], element_oid: int) -> bytes:
    """Elements in their binary form -> the array's binary form."""
    items = tuple(elements)
    return build_head(items, element_oid) + build_items(items)


def build_head(items: Sequence[bytes | None], element_oid: int) -> bytes:
    """What stands before the elements in an array's binary form."""
    if not items:
        return HEADER.pack(0, 0, element_oid)
    return HEADER.pack(1, 1 if None in items else 0, element_oid) + DIMENSION.pack(len(items), 1)


def build_items(items: Iterable[bytes | None]) -> bytes:
    """Elements as they stand in an array's binary form."""
    parts: list[bytes] = []
    for item in items:
        parts += [LENGTH.pack(-1)] if item is None else [LENGTH.pack(len(item)), item]
    return b"".join(parts)
