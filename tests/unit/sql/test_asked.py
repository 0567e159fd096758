"""Which expressions the server is asked for, and in which statements."""

from __future__ import annotations

import pytest

from proxy.sql.plan import Plan, Planned
from proxy.sql.planner import Planner
from tests.unit.sql.worlds import env


def plan(text: str, oids: tuple[int, ...] | None = None) -> Plan:
    """Of one Query, or Parse."""
    found = Planner().plan(text.encode(), env(), oids)
    assert isinstance(found, Planned)
    return found.plan


@pytest.mark.parametrize("oids", [None, ()])
@pytest.mark.parametrize(
    ("value", "questions"),
    [
        ("now()", [("now()", "timestamptz")]),
        ("pg_catalog.now()::text", [("pg_catalog.now()", "timestamptz")]),
        ("CAST(now() AS text)", [("now()", "timestamptz")]),
        ("CURRENT_DATE", [("CURRENT_DATE", "date")]),
        ("current_date::text", [("current_date", "date")]),
        ("CURRENT_TIMESTAMP(0)::text", [("CURRENT_TIMESTAMP(0)", "timestamptz")]),
        ("gen_random_uuid()", [("gen_random_uuid()", "uuid")]),
        ("nextval('s'::regclass)", [("nextval('s'::regclass)", "int8")]),
    ],
)
def test_asked_expression_of_values_is_a_question(
    oids: tuple[int, ...] | None, value: str, questions: list[tuple[str, str]]
) -> None:
    """As the client wrote it, without its casts; the answer is sealed in its place."""
    found = plan(f"INSERT INTO patients (hospital_id, id, ssn) VALUES ('a', 1, {value})", oids)
    assert found.refusal is None
    assert [(q.text.decode(), q.type.name) for q in found.questions] == questions
    assert len(found.slots) == 2  # and the default of the e-mail address


def test_asked_expression_of_a_plain_column_stays_with_the_server() -> None:
    """Only sealed columns need the value here."""
    found = plan("INSERT INTO patients (hospital_id, id, ssn) VALUES (now()::text, nextval('s'), NULL)")
    assert found.questions == ()


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN; INSERT INTO patients (hospital_id, id, ssn) VALUES ('a', 1, now()::text); COMMIT",
        "EXPLAIN INSERT INTO patients (hospital_id, id, ssn) VALUES ('a', 1, now()::text)",
        "PREPARE q AS INSERT INTO patients (hospital_id, id, ssn) VALUES ('a', 1, now()::text)",
        "UPDATE patients SET ssn = gen_random_uuid() WHERE hospital_id = 'a'",
        "INSERT INTO patients (hospital_id, id, ssn) SELECT 'a', 1, now()::text",
    ],
)
def test_asked_expression_where_it_cannot_be_exact_is_refused(text: str) -> None:
    """Beside other statements, inside another one, or where each row has a value of its own."""
    refusal = plan(text).refusal
    assert refusal is not None
    assert (refusal.sqlstate, bool(refusal.hint)) == ("PS001", True)
