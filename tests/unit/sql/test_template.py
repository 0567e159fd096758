"""Templates: what they keep, what they lift, and the values of literals."""

from __future__ import annotations

import json

import pytest
from pglast.parser import parse_sql_json

from proxy.sql.lexer import lex
from proxy.sql.template import Template, template
from proxy.values.constants import Const


def of(text: str) -> Template:
    return template(text.encode(), lex(text.encode()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select 'a'", "select  'b' -- traceparent 1"),
        ("select 'a' /* x */ from t where id=1", "select 'zz' from t where id = 2"),
        ("select E'a\\n', $$b$$", "select 'x', 'y'"),
        ("select 0x10", "select 16"),
    ],
)
def test_template_texts_that_differ_in_literals_and_comments_share_a_key(one: str, other: str) -> None:
    """Comments, white space and the way a string is quoted leave no trace."""
    assert of(one).key == of(other).key is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select 1", "select 1.0"),
        ("select 1", "select 'a'"),
        ("select 1", "select 3000000000"),
        ("select true", "select false"),
        ("select null", "select 'x'"),
        ("select $1", "select $2"),
        ("select n'x'", "select n 'x'"),
        ("select b'1'", "select '1'"),
        ('select "a b"', "select a b"),
        ("select a.b", "select a b"),
    ],
)
def test_template_texts_that_mean_something_else_have_other_keys(one: str, other: str) -> None:
    """Kinds of literals, key words and parameters stay in the key."""
    assert of(one).key != of(other).key


@pytest.mark.parametrize(
    "literal",
    [
        "'it''s'",
        "'a'\n  'b'",
        r"E'\b\f\n\r\t\\\'\x41\101\u00e9\U0001F600'",
        r"E'a''b'",
        "E'a'\n'\\n'",
        r"E'\ud83d\ude00'",
        r"U&'d\0061t\+000061'",
        r"U&'\\x'",
        "$$a'b$$",
        "$t$ $$ $t$",
        "''",
        "'é'",
    ],
)
def test_template_string_has_the_value_that_the_server_reads(literal: str) -> None:
    """Compared with libpg_query's own reading."""
    tree = json.loads(parse_sql_json(f"select {literal}"))
    value = tree["stmts"][0]["stmt"]["SelectStmt"]["targetList"][0]["ResTarget"]["val"]["A_Const"]["sval"]
    assert of(f"select {literal}").constants == (Const(value.get("sval", "").encode()),)


@pytest.mark.parametrize(
    ("literal", "constant"),
    [
        ("42", Const(b"42", "int")),
        ("007", Const(b"7", "int")),
        ("1_000", Const(b"1000", "int")),
        ("0x1F", Const(b"31", "int")),
        ("1_0.5e1_0", Const(b"10.5e10", "numeric")),
        ("B'01'", Const(b"01", "bit")),
        ("X'1f'", Const(b"00011111", "bit")),
    ],
)
def test_template_number_or_bit_string_has_its_value_and_kind(literal: str, constant: Const) -> None:
    """Numbers without underscores, integers in decimal, bit strings in bits."""
    assert of(f"select {literal}").constants == (constant,)


@pytest.mark.parametrize(
    "literal",
    [
        r"E'\u00'",
        r"E'\ud83d'",
        r"E'\xff'",
        r"E'\000'",
        r"E'\U00110000'",
        r"U&'\zz'",
        "U&'!0061' uescape '!'",
        "B'12'",
        "X'g'",
        "0x" + "f" * 5000,
        "9" * 5000,
    ],
)
def test_template_literal_that_cannot_be_undone_leaves_no_key(literal: str) -> None:
    """Such a text is planned each time."""
    assert of(f"select {literal}").key is None
