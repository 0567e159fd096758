"""The engine in use matches what Python's own got wrong before 3.11.5."""

from __future__ import annotations

import pytest

from proxy.sql.lexer import lex
from proxy.values.patterns import re


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (rb"(?:ab?c)++", b"aca", (0, 2)),
        (rb"(?:ab?c)*+d", b"abcacd", (0, 6)),
        (rb"(?>a(?:b|c)*+)d", b"abcbd", (0, 5)),
        (rb"x*+(?:'([^']*+(?:''[^']*+)*+'))", b"xx'a''b' ", (0, 8)),
    ],
)
def test_possessive_group_that_could_backtrack_matches_as_documented(
    pattern: bytes, text: bytes, expected: tuple[int, int]
) -> None:
    """CPython issue 106052: a group with choices inside a possessive quantifier."""
    match = re.match(pattern, text)
    assert match is not None
    assert match.span() == expected


def test_spans_of_strings_are_whole_behind_each_other() -> None:
    """The value of a literal is what stands between its quotes, wherever it stands."""
    text = b"SELECT name FROM patients WHERE hospital = 'south' AND a = 'it''s' /* c */ ORDER BY id"
    tokens = lex(text)
    found = [text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]
    assert [token for token in found if b"'" in token] == [b"'south'", b"'it''s'"]
    assert found[-3:] == [b"ORDER", b"BY", b"id"]
