"""The shape of COPY data: what the options of a COPY command say of rows, and PostgreSQL's errors for bad ones.

Source: PostgreSQL manual, "COPY". One reason to change: what a COPY option means for the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.errors import BadCopyFormat, ProgramLimitExceeded, Unsupported

MAX_ROW: Final = 1 << 28  # bytes of one row that are kept until it is whole


class Format(Enum):
    TEXT = "text"
    CSV = "csv"
    BINARY = "binary"


class Header(Enum):
    NONE = "none"
    LINE = "line"
    MATCH = "match"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How rows are written. `null` and `default` (stands for the column's default; None: nothing does) are in
    the encoding of the data. `has_end_marker`: a line of backslash and dot ends the data."""

    format: Format = Format.TEXT
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    quote: bytes = b'"'
    escape: bytes = b'"'
    header: Header = Header.NONE
    default: bytes | None = None
    has_end_marker: bool = True


def literal_newline(dialect: Dialect) -> BadCopyFormat:
    if dialect.format is Format.CSV:
        return BadCopyFormat("unquoted newline found in data", hint="Use quoted CSV field to represent newline.")
    return BadCopyFormat("literal newline found in data", hint='Use "\\n" to represent newline.')


def literal_return(dialect: Dialect) -> BadCopyFormat:
    if dialect.format is Format.CSV:
        return BadCopyFormat(
            "unquoted carriage return found in data", hint="Use quoted CSV field to represent carriage return."
        )
    return BadCopyFormat("literal carriage return found in data", hint='Use "\\r" to represent carriage return.')


def check_size(size: int) -> None:
    """Raises where a row that is not whole yet is longer than any that is taken."""
    if size > MAX_ROW:
        raise ProgramLimitExceeded(f"a row of COPY data is longer than {MAX_ROW} bytes")


# --- encodings ---------------------------------------------------------------------------------------

# Characters of several bytes in these contain bytes that are ASCII by themselves.
EMBEDS_ASCII: Final = frozenset({"SJIS", "BIG5", "GBK", "UHC", "JOHAB", "GB18030", "SHIFT_JIS_2004"})
_ALIASES: Final = {
    "unicode": "UTF8",
    "iso88591": "LATIN1",
    "iso88592": "LATIN2",
    "iso88593": "LATIN3",
    "iso88594": "LATIN4",
    "iso88599": "LATIN5",
    "iso885910": "LATIN6",
    "iso885913": "LATIN7",
    "iso885914": "LATIN8",
    "iso885915": "LATIN9",
    "iso885916": "LATIN10",
    "iso88595": "ISO_8859_5",
    "iso88596": "ISO_8859_6",
    "iso88597": "ISO_8859_7",
    "iso88598": "ISO_8859_8",
    "alt": "WIN866",
    "win": "WIN1251",
    "koi8": "KOI8R",
    "sqlascii": "SQL_ASCII",
    "eucjp": "EUC_JP",
    "euckr": "EUC_KR",
    "euccn": "EUC_CN",
    "shiftjis": "SJIS",
    "mskanji": "SJIS",
    "win932": "SJIS",
    "win936": "GBK",
    "win949": "UHC",
    "win950": "BIG5",
    "abc": "WIN1258",
    "tcvn": "WIN1258",
    "tcvn5712": "WIN1258",
    "vscii": "WIN1258",
}
_NAMES: Final = frozenset(
    {"UTF8", "SJIS", "BIG5", "GBK", "UHC", "KOI8R", "KOI8U", *(f"LATIN{n}" for n in range(1, 11))}
    | {f"WIN{n}" for n in (866, 874, *range(1250, 1259))}
)


def encoding_name(written: str) -> str:
    """PostgreSQL's name of an encoding, as a COPY option may spell it."""
    folded = "".join(c for c in written.lower() if c.isalnum())
    if folded in _ALIASES:
        return _ALIASES[folded]
    name = folded.upper().replace("WINDOWS", "WIN")
    if name not in _NAMES:
        raise Unsupported("an ENCODING that is not known for protected columns", hint="Use UTF8.")
    return name
