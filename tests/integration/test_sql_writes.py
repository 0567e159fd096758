"""Writes whose rows are of tenants, conflict over sealed columns, or hold what only the server knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.sealed import Sealed, sealed_database

RULES = """
version: 1
tables:
  public.stays:
    tenant: {from: column, name: hospital}
    columns:
      name: {type: text, search: equality}
      age:  {type: int4}
  public.mails:
    tenant: {from: column, name: hospital}
    columns:
      email: {type: text, search: {by: equality, compare: nocase, scope: table}}
  public.beds:
    tenant: {from: fixed, name: main}
    columns:
      badge: {type: text, mode: deterministic}
      code: {type: text, search: equality, storage: text}
      note: {type: text}
  public.times:
    tenant: {from: fixed, name: main}
    columns:
      at: {type: timestamptz}
      day: {type: date}
      key: {type: uuid}
      n: {type: int8}
      s: {type: text}
roles:
  default: {read: deny}
  app: {read: plain}
"""
SETUP = (
    "CREATE TABLE stays (id int PRIMARY KEY, hospital text NOT NULL, name text, age int)",
    "CREATE TABLE mails (id int PRIMARY KEY, hospital text, email text)",
    "CREATE TABLE beds (id int PRIMARY KEY, badge text, code text, note text)",
    "CREATE TABLE times (id int PRIMARY KEY, at timestamptz, day date, key uuid, n int8, s text,"
    " plain timestamptz)",
    "CREATE SEQUENCE numbers",
)
INDEXES = (
    "CREATE UNIQUE INDEX ON stays (hospital, (substring(name from 10 for 15)))",
    "CREATE UNIQUE INDEX ON mails ((substring(email from 10 for 15)))",
    "ALTER TABLE beds ADD CONSTRAINT beds_badge UNIQUE (badge)",
    'CREATE UNIQUE INDEX ON beds ((substr(code,13,20) COLLATE "C"))',
)
TABLES = "stays, mails, beds, times"


@pytest.fixture(scope="module")
def installed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP) as made:
        for statement in INDEXES:
            made.stored(statement)
        yield made


@pytest.fixture
def connection(installed) -> Iterator[psycopg.Connection[Any]]:
    installed.stored(f"TRUNCATE {TABLES}")
    with installed.connect() as made:
        made.execute("INSERT INTO stays VALUES (1, 'a', 'n1', 5), (2, 'b', 'n2', 6), (3, 'a', 'n3', 7)")
        made.execute("INSERT INTO beds (id, badge, code) VALUES (1, 'b1', 'c1')")
        made.execute("INSERT INTO mails (id, hospital, email) VALUES (1, 'a', 'X@y')")
        yield made


def rows(connection: psycopg.Connection[Any], statement: str, *values: Any) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement.encode(), values or None)
    return cursor.fetchall() if cursor.description else []


def refusal(connection: psycopg.Connection[Any], statement: str) -> str:
    """The SQLSTATE of a statement that must fail, after which the connection goes on."""
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    assert rows(connection, "SELECT 1") == [(1,)]
    return raised.value.sqlstate or ""


# --- tenants -----------------------------------------------------------------------------------------


def test_insert_of_several_tenants_returns_its_cells(connection) -> None:
    """RETURNING shows rows of the tenants that VALUES gives."""
    statement = "INSERT INTO stays VALUES (8, 'a', 'x', 1), (9, 'b', 'y', 2) RETURNING hospital, name, age"
    assert rows(connection, statement) == [("a", "x", 1), ("b", "y", 2)]


def test_update_that_moves_a_row_returns_it_under_its_new_tenant(connection) -> None:
    """The cells shown are of the assigned tenant, also where WHERE proves the old one."""
    statement = (
        "UPDATE stays SET hospital = {}, name = 'm', age = 1 WHERE id = 1 {} RETURNING hospital, name, age"
    )
    moved = rows(connection, statement.format("'b'", "AND hospital = 'a'"))
    assert moved == [("b", "m", 1)]
    assert rows(connection, statement.format("%s", ""), "a") == [("a", "m", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stays SET hospital = 'b' WHERE id = 1",
        "UPDATE stays SET hospital = 'b', name = 'x' WHERE id = 1",
        "INSERT INTO stays (id, hospital, name) SELECT id + 9, 'a', name FROM stays WHERE hospital = 'b'",
        "INSERT INTO stays (id, hospital, name) SELECT id + 9, 'a', name FROM stays",
        "INSERT INTO stays (id, hospital, name) VALUES (1, 'b', 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'",
        "INSERT INTO stays (id, hospital, name) VALUES (9, 'b', 'x') ON CONFLICT (name) DO NOTHING",
        "UPDATE stays s SET age = NULL FROM stays o WHERE o.hospital = 'b' AND s.id = 1 RETURNING s.name, o.name",
        "MERGE INTO stays t USING stays s ON t.id = s.id + 1 WHEN MATCHED THEN UPDATE SET name = s.name",
        "MERGE INTO stays t USING (SELECT * FROM stays WHERE hospital = 'b') s ON t.hospital = 'a' AND t.id = 1"
        " WHEN MATCHED THEN UPDATE SET name = s.name",
        "MERGE INTO stays t USING (SELECT * FROM stays WHERE hospital = 'b') s ON t.id = s.id + 9"
        " WHEN NOT MATCHED THEN INSERT (id, hospital, name) VALUES (s.id + 9, 'a', s.name)",
        "MERGE INTO stays t USING stays s ON t.id = s.id AND t.hospital = 'a' WHEN MATCHED THEN"
        " UPDATE SET hospital = 'b'",
        "INSERT INTO mails (id, hospital, email) VALUES (2, 'b', 'x@Y') ON CONFLICT (lower(email))"
        " DO UPDATE SET email = 'n'",
    ],
)
def test_write_that_could_mix_tenants_is_refused(connection, statement: str) -> None:
    """A cell never lands in a row of another tenant, and none is shown after the write has run."""
    before = rows(connection, "SELECT * FROM stays WHERE hospital = 'a' ORDER BY id")
    assert refusal(connection, statement) == "PS002"
    assert rows(connection, "SELECT * FROM stays WHERE hospital = 'a' ORDER BY id") == before


def test_merge_copies_within_one_tenant(connection) -> None:
    """The join condition proves that both rows are of one tenant."""
    statement = (
        "MERGE INTO stays t USING stays s ON t.id = s.id + 2 AND t.hospital = 'a' AND s.hospital = 'a'"
        " WHEN MATCHED THEN UPDATE SET name = s.name || '' WHEN NOT MATCHED THEN DO NOTHING"
    )
    assert refusal(connection, statement) == "PS001"
    connection.execute(statement.replace("s.name || ''", "NULL, age = s.age"))
    assert rows(connection, "SELECT age FROM stays WHERE hospital = 'a' AND id = 3") == [(5,)]


# --- conflicts ---------------------------------------------------------------------------------------


def test_conflict_over_a_token_and_the_tenant_updates_the_row_of_that_tenant(connection) -> None:
    """The unique index has the tenant column and the token; another tenant's equal value does not collide."""
    statement = (
        "INSERT INTO stays VALUES (%s, %s, 'n3', 8) ON CONFLICT (hospital, name) DO UPDATE"
        " SET age = EXCLUDED.age RETURNING id, name, age"
    )
    assert rows(connection, statement, 9, "a") == [(3, "n3", 8)]
    assert rows(connection, statement, 9, "b") == [(9, "n3", 8)]


def test_conflict_over_deterministic_cells_and_over_tokens_as_text(connection) -> None:
    """A deterministic column stands for itself, also by its constraint; a token has its own spelling."""
    insert = "INSERT INTO beds (id, badge, code) VALUES (2, %s, %s) ON CONFLICT "
    changed = rows(
        connection, insert + "(badge) DO UPDATE SET code = EXCLUDED.code RETURNING id, code", "b1", "c2"
    )
    assert changed == [(1, "c2")]
    changed = rows(connection, insert + "(code) DO UPDATE SET badge = EXCLUDED.badge RETURNING *", "b9", "c2")
    assert changed == [(1, "b9", "c2", None)]
    changed = rows(
        connection, insert + "ON CONSTRAINT beds_badge DO UPDATE SET note = 'x' RETURNING note", "b9", "c"
    )
    assert changed == [("x",)]


def test_conflict_without_regard_to_case_is_over_lower(connection) -> None:
    """Tokens of a nocase column are of the folded value, of all tenants."""
    connection.execute(
        "INSERT INTO mails (id, hospital, email) VALUES (2, 'b', 'x@Y') ON CONFLICT (lower(email)) DO NOTHING"
    )
    assert rows(connection, "SELECT count(*) FROM mails") == [(1,)]


@pytest.mark.parametrize(
    "target", ["(note)", '(code COLLATE "C")', "(upper(code))", "(code text_pattern_ops)", "(left(badge, 3))"]
)
def test_conflict_that_no_index_can_decide_is_refused(connection, target: str) -> None:
    """Randomised cells never collide, and an expression over a cell is not one over its value."""
    statement = f"INSERT INTO beds (id, badge, code) VALUES (2, 'b1', 'c1') ON CONFLICT {target} DO NOTHING"
    assert refusal(connection, statement) == "PS001"


# --- asked of the server -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_block", [False, True])
@pytest.mark.parametrize("values", [(), (1,)])
def test_now_is_that_of_the_transaction(installed, connection, is_block: bool, values: tuple[int, ...]) -> None:
    """In simple and extended protocol, outside a block too, the sealed value equals a plain column's."""
    mark = "%s" if values else "1"
    with installed.connect(autocommit=not is_block) as own:
        found = rows(
            own,
            f"INSERT INTO times (id, at, day, plain) VALUES ({mark}, now(), current_date, now())"
            " RETURNING at, day, plain, current_date",
            *values,
        )
        assert found[0][0] == found[0][2]
        assert found[0][1] == found[0][3]
        found = rows(
            own,
            f"UPDATE times SET at = CURRENT_TIMESTAMP, plain = now() WHERE id = {mark} RETURNING at, plain",
            *values,
        )
        assert found[0][0] == found[0][1]


def test_new_values_are_of_each_row(connection) -> None:
    """Each row of VALUES has a UUID and a number of its own; the table holds envelopes."""
    found = rows(
        connection,
        "INSERT INTO times (id, key, n, s) VALUES (1, gen_random_uuid(), nextval('numbers'), now()::text),"
        " (2, gen_random_uuid(), nextval('numbers'), current_date::text) RETURNING key, n, s",
    )
    assert found[0][0] != found[1][0]
    assert found[1][1] == found[0][1] + 1
    assert found[0][2].startswith(found[1][2])


@pytest.mark.parametrize("values", [(), (1,)])
def test_question_that_fails_fails_the_statement(connection, values: tuple[int, ...]) -> None:
    """With the server's own error; the connection stays in step, and a transaction is failed."""
    mark = "%s" if values else "1"
    statement = f"INSERT INTO times (id, n) VALUES ({mark}, nextval('nosuch'))"
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute(statement.encode(), values or None)
        assert rows(connection, "SELECT 1") == [(1,)]
    connection.execute("BEGIN")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute(statement.encode(), values or None)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.execute("ROLLBACK")


def test_questions_in_a_pipeline_are_answered_in_order(connection) -> None:
    """Each Bind waits for its own answer only."""
    with connection.pipeline(), connection.cursor() as cursor:
        for number in range(5):
            cursor.execute("INSERT INTO times (id, at, plain) VALUES (%s, now(), now())", (number,))
            cursor.execute("SELECT 1")
    assert rows(connection, "SELECT count(*) FROM times") == [(5,)]
    assert all(at == plain for at, plain in rows(connection, "SELECT at, plain FROM times"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE times SET key = gen_random_uuid()",
        "UPDATE times SET s = current_user",
        "INSERT INTO times (id, at) SELECT 1, now()",
        "INSERT INTO times (id, s) VALUES (1, random()::text)",
        "SELECT 1; INSERT INTO times (id, at) VALUES (1, now())",
        "EXPLAIN INSERT INTO times (id, at) VALUES (1, now())",
        "INSERT INTO times (id, at) VALUES (1, now() + interval '1 day')",
    ],
)
def test_value_that_cannot_be_asked_for_is_refused(connection, statement: str) -> None:
    """Nothing is stored."""
    assert refusal(connection, statement) == "PS001"
    assert rows(connection, "SELECT count(*) FROM times") == [(0,)]


def test_cells_written_are_envelopes(installed, connection) -> None:
    """What the server was asked for lies in the table as what it was sealed into."""
    connection.execute(
        "INSERT INTO times (id, at, key, n) VALUES (1, now(), gen_random_uuid(), nextval('numbers'))"
    )
    cells = installed.stored("SELECT at, key, n FROM times")[0]
    assert all(bytes(cell).startswith(b"\xa6\x0b\x35") for cell in cells)
