"""client_encoding: text between the wire's encoding and UTF-8, with PostgreSQL's errors.

PostgreSQL manual, "Character Set Support". Listed are the encodings whose tables equal Python's, and East Asian
ones that differ in few characters, which are refused rather than approximated (an integration test compares all).
One reason to change: the list of encodings.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import CharacterNotInRepertoire, Unsupported, UntranslatableCharacter
from proxy.values.base import Settings

UTF8: Final = frozenset({"UTF8", "SQL_ASCII", "UNICODE", "UTF-8"})

PYTHON_CODEC: Final[dict[str, str]] = {
    "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
    "WIN866": "cp866",
    "WIN874": "cp874",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "WIN1253": "cp1253",
    "WIN1254": "cp1254",
    "WIN1255": "cp1255",
    "WIN1256": "cp1256",
    "WIN1257": "cp1257",
    "WIN1258": "cp1258",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
    "SJIS": "cp932",
    "GBK": "gbk",
    "UHC": "cp949",
    "BIG5": "cp950",
}


EAST_ASIAN: Final = frozenset({"EUC_JP", "EUC_KR", "EUC_CN", "SJIS", "GBK", "UHC", "BIG5"})
# Characters that Python's table and PostgreSQL's spell differently.
UNSURE: Final[dict[str, re.Pattern[str]]] = {
    "EUC_JP": re.compile("[\xa2\xa3\xa5\xa6\xac\u2016\u203e\u2116\u2212\u301c]"),
    "BIG5": re.compile(
        "[\xaf\u02cd\u2027\u20ac\u2215\u2295\u2299\u2550-\u2570\u2574\u2593\u5341\u5345"
        "\ufe51\ufe68\uff0f\uff3c\uff5e\uffe0\uffe1\uffe3\uffe5]"
    ),
}
TILDE: Final = b"\x8f\xa2\xb7"  # JIS X 0212's tilde, which Python reads as ASCII's
# JIS X 0208 and half-width katakana: beyond them vendors differ.
PLAIN_SJIS: Final = re.compile(rb"(?:[\x00-\x7f\xa1-\xdf]|[\x81-\x84\x88-\x9f\xe0-\xea][\x40-\xfc])*")


def is_utf8(settings: Settings) -> bool:
    """True where the wire's bytes are UTF-8 already (SQL_ASCII is passed unconverted by the server)."""
    return settings.client_encoding in UTF8


def to_utf8(raw: bytes, settings: Settings) -> bytes:
    """Text as the client sent it -> UTF-8, validated; 22021 where PostgreSQL says so."""
    if b"\0" in raw:
        raise CharacterNotInRepertoire(_invalid(settings))
    if raw.isascii():
        return raw
    if is_utf8(settings):
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            raise CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8"') from None
        return raw
    try:
        text = raw.decode(_codec(settings))
    except UnicodeDecodeError:
        raise _undecodable(settings) from None
    _refuse_unsure(text, raw, settings)
    return text.encode("utf-8")


def from_utf8(display: bytes, settings: Settings) -> bytes:
    """UTF-8 -> text in the client's encoding; 22P05 for a character it does not have."""
    if display.isascii() or is_utf8(settings):
        return display
    text = display.decode("utf-8")
    try:
        raw = text.encode(_codec(settings))
    except UnicodeEncodeError as error:
        if settings.client_encoding in EAST_ASIAN and text[error.start] < "\U00010000":
            raise _unsure(settings) from None
        raise _no_equivalent(settings) from None
    if settings.client_encoding == "EUC_KR" and len(raw) > 2 * sum(c > "\x7f" for c in text) + _n_ascii(text):
        raise _no_equivalent(settings)  # Python composes syllables of their letters, eight bytes each
    _refuse_unsure(text, raw, settings)
    return raw


def _n_ascii(text: str) -> int:
    return sum(c <= "\x7f" for c in text)


def _refuse_unsure(text: str, raw: bytes, settings: Settings) -> None:
    pattern = UNSURE.get(settings.client_encoding)
    if pattern is not None and pattern.search(text):
        raise _unsure(settings)
    if settings.client_encoding == "EUC_JP" and TILDE in raw:
        raise _unsure(settings)
    if settings.client_encoding == "SJIS" and PLAIN_SJIS.fullmatch(raw) is None:
        raise _unsure(settings)


def _unsure(settings: Settings) -> Unsupported:
    return Unsupported(
        f'a character whose form in encoding "{settings.client_encoding}" is not settled',
        hint="SET client_encoding TO 'UTF8'",
    )


def _no_equivalent(settings: Settings) -> UntranslatableCharacter:
    name = settings.client_encoding
    return UntranslatableCharacter(f'character in encoding "UTF8" has no equivalent in encoding "{name}"')


def _codec(settings: Settings) -> str:
    name = PYTHON_CODEC.get(settings.client_encoding)
    if name is None:
        raise Unsupported(
            "client_encoding is not one that can be used with protected columns",
            hint="SET client_encoding TO 'UTF8'",
        )
    return name


def _invalid(settings: Settings) -> str:
    name = "UTF8" if is_utf8(settings) else settings.client_encoding
    return f'invalid byte sequence for encoding "{name}"'


def _undecodable(settings: Settings) -> UntranslatableCharacter | Unsupported:
    name = settings.client_encoding
    if name in EAST_ASIAN:
        return _unsure(settings)
    return UntranslatableCharacter(f'character in encoding "{name}" has no equivalent in encoding "UTF8"')
