"""Casts between the logical types: which context allows one, and what it yields.

PostgreSQL manual, CREATE CAST and pg_cast: implicit casts everywhere, assignment casts where a value goes into a
column, explicit ones on request; anything to text is an assignment cast by output, text to anything an explicit
one by input. One reason to change: a type is added.
"""

from __future__ import annotations

import math
from decimal import Decimal
from enum import IntEnum
from typing import Final

from proxy.errors import CannotCoerce, DatetimeOverflow, FeatureNotSupported, Unsupported
from proxy.values.base import LogicalType, Settings, in_utf8
from proxy.values.calendar import DATE_HIGH, DATE_LOW, DAY, STAMP_END, STAMP_HIGH, STAMP_LOW
from proxy.values.dates import (
    check_stamp,
    date_display,
    instant_display,
    round_stamp,
    stamp_display,
    to_local,
    to_utc,
)
from proxy.values.datetime_output import days_of_display, micros_of_display
from proxy.values.floating import double_display, parse_double
from proxy.values.integer import in_range, out_of_range
from proxy.values.numeric import limit, parse_numeric, read_display, round_to, show_numeric
from proxy.values.registry import base_of, codec
from proxy.values.text import cut, fit
from proxy.values.wire import sql_name

FLOAT4: Final = LogicalType("float4", -1, "float", 700, 1021, 4)
INTEGERS: Final = frozenset({"int2", "int4", "int8"})
STAMPS: Final = frozenset({"timestamp", "timestamptz"})


class Context(IntEnum):
    """The weakest place that allows a cast."""

    IMPLICIT = 0
    ASSIGNMENT = 1
    EXPLICIT = 2
    NONE = 3


_NUMBERS: Final = ("int2", "int4", "int8", "numeric", "float4", "float8")
CONTEXTS: Final[dict[tuple[str, str], Context]] = {
    **{(low, high): Context.IMPLICIT for i, low in enumerate(_NUMBERS) for high in _NUMBERS[i + 1 :]},
    **{(high, low): Context.ASSIGNMENT for i, low in enumerate(_NUMBERS) for high in _NUMBERS[i + 1 :]},
    ("date", "timestamp"): Context.IMPLICIT,
    ("date", "timestamptz"): Context.IMPLICIT,
    ("timestamp", "timestamptz"): Context.IMPLICIT,
    ("timestamp", "date"): Context.ASSIGNMENT,
    ("timestamptz", "date"): Context.ASSIGNMENT,
    ("timestamptz", "timestamp"): Context.ASSIGNMENT,
    ("json", "jsonb"): Context.ASSIGNMENT,
    ("jsonb", "json"): Context.ASSIGNMENT,
    ("int4", "bool"): Context.EXPLICIT,
    ("bool", "int4"): Context.EXPLICIT,
    **{("jsonb", name): Context.EXPLICIT for name in ("bool", "int2", "int4", "int8", "numeric", "float8")},
    **{pair: Context.EXPLICIT for name in INTEGERS for pair in ((name, "bytea"), ("bytea", name))},
}


def context_of(source: LogicalType, target: LogicalType) -> Context:
    """Where a value of one type may become the other."""
    if source.name == target.name:
        return Context.IMPLICIT
    if target.family == "text":
        return Context.IMPLICIT if source.family == "text" else Context.ASSIGNMENT
    if source.family == "text":
        return Context.EXPLICIT
    return CONTEXTS.get((source.name, target.name), Context.NONE)


def with_length(display: bytes, target: LogicalType, *, explicit: bool) -> bytes:
    """A value of the target's base type under its typmod. Only varchar(n) tells assignment from a cast."""
    if target.typmod < 0:
        return display
    match target.name:
        case "varchar":
            return (cut if explicit else fit)(display, target.typmod - 4)
        case "numeric":
            return show_numeric(limit(read_display(display), target.typmod))
        case "timestamp":
            return stamp_display(round_stamp(micros_of_display(display), target.typmod))
        case "timestamptz":
            return instant_display(round_stamp(micros_of_display(display), target.typmod))
        case _:
            return display


def cast(
    display: bytes, source: LogicalType, target: LogicalType, settings: Settings, *, explicit: bool
) -> bytes:
    """Display form of one type -> display form of another. The caller has looked at `context_of`."""
    if source.name != target.name:
        display = _convert(display, source, base_of(target), settings)
    return with_length(display, target, explicit=explicit)


def _convert(display: bytes, source: LogicalType, target: LogicalType, settings: Settings) -> bytes:
    utf8 = in_utf8(settings)
    if source.family == "text" and target.family == "text":
        return display
    if target.family == "text":
        return _to_text(display, source, utf8)
    if source.family == "text" or {source.name, target.name} == {"json", "jsonb"}:
        return codec(target).read_text(display, utf8)
    if source.name in ("jsonb", "bytea") or target.name == "bytea":
        raise Unsupported("casts of jsonb to numbers and bool, and between bytea and integers")
    if target.name in INTEGERS:
        return _to_integer(display, source, target)
    if target.name == "numeric":
        return _to_numeric(display, source)
    if target.name == "float8":
        return double_display(parse_double(display.decode("ascii")))
    if target.name in STAMPS or target.name == "date":
        return _to_moment(display, source, target, settings)
    if (source.name, target.name) == ("int4", "bool"):
        return b"f" if display == b"0" else b"t"
    raise CannotCoerce(f"cannot cast type {sql_name(source)} to {sql_name(target)}")


def _to_text(display: bytes, source: LogicalType, settings: Settings) -> bytes:
    if source.name == "bool":
        return b"true" if display == b"t" else b"false"
    if source is FLOAT4:
        raise Unsupported("a value of type real as text")
    return codec(source).show_text(display, settings)


def _to_integer(display: bytes, source: LogicalType, target: LogicalType) -> bytes:
    match source.name:
        case "bool":
            return b"1" if display == b"t" else b"0"
        case "numeric":
            value = _integer_of_numeric(read_display(display), target)
        case "float8" | "float4":
            double = float(display)
            if not math.isfinite(double):
                raise out_of_range(target)
            value = round(double)
        case _:
            value = int(display)
    if not in_range(value, target.size):
        raise out_of_range(target)
    return b"%d" % value


def _integer_of_numeric(value: Decimal | str, target: LogicalType) -> int:
    if isinstance(value, str):
        what = "NaN" if value == "NaN" else "infinity"
        raise FeatureNotSupported(f"cannot convert {what} to {sql_name(target)}")
    if value and value.adjusted() > 20:
        raise out_of_range(target)
    return int(round_to(value, 0))


def _to_numeric(display: bytes, source: LogicalType) -> bytes:
    if source.name in INTEGERS:
        return display
    if source.name != "float8":
        raise Unsupported("a value of type real as numeric")
    double = float(display)
    text = f"{double:.15g}" if math.isfinite(double) else display.decode("ascii")
    return show_numeric(limit(parse_numeric(text), -1))


def _to_moment(display: bytes, source: LogicalType, target: LogicalType, settings: Settings) -> bytes:
    """Between date, timestamp and timestamptz; the session's TimeZone lies between the zoned and the others."""
    local = _local_micros(display, source, settings)
    if target.name == "date":
        return date_display(_days(local))
    if target.name == "timestamp":
        return stamp_display(check_stamp(local))
    return display if source.name == "timestamptz" else instant_display(to_utc(local, settings.time_zone))


def _local_micros(display: bytes, source: LogicalType, settings: Settings) -> int:
    if source.name == "date":
        days = days_of_display(display)
        if days in (DATE_LOW, DATE_HIGH):
            return STAMP_LOW if days == DATE_LOW else STAMP_HIGH
        if days * DAY >= STAMP_END:
            raise DatetimeOverflow("date out of range for timestamp")
        return days * DAY
    micros = micros_of_display(display)
    if source.name == "timestamptz" and micros not in (STAMP_LOW, STAMP_HIGH):
        return to_local(micros, settings.time_zone)[0]
    return micros


def _days(micros: int) -> int:
    if micros in (STAMP_LOW, STAMP_HIGH):
        return DATE_LOW if micros == STAMP_LOW else DATE_HIGH
    return micros // DAY
