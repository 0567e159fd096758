"""Log-ins that may not read: they see masks or NULL by every way there is, and no way leads round them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.integration.masked import CANARIES, MASKED, NAMES, ROLES, RULES, SETUP, VALUES, VIEW, fill, opened
from tests.sealed import Sealed, sealed_database

LIST = ", ".join(NAMES)
YEAR = datetime.date(1987, 1, 1)
CLOSED = "secret, short, badge, age, score, code, raw, active"


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP, roles=ROLES) as made:
        for statement in VIEW:
            made.stored(statement)
        fill(made)
        yield made


@pytest.fixture
def analyst(sealed: Sealed) -> Iterator[psycopg.Connection[Any]]:
    with sealed.connect("analyst") as connection:
        connection.execute("SET app.tenant_id = 'a'")
        yield connection


def texts(row: tuple[Any, ...]) -> list[Any]:
    return [None if value is None else str(value) for value in row]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [None, True])
def test_masks_of_all_types_keep_the_logical_type(analyst, binary: bool, prepare: bool | None) -> None:
    """Text and binary, prepared or not: the masked value in the type of the column, NULL where there is none."""
    for _ in range(3):
        cursor = analyst.cursor(binary=binary)
        cursor.execute(f"SELECT {LIST} FROM people WHERE id = %s".encode(), [1], prepare=prepare)
        assert texts(cursor.fetchone()) == list(MASKED)
        plainly = {"text": 25, "varchar(19)": 1043, "date": 1082, "int4": 23, "uuid": 2950, "bool": 16}
        found = {column.name: column.type_code for column in cursor.description}
        assert [found[n] for n in ("name", "card", "born", "age", "code", "active")] == list(plainly.values())
        cursor.execute(f"SELECT {LIST} FROM people WHERE id = 0".encode(), prepare=prepare)
        assert set(cursor.fetchone()) == {None}


async def test_masks_in_asyncpg_are_values_of_the_type(sealed: Sealed) -> None:
    """Binary throughout, and the same statement again and again."""
    connection = await asyncpg.connect(sealed.dsn("analyst"), server_settings={"app.tenant_id": "a"})
    try:
        for _ in range(4):
            row = await connection.fetchrow(f"SELECT {LIST} FROM people WHERE id = $1", 1)
            assert texts(tuple(row)) == list(MASKED)
            assert row["born"] == YEAR
    finally:
        await connection.close()


def test_both_roles_at_once_see_each_their_own(sealed: Sealed, analyst) -> None:
    """Plans, descriptions and statements are shared between sessions, what is shown is not."""
    with sealed.connect() as app, sealed.connect("nobody_reads") as blind:
        statement = f"SELECT {LIST} FROM people WHERE id = %s".encode()
        blind.execute("SET app.tenant_id = 'a'")
        for _ in range(8):
            plain = app.execute(statement, [1], prepare=True).fetchone()
            assert texts(plain)[:7] == list(VALUES[:7])
            assert texts(analyst.execute(statement, [1], prepare=True).fetchone()) == list(MASKED)
            assert set(blind.execute(statement, [1], prepare=True).fetchone()) == {None}


def test_column_with_full_mask_is_never_opened(sealed: Sealed) -> None:
    """Not one cell is opened, no tenant is asked for, and no key."""
    with sealed.connect("analyst") as connection:
        before = opened(sealed)
        for _ in range(3):
            row = connection.execute(f"SELECT id, {CLOSED} FROM people WHERE id = 1".encode()).fetchone()
            assert row == (1, "***", "**", "[badge]", None, None, None, None, None)
        assert connection.execute("SELECT secret FROM people WHERE id = 1").fetchall() == [("***",)]
        assert opened(sealed) == before


def test_cells_under_a_mask_are_counted_where_they_are_opened(sealed: Sealed, analyst) -> None:
    """A partial mask opens; a full one beside it does not, and neither does NULL."""
    before = opened(sealed)
    assert analyst.execute("SELECT ssn, secret FROM people ORDER BY id").fetchall() == [
        (None, None),
        ("***6789", "***"),
    ]
    assert opened(sealed) == before + 1


@pytest.mark.parametrize("binary", [False, True])
def test_masks_in_runs_of_many_rows(sealed: Sealed, analyst, binary: bool) -> None:
    """Rows that are alike are opened together; each is masked."""
    fill(sealed, n=700)
    try:
        for column, shown in zip(NAMES, MASKED, strict=True):
            rows = analyst.execute(f"SELECT id, {column} FROM people WHERE id > 0".encode(), binary=binary)
            assert {texts(row[1:])[0] for row in rows} == {shown}
        with analyst.cursor("c") as cursor, analyst.transaction():
            cursor.execute("SELECT ssn FROM people WHERE id > 0")
            assert {row[0] for row in cursor.fetchmany(500)} == {"***6789"}
    finally:
        fill(sealed)


def test_masks_in_subqueries_views_and_unions(analyst) -> None:
    """Whatever carries a cell to the result shows it masked."""
    for statement in (
        "SELECT number FROM shown WHERE id = 1",
        "SELECT x FROM (SELECT ssn AS x FROM people WHERE id = 1) y",
        "WITH w AS (SELECT * FROM people) SELECT ssn FROM w WHERE id = 1",
        "SELECT COALESCE(ssn, ssn) FROM people WHERE id = 1",
        "SELECT CASE WHEN id = 1 THEN ssn END FROM people WHERE id = 1",
        "SELECT (SELECT ssn FROM people p WHERE p.id = q.id) FROM people q WHERE id = 1",
        "SELECT ssn FROM people WHERE id = 1 UNION ALL SELECT ssn FROM people WHERE id = -1",
    ):
        assert analyst.execute(statement.encode()).fetchall() == [("***6789",)], statement


def test_count_and_null_tests_are_as_for_all(analyst) -> None:
    """Whether there is a value is nothing that a mask hides."""
    assert analyst.execute("SELECT count(ssn), count(*) FROM people").fetchone() == (1, 2)
    assert analyst.execute("SELECT id FROM people WHERE secret IS NOT NULL").fetchall() == [(1,)]


def test_returning_shows_masks(analyst) -> None:
    """A write of plain columns may return what is protected, masked."""
    row = analyst.execute("UPDATE people SET note = 'm' WHERE id = 1 RETURNING note, ssn, secret, age").fetchone()
    assert row == ("m", "***6789", "***", None)
    row = analyst.execute("INSERT INTO people (id) VALUES (9) RETURNING id, ssn").fetchone()
    assert row == (9, None)
    assert analyst.execute("DELETE FROM people WHERE id = 9 RETURNING ssn").fetchall() == [(None,)]


def test_copy_to_stdout_shows_masks(analyst) -> None:
    """In every format, as a SELECT does."""
    for statement in (
        "COPY people (ssn, secret, age) TO STDOUT",
        "COPY (SELECT ssn, secret, age FROM people WHERE id = 1) TO STDOUT",
    ):
        with analyst.cursor().copy(statement.encode()) as copy:
            rows = [row for row in copy.rows() if row[0] is not None]
        assert rows == [("***6789", "***", None)]
    with analyst.cursor().copy(
        "COPY (SELECT name, born FROM people WHERE id = 1) TO STDOUT (FORMAT binary)"
    ) as copy:
        copy.set_types(["text", "date"])
        assert list(copy.rows()) == [("Ö***", YEAR)]


def test_sql_cursor_shows_masks(analyst) -> None:
    """DECLARE and FETCH, where they are there."""
    with analyst.transaction():
        analyst.execute("DECLARE c CURSOR FOR SELECT ssn, secret FROM people WHERE id = 1")
        assert analyst.execute("FETCH ALL FROM c").fetchall() == [("***6789", "***")]


NESTED = (
    ("SELECT array_agg(ssn) FROM people WHERE id = 1", ["***6789"]),
    ("SELECT array_agg(age) FROM people WHERE id = 1", [None]),
    ("SELECT json_agg(secret) FROM people WHERE id = 1", ["***"]),
    ("SELECT json_build_object('a', ssn, 'b', secret, 'c', age, 'd', born) FROM people WHERE id = 1",
     {"a": "***6789", "b": "***", "c": None, "d": "1987-01-01"}),
    ("SELECT row_to_json(x) FROM (SELECT ssn, age, badge FROM people WHERE id = 1) x",
     {"ssn": "***6789", "age": None, "badge": "[badge]"}),
)  # fmt: skip


def test_cells_within_arrays_and_json_are_masked(analyst) -> None:
    """As the same cells alone, in text and binary."""
    for statement, shown in NESTED:
        for binary in (False, True):
            assert analyst.execute(statement.encode(), binary=binary).fetchone() == (shown,), statement
    whole = analyst.execute("SELECT to_jsonb(people) FROM people WHERE id = 1").fetchone()
    assert not any(canary in str(whole) for canary in CANARIES)


def test_sql_prepare_shows_masks(analyst) -> None:
    """EXECUTE is what it executes; comparing is refused at PREPARE."""
    analyst.execute("PREPARE mine AS SELECT ssn, secret FROM people WHERE id = 1")
    assert analyst.execute("EXECUTE mine").fetchall() == [("***6789", "***")]
    with pytest.raises(psycopg.Error) as caught:
        analyst.execute("PREPARE compared(text) AS SELECT id FROM people WHERE ssn = $1")
    assert caught.value.sqlstate == "PS005"


ATTACKS = (
    "SELECT id FROM people WHERE ssn = '123-45-6789'",
    "SELECT id FROM people WHERE ssn IN ('123-45-6789', 'x')",
    "SELECT id FROM people WHERE ssn <> 'x'",
    "SELECT id FROM people WHERE badge = 'B-17'",
    "SELECT id FROM people WHERE lower(email) = lower('ann@example.org')",
    "SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM 'x'",
    "SELECT ssn = '123-45-6789' FROM people",
    "SELECT NULLIF(ssn, '123-45-6789') FROM people",
    "SELECT CASE ssn WHEN '123-45-6789' THEN 1 END FROM people",
    "SELECT a.id FROM people a JOIN people b ON a.ssn = b.ssn",
    "SELECT a.id FROM people a JOIN people b USING (badge)",
    "SELECT ssn, count(*) FROM people GROUP BY ssn",
    "SELECT badge, count(*) FROM people GROUP BY 1",
    "SELECT DISTINCT badge FROM people",
    "SELECT count(DISTINCT ssn) FROM people",
    "SELECT badge FROM people UNION SELECT badge FROM people",
    "SELECT id, row_number() OVER (PARTITION BY badge) FROM people",
    "SELECT id FROM shown WHERE number = '123-45-6789'",
    "SELECT id FROM people WHERE (id, ssn) = (1, '123-45-6789')",
    "SELECT id FROM people WHERE EXISTS (SELECT 1 FROM people p WHERE p.badge = people.badge AND p.id <> 1)",
    "UPDATE people SET note = 'hit' WHERE ssn = '123-45-6789'",
    "DELETE FROM people WHERE badge = 'B-17'",
    "UPDATE people SET ssn = 'x' WHERE id = 1",
    "UPDATE people SET ssn = NULL WHERE id = 1",
    "UPDATE people SET ssn = DEFAULT WHERE id = 1",
    "UPDATE people SET secret = secret",
    "INSERT INTO people (id, ssn) VALUES (7, 'x')",
    "INSERT INTO people (id, ssn) SELECT 7, ssn FROM people WHERE id = 1",
    "INSERT INTO people (id, note) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = 'x'",
    "COPY people (id, ssn) FROM STDIN",
)
REFUSED = (
    "SELECT id FROM people ORDER BY ssn",
    "SELECT min(ssn) FROM people",
    "SELECT length(ssn) FROM people",
    "SELECT id FROM people WHERE ssn LIKE '123%'",
    "SELECT ssn::text || '' FROM people",
    "SELECT string_agg(ssn, ',') FROM people",
    "SELECT people FROM people",
    "CREATE TABLE stolen AS SELECT * FROM people",
    "UPDATE people SET note = ssn",
    "INSERT INTO people (id, note) SELECT 7, ssn FROM people",
)


@pytest.mark.parametrize("login", ["analyst", "nobody_reads"])
def test_attack_on_masked_columns_by_what_is_equal_or_assigned_is_ps005(sealed: Sealed, login: str) -> None:
    """Each try is refused before the server hears of it, and the table stays as it was."""
    before = sealed.stored("TABLE people")
    with sealed.connect(login) as connection:
        connection.execute("SET app.tenant_id = 'a'")
        for statement in ATTACKS:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(statement.encode())
            assert caught.value.sqlstate == "PS005", (statement, str(caught.value))
    assert sealed.stored("TABLE people") == before


def test_attack_on_masked_columns_by_what_nobody_may_do_is_refused(sealed: Sealed, analyst) -> None:
    """What is refused to those who read is refused to those who do not."""
    for statement in REFUSED:
        with pytest.raises(psycopg.Error) as caught:
            analyst.execute(statement.encode())
        assert str(caught.value.sqlstate).startswith("PS"), statement
        assert not any(canary in str(caught.value) for canary in CANARIES)


def test_attack_on_masked_columns_by_set_role_changes_nothing(sealed: Sealed) -> None:
    """Rights follow the log-in that was proved."""
    with sealed.direct() as admin:
        admin.execute("GRANT app TO analyst")
    try:
        with sealed.connect("analyst") as connection:
            connection.execute("SET app.tenant_id = 'a'")
            connection.execute("SET ROLE app")
            assert connection.execute("SELECT ssn, secret FROM people WHERE id = 1").fetchone() == (
                "***6789",
                "***",
            )
    finally:
        with sealed.direct() as admin:
            admin.execute("REVOKE app FROM analyst")


def test_attack_on_masked_parameters_is_ps005(analyst) -> None:
    """The same over the extended protocol, with values in parameters."""
    for statement in ("SELECT id FROM people WHERE ssn = %s", "UPDATE people SET ssn = %s"):
        for binary in ("%s", "%b"):
            with pytest.raises(psycopg.Error) as caught:
                analyst.execute(statement.replace("%s", binary).encode(), ["123-45-6789"])
            assert caught.value.sqlstate == "PS005"


def test_cell_of_another_tenant_reads_as_its_mask_where_the_rule_says_so(sealed: Sealed) -> None:
    """It is not opened for that, whatever the mask would show; without the word it is an error."""
    with sealed.connect("stranger") as connection:
        connection.execute("SET app.tenant_id = 'b'")
        before = opened(sealed)
        for _ in range(3):
            rows = connection.execute("SELECT secret, card FROM people WHERE id = 1", prepare=True).fetchall()
            assert rows == [("***", "***")]
            assert connection.execute("SELECT secret FROM people WHERE id = 1", prepare=True).fetchall() == [
                ("***",)
            ]
        assert opened(sealed) == before
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT ssn FROM people WHERE id = 1")
        assert caught.value.sqlstate == "PS005"


def test_partial_mask_of_another_tenants_cell_is_refused(sealed: Sealed) -> None:
    """A mask opens what its log-in's tenant could read, and nothing else."""
    with sealed.connect("analyst") as connection:
        connection.execute("SET app.tenant_id = 'b'")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT ssn FROM people WHERE id = 1")
        assert caught.value.sqlstate == "PS005"
        assert connection.execute("SELECT card, secret FROM people WHERE id = 1").fetchone() == ("***", "***")
