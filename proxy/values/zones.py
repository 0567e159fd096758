"""Time zones: a name or a POSIX specification to offsets from UTC, for every instant the server knows.

Zones come from `zoneinfo` (the system's files, else the tzdata package). Years outside datetime's range take
an equal year of the 400-year cycle; before year 1 the zone's first offset holds.
PostgreSQL manual, "Time Zones" and "POSIX Time Zone Specifications". One reason to change: how zones are found.
"""

from __future__ import annotations

import io
import re
import struct
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from proxy.errors import Unsupported
from proxy.values.calendar import DAY_S, civil_of

FIXED: Final = re.compile(
    r"(?:<([A-Za-z0-9+-]+)>|([^0-9,+<-]+))([+-]?)([0-9]{1,3})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?"
)
WITH_RULE: Final = re.compile(
    r"(?:<[A-Za-z0-9+-]+>|[A-Za-z]{3,})[+-]?[0-9:]{1,9}(?:<[A-Za-z0-9+-]+>|[A-Za-z]{3,})(?:[+-]?[0-9:]{1,9})?"
    r",M[0-9./:+-]{1,20},M[0-9./:+-]{1,20}"
)
_HEADER: Final = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
_TYPES: Final = struct.pack(">lbb", 0, 0, 0) + b"UTC\0"


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    hidden = {"posixrules", "localtime", "Factory"}
    return {name.lower(): name for name in available_timezones() if name not in hidden}


@lru_cache(maxsize=256)
def find_zone(name: str) -> tzinfo | None:
    """A zone by its name in any case, or by a POSIX specification; None where there is none."""
    if name in {"UTC", "GMT"}:
        return UTC if name == "UTC" else ZoneInfo("GMT")
    known = _names().get(name.lower())
    if known is not None:
        try:
            return ZoneInfo(known)
        except (ZoneInfoNotFoundError, ValueError):
            return None
    fixed = FIXED.fullmatch(name)
    if fixed is not None:
        return _fixed(fixed)
    return _posix(name) if WITH_RULE.fullmatch(name) else None


def session_zone(name: str) -> tzinfo:
    """The zone of a TimeZone setting as the server reports it."""
    zone = find_zone(name)
    if zone is None:
        raise Unsupported("the session's TimeZone is not known here", hint="SET TIME ZONE 'UTC'")
    return zone


def _fixed(match: re.Match[str]) -> tzinfo | None:
    """'<+03>-03', 'FOO3': an abbreviation and hours west of UTC. A day and more is not supported."""
    quoted, bare, sign, *parts = match.groups()
    hour, minute, second = (int(part or "0") for part in parts)
    west = timedelta(hours=hour, minutes=minute, seconds=second)
    if west >= timedelta(days=1) or minute > 59 or second > 60:
        return None
    return timezone(west if sign == "-" else -west, quoted or bare)


def _posix(text: str) -> tzinfo | None:
    """`zoneinfo` reads POSIX specifications only as the footer of a zone file, so it gets one."""
    content = _HEADER + _TYPES + _HEADER + _TYPES + b"\n" + text.encode("ascii") + b"\n"
    try:
        return ZoneInfo.from_file(io.BytesIO(content))
    except ValueError:
        return None


def _moment(seconds: int) -> datetime | None:
    """Seconds since 2000-01-01 as a naive datetime of an equal year; None before year 1."""
    days, second = divmod(seconds, DAY_S)
    year, month, day = civil_of(days)
    if year < 1:
        return None
    if year > 9800:
        year = 9200 + year % 400  # 9200 is a multiple of 400
    return datetime(year, month, day) + timedelta(seconds=second)


def offset_at(zone: tzinfo, utc_seconds: int) -> tuple[int, str]:
    """(offset east of UTC in seconds, abbreviation) in force at an instant."""
    moment = _moment(utc_seconds)
    local = datetime(1, 1, 2, tzinfo=zone)
    if moment is not None and moment.year > 1:
        local = moment.replace(tzinfo=UTC).astimezone(zone)
    offset = local.utcoffset()
    assert offset is not None
    return round(offset.total_seconds()), local.tzname() or ""


def offset_of_local(zone: tzinfo, local_seconds: int) -> int:
    """Offset of a local time. In a gap the offset before it holds, in an overlap the one after it; both are the
    smaller of the two candidates."""
    moment = _moment(local_seconds)
    if moment is None:
        moment = datetime(1, 1, 2)
    first = moment.replace(tzinfo=zone, fold=0).utcoffset()
    second = moment.replace(tzinfo=zone, fold=1).utcoffset()
    assert first is not None and second is not None
    return round(min(first, second).total_seconds())
