"""float8: the shortest text that reads back as the same double, or %.15g and fewer digits on request.

PostgreSQL manual, "Floating-Point Types" and extra_float_digits. The server's shortest text never is a
decimal exactly half-way between two doubles, Python's may be; above 2^53 that is corrected here.
One reason to change: the text of doubles.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from proxy.errors import NumericOutOfRange, Unsupported
from proxy.values.base import LogicalType, Settings
from proxy.values.wire import SPACE, bad_text, fixed, utf8_str

DOUBLE: Final = struct.Struct(">d")
DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
WORDS: Final = re.compile(r"([+-]?)(nan|inf(?:inity)?)", re.IGNORECASE)
C_ONLY: Final = re.compile(
    r"[+-]?(nan\([0-9a-z_]*\)|0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[+-]?[0-9]+)?)", re.IGNORECASE
)
ZERO: Final = re.compile(r"[+-]?[0.]+(?:[eE].*)?")
MAX_TEXT: Final = 100_000  # strtod reads any length; so far no one has needed it


def parse_double(text: str) -> float:
    """Text -> double, or PostgreSQL's 22P02 and 22003."""
    text = text.strip(SPACE)
    if DECIMAL.fullmatch(text) is None:
        return _parse_word(text)
    value = float(text)
    if math.isinf(value) or (value == 0 and ZERO.fullmatch(text) is None):
        raise NumericOutOfRange("value is out of range for type double precision")
    return value


def _parse_word(text: str) -> float:
    match = WORDS.fullmatch(text)
    if match is not None:
        return float(text)
    if C_ONLY.fullmatch(text):
        raise Unsupported("floating-point numbers in hexadecimal, or NaN with a payload")
    prefix = DECIMAL.match(text)
    if prefix is not None and prefix[0] != text:
        parse_double(prefix[0])  # its overflow is found before what follows
    raise bad_text("double precision")


def show_double(value: float, extra_digits: int) -> str:
    """As PostgreSQL 12 and later print it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if extra_digits > 0:
        return _shortest(value)
    return f"{value:.{max(1, 15 + extra_digits)}g}"


def _shortest(value: float) -> str:
    mantissa, _, exponent = f"{_shortest_scientific(value)}".partition("e")
    power = int(exponent)
    sign, digits = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    digits = digits.replace(".", "").rstrip("0") or "0"
    if -4 <= power < 15:
        return sign + _fixed_point(digits, power)
    point = "." if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{point}{digits[1:]}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _fixed_point(digits: str, power: int) -> str:
    if power < 0:
        return "0." + "0" * (-power - 1) + digits
    if len(digits) <= power + 1:
        return digits + "0" * (power + 1 - len(digits))
    return f"{digits[: power + 1]}.{digits[power + 1 :]}"


def _shortest_scientific(value: float) -> str:
    text = repr(value)
    digits = sum(c.isdigit() for c in text.partition("e")[0].strip("-0."))
    if abs(value) < 2.0**53:
        return f"{value:.{max(digits, 1) - 1}e}" if digits < 17 else f"{value:.16e}"
    low, high = (_middle(value, -math.inf), _middle(value, math.inf))
    for n_digits in range(max(1, digits - 1), 17):
        text = f"{value:.{n_digits - 1}e}"
        if low < Fraction(text) < high:
            return text
    return f"{value:.16e}"


def _middle(value: float, towards: float) -> Fraction:
    neighbour = math.nextafter(value, towards)
    if math.isinf(neighbour):
        return Fraction(value) + (Fraction(value) - Fraction(math.nextafter(value, 0.0))) / 2
    return (Fraction(value) + Fraction(neighbour)) / 2


@dataclass(frozen=True, slots=True)
class DoubleCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        if len(raw) > MAX_TEXT:
            raise Unsupported("a floating-point number of more than 100000 characters")
        return double_display(parse_double(utf8_str(raw, settings)))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        value: float = DOUBLE.unpack(fixed(raw, 8))[0]
        return double_display(value)

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        if settings.extra_float_digits > 0:
            return display
        return show_double(float(display), settings.extra_float_digits).encode("ascii")

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return DOUBLE.pack(float(display))

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        raise Unsupported("equality over double precision")


def double_display(value: float) -> bytes:
    return show_double(value, 1).encode("ascii")
