"""What pgseal refuses: a request the server itself fails stands in for it, and its error is exchanged."""

from __future__ import annotations

import pytest

from proxy.audit.events import Outcome
from proxy.rules import Read, RoleRule
from proxy.session.interface import Close
from tests.playbook import bind, describe_portal, describe_statement, execute, flush, parse, query, run, sync
from tests.unit.session.talk import (
    BOUND,
    CLOSED,
    NO_DATA,
    PARSED,
    SUSPENDED,
    Talk,
    columns,
    complete,
    error,
    parameters,
    ready,
    row,
)

REFUSED = "select upper(ssn) from patients"
INSERT = "insert into patients (hospital_id, ssn) values (1, $1)"


def fields(talk: Talk) -> dict[str, str]:
    """Fields of the one ErrorResponse that is new to the client."""
    (found,) = (m for m in talk.messages_to_client() if m.name == "ErrorResponse")
    return {letter: text.decode() for letter, text in found.fields["fields"]}


def test_refused_parse_becomes_an_execute_that_fails() -> None:
    """The unnamed statement is gone as it would be, the rest of the batch leaves, the error keeps its place."""
    talk = Talk()
    talk.client(run("select 1"), parse(REFUSED), bind(), describe_portal(), execute(), sync())
    assert talk.to_server() == "P B DP E CS E! B DP E S"
    assert REFUSED.encode() not in talk.server_bytes
    talk.server(PARSED, BOUND, NO_DATA, complete("SELECT 1"), CLOSED, error("34000"), ready("I"))
    assert talk.to_client() == "1 2 C[SELECT 1] E[PS001] ZI"


def test_refused_parse_of_a_name_leaves_statements_alone() -> None:
    """A named statement that is refused never existed; the server is asked to close nothing."""
    talk = Talk()
    talk.client(parse(REFUSED, name="n"), sync())
    assert talk.to_server() == "E! S"
    talk.server(error("34000"), ready("E"))
    assert talk.to_client() == "E[PS001] ZE"
    talk.client(bind(statement="n"), execute(), sync())
    assert talk.to_server() == "B E S"
    talk.server(error("26000"), ready("E"))
    assert talk.to_client() == "E[26000] ZE"


def test_refused_query_becomes_one_the_server_fails() -> None:
    """The whole string is refused; the server's log gets a number, not the text."""
    talk = Talk()
    talk.client(query(f"select 1; {REFUSED} where name = 'canary'"))
    assert talk.to_server() == "Q!"
    assert b"canary" not in talk.server_bytes
    talk.server(error("42601"), ready("E"))
    said = fields(talk)
    assert (said["C"], said["V"]) == ("PS001", "ERROR")
    assert "public.patients.ssn" in said["M"] and "errors.md#ps001" in said["H"] and "canary" not in str(said)


def test_refused_message_behind_an_error_of_the_batch_is_never_shown() -> None:
    """The server skips the stand-in too, and its error is the client's only one."""
    talk = Talk()
    talk.client(parse("select nope"), parse(REFUSED, name="n"), sync(), query("select 1"))
    talk.server(error("42703"), ready(), columns(("x", 0, 0, 25)), complete("SELECT 1"), ready())
    assert talk.to_client() == "E[42703] ZI T C[SELECT 1] ZI"


def test_refused_bind_sends_no_value() -> None:
    """A value that is none of its type is PostgreSQL's own error, and stays here."""
    talk = Talk()
    talk.client(parse("insert into staff (born) values ($1)"), sync())
    talk.server(PARSED, parameters(17), NO_DATA, ready())
    talk.client(bind("canary of a date"), execute(), sync())
    assert talk.to_server().endswith("E! E S")
    assert b"canary" not in talk.server_bytes
    talk.server(error("34000"), ready("E"))
    assert fields(talk)["C"] in ("22007", "PS001", "PS002")


def test_value_that_is_none_of_its_type_names_the_column_and_not_the_value() -> None:
    """PostgreSQL's own words; schema, table and column stand in their fields."""
    talk = Talk()
    talk.client(parse("insert into patients (hospital_id, email) values (1, $1)"), sync())
    talk.server(PARSED, parameters(17), NO_DATA, ready())
    talk.client(bind("canary" * 99), execute(), sync())
    talk.server(error("34000"), ready("E"))
    told = fields(talk)
    assert told["C"] == "22001" and told["M"] == "value too long for type character varying(254)"
    assert [told[code] for code in "stc"] == ["public", "patients", "email"]
    assert "canary" not in str(told)


def test_bind_of_a_protected_statement_without_tenant_is_ps002() -> None:
    """A setting nobody gave is no tenant."""
    talk = Talk()
    talk.client(parse("insert into staff (born) values ($1)"), flush())
    talk.server(PARSED, parameters(17), NO_DATA)
    talk.client(bind("1990-01-01"), execute(), sync())
    talk.server(error("34000"), ready())
    assert talk.to_client() == "1 E[PS002] ZI"


@pytest.mark.parametrize("name", ["__pgseal_reject", "__pgseal_1"])
def test_names_of_pgseal_are_reserved(name: str) -> None:
    """A statement of such a name could make a stand-in succeed."""
    talk = Talk()
    talk.client(parse("select 1", name=name), sync())
    assert talk.to_server() == "E! S"
    talk.server(error("34000"), ready())
    assert talk.to_client() == "E[08P01] ZI"


def test_portal_of_the_stand_ins_name_is_refused() -> None:
    """A client that binds the portal pgseal's stand-in asks for would make a refused statement run."""
    talk = Talk()
    talk.client(parse("select 1"), bind(portal="__pgseal_reject"), parse(REFUSED, name="n"), sync())
    assert talk.to_server() == "P E! E! S"


@pytest.mark.parametrize("answer", [complete("SELECT 0"), row(b"1"), SUSPENDED])
def test_stand_in_that_ran_closes_the_connection(answer: bytes) -> None:
    """A cursor of that name, made in SQL, gives a refused statement no result."""
    talk = Talk()
    talk.client(query('begin; declare "__pgseal_reject" cursor for select 1'))
    talk.server(complete("BEGIN"), complete("DECLARE CURSOR"), ready("T"))
    talk.client(parse(REFUSED, name="n"), sync())
    talk.server(answer, ready("T"))
    assert talk.to_client().endswith("ZT E[FATAL XX000]")
    assert talk.close is Close.GRACEFUL


def test_client_executing_the_stand_ins_name_gets_the_servers_error() -> None:
    """A client may ask for it; there is no such portal."""
    talk = Talk()
    talk.client(execute("__pgseal_reject"), sync())
    talk.server(error("34000"), ready())
    assert talk.to_client() == "E[34000] ZI"


def test_audit_that_cannot_be_written_refuses_protected_statements_only() -> None:
    """PS007, and plain statements go on; once it can be written all is well."""
    talk = Talk()
    talk.world.audit.is_writable = False
    talk.client(query("select ssn from patients where hospital_id = 1"), query("select 1"))
    assert talk.to_server() == "Q! Q"
    talk.server(error("42601"), ready(), complete("SELECT 0"), ready())
    assert talk.to_client() == "E[PS007] ZI C[SELECT 0] ZI"
    talk.world.audit.is_writable = True
    talk.client(query("select ssn from patients where hospital_id = 1"))
    assert talk.to_server() == "Q"


def test_prepared_statement_stops_when_the_audit_cannot_be_written() -> None:
    """New runs of what was prepared before are protected statements too."""
    talk = Talk()
    talk.client(parse(INSERT, name="n"), sync())
    talk.server(PARSED, parameters(17), NO_DATA, ready())
    talk.to_server()
    talk.world.audit.is_writable = False
    talk.client(bind("123", statement="n"), execute(), sync())
    assert talk.to_server() == "E! E S"
    talk.server(error("34000"), ready())
    assert talk.to_client().endswith("E[PS007] ZI")


def test_keys_that_are_down_refuse_the_statement() -> None:
    """PS003 for what must be sealed; the connection goes on."""
    talk = Talk()
    talk.world.keys.is_down = True
    talk.client(query("insert into patients (hospital_id, ssn) values (1, 'canary')"), query("select 1"))
    assert talk.to_server() == "Q! Q"
    assert b"canary" not in talk.server_bytes
    talk.server(error("42601"), ready(), complete("SELECT 0"), ready())
    assert talk.to_client() == "E[PS003] ZI C[SELECT 0] ZI"


def test_role_that_may_not_read_is_denied_and_recorded() -> None:
    """PS005, with an event whose outcome is denied."""
    talk = Talk(role=RoleRule(Read.DENY))
    talk.client(query("select ssn from patients where hospital_id = 1"))
    talk.server(error("42601"), ready())
    assert talk.to_client() == "E[PS005] ZI"
    assert [(e.outcome, e.sqlstate, e.columns) for e in talk.events] == [
        (Outcome.DENIED, "PS005", ("public.patients.ssn",))
    ]


def test_query_with_a_nul_inside_leaves_without_its_text() -> None:
    """The server refuses it in its own words."""
    talk = Talk()
    talk.client(query("select 'canary'\0; select 1"))
    assert b"canary" not in talk.server_bytes
    assert talk.server_bytes.endswith(b"Q\0\0\0\6\0\0")


def test_malformed_parse_is_left_to_the_server() -> None:
    """Its error, its words; the entry is in the queue."""
    talk = Talk()
    body = b"n\0select 1\0\0\5\0\0"
    talk.client(b"P" + (len(body) + 4).to_bytes(4, "big") + body, describe_statement("n"), sync())
    talk.server(error("08P01"), ready())
    assert talk.to_client() == "E[08P01] ZI"


def test_malformed_bind_of_a_planned_statement_is_refused_here() -> None:
    """Sizes that disagree with the body never reach the sealing."""
    talk = Talk()
    talk.client(parse(INSERT, name="n"), sync())
    talk.server(PARSED, parameters(17), NO_DATA, ready())
    talk.to_server()
    body = b"\0n\0\0\0\0\1\0\0\0\x7fcanary\0\0"
    talk.client(b"B" + (len(body) + 4).to_bytes(4, "big") + body, execute(), sync())
    assert talk.to_server() == "E! E S"
    assert b"canary" not in talk.server_bytes
