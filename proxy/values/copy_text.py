"""Fields of COPY's text format: split, unescaped, escaped.

Source: PostgreSQL manual, "COPY", "Text Format". One reason to change: how that format writes a value.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import BadCopyFormat
from proxy.values.copy_format import Dialect

_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|([\s\S])|\Z)")
_NAMED: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_NAMES: Final = {value: b"\\" + name for name, value in _NAMED.items()}


class TextFields:
    """Fields as they stand in a line (`raw`), and the values they are."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        delimiter = re.escape(dialect.delimiter)
        self._escaped_delimiter = b"\\" + dialect.delimiter
        self._field = re.compile(rb"(?:[^\\" + delimiter + rb"]++|\\[\s\S]?)*+")
        self._special = re.compile(rb"[\\\x08\f\n\r\t\v" + delimiter + b"]")

    def split(self, line: bytes) -> list[bytes]:
        """The raw fields of a line."""
        if self._escaped_delimiter not in line:
            return line.split(self._dialect.delimiter)
        return split_by(self._field, self._dialect.delimiter, line)

    def is_null(self, raw: bytes) -> bool:
        """The raw field stands for NULL."""
        return raw == self._dialect.null

    def content(self, raw: bytes) -> bytes:
        """The value of a raw field that is not NULL."""
        return raw if b"\\" not in raw else _ESCAPE.sub(_unescaped, raw)

    def is_default(self, raw: bytes) -> bool:
        """The raw field asks for the column's default."""
        return raw == self._dialect.default and raw != self._dialect.null

    def raw(self, value: bytes | None) -> bytes:
        """How PostgreSQL writes a value."""
        if value is None:
            return self._dialect.null
        return self._special.sub(_escaped, value)


def split_by(field: re.Pattern[bytes], delimiter: bytes, line: bytes) -> list[bytes]:
    """The fields of a line, each what the pattern matches, with one delimiter of one byte between them."""
    fields = []
    position = -1
    while position < len(line):
        found = field.match(line, position + 1)
        assert found is not None, "it matches the empty string too"
        fields.append(found[0])
        position = found.end()
        if position < len(line) and line[position] != delimiter[0]:
            raise BadCopyFormat("unterminated CSV quoted field")
    return fields


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, digits, other = found.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if digits is not None:
        return bytes((int(digits, 16),))
    if other is None:
        return b""  # a backslash at the very end
    return _NAMED.get(other, other)


def _escaped(found: re.Match[bytes]) -> bytes:
    special = found[0]
    return _NAMES.get(special, b"\\" + special)
