"""Each form of SQL in each way to protect a column and each way to send it: as on the twin, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from proxy.embedded import EmbeddedPostgres
from tests.sql_matrix import CASES, COMPARABLE, Case, render
from tests.sql_world import CANARIES, SEALED, STORAGES, VARIANTS, Variant, ddl, rows, rules
from tests.twins import Twins, Way, assert_only_envelopes, assert_refused, assert_same, twin_databases

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
PAIRS = [
    (case, variant)
    for number, case in enumerate(CASES)
    for variant in VARIANTS
    if IS_DEEP or variant.storage == STORAGES[number % 2]
]
WORKS = [(case, variant) for case, variant in PAIRS if variant.mode in case.works]
REFUSED = [(case, variant) for case, variant in PAIRS if variant.mode not in case.works]
REFUSED_WAYS = tuple(Way) if IS_DEEP else (Way.LITERALS, Way.TEXT, Way.ASYNCPG)
KINDS = ("people", "others")


def _id(value: object) -> str | None:
    match value:
        case Case():
            return value.id
        case Variant():
            return value.name
        case _:
            return None


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    """All variants, with their rows kept to go back to."""
    with twin_databases(postgres, rules(), [*ddl()], [*rows()]) as made:
        made.reset([variant.table(kind) for variant in VARIANTS for kind in KINDS] + ["visits"])
        yield made


def _tables(variant: Variant) -> list[str]:
    return [*(variant.table(kind) for kind in KINDS), "visits"]


def _assert_same_tables(twins: Twins, variant: Variant) -> None:
    """What lies in the tables is the same, seen through the proxy; beside it there are only envelopes."""
    for kind in KINDS:
        table = variant.table(kind)
        everything = f"SELECT * FROM {table} ORDER BY id"
        assert twins.proxied.rows(everything) == twins.plain.rows(everything)
        assert_only_envelopes(twins, table, SEALED[kind], variant.storage, CANARIES)
    visits = "SELECT * FROM visits ORDER BY visits::text"
    assert twins.proxied.rows(visits) == twins.plain.rows(visits)


@pytest.mark.parametrize(("case", "variant"), WORKS, ids=_id)
def test_statement_that_works_answers_as_on_plain_columns(twins: Twins, case: Case, variant: Variant) -> None:
    """Rows, tags and types equal those of the twin in every way to send it, and the table holds envelopes."""
    statement = variant.fill(case.sql)
    for way in Way:
        found = twins.proxied.run(statement, case.values, way)
        wanted = twins.plain.run(statement, case.values, way)
        try:
            assert_same(found, wanted, case.is_ordered)
            if case.is_write:
                _assert_same_tables(twins, variant)
        except AssertionError as error:
            raise AssertionError(f"{way.value}: {error}") from error
        finally:
            if case.is_write:
                twins.reset(_tables(variant))


@pytest.mark.parametrize(("case", "variant"), REFUSED, ids=_id)
def test_statement_that_is_refused_says_why_and_leaves_no_trace(
    twins: Twins, case: Case, variant: Variant
) -> None:
    """The SQLSTATE, the column, a reason and a hint; a transaction fails; the connection goes on."""
    statement = variant.fill(case.sql)
    named = variant.fill(case.named)
    for way in REFUSED_WAYS:
        for found in twins.proxied.run(statement, case.values, way):
            assert_refused(found, case.sqlstate, named)
        assert twins.proxied.run("SELECT 1", (), way)[0].tag == "SELECT 1"
    connection = twins.proxied
    for way in (Way.LITERALS, Way.TEXT):
        assert connection.run("BEGIN", (), way)[0].tag == "BEGIN"
        assert_refused(connection.run(statement, case.values, way)[0], case.sqlstate, named)
        assert connection.run("SELECT 1", (), way)[0].sqlstate == "25P02"
        assert connection.run("COMMIT", (), way)[0].tag == "ROLLBACK"
    _assert_same_tables(twins, variant)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.mode in COMPARABLE], ids=_id)
@pytest.mark.parametrize("value", ["987-65-4321", None])
def test_untyped_parameter_beside_is_null_has_the_type_of_the_column(
    twins: Twins, variant: Variant, value: str | None
) -> None:
    """PostgreSQL alone cannot tell the type; pgseal answers as PostgreSQL does with the type written down."""
    text = "SELECT id FROM {t} WHERE ?1 IS NULL OR ssn = ?1 ORDER BY id"
    untyped, typed = variant.fill(text), variant.fill(text.replace("?1", "?1::text"))
    assert twins.plain.run(untyped, (value,), Way.TEXT)[0].sqlstate == "42P08"
    wanted = twins.plain.run(typed, (value,), Way.TEXT)
    assert_same(twins.proxied.run(untyped, (value,), Way.TEXT), wanted, is_ordered=True)


def test_matrix_is_rendered_as_a_table() -> None:
    """A form a row, a verdict for each mode."""
    lines = render().splitlines()
    assert lines[0] == "| form | det | eq | rnd |"
    assert "| equality | works | works | refused (PS001) |" in lines
    assert all(line.count("|") == 5 for line in lines)
