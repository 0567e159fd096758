"""Very many small messages in one chunk are taken in shares, in either direction, and come out the same."""

from __future__ import annotations

import pytest

from proxy.audit.events import Outcome
from tests.playbook import bind, describe_portal, execute, parse, query, sync
from tests.unit.session.talk import BOUND, PARSED, SSN, Talk, columns, complete, parameters, ready, row
from tests.unit.sql import worlds

MANY = 1500
PLAIN = "select a from other where id = $1"
READ = "select ssn from patients where hospital_id = 1 and id = $1"
INSERT = "insert into patients (id, hospital_id, ssn) values (1, 1, 'a')"


def prepared(text: str) -> Talk:
    talk = Talk()
    talk.client(parse(text, name="r"), sync())
    talk.server(PARSED, *((parameters(23), columns(SSN)) if text == READ else ()), ready())
    if text == PLAIN:
        talk.client(bind("7", statement="r"), describe_portal(), execute(), sync())
        talk.server(BOUND, columns(("a", 0, 0, 25)), row(b"x"), complete("SELECT 1"), ready())
    talk.to_client(), talk.to_server()
    return talk


@pytest.mark.parametrize("text", [PLAIN, READ])
def test_pipeline_of_many_binds_is_taken_in_shares(text: str) -> None:
    """What leaves for the server is what came, in many steps."""
    talk = prepared(text)
    n_before, sent = talk.n_more, (bind("7", statement="r") + execute()) * MANY + sync()
    talk.server_bytes.clear()
    talk.client(sent)
    assert bytes(talk.server_bytes) == sent
    assert talk.n_more - n_before >= 4


def test_replies_to_many_protected_executes_are_taken_in_shares() -> None:
    """Each row is opened and each Execute recorded, in many steps."""
    talk = prepared(READ)
    talk.client((bind("7", statement="r") + execute()) * MANY + sync())
    cell = b"\\x" + talk.world.cell(worlds.SSN, "1", b"078-05-1120").hex().encode()
    n_before = talk.n_more
    talk.client_bytes.clear()
    talk.server((BOUND + row(cell) + complete("SELECT 1")) * MANY + ready())
    assert bytes(talk.client_bytes) == (BOUND + row(b"078-05-1120") + complete("SELECT 1")) * MANY + ready()
    assert talk.n_more - n_before >= 4
    assert [event.outcome for event in talk.events] == [Outcome.OK] * MANY


def test_completions_of_one_text_of_many_statements_are_taken_in_shares() -> None:
    """Each statement of a planned Query is counted at its own CommandComplete."""
    talk = Talk()
    talk.client(query("; ".join([INSERT] * MANY)))
    n_before = talk.n_more
    talk.client_bytes.clear()
    talk.server(complete("INSERT 0 1") * MANY + ready())
    assert bytes(talk.client_bytes) == complete("INSERT 0 1") * MANY + ready()
    assert talk.n_more - n_before >= 4
    assert len(talk.events) == MANY


def test_replies_that_need_no_look_are_taken_in_larger_shares() -> None:
    """Plain batches with a Sync each: what passes costs little, and is bounded all the same."""
    talk = prepared(PLAIN)
    batch, reply = (
        bind("7", statement="r") + execute() + sync(),
        BOUND + row(b"x") + complete("SELECT 1") + ready(),
    )
    talk.client(batch * MANY)
    n_before = talk.n_more
    talk.client_bytes.clear()
    talk.server(reply * MANY)
    assert bytes(talk.client_bytes) == reply * MANY
    assert talk.n_more - n_before >= 2
    assert not talk.session._state.queue
    assert talk.session.is_idle
