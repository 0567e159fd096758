"""`on_unsupported: observe` on live traffic: tables without cells pass and are told of, others lose nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from proxy.cli.main import main
from proxy.embedded import EmbeddedPostgres
from proxy.rules import ColumnRule
from proxy.sql.guard import guard_expression, guard_name
from proxy.values.registry import parse_type
from tests.sealed import Sealed, sealed_database

RULES = """\
version: 1
on_unsupported: observe
tenant: {from: fixed, name: main}
tables:
  public.staff:
    columns:
      ssn: {type: varchar(11)}
      note: {type: text}
  public.parts:
    columns:
      ssn: {type: text}
  public.patients:
    columns:
      ssn: {type: varchar(11)}
  public.bare:
    columns:
      ssn: {type: text}
  archive.patients:
    columns:
      ssn: {type: text}
roles:
  default: {read: deny}
  app: {read: plain}
"""
CANARY = "533-81-1906"
PLAIN = "staff-canary"


def rule(table: str, type_: str = "varchar(11)") -> ColumnRule:
    return ColumnRule(f"public.{table}", "ssn", parse_type(type_), f"public.{table}.ssn")


def guard(table: str, type_: str = "varchar(11)") -> str:
    found = rule(table, type_)
    return f"ADD CONSTRAINT {guard_name(found)} CHECK ({guard_expression(found)})"


BEFORE = [
    "CREATE SCHEMA archive",
    "CREATE TABLE staff (id int PRIMARY KEY, ssn varchar(11), note text)",
    "CREATE TABLE parts (id int, ssn text) PARTITION BY LIST (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE patients (id int PRIMARY KEY, ssn bytea)",
    f"ALTER TABLE patients {guard('patients')}",
    "CREATE TABLE bare (id int, ssn bytea)",
    "CREATE TABLE archive.patients (id int, ssn text)",
    "CREATE VIEW staff_view AS SELECT id, ssn FROM staff",
    "CREATE VIEW joined AS SELECT s.id, s.ssn AS one, p.ssn AS other FROM staff s JOIN patients p USING (id)",
    "CREATE VIEW mixed AS SELECT id, ssn::text AS ssn FROM staff UNION ALL SELECT id, ssn::text FROM patients",
]


@pytest.fixture
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, before=BEFORE, approved=True) as made:
        made.query("INSERT INTO patients VALUES (1, %s)", CANARY)
        made.query(f"INSERT INTO staff VALUES (1, '{PLAIN[:11]}', 'n')")
        yield made


def told(sealed: Sealed) -> list[dict[str, Any]]:
    """Audit events of statements under observation."""
    deadline_s = time.monotonic() + 20
    while sealed.worker.shared.audit.n_waiting and time.monotonic() < deadline_s:
        sealed.run(_nothing())
    lines = [line for path in (sealed.folder / "audit").rglob("*") if path.is_file() for line in path.open("rb")]
    events = [event for line in lines for event in json.loads(line).get("events", ())]
    return [event for event in events if event.get("outcome") == "observed"]


async def _nothing() -> None:
    return None


def refused(sealed: Sealed, statement: str) -> str:
    """SQLSTATE of the refusal, or of the server's own error."""
    with pytest.raises(psycopg.Error) as caught:
        sealed.query(statement)
    return caught.value.sqlstate or ""


def ends(sealed: Sealed, statement: str) -> list[tuple[Any, ...]] | str:
    """Rows, or the SQLSTATE of the error."""
    try:
        return sealed.query(statement)
    except psycopg.Error as error:
        return error.sqlstate or ""


# --- what passes, and what is told of it ----------------------------------------------------------------------


def test_observed_table_passes_everything_as_it_is(sealed: Sealed) -> None:
    """Nothing is rewritten or sealed: the table stays plain, and functions, LIKE and ORDER BY work."""
    sealed.query("INSERT INTO staff VALUES (2, %s, %s)", "plain-2", "x")
    sealed.query("UPDATE staff SET ssn = upper(ssn) WHERE id = 2")
    assert sealed.query("SELECT length(ssn) FROM staff WHERE ssn LIKE 'PLAIN%%' ORDER BY ssn") == [(7,)]
    assert sealed.query("SELECT ssn, note FROM staff_view JOIN staff USING (id, ssn) WHERE id = 2") == [
        ("PLAIN-2", "x")
    ]
    assert sealed.stored("SELECT ssn FROM staff WHERE id = 2") == [("PLAIN-2",)]
    with sealed.connect() as connection, connection.cursor().copy("COPY staff FROM STDIN") as copy:
        copy.write("3\tcopied\t\\N\n")
    with sealed.connect() as connection, connection.cursor().copy("COPY staff (ssn) TO STDOUT") as copy:
        assert b"copied\n" in b"".join(copy)
    sealed.query("INSERT INTO parts VALUES (1, 'in a partition')")
    assert sealed.query("SELECT lower(ssn) FROM parts_1") == [("in a partition",)]
    sealed.query("ALTER TABLE staff ALTER COLUMN note TYPE varchar(20)")
    sealed.query("INSERT INTO archive.patients VALUES (1, 'of the archive')")
    assert sealed.query("SELECT upper(ssn) FROM archive.patients") == [("OF THE ARCHIVE",)]


def test_observed_statement_that_would_be_refused_is_told(sealed: Sealed) -> None:
    """An audit event and a count each time; nothing for statements that will work."""
    sealed.query("SELECT ssn FROM staff WHERE id = 1")
    sealed.query("SELECT count(ssn) FROM staff")
    assert told(sealed) == []
    sealed.query("SELECT upper(ssn) FROM staff")
    sealed.query("SELECT upper(ssn) FROM staff WHERE id = %s", 1)
    sealed.query("SELECT id FROM parts_1 ORDER BY ssn")
    sealed.query("SELECT upper(ssn) FROM staff_view")
    found = told(sealed)
    assert [event["sqlstate"] for event in found] == ["PS001"] * 4
    assert {column for event in found for column in event["columns"]} == {"public.staff.ssn", "public.parts.ssn"}
    assert all(event["fingerprint"] and event["user"] == "app" for event in found)
    assert sealed.worker.shared.counters.observed["PS001"] == 4
    assert sealed.worker.shared.counters.refusals.get("PS001", 0) == 0


# --- tables with cells lose nothing -----------------------------------------------------------------------------

ACROSS = [
    "INSERT INTO patients SELECT 2, ssn FROM staff",
    "INSERT INTO staff SELECT 2, ssn FROM patients",
    "INSERT INTO staff SELECT 2, ssn::text FROM patients",
    "WITH w AS (INSERT INTO staff VALUES (9, 'x') RETURNING ssn) INSERT INTO patients SELECT 9, ssn FROM w",
    "WITH w AS (DELETE FROM patients RETURNING ssn) INSERT INTO staff SELECT 9, ssn FROM w",
    "UPDATE staff SET ssn = p.ssn FROM patients p",
    "UPDATE patients SET ssn = s.ssn FROM staff s WHERE s.id = patients.id",
    "UPDATE patients SET ssn = (SELECT ssn FROM staff LIMIT 1)",
    "SELECT 1 FROM staff s JOIN patients p ON s.ssn = p.ssn",
    "SELECT ssn FROM staff UNION ALL SELECT ssn FROM patients",
    "SELECT coalesce(s.ssn, p.ssn) FROM staff s, patients p",
    "SELECT ssn FROM mixed",
    "SELECT upper(other) FROM joined",
    "SELECT joined FROM joined",
    "COPY (SELECT ssn::text FROM staff UNION ALL SELECT ssn::text FROM patients) TO STDOUT",
    "MERGE INTO patients p USING staff s ON s.id = p.id WHEN MATCHED THEN UPDATE SET ssn = s.ssn",
    "CREATE TABLE copied AS SELECT s.note, p.ssn FROM staff s, patients p",
    "SELECT upper(ssn) FROM patients",
    "SELECT ssn FROM bare",
    "INSERT INTO bare VALUES (1, 'x')",
]


@pytest.mark.parametrize("statement", ACROSS)
def test_observing_one_table_opens_no_way_to_another(sealed: Sealed, statement: str) -> None:
    """Between an observed table and one with cells: refused, no plaintext is stored and no cell is shown."""
    assert refused(sealed, statement).startswith("PS")
    assert sealed.stored("SELECT count(*) FROM patients WHERE substr(ssn, 1, 3) <> '\\xa60b35'") == [(0,)]
    assert sealed.stored("SELECT count(*), max(ssn) FROM staff") == [(1, PLAIN[:11])]
    assert sealed.query("SELECT ssn FROM patients") == [(CANARY,)]


def test_join_of_an_observed_and_a_sealed_table_opens_the_cells(sealed: Sealed) -> None:
    """By plain columns, and by a view over both."""
    assert sealed.query("SELECT s.ssn, p.ssn FROM staff s JOIN patients p USING (id)") == [(PLAIN[:11], CANARY)]
    assert sealed.query("SELECT one, other FROM joined") == [(PLAIN[:11], CANARY)]
    assert told(sealed) == []


def test_explain_and_check_say_what_is_observed(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The statement passes, and why it will not; the table's needs, and that nothing was lowered."""

    def said(*arguments: str) -> tuple[object, dict[str, Any]]:
        config = str(sealed.folder / "pgseal.yaml")
        monkeypatch.setattr("sys.argv", ["pgseal", *arguments, "--config", config, "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, json.loads(capsys.readouterr().out)

    code, answer = said("explain", "SELECT upper(ssn) FROM staff", "-U", "app")
    assert (code, answer["verdict"], answer["observed"]["sqlstate"]) == (0, "pass", "PS001")
    code, answer = said("check")
    (database,) = answer["databases"]
    verdicts = {table["table"]: table["verdict"] for table in database["tables"]}
    assert (code, verdicts["public.staff"], verdicts["public.bare"]) == (1, "observed", "refused")
    assert database["not_approved"] == []


def test_guard_set_while_observing_ends_it_at_once(sealed: Sealed) -> None:
    """From the moment the table has its guard, no plaintext is stored by old and new statements, no cell is
    shown, and soon it is sealed and opened."""
    with sealed.connect(prepare_threshold=0) as old:
        put, get = "INSERT INTO staff (id, ssn) VALUES (%s, %s)", "SELECT ssn FROM staff"
        old.execute(put, [5, "before"])
        assert len(old.execute(get).fetchall()) == 2
        with sealed.direct() as admin:
            admin.execute("DROP VIEW staff_view, joined, mixed")
            admin.execute("DELETE FROM staff")
            admin.execute(
                "ALTER TABLE staff ALTER ssn TYPE bytea USING NULL, ALTER note TYPE bytea USING NULL, "
                + guard("staff")
            )
        deadline_s = time.monotonic() + 20
        done = False
        while not done and time.monotonic() < deadline_s:
            for connection in (old, sealed.connect()):
                for statement, values in ((put, [7, "after"]), (get, None), ("SELECT ssn FROM staff", None)):
                    try:
                        cursor = connection.execute(statement.encode(), values)
                    except psycopg.Error:
                        continue
                    assert not cursor.description or all(row in ((None,), ("after",)) for row in cursor)
            ends_with = ends(sealed, "SELECT upper(ssn) FROM staff")
            done = ends_with == "PS006"
        assert done, "a table with half of its guards is refused"
        note = ColumnRule("public.staff", "note", parse_type("text"), "public.staff.note")
        with sealed.direct() as admin:
            admin.execute(f"ALTER TABLE staff ADD CONSTRAINT {guard_name(note)} CHECK ({guard_expression(note)})")
    while ends(sealed, "INSERT INTO staff (id, ssn) VALUES (8, 'after')") == "PS006":
        assert time.monotonic() < deadline_s
    assert sealed.query("SELECT ssn FROM staff WHERE id = 8") == [("after",)]
    assert sealed.stored("SELECT count(*) FROM staff WHERE substr(ssn, 1, 3) <> '\\xa60b35'") == [(0,)]
    assert refused(sealed, "SELECT upper(ssn) FROM staff") == "PS001"


@pytest.mark.parametrize("to", ["text USING 'x'", "varchar(11) USING 'x'"])
def test_sealed_table_made_plain_is_not_observed(sealed: Sealed, to: str) -> None:
    """Whoever takes guard and type away from a table with cells gets no plaintext: PS006."""
    with sealed.direct() as admin:
        admin.execute("DROP VIEW joined, mixed")
        admin.execute(f"ALTER TABLE patients DROP CONSTRAINT {guard_name(rule('patients'))}, ALTER ssn TYPE {to}")
    for statement in ("INSERT INTO patients VALUES (3, 'new-canary')", "SELECT ssn FROM patients"):
        deadline_s = time.monotonic() + 20
        while (found := ends(sealed, statement)) != "PS006":
            assert not isinstance(found, list) or statement.startswith("INSERT"), "sealed, until it is seen"
            assert time.monotonic() < deadline_s
    assert sealed.stored("SELECT count(*) FROM patients WHERE ssn LIKE '%%canary%%'") == [(0,)]


def test_observing_without_an_approval_refuses(postgres: EmbeddedPostgres) -> None:
    """Without rules.lock the tables are refused as ever."""
    with sealed_database(postgres, RULES, before=BEFORE) as made:
        assert refused(made, "SELECT ssn FROM staff") == "PS006"
        assert refused(made, "INSERT INTO staff VALUES (1, 'x')") == "PS006"
