"""From a declared type to the column's: assignment gives the display form, comparison the equality form.

Assignment follows the casts PostgreSQL allows there, with the column's errors. Comparison follows its operators
across types: a value the column's type cannot hold is a value nothing equals (None), not an error.
One reason to change: which types meet in an assignment or a comparison.
"""

from __future__ import annotations

import struct
from typing import Final

from proxy.errors import DatatypeMismatch, DatetimeOverflow, UndefinedFunction, Unsupported
from proxy.values.base import LogicalType, Settings
from proxy.values.calendar import DATE_HIGH, DATE_LOW, DAY, SECOND, STAMP_END, STAMP_HIGH, STAMP_LOW
from proxy.values.casts import FLOAT4, INTEGERS, Context, cast, context_of
from proxy.values.dates import date_display, instant_display, stamp_display, to_local, to_utc
from proxy.values.datetime_output import days_of_display, micros_of_display
from proxy.values.floating import double_display
from proxy.values.integer import in_range
from proxy.values.numeric import numeric_equality, precision_scale, read_display
from proxy.values.registry import BASE, base_of, codec, type_from_oid
from proxy.values.wire import fixed, sql_name
from proxy.values.zones import offset_at, session_zone

UNKNOWN: Final = frozenset({0, 705})
NAME: Final = 19
BPCHAR: Final = 1042
REAL: Final = struct.Struct(">f")
EXACT_DOUBLES: Final = 2.0**53


def is_unknown(oid: int) -> bool:
    """True for a parameter whose type the statement decides."""
    return oid in UNKNOWN


def source_type(oid: int) -> LogicalType:
    """The type a parameter was declared with. char(n) and name count as text."""
    if oid in (NAME, BPCHAR):
        return BASE["text"]
    if oid == FLOAT4.oid:
        return FLOAT4
    found = type_from_oid(oid)
    if found is None:
        raise Unsupported(
            f"a parameter of the type with OID {oid}", hint="declare the parameter with the column's type"
        )
    return found


def read_source(raw: bytes, *, binary: bool, oid: int, settings: Settings) -> bytes:
    """A parameter of a declared type -> that type's display form."""
    if oid == FLOAT4.oid:
        return _read_real(raw, binary=binary, settings=settings)
    reader = codec(source_type(oid))
    display = reader.read_binary(raw, settings) if binary else reader.read_text(raw, settings)
    return display.rstrip(b" ") if oid == BPCHAR else display


def _read_real(raw: bytes, *, binary: bool, settings: Settings) -> bytes:
    if binary:
        return double_display(REAL.unpack(fixed(raw, 4))[0])
    value = float(codec(BASE["float8"]).read_text(raw, settings))
    try:
        return double_display(REAL.unpack(REAL.pack(value))[0])
    except OverflowError:
        raise Unsupported("a value beyond the range of type real") from None


# --- assignment ------------------------------------------------------------------------------------------


def assign(raw: bytes, *, binary: bool, source_oid: int, target: LogicalType, settings: Settings) -> bytes:
    """A parameter on its way into a column: wire bytes -> the column's display form."""
    if source_oid in UNKNOWN or source_oid == target.oid:
        reader = codec(target)
        return reader.read_binary(raw, settings) if binary else reader.read_text(raw, settings)
    source = source_type(source_oid)
    check_assignable(source, target)
    display = read_source(raw, binary=binary, oid=source_oid, settings=settings)
    return cast(display, source, target, settings, explicit=False)


def check_assignable(source: LogicalType, target: LogicalType) -> None:
    """42804 where PostgreSQL has no assignment cast."""
    if context_of(source, target) > Context.ASSIGNMENT:
        raise DatatypeMismatch(
            f"column is of type {sql_name(target)} but expression is of type {sql_name(source)}",
            hint="You will need to rewrite or cast the expression.",
        )


# --- comparison ------------------------------------------------------------------------------------------


def comparable(
    raw: bytes,
    *,
    binary: bool,
    source_oid: int,
    target: LogicalType,
    settings: Settings,
    nocase: bool = False,
) -> bytes | None:
    """A parameter compared with a column: wire bytes -> the equality form; None: nothing can be equal."""
    if source_oid in UNKNOWN:
        base = base_of(target)
        reader = codec(base)
        display = reader.read_binary(raw, settings) if binary else reader.read_text(raw, settings)
        return comparable_display(display, base, target, settings, nocase=nocase)
    source = source_type(source_oid)
    check_comparable(source, target)
    display = read_source(raw, binary=binary, oid=source_oid, settings=settings)
    return comparable_display(display, source, target, settings, nocase=nocase)


_COMPARED: Final[dict[str, frozenset[str]]] = {
    "text": frozenset({"text"}),
    "int": frozenset({"int", "numeric", "float"}),
    "numeric": frozenset({"int", "numeric", "float"}),
    "float": frozenset({"int", "numeric", "float"}),
    "bool": frozenset({"bool"}),
    "uuid": frozenset({"uuid"}),
    "bytea": frozenset({"bytea"}),
    "jsonb": frozenset({"jsonb"}),
    "json": frozenset(),
    "date": frozenset({"date", "timestamp", "timestamptz"}),
    "timestamp": frozenset({"date", "timestamp", "timestamptz"}),
    "timestamptz": frozenset({"date", "timestamp", "timestamptz"}),
}


def check_comparable(source: LogicalType, target: LogicalType) -> None:
    """42883 where PostgreSQL has no `=` between the two types."""
    if source.family not in _COMPARED[target.family]:
        raise UndefinedFunction(
            f"operator does not exist: {sql_name(target)} = {sql_name(source)}",
            hint="No operator matches the given name and argument types. "
            "You might need to add explicit type casts.",
        )


def comparable_display(
    display: bytes, source: LogicalType, target: LogicalType, settings: Settings, *, nocase: bool = False
) -> bytes | None:
    """Display form of a value of `source` -> the equality form under `target`, or None."""
    check_comparable(source, target)
    match target.family:
        case "text":
            return _text_equality(display, nocase=nocase)
        case "int":
            return _integer_equality(display, source, target)
        case "numeric":
            if source.family == "float":
                raise Unsupported("a comparison of numeric with a floating-point number")
            return numeric_equality(display)
        case "date" | "timestamp" | "timestamptz":
            try:
                return _moment_equality(display, source, target, settings)
            except DatetimeOverflow:
                return None  # PostgreSQL's comparisons across these types count it as beyond every value
        case _:
            return codec(base_of(target)).equality(display)


def _text_equality(display: bytes, *, nocase: bool) -> bytes:
    if not nocase:
        return display
    if not display.isascii():
        text = display.decode("utf-8")
        if any(c > "\x7f" and (c.lower() != c or c.upper() != c) for c in text):
            raise Unsupported("letters outside ASCII in a comparison that ignores case")
    return display.lower()


def _integer_equality(display: bytes, source: LogicalType, target: LogicalType) -> bytes | None:
    if source.name in INTEGERS:
        value = int(display)
    elif source.name == "numeric":
        number = read_display(display)
        if isinstance(number, str) or (number and number.adjusted() > 20) or number != number.to_integral_value():
            return None
        value = int(number)
    else:
        value_or_none = _integer_of_double(float(display))
        if value_or_none is None:
            return None
        value = value_or_none
    return b"%d" % value if in_range(value, target.size) else None


def _integer_of_double(value: float) -> int | None:
    """Below 2^53 every integer is one double; above, several integers would equal it."""
    if abs(value) >= EXACT_DOUBLES:
        raise Unsupported("a comparison of an integer with a floating-point number of that size")
    return int(value) if value == value and value.is_integer() else None


def _moment_equality(
    display: bytes, source: LogicalType, target: LogicalType, settings: Settings
) -> bytes | None:
    if source.name == target.name:
        return display
    if source.name == "date":
        # A column of either timestamp type is compared with the date's midnight, a cast PostgreSQL itself makes;
        # a date no timestamp can hold equals none.
        return _beyond(days_of_display(display), target, settings)
    micros = micros_of_display(display)
    if target.name == "timestamptz":
        return instant_display(to_utc(micros, settings.time_zone))
    if source.name == "timestamptz":
        micros_or_none = _local_of_instant(micros, settings)
        if micros_or_none is None:
            return None
        micros = micros_or_none
    if target.name == "timestamp":
        return stamp_display(micros)
    if micros in (STAMP_LOW, STAMP_HIGH):
        return date_display(DATE_LOW if micros == STAMP_LOW else DATE_HIGH)
    return date_display(micros // DAY) if micros % DAY == 0 else None


def _beyond(days: int, target: LogicalType, settings: Settings) -> bytes | None:
    if days in (DATE_LOW, DATE_HIGH):
        micros = STAMP_LOW if days == DATE_LOW else STAMP_HIGH
    elif days * DAY >= STAMP_END:
        return None
    else:
        micros = days * DAY
    if target.name == "timestamp":
        return stamp_display(micros)
    return instant_display(to_utc(micros, settings.time_zone))


def _local_of_instant(micros: int, settings: Settings) -> int | None:
    """The one local time that becomes this instant in the session's zone. Near a change of offset there may be
    none or two: two would need two tokens and are refused."""
    if micros in (STAMP_LOW, STAMP_HIGH) or settings.time_zone == "UTC":
        return micros
    zone = session_zone(settings.time_zone)
    second = micros // SECOND
    offsets = {offset_at(zone, second + shift)[0] for shift in (-86_400, 0, 86_400)}
    local = {to_local(micros, settings.time_zone)[0], *(micros + offset * SECOND for offset in offsets)}
    found = [candidate for candidate in local if to_utc(candidate, settings.time_zone) == micros]
    if len(found) > 1:
        raise Unsupported("a comparison with a time that the session's time zone leaps over")
    return found[0] if found else None


# --- deterministic columns -------------------------------------------------------------------------------


def deterministic(equality: bytes, target: LogicalType) -> bytes | None:
    """The display form that a deterministic column holds for an equality form; None: it can hold none.

    They are the same bytes but for numeric(p,s), which is shown with s digits after the point."""
    form = precision_scale(target.typmod) if target.name == "numeric" else None
    if form is None or equality == b"NaN":
        return equality
    whole, _, fraction = equality.decode("ascii").partition(".")
    scale = max(form[1], 0)
    if not whole.lstrip("-").isdigit() or len(fraction) > scale:
        return None
    shown = f"{whole}.{fraction.ljust(scale, '0')}" if scale else whole
    return shown.encode("ascii")
