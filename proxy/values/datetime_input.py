"""Reading dates and times: what PostgreSQL's date, timestamp and timestamptz accept, field by field.

Theory (PostgreSQL manual, appendix "Date/Time Input Interpretation"): the text is cut into fields by their first
character; fields are then taken from left to right, each filling parts (year, month, day, time, zone ...) that
must still be free; what an all-digit field means depends on the parts already there and on DateStyle's order.
What the server reads and pgseal does not (relative words, field labels, Julian days, zone abbreviations,
run-together times with a zone) is `Unsupported`. One reason to change: the server's input grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final

from proxy.errors import (
    DatetimeOverflow,
    InvalidDatetimeFormat,
    InvalidParameterValue,
    InvalidTimeZoneDisplacement,
    Unsupported,
)
from proxy.values.calendar import civil_of, days_of, month_length
from proxy.values.datetime_fields import DIGITS, MAX_FIELDS, NAME, Bad, Kind, Overflow, Part, span, split_fields
from proxy.values.datetime_words import (
    DAY_WORDS,
    IGNORED,
    MONTH_WORDS,
    UNSUPPORTED_WORDS,
    ZERO_ZONES,
    ZONE_ABBREVIATIONS,
)
from proxy.values.zones import find_zone

INT_END: Final = 2**31
DATE: Final = frozenset({"Y", "M", "D"})


@dataclass(frozen=True, slots=True)
class Moment:
    """`days` since 2000-01-01, `micros` of the day (may be 24:00), and what was said of a zone: nothing,
    an offset in seconds east, or a named zone. `infinity` is +1 or -1, 0 where finite."""

    days: int = 0
    micros: int = 0
    offset: int | None = None
    zone: tzinfo | None = None
    infinity: int = 0


# What drivers send, the same under every DateStyle.
ISO: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?(?:(Z)|([+-])([0-9]{2})(?::([0-9]{2}))?)?)?"
)


def _usual(match: re.Match[str]) -> Moment | None:
    """The moment of a usual ISO text; None where a part needs the long way (and its error)."""
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if not (year and 1 <= month <= 12 and 1 <= day <= month_length(year, month)):
        return None
    days = days_of(year, month, day)
    if match[4] is None:
        return Moment(days)
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    hours, minutes = int(match[10] or 0), int(match[11] or 0)
    if hour > 23 or minute > 59 or second > 59 or hours > 15 or minutes > 59:
        return None
    micros = _micros(hour, minute, second, int((match[7] or "0").ljust(6, "0")))
    offset = (hours * 60 + minutes) * 60
    if match[8] is None and match[9] is None:
        return Moment(days, micros)
    return Moment(days, micros, -offset if match[9] == "-" else offset)


def read_moment(text: str, type_name: str, order: str) -> Moment:
    """The whole of an input; `order` is MDY, DMY or YMD. Raises 22007, 22008, 22009, 22023 or Unsupported."""
    usual = ISO.fullmatch(text)
    moment = _usual(usual) if usual is not None else None
    if moment is not None:
        return moment
    try:
        return _Reader(order).read(split_fields(text))
    except Bad:
        raise InvalidDatetimeFormat(f"invalid input syntax for type {type_name}") from None
    except Overflow:
        raise DatetimeOverflow("date/time field value out of range") from None


@dataclass(slots=True)
class _Reader:
    """The parts filled so far. `seen` holds Y M D, time, zone, day-of-week, am/pm, era."""

    order: str
    seen: set[str] = field(default_factory=set)
    year: int = 0
    month: int = 0
    day: int = 0
    day_of_year: int = 0
    micros: int = 0
    hour: int = 0
    offset: int | None = None
    zone: tzinfo | None = None
    infinity: int = 0
    has_text_month: bool = False
    is_short_year: bool = False
    is_bc: bool = False
    meridiem: str = ""

    def read(self, parts: list[Part]) -> Moment:
        expects_time = False
        for number, (kind, text) in enumerate(parts):
            if expects_time and kind is not Kind.TIME:
                raise Unsupported("a run-together time after T")
            expects_time = False
            match kind:
                case Kind.TIME:
                    self._time(text)
                    self._fill({"time"})
                case Kind.NUMBER:
                    self._number_part(text)
                case Kind.DATE:
                    self._date_part(text)
                case Kind.ZONE:
                    self.offset = read_offset(text)
                    self._fill({"zone"})
                case Kind.WORD:
                    expects_time = self._word_part(text, parts[number + 1 :])
                case Kind.SIGNED_WORD:
                    self._signed_word(text)
        return self._finish(len(parts))

    def _fill(self, parts: set[str]) -> None:
        if parts & self.seen:
            raise Bad
        self.seen |= parts

    # -- numbers ------------------------------------------------------------------------------------

    def _number_part(self, text: str) -> None:
        whole, point, _ = text.partition(".")
        has_date = self.seen >= DATE
        if point and not (self.seen & DATE):
            self._fill(self._date(text))
        elif (point and len(whole) > 2) or (len(text) >= 6 and (not self.seen & DATE or "time" not in self.seen)):
            self._fill(self._run_together(text, has_date=has_date))
        else:
            self._fill(self._number(text, self.has_text_month, self.seen))

    def _run_together(self, text: str, *, has_date: bool) -> set[str]:
        """yyyymmdd or yymmdd while there is no date, else hhmmss or hhmm, with a fraction."""
        whole, point, fraction = text.partition(".")
        if not point and not has_date and len(text) >= 6:
            self.year, self.month, self.day = _small(text[:-4]), int(text[-4:-2]), int(text[-2:])
            if len(text) == 6:
                self.is_short_year = True
            return set(DATE)
        if "time" in self.seen or len(whole) not in (4, 6):
            raise Bad
        seconds = int(whole[4:] or "0")
        self.hour = int(whole[:2])  # unlike hh:mm:ss, the server takes any two digits here
        self.micros = _micros(self.hour, int(whole[2:4]), seconds, _fraction(fraction))
        return {"time"}

    def _number(self, text: str, has_text_month: bool, seen: set[str]) -> set[str]:
        """One number, by the parts that are there; returns the parts it fills."""
        whole, point, _ = text.partition(".")
        value = _int(whole) if whole else 0
        if not whole:
            raise Bad
        if point:
            if len(whole) > 2:
                return self._run_together(text, has_date=True)
            raise Unsupported("a number with a fraction outside a time")
        there = seen & DATE
        if len(text) == 3 and there == {"Y"} and 1 <= value <= 366:
            self.day_of_year = value
            return {"M", "D"}
        if there == DATE:
            return self._run_together(text, has_date=True)
        return self._date_number(value, len(text), has_text_month, frozenset(there))

    def _date_number(self, value: int, size: int, has_text_month: bool, there: frozenset[str]) -> set[str]:
        if has_text_month and there == {"Y", "M"} and size >= 3 and self.is_short_year:
            self.day, self.year, self.is_short_year = self.year, value, False
            return {"D"}
        target = self._target(size, has_text_month, there)
        if target == "Y":
            self.year, self.is_short_year = value, size <= 2
        elif target == "M":
            self.month = value
        else:
            self.day = value
        return {target}

    def _target(self, size: int, has_text_month: bool, there: frozenset[str]) -> str:
        is_year = size >= 3 or self.order == "YMD"
        if not there:
            return "Y" if is_year else ("D" if self.order == "DMY" else "M")
        if there == {"M"}:
            return "Y" if has_text_month and is_year else "D"
        if there in ({"Y"}, {"D"}):
            return "M"
        if there == {"Y", "M"}:
            return "D"
        if there == {"M", "D"}:
            return "Y"
        raise Bad

    # -- dates in one field ---------------------------------------------------------------------------

    def _date_part(self, text: str) -> None:
        if not self.seen >= {"M", "D"}:
            self._fill(self._date(text))
            return
        if text[0] in "0123456789":
            raise Unsupported("a run-together time with a zone")
        self.zone = named_zone(text)
        self._fill({"zone"})

    def _date(self, text: str) -> set[str]:
        """A date in one field: pieces of digits or letters between single delimiters."""
        pieces = _pieces(text)
        numbers: list[str] = []
        filled: set[str] = set()
        has_text_month = False
        for piece in pieces:
            if piece[0].isdigit():
                numbers.append(piece)
            elif piece not in IGNORED:
                if piece not in MONTH_WORDS or "M" in filled | self.seen:
                    raise _unknown(piece)
                self.month, has_text_month = MONTH_WORDS[piece], True
                filled.add("M")
        for piece in numbers:
            new = self._number(piece, has_text_month, self.seen | filled)
            if new & (filled | self.seen):
                raise Bad
            filled |= new
        if (filled | self.seen) - {"zone"} != DATE:
            raise Bad
        return filled

    # -- words ------------------------------------------------------------------------------------------

    def _word_part(self, word: str, rest: list[Part]) -> bool:
        """Take a word; True where it is the T before a time."""
        if word in IGNORED:
            return False
        if word in MONTH_WORDS:
            self._month_word(word)
        elif word in DAY_WORDS:
            self._fill({"weekday"})
        elif word in ("am", "pm"):
            self._fill({"meridiem"})
            self.meridiem = word
        elif word in ("ad", "bc"):
            self._fill({"era"})
            self.is_bc = word == "bc"
        elif word == "infinity":
            self._fill({"special"})
            self.infinity = 1
        elif word == "t":
            return self._iso_time(rest)
        else:
            self._zone_word(word)
        return False

    def _iso_time(self, rest: list[Part]) -> bool:
        if not self.seen >= DATE or not rest or rest[0].kind not in (Kind.NUMBER, Kind.TIME, Kind.DATE):
            raise Bad
        return True

    def _month_word(self, word: str) -> None:
        """A month's name after a number that was taken for a month makes that number the day."""
        new = {"M"}
        if "M" in self.seen and not self.has_text_month and "D" not in self.seen and 1 <= self.month <= 31:
            self.day, new = self.month, {"D"}
        self.has_text_month = True
        self.month = MONTH_WORDS[word]
        self._fill(new)

    def _zone_word(self, word: str) -> None:
        if word in ZERO_ZONES:
            self.offset = 0
        else:
            zone = find_zone(word)
            if word in UNSUPPORTED_WORDS or word in ZONE_ABBREVIATIONS or zone is None:
                raise _unknown(word)
            self.zone = zone
        self._fill({"zone"})

    def _signed_word(self, word: str) -> None:
        if word == "-infinity":
            self.infinity = -1
            self._fill({"special"})
        elif word == "+infinity":
            raise Unsupported("+infinity, which only later servers read")
        else:
            raise Bad

    # -- times --------------------------------------------------------------------------------------------

    def _time(self, text: str) -> None:
        whole, point, fraction = text.partition(".")
        pieces = whole.split(":")
        if len(pieces) > 3 or "." in fraction or ":" in fraction:
            raise Bad
        numbers = [_int(piece) if piece else 0 for piece in pieces]
        if point and len(numbers) == 2:
            numbers.insert(0, 0)  # mm:ss.fff
        hour, minute, second = (*numbers, 0)[:3]
        self._set_time(hour, minute, second, _fraction(fraction))

    def _set_time(self, hour: int, minute: int, second: int, micros: int) -> None:
        total = _micros(hour, minute, second, micros)
        if minute > 59 or second > 60 or total > 86_400_000_000:
            raise Overflow
        self.hour = hour
        self.micros = total

    # -- the end ------------------------------------------------------------------------------------------

    def _finish(self, n_parts: int) -> Moment:
        self._settle_date()
        self._settle_meridiem()
        if self.infinity:
            if n_parts > 1:
                raise Unsupported("infinity beside other fields")
            return Moment(infinity=self.infinity)
        if not self.seen >= DATE:
            raise Bad
        if not -5000 < self.year < 6_000_000:
            raise DatetimeOverflow("date out of range")
        days = days_of(self.year, self.month, self.day)
        return Moment(days, self.micros, self.offset, self.zone)

    def _settle_date(self) -> None:
        if "Y" in self.seen:
            self._settle_year()
        if self.day_of_year:
            if self.is_bc:
                raise Unsupported("a day of the year before Christ")
            self.year, self.month, self.day = civil_of(days_of(self.year, 1, 1) + self.day_of_year - 1)
        if "M" in self.seen and not 1 <= self.month <= 12:
            raise Overflow
        if "D" in self.seen and not 1 <= self.day <= 31:
            raise Overflow
        if self.seen >= DATE and self.day > month_length(self.year, self.month):
            raise Overflow

    def _settle_year(self) -> None:
        if self.is_bc:
            if self.year <= 0:
                raise Overflow
            self.year = 1 - self.year
        elif self.is_short_year:
            self.year += 2000 if self.year < 70 else 1900
        elif self.year <= 0:
            raise Overflow

    def _settle_meridiem(self) -> None:
        if not self.meridiem:
            return
        if self.hour > 12:
            raise Overflow
        if self.meridiem == "am" and self.hour == 12:
            self.micros -= 12 * 3_600_000_000
        elif self.meridiem == "pm" and self.hour != 12:
            self.micros += 12 * 3_600_000_000


def _pieces(text: str) -> list[str]:
    """The pieces of a one-field date. The single character after a piece is dropped, whatever it is."""
    pieces: list[str] = []
    at = 0
    while at < len(text) and len(pieces) < MAX_FIELDS:
        while at < len(text) and not text[at].isalnum():
            at += 1
        if at == len(text):
            raise Bad
        end = span(DIGITS if text[at].isdigit() else NAME, text, at)
        pieces.append(text[at:end])
        at = end + 1
    return pieces


def _int(digits: str) -> int:
    value = int(digits)
    if value >= INT_END:
        raise Overflow
    return value


def _small(digits: str) -> int:
    value = int(digits)
    if value >= INT_END:
        raise Unsupported("a year of that many digits")
    return value


def _micros(hour: int, minute: int, second: int, micros: int) -> int:
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros


def _fraction(digits: str) -> int:
    """Microseconds of '.digits', rounded as the server's double arithmetic does."""
    return round(float(f"0.{digits}") * 1_000_000) if digits else 0


def read_offset(text: str) -> int:
    """'+05', '-3:30', '+05:30:20', '+0530' -> seconds east of UTC."""
    match = re.fullmatch(r"([+-])([0-9]+)(?::([0-9]*))?(?::([0-9]*))?(.*)", text)
    assert match is not None
    sign, hours, minutes, seconds, rest = match.groups()
    if minutes is None and not rest and len(hours) > 2:
        hours, minutes = hours[:-2], hours[-2:]
    hour, minute, second = (int(part) if part else 0 for part in (hours, minutes, seconds))
    if hour > 15 or minute > 59 or second > 59:
        raise InvalidTimeZoneDisplacement("time zone displacement out of range")
    if rest:
        raise Bad
    total = (hour * 60 + minute) * 60 + second
    return total if sign == "+" else -total


def named_zone(text: str) -> tzinfo:
    """A zone name with punctuation, in lower case; 22023 where there is none."""
    zone = find_zone(text.upper())
    if zone is not None:
        return zone
    if re.match(r"[^0-9,+-]+[+-]?[0-9]", text):
        raise Unsupported("that POSIX time zone specification")
    raise InvalidParameterValue("time zone not recognized")


def _unknown(word: str) -> Exception:
    if word in UNSUPPORTED_WORDS or word in ZONE_ABBREVIATIONS:
        return Unsupported(
            "relative and special dates, Julian days, field labels and abbreviated time zones are not taken",
            hint="write the date in ISO form, with a numeric offset or a full zone name",
        )
    return Bad()
