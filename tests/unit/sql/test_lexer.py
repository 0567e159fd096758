"""The lexer against libpg_query's own scan, and against what worst callers send."""

from __future__ import annotations

import contextlib
import time

import pytest
from pglast.parser import scan

from proxy.sql.lexer import Kind, LexError, lex

TRICKY = r'''
select 1|select 'a'|select ''|select 'it''s'|select 'a' 'b'|select E'a\'b'|select e'\\'|select E'a''b'
select U&'d\0061t'|select u&"d\0061t" from t|select U&'!0061' uescape '!'|select b'01', X'1F', x''
select n'x', N'y'|select $$a'b$$|select $tag$ $$ $other$ $tag$|select $a$b$a$c|select $1,$22|select $1a|select $
select 1.5,.5,1.,1e5,1e-5,1.e5,1.5E+3|select 1..2|select a[1:2]|select 0x1F,0o17,0b11|select 1_000,1_0.0_1,1e1_0
select 1_|select 1__0|select 0x|select 1a|select 1.5x|select 1e|select 0b12|select 1$1|select 1_000$1|select 1e5$1
select a->>'b', a#>>'{c}', a@>b, a?|b|select a!=b, a<>b, a<=b, a>=b, f(x=>1), x:=1, a::int
select 1+-2, 1*-2, 1<-2, a=-1, a@-1, a@-+1, a<--1|select 1--2|select 1/*x*/+/*y*/2|select a+/*c*/-b|select a*/b
select /* /* nested */ still */ 1|select /* unclosed|select 1 /* a */ /* b */|select /**/ 1 /***/|select /*/ 1
select "a", "a""b", """", "A b"|select ""|select "unclosed|select 'unclosed|select E'un\'|select $$un|select u&""
select a.b.c, a.*, (t).x|select :x, a:b, a::b::c|select x from é where naïve = 'ñ'|select _a, a$b, a1
select 1;select 2;|select \ , {|select `a`|select a@@b, |/ 4, ||/ 8, !!5|select --c|select 1 -- c
'''.strip().replace("\n", "|")


def theirs(text: str) -> list[tuple[int, int]] | None:
    """Byte spans by libpg_query; None where its lexer fails."""
    try:
        tokens = scan(text)
    except Exception:
        return None
    return [
        (len(text[: token.start].encode()), len(text[: token.end + 1].encode()))
        for token in tokens
        if token.name not in ("SQL_COMMENT", "C_COMMENT")
    ]


def ours(text: str) -> list[tuple[int, int]] | None:
    try:
        tokens = lex(text.encode())
    except LexError:
        return None
    return list(zip(tokens.starts, tokens.ends, strict=True))


@pytest.mark.parametrize("text", [case for case in TRICKY.split("|") if case])
def test_lexer_tricky_text_cuts_tokens_as_libpg_query_does(text: str) -> None:
    """Each case has the same byte spans, or fails in both."""
    assert ours(text) == theirs(text)


@pytest.mark.parametrize(
    "text",
    [
        "select 'a'\n'b'",
        "select 'a' -- c\n  'b'",
        "select 'a'\r\n\t'b' 'c'",
        "select 'a' /* c */\n'b'",
        "select E'a\\\n'\n'\\'b'",
        "select b'01'\n'10'",
        "select U&'a'\n'b'",
        "select 'a'--x\n--y\n'b'",
        "select 'a'\n",
        "select 'a' --",
        "select\f1\v+2",
    ],
)
def test_lexer_string_over_line_ends_continues_as_in_libpg_query(text: str) -> None:
    """A string goes on after white space with a line end, and after comments with one."""
    assert ours(text) == theirs(text)


def test_lexer_backslash_strings_off_and_on_end_in_different_places() -> None:
    """With standard_conforming_strings off a backslash escapes the quote."""
    text = rb"select 'a\' or ''b'"
    assert len(lex(text, standard_strings=False)) == 2
    with pytest.raises(LexError):
        lex(text)


def test_lexer_kinds_of_tokens_are_told_apart() -> None:
    """One token of each kind."""
    text = rb"""a ( <= 'x' $1 42 1.5 "q" E'e' U&'u' U&"n" B'1' X'1' $$d$$ \ """
    assert lex(text).kinds == (
        Kind.WORD,
        Kind.SELF,
        Kind.OPERATOR,
        Kind.STRING,
        Kind.PARAM,
        Kind.INTEGER,
        Kind.NUMERIC,
        Kind.QUOTED,
        Kind.ESCAPE,
        Kind.UNICODE,
        Kind.UNICODE_NAME,
        Kind.BITS,
        Kind.HEXBITS,
        Kind.DOLLAR,
        Kind.OTHER,
    )


def test_tokens_at_location_inside_a_token_finds_it() -> None:
    """`at` takes a byte that starts a token or lies in it."""
    tokens = lex(b"select  ssn from t")
    assert [tokens.at(n) for n in (0, 3, 8, 10, 12)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        b"select 1" + b"+-" * 50_000,
        b"/*" * 50_000,
        b"'" * 100_001,
        b"$a$" * 33_333 + b"$b",
        b"1_" * 50_000,
        b"'a'\n" * 25_000,
        b"select 1" + b" " * 100_000,
        b"'\n" * 50_001,
        b"\t" * 100_000 + b"'",
        b"$a" * 50_000,
        b"''--x\r" * 20_000,
        b'"' * 99_999,
        b"e'\\" * 33_333,
        b"0x" * 50_000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_lexer_100_kb_of_one_hostile_pattern_takes_linear_time(text: bytes) -> None:
    """No pattern makes the expression go back and forth: far under a second for 100 kB."""
    begun = time.process_time()
    with contextlib.suppress(LexError):
        lex(text)
    assert time.process_time() - begun < 1.0
