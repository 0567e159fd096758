"""pgseal's own SQL lexer: where each token of a text begins and ends, in bytes of its UTF-8 form.

It follows "Lexical Structure" of the PostgreSQL manual as version 18 speaks it: one regular expression over
bytes, and three things that no regular expression says well (nested comments, the rule for a trailing + or -
in an operator, the strings of standard_conforming_strings = off). Comments and white space are no tokens.
What the server's lexer would refuse raises `LexError`. One reason to change: the lexical rules.

Token                          Kind            example
------------------------------------------------------------------------------------
key word or bare name          WORD            SELECT, ssn, n (of n'..')
quoted name                    QUOTED          "Ssn"
quoted name with escapes       UNICODE_NAME    U&"d\\0061t"
string                         STRING          'it''s', also continued over a line end
string with backslashes        ESCAPE          E'a\\n'
string with code points        UNICODE         U&'\\00e9'
dollar-quoted string           DOLLAR          $tag$ .. $tag$
bit string                     BITS, HEXBITS   B'01', X'1F'
number                         INTEGER         42, 0x1F, 1_000
                               NUMERIC         1.5, .5, 1e9
parameter                      PARAM           $1
operator                       OPERATOR        =, <>, ->>, also * < > = + - / % ^ alone, => and <=
the rest                       SELF            ( ) [ ] , ; . : :: := ..
any other byte                 OTHER           no statement is right with it
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from proxy.values.patterns import re


class Kind(IntEnum):
    """The kinds of tokens; the values are the group numbers of the expression below."""

    WORD = 1
    SELF = 2
    OPERATOR = 3
    STRING = 4
    PARAM = 5
    INTEGER = 6
    NUMERIC = 7
    QUOTED = 8
    ESCAPE = 9
    UNICODE = 10
    UNICODE_NAME = 11
    BITS = 12
    HEXBITS = 13
    DOLLAR = 14
    OTHER = 18


LITERALS: Final = frozenset(
    {
        Kind.STRING,
        Kind.ESCAPE,
        Kind.UNICODE,
        Kind.DOLLAR,
        Kind.BITS,
        Kind.HEXBITS,
        Kind.INTEGER,
        Kind.NUMERIC,
    }
)


class LexError(Exception):
    """The server's lexer refuses the text at byte `position`."""

    def __init__(self, position: int) -> None:
        super().__init__("not a token")
        self.position = position


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text in order; `starts` and `ends` are byte offsets, ends exclusive."""

    kinds: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, location: int) -> int:
        """The ordinal of the token that starts at byte `location`, covers it, or is the last before it."""
        return bisect_right(self.starts, location) - 1


_SPACE = r"[ \t\n\r\f\v]"
_LINE_COMMENT = r"--[^\n\r]*+"
_BLOCK_COMMENT = r"/\*(?>[^*/]|\*(?!/)|/(?!\*))*+\*/"  # without another inside
_SKIP = rf"(?:{_SPACE}|{_LINE_COMMENT}|{_BLOCK_COMMENT})*+"
# a quote, white space with a line end in it, and the string goes on
CONTINUED: Final = rf"(?:[ \t\f\v]|{_LINE_COMMENT})*+[\n\r](?:{_SPACE}|{_LINE_COMMENT}[\n\r])*+'"
_PLAIN_BODY = r"[^']*+(?:''[^']*+)*+'"
_PLAIN = rf"{_PLAIN_BODY}(?:{CONTINUED}{_PLAIN_BODY})*+"
_ESCAPE_BODY = r"[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+'"
_ESCAPED = rf"{_ESCAPE_BODY}(?:{CONTINUED}{_ESCAPE_BODY})*+"
_BITS = rf"[^']*+'(?:{CONTINUED}[^']*+')*+"
_START = r"[A-Za-z_\x80-\xff]"
_WORD = rf"{_START}[A-Za-z_\x80-\xff0-9$]*+"
_TAG = r"(?:[A-Za-z_\x80-\xff][A-Za-z_\x80-\xff0-9]*+)?+"
# the longest match is taken: with a $ behind it, what could be a name makes the number wrong
_DEC = r"[0-9]++(?:(?:_[0-9]++)++(?!\$))?+"
_EXPONENT = rf"(?:[eE](?:[-+]{_DEC}|{_DEC}(?!\$)))"
_INTEGER = (
    r"(?:0[xX](?:_?[0-9A-Fa-f])++|0[oO](?:_?[0-7])++|0[bB](?:_?[01])++)(?!\$)"
    rf"|{_DEC}(?!\.(?!\.))(?![eE][-+]?+[0-9])"
)
_NUMERIC = rf"{_DEC}\.(?!\.)(?:{_DEC})?+{_EXPONENT}?+|{_DEC}{_EXPONENT}|\.{_DEC}{_EXPONENT}?+"


def _expression(plain_string: str) -> re.Pattern[bytes]:
    groups = (
        rf"(?![bBxXeE]'|[uU]&['\"])({_WORD})",
        r"(::|:=|\.\.|[()\[\],;:]|\.(?![0-9]))",
        r"((?:(?!--|/\*)[~!@#^&|`?+\-*/%<>=])++)",
        rf"'({plain_string})",
        r"(\$[0-9]++)",
        rf"((?>{_INTEGER})(?!{_START}|[0-9]))",
        rf"((?>{_NUMERIC})(?!{_START}))",
        r'"(?!"(?!"))([^"]*+(?:""[^"]*+)*+")',
        rf"[eE]'({_ESCAPED})",
        rf"[uU]&'({_PLAIN})",
        r'[uU]&"(?!"(?!"))([^"]*+(?:""[^"]*+)*+")',
        rf"[bB]'({_BITS})",
        rf"[xX]'({_BITS})",
        rf"\$((?P<tag>{_TAG})\$.*?\$(?P=tag)\$)",
        r"(/\*)",  # a comment that holds another, or does not end
        rf"(\$(?:{_TAG})\$|[0-9'\"]|\.[0-9]|[eEbBxX]'|[uU]&['\"]|\$[0-9])",  # begins what does not end right
        r"(.)",
        r"(\Z)",
    )
    return re.compile((_SKIP + "(?:" + "|".join(groups) + ")").encode("latin-1"), re.DOTALL)


_STANDARD: Final = _expression(_PLAIN)
_BACKSLASHES: Final = _expression(_ESCAPED)
_NESTED: Final = 16
_BROKEN: Final = 17
_END: Final = 19
_PREFIX: Final = {4: 1, 8: 1, 9: 2, 10: 3, 11: 3, 12: 2, 13: 2, 14: 1}  # bytes of a token before its group
_SPECIAL: Final = re.compile(rb"[~!@#^&|`?%]")
_COMMENT_EDGE: Final = re.compile(rb"/\*|\*/")


def lex(text: bytes, *, standard_strings: bool = True) -> Tokens:
    """All tokens of `text`. Raises LexError where PostgreSQL's lexer would fail."""
    expression = _STANDARD if standard_strings else _BACKSLASHES
    kinds: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    position: int | None = 0
    while position is not None:
        position = _run(expression, text, position, (kinds, starts, ends))
    return Tokens(tuple(kinds), tuple(starts), tuple(ends))


def _run(
    expression: re.Pattern[bytes], text: bytes, position: int, found: tuple[list[int], list[int], list[int]]
) -> int | None:
    """Tokens from `position` on, up to a nested comment (whose end is returned) or the end (None)."""
    kinds, starts, ends = found
    for match in expression.finditer(text, position):
        kind = match.lastindex
        assert kind is not None
        start, end = match.span(kind)
        if kind in _PREFIX:
            start -= _PREFIX[kind]
        elif kind == Kind.OPERATOR and end - start > 1 and text[end - 1] in b"+-":
            edge = _operator_end(text, start, end)
            kinds.append(kind)
            starts.append(start)
            ends.append(edge)
            kinds.extend([kind] * (end - edge))
            starts.extend(range(edge, end))
            ends.extend(range(edge + 1, end + 1))
            continue
        elif kind >= _NESTED:
            if kind == _END:
                return None
            if kind == _NESTED:
                return _comment_end(text, start)
            if kind == _BROKEN:
                raise LexError(start)
        kinds.append(kind)
        starts.append(start)
        ends.append(end)
    return None


def _operator_end(text: bytes, start: int, end: int) -> int:
    """An operator of several bytes ends in + or - only if it holds one of ~ ! @ # ^ & | ` ? %; what is cut
    off is + and - only, so that each of those is an operator of its own."""
    if _SPECIAL.search(text, start, end) is not None:
        return end
    return max(start + 1, start + len(text[start:end].rstrip(b"+-")))


def _comment_end(text: bytes, start: int) -> int:
    """The byte behind the comment that starts at `start`; comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge.group() == b"/*" else -1
        if depth == 0:
            return edge.end()
    raise LexError(start)
