"""Readers and showers resolved once per statement and called once per cell.

One reason to change: a pair of type and settings whose wire form is the display form itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.values.base import LogicalType, Settings
from proxy.values.casts import cast
from proxy.values.coerce import UNKNOWN, check_assignable, read_source, source_type
from proxy.values.datetime_output import date_style
from proxy.values.encodings import is_utf8
from proxy.values.registry import codec

Convert = Callable[[bytes], bytes]
ASCII_TEXT: Final = frozenset({"int2", "int4", "int8", "numeric", "bool", "uuid"})
TEXTS: Final = frozenset({"text", "varchar", "json"})


def shower(type_: LogicalType, binary: bool, settings: Settings) -> Convert | None:
    """Display form -> wire form of one result column; None where they are the same bytes."""
    if _is_shown_as_is(type_.name, binary, settings):
        return None
    show = codec(type_).show_binary if binary else codec(type_).show_text
    return lambda display: show(display, settings)


def _is_shown_as_is(name: str, binary: bool, settings: Settings) -> bool:
    if name in TEXTS:
        return is_utf8(settings)
    if binary:
        return name == "bytea"
    match name:
        case "jsonb":
            return is_utf8(settings)
        case "float8":
            return settings.extra_float_digits > 0
        case "date" | "timestamp":
            return date_style(settings.date_style).style == "ISO"
        case "timestamptz":
            return settings.time_zone == "UTC" and date_style(settings.date_style).style == "ISO"
        case _:
            return name in ASCII_TEXT


def reader(target: LogicalType, source_oid: int, binary: bool, settings: Settings) -> Convert:
    """Wire form of a parameter declared with `source_oid` -> display form of the column it is assigned to."""
    if source_oid in UNKNOWN or source_oid == target.oid:
        read = codec(target).read_binary if binary else codec(target).read_text
        return lambda raw: read(raw, settings)
    source = source_type(source_oid)
    check_assignable(source, target)

    def convert(raw: bytes) -> bytes:
        display = read_source(raw, binary=binary, oid=source_oid, settings=settings)
        return cast(display, source, target, settings, explicit=False)

    return convert
