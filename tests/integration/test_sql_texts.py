"""Several statements at once, transactions, pipelines, tenants and rights over protected tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import generators, pq

from proxy.embedded import EmbeddedPostgres
from tests.sealed import Sealed, sealed_database

RULES = """
version: 1
roles:
  default: {read: deny}
  app: {read: plain, cross_tenant: true}
  teller: {read: plain}
  north: {read: plain, tenants: [north]}
  backup: {read: raw, write: raw}
tables:
  public.people:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text, search: equality}
  public.patients:
    tenant: {from: column, name: org}
    columns:
      ssn: {type: text, search: equality}
      note: {type: text}
  public.memos:
    tenant: {from: setting, name: app.tenant}
    isolation: tenant-only
    columns:
      body: {type: text, search: equality}
"""
SETUP = (
    "CREATE TABLE people (id int PRIMARY KEY, ssn text, n int)",
    "CREATE TABLE patients (id int PRIMARY KEY, org text NOT NULL, ssn text, note text)",
    "CREATE TABLE memos (id int PRIMARY KEY, body text)",
    "CREATE TABLE plain (id int, note text)",
    "GRANT ALL ON people, patients, memos, plain TO PUBLIC",
)


@pytest.fixture(scope="module")
def installed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    """Tables of each source of a tenant."""
    with sealed_database(postgres, RULES, SETUP, ["teller", "north", "backup", "clerk"]) as running:
        yield running


@pytest.fixture
def sealed(installed: Sealed) -> Sealed:
    """With two rows in each table."""
    with installed.direct() as admin:
        admin.execute("TRUNCATE people, patients, memos, plain")
    with installed.connect() as connection:
        connection.execute("INSERT INTO people VALUES (1, 'one', 1), (2, 'two', 2)")
        connection.execute("INSERT INTO patients VALUES (1, 'north', 's1', 'n1'), (2, 'south', 's1', 'n2')")
        connection.execute("SET app.tenant = 'north'")
        connection.execute("INSERT INTO memos VALUES (1, 'mine')")
    return installed


def _texts(connection: psycopg.Connection[Any], text: str) -> list[tuple[str, list[Any]]]:
    """(tag, rows) of each statement of one simple Query; the last one may be (SQLSTATE, [])."""
    connection.pgconn.send_query(text.encode())
    found: list[tuple[str, list[Any]]] = []
    for result in connection.wait(generators.execute(connection.pgconn)):
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            found.append(((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode(), []))
            continue
        rows = [tuple(result.get_value(row, i) for i in range(result.nfields)) for row in range(result.ntuples)]
        found.append(((result.command_status or b"").decode(), rows))
    return found


def _sqlstate(connection: psycopg.Connection[Any], text: str, *values: Any) -> str:
    with pytest.raises(psycopg.Error) as error:
        connection.execute(text.encode(), values or None)
    return error.value.sqlstate or ""


# --- several statements ------------------------------------------------------------------------------------


def test_several_statements_of_one_query_are_each_sealed_and_opened(sealed: Sealed) -> None:
    """Plain and protected ones mixed, in one implicit transaction."""
    with sealed.connect() as connection:
        found = _texts(
            connection,
            "INSERT INTO people VALUES (3, 'three', 3) RETURNING ssn; SELECT 1;"
            " INSERT INTO plain VALUES (1, 'p'); SELECT id FROM people WHERE ssn = 'three';"
            " UPDATE people SET ssn = 'drei' WHERE ssn = 'three';"
            " SELECT ssn FROM people ORDER BY id; TABLE plain",
        )
    assert found == [
        ("INSERT 0 1", [(b"three",)]),
        ("SELECT 1", [(b"1",)]),
        ("INSERT 0 1", []),
        ("SELECT 1", [(b"3",)]),
        ("UPDATE 1", []),
        ("SELECT 3", [(b"one",), (b"two",), (b"drei",)]),
        ("SELECT 1", [(b"1", b"p")]),
    ]


def test_refused_part_refuses_the_whole_query(sealed: Sealed) -> None:
    """Nothing before it has run."""
    with sealed.connect() as connection:
        text = "INSERT INTO people VALUES (3, 'x', 1); SELECT upper(ssn) FROM people; SELECT 1"
        assert _texts(connection, text) == [("PS001", [])]
        assert _texts(connection, "SELECT count(*) FROM people") == [("SELECT 1", [(b"2",)])]


def test_error_of_the_server_in_the_middle_undoes_the_query(sealed: Sealed) -> None:
    """As PostgreSQL does it; the answers before it came through."""
    with sealed.connect() as connection:
        text = "INSERT INTO people VALUES (3, 'x', 1) RETURNING ssn; SELECT 1/0; SELECT ssn FROM people"
        assert _texts(connection, text) == [("INSERT 0 1", [(b"x",)]), ("22012", [])]
        assert _texts(connection, "SELECT count(*) FROM people") == [("SELECT 1", [(b"2",)])]


def test_setting_within_a_query_counts_for_what_follows_in_it(sealed: Sealed) -> None:
    """SET LOCAL of a constant; behind the end of a transaction a protected statement is refused instead."""
    with sealed.connect() as connection:
        text = "BEGIN; SET LOCAL app.tenant = 'south'; INSERT INTO memos VALUES (2, 'theirs'); COMMIT"
        assert [tag for tag, _ in _texts(connection, text)] == ["BEGIN", "SET", "INSERT 0 1", "COMMIT"]
        assert _texts(connection, "COMMIT; SELECT body FROM memos") == [("PS001", [])]
    with sealed.connect("teller") as connection:
        connection.execute("SET app.tenant = 'south'")
        assert connection.execute("SELECT body FROM memos WHERE id = 2").fetchall() == [("theirs",)]


# --- transactions ------------------------------------------------------------------------------------------


def test_refusal_fails_the_transaction_until_its_savepoint(sealed: Sealed) -> None:
    """ROLLBACK TO brings it back, as after an error of the server."""
    with sealed.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO people VALUES (3, %s, 3)", ("three",))
        connection.execute("SAVEPOINT s")
        assert _sqlstate(connection, "SELECT upper(ssn) FROM people WHERE id = %s", 1) == "PS001"
        assert _sqlstate(connection, "SELECT ssn FROM people") == "25P02"
        connection.execute("ROLLBACK TO s")
        assert connection.execute("SELECT ssn FROM people WHERE id = 3").fetchall() == [("three",)]
        connection.execute("COMMIT")
    assert len(sealed.query("SELECT ssn FROM people")) == 3


def test_pipeline_with_a_refusal_goes_on_behind_its_sync(sealed: Sealed) -> None:
    """Everything up to the Sync is skipped; what follows it runs."""
    with sealed.connect() as connection:
        with pytest.raises(psycopg.Error) as error, connection.pipeline():
            first = connection.execute("SELECT ssn FROM people WHERE ssn = %s", ("one",))
            assert first.fetchall() == [("one",)]
            connection.execute("SELECT length(ssn) FROM people WHERE id = %s", (1,))
            connection.execute("INSERT INTO people (id, ssn) VALUES (%s, %s)", (9, "skipped"))
        assert error.value.sqlstate == "PS001"
        with connection.pipeline():
            last = connection.execute("SELECT id FROM people WHERE ssn = ANY(%s)", (["two", "skipped"],))
            assert last.fetchall() == [(2,)]


def test_pipeline_of_writes_and_reads_answers_in_order(sealed: Sealed) -> None:
    """A hundred at once, each reading what the one before wrote."""
    with sealed.connect() as connection, connection.pipeline():
        cursors = []
        for number in range(100):
            connection.execute("UPDATE people SET ssn = %s WHERE id = 1", (f"v{number}",))
            cursors.append(connection.execute("SELECT id, ssn FROM people WHERE ssn = %s", (f"v{number}",)))
        assert [cursor.fetchall() for cursor in cursors] == [[(1, f"v{number}")] for number in range(100)]


def test_executemany_seals_each_row_anew(sealed: Sealed) -> None:
    """Equal values give cells that differ."""
    with sealed.connect() as connection:
        rows = [(number, "same") for number in range(10, 40)]
        connection.cursor().executemany("INSERT INTO people (id, ssn) VALUES (%s, %s)", rows)
        assert len(connection.execute("SELECT id FROM people WHERE ssn = 'same'").fetchall()) == 30
    cells = {bytes(cell) for (cell,) in sealed.stored("SELECT ssn FROM people WHERE id >= 10")}
    assert len(cells) == 30


# --- tenants -----------------------------------------------------------------------------------------------


def test_tenant_column_decides_whose_cell_it_is(sealed: Sealed) -> None:
    """Rows of two tenants in one INSERT; equality only inside one of them."""
    with sealed.connect() as connection:
        connection.execute("INSERT INTO patients VALUES (3, %s, %s, 'x'), (4, %s, %s, 'y')", ("a", "s", "b", "s"))
        found = connection.execute("SELECT id FROM patients WHERE org = %s AND ssn = %s", ("a", "s")).fetchall()
        assert found == [(3,)]
        assert _sqlstate(connection, "SELECT id FROM patients WHERE ssn = %s", "s") == "PS002"
        assert _sqlstate(connection, "INSERT INTO patients (id, ssn) VALUES (5, %s)", "s") == "PS002"
        assert (
            _sqlstate(connection, "INSERT INTO patients (id, org, ssn) SELECT 5, note, 'x' FROM plain") == "PS002"
        )
        assert _sqlstate(connection, "UPDATE patients SET org = 'b' WHERE id = 3") == "PS002"
        assert _sqlstate(connection, "UPDATE patients SET ssn = 'z' WHERE id = 3") == "PS002"
        connection.execute("UPDATE patients SET ssn = 'z' WHERE id = 3 AND org = 'a'")
        moved = (
            "UPDATE patients SET org = 'b', ssn = 'm', note = 'm' WHERE id = 3 AND org = 'a' RETURNING org, ssn"
        )
        assert connection.execute(moved).fetchall() == [("b", "m")]
        assert connection.execute("SELECT id FROM patients WHERE org = 'b' AND ssn = 'm'").fetchall() == [(3,)]


def test_cell_of_another_tenant_does_not_open(sealed: Sealed) -> None:
    """For a log-in of one tenant: PS005, and neither may it write there."""
    with sealed.connect("north") as connection:
        assert connection.execute("SELECT ssn FROM patients WHERE org = 'north'").fetchall() == [("s1",)]
        assert _sqlstate(connection, "SELECT ssn FROM patients WHERE org = 'south'") == "PS005"
        assert _sqlstate(connection, "INSERT INTO patients VALUES (9, 'south', 'x', 'y')") == "PS005"
        assert connection.execute("SELECT org FROM patients ORDER BY id").fetchall() == [("north",), ("south",)]


def test_cell_moved_elsewhere_does_not_open(sealed: Sealed) -> None:
    """To a row of another tenant, for a log-in of one tenant, or to another column."""
    with sealed.direct() as admin:
        admin.execute("UPDATE patients SET ssn = (SELECT ssn FROM patients WHERE id = 2) WHERE id = 1")
        admin.execute("UPDATE people SET ssn = (SELECT ssn FROM patients WHERE id = 1) WHERE id = 1")
    with sealed.connect("north") as connection:
        assert _sqlstate(connection, "SELECT ssn FROM patients WHERE org = 'north'") in ("PS004", "PS005")
    with sealed.connect() as connection:
        assert _sqlstate(connection, "SELECT ssn FROM people") == "PS004"
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("is_simple", [True, False])
def test_setting_is_the_tenant_from_its_completion_on(sealed: Sealed, is_simple: bool) -> None:
    """SET, SET LOCAL, set_config, RESET and ROLLBACK are followed; without a tenant it is PS002."""
    with sealed.connect("teller") as connection:
        cursor = (psycopg.ClientCursor if is_simple else psycopg.Cursor)(connection)

        def body() -> Any:
            cursor.execute("SELECT body FROM memos WHERE id = %s", (1,))
            return cursor.fetchall()

        with pytest.raises(psycopg.Error) as error:
            body()
        assert error.value.sqlstate == "PS002"
        cursor.execute("SELECT set_config('app.tenant', %s, false)", ("north",))
        assert body() == [("mine",)]
        cursor.execute("BEGIN")
        cursor.execute("SET LOCAL app.tenant = 'south'")
        cursor.execute("INSERT INTO memos VALUES (7, %s)", ("south's",))
        cursor.execute("ROLLBACK")
        assert body() == [("mine",)]
        cursor.execute("RESET app.tenant")
        with pytest.raises(psycopg.Error) as error:
            body()
        assert error.value.sqlstate == "PS002"


def test_setting_of_the_start_up_packet_is_the_tenant(sealed: Sealed) -> None:
    """`options=-c app.tenant=north`."""
    with sealed.connect(options="-c app.tenant=north") as connection:
        assert connection.execute("SELECT body FROM memos").fetchall() == [("mine",)]


# --- rights ------------------------------------------------------------------------------------------------

DENIED = (
    "SELECT ssn FROM people",
    "SELECT * FROM people",
    "SELECT id FROM people WHERE ssn = 'one'",
    "UPDATE people SET ssn = 'x'",
    "INSERT INTO people (id, ssn) VALUES (9, 'x')",
    "DELETE FROM people WHERE id = 1 RETURNING ssn",
)


@pytest.mark.parametrize("text", DENIED)
def test_log_in_without_rights_neither_reads_nor_writes(sealed: Sealed, text: str) -> None:
    """PS005, SET ROLE notwithstanding; counting is allowed."""
    with sealed.connect("clerk") as connection:
        assert _sqlstate(connection, text) == "PS005"
        assert connection.execute("SELECT count(ssn), count(*) FROM people WHERE ssn IS NOT NULL").fetchone()
    with sealed.direct() as admin:
        admin.execute("GRANT app TO clerk")
    with sealed.connect("clerk") as connection:
        connection.execute("SET ROLE app")
        assert _sqlstate(connection, text) == "PS005"


def test_raw_log_in_sees_cells_and_cannot_store_plaintext(sealed: Sealed) -> None:
    """As a backup does: bytes as they are; the guard still holds."""
    with sealed.connect("backup") as connection:
        ((cell,),) = connection.execute("SELECT ssn FROM people WHERE id = 1").fetchall()
        assert bytes(cell).startswith(b"\xa6\x0b\x35")
        assert _sqlstate(connection, "UPDATE people SET ssn = 'plain'") == "23514"
        connection.execute("UPDATE people SET ssn = %s WHERE id = 2", (bytes(cell),))
    assert sealed.query("SELECT ssn FROM people WHERE id = 2") == [("one",)]


def test_schema_of_pgseal_is_closed_to_clients(sealed: Sealed) -> None:
    """Whatever the log-in."""
    for user in ("app", "backup"):
        with sealed.connect(user) as connection:
            assert _sqlstate(connection, "SELECT * FROM pgseal.encryption_keys") == "PS001"


def test_error_of_the_server_shows_no_cell(sealed: Sealed) -> None:
    """DETAIL of a failing row would list ciphertext, and a duplicate key its value."""
    with sealed.connect() as connection:
        for text in (
            "INSERT INTO patients VALUES (1, 'x', 'zzdup', 'd')",
            "INSERT INTO patients VALUES (8, NULL, 'a', 'b')",
        ):
            with pytest.raises(psycopg.Error) as error:
                connection.execute(text)
            assert error.value.sqlstate in ("23505", "23502", "PS002")
            assert "a60b35" not in str(error.value) and "zzdup" not in str(error.value)
