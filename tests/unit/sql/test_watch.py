"""The cheap test: what passes unparsed, and that nothing watched ever does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.lexer import lex
from proxy.sql.watch import SEED, Watch, begins_plainly, fold, identifier

LONG = "x" * 63
WATCH = Watch(
    frozenset(identifier(name) for name in SEED | {"patients", "Mixed", "odd name", 'q"q', "a$b", LONG})
)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT abalance FROM accounts WHERE aid = 1",
        "/* app */ -- x\n ((select 1))",
        "insert into t values (1);",
        "WITH x AS (SELECT 1) TABLE x",
        "update t set a = 1",
        "delete from t ; ; ",
        "VALUES (1)",
        "select patients2, my_patients from t",
    ],
)
def test_watch_plain_statement_passes(text: str) -> None:
    """The words after which no parse is needed, with comments and brackets before them."""
    assert WATCH.passes(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "select * from patients",
        "SELECT * FROM Patients",
        'select * from "patients"',
        'select * from "Mixed"',
        'select * from "odd name"',
        'select * from "q""q"',
        "select * from a$b",
        f"select * from {LONG}yy",
        'select * from U&"p\\0061tients"',
        "select set_config('a', 'b', true)",
        "select pgseal.x",
        "select $a$x$a$patients",
        "select 1; select 2",
        "begin",
        "explain select 1",
        "create table t ()",
        "selects 1",
        "select* from\tpatients",
        "",
        "merge into t using u on true when matched then delete",
    ],
)
def test_watch_watched_name_or_other_command_does_not_pass(text: str) -> None:
    """Anything else is looked at."""
    assert not WATCH.passes(text.encode())


def test_watch_quoted_name_in_another_case_is_looked_at_and_then_found_plain() -> None:
    """The cheap test errs on the safe side; the tokens tell."""
    text = b'select * from "PATIENTS", mixed'
    assert not WATCH.passes(text)
    assert WATCH.names(text, lex(text)) == frozenset()


def test_watch_names_in_strings_and_comments_are_no_identifiers() -> None:
    """By tokens only identifiers count."""
    text = b"select 'patients' /* patients */ -- patients"
    assert WATCH.names(text, lex(text)) == frozenset()
    assert WATCH.names(b"table PATIENTS", lex(b"table PATIENTS")) == {b"patients"}


@given(
    st.lists(
        st.sampled_from(["'", '"', "--", "/*", "*/", "$$", "$a$", "\n", " ", "\\", "x", "(", "E'", ";", "1"])
    )
)
def test_watch_name_behind_any_noise_never_passes(noise: list[str]) -> None:
    """Whatever quotes and comments stand before it, an identifier that is watched stops the cheap test."""
    assert not WATCH.passes(f"select {''.join(noise)} patients".encode())


def test_fold_name_of_more_than_63_bytes_is_cut_at_a_character() -> None:
    """As the server cuts it."""
    assert fold(("É" * 40).encode()) == ("É" * 31).encode()
    assert fold(b"ABC") == b"abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1; update t set a=1", True),
        ("select 1; begin", False),
        ("; ;(select 1)", True),
        ('"select" 1', False),
        ("select 'x;begin'", True),
    ],
)
def test_begins_plainly_looks_at_each_statement(text: str, expected: bool) -> None:
    """Each statement of a text begins with one of the words."""
    assert begins_plainly(text.encode(), lex(text.encode())) is expected
