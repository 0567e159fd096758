"""Cutting a date's text into fields by their first character.

PostgreSQL manual, appendix "Date/Time Input Interpretation", its first half.
One reason to change: what ends a field.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from proxy.values.datetime_words import KEYWORDS

MAX_FIELDS: Final = 25
MAX_SIZE: Final = 128 + MAX_FIELDS


class Kind(Enum):
    NUMBER = "number"
    DATE = "date"
    TIME = "time"
    ZONE = "zone"  # a sign and digits
    WORD = "word"
    SIGNED_WORD = "signed word"


class Part(NamedTuple):
    kind: Kind
    text: str


class Bad(Exception):
    """The text is no date: 22007, raised with the type's name by `read_moment`."""


class Overflow(Exception):
    """A part has a value out of its range: 22008."""


# First character decides; the lookahead keeps 't10:20' apart from 'america/new_york' (see `_word`).
DIGITS: Final = re.compile(r"[0-9]+")
_TIME_TAIL: Final = re.compile(r"[0-9:.]*")
NAME: Final = re.compile(r"[A-Za-z]+")
_NAME_TAIL: Final = re.compile(r"[-+/_.:A-Za-z0-9]*")
_SIGNED: Final = re.compile(r"[0-9][0-9:.\-]*")
_SPACES: Final = re.compile(r"[ \t\n\v\f\r]*")


def split_fields(text: str) -> list[Part]:
    """Cut the text into fields; Bad for characters that start none."""
    parts: list[Part] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t\n\v\f\r":
            at += 1
            continue
        if len(parts) >= MAX_FIELDS:
            raise Bad
        if char in "0123456789":
            part, at = _digits(text, at)
        elif char == ".":
            end = span(DIGITS, text, at + 1)
            part, at = Part(Kind.NUMBER, text[at:end]), end
        elif char.isascii() and char.isalpha():
            part, at = _word(text, at)
        elif char in "+-":
            part, at = _signed(text, at)
        elif "!" <= char <= "~":
            at += 1
            continue
        else:
            raise Bad
        parts.append(part)
    if sum(len(part.text) + 1 for part in parts) >= MAX_SIZE:
        raise Bad
    return parts


def span(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _digits(text: str, start: int) -> tuple[Part, int]:
    at = span(DIGITS, text, start)
    delimiter = text[at : at + 1]
    if delimiter == ":":
        end = span(_TIME_TAIL, text, at)
        return Part(Kind.TIME, text[start:end]), end
    if not delimiter or delimiter not in "-/.":
        return Part(Kind.NUMBER, text[start:at]), at
    at += 1
    if not text[at : at + 1].isdigit() or not text[at].isascii():
        end = span(re.compile(rf"[A-Za-z0-9{re.escape(delimiter)}]*"), text, at)
        return Part(Kind.DATE, text[start:end].lower()), end
    end = span(DIGITS, text, at)
    if text[end : end + 1] == delimiter:
        end = span(re.compile(rf"[0-9{re.escape(delimiter)}]*"), text, end)
        return Part(Kind.DATE, text[start:end]), end
    return Part(Kind.NUMBER if delimiter == "." else Kind.DATE, text[start:end]), end


def _word(text: str, start: int) -> tuple[Part, int]:
    at = span(NAME, text, start)
    word, following = text[start:at].lower(), text[at : at + 1]
    is_date = following != "" and (following in "-/." or (following in "+0123456789" and word not in KEYWORDS))
    if not is_date:
        return Part(Kind.WORD, word), at
    end = span(_NAME_TAIL, text, at)
    return Part(Kind.DATE, text[start:end].lower()), end


def _signed(text: str, start: int) -> tuple[Part, int]:
    at = span(_SPACES, text, start + 1)
    following = text[at : at + 1]
    if following and following in "0123456789":
        end = span(_SIGNED, text, at)
        return Part(Kind.ZONE, text[start] + text[at:end]), end
    if following.isascii() and following.isalpha():
        end = span(NAME, text, at)
        return Part(Kind.SIGNED_WORD, text[start] + text[at:end].lower()), end
    raise Bad
