"""uuid: lower case with hyphens.  PostgreSQL manual, "UUID Type". One reason to change: its spellings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.values.base import LogicalType, Settings
from proxy.values.wire import bad_text, fixed, utf8_str

GROUPS: Final = re.compile(r"(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}")


@dataclass(frozen=True, slots=True)
class UuidCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        text = utf8_str(raw, settings)
        if text.startswith("{") and text.endswith("}"):
            text = text[1:-1]
        if GROUPS.fullmatch(text) is None:
            raise bad_text("uuid")
        return _hyphens(text.replace("-", "").lower())

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return _hyphens(fixed(raw, 16).hex())

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return display

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return bytes.fromhex(display.replace(b"-", b"").decode("ascii"))

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display


def _hyphens(digits: str) -> bytes:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).encode("ascii")
