"""Guards and token expressions as text; docs/envelope.md is normative."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.rules import Mode, Storage
from proxy.sql.guard import guard_expression, guard_name, index_ddl, token_expression
from tests.unit.sql.worlds import SSN

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "envelope.md"
RULES = {
    ("randomised with search", "bytea"): SSN,
    ("randomised", "bytea"): replace(SSN, search=False),
    ("deterministic", "bytea"): replace(SSN, search=False, mode=Mode.DETERMINISTIC),
    ("randomised with search", "text"): replace(SSN, storage=Storage.TEXT),
    ("randomised", "text"): replace(SSN, search=False, storage=Storage.TEXT),
    ("deterministic", "text"): replace(SSN, search=False, mode=Mode.DETERMINISTIC, storage=Storage.TEXT),
}


def documented() -> dict[tuple[str, str], str]:
    """The table of guards in docs/envelope.md."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 3 and "CASE WHEN" in cells[2]:
            found[cells[0], cells[1]] = cells[2].strip(" |").strip("`")
    return found


@pytest.mark.parametrize("key", RULES)
def test_guard_text_is_the_documented_one(key: tuple[str, str]) -> None:
    """Character for character, with the column quoted."""
    expected = documented()[key].replace("c IS NULL", '"ssn" IS NULL').replace("(c)", '("ssn")')
    assert guard_expression(RULES[key]) == expected.replace("(c,", '("ssn",')


def test_guard_name_is_short_and_from_the_context() -> None:
    """PostgreSQL cuts names at 63 bytes."""
    assert guard_name(SSN) == "pgseal_" + hashlib.sha256(b"public.patients.ssn").hexdigest()[:16]


def test_guard_column_name_with_a_quote_is_quoted() -> None:
    """A hostile column name stays a name."""
    assert '"a""b" IS NULL' in guard_expression(replace(SSN, column='a"b'))


def test_token_expression_has_one_spelling_a_storage() -> None:
    """The planner of PostgreSQL matches nothing else."""
    assert token_expression(SSN) == 'substring("ssn" from 10 for 15)'
    assert token_expression(replace(SSN, storage=Storage.TEXT)) == 'substr("ssn",13,20) COLLATE "C"'
    assert token_expression(replace(SSN, mode=Mode.DETERMINISTIC)) == '"ssn"'
    assert index_ddl(SSN, "s", "t") == 'CREATE INDEX ON "s"."t" ((substring("ssn" from 10 for 15)))'
