"""Where constructs end: what is worked out once for a text of many statements."""

from __future__ import annotations

from proxy.sql.draft import Draft
from proxy.sql.lexer import lex
from proxy.sql.spans import Spans
from tests.unit.sql.worlds import env

TEXT = b"INSERT INTO staff VALUES (1, (2)); INSERT INTO staff VALUES (3)"


def test_brackets_of_many_statements_are_matched_once() -> None:
    """Each statement has spans of its own; to match all brackets for each of them would take squared time."""
    tokens = lex(TEXT)
    draft = Draft(TEXT, tokens, env(), False, (), {})
    first, last = (tokens.at(TEXT.index(b"(")), tokens.at(TEXT.rindex(b"(")))
    assert Spans(draft).partner(first) == tokens.at(TEXT.index(b"))")) + 1
    known = draft.partners
    assert Spans(draft).partner(last) == tokens.at(TEXT.rindex(b")"))
    assert draft.partners is known
