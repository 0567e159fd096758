"""client_encoding: text between the wire's encoding and UTF-8, with PostgreSQL's errors.

PostgreSQL manual, "Character Set Support". Only encodings whose conversion tables equal Python's are listed
(checked against a server by the integration tests); another encoding is refused rather than approximated.
One reason to change: the list of encodings.
"""

from __future__ import annotations

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
        return raw.decode(_codec(settings)).encode("utf-8")
    except UnicodeDecodeError:
        raise _undecodable(settings) from None


def from_utf8(display: bytes, settings: Settings) -> bytes:
    """UTF-8 -> text in the client's encoding; 22P05 for a character it does not have."""
    if display.isascii() or is_utf8(settings):
        return display
    try:
        return display.decode("utf-8").encode(_codec(settings))
    except UnicodeEncodeError:
        name = settings.client_encoding
        raise UntranslatableCharacter(
            f'character in encoding "UTF8" has no equivalent in encoding "{name}"'
        ) from None


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


def _undecodable(settings: Settings) -> CharacterNotInRepertoire | UntranslatableCharacter:
    """A single byte without a character is untranslatable; a broken sequence of several bytes is invalid."""
    name = settings.client_encoding
    if name in {"EUC_JP", "EUC_KR", "EUC_CN", "SJIS", "GBK", "UHC", "BIG5"}:
        return CharacterNotInRepertoire(_invalid(settings))
    return UntranslatableCharacter(f'character in encoding "{name}" has no equivalent in encoding "UTF8"')
