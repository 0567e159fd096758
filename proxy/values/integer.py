"""int2, int4, int8: decimal text, big-endian two's complement.

PostgreSQL manual, "Numeric Types". Servers before 16 refuse what later ones read as hexadecimal, octal,
binary and underscored integers, so those spellings are not supported here at all.
One reason to change: the spelling of integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.errors import NumericOutOfRange, Unsupported
from proxy.values.base import LogicalType, Settings
from proxy.values.wire import SPACE, bad_text, fixed, sql_name, utf8_str

DECIMAL: Final = re.compile(r"([+-]?)([0-9]+)")
LATER: Final = re.compile(
    r"[+-]?(0[xX](_?[0-9a-fA-F])+|0[oO](_?[0-7])+|0[bB](_?[01])+|[0-9](_?[0-9])*)",
)
FAST: Final = re.compile(rb"-?[1-9][0-9]{0,8}|0")
MAX_DIGITS: Final = 19


def in_range(value: int, size: int) -> bool:
    limit = 1 << (8 * size - 1)
    return -limit <= value < limit


def parse_integer(text: str, type_: LogicalType) -> int:
    """Text -> value of the type, or PostgreSQL's 22P02 and 22003."""
    text = text.strip(SPACE)
    match = DECIMAL.fullmatch(text)
    if match is None:
        if LATER.fullmatch(text):
            raise Unsupported("integers written in hexadecimal, octal, binary or with underscores")
        raise _overflow_before_junk(text, type_) or bad_text(sql_name(type_))
    digits = match[2].lstrip("0")
    if len(digits) > MAX_DIGITS:
        raise out_of_range_text(type_)
    value = int(match[1] + (digits or "0"))
    if not in_range(value, type_.size):
        raise out_of_range_text(type_)
    return value


def _overflow_before_junk(text: str, type_: LogicalType) -> NumericOutOfRange | None:
    """The server reads digit by digit, so an overflow is found before what follows the digits."""
    match = DECIMAL.match(text)
    if match is None:
        return None
    digits = match[2].lstrip("0")
    is_small = len(digits) <= MAX_DIGITS and int(digits or "0") <= 1 << (8 * type_.size - 1)
    return None if is_small else out_of_range_text(type_)


def out_of_range_text(type_: LogicalType) -> NumericOutOfRange:
    return NumericOutOfRange(f"value is out of range for type {sql_name(type_)}")


def out_of_range(type_: LogicalType) -> NumericOutOfRange:
    """As casts and arithmetic say it."""
    return NumericOutOfRange(f"{sql_name(type_)} out of range")


@dataclass(frozen=True, slots=True)
class IntegerCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        if len(raw) < 5 and FAST.fullmatch(raw):
            return raw
        return b"%d" % parse_integer(utf8_str(raw, settings), self.type)

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return b"%d" % int.from_bytes(fixed(raw, self.type.size), "big", signed=True)

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return display

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return int(display).to_bytes(self.type.size, "big", signed=True)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display
