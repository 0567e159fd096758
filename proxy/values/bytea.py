r"""bytea: raw bytes; on the wire \x hexadecimal or the escape format.

PostgreSQL manual, "Binary Data Types". One reason to change: those two formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import InvalidParameterValue
from proxy.values.base import LogicalType, Settings
from proxy.values.encodings import to_utf8
from proxy.values.patterns import re
from proxy.values.wire import bad_text

HEX_PAIRS: Final = re.compile(rb"(?:[ \n\t\r]|[0-9a-fA-F]{2})*+")
ESCAPE: Final = re.compile(rb"(?:[^\\]++|\\\\|\\[0-3][0-7]{2})*+")
ESCAPED: Final = re.compile(rb"\\(\\|[0-3][0-7]{2})")
TO_ESCAPE: Final = re.compile(rb"[^\x20-\x5b\x5d-\x7e]")


def parse_bytea(text: bytes) -> bytes:
    """Text in either input format -> bytes; 22023 for bad digits, 22P02 for a bad escape."""
    if text[:2] == b"\\x":
        return parse_hex(text[2:])
    if b"\\" not in text:
        return text
    if ESCAPE.fullmatch(text) is None:
        raise bad_text("bytea")
    return ESCAPED.sub(lambda m: b"\\" if m[1] == b"\\" else bytes((int(m[1], 8),)), text)


def parse_hex(digits: bytes) -> bytes:
    """Hexadecimal pairs, white space between pairs allowed."""
    end = HEX_PAIRS.match(digits)
    assert end is not None
    rest = digits[end.end() :]
    if not rest:
        return bytes.fromhex(digits.decode("ascii"))
    if len(rest) == 1 and rest in b"0123456789abcdefABCDEF":
        raise InvalidParameterValue("invalid hexadecimal data: odd number of digits")
    raise InvalidParameterValue("invalid hexadecimal digit")


def escape_bytea(display: bytes) -> bytes:
    """The text form under bytea_output = escape."""
    return TO_ESCAPE.sub(lambda m: b"\\\\" if m[0] == b"\\" else b"\\%03o" % m[0][0], display)


@dataclass(frozen=True, slots=True)
class ByteaCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        return parse_bytea(to_utf8(raw, settings))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return raw

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        if settings.bytea_output == "escape":
            return escape_bytea(display)
        return b"\\x" + display.hex().encode("ascii")

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return display

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display
