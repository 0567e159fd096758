"""The template of a text: what is the same in all texts that share a plan, and the constants that differ.

Comments and white space are dropped and literals are lifted, each leaving a mark of its kind. NULL, TRUE,
FALSE and parameters stay, since plans depend on them. A literal that cannot be lifted (a bad escape, U&''
with UESCAPE) makes the template incomplete: such a text is planned each time. One reason to change: what may
be lifted, and how a literal is undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from proxy.sql.lexer import CONTINUED, LITERALS, Kind, Tokens
from proxy.values.constants import Const


@dataclass(frozen=True, slots=True)
class Template:
    """`lifted` maps a token's ordinal to its number in `constants`. `key` is None where a literal could not
    be lifted."""

    key: bytes | None
    constants: tuple[Const, ...]
    lifted: Mapping[int, int]


def template(text: bytes, tokens: Tokens) -> Template:
    """Lift the literals of `text`."""
    parts: list[bytes] = []
    constants: list[Const] = []
    lifted: dict[int, int] = {}
    is_complete = True
    for ordinal, kind in enumerate(tokens.kinds):
        token = text[tokens.starts[ordinal] : tokens.ends[ordinal]]
        if kind not in LITERALS:
            parts.append(token)
            continue
        constant = None if _is_escaped_by_word(text, tokens, ordinal) else undo(Kind(kind), token)
        if constant is None:
            is_complete = False
            continue
        parts.append(_mark(text, tokens, ordinal, constant))
        lifted[ordinal] = len(constants)
        constants.append(constant)
    return Template(b" ".join(parts) if is_complete else None, tuple(constants), lifted)


def shape_digest(text: bytes, tokens: Iterable[tuple[int, int]]) -> bytes:
    """Of the text without comments, its literals and parameters only counted."""
    words = (text[start:end] for start, end in tokens)
    shape = b" ".join(b"?" if word[:1] in _LITERAL_STARTS else word for word in words)
    return sha256(shape).digest()


_LITERAL_STARTS: Final = frozenset(bytes((byte,)) for byte in b"0123456789.'$")  # $ also begins a quoted string


def _is_escaped_by_word(text: bytes, tokens: Tokens, ordinal: int) -> bool:
    """U&'..' UESCAPE '..': the value is not in the token alone (nor is the second literal a value)."""
    if tokens.kinds[ordinal] == Kind.UNICODE and ordinal + 1 < len(tokens):
        return text[tokens.starts[ordinal + 1] : tokens.ends[ordinal + 1]].lower() == b"uescape"
    if ordinal > 0 and tokens.kinds[ordinal - 1] == Kind.WORD:
        return text[tokens.starts[ordinal - 1] : tokens.ends[ordinal - 1]].lower() == b"uescape"
    return False


def _mark(text: bytes, tokens: Tokens, ordinal: int, constant: Const) -> bytes:
    """What a literal leaves in the key. No other token holds a byte 01. N'..' is not the type n before a
    string, and integers past int4 or int8 have another type (with a sign before it each range is one longer)."""
    if constant.kind == "unknown":
        start = tokens.starts[ordinal]
        return b"\x01n" if text[start - 1 : start] in (b"n", b"N") else b"\x01s"
    if constant.kind == "int":
        assert constant.text is not None
        return b"\x01i" if len(constant.text) < 10 else _long_mark(int(constant.text))
    return b"\x01" + constant.kind.encode()


def _long_mark(value: int) -> bytes:
    if value <= _INT4:
        return b"\x01i"
    if value == _INT4 + 1:
        return b"\x01j"
    return b"\x01l" if value <= _INT8 else b"\x01m" if value == _INT8 + 1 else b"\x01h"


_INT4: Final = 2**31 - 1
_INT8: Final = 2**63 - 1


def undo(kind: Kind, token: bytes) -> Const | None:
    """A literal token's value, quotes and escapes undone. None: it cannot be said here."""
    match kind:
        case Kind.STRING:
            return _text(_QUOTES.sub(_half, token[1:-1]) if b"'" in token[1:-1] else token[1:-1])
        case Kind.ESCAPE:
            return _text(_unescape(token[2:-1]))
        case Kind.UNICODE:
            return _text(_code_points(_QUOTES.sub(_half, token[3:-1])))
        case Kind.DOLLAR:
            size = token.index(b"$", 1) + 1
            return _text(token[size:-size])
        case Kind.INTEGER:
            return _integer(token)
        case Kind.NUMERIC:
            return Const(token.replace(b"_", b""), "numeric")
        case Kind.BITS:
            bits = _QUOTES.sub(_half, token[2:-1])
            return Const(bits, "bit") if not bits.strip(b"01") else None
        case Kind.HEXBITS:
            return _hexadecimal_bits(_QUOTES.sub(_half, token[2:-1]))
        case _:
            return None


def _text(raw: bytes | None) -> Const | None:
    """A string constant; one with a NUL or that is not UTF-8 is the server's to refuse."""
    if raw is None or b"\x00" in raw:
        return None
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError:
            return None
    return Const(raw)


def _integer(token: bytes) -> Const | None:
    digits = token.replace(b"_", b"")
    if digits.isdigit():
        return Const(digits.lstrip(b"0") or b"0", "int") if len(digits) < 4000 else None
    try:
        return Const(b"%d" % int(digits, 0), "int")
    except ValueError:  # more digits than Python turns into decimals
        return None


def _hexadecimal_bits(digits: bytes) -> Const | None:
    if digits.strip(b"0123456789abcdefABCDEF"):
        return None
    return Const(b"".join(b"%s" % format(int(chr(digit), 16), "04b").encode() for digit in digits), "bit")


_QUOTES: Final = re.compile(rf"'(?:'|{CONTINUED})".encode("latin-1"))
_ESCAPES: Final = re.compile(
    rf"\\(?:u([0-9A-Fa-f]{{4}})|U([0-9A-Fa-f]{{8}})|x([0-9A-Fa-f]{{1,2}})|([0-7]{{1,3}})|(.))|'(?:'|{CONTINUED})".encode(
        "latin-1"
    ),
    re.DOTALL,
)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_POINTS: Final = re.compile(rb"\\(?:\\|\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4})|)")


def _half(match: re.Match[bytes]) -> bytes:
    """Two quotes are one; a quote, a line end and a quote are nothing."""
    return b"'" if match.group() == b"''" else b""


class _BadEscape(Exception):
    """The server refuses the literal."""


def _unescape(body: bytes) -> bytes | None:
    """The body of E'..'. Code points of surrogates are joined as UTF-16 has them."""
    try:
        return _joined(_ESCAPES.sub(_escape, body))
    except (_BadEscape, UnicodeError):
        return None


def _escape(match: re.Match[bytes]) -> bytes:
    short, long, hexadecimal, octal, letter = match.groups()
    if short is not None or long is not None:
        return _point(int(short or long, 16))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if letter is None:
        return _half(match)
    if letter in b"uU":
        raise _BadEscape
    return _LETTERS.get(letter, letter)


def _point(value: int) -> bytes:
    if not 0 < value <= 0x10FFFF:
        raise _BadEscape
    return chr(value).encode("utf-8", "surrogatepass")


def _joined(raw: bytes) -> bytes:
    """Two surrogates that follow each other are one character; one alone is an error."""
    if b"\xed" not in raw:
        return raw
    text = raw.decode("utf-8", "surrogatepass")
    return text.encode("utf-16", "surrogatepass").decode("utf-16").encode()


def _code_points(body: bytes) -> bytes | None:
    """The body of U&'..' with the escape character that stands when no UESCAPE follows."""

    def replace(match: re.Match[bytes]) -> bytes:
        if match.group() == b"\\\\":
            return b"\\"
        digits = match.group(1) or match.group(2)
        if digits is None:
            raise _BadEscape
        return _point(int(digits, 16))

    try:
        return _joined(_POINTS.sub(replace, body))
    except (_BadEscape, UnicodeError):
        return None
