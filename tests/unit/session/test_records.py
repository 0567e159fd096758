"""What is recorded of statements: one event each, whatever becomes of it."""

from __future__ import annotations

from proxy.audit.events import Outcome
from proxy.rules import Read, RoleRule
from tests.playbook import bind, execute, parse, query, run, sync
from tests.unit.session.talk import (
    BOUND,
    NO_DATA,
    PARSED,
    SSN,
    Talk,
    columns,
    complete,
    error,
    parameters,
    ready,
    row,
)
from tests.unit.sql import worlds

READ = "select ssn from patients where hospital_id = 1"
INSERT = "insert into patients (hospital_id, ssn) values (1, 'x')"


def told(talk: Talk) -> list[tuple[str, Outcome, str, int]]:
    return [(e.tag, e.outcome, e.sqlstate, e.n_rows) for e in talk.events]


def cell(talk: Talk, tenant: str) -> bytes:
    return row(b"\\x" + talk.world.cell(worlds.SSN, tenant, b"1").hex().encode())


def test_denied_read_is_recorded_as_denied() -> None:
    """Not as what the server made of it; once."""
    talk = Talk(role=RoleRule(Read.PLAIN))
    talk.client(query(READ))
    talk.server(columns(SSN), cell(talk, "1"), cell(talk, "2"), complete("SELECT 2"), ready())
    assert told(talk) == [("SELECT", Outcome.DENIED, "PS005", 1)]


def test_cell_that_does_not_open_is_recorded_as_failed() -> None:
    """With its SQLSTATE."""
    talk = Talk()
    talk.client(query(READ))
    talk.server(columns(SSN), row(b"\\x00"), complete("SELECT 1"), ready())
    assert told(talk) == [("SELECT", Outcome.FAILED, "PS004", 0)]


def test_result_whose_connection_ends_is_recorded_as_unknown() -> None:
    """Rows that were shown count, though the client left before the end."""
    talk = Talk()
    talk.client(query(READ))
    talk.server(columns(SSN), cell(talk, "1") * 3)
    found = talk.session.ended()
    assert [(e.outcome, e.n_rows, e.n_cells_opened) for e in found] == [(Outcome.UNKNOWN, 3, 3)]
    assert talk.session.ended() == []


def test_each_statement_that_was_sent_is_recorded_at_the_end() -> None:
    """Of a text those behind the last completed one; of a pipeline each Execute."""
    talk = Talk()
    talk.client(query(f"{INSERT}; {INSERT}; {READ}"))
    talk.server(complete("INSERT 0 1"))
    talk.client(parse(READ, name="n"), bind(statement="n"), execute(), sync())
    assert [(e.tag, e.outcome) for e in talk.session.ended()] == [
        ("INSERT", Outcome.UNKNOWN),
        ("SELECT", Outcome.UNKNOWN),
    ]


def test_failed_and_skipped_statements_are_recorded_so() -> None:
    """The server's error, and what stood behind it."""
    talk = Talk()
    talk.client(parse(INSERT, name="i"), sync())
    talk.server(PARSED, parameters(), NO_DATA, ready())
    talk.client(bind(statement="i"), execute(), bind(statement="i"), execute(), sync(), run("select 1"), sync())
    talk.server(BOUND, error("23505"), ready())
    assert told(talk) == [("INSERT", Outcome.FAILED, "23505", 0), ("INSERT", Outcome.SKIPPED, "", 0)]
    assert talk.session.ended() == []
