"""A session is the same however its two streams are cut: random conversations with a small model server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.audit.events import Outcome
from tests.oracle import BACKEND, decode, split
from tests.playbook import (
    bind,
    close_portal,
    close_statement,
    copy_data,
    copy_done,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    flush,
    function_call,
    parse,
    query,
    run,
    sync,
)
from tests.unit.session.model_server import Loop, clinic
from tests.unit.session.talk import Talk
from tests.wire_client import random_chunks, single_bytes, whole

INSERT = "insert into patients (hospital_id, ssn) values (1, $1)"
READ = "select ssn from patients where hospital_id = 1"
TEXTS = (
    "select 1",
    "bad",
    "fail",
    READ,
    "select id, ssn from patients where hospital_id = 1",
    "select email from patients where hospital_id = 1",
    "select upper(ssn) from patients",
    "select * from f()",
    "begin",
    "commit",
    "rollback",
    "set app.tenant_id = 'a'",
    "insert into staff (born) values ('1990-01-01')",
    "insert into patients (hospital_id, ssn) values (1, 'canary')",
    "insert into visits values (1)",
    "deallocate all",
    "",
)
# What cannot be shown is an error, or FATAL where more of the pipeline has run: that depends on what came first.
SHOWN = tuple(text for text in TEXTS if "email" not in text and "f()" not in text)
NAMES = ("", "a", "b")
named = st.sampled_from(NAMES)


def messages(text: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """One message of a client, or a few that belong together."""
    return st.one_of(
        st.builds(query, text),
        st.builds(lambda one, two: query(f"{one}; {two}"), text, text),
        st.builds(parse, text | st.just(INSERT), named),
        st.builds(lambda name, portal: bind(statement=name, portal=portal), named, named),
        st.builds(lambda name, portal: bind("value", statement=name, portal=portal), named, named),
        st.builds(execute, named, st.just(0)),
        st.builds(describe_statement, named),
        st.builds(describe_portal, named),
        st.builds(close_statement, named),
        st.builds(close_portal, named),
        st.builds(run, text),
        st.just(run(INSERT, "value")),
        st.just(sync()),
        st.just(flush()),
        st.just(function_call(894)),
    )


# In a conversation of its own: a message of another kind in copy mode ends the connection.
copying = st.sampled_from(
    [
        query("copy visits from stdin") + copy_data("1\n") * 3 + copy_done(),
        query("copy visits from stdin") + copy_data("1\n") + copy_fail("no"),
        run("copy visits from stdin") + sync() + copy_data("1\n") + copy_done() + sync(),
        run("copy visits from stdin") + sync() + copy_data("1\n") + copy_fail("no") + sync(),
        run("bad copy") + run("copy visits from stdin") + sync(),
    ]
)


def conversations(texts: tuple[str, ...]) -> st.SearchStrategy[list[bytes]]:
    """Batches that end with a Sync."""
    message = messages(st.sampled_from(texts))
    batch = st.lists(message, min_size=1, max_size=5).map(lambda sent: b"".join(sent) + sync())
    return st.lists(batch | copying, min_size=1, max_size=4)


def played(sent: list[bytes], cut: Callable[[bytes], Iterator[bytes]]) -> tuple[bytes, list[str], list[object]]:
    """What the client heard, what the server ran, what was recorded of that. (What fails may be recorded
    or not: it depends on whether it was sent before the error that it stands behind.)"""
    talk = Talk()
    loop = Loop(talk, clinic(talk), cut)
    for part in sent:
        loop.say(part)
    ran = [event for event in talk.events if event.outcome is Outcome.OK]
    events = [(e.tag, e.outcome, e.sqlstate, e.n_rows, e.n_cells_opened, e.n_cells_sealed) for e in ran]
    return loop.heard, loop.server.texts, events


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(conversations(SHOWN), st.integers(0, 1 << 32))
def test_streams_cut_anywhere_give_the_same_conversation(sent: list[bytes], seed: int) -> None:
    """Single bytes, random pieces, or all at once: the same is heard, run and recorded."""
    expected = played(sent, whole)
    assert played(sent, random_chunks(seed)) == expected
    assert played(sent, single_bytes) == expected


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(conversations(TEXTS))
def test_any_legal_conversation_is_answered_message_by_message(sent: list[bytes]) -> None:
    """It ends with a ReadyForQuery or one FATAL; only what is to be shown is shown; no plaintext leaves."""
    talk = Talk()
    loop = Loop(talk, clinic(talk), whole)
    for part in sent:
        loop.say(part)
    heard = [decode(BACKEND, raw) for raw in split(loop.heard)]
    assert sum(len(m.raw) for m in heard) == len(loop.heard)
    assert b"canary" not in talk.server_bytes
    fatal = [m for m in heard if m.name == "ErrorResponse" and m.note("V") == "FATAL"]
    if talk.close is not None:
        assert heard[-1] in fatal and len(fatal) == 1
    else:
        assert not fatal
        assert heard[-1].name == "ReadyForQuery"
        shown = [value for m in heard if m.name == "DataRow" for value in m.values if value is not None]
        assert set(shown) <= {b"1", b"2", b"123", b"456"}


def _shuffled(seed: int, size: int) -> bytes:
    return bytes(random.Random(seed).choices(range(256), k=size))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_of_a_client_end_in_silence_or_an_error(sent: bytes) -> None:
    """Nothing is raised, whatever comes."""
    talk = Talk()
    loop = Loop(talk, clinic(talk), whole)
    loop.say(sent)
    assert all(decode(BACKEND, raw) for raw in split(loop.heard))


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([query(READ), run(READ) + sync(), run(INSERT, "x") + sync()]))
def test_any_bytes_of_a_server_end_in_one_fatal_at_most(answer: bytes, sent: bytes) -> None:
    """Garbage from the server closes the connection, and is never taken for a cell."""
    talk = Talk()
    talk.client(sent)
    talk.server(answer)
    talk.server(_shuffled(len(answer), 64))
    assert b"canary" not in talk.client_bytes
