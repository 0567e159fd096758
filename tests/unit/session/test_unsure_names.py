"""Statements that a batch not answered yet closes or replaces: the server may skip that, so later ones wait."""

from __future__ import annotations

import pytest

from tests.playbook import bind, close_statement, describe_statement, execute, parse, sync
from tests.unit.session.model_server import Loop, clinic
from tests.unit.session.talk import CLOSED, NO_DATA, PARSED, Talk, error, parameters, ready
from tests.wire_client import single_bytes, whole

INSERT = "insert into patients (hospital_id, ssn) values (1, $1)"
OTHER = "insert into visits values (1)"


def prepared(name: str = "") -> Talk:
    """The server holds the protected INSERT under this name."""
    talk = Talk()
    talk.client(parse(INSERT, name), sync())
    talk.server(PARSED, parameters(17, 17), NO_DATA, ready())
    talk.to_server()
    talk.to_client()
    return talk


def told(talk: Talk) -> list[list[int]]:
    """The parameters of each ParameterDescription the client got."""
    return [m.oids for m in talk.messages_to_client() if m.name == "ParameterDescription"]


@pytest.mark.parametrize("name", ["", "a"])
def test_describe_behind_a_batch_that_closes_the_statement_waits_for_its_end(name: str) -> None:
    """The Close is skipped by the server, so the statement is described as the client wrote it."""
    talk = prepared(name)
    talk.client(execute("nope"), close_statement(name), sync(), describe_statement(name), sync())
    assert talk.to_server() == "E CS S H"
    talk.server(error("34000"), ready())
    assert talk.to_server() == "DS S"
    talk.server(parameters(17, 17), NO_DATA, ready())
    assert told(talk) == [[25]]
    assert talk.session.is_idle


def test_bind_behind_a_batch_that_replaces_the_unnamed_statement_waits_for_its_end() -> None:
    """The Parse is skipped by the server, so the value is sealed for the statement that is still there."""
    talk = prepared()
    talk.client(execute("nope"), parse("insert into visits values ($1)"), sync())
    talk.client(bind("value"), execute(), sync())
    assert talk.to_server() == "E P S H"
    talk.server(error("34000"), ready())
    assert talk.to_server() == "B E S"
    assert b"value\0" not in talk.server_bytes


def test_close_that_is_answered_lets_the_name_be_taken_at_once() -> None:
    """Within a batch and after its end nothing waits."""
    talk = prepared("a")
    talk.client(close_statement("a"), parse("select 1", "a"), bind(statement="a"), execute(), sync())
    assert talk.to_server() == "CS P B DP E S"
    talk = prepared("a")
    talk.client(close_statement("a"), sync())
    talk.server(CLOSED, ready())
    talk.client(parse("select 1", "a"), bind(statement="a"), sync())
    assert talk.to_server() == "CS S P B S"


def test_pipelined_batches_over_the_unnamed_statement_do_not_wait() -> None:
    """Each Bind belongs to the Parse of its own batch."""
    talk = Talk()
    batch = parse(OTHER) + bind() + execute() + sync()
    talk.client(batch * 3)
    assert not talk.is_held
    assert talk.to_server() == "P B DP E S P B DP E S P B DP E S"


@pytest.mark.parametrize(
    "sent",
    [
        execute("x") + parse(OTHER) + parse("select 1") + sync() + describe_statement() + sync(),
        execute("x") + parse(OTHER) + sync() + parse("bad") + sync() + describe_statement() + sync(),
        execute("x")
        + parse(OTHER)
        + sync()
        + execute("x")
        + parse(OTHER)
        + sync()
        + describe_statement()
        + sync(),
        execute("x") + close_statement() + parse(OTHER) + sync() + describe_statement() + sync(),
        execute("x") + close_statement("a") + parse(OTHER, "a") + sync() + describe_statement("a") + sync(),
        execute("x")
        + close_statement("a")
        + sync()
        + parse(OTHER, "a")
        + sync()
        + describe_statement("a")
        + sync(),
        execute("x") + close_statement("a") + sync() + bind("v", statement="a") + execute() + sync(),
        execute("x") + parse(OTHER, "b") + sync() + parse("select 1", "b") + describe_statement("b") + sync(),
        execute("x")
        + parse(OTHER, "b")
        + sync()
        + execute("x")
        + close_statement("b")
        + sync()
        + parse("select 1", "b")
        + describe_statement("b")
        + sync(),
        execute("x") + parse(INSERT, "b") + sync() + bind(statement="b") + sync(),
        execute("x")
        + close_statement()
        + parse(OTHER)
        + sync()
        + execute("x")
        + parse(INSERT)
        + sync()
        + describe_statement()
        + sync(),
        execute("x") + parse(OTHER) + sync() + close_statement() + sync() + bind("v") + execute() + sync(),
    ],
)
def test_skipped_changes_leave_what_the_server_still_has(sent: bytes) -> None:
    """However it is cut, the client hears the same, and the old statement is there where it should be."""
    heard = []
    for cut in (whole, single_bytes):
        talk = Talk()
        loop = Loop(talk, clinic(talk), cut)
        loop.say(parse(INSERT) + parse(INSERT, "a") + sync())
        loop.say(sent)
        heard.append((loop.heard, loop.server.texts))
        known = {name: s.message.name for name, s in talk.session._state.statements.items()}
        assert known.keys() == loop.server.statements.keys()
    assert heard[0] == heard[1]
