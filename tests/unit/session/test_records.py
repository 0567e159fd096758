"""What is recorded of statements: one event each, whatever becomes of it."""

from __future__ import annotations

from dataclasses import replace

from proxy.audit.events import Outcome, StatementEvent
from proxy.rules import Read, RoleRule
from proxy.session.output import Output
from proxy.session.records import MAX_SUBJECTS, Records
from proxy.session.runtime import Client
from proxy.session.settings import SessionSettings
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


def read(talk: Talk, text: str = READ) -> StatementEvent:
    """The event of one read of two cells."""
    talk.client(query(text))
    talk.server(columns(SSN), cell(talk, "1"), cell(talk, "1"), complete("SELECT 2"), ready())
    return talk.events[-1]


def test_runs_of_a_statement_share_their_subject() -> None:
    """Other literals and rows are other events of it; another statement has its own."""
    talk = Talk()
    first, second = read(talk), read(talk)
    other = read(talk, "select ssn from patients where hospital_id = 1 limit 2")
    assert first.subject is second.subject
    assert first is not second
    assert other.subject != first.subject
    assert (other.user, other.session, other.columns) == (first.user, first.session, first.columns)


def test_application_name_that_changes_is_in_the_next_event() -> None:
    """And only there; back at the first name the first subject serves again."""
    talk = Talk()
    for name in ("one", "two", "one"):
        talk.client(query(f"set application_name = '{name}'"))
        talk.server(complete("SET"), ready())
        read(talk)
    assert [event.application for event in talk.events] == ["one", "two", "one"]
    assert talk.events[-1].subject is talk.events[0].subject


def test_trace_of_a_text_is_in_its_own_event_only() -> None:
    """Texts of one plan that differ in the comment are told apart, and those without it have none."""
    talk = Talk()
    traces = [f"00-{n:032x}-{n:016x}-01" for n in (1, 2)]
    read(talk)
    for trace in traces:
        read(talk, f"{READ} /*traceparent='{trace}'*/")
    read(talk)
    assert [event.correlation_id for event in talk.events] == ["", *traces, ""]
    assert len({event.fingerprint for event in talk.events}) == 1


def test_subjects_kept_have_a_bound() -> None:
    """A client that never says the same twice does not fill the memory, and its events stay right."""
    talk = Talk()
    texts = [
        f"select {', '.join(['ssn'] * n)} from patients where hospital_id = 1" for n in range(1, MAX_SUBJECTS + 3)
    ]
    for text in texts:
        talk.client(query(text))
    found = talk.session.ended()
    assert len(found) == len({event.fingerprint for event in found}) == MAX_SUBJECTS + 2
    assert len(talk.session._planning.records._subjects) <= MAX_SUBJECTS


def test_usual_event_is_what_finish_records() -> None:
    """Without an execution, the same event and the same counts."""
    talk = Talk()
    usual = read(talk)
    counters = talk.world.counters
    before = counters.snapshot()["statements"]
    records = Records(Client("app", "app", "1-1"), talk.world, SessionSettings("app", {}), Output())
    event = records.usual(usual.subject, usual.time_s, 2, 2, usual.key_ids)
    assert replace(event, time_s=0.0, duration_s=0.0) == replace(usual, time_s=0.0, duration_s=0.0)
    assert event.duration_s == event.time_s - usual.time_s
    after = counters.snapshot()["statements"]
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {"planned": 1}
