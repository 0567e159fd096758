"""Masks: what a log-in sees of a value that it may not read.

A mask works on the display form and keeps the logical type: text becomes other text, a date the first day of its
year. What no type can show truthfully is full, and full is a text of its own for text (`***`) and NULL for all
other types; such a value is never opened. Characters are those PostgreSQL counts. What is not of the form a
mask is made for shows nothing: better less than asked for than more.

One reason to change: the forms of masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

from proxy.values.base import LogicalType

HIDDEN: Final = "***"
SHOWN: Final = "#"  # in a pattern: the character of the value at this place
LAST_LEAST: Final = 8  # characters; of fewer, the last four would be most of them
FIRST_LEAST: Final = 2
MAX_PATTERN_SIZE: Final = 255
_TEXTS: Final = frozenset({"text", "varchar", "bpchar"})
_DATED: Final = frozenset({"date", "timestamp"})
_YEAR: Final = re.compile(rb"(\d{4,})-\d\d-\d\d(| \d\d:\d\d:\d\d(?:\.\d+)?)( BC|)")


class MaskForm(Enum):
    FULL = "full"
    LAST4 = "last4"
    FIRST1 = "first1"
    EMAIL = "email"
    YEAR = "year"
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True)
class Mask:
    """`pattern` is the text of a pattern, in ASCII; empty for all other forms."""

    form: MaskForm = MaskForm.FULL
    pattern: str = ""

    @property
    def is_full(self) -> bool:
        """It shows nothing of a value, which need not be opened for it."""
        return self.form is MaskForm.FULL or (self.form is MaskForm.PATTERN and SHOWN not in self.pattern)


FULL: Final = Mask()


def mask_problems(type_: LogicalType, mask: Mask) -> Iterator[str]:
    """Why a column of this type cannot be shown by this mask."""
    if mask.form is MaskForm.YEAR:
        if type_.name not in _DATED:
            yield f"mask: year is for date and timestamp; a {type_.name} is shown as NULL, by mask: full"
    elif mask.form is not MaskForm.FULL and type_.name not in _TEXTS:
        instead = "year or full" if type_.name in _DATED else "full, which is shown as NULL"
        yield f"mask: {mask.form.value} is for text and varchar; type {type_.name} takes {instead}"
    if mask.form is MaskForm.PATTERN:
        yield from _pattern_problems(type_, mask.pattern)


def _pattern_problems(type_: LogicalType, pattern: str) -> Iterator[str]:
    longest = _longest(type_)
    if not pattern or len(pattern) > MAX_PATTERN_SIZE or not pattern.isascii() or not pattern.isprintable():
        yield f"the pattern of a mask has 1 to {MAX_PATTERN_SIZE} printable ASCII characters"
    elif pattern == SHOWN * len(pattern):
        yield "the pattern of a mask hides something; this one shows all of a value"
    elif longest is not None and len(pattern) > longest:
        yield f"the pattern of a mask is longer than {type_.name}({longest})"


def full_mask(type_: LogicalType, mask: Mask) -> bytes | None:
    """What stands for a value that is not opened, in display form; None: NULL."""
    if type_.name not in _TEXTS:
        return None
    text = mask.pattern if mask.form is MaskForm.PATTERN and mask.is_full else HIDDEN
    return text[: _longest(type_)].encode()


def masker(type_: LogicalType, mask: Mask) -> Callable[[bytes], bytes]:
    """Display form -> display form of what is shown. The mask is one of the type's and not full."""
    if mask.form is MaskForm.YEAR:
        return _year
    return partial(_text, form=_FORMS[mask.form], pattern=mask.pattern, longest=_longest(type_))


def _longest(type_: LogicalType) -> int | None:
    """Characters that a value of the type may have."""
    return type_.typmod - 4 if type_.typmod >= 4 else None


def _text(display: bytes, form: Callable[[str, str], str], pattern: str, longest: int | None) -> bytes:
    return form(display.decode("utf-8"), pattern)[:longest].encode("utf-8")


def _last4(value: str, _: str) -> str:
    return HIDDEN + value[-4:] if len(value) >= LAST_LEAST else HIDDEN


def _first1(value: str, _: str) -> str:
    return value[:1] + HIDDEN if len(value) >= FIRST_LEAST else HIDDEN


def _email(value: str, _: str) -> str:
    """The first letter, where there are more, and the domain."""
    local, at, domain = value.rpartition("@")
    if not at or not local or not domain or any(letter.isspace() for letter in domain):
        return HIDDEN
    return _first1(local, "") + at + domain


def _pattern(value: str, pattern: str) -> str:
    """Only of a value as long as the pattern is it known what stands where."""
    if len(value) != len(pattern):
        return HIDDEN
    pairs = zip(value, pattern, strict=True)
    return "".join(letter if place == SHOWN else place for letter, place in pairs)


_FORMS: Final[dict[MaskForm, Callable[[str, str], str]]] = {
    MaskForm.LAST4: _last4,
    MaskForm.FIRST1: _first1,
    MaskForm.EMAIL: _email,
    MaskForm.PATTERN: _pattern,
}


def _year(display: bytes) -> bytes:
    """The first moment of the year; an infinity is its own."""
    found = _YEAR.fullmatch(display)
    if found is None:
        if display in (b"infinity", b"-infinity"):
            return display
        raise ValueError("a date in display form is ISO")
    return found[1] + b"-01-01" + (b" 00:00:00" if found[2] else b"") + found[3]
