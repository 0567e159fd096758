"""Lines of COPY data in text and CSV, found in a stream that may be cut anywhere.

A line is what the server takes for one: an escaped newline (text) or a quoted one (CSV) does not end it, all
lines end as the first did, and anything else is the server's own error. What has been looked at is not looked at
again, so a long row in small pieces costs no more than in one.

Source: PostgreSQL manual, "COPY", "File Formats". One reason to change: where a row of the two formats ends.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import BadCopyFormat
from proxy.values.copy_format import Dialect, Format, check_size, literal_newline, literal_return

LF: Final = 0x0A
CR: Final = 0x0D
BACKSLASH: Final = 0x5C
_TEXT_LINE: Final = re.compile(rb"(?:[^\\\r\n]++|\\[\s\S])*+")
_NO_MARKER: Final = re.compile(rb"(?:[^\\]++|\\[^.]|\\\Z)*+")
END_MARKER: Final = b"\\."


def csv_quoted(dialect: Dialect) -> bytes:
    """The pattern of what may stand between two quotes, for where lines and fields end. (A doubled quote is the
    end of one quoted part and the beginning of the next.)"""
    quote, escape = re.escape(dialect.quote), re.escape(dialect.escape)
    if dialect.quote == dialect.escape:
        return b"[^" + quote + b"]*+"
    return b"(?:[^" + quote + escape + b"]++|" + escape + rb"[\s\S])*+"


class Lines:
    """The lines of one stream. `push` takes bytes, `next_line` gives whole lines without their end; after `close`
    also the last one, which may have none. `number` counts as PostgreSQL does, `eol` is how they end, `ending`
    how the one given last did."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._is_csv = dialect.format is Format.CSV
        self._quote = dialect.quote[0]
        self._buffer = bytearray()
        self._start = 0  # of the line under way
        self._scan = 0  # what was looked at
        self._is_quoted = False
        self._is_closed = False
        self.is_ended = False  # the end marker has come: what follows is nothing
        self.number = 0
        self.eol = b""
        self.ending = b""
        self._outside, self._inside = _TEXT_LINE, _TEXT_LINE
        if self._is_csv:
            quote, inner = re.escape(dialect.quote), csv_quoted(dialect)
            self._outside = re.compile(b"(?:[^\\r\\n" + quote + b"]++|" + quote + inner + quote + b")*+")
            self._inside = re.compile(inner)

    @property
    def is_empty(self) -> bool:
        """Nothing is kept of a line that is not whole."""
        return self._start == len(self._buffer)

    def push(self, chunk: bytes) -> None:
        if self.is_ended:
            return
        if self._start:
            del self._buffer[: self._start]
            self._scan -= self._start
            self._start = 0
        check_size(len(self._buffer))
        self._buffer += chunk

    def close(self) -> None:
        """Nothing more will come."""
        self._is_closed = True

    def next_line(self) -> bytes | None:
        """The next whole line, None where there is none (yet). Raises BadCopyFormat."""
        if self.is_ended:
            return None
        end = self._find_end()
        if end is None:
            return self._last() if self._is_closed else None
        size = self._eol_size(end)
        return None if size == 0 else self._line(end, size)

    def _find_end(self) -> int | None:
        """Where the line under way ends: at a newline or carriage return. None: not within what has come."""
        buffer, size = self._buffer, len(self._buffer)
        while True:
            if self._is_quoted:
                self._scan = _end(self._inside, buffer, self._scan)
                if self._scan == size or buffer[self._scan] != self._quote:
                    return None  # nothing more, or an escape whose object is still to come
                self._is_quoted = False
                self._scan += 1
            self._scan = _end(self._outside, buffer, self._scan)
            if self._scan == size:
                return None
            byte = buffer[self._scan]
            if byte in (LF, CR):
                return self._scan
            if not self._is_csv:
                return None  # a backslash whose object is still to come
            self._is_quoted = True
            self._scan += 1

    def _eol_size(self, end: int) -> int:
        """The size of the line's end; 0 where it is not sure yet."""
        if self._buffer[end] == LF:
            if self.eol not in (b"", b"\n"):
                raise self._wrong(literal_newline(self._dialect))
            self.eol = b"\n"
            return 1
        if self.eol == b"\r":
            return 1
        if self.eol == b"\n":
            raise self._wrong(literal_return(self._dialect))
        if end + 1 == len(self._buffer) and not self._is_closed:
            return 0
        if self._buffer[end + 1 : end + 2] == b"\n":
            self.eol = b"\r\n"
            return 2
        if self.eol:
            raise self._wrong(literal_return(self._dialect))
        self.eol = b"\r"
        return 1

    def _line(self, end: int, size: int) -> bytes | None:
        line = bytes(self._buffer[self._start : end])
        self.number += 1
        if self._is_csv:
            self.number += line.count(b"\n" if self.eol == b"\n" else b"\r")
        self._start = self._scan = end + size
        self.ending = self.eol
        if END_MARKER in line and self._dialect.has_end_marker:
            return self._marked(line)
        return line

    def _marked(self, line: bytes) -> bytes | None:
        if line == END_MARKER:
            self.is_ended = True
            self._buffer.clear()
            self._start = self._scan = 0
            return None
        if not self._is_csv and _NO_MARKER.fullmatch(line) is None:
            raise BadCopyFormat("end-of-copy marker corrupt")
        return line

    def _last(self) -> bytes | None:
        """What is left at the end, without a newline behind it."""
        if self.is_empty:
            return None
        if self._is_quoted:
            self.number += 1
            raise BadCopyFormat("unterminated CSV quoted field")
        line = bytes(self._buffer[self._start :])
        self.number += 1
        self._start = self._scan = len(self._buffer)
        self.ending = b""
        if not self._is_csv and self._dialect.has_end_marker and _NO_MARKER.fullmatch(line) is None:
            raise BadCopyFormat("end-of-copy marker corrupt")
        return line

    def _wrong(self, error: BadCopyFormat) -> BadCopyFormat:
        self.number += 1
        return error


def _end(pattern: re.Pattern[bytes], buffer: bytearray, position: int) -> int:
    found = pattern.match(buffer, position)
    assert found is not None, "it matches the empty string too"
    return found.end()
