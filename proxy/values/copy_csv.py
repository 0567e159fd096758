"""Fields of COPY's CSV format: split, unquoted, quoted.

Source: PostgreSQL manual, "COPY", "CSV Format". One reason to change: how that format writes a value.
"""

from __future__ import annotations

import re

from proxy.values.copy_format import Dialect
from proxy.values.copy_lines import csv_quoted
from proxy.values.copy_text import split_by


class CsvFields:
    """Fields as they stand in a line (`raw`), and the values they are."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        quote, escape, delimiter = map(re.escape, (dialect.quote, dialect.escape, dialect.delimiter))
        inner = csv_quoted(dialect)
        self._field = re.compile(b"(?:[^" + quote + delimiter + b"]++|" + quote + inner + quote + b")*+")
        if dialect.quote == dialect.escape:
            inner = b"(?:[^" + quote + b"]++|" + quote + quote + b")*+"
        self._part = re.compile(quote + b"(" + inner + b")" + quote + b"|[^" + quote + b"]++")
        self._escaped = re.compile(escape + b"([" + quote + escape + b"])")
        self._doubled = re.compile(b"[" + quote + escape + b"]")
        self._special = re.compile(b"[\\r\\n" + quote + delimiter + b"]")

    def split(self, line: bytes) -> list[bytes]:
        """The raw fields of a line. Raises BadCopyFormat."""
        if self._dialect.quote not in line:
            return line.split(self._dialect.delimiter)
        return split_by(self._field, self._dialect.delimiter, line)

    def is_null(self, raw: bytes) -> bool:
        """The raw field stands for NULL."""
        return raw == self._dialect.null and self._dialect.quote not in raw

    def content(self, raw: bytes) -> bytes:
        """The value of a raw field that is not NULL."""
        if self._dialect.quote not in raw:
            return raw
        return b"".join(
            found[0] if found[1] is None else self._escaped.sub(rb"\1", found[1])
            for found in self._part.finditer(raw)
        )

    def is_default(self, raw: bytes) -> bool:
        """The raw field asks for the column's default."""
        return raw == self._dialect.default and self._dialect.quote not in raw and raw != self._dialect.null

    def quoted(self, value: bytes) -> bytes:
        """A value in quotes."""
        quote, escape = self._dialect.quote, self._dialect.escape
        return quote + self._doubled.sub(lambda found: escape + found[0], value) + quote

    def raw(self, value: bytes | None, *, force_quote: bool = False, is_only: bool = False) -> bytes:
        """How PostgreSQL writes a value; `is_only`: it is the only field of its row."""
        if value is None:
            return self._dialect.null
        if (
            force_quote
            or value == self._dialect.null
            or (is_only and value == b"\\.")
            or self._special.search(value) is not None
        ):
            return self.quoted(value)
        return value
