"""The short way for the usual batch: the same bytes, events and state as by the handlers, or it is not taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.audit.events import Outcome
from proxy.rules import Read, RoleRule
from tests.playbook import bind, close_statement, describe_portal, describe_statement, execute, parse, query, sync
from tests.unit.session.model_server import Loop, clinic
from tests.unit.session.talk import (
    BOUND,
    PARSED,
    SSN,
    Talk,
    columns,
    complete,
    error,
    one,
    parameters,
    ready,
    row,
    values_of,
)
from tests.unit.sql import worlds
from tests.wire_client import random_chunks, whole

READ = "select ssn from patients where hospital_id = 1"
READ_ONE = "select ssn from patients where hospital_id = 1 and id = $1"
PLAIN = "select a from other where id = $1"
PLAIN_COLUMN = ("a", 0, 0, 25)
BATCH = bind("7", statement="r") + describe_portal() + execute() + sync()
BRIEF = bind("7", statement="r") + execute() + sync()


def envelope(talk: Talk, display: bytes, tenant: str = "1") -> bytes:
    return b"\\x" + talk.world.cell(worlds.SSN, tenant, display).hex().encode()


def prepared(text: str = READ_ONE, talk: Talk | None = None) -> Talk:
    """The statement is parsed, and has been run once, so that everything of it is known."""
    talk = talk or Talk()
    talk.client(parse(text, name="r"), sync())
    if text == READ_ONE:
        talk.server(PARSED, parameters(23), columns(SSN), ready())
        reply = BOUND + columns(SSN) + row(envelope(talk, b"0"))
    else:
        talk.server(PARSED, ready())
        reply = BOUND + columns(PLAIN_COLUMN) + row(b"x")
    talk.client(BATCH)
    talk.server(reply, complete("SELECT 1"), ready())
    talk.to_client(), talk.to_server()
    talk.n_short, talk.events = 0, []
    return talk


def test_usual_batch_of_plain_statement_takes_the_short_way() -> None:
    """Its bytes and those of its reply are the same objects' content, and it is counted once."""
    talk = prepared(PLAIN)
    n_before = talk.world.counters.n_irrelevant
    talk.client(BATCH)
    assert talk.n_short == 1 and bytes(talk.server_bytes[-len(BATCH) :]) == BATCH
    reply = BOUND + columns(PLAIN_COLUMN) + row(b"y") * 3 + complete("SELECT 3") + ready()
    talk.server(reply)
    assert bytes(talk.client_bytes[-len(reply) :]) == reply
    assert talk.world.counters.n_irrelevant == n_before + 1


def test_usual_batch_of_protected_statement_is_opened_and_recorded() -> None:
    """Two rows and a NULL: shown with the logical type, two cells in one event."""
    talk = prepared()
    talk.client(BATCH)
    assert talk.n_short == 1
    cells = (envelope(talk, b"1"), None, envelope(talk, b"2"))
    talk.server(BOUND, columns(SSN), *map(row, cells), complete("SELECT 3"), ready())
    assert values_of(talk.messages_to_client()) == [[b"1"], [None], [b"2"]]
    (event,) = talk.events
    assert (event.tag, event.outcome, event.n_rows, event.n_cells_opened) == ("SELECT", Outcome.OK, 3, 2)
    assert len(event.key_ids) == 1


def test_batch_without_describe_takes_the_short_way_too() -> None:
    """Drivers that know the description leave it out."""
    talk = prepared()
    talk.client(BRIEF)
    talk.server(BOUND, row(envelope(talk, b"1")), complete("SELECT 1"), ready())
    talk.client(BATCH)
    talk.server(BOUND, columns(SSN), row(envelope(talk, b"2")), complete("SELECT 1"), ready())
    assert talk.n_short == 2
    assert values_of(talk.messages_to_client()) == [[b"1"], [b"2"]]


def test_reply_in_two_pieces_is_put_together_by_the_handlers() -> None:
    """What was sent by the short way is entered into the queue."""
    talk = prepared()
    talk.client(BATCH)
    whole_reply = BOUND + columns(SSN) + row(envelope(talk, b"1")) + complete("SELECT 1") + ready()
    for cut in (3, 9, 60, len(whole_reply) - 6):
        talk.server(whole_reply[:cut])
        talk.server(whole_reply[cut:])
        assert values_of(talk.messages_to_client()) == [[b"1"]]
        talk.client(BATCH)
    assert talk.n_short == 5
    assert [e.n_cells_opened for e in talk.events] == [1, 1, 1, 1]


def test_error_behind_a_short_request_is_the_servers_and_is_recorded() -> None:
    """The client hears it; the event says that the statement failed."""
    talk = prepared()
    talk.client(BATCH)
    talk.server(BOUND, columns(SSN), error("22012"), ready())
    assert talk.to_client().endswith("E[22012] ZI")
    assert [(e.outcome, e.sqlstate) for e in talk.events] == [(Outcome.FAILED, "22012")]


def test_notice_inside_the_reply_passes() -> None:
    """A reply that is not exactly the usual is walked message by message."""
    talk = prepared()
    talk.client(BATCH)
    notice = one("NoticeResponse", fields=[("S", b"NOTICE"), ("C", b"00000"), ("M", b"hear")])
    talk.server(BOUND, columns(SSN), notice, row(envelope(talk, b"1")), complete("SELECT 1"), ready())
    messages = talk.messages_to_client()
    assert [m.name for m in messages] == [
        "BindComplete",
        "RowDescription",
        "NoticeResponse",
        "DataRow",
        "CommandComplete",
        "ReadyForQuery",
    ]
    assert values_of(messages) == [[b"1"]]


def test_pipelined_batch_waits_in_the_queue_behind_the_short_one() -> None:
    """The second is not short; each gets its own rows."""
    talk = prepared()
    talk.client(BATCH)
    talk.client(BATCH)
    assert talk.n_short == 1
    for value in (b"1", b"2"):
        talk.server(BOUND, columns(SSN), row(envelope(talk, value)), complete("SELECT 1"), ready())
    assert values_of(talk.messages_to_client()) == [[b"1"], [b"2"]]


def test_portal_left_in_a_block_is_still_watched() -> None:
    """An Execute of the unnamed portal after a short batch opens its rows as before."""
    talk = prepared()
    talk.client(query("begin"))
    talk.server(complete("BEGIN"), ready("T"))
    talk.client(BATCH)
    assert talk.n_short == 1
    talk.server(BOUND, columns(SSN), row(envelope(talk, b"1")), complete("SELECT 1"), ready("T"))
    talk.client(execute(), sync())
    talk.server(row(envelope(talk, b"2")), complete("SELECT 1"), ready("T"))
    assert values_of(talk.messages_to_client()) == [[b"1"], [b"2"]]


def test_tampered_cell_of_a_short_batch_is_the_same_error() -> None:
    """PS004 and no byte of the cell; one event, and the next batch is well."""
    talk = prepared()
    talk.client(BATCH)
    bad = envelope(talk, b"1")[:-2] + b"00"
    talk.server(BOUND, columns(SSN), row(envelope(talk, b"1")), row(bad), complete("SELECT 2"), ready())
    said = [m.note("C") for m in talk.messages_to_client() if m.name == "ErrorResponse"]
    assert said == ["PS004"]
    assert [(e.outcome, e.n_cells_opened) for e in talk.events] == [(Outcome.FAILED, 1)]
    talk.client(BATCH)
    talk.server(BOUND, columns(SSN), row(envelope(talk, b"3")), complete("SELECT 1"), ready())
    assert values_of(talk.messages_to_client()) == [[b"3"]]


def test_another_description_than_the_known_is_looked_at() -> None:
    """A column of another type in place of the protected one is not passed on."""
    talk = prepared()
    talk.client(BATCH)
    other = columns(("ssn", SSN[1], SSN[2], 25))
    talk.server(BOUND, other, row(b"\\xa60b"), complete("SELECT 1"), ready())
    heard = talk.messages_to_client()
    assert "ErrorResponse" in [m.name for m in heard] and not values_of(heard)


def test_lost_server_under_a_short_batch_is_said() -> None:
    """A client that is owed a reply hears 08006."""
    talk = prepared()
    talk.client(BATCH)
    talk.session.server_eof()
    talk.pump()
    assert b"08006" in talk.client_bytes


def test_connection_gone_under_a_short_batch_is_recorded_as_unknown() -> None:
    """It may have run."""
    talk = prepared()
    talk.client(BATCH)
    assert not talk.session.is_idle
    assert [e.outcome for e in talk.session.ended()] == [Outcome.UNKNOWN]


def test_audit_that_cannot_be_written_ends_the_short_way() -> None:
    """PS007, and nothing reaches the server."""
    talk = prepared()
    talk.world.audit.is_writable = False
    talk.client(BATCH)
    assert talk.n_short == 0 and talk.to_server() == "E! D E S".replace(" D", " DP")


def test_rights_taken_between_request_and_reply_do_not_leave_the_short_way_open() -> None:
    """The reply is taken by the handlers, the next request is refused."""
    talk = prepared()
    talk.client(BATCH)
    snapshot = talk.world.snapshot
    rules = replace(snapshot.rules, epoch=snapshot.rules.epoch + 1, roles={"app": RoleRule(Read.DENY)})
    talk.world.snapshot = replace(snapshot, epoch=snapshot.epoch + 1, rules=rules)
    talk.server(BOUND, columns(SSN), row(envelope(talk, b"1")), complete("SELECT 1"), ready())
    talk.to_server()
    talk.client(BATCH)
    assert talk.n_short == 1 and talk.to_server().startswith("E!")


def test_statement_closed_and_parsed_anew_is_another_lane() -> None:
    """The name now means a plain statement: nothing is opened, nothing is recorded."""
    talk = prepared()
    talk.client(close_statement("r"), parse(PLAIN, name="r"), sync())
    talk.server(one("CloseComplete"), PARSED, ready())
    talk.events.clear()
    talk.client(BATCH)
    talk.server(BOUND, columns(PLAIN_COLUMN), row(b"x"), complete("SELECT 1"), ready())
    talk.client(BATCH)
    talk.server(BOUND, columns(PLAIN_COLUMN), row(b"x"), complete("SELECT 1"), ready())
    assert values_of(talk.messages_to_client()) == [[b"x"], [b"x"]] and not talk.events


def test_bind_that_lies_about_its_length_is_left_to_the_handlers() -> None:
    """Sizes that reach into the next message, or beyond the chunk, name no result formats."""
    for at, size in ((12, 200), (12, 3), (12, 40)):
        talk = prepared()
        lying = bytearray(BATCH)
        lying[at : at + 4] = size.to_bytes(4, "big")
        talk.client(bytes(lying))
        assert talk.n_short == 0


# --- the same as the long way -------------------------------------------------------------------------

ONE_ROW = "select ssn from patients where id = 1 and hospital_id = 1"
TEXTS = {
    "p": "select 1",
    "r": READ,
    "o": ONE_ROW,
    "w": "insert into patients (hospital_id, ssn) values (1, $1)",
    "f": "fail",
}
named = st.sampled_from(sorted(TEXTS))


def batches() -> st.SearchStrategy[bytes]:
    usual = st.builds(
        lambda name, has_describe: (
            bind(*(("9",) if name == "w" else ()), statement=name)
            + (describe_portal() if has_describe else b"")
            + execute()
            + sync()
        ),
        named,
        st.booleans(),
    )
    others = st.sampled_from(
        [
            query("begin"),
            query("commit"),
            query("rollback"),
            query("set app.tenant_id = 'a'"),
            query(READ),
            execute() + sync(),
            describe_portal() + sync(),
            close_statement("r") + parse(READ, name="r") + sync(),
            close_statement("p") + parse(READ, name="p") + sync(),
            describe_statement("r") + sync(),
            bind(statement="r", portal="x") + execute("x", 1) + sync(),
            execute("x", 1) + sync(),
            bind(statement="none") + execute() + sync(),
        ]
    )
    return st.one_of(usual, usual, usual, st.builds(lambda one, two: one + two, usual, usual), others)


def played(sent: list[bytes], cut: Callable[[bytes], Iterator[bytes]], *, is_short: bool) -> tuple[object, ...]:
    talk = Talk()
    talk.has_short_way = is_short
    loop = Loop(talk, clinic(talk), cut)
    for name, text in TEXTS.items():
        loop.say(parse(text, name=name) + sync())
    for part in sent:
        loop.say(part)
    events = [
        (e.tag, e.outcome, e.sqlstate, e.n_rows, e.n_cells_opened, e.n_cells_sealed, e.key_ids)
        for e in talk.events
    ]
    counters = talk.world.counters
    counted = (
        counters.n_irrelevant,
        counters.n_planned,
        counters.statements,
        counters.opened,
        counters.n_client_in,
    )
    return loop.heard, loop.server.texts, events, counted, talk.session.is_idle


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(batches(), min_size=1, max_size=8), st.integers(0, 1 << 32))
def test_short_way_says_and_records_what_the_long_way_does(sent: list[bytes], seed: int) -> None:
    """Whole chunks, and chunks cut anywhere: bytes, texts run, events and counts are equal."""
    assert played(sent, whole, is_short=True) == played(sent, whole, is_short=False)
    cut = random_chunks(seed)
    assert played(sent, cut, is_short=True) == played(sent, random_chunks(seed), is_short=False)
