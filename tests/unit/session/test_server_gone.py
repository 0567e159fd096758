"""A server that goes away in the middle: one FATAL with an SQLSTATE where a reply is owed, nothing elsewhere."""

from __future__ import annotations

from tests.playbook import bind, execute, parse, query, sync
from tests.unit.session.talk import BOUND, PARSED, Talk, columns, complete, error, ready, row


def gone(talk: Talk) -> str:
    talk.session.server_eof()
    talk.pump()
    return talk.to_client()


def test_server_gone_while_a_reply_is_owed_is_a_fatal_with_sqlstate() -> None:
    """The outcome is unknown to the client, and it is told so."""
    talk = Talk()
    talk.client(query("select pg_sleep(9)"))
    assert gone(talk) == "E[FATAL 08006]"


def test_server_gone_between_rows_is_a_fatal_behind_them() -> None:
    """What came is forwarded first."""
    talk = Talk()
    talk.client(query("select 1"))
    talk.server(columns(("a", 0, 0, 23)), row(b"1"))
    assert gone(talk) == "T D E[FATAL 08006]"


def test_server_gone_inside_a_message_adds_nothing() -> None:
    """Bytes behind half a message would be read as part of it."""
    talk = Talk()
    talk.client(query("select 1"))
    talk.server(columns(("a", 0, 0, 23)), row(b"1")[:-1])
    assert gone(talk) == "T"


def test_server_gone_after_its_own_last_word_adds_nothing() -> None:
    """Two errors in a row wedge drivers."""
    talk = Talk()
    talk.client(query("select 1"))
    talk.server(error("57P01", "FATAL"))
    assert gone(talk) == "E[FATAL 57P01]"


def test_server_gone_while_nothing_is_owed_adds_nothing() -> None:
    """An idle client learns it from the end of the stream, as directly."""
    talk = Talk()
    talk.client(query("select 1"))
    talk.server(columns(("a", 0, 0, 23)), row(b"1"), complete("SELECT 1"), ready())
    assert gone(talk) == "T D C[SELECT 1] ZI"


def test_server_gone_after_terminate_adds_nothing() -> None:
    """The client has ended the session itself and its replies are lost, as directly."""
    talk = Talk()
    talk.client(parse("select 1"), bind(), execute(), b"X\0\0\0\4")
    assert gone(talk) == ""


def test_server_gone_in_a_batch_is_a_fatal() -> None:
    """Replies of a pipeline are owed up to its Sync."""
    talk = Talk()
    talk.client(parse("select 1"), bind(), execute(), sync())
    talk.server(PARSED, BOUND)
    assert gone(talk) == "1 2 E[FATAL 08006]"
