"""The seam to libpg_query: statements, their places, and texts that give no tree."""

from __future__ import annotations

import pytest

from proxy.errors import Unsupported
from proxy.sql.parse import bodies, calls, marks, parse, relations


def test_parse_several_statements_have_byte_spans() -> None:
    """Locations count bytes, ends are exclusive."""
    text = "select 'é' ; /* c */ update t set a=1;".encode()
    first, second = parse(text)
    assert (first.name, second.name) == ("SelectStmt", "UpdateStmt")
    assert text[first.start : first.end].strip() == "select 'é'".encode()
    assert text[second.start : second.end].endswith(b"update t set a=1")


@pytest.mark.parametrize("text", [b"", b" ; ;", b"-- only a comment", b"/* */"])
def test_parse_empty_text_has_no_statements(text: bytes) -> None:
    """Nothing to plan."""
    assert parse(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        b"selec 1",
        b"select (",
        b"\xff",
        b"select 1" + b" union all select 1" * 20_000,
        b"select " + b"(" * 20_000 + b"1" + b")" * 20_000,
        b"select 1" + b"+1" * 100_000,
        b"select " + b"case when a then " * 5_000 + b"1" + b" end" * 5_000,
        b"select * from " + b"(select * from " * 900 + b"t" + b") x" * 900,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_parse_bad_or_too_deep_text_is_unsupported(text: bytes) -> None:
    """One error of ours, never a crash and never RecursionError."""
    with pytest.raises(Unsupported):
        parse(text)


def test_parse_1000_brackets_are_nothing_special() -> None:
    """Brackets leave no nodes."""
    assert len(parse(b"select " + b"(" * 1000 + b"1" + b")" * 1000)) == 1


def test_marks_names_in_every_corner_are_found() -> None:
    """Subqueries, CTEs, functions, joins and set operations."""
    tree = parse(
        b"with c as (select f(1) from a) select (select g() from b), h.x from c, lateral (values (i())) v "
        b"union select 1 from d join e using (x)"
    )[0].tree
    assert {node["relname"] for node in relations(marks(tree))} == {"a", "b", "c", "d", "e"}
    assert {name for name, _ in calls(marks(tree))} == {"f", "g", "i"}
    assert len(list(bodies(tree))) > 40
