"""Showing dates and times under DateStyle, and reading the display form back.

PostgreSQL manual, "Date/Time Output". The display form is the ISO style, in UTC where zoned.
One reason to change: an output style.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from proxy.values.calendar import (
    DATE_HIGH,
    DATE_LOW,
    DAY,
    SECOND,
    STAMP_HIGH,
    STAMP_LOW,
    civil_of,
    days_of,
    weekday,
)
from proxy.values.datetime_words import DAYS, MONTHS

DISPLAY: Final = re.compile(rb"(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?)?( BC)?")


@dataclass(frozen=True, slots=True)
class DateStyle:
    style: str  # ISO, SQL, POSTGRES, GERMAN
    order: str  # MDY, DMY, YMD


@lru_cache(maxsize=64)
def date_style(setting: str) -> DateStyle:
    """The DateStyle setting as the server reports it ('ISO, MDY')."""
    style, order = "ISO", "MDY"
    for word in setting.upper().replace(",", " ").split():
        if word in {"MDY", "DMY", "YMD"}:
            order = word
        elif word in {"ISO", "SQL", "POSTGRES", "GERMAN"}:
            style = word
    return DateStyle(style, order)


@dataclass(frozen=True, slots=True)
class Zoned:
    """Local offset (seconds east) and abbreviation to print behind a time."""

    offset: int
    name: str


def show_date(days: int, style: DateStyle) -> str:
    if days in (DATE_LOW, DATE_HIGH):
        return _infinity(days)
    year, month, day = civil_of(days)
    text = _date_text(year, month, day, style, "-" if style.style == "POSTGRES" else "/")
    return text + (" BC" if year <= 0 else "")


def show_stamp(micros: int, style: DateStyle, zoned: Zoned | None = None) -> str:
    """`micros` are local already; `zoned` is printed behind them."""
    if micros in (STAMP_LOW, STAMP_HIGH):
        return _infinity(micros)
    days, rest = divmod(micros, DAY)
    year, month, day = civil_of(days)
    clock = _clock(rest)
    if style.style == "POSTGRES":
        first, second = MONTHS[month - 1], f"{day:02d}"
        if style.order == "DMY":
            first, second = second, first
        text = f"{DAYS[weekday(days)]} {first} {second} {clock} {_year(year)}"
    else:
        text = f"{_date_text(year, month, day, style, '/')} {clock}"
    if zoned is not None:
        text += offset_text(zoned.offset) if style.style == "ISO" else f" {zoned.name[:10]}"
    return text + (" BC" if year <= 0 else "")


def _date_text(year: int, month: int, day: int, style: DateStyle, separator: str) -> str:
    if style.style == "ISO":
        return f"{_year(year)}-{month:02d}-{day:02d}"
    if style.style == "GERMAN":
        return f"{day:02d}.{month:02d}.{_year(year)}"
    first, second = (day, month) if style.order == "DMY" else (month, day)
    return f"{first:02d}{separator}{second:02d}{separator}{_year(year)}"


def _year(year: int) -> str:
    return f"{year if year > 0 else 1 - year:04d}"


def _clock(micros: int) -> str:
    seconds, fraction = divmod(micros, SECOND)
    minutes, second = divmod(seconds, 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def offset_text(offset: int) -> str:
    """+00, +05:30, -00:44:30."""
    minutes, second = divmod(abs(offset), 60)
    text = f"{'-' if offset < 0 else '+'}{minutes // 60:02d}"
    if second:
        return f"{text}:{minutes % 60:02d}:{second:02d}"
    return f"{text}:{minutes % 60:02d}" if minutes % 60 else text


def _infinity(value: int) -> str:
    return "infinity" if value > 0 else "-infinity"


def days_of_display(display: bytes) -> int:
    if display.endswith(b"infinity"):
        return DATE_LOW if display[:1] == b"-" else DATE_HIGH
    match = DISPLAY.fullmatch(display)
    assert match is not None
    return _days(match)


def micros_of_display(display: bytes) -> int:
    if display.endswith(b"infinity"):
        return STAMP_LOW if display[:1] == b"-" else STAMP_HIGH
    match = DISPLAY.fullmatch(display)
    assert match is not None
    seconds = (int(match[4]) * 60 + int(match[5])) * 60 + int(match[6])
    return _days(match) * DAY + seconds * SECOND + int((match[7] or b"0").ljust(6, b"0"))


def _days(match: re.Match[bytes]) -> int:
    year = int(match[1])
    return days_of(1 - year if match[8] else year, int(match[2]), int(match[3]))
