"""Frames and rows of the PostgreSQL protocol, version 3: the functions a compiled twin may replace.

A message is `type (1) length (4, big-endian, counting itself but not the type) body`. DataRow's body is
`n_columns (2)` and for each column `size (4, -1 for NULL) value`.
Source: PostgreSQL manual, "Message Formats". One reason to change: the shape of a frame or a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from proxy.errors import ProtocolViolation

HEADER: Final = Struct(">cI")
LENGTH: Final = Struct(">I")
_INT16: Final = Struct(">H")
_SIZE: Final = Struct(">i")

HEADER_SIZE: Final = 5
NULL_SIZE: Final = b"\xff\xff\xff\xff"


def scan_frames(buffer: bytes, start: int = 0) -> tuple[list[tuple[int, int, int]], int]:
    """Whole frames from `start`: (type byte, start, end exclusive) each, and the offset of the first partial one.

    Raises ProtocolViolation where a length is under 4.
    """
    frames: list[tuple[int, int, int]] = []
    size = len(buffer)
    read = LENGTH.unpack_from
    while size - start >= HEADER_SIZE:
        length = read(buffer, start + 1)[0]
        if length < 4:
            raise ProtocolViolation("invalid message length")
        end = start + 1 + length
        if end > size:
            break
        frames.append((buffer[start], start, end))
        start = end
    return frames, start


def split_row(body: bytes) -> list[bytes | None]:
    """Body of a DataRow (or the parameter part of a Bind: count, sizes, values) -> its values, None for NULL.

    Raises ProtocolViolation where sizes and body disagree.
    """
    values: list[bytes | None] = []
    count, position = read_int16(body, 0)
    if read_values(body, position, count, values) != len(body):
        raise ProtocolViolation("invalid message format")
    return values


def read_values(body: bytes, position: int, count: int, values: list[bytes | None]) -> int:
    """Appends the `count` values (size and bytes, None for NULL) from `position`; the offset behind the last.

    Raises ProtocolViolation where the body ends before.
    """
    limit = len(body)
    read = _SIZE.unpack_from
    for _ in range(count):
        start = position + 4
        if start > limit:
            raise ProtocolViolation("insufficient data left in message")
        size = read(body, position)[0]
        if size < 0:
            values.append(None)
            position = start
            continue
        position = start + size
        if position > limit:
            raise ProtocolViolation("insufficient data left in message")
        values.append(body[start:position])
    return position


def build_row(values: Sequence[bytes | None]) -> bytes:
    """Values -> body of a DataRow: the inverse of `split_row`."""
    return _INT16.pack(len(values)) + build_values(values)


def build_values(values: Sequence[bytes | None]) -> bytes:
    """Size and bytes of each value: the inverse of `read_values`."""
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(NULL_SIZE)
        else:
            parts.append(_SIZE.pack(len(value)))
            parts.append(value)
    return b"".join(parts)


def frame(kind: bytes, body: bytes) -> bytes:
    """One whole message."""
    return HEADER.pack(kind, len(body) + 4) + body


def read_cstring(body: bytes, position: int) -> tuple[bytes, int]:
    """The NUL-terminated string at `position` and the offset behind its NUL. Raises ProtocolViolation."""
    end = body.find(b"\0", position)
    if end < 0:
        raise ProtocolViolation("invalid string in message")
    return body[position:end], end + 1


def read_int16(body: bytes, position: int) -> tuple[int, int]:
    """The unsigned 16-bit number at `position` and the offset behind it. Raises ProtocolViolation."""
    if position + 2 > len(body):
        raise ProtocolViolation("insufficient data left in message")
    return _INT16.unpack_from(body, position)[0], position + 2
