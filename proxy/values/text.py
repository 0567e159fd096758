"""text and varchar(n): UTF-8 as is, the length in characters checked on assignment.

PostgreSQL manual, "Character Types". One reason to change: what a string column accepts.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.errors import StringTooLong
from proxy.values.base import LogicalType, Settings
from proxy.values.encodings import from_utf8, to_utf8


def fit(display: bytes, limit: int) -> bytes:
    """varchar(limit) on assignment: blanks beyond the limit are cut, anything else there is 22001."""
    if len(display) <= limit:
        return display
    text = display.decode("utf-8")
    if len(text) <= limit:
        return display
    if text[limit:].strip(" "):
        raise StringTooLong(f"value too long for type character varying({limit})")
    return text[:limit].encode("utf-8")


def cut(display: bytes, limit: int) -> bytes:
    """varchar(limit) by an explicit cast: the first `limit` characters."""
    return display if len(display) <= limit else display.decode("utf-8")[:limit].encode("utf-8")


@dataclass(frozen=True, slots=True)
class TextCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        display = to_utf8(raw, settings)
        return display if self.type.typmod < 4 else fit(display, self.type.typmod - 4)

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return self.read_text(raw, settings)

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return from_utf8(display, settings)

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return from_utf8(display, settings)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display.lower() if nocase else display  # bytes.lower folds ASCII letters only
