"""The proleptic Gregorian calendar without limits of year, counted from 2000-01-01 as the server counts.

Year 0 is 1 BC. PostgreSQL manual, appendix "Date/Time Support". One reason to change: none foreseen.
"""

from __future__ import annotations

from typing import Final

DAY_S: Final = 86_400
SECOND: Final = 1_000_000  # microseconds
DAY: Final = DAY_S * SECOND

DATE_MIN: Final = -2_451_545  # 4714-11-24 BC, Julian day 0
DATE_END: Final = 2_145_031_949  # the day after 5874897-12-31
DATE_LOW: Final = -(2**31)
DATE_HIGH: Final = 2**31 - 1
STAMP_MIN: Final = DATE_MIN * DAY
STAMP_END: Final = 9_223_371_331_200_000_000  # 294277-01-01
STAMP_LOW: Final = -(2**63)
STAMP_HIGH: Final = 2**63 - 1

_DAYS_BEFORE: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    return 29 if month == 2 and is_leap(year) else _LENGTHS[month - 1]


def days_of(year: int, month: int, day: int) -> int:
    """Days since 2000-01-01."""
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    days += _DAYS_BEFORE[month - 1] + day - 1 + (1 if month > 2 and is_leap(year) else 0)
    return days - 730_119


def civil_of(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a count of days since 2000-01-01."""
    cycle, rest = divmod(days, 146_097)
    century = min((rest - 1) // 36_524 if rest else 0, 3)
    rest -= century * 36_524 + (1 if century else 0)
    four, rest = _four_years(rest, century)
    year_in, rest = _year_in_four(rest, first_is_leap=four > 0 or century == 0)
    year = 2000 + 400 * cycle + 100 * century + 4 * four + year_in
    month = 12
    while month > 1 and rest < _start(year, month):
        month -= 1
    return year, month, rest - _start(year, month) + 1


def _four_years(rest: int, century: int) -> tuple[int, int]:
    """Whole four-year groups in a century, whose first group lacks its leap day but in years divisible by 400."""
    if century == 0:
        return divmod(rest, 1461)
    if rest < 1460:
        return 0, rest
    four, rest = divmod(rest - 1460, 1461)
    return four + 1, rest


def _year_in_four(rest: int, *, first_is_leap: bool) -> tuple[int, int]:
    if not first_is_leap:
        return divmod(rest, 365)
    if rest < 366:
        return 0, rest
    year, rest = divmod(rest - 366, 365)
    return year + 1, rest


def _start(year: int, month: int) -> int:
    return _DAYS_BEFORE[month - 1] + (1 if month > 2 and is_leap(year) else 0)


def weekday(days: int) -> int:
    """0 is Sunday; 2000-01-01 was a Saturday."""
    return (days + 6) % 7
