"""The queue of expected replies over statements that need nothing: order, errors, Syncs, COPY, oddities."""

from __future__ import annotations

import pytest

from proxy.session.interface import Close
from tests.oracle import BACKEND, encode
from tests.playbook import (
    bind,
    close_portal,
    close_statement,
    copy_data,
    copy_done,
    describe_portal,
    describe_statement,
    execute,
    flush,
    function_call,
    parse,
    query,
    run,
    sync,
    terminate,
)
from tests.unit.session.talk import (
    BOUND,
    CLOSED,
    COPY_IN,
    COPY_OUT,
    EMPTY,
    NO_DATA,
    PARSED,
    SUSPENDED,
    Talk,
    columns,
    complete,
    error,
    one,
    parameters,
    ready,
    row,
)

PLAIN = ("x", 0, 0, 25)


def test_plain_batch_is_asked_passes_as_the_same_bytes() -> None:
    """A pipeline over nothing protected leaves and returns byte for byte."""
    talk = Talk()
    sent = (
        parse("select 1")
        + describe_statement()
        + bind()
        + execute()
        + close_statement("s")
        + close_portal("p")
        + describe_portal()
        + sync()
    )
    talk.client(sent)
    assert talk.server_bytes.endswith(sent)
    answer = (
        PARSED
        + parameters()
        + columns(PLAIN)
        + BOUND
        + row(b"1")
        + complete("SELECT 1")
        + CLOSED
        + CLOSED
        + columns(PLAIN)
        + ready()
    )
    talk.server(answer)
    assert talk.client_bytes.endswith(answer)
    assert talk.close is None


def test_error_in_a_batch_drops_what_stands_before_its_sync() -> None:
    """Requests behind a failed one are not answered; the next batch is matched to its own entries."""
    talk = Talk()
    talk.client(run("select 1"), parse("select 2"), sync(), query("select 3"))
    talk.server(PARSED, error("42601"), ready(), columns(PLAIN), row(b"3"), complete("SELECT 1"), ready())
    assert talk.to_client() == "1 E[42601] ZI T D C[SELECT 1] ZI"


def test_error_before_the_sync_came_makes_later_messages_vanish() -> None:
    """While the server skips, nothing of the client reaches it but the Sync."""
    talk = Talk()
    talk.client(parse("select nope"), flush())
    talk.server(error("42703"))
    talk.to_server()
    talk.client(bind(), execute(), flush(), query("select 1"), function_call(1), close_statement("s"), sync())
    assert talk.to_server() == "S"
    talk.server(ready())
    assert talk.to_client() == "E[42703] ZI"


def test_several_syncs_in_flight_are_answered_one_by_one() -> None:
    """A burst of Close and Sync gets a ReadyForQuery each."""
    talk = Talk()
    talk.client(*[close_statement("a") + sync()] * 3)
    for _ in range(3):
        talk.server(CLOSED, ready())
    assert talk.to_client() == "3 ZI 3 ZI 3 ZI"
    assert talk.session.is_idle


def test_query_inside_an_open_batch_ends_it() -> None:
    """A Query without a Sync before it is legal; a Sync behind it gets its own ReadyForQuery."""
    talk = Talk()
    talk.client(run("select 1"), query("select 2"), sync())
    talk.server(PARSED, BOUND, columns(PLAIN), row(b"1"), complete("SELECT 1"))
    talk.server(columns(PLAIN), row(b"2"), complete("SELECT 1"), ready(), ready())
    assert talk.to_client() == "1 2 D C[SELECT 1] T D C[SELECT 1] ZI ZI"


@pytest.mark.parametrize("kind", [SUSPENDED, EMPTY, complete("SELECT 0")])
def test_execute_ends_at_suspension_emptiness_or_completion(kind: bytes) -> None:
    """Each of the three ends one Execute, and the next reply belongs to the next."""
    talk = Talk()
    talk.client(parse("select 1"), bind(), execute(max_rows=1), execute(), sync())
    assert talk.to_server() == "P B DP E E S"
    talk.server(PARSED, BOUND, columns(PLAIN), kind, complete("SELECT 1"), ready())
    assert talk.close is None
    assert talk.to_client().endswith("C[SELECT 1] ZI")


def test_asynchronous_messages_never_take_an_entry() -> None:
    """Notices, notifications and settings pass where they stand, also between rows."""
    talk = Talk()
    notice = encode(BACKEND, "NoticeResponse", fields=[("S", b"NOTICE"), ("V", b"NOTICE"), ("C", b"00000")])
    told = one("NotificationResponse", pid=1, channel="c", payload="")
    status = one("ParameterStatus", name="TimeZone", value="UTC")
    talk.client(query("select 1"))
    talk.server(notice, columns(PLAIN), row(b"1"), notice, row(b"2"), complete("SELECT 2"), told, status, ready())
    assert talk.to_client() == "N[NOTICE 00000] T D N[NOTICE 00000] D C[SELECT 2] A[c] S[TimeZone] ZI"


def test_function_call_is_answered_like_a_query() -> None:
    """V and Z end a FunctionCall; an error too."""
    talk = Talk()
    talk.client(function_call(952), function_call(953))
    talk.server(one("FunctionCallResponse", value=b"x"), ready(), error("42883"), ready())
    assert talk.to_client() == "V ZI E[42883] ZI"


def test_copy_in_of_a_plain_table_holds_what_follows_until_the_server_answers() -> None:
    """A Sync behind COPY FROM STDIN waits for the answer; in copy mode the server ignores it."""
    talk = Talk()
    talk.client(run("copy visits from stdin"), sync(), copy_data("1\t1\tx\n"), copy_done(), sync())
    assert talk.to_server() == "P B DP E"
    talk.server(PARSED, BOUND, NO_DATA)
    assert talk.to_server() == ""
    talk.server(COPY_IN)
    assert talk.to_server() == "S d c S"  # the server ignores the first in copy mode
    talk.server(complete("COPY 1"), ready())
    assert talk.to_client() == "1 2 G C[COPY 1] ZI"
    assert talk.session.is_idle


def test_copy_in_that_fails_before_its_data_answers_both_syncs() -> None:
    """The held Sync is forwarded when the COPY did not begin; late copy data stay harmless."""
    talk = Talk()
    talk.client(run("copy visits from stdin"), sync(), copy_data("1\n"), copy_done(), sync())
    talk.server(PARSED, BOUND, NO_DATA, error("P0001"))
    talk.server(ready(), ready())
    assert talk.to_client() == "1 2 E[P0001] ZI ZI"
    assert talk.session.is_idle


@pytest.mark.parametrize("n_ready", [1, 2])
def test_copy_in_that_fails_after_a_sync_in_copy_mode_is_idle_at_either_ready(n_ready: int) -> None:
    """The server ignored that Sync, or read it behind the failure: what follows is matched either way."""
    talk = Talk()
    talk.client(run("copy visits from stdin"), sync())
    talk.server(PARSED, BOUND, NO_DATA, COPY_IN)
    talk.client(copy_data("1\n"), copy_done(), sync())
    talk.server(error("22P02"))
    assert not talk.session.is_idle
    talk.server(*[ready()] * n_ready)
    assert talk.session.is_idle
    talk.client(query("select 1"))
    assert not talk.session.is_idle
    talk.server(columns(PLAIN), row(b"1"), complete("SELECT 1"), ready())
    assert talk.to_client() == "1 2 G E[22P02]" + " ZI" * n_ready + " T D C[SELECT 1] ZI"
    assert talk.session.is_idle


def test_copy_out_streams_and_ends() -> None:
    """COPY TO STDOUT passes."""
    talk = Talk()
    talk.client(query("copy visits to stdout"))
    sent = COPY_OUT + one("CopyData", data=b"1\n") * 3 + one("CopyDone") + complete("COPY 3") + ready()
    talk.server(sent)
    assert talk.client_bytes.endswith(sent)


def test_unsolicited_fatal_is_forwarded_without_a_word_of_ours() -> None:
    """An administrator's shutdown reaches an idle client as it came."""
    talk = Talk()
    talk.server(error("57P01", "FATAL"))
    assert talk.to_client() == "E[FATAL 57P01]"
    assert talk.close is None


@pytest.mark.parametrize(
    "answer",
    [PARSED, ready(), row(b"x"), columns(PLAIN), COPY_IN, complete("X"), one("CopyData", data=b""), b"?\0\0\0\4"],
)
def test_reply_that_nobody_asked_for_closes_the_connection(answer: bytes) -> None:
    """What is not in the table ends the connection with one FATAL, and nothing follows it."""
    talk = Talk()
    talk.server(answer, ready())
    assert talk.to_client() == "E[FATAL XX000]"
    assert talk.close is Close.GRACEFUL
    talk.server(ready())
    talk.client(query("select 1"))
    assert talk.to_client() == ""


def test_wrong_reply_to_a_request_closes_the_connection() -> None:
    """BindComplete to a Parse is out of step."""
    talk = Talk()
    talk.client(parse("select 1"), sync())
    talk.server(BOUND)
    assert talk.to_client() == "E[FATAL XX000]"
    assert talk.close is Close.GRACEFUL


@pytest.mark.parametrize("header", [b"D\0\0\0\3", b"Z\xff\xff\xff\xff", b"T\x7f\xff\xff\xff"])
def test_impossible_length_from_the_server_closes_the_connection(header: bytes) -> None:
    """A length no server sends is not waited for."""
    talk = Talk()
    talk.client(query("select 1"))
    talk.server(header + b"x" * 8)
    assert talk.to_client().startswith("E[FATAL ")
    assert talk.close is Close.GRACEFUL


def test_terminate_is_forwarded_and_ends_what_the_client_may_say() -> None:
    """Nothing behind a Terminate leaves."""
    talk = Talk()
    talk.client(terminate(), query("select 1"))
    assert talk.to_server() == "X"


@pytest.mark.parametrize(
    "header", [b"!\0\0\0\4", b"Q\0\0\0\3", b"S\0\0\x4e\x20", b"Q\x7f\xff\xff\xff", b"P\x80\0\0\0"]
)
def test_malformed_header_leaves_as_five_bytes_and_nothing_behind_it(header: bytes) -> None:
    """The server says what is wrong in its own way, and gets no body that might be a value."""
    talk = Talk()
    talk.client(query("select 1"), header + b"secret" * 10)
    assert talk.server_bytes.endswith(query("select 1") + header)
    talk.client(b"more secret")
    assert talk.server_bytes.endswith(header)


def test_message_over_the_limit_is_refused_before_its_body_came() -> None:
    """Only the header is needed to refuse it."""
    talk = Talk()
    talk.client(b"Q\0\x20\0\0")
    assert talk.to_client() == "E[FATAL 54000]"
    assert talk.close is Close.GRACEFUL


def test_portal_closed_and_statement_of_the_same_name_are_apart() -> None:
    """Close of a portal forgets no statement, Close of a statement no portal."""
    talk = Talk()
    text = "select ssn from patients where hospital_id = 1"
    talk.client(parse(text, name="n"), sync())
    talk.server(PARSED, one("ParameterDescription", oids=[]), columns(("ssn", 20001, 3, 17)), ready())
    talk.client(close_portal("n"), sync())
    talk.server(CLOSED, ready())
    talk.client(bind(statement="n", portal="n"), close_statement("n"), execute("n"), sync())
    talk.server(BOUND, CLOSED)
    cell = talk.world.cell(_ssn(talk), "1", b"123")
    talk.server(row(b"\\x" + cell.hex().encode()), complete("SELECT 1"), ready())
    assert talk.messages_to_client()[-3].values == [b"123"]


def _ssn(talk: Talk):  # type: ignore[no-untyped-def]
    sealed = talk.world.snapshot.sealed_at(20001, 3)
    assert sealed is not None
    return sealed.rule


def test_no_data_and_row_description_end_a_describe() -> None:
    """Either ends it."""
    talk = Talk()
    talk.client(parse("select 1"), bind(), describe_portal(), describe_portal(), sync())
    talk.server(PARSED, BOUND, NO_DATA, columns(PLAIN), ready())
    assert talk.to_client() == "1 2 n T ZI"
