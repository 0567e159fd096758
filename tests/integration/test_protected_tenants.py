"""Tenants by setting, by column, by user and by database; the roles plain, deny and raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError

from tests.sealed import Sealed, sealed_database

RULES = """
version: 1
tenant: {from: setting, name: app.tenant_id, required: true}
tables:
  public.notes:
    columns:
      body: {type: text}
  public.beds:
    isolation: rls
    columns:
      patient: {type: text, search: equality}
  public.stays:
    tenant: {from: column, name: hospital}
    columns:
      name: {type: text, search: equality}
      age:  {type: int4}
  public.own:
    tenant: {from: user}
    columns:
      body: {type: text}
  public.all_of_it:
    tenant: {from: database}
    columns:
      body: {type: text}
roles:
  default: {read: deny}
  app:     {read: plain}
  north:   {read: plain, tenants: [north]}
  south:   {read: plain, tenants: [south]}
  auditor: {read: plain, cross_tenant: true}
  backup:  {read: raw, write: raw}
"""
ROLES = ("north", "south", "auditor", "backup", "nobody_knows")
TABLES = "notes, beds, stays, own, all_of_it"
SETUP = (
    "CREATE TABLE notes (id int, body text)",
    "CREATE TABLE beds (id int, tenant text DEFAULT current_setting('app.tenant_id', true), patient text)",
    "ALTER TABLE beds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY own_beds ON beds USING (tenant = current_setting('app.tenant_id', true))",
    "CREATE TABLE stays (id int, hospital text NOT NULL, name text, age int)",
    "CREATE TABLE own (id int, body text)",
    "CREATE TABLE all_of_it (id int, body text)",
    f"GRANT ALL ON {TABLES} TO {', '.join(ROLES)}",
)


@pytest.fixture(scope="module")
def installed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP, roles=ROLES) as made:
        yield made


@pytest.fixture
def sealed(installed) -> Sealed:
    installed.stored(f"TRUNCATE {TABLES}")
    return installed


def refusal(connection: psycopg.Connection[Any], statement: str, *values: Any) -> str:
    """The SQLSTATE of a statement that must fail."""
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode(), values or None)
    return raised.value.sqlstate or ""


def write_notes(sealed: Sealed) -> None:
    for number, tenant in enumerate(("north", "south")):
        with sealed.connect() as connection:
            connection.execute(f"SET app.tenant_id = '{tenant}'".encode())
            connection.execute("INSERT INTO notes VALUES (%s, %s)", (number, f"of the {tenant}"))


# --- a setting -----------------------------------------------------------------------------------------

Setting = Callable[[psycopg.Connection[Any], str], object]
WAYS: dict[str, Setting] = {
    "set": lambda c, t: c.execute(f"SET app.tenant_id = '{t}'".encode()),
    "set_to": lambda c, t: c.execute(f"SET SESSION App.Tenant_Id TO {t}".encode()),
    "set_local": lambda c, t: c.execute(f"SET LOCAL app.tenant_id = '{t}'".encode()),
    "set_config_literal": lambda c, t: c.execute(f"SELECT set_config('app.tenant_id', '{t}', false)".encode()),
    "set_config_parameter": lambda c, t: c.execute("SELECT set_config('app.tenant_id', %s, false)", (t,)),
    "set_config_all_parameters": lambda c, t: c.execute(
        "SELECT set_config('app.tenant_id', %s, %s)", (t, True), prepare=True
    ),
    "set_config_all_three": lambda c, t: c.execute("SELECT set_config(%s, %s, %b)", ("App.tenant_id", t, False)),
    "set_config_sqlalchemy": lambda c, t: c.execute(
        "SELECT set_config(%s::VARCHAR, %s::VARCHAR, %s::BOOLEAN) AS set_config_1", ("app.tenant_id", t, True)
    ),
    "set_config_binary": lambda c, t: c.execute("SELECT set_config('app.tenant_id', %b, true)", (t,)),
    "one_text": lambda c, t: c.execute(f"SET app.tenant_id = 'x'; SET app.tenant_id = '{t}'".encode()),
}


@pytest.mark.parametrize("way", WAYS)
def test_tenant_of_a_setting_is_known_however_it_is_set(sealed, way):
    """Cells are of the tenant that was set: its own session opens them, another's does not."""
    for number, tenant in enumerate(("north", "south")):
        with sealed.connect(autocommit=False) as connection:
            WAYS[way](connection, tenant)
            connection.execute("INSERT INTO notes VALUES (%s, %s)", (number, f"of the {tenant}"))
            found = connection.execute("SELECT body FROM notes WHERE id = %s", (number,)).fetchall()
            assert found == [(f"of the {tenant}",)]
    with sealed.connect(autocommit=False) as connection:
        WAYS[way](connection, "north")
        assert connection.execute("SELECT body FROM notes WHERE id = 0").fetchall() == [("of the north",)]
        assert refusal(connection, "SELECT body FROM notes WHERE id = 1") in ("PS004", "PS005")


@pytest.mark.parametrize(
    "options", ["-c app.tenant_id=north", "--app.tenant_id=north", r"-capp.tenant_id=nor\th"]
)
def test_tenant_of_a_setting_comes_with_the_startup_options(sealed, options):
    """options of the connection string, with PostgreSQL's backslashes."""
    with sealed.connect(options=options) as connection:
        connection.execute("INSERT INTO notes VALUES (1, 'mine')")
        assert connection.execute("SELECT body FROM notes").fetchall() == [("mine",)]
    with sealed.connect() as connection:
        connection.execute("SET app.tenant_id = 'north'")
        assert connection.execute("SELECT body FROM notes").fetchall() == [("mine",)]


async def test_tenant_of_a_setting_comes_as_a_startup_parameter(sealed):
    """server_settings of asyncpg; its RESET ALL on release brings that tenant back."""
    connection = await asyncpg.connect(
        f"{sealed.dsn()}?sslmode=disable", server_settings={"app.tenant_id": "north"}
    )
    await connection.execute("INSERT INTO notes VALUES (1, $1)", "mine")
    await connection.execute("SET app.tenant_id = 'south'")
    with pytest.raises(asyncpg.PostgresError):
        await connection.fetch("SELECT body FROM notes")
    await connection.reset()
    assert await connection.fetchval("SELECT body FROM notes") == "mine"
    await connection.close()


def test_tenant_unset_refuses_to_write_and_to_read(sealed):
    """PS002, and nothing is stored."""
    write_notes(sealed)
    with sealed.connect() as connection:
        assert refusal(connection, "INSERT INTO notes VALUES (3, 'whose')") == "PS002"
        assert refusal(connection, "SELECT body FROM notes") == "PS002"
        assert connection.execute("SELECT count(body) FROM notes").fetchall() == [(2,)]
        assert connection.execute("INSERT INTO notes (id) VALUES (3) RETURNING id").fetchall() == [(3,)]


UNDONE = {
    "reset": "RESET app.tenant_id",
    "reset_all": "RESET ALL",
    "discard": "DISCARD ALL",
    "to_default": "SET app.tenant_id TO DEFAULT",
}


@pytest.mark.parametrize("way", UNDONE)
def test_tenant_is_forgotten_when_the_setting_is(sealed, way):
    """RESET in all its forms."""
    with sealed.connect() as connection:
        connection.execute("SET app.tenant_id = 'north'")
        connection.execute("INSERT INTO notes VALUES (1, 'a')")
        connection.execute(UNDONE[way].encode())
        assert refusal(connection, "INSERT INTO notes VALUES (2, 'b')") == "PS002"


def test_tenant_follows_transactions_and_savepoints(sealed):
    """SET LOCAL ends with its transaction, SET is undone by ROLLBACK and ROLLBACK TO."""
    with sealed.connect() as connection:
        connection.execute("SET app.tenant_id = 'north'")
        with connection.transaction():
            connection.execute("SET LOCAL app.tenant_id = 'south'")
            connection.execute("INSERT INTO notes VALUES (1, 'of the south')")
        connection.execute("INSERT INTO notes VALUES (2, 'of the north')")
        with connection.transaction(force_rollback=True):
            connection.execute("SET app.tenant_id = 'south'")
            assert connection.execute("SELECT body FROM notes WHERE id = 1").fetchall() == [("of the south",)]
        assert connection.execute("SELECT body FROM notes WHERE id = 2").fetchall() == [("of the north",)]
        with connection.transaction():
            connection.execute("SAVEPOINT a")
            connection.execute("SELECT set_config('app.tenant_id', %s, false)", ("south",))
            connection.execute("ROLLBACK TO a")
            connection.execute("INSERT INTO notes VALUES (3, 'of the north too')")
        found = connection.execute("SELECT body FROM notes WHERE id > 1 ORDER BY id").fetchall()
        assert found == [("of the north",), ("of the north too",)]
        assert refusal(connection, "SELECT body FROM notes WHERE id = 1") in ("PS004", "PS005")


def test_tenant_set_in_a_pipeline_holds_for_what_follows(sealed):
    """The use waits for the answer to the SET, without a Sync between; a failed SET changes nothing."""
    with sealed.connect() as connection:
        connection.execute("SET app.tenant_id = 'south'")
        with connection.pipeline():
            connection.execute("SELECT set_config('app.tenant_id', %s, false)", ("north",))
            connection.execute("INSERT INTO notes VALUES (1, %s)", ("of the north",))
            connection.execute("SET app.tenant_id = 'south'")
            connection.execute("INSERT INTO notes VALUES (2, %s)", ("of the south",))
        with pytest.raises(psycopg.Error), connection.pipeline():
            connection.execute("SELECT set_config('app.tenant_id', %s, %s)", ("north", False))
            connection.execute("SELECT 1/0")
        assert connection.execute("SELECT body FROM notes WHERE id = 2").fetchall() == [("of the south",)]
    with sealed.connect(options="-c app.tenant_id=north") as connection:
        assert connection.execute("SELECT body FROM notes WHERE id = 1").fetchall() == [("of the north",)]


def test_tenant_set_within_one_text_holds_from_its_place_on(sealed):
    """A simple Query of several statements, each under the tenant of its place."""
    with sealed.connect() as connection:
        connection.execute(
            "SET app.tenant_id = 'north'; INSERT INTO notes VALUES (1, 'n');"
            " SELECT set_config('app.tenant_id', 'south', false); INSERT INTO notes VALUES (2, 's')"
        )
        assert connection.execute("SELECT body FROM notes WHERE id = 2").fetchall() == [("s",)]
        connection.execute("SET app.tenant_id = 'north'")
        assert connection.execute("SELECT body FROM notes WHERE id = 1").fetchall() == [("n",)]


def test_tenant_that_only_the_server_knows_is_not_believed(sealed):
    """ALTER ROLE .. SET and a function's SET are the administrator's word."""
    sealed.stored("ALTER ROLE north SET app.tenant_id = 'north'")
    try:
        with sealed.connect("north") as connection:
            assert connection.execute("SHOW app.tenant_id").fetchall() == [("north",)]
            assert refusal(connection, "INSERT INTO notes VALUES (1, 'a')") == "PS002"
    finally:
        sealed.stored("ALTER ROLE north RESET app.tenant_id")


def test_tenant_set_by_an_orm_holds_for_its_transaction(sealed):
    """SQLAlchemy's func.set_config sends every argument as a parameter."""
    engine = create_engine(sealed.dsn().replace("postgresql:", "postgresql+psycopg:"))
    for tenant in ("north", "south"):
        with engine.begin() as connection:
            connection.execute(select(func.set_config("app.tenant_id", tenant, True)))
            connection.execute(text("INSERT INTO beds (id, patient) VALUES (1, :name)"), {"name": f"in {tenant}"})
    with engine.begin() as connection:
        connection.execute(select(func.set_config("app.tenant_id", "south", True)))
        assert connection.execute(text("SELECT patient FROM beds")).all() == [("in south",)]
    with engine.begin() as connection, pytest.raises(DBAPIError) as raised:
        connection.execute(text("INSERT INTO beds (id, patient) VALUES (2, 'whose')"))
    assert raised.value.orig.sqlstate == "PS002"
    engine.dispose()


def test_tenant_of_a_setting_with_row_security_may_compare(sealed):
    """A table declared isolation: rls: equality needs no conjunct; other tenants' rows do not exist."""
    for tenant in ("north", "south"):
        with sealed.connect() as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, false)", (tenant,))
            connection.execute("INSERT INTO beds (id, patient) VALUES (1, 'Ada'), (2, %s)", (f"only {tenant}",))
            assert connection.execute("SELECT id FROM beds WHERE patient = %s", ("Ada",)).fetchall() == [(1,)]
            changed = connection.execute("UPDATE beds SET patient = %s WHERE patient = 'Ada'", ("Eve",))
            assert changed.rowcount == 1
            found = connection.execute("SELECT patient FROM beds ORDER BY id").fetchall()
            assert found == [("Eve",), (f"only {tenant}",)]
    tokens = sealed.stored("SELECT count(DISTINCT substring(patient from 10 for 15)) FROM beds WHERE id = 1")
    assert tokens == [(2,)]


# --- a column ------------------------------------------------------------------------------------------


def admit(sealed: Sealed) -> None:
    with sealed.connect() as connection:
        rows = [(1, "north", "Ada", 36), (2, "north", "Grace", None), (3, "south", "Ada", 41)]
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO stays (id, hospital, name, age) VALUES (%s, %s, %s, %s)", rows)
        connection.execute("INSERT INTO stays VALUES (4, 'south', 'Alan', 5), (5, 'north', 'Alan', 6)")


def test_tenant_of_a_column_is_the_rows_own(sealed):
    """Rows of several tenants in one statement; each opens under its own tenant alone."""
    admit(sealed)
    with sealed.connect() as connection:
        for tenant, names in (("north", ["Ada", "Grace", "Alan"]), ("south", ["Ada", "Alan"])):
            found = connection.execute(
                "SELECT name FROM stays WHERE hospital = %s ORDER BY id", (tenant,)
            ).fetchall()
            assert found == [(name,) for name in names]
            equal = connection.execute("SELECT id FROM stays WHERE hospital = %s AND name = 'Ada'", (tenant,))
            assert len(equal.fetchall()) == 1
        assert refusal(connection, "SELECT name FROM stays") == "PS002"
        assert refusal(connection, "SELECT id FROM stays WHERE name = 'Ada'") == "PS002"
        assert refusal(connection, "INSERT INTO stays (id, name) VALUES (9, 'x')") == "PS002"
        assert refusal(connection, "UPDATE stays SET name = 'x' WHERE id = 1") == "PS002"
        assert refusal(connection, "UPDATE stays SET hospital = 'south' WHERE id = 1") == "PS002"
        assert connection.execute("SELECT count(*) FROM stays WHERE name IS NULL").fetchall() == [(0,)]
    tokens = sealed.stored("SELECT count(DISTINCT substring(name from 10 for 15)) FROM stays WHERE id IN (1, 3)")
    assert tokens == [(2,)]


def test_tenant_of_a_column_may_change_with_all_its_cells(sealed):
    """Moving a row to another tenant gives every cell anew; half of it is refused."""
    admit(sealed)
    with sealed.connect() as connection:
        half = "UPDATE stays SET hospital = 'south', name = 'Ada' WHERE hospital = 'north' AND id = 1"
        assert refusal(connection, half) == "PS002"
        moved = connection.execute(
            "UPDATE stays SET hospital = %s, name = %s, age = %s WHERE id = %s", ("south", "Ada L.", 37, 1)
        )
        assert moved.rowcount == 1
        found = connection.execute("SELECT name, age FROM stays WHERE hospital = 'south' AND id = 1").fetchall()
        assert found == [("Ada L.", 37)]


def test_tenant_cells_moved_by_an_administrator_do_not_open(sealed):
    """A cell of one hospital in a row of the other: PS004 or PS005, never a value."""
    admit(sealed)
    sealed.stored("UPDATE stays SET name = (SELECT name FROM stays WHERE id = 1) WHERE id = 4")
    with sealed.connect() as connection:
        query = "SELECT name FROM stays WHERE hospital = 'south' ORDER BY id"
        assert refusal(connection, query) in ("PS004", "PS005")
        assert connection.execute("SELECT age FROM stays WHERE hospital = 'south' AND id = 4").fetchall() == [
            (5,)
        ]


def test_role_with_tenants_is_kept_to_them(sealed):
    """roles.<login>.tenants: neither reading nor writing nor comparing goes beyond the list."""
    admit(sealed)
    with sealed.connect("north") as connection:
        assert connection.execute("SELECT name FROM stays WHERE hospital = 'north' AND id = 1").fetchall() == [
            ("Ada",)
        ]
        assert refusal(connection, "SELECT name FROM stays WHERE hospital = 'south'") in ("PS004", "PS005")
        assert refusal(connection, "SELECT name FROM stays ORDER BY id") in ("PS002", "PS004", "PS005")
        assert refusal(connection, "INSERT INTO stays VALUES (9, 'south', 'x', 1)") == "PS005"
        assert refusal(connection, "UPDATE stays SET age = 1 WHERE hospital = 'south'") == "PS005"
        assert refusal(connection, "SELECT id FROM stays WHERE hospital = 'south' AND name = 'Ada'") == "PS005"
        connection.execute("SET app.tenant_id = 'south'")
        assert refusal(connection, "INSERT INTO notes VALUES (1, 'x')") == "PS005"
        connection.execute("SET app.tenant_id = 'north'")
        connection.execute("INSERT INTO notes VALUES (1, 'x')")


def test_role_across_tenants_reads_all_and_compares_within_one(sealed):
    """cross_tenant: true."""
    admit(sealed)
    write_notes(sealed)
    with sealed.connect("auditor") as connection:
        names = connection.execute("SELECT name FROM stays ORDER BY id").fetchall()
        assert names == [("Ada",), ("Grace",), ("Ada",), ("Alan",), ("Alan",)]
        assert refusal(connection, "SELECT count(DISTINCT name) FROM stays") == "PS002"
        bodies = connection.execute("SELECT body FROM notes ORDER BY id").fetchall()
        assert bodies == [("of the north",), ("of the south",)]


# --- user, database ------------------------------------------------------------------------------------


def test_tenant_of_the_user_is_the_log_in(sealed):
    """Each log-in opens its own cells; another's do not open, whatever SET ROLE says."""
    logins = ("app", "north", "south")
    for number, login in enumerate(logins):
        with sealed.connect(login) as connection:
            connection.execute("INSERT INTO own VALUES (%s, %s)", (number, f"of {login}"))
    sealed.stored("GRANT south TO north")
    for number, login in enumerate(logins):
        with sealed.connect(login) as connection:
            if login == "north":
                connection.execute("SET ROLE south")
            found = connection.execute("SELECT body FROM own WHERE id = %s", (number,)).fetchall()
            assert found == [(f"of {login}",)]
            assert refusal(connection, "SELECT body FROM own") in ("PS004", "PS005")
    with sealed.connect("auditor") as connection:
        found = connection.execute("SELECT body FROM own ORDER BY id").fetchall()
        assert found == [(f"of {login}",) for login in logins]


def test_tenant_of_the_database_is_one_for_all(sealed):
    """Log-ins share it, unless their list of tenants leaves it out."""
    with sealed.connect() as connection:
        connection.execute("INSERT INTO all_of_it VALUES (1, 'shared')")
    with sealed.connect("auditor") as connection:
        assert connection.execute("SELECT body FROM all_of_it").fetchall() == [("shared",)]
    with sealed.connect("north") as connection:
        assert refusal(connection, "SELECT body FROM all_of_it") in ("PS004", "PS005")


# --- roles ---------------------------------------------------------------------------------------------

DENIED = (
    "SELECT name FROM stays WHERE hospital = 'north'",
    "SELECT * FROM stays",
    "SELECT s.* FROM stays AS s WHERE false",
    "INSERT INTO stays VALUES (9, 'north', 'x', 1)",
    "UPDATE stays SET age = 3 WHERE hospital = 'north'",
    "SELECT id FROM stays WHERE hospital = 'north' AND name = 'Ada'",
    "DELETE FROM stays WHERE hospital = 'north' AND name = 'Ada'",
    "UPDATE stays SET id = 7 WHERE hospital = 'north' RETURNING name",
)


def test_role_deny_sees_counts_and_plain_columns_only(sealed):
    """A log-in without a role of its own: PS005, and what needs no value works."""
    admit(sealed)
    with sealed.connect("nobody_knows") as connection:
        for statement in DENIED:
            assert refusal(connection, statement) == "PS005", statement
        assert connection.execute("SELECT id, hospital FROM stays ORDER BY id LIMIT 1").fetchall() == [
            (1, "north")
        ]
        assert connection.execute("SELECT count(*), count(age) FROM stays").fetchall() == [(5, 4)]
        assert connection.execute("SELECT id FROM stays WHERE age IS NULL").fetchall() == [(2,)]
        assert connection.execute("DELETE FROM stays WHERE id = 5").rowcount == 1


def test_role_is_the_log_ins_and_not_set_role(sealed):
    """SET ROLE and SET SESSION AUTHORIZATION change what the server allows, never what pgseal opens."""
    admit(sealed)
    sealed.stored(sql.SQL("GRANT app TO nobody_knows").as_string())
    with sealed.connect("nobody_knows") as connection:
        connection.execute("SET ROLE app")
        assert refusal(connection, "SELECT name FROM stays WHERE hospital = 'north'") == "PS005"


def test_role_raw_sees_and_restores_cells_as_they_are(sealed):
    """A backup: bytea out, the same bytea in; plaintext is stopped by the guard."""
    admit(sealed)
    with sealed.connect("backup") as connection:
        rows = connection.execute("SELECT id, hospital, name, age FROM stays ORDER BY id").fetchall()
        assert rows == sealed.stored("SELECT id, hospital, name, age FROM stays ORDER BY id")
        connection.execute("DELETE FROM stays")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO stays VALUES (%s, %s, %s, %s)", rows)
        assert refusal(connection, "INSERT INTO stays VALUES (9, 'north', 'plain as day', NULL)") == "23514"
    with sealed.connect() as connection:
        found = connection.execute("SELECT name, age FROM stays WHERE hospital = 'south' ORDER BY id").fetchall()
        assert found == [("Ada", 41), ("Alan", 5)]
