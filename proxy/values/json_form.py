"""The JSON that PostgreSQL makes of a value of each type: to_json() and its kin, and the same within a jsonb.

PostgreSQL manual, "JSON Functions and Operators", to_json. Numbers and booleans are themselves, dates and times
are ISO 8601 whatever DateStyle says, json stays as it is within json; anything else is a string of the type's
text. Within jsonb numbers lose their exponents and json its spelling.
One reason to change: a type whose JSON is not its text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from json.encoder import encode_basestring
from typing import Final

from proxy.values.base import LogicalType, Settings, in_utf8
from proxy.values.numeric import parse_numeric, show_numeric
from proxy.values.patterns import re
from proxy.values.registry import BASE, codec

NUMBER: Final = re.compile(rb"-?[0-9][0-9.e+-]*+")
ZONE: Final = re.compile(rb"([+-][0-9][0-9])(?= BC$|$)")
_NUMBERS: Final = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"})
_FLOATS: Final = frozenset({"float4", "float8"})
_DATES: Final = frozenset({"date", "timestamp", "timestamptz"})
_STRINGS: Final = frozenset({"text", "varchar", "bpchar", "uuid", "bytea", "time", "timetz", "interval"})
_OWN: Final = frozenset({"bool", "json", "jsonb"})

Show = Callable[[bytes], bytes]


def has_json_form(kind: LogicalType) -> bool:
    """True for the types of which it is listed here."""
    return kind.name in _NUMBERS | _DATES | _STRINGS | _OWN


def json_shower(kind: LogicalType, is_jsonb: bool, settings: Settings) -> Show:
    """Display form -> its JSON in UTF-8."""
    settings = in_utf8(settings)
    if kind.name in _DATES:
        settings = replace(settings, date_style="ISO, MDY")
    show = codec(kind).show_text
    as_text: Show = lambda display: show(display, settings)  # noqa: E731
    if kind.name in _NUMBERS:
        is_expanded = is_jsonb and kind.name in _FLOATS
        return lambda display: _number(as_text(display), is_expanded)
    match kind.name:
        case "bool":
            return lambda display: b"true" if as_text(display) == b"t" else b"false"
        case "json" if is_jsonb:
            jsonb = codec(BASE["jsonb"])
            return lambda display: jsonb.show_text(jsonb.read_text(display, settings), settings)
        case "json" | "jsonb":
            return as_text
        case "timestamp":
            return lambda display: quoted(_stamp(as_text(display)))
        case "timestamptz":
            return lambda display: quoted(ZONE.sub(rb"\1:00", _stamp(as_text(display))))
        case _:
            return lambda display: quoted(as_text(display))


def quoted(text: bytes) -> bytes:
    """UTF-8 as a JSON string."""
    return encode_basestring(text.decode("utf-8")).encode("utf-8")


def _number(text: bytes, is_expanded: bool) -> bytes:
    if NUMBER.fullmatch(text) is None:
        return b'"' + text + b'"'
    return show_numeric(parse_numeric(text.decode("ascii"))) if is_expanded else text


def _stamp(text: bytes) -> bytes:
    return text if text.endswith(b"infinity") else text.replace(b" ", b"T", 1)
