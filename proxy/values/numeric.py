"""numeric(p,s): decimal text with its scale, and the base-10000 binary form.

PostgreSQL manual, "Arbitrary Precision Numbers". Binary: int16 count of digits, int16 weight of the first,
uint16 sign, uint16 scale, then int16 digits of base 10000. One reason to change: numeric's forms and limits.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from typing import Final

from proxy.errors import InvalidBinaryRepresentation, NumericOutOfRange, ProtocolViolation, Unsupported
from proxy.values.base import LogicalType, Settings
from proxy.values.wire import SPACE, bad_text, utf8_str

FINITE: Final = re.compile(r"([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?")
SPECIAL: Final = {
    "nan": "NaN",
    "inf": "Infinity",
    "+inf": "Infinity",
    "-inf": "-Infinity",
    "infinity": "Infinity",
    "+infinity": "Infinity",
    "-infinity": "-Infinity",
}
LATER: Final = re.compile(
    r"[+-]?(0[xX](_?[0-9a-fA-F])+|0[oO](_?[0-7])+|0[bB](_?[01])+"
    r"|([0-9](_?[0-9])*(\.([0-9](_?[0-9])*)?)?|\.[0-9](_?[0-9])*)([eE][ \t\n\v\f\r]*[+-]?[0-9](_?[0-9])*)?)"
)
# LATER also takes blanks before an exponent's digits, which servers before 16 skip.
HEADER: Final = struct.Struct(">hhHH")
SIGNS: Final = {"NaN": (0xC000, 0), "Infinity": (0xD000, 0x20), "-Infinity": (0xF000, 0x20)}  # and the scale sent
NAMES: Final = {sign: name for name, (sign, _) in SIGNS.items()}
POSITIVE: Final = 0x0000
NEGATIVE: Final = 0x4000
USUAL: Final = re.compile(rb"(0|-?[1-9][0-9]{0,17})(?:\.([0-9]{1,16}))?")
MAX_SCALE: Final = 16383
MAX_WEIGHT_DIGITS: Final = 131072
MAX_EXPONENT: Final = (2**31 - 1) // 2
EXACT: Final = Context(prec=160_000, rounding=ROUND_HALF_UP, Emax=MAX_EMAX, Emin=MIN_EMIN)


def typmod_of(precision: int, scale: int) -> int:
    return ((precision << 16) | (scale & 0x7FF)) + 4


def precision_scale(typmod: int) -> tuple[int, int] | None:
    """(precision, scale) of a numeric typmod; None where there is none."""
    if typmod < 4:
        return None
    return (typmod - 4) >> 16, (((typmod - 4) & 0x7FF) ^ 0x400) - 0x400


def overflow() -> NumericOutOfRange:
    return NumericOutOfRange("value overflows numeric format")


def parse_numeric(text: str) -> Decimal | str:
    """Text -> Decimal whose exponent is minus the scale, or one of the three words."""
    text = text.strip(SPACE)
    match = FINITE.fullmatch(text)
    if match is None:
        word = SPECIAL.get(text.lower()) if text.isascii() else None
        if word is not None:
            return word
        if LATER.fullmatch(text):
            raise Unsupported("numbers written in hexadecimal, octal, binary or with underscores")
        prefix = FINITE.match(text)
        if prefix is not None and prefix[5]:
            _exponent(prefix[5])  # its overflow is found before what follows
        raise bad_text("numeric")
    sign, whole, fraction, bare, exponent = match.groups()
    power = _exponent(exponent) if exponent else 0
    fraction = bare or fraction or ""
    digits = (whole or "") + fraction
    return _scaled(sign, digits, power - len(fraction))


def _exponent(text: str) -> int:
    value = int(text) if len(text) < 20 else MAX_EXPONENT
    if abs(value) >= MAX_EXPONENT:
        raise overflow()
    return value


def _scaled(sign: str, digits: str, exponent: int) -> Decimal:
    digits = digits.lstrip("0")
    if -exponent > MAX_SCALE:
        raise overflow()
    if not digits:
        return Decimal((0, (0,), min(exponent, 0)))
    if len(digits) + exponent > MAX_WEIGHT_DIGITS:
        raise overflow()
    value = Decimal(f"{sign}{digits}e{exponent}")
    return EXACT.quantize(value, Decimal(1)) if exponent > 0 else value


def limit(value: Decimal | str, typmod: int) -> Decimal | str:
    """The value under a typmod: rounded to the scale, 22003 where it does not fit."""
    form = precision_scale(typmod)
    if form is None:
        if isinstance(value, Decimal):
            _check_format(value)
        return value
    if isinstance(value, str):
        if value == "NaN":
            return value
        raise NumericOutOfRange("numeric field overflow")
    precision, scale = form
    if value and value.adjusted() >= precision - scale:
        raise NumericOutOfRange("numeric field overflow")
    rounded = round_to(value, scale)
    if rounded and rounded.adjusted() >= precision - scale:
        raise NumericOutOfRange("numeric field overflow")
    return rounded


def round_to(value: Decimal, scale: int) -> Decimal:
    """Half away from zero to `scale` digits after the point (negative: before it); the scale shown is >= 0."""
    rounded = EXACT.quantize(value, Decimal((0, (1,), -scale)))
    return EXACT.quantize(rounded, Decimal(1)) if scale < 0 else rounded


def _check_format(value: Decimal) -> None:
    if value and value.adjusted() >= MAX_WEIGHT_DIGITS:
        raise overflow()


def show_numeric(value: Decimal | str) -> bytes:
    if isinstance(value, str):
        return value.encode("ascii")
    return f"{value if value else value.copy_abs():f}".encode("ascii")


def read_display(display: bytes) -> Decimal | str:
    text = display.decode("ascii")
    return text if text in SIGNS else Decimal(text)


def numeric_equality(display: bytes) -> bytes:
    """No trailing zeros, no exponent, unsigned zero."""
    if b"." in display:
        display = display.rstrip(b"0").rstrip(b".")
    return b"0" if display in (b"-0", b"") else display


def pack(display: bytes) -> bytes:
    """Display form -> binary form, with as few digits as the server keeps."""
    text = display.decode("ascii")
    if text in SIGNS:
        sign, scale = SIGNS[text]
        return HEADER.pack(0, 0, sign, scale)
    sign = NEGATIVE if text[0] == "-" else POSITIVE
    whole, _, fraction = text.lstrip("-").partition(".")
    scale = len(fraction)
    whole = "0" * (-len(whole) % 4) + whole
    fraction += "0" * (-len(fraction) % 4)
    joined = whole + fraction
    digits = [int(joined[i : i + 4]) for i in range(0, len(joined), 4)]
    weight = len(whole) // 4 - 1
    while digits and digits[0] == 0:
        del digits[0]
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    if not digits:
        weight, sign = 0, POSITIVE
    return HEADER.pack(len(digits), weight, sign, scale) + struct.pack(f">{len(digits)}h", *digits)


def unpack(raw: bytes) -> bytes:
    """Binary form -> display form without typmod; 22P03 for a bad sign, scale or digit, 08P01 for a short one."""
    if len(raw) < 8:
        raise ProtocolViolation("insufficient data left in message")
    count, weight, sign, scale = HEADER.unpack_from(raw)
    count &= 0xFFFF
    if sign not in (POSITIVE, NEGATIVE, *NAMES):
        raise InvalidBinaryRepresentation('invalid sign in external "numeric" value')
    if scale & 0x3FFF != scale:
        raise InvalidBinaryRepresentation('invalid scale in external "numeric" value')
    present = min(count, (len(raw) - 8) // 2)
    digits = struct.unpack_from(f">{present}h", raw, 8)
    if any(not 0 <= digit < 10000 for digit in digits):
        raise InvalidBinaryRepresentation('invalid digit in external "numeric" value')
    if present < count:
        raise ProtocolViolation("insufficient data left in message")
    if len(raw) != 8 + 2 * count:
        raise InvalidBinaryRepresentation("incorrect binary data format")
    if sign in NAMES:
        return NAMES[sign].encode("ascii")
    return _from_digits(digits, weight, sign == NEGATIVE, scale)


def _from_digits(digits: tuple[int, ...], weight: int, is_negative: bool, scale: int) -> bytes:
    """Digits beyond the scale are cut, not rounded."""
    groups = [f"{digit:04d}" for digit in digits]
    n_whole = weight + 1
    if n_whole <= 0:
        whole, fraction = "0", "0000" * -n_whole + "".join(groups)
    else:
        whole = "".join(groups[:n_whole]).ljust(4 * n_whole, "0").lstrip("0") or "0"
        fraction = "".join(groups[n_whole:])
    fraction = fraction[:scale].ljust(scale, "0")
    sign = "-" if is_negative and (whole != "0" or fraction.strip("0")) else ""
    return f"{sign}{whole}{'.' if scale else ''}{fraction}".encode("ascii")


def _is_usual(raw: bytes, typmod: int) -> bool:
    """True for plain digits that are the display form already, also under the typmod."""
    match = USUAL.fullmatch(raw)
    if match is None:
        return False
    form = precision_scale(typmod)
    if form is None:
        return True
    precision, scale = form
    return len(match[2] or b"") == scale and len(match[1].lstrip(b"-")) <= precision - scale


@dataclass(frozen=True, slots=True)
class NumericCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        if len(raw) < 40 and _is_usual(raw, self.type.typmod):
            return raw
        return show_numeric(limit(parse_numeric(utf8_str(raw, settings)), self.type.typmod))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        display = unpack(raw)
        if self.type.typmod < 0:
            return display
        return show_numeric(limit(read_display(display), self.type.typmod))

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return display

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return pack(display)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return numeric_equality(display)
