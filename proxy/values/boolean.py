"""bool: t and f.  PostgreSQL manual, "Boolean Type". One reason to change: its spellings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.values.base import LogicalType, Settings
from proxy.values.wire import SPACE, bad_text, fixed, utf8_str

# Every unique prefix of true, false, yes, no, on, off; "o" alone is ambiguous.
SPELLINGS: Final[dict[str, bytes]] = {
    **{"true"[:n]: b"t" for n in range(1, 5)},
    **{"yes"[:n]: b"t" for n in range(1, 4)},
    **{"false"[:n]: b"f" for n in range(1, 6)},
    **{"no"[:n]: b"f" for n in range(1, 3)},
    "on": b"t",
    "of": b"f",
    "off": b"f",
    "1": b"t",
    "0": b"f",
}


@dataclass(frozen=True, slots=True)
class BooleanCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        text = utf8_str(raw, settings).strip(SPACE)
        display = SPELLINGS.get(text.lower()) if text.isascii() else None
        if display is None:
            raise bad_text("boolean")
        return display

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return b"f" if fixed(raw, 1) == b"\0" else b"t"

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return display

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return b"\x01" if display == b"t" else b"\0"

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display
