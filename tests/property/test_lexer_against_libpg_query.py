"""Random sequences of lexical pieces: the same spans as libpg_query's scan, or both fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.lexer import LexError, lex
from tests.unit.sql.test_lexer import ours, theirs

PIECES = st.sampled_from(
    [
        "select",
        "'a'",
        "''",
        "'it''s'",
        "E'\\n'",
        "e'\\''",
        "U&'\\0041'",
        'u&"x"',
        "b'01'",
        "X'1f'",
        "n'q'",
        "$$a$$",
        "$t$b$t$",
        "$1",
        "$t",
        "1",
        "1.5",
        ".5",
        "1..2",
        "1e5",
        "1e-5",
        "0x1F",
        "0o17",
        "0b11",
        "1_000",
        "1_",
        "0x",
        "1a",
        "1.5e",
        "+",
        "-",
        "*",
        "/",
        "--c\n",
        "/*c*/",
        "/*/**/*/",
        "/*",
        "*/",
        "=",
        "<",
        ">",
        "<=",
        "=>",
        ":=",
        "::",
        ":",
        "..",
        ".",
        "@",
        "#",
        "!",
        "~",
        "|",
        "&",
        "^",
        "%",
        "?",
        "`",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        '"q"',
        '"a""b"',
        '""',
        '"',
        "'",
        "é",
        "name",
        "a$b",
        "_x",
        "\\",
        "{",
        "x",
        "e",
        "u&",
        "b",
        "N",
        "0b",
        "$",
    ]
)
GAPS = st.sampled_from(["", "", " ", "\n", "\t", "\r", "\f"])
TEXTS = st.lists(st.tuples(PIECES, GAPS), max_size=10).map(lambda parts: "".join(a + b for a, b in parts))


@given(TEXTS)
def test_lexer_random_pieces_agree_with_libpg_query(text: str) -> None:
    """Token for token."""
    assert ours(text) == theirs(text)


@given(st.binary(max_size=200))
def test_lexer_any_bytes_end_in_tokens_or_lex_error(text: bytes) -> None:
    """Spans are in order and do not overlap."""
    try:
        tokens = lex(text)
    except LexError:
        return
    edges = [edge for span in zip(tokens.starts, tokens.ends, strict=True) for edge in span]
    assert edges == sorted(edges)
    assert all(start < end for start, end in zip(tokens.starts, tokens.ends, strict=True))
