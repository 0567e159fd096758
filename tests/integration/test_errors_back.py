"""Errors and notices of the server over protected tables: logical columns, and neither cell nor token in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.sealed import Sealed, sealed_database

RULES = """\
version: 1
tenant: {from: fixed, name: main}
tables:
  public.people:
    isolation: tenant-only
    columns:
      ssn:   {type: text, search: equality}
      email: {type: text, storage: text, search: equality}
      badge: {type: text, mode: deterministic, accept_leakage: "a test"}
      born:  {type: date}
roles: {default: {read: deny}, app: {read: plain}}
"""
SETUP = (
    "CREATE TABLE groups (id int PRIMARY KEY)",
    "CREATE TABLE people (id int PRIMARY KEY, clinic text, n int CHECK (n < 10), grp int REFERENCES groups,"
    " must text, ssn text NOT NULL, email text, badge text, born date)",
)
DIRECT = (
    "CREATE UNIQUE INDEX by_ssn ON people (clinic, (substring(ssn from 10 for 15)))",
    'CREATE UNIQUE INDEX by_email ON people ((substr(email,13,20) COLLATE "C"))',
    "CREATE UNIQUE INDEX by_badge ON people (badge)",
    "ALTER TABLE people ADD CONSTRAINT late UNIQUE (must) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE people ADD CONSTRAINT late_badge UNIQUE (badge, n) DEFERRABLE INITIALLY DEFERRED",
    """CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      CASE NEW.clinic
        WHEN 'notice' THEN RAISE NOTICE 'row %', NEW USING DETAIL = NEW.ssn, HINT = NEW.email;
        WHEN 'warning' THEN RAISE WARNING 'see %', encode(NEW.ssn, 'base64');
        WHEN 'kind notice' THEN RAISE NOTICE 'all is well';
        WHEN 'raise' THEN RAISE EXCEPTION 'bad %', NEW.ssn USING DETAIL = NEW.email;
        WHEN 'token' THEN RAISE EXCEPTION 'bad %', encode(substring(NEW.ssn from 10 for 15), 'hex');
        WHEN 'text token' THEN RAISE EXCEPTION 'bad %', substr(NEW.email, 13, 20);
        WHEN 'escape' THEN RAISE EXCEPTION 'bad %', encode(NEW.ssn, 'escape');
        WHEN 'kind raise' THEN RAISE EXCEPTION 'too many people in "%"', NEW.clinic;
        WHEN 'cast' THEN NEW.n := NEW.ssn::text::int;
        WHEN 'json' THEN NEW.must := NEW.email::json::text;
        WHEN 'utf8' THEN NEW.must := convert_from(NEW.ssn, 'UTF8');
        WHEN 'assert' THEN RAISE EXCEPTION 'x' USING ERRCODE = '23505', DETAIL = '(' || NEW.ssn::text || ')=(1)';
        WHEN 'plaintext' THEN NEW.ssn := 'plain'::bytea;
        ELSE NULL;
      END CASE;
      RETURN NEW;
    END $$""",
    "CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION tell()",
)
INSERT = "INSERT INTO people (id, clinic, ssn, email, badge, must) VALUES (%s, %s, %s, %s, %s, %s)"
CELL = re.compile(r"\\x[0-9a-f]{4}|a60b35|pgs1|canary|[0-9a-f]{24}|\\[0-7]{3}|0xa6", re.IGNORECASE)


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP) as made:
        for statement in DIRECT:
            made.stored(statement)
        with made.connect() as connection:
            connection.execute(INSERT.encode(), [1, "a", "canary-1", "canary-2", "canary-3", "m"])
        yield made


def said(error: psycopg.Error) -> dict[str, Any]:
    found = error.diag
    names = ("sqlstate", "message_primary", "message_detail", "message_hint", "context", "internal_query",
             "schema_name", "table_name", "column_name", "constraint_name", "statement_position")  # fmt: skip
    return {name: getattr(found, name) for name in names}


def failing(connection: psycopg.Connection[Any], statement: str, *values: Any) -> dict[str, Any]:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode(), values or None)
    found = said(caught.value)
    assert not CELL.search(str({**found, "constraint_name": None})), found
    return found


@pytest.mark.parametrize(
    ("values", "constraint", "detail"),
    [
        ((2, "a", "canary-1", "e", "b", None), "by_ssn", "Key (clinic, ssn) already exists."),
        ((2, "b", "s", "canary-2", "b", None), "by_email", "Key (email) already exists."),
        ((2, "b", "s", "e", "canary-3", None), "by_badge", "Key (badge) already exists."),
        ((1, "b", "s", "e", "b", None), "people_pkey", "Key (id)=(1) already exists."),
    ],
)
def test_unique_violation_names_the_logical_column(sealed, values, constraint: str, detail: str) -> None:
    """Of an index over a token as of one over cells; a key of plain columns is told as it is."""
    with sealed.connect() as connection, sealed.connect(cursor_factory=psycopg.ClientCursor) as simple:
        for each in (connection, simple):
            found = failing(each, INSERT, *values)
            assert (found["sqlstate"], found["constraint_name"], found["message_detail"]) == (
                "23505",
                constraint,
                detail,
            )
            assert (found["schema_name"], found["table_name"]) == ("public", "people")
            assert found["message_primary"] == f'duplicate key value violates unique constraint "{constraint}"'


async def test_unique_violation_in_asyncpg_is_its_own_exception(sealed: Sealed) -> None:
    """Binary parameters, and the fields that the exception has."""
    connection = await asyncpg.connect(sealed.dsn())
    try:
        with pytest.raises(asyncpg.UniqueViolationError) as caught:
            await connection.execute(
                "INSERT INTO people (id, clinic, ssn) VALUES ($1, $2, $3)", 2, "a", "canary-1"
            )
        assert caught.value.detail == "Key (clinic, ssn) already exists."
        assert (caught.value.table_name, caught.value.constraint_name) == ("people", "by_ssn")
    finally:
        await connection.close()


def test_not_null_check_and_foreign_key_keep_their_names_and_lose_the_row(sealed: Sealed) -> None:
    """23502, 23514 and 23503 as PostgreSQL says them, without the failing row."""
    with sealed.connect() as connection:
        found = failing(connection, "INSERT INTO people (id, email) VALUES (3, 'canary')")
        assert (found["sqlstate"], found["column_name"], found["message_detail"]) == ("23502", "ssn", None)
        assert '"ssn" of relation "people"' in found["message_primary"]
        found = failing(connection, "INSERT INTO people (id, n, ssn) VALUES (3, 99, 'canary')")
        assert (found["sqlstate"], found["constraint_name"]) == ("23514", "people_n_check")
        assert found["message_detail"] is None
        found = failing(connection, "INSERT INTO people (id, grp, ssn) VALUES (3, 77, 'canary')")
        assert found["message_detail"] == 'Key (grp)=(77) is not present in table "groups".'


def test_guard_that_takes_no_plaintext_names_the_column(sealed: Sealed) -> None:
    """Code in the database that overwrites a cell."""
    with sealed.connect() as connection:
        found = failing(connection, INSERT, 4, "plaintext", "s", "e", "b", None)
    assert found["sqlstate"] == "23514"
    assert found["message_primary"].startswith("the guard of public.people.ssn took no plaintext")
    assert found["constraint_name"].startswith("pgseal_")


@pytest.mark.parametrize(
    ("clinic", "sqlstate"),
    [("raise", "P0001"), ("token", "P0001"), ("text token", "P0001"), ("escape", "P0001"), ("cast", "22P02"),
     ("json", "22P02"), ("utf8", "22021"), ("assert", "23505")],
)  # fmt: skip
def test_error_that_quotes_a_cell_or_token_names_the_columns_instead(sealed, clinic: str, sqlstate: str) -> None:
    """Whatever code in the database does to a cell, its SQLSTATE stays and the cell does not show."""
    with sealed.connect() as connection:
        found = failing(connection, INSERT, 5, clinic, "canary-5", "canary-6", "canary-7", None)
    assert found["sqlstate"] == sqlstate
    if clinic not in ("assert", "json"):  # their messages quote nothing
        assert "public.people.ssn" in found["message_primary"]
    assert not (found["message_detail"] or found["message_hint"] or found["context"] or found["internal_query"])


def test_error_of_a_trigger_without_a_cell_stays(sealed: Sealed) -> None:
    """An application may read such words."""
    with sealed.connect() as connection:
        found = failing(connection, INSERT, 5, "kind raise", "s", "e", "b", None)
    assert found["message_primary"] == 'too many people in "kind raise"'


def test_notice_and_warning_hold_no_cell(sealed: Sealed) -> None:
    """Of triggers over rows with cells; what holds none is shown as it is."""
    with sealed.connect() as connection:
        heard: list[dict[str, Any]] = []
        names = ("severity", "message_primary", "message_detail", "message_hint", "context")
        connection.add_notice_handler(lambda found: heard.append({name: getattr(found, name) for name in names}))
        for number, clinic in enumerate(("notice", "warning", "kind notice")):
            connection.execute(
                INSERT.encode(), [10 + number, clinic, f"canary{number}", f"c{number}", f"d{number}", None]
            )
        connection.execute("DELETE FROM people WHERE id >= 10")
    assert [each["severity"] for each in heard] == ["NOTICE", "WARNING", "NOTICE"]
    assert not CELL.search(str(heard))
    assert heard[2]["message_primary"] == "all is well"


@pytest.mark.parametrize("ends", ["COMMIT", "SET CONSTRAINTS ALL IMMEDIATE"])
def test_deferred_constraint_fails_without_a_cell_where_no_statement_names_the_table(sealed, ends: str) -> None:
    """At COMMIT nothing says which statement it was."""
    with sealed.connect() as connection:
        for values in ((20, "x", "s20", "e20", "canary-20", "m"), (21, "x", "s21", "e21", "b21", "zz")):
            connection.execute("BEGIN")
            connection.execute(INSERT.encode(), values)
            if values[0] == 20:
                found = failing(connection, ends)
                assert found["message_detail"] == "Key (must)=(m) already exists."
            connection.execute("ROLLBACK")


def test_position_counts_in_the_clients_text(sealed: Sealed) -> None:
    """Literals in front of it have become other ones."""
    statement = "INSERT INTO people (id, ssn) VALUES (30, 'canary-ünï') RETURNING nope"
    with sealed.connect() as connection:
        found = failing(connection, statement)
    assert (found["sqlstate"], found["statement_position"]) == ("42703", str(statement.index("nope") + 1))


def test_error_of_a_plain_statement_is_the_servers_own(sealed: Sealed) -> None:
    """Byte for byte, values included."""
    with sealed.connect() as connection:
        connection.execute("INSERT INTO groups VALUES (1)")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("INSERT INTO groups VALUES (1)")
    assert caught.value.diag.message_detail == "Key (id)=(1) already exists."
