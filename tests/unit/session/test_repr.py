"""No value of a client is in the repr of anything a session holds: what a debugger or a log might print."""

from __future__ import annotations

from proxy.sql.plan import NotPlanned
from tests.playbook import bind, execute, parse, query, sync
from tests.unit.session.talk import BOUND, NO_DATA, PARSED, Talk, complete, parameters, ready

SQL = "insert into patients (hospital_id, ssn, name) values (1, 'canary-1', lower('canary-2'))"


def held(talk: Talk) -> str:
    """The repr of all state, but for the catalog."""
    state = talk.session._state
    return repr((state.queue, state.statements, state.portals, talk.events, talk.needs, talk.session))


def test_state_of_a_session_shows_no_literal_and_no_parameter() -> None:
    """Queue, statements, portals, texts, needs and events, in the middle of things."""
    talk = Talk()
    talk.client(parse("insert into patients (hospital_id, ssn) values (1, $1)", name="n"), sync())
    talk.server(PARSED, parameters(17, 17), NO_DATA, ready())
    talk.client(bind("canary-3", statement="n"), execute(), parse(SQL, name="m"), sync(), query(SQL))
    assert "canary" not in held(talk)
    talk.server(BOUND, complete("INSERT 0 1"), PARSED, parameters(), NO_DATA, ready())
    assert "canary" not in held(talk)


def test_long_statement_that_waits_for_its_plan_shows_no_literal() -> None:
    """The need holds the text."""
    talk = Talk()
    talk.is_stuck = True
    talk.client(query(SQL + " -- " + "x" * 9000))
    assert isinstance(talk.needs[0], NotPlanned)
    assert "canary" not in held(talk)
