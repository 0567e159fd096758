"""COPY's binary format: a stream, cut anywhere, into its header, rows and trailer.

| part    | bytes                                                                               |
|---------|-------------------------------------------------------------------------------------|
| header  | PGCOPY\\n\\377\\r\\n\\0, flags (4), size of the extension (4), extension                   |
| row     | n (2), each: size (4, -1: NULL), value                                              |
| trailer | -1 (2)                                                                              |

Source: PostgreSQL manual, "COPY", "Binary Format". One reason to change: that layout.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Final

from proxy.errors import BadCopyFormat
from proxy.values.copy_format import check_size

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER_SIZE: Final = len(SIGNATURE) + 8
TRAILER: Final = b"\xff\xff"
_COUNT: Final = Struct(">h")
_SIZE: Final = Struct(">i")


class Part(Enum):
    HEADER = "header"
    ROW = "row"
    TRAILER = "trailer"


class Tuples:
    """The parts of one stream. `push` takes bytes, `next_part` gives whole parts as they came."""

    def __init__(self, n_columns: int) -> None:
        self._n_columns = n_columns
        self._buffer = bytearray()
        self._start = 0
        self._wanted = 0  # bytes from `_start` without which another look is useless
        self._field, self._walked = (
            0,
            0,
        )  # of the row under way: fields walked over, and where the next one begins
        self._has_header = False
        self.is_ended = False  # the trailer has come
        self.number = 0

    @property
    def is_empty(self) -> bool:
        return self._start == len(self._buffer)

    def push(self, chunk: bytes) -> None:
        if self.is_ended and chunk:
            raise BadCopyFormat("received copy data after EOF marker")
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        check_size(len(self._buffer))
        self._buffer += chunk

    def next_part(self) -> tuple[Part, bytes] | None:
        """The next whole part, None where it is not there yet. Raises BadCopyFormat."""
        if len(self._buffer) - self._start < max(self._wanted, 1):
            return None
        if not self._has_header:
            return self._header()
        if self.is_ended:
            raise BadCopyFormat("received copy data after EOF marker")
        return self._row()

    def _take(self, kind: Part, size: int) -> tuple[Part, bytes]:
        taken = bytes(self._buffer[self._start : self._start + size])
        self._start += size
        self._wanted = self._field = self._walked = 0
        return kind, taken

    def _header(self) -> tuple[Part, bytes] | None:
        begun = bytes(self._buffer[: len(SIGNATURE)])
        if not SIGNATURE.startswith(begun):
            raise BadCopyFormat("COPY file signature not recognized")
        if len(self._buffer) < HEADER_SIZE:
            self._wanted = HEADER_SIZE
            return None
        flags, size = Struct(">Ii").unpack_from(self._buffer, len(SIGNATURE))
        if flags & (1 << 16):
            raise BadCopyFormat("invalid COPY file header (WITH OIDS)")
        if flags >> 17:
            raise BadCopyFormat("unrecognized critical flags in COPY file header")
        if size < 0:
            raise BadCopyFormat("invalid COPY file header (missing length)")
        if len(self._buffer) < HEADER_SIZE + size:
            check_size(size)
            self._wanted = HEADER_SIZE + size
            return None
        self._has_header = True
        return self._take(Part.HEADER, HEADER_SIZE + size)

    def _row(self) -> tuple[Part, bytes] | None:
        buffer, start, size = self._buffer, self._start, len(self._buffer)
        if self._walked == 0:
            if size - start < 2:
                self._wanted = 2
                return None
            (count,) = _COUNT.unpack_from(buffer, start)
            self.number += 1
            if count == -1:
                self.is_ended = True
                self.number -= 1
                return self._take(Part.TRAILER, 2)
            if count != self._n_columns:
                raise BadCopyFormat(f"row field count is {count}, expected {self._n_columns}")
            self._walked = 2
        while self._field < self._n_columns:
            self._wanted = self._walked + 4
            if size - start < self._wanted:
                return None
            (length,) = _SIZE.unpack_from(buffer, start + self._walked)
            if length < -1:
                raise BadCopyFormat("invalid field size")
            if length > 0:
                check_size(length)
                self._wanted += length
                if size - start < self._wanted:
                    return None
            self._walked = self._wanted
            self._field += 1
        return self._take(Part.ROW, self._walked)


def split_row(row: bytes) -> list[bytes | None]:
    """The values of a whole row."""
    values: list[bytes | None] = []
    position = 2
    size = len(row)
    while position < size:
        (length,) = _SIZE.unpack_from(row, position)
        position += 4
        if length < 0:
            values.append(None)
        else:
            values.append(row[position : position + length])
            position += length
    return values


def build_row(values: list[bytes | None]) -> bytes:
    parts = [_COUNT.pack(len(values))]
    for value in values:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(_SIZE.pack(len(value)))
            parts.append(value)
    return b"".join(parts)
