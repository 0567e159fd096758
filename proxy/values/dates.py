"""date, timestamp, timestamptz: their codecs over the calendar, the input grammar and the output styles.

PostgreSQL manual, "Date/Time Types". Binary: int32 days, int64 microseconds since 2000-01-01; the extreme
values are the infinities. One reason to change: a type of this family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import DatetimeOverflow
from proxy.values.base import LogicalType, Settings
from proxy.values.calendar import (
    DATE_END,
    DATE_HIGH,
    DATE_LOW,
    DATE_MIN,
    DAY,
    SECOND,
    STAMP_END,
    STAMP_HIGH,
    STAMP_LOW,
    STAMP_MIN,
)
from proxy.values.datetime_input import Moment, read_moment
from proxy.values.datetime_output import (
    DateStyle,
    Zoned,
    date_style,
    days_of_display,
    micros_of_display,
    show_date,
    show_stamp,
)
from proxy.values.wire import fixed, utf8_str
from proxy.values.zones import offset_at, offset_of_local, session_zone

ISO: Final = DateStyle("ISO", "MDY")
UTC_SHOWN: Final = Zoned(0, "UTC")


def check_date(days: int) -> int:
    if days not in (DATE_LOW, DATE_HIGH) and not DATE_MIN <= days < DATE_END:
        raise DatetimeOverflow("date out of range")
    return days


def check_stamp(micros: int) -> int:
    if micros not in (STAMP_LOW, STAMP_HIGH) and not STAMP_MIN <= micros < STAMP_END:
        raise DatetimeOverflow("timestamp out of range")
    return micros


def round_stamp(micros: int, typmod: int) -> int:
    """timestamp(p): half away from 2000-01-01."""
    if not 0 <= typmod < 6 or micros in (STAMP_LOW, STAMP_HIGH):
        return micros
    step = 10 ** (6 - typmod)
    rounded = (abs(micros) + step // 2) // step * step
    return check_stamp(rounded if micros >= 0 else -rounded)


def to_local(micros: int, zone_name: str) -> tuple[int, Zoned]:
    """An instant in UTC -> local microseconds and the zone's state then."""
    if zone_name == "UTC":
        return micros, UTC_SHOWN
    offset, name = offset_at(session_zone(zone_name), micros // SECOND)
    return micros + offset * SECOND, Zoned(offset, name)


def to_utc(micros: int, zone_name: str) -> int:
    """Local microseconds -> the instant, as the session's TimeZone decides it."""
    if zone_name == "UTC" or micros in (STAMP_LOW, STAMP_HIGH):
        return micros
    offset = offset_of_local(session_zone(zone_name), micros // SECOND)
    return check_stamp(micros - offset * SECOND)


def stamp_display(micros: int) -> bytes:
    return show_stamp(micros, ISO).encode("ascii")


def instant_display(micros: int) -> bytes:
    return show_stamp(micros, ISO, UTC_SHOWN).encode("ascii")


def date_display(days: int) -> bytes:
    return show_date(days, ISO).encode("ascii")


def _stamp_of(moment: Moment) -> int:
    if moment.infinity:
        return STAMP_HIGH if moment.infinity > 0 else STAMP_LOW
    return check_stamp(moment.days * DAY + moment.micros)


def _instant_of(moment: Moment, settings: Settings) -> int:
    if moment.infinity:
        return STAMP_HIGH if moment.infinity > 0 else STAMP_LOW
    local = moment.days * DAY + moment.micros
    if moment.offset is not None:
        return check_stamp(local - moment.offset * SECOND)
    zone = moment.zone or session_zone(settings.time_zone)
    return check_stamp(local - offset_of_local(zone, local // SECOND) * SECOND)


@dataclass(frozen=True, slots=True)
class DateCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        moment = read_moment(utf8_str(raw, settings), "date", date_style(settings.date_style).order)
        if moment.infinity:
            return date_display(DATE_HIGH if moment.infinity > 0 else DATE_LOW)
        return date_display(check_date(moment.days))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return date_display(check_date(int.from_bytes(fixed(raw, 4), "big", signed=True)))

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        style = date_style(settings.date_style)
        if style.style == "ISO":
            return display
        return show_date(days_of_display(display), style).encode("ascii")

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return days_of_display(display).to_bytes(4, "big", signed=True)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display


@dataclass(frozen=True, slots=True)
class TimestampCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        moment = read_moment(utf8_str(raw, settings), "timestamp", date_style(settings.date_style).order)
        return stamp_display(round_stamp(_stamp_of(moment), self.type.typmod))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        micros = check_stamp(int.from_bytes(fixed(raw, 8), "big", signed=True))
        return stamp_display(round_stamp(micros, self.type.typmod))

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        style = date_style(settings.date_style)
        if style.style == "ISO":
            return display
        return show_stamp(micros_of_display(display), style).encode("ascii")

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return micros_of_display(display).to_bytes(8, "big", signed=True)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display


@dataclass(frozen=True, slots=True)
class TimestamptzCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        order = date_style(settings.date_style).order
        moment = read_moment(utf8_str(raw, settings), "timestamp with time zone", order)
        return instant_display(round_stamp(_instant_of(moment, settings), self.type.typmod))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        micros = check_stamp(int.from_bytes(fixed(raw, 8), "big", signed=True))
        return instant_display(round_stamp(micros, self.type.typmod))

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        style = date_style(settings.date_style)
        if settings.time_zone == "UTC" and style.style == "ISO":
            return display
        micros = micros_of_display(display)
        if micros in (STAMP_LOW, STAMP_HIGH):
            return display
        local, zoned = to_local(micros, settings.time_zone)
        return show_stamp(local, style, zoned).encode("ascii")

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return micros_of_display(display).to_bytes(8, "big", signed=True)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return display
