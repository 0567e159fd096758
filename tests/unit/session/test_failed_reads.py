"""A result that cannot be shown: one error, nothing after it, and a transaction in the state the client knows."""

from __future__ import annotations

import pytest

from proxy.rules import Read, RoleRule
from proxy.session.interface import Close
from tests.playbook import bind, execute, flush, parse, query, run, sync
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
RETURNING = "update patients set name = 'x' where hospital_id = 1 returning ssn"
BAD = row(b"\\x" + b"00" * 60)


def begun(talk: Talk) -> None:
    """In an explicit block."""
    talk.client(query("begin"))
    talk.server(complete("BEGIN"), ready("T"))
    talk.to_server()
    talk.to_client()


def cell(talk: Talk, tenant: str = "1") -> bytes:
    return row(b"\\x" + talk.world.cell(worlds.SSN, tenant, b"123").hex().encode())


def test_autocommitted_select_shows_the_rows_before_and_one_error() -> None:
    """ReadyForQuery I is right: nothing stands."""
    talk = Talk()
    talk.client(query(READ))
    talk.server(columns(SSN), cell(talk), BAD, cell(talk), complete("SELECT 3"), ready())
    assert talk.to_client() == "T D E[PS004] ZI"
    assert talk.close is None
    talk.client(query("select 1"))
    talk.server(complete("SELECT 0"), ready())
    assert talk.to_client() == "C[SELECT 0] ZI"


def test_select_in_a_block_fails_the_block_before_the_client_is_ready() -> None:
    """A Query the server must fail is put in, its error swallowed, its ZE shown."""
    talk = Talk()
    begun(talk)
    talk.client(query(READ))
    talk.to_server()
    talk.server(columns(SSN), BAD, complete("SELECT 1"), ready("T"))
    assert talk.to_client() == "T E[PS004]"
    assert talk.to_server() == "Q!"
    talk.server(error("42601"), ready("E"))
    assert talk.to_client() == "ZE"
    talk.client(query("rollback"))
    talk.server(complete("ROLLBACK"), ready("I"))
    assert talk.to_client() == "C[ROLLBACK] ZI"


def test_extended_select_in_a_block_fails_the_block() -> None:
    """As in simple protocol; the Sync's ReadyForQuery waits."""
    talk = Talk()
    begun(talk)
    talk.client(run(READ), sync())
    talk.server(PARSED, parameters(), columns(SSN))
    talk.to_server()
    talk.server(BOUND, BAD, complete("SELECT 1"), ready("T"))
    assert talk.to_client() == "1 2 E[PS004]"
    assert talk.to_server() == "Q!"
    talk.server(error("42601"), ready("E"))
    assert talk.to_client() == "ZE"


def test_block_that_goes_on_in_the_pipeline_is_closed() -> None:
    """What the client sent behind has run in the block that should have failed: FATAL, both sides close."""
    talk = Talk()
    begun(talk)
    talk.client(query(READ), query("insert into visits values (1)"))
    talk.server(columns(SSN), BAD, complete("SELECT 1"), ready("T"))
    assert talk.to_client() == "T E[PS004] E[FATAL 08006]"
    assert talk.close is Close.GRACEFUL


@pytest.mark.parametrize("text", [RETURNING, f"insert into visits values (1); {READ}"])
def test_read_of_a_write_that_stands_is_fatal(text: str) -> None:
    """Autocommitted RETURNING, or a write before it: the client cannot know the outcome, so both sides close."""
    talk = Talk()
    talk.client(query(text))
    if text.startswith("insert"):
        talk.server(complete("INSERT 0 1"))
    talk.server(columns(SSN), BAD, complete("UPDATE 1"), ready())
    assert talk.to_client().endswith("E[FATAL 08006]")
    assert talk.close is Close.GRACEFUL


def test_returning_in_a_block_is_undone_and_no_reason_to_close() -> None:
    """The block fails, so the write does not stand."""
    talk = Talk()
    begun(talk)
    talk.client(query(RETURNING))
    talk.server(columns(SSN), BAD, complete("UPDATE 1"), ready("T"))
    assert talk.to_client() == "T E[PS004]"
    assert talk.close is None


def test_read_with_a_write_behind_it_in_the_batch_is_fatal() -> None:
    """A pipeline commits at its Sync, the failed read notwithstanding."""
    talk = Talk()
    talk.client(run(READ))
    talk.client(flush())
    talk.server(PARSED, parameters(), columns(SSN))
    talk.client(parse("insert into visits values (1)", name="w"), bind(statement="w"), execute(), sync())
    talk.server(BOUND, BAD, complete("SELECT 1"), PARSED, BOUND, NO_DATA, complete("INSERT 0 1"), ready())
    assert talk.to_client().endswith("E[FATAL 08006]")
    assert talk.close is Close.GRACEFUL


def test_write_sent_behind_a_failed_read_does_not_run() -> None:
    """The client has sent no Sync yet: what comes before it is dropped, as the server would."""
    talk = Talk()
    talk.client(run(READ), flush())
    talk.server(PARSED, parameters(), columns(SSN))
    talk.server(BOUND, BAD, complete("SELECT 1"))
    assert talk.to_client() == "1 2 E[PS004]"
    talk.to_server()
    talk.client(parse("insert into visits values (1)", name="w"), bind(statement="w"), execute(), sync())
    assert talk.to_server() == "S"
    talk.server(ready())
    assert talk.to_client() == "ZI"


def test_cell_of_another_tenant_is_denied() -> None:
    """A role that may not cross tenants sees an error, never the cell."""
    talk = Talk(role=RoleRule(Read.PLAIN))
    talk.client(query(READ))
    talk.server(columns(SSN), cell(talk), cell(talk, "2"), complete("SELECT 2"), ready())
    assert talk.to_client() == "T D E[PS005] ZI"


@pytest.mark.parametrize(
    "bad",
    [
        row(b"\\x"),
        row(b""),
        row(b"\\xzz"),
        row(b"\\xa60b35"),
        row(b"plain text"),
        row(b"\\000\\9"),
        row(b"\\x" + b"a60b35" + b"01" + b"00" * 80),
    ],
)
def test_cell_that_is_no_envelope_does_not_open(bad: bytes) -> None:
    """Whatever stands in a protected column, it is an error, and never shown as it is."""
    talk = Talk()
    talk.client(query(READ))
    talk.server(columns(SSN), bad, complete("SELECT 1"), ready())
    assert talk.to_client() == "T E[PS004] ZI"


@pytest.mark.parametrize(
    "bad", [b"D\0\0\0\6\0\2", b"D\0\0\0\4", b"D\0\0\0\x0a\0\1\0\0\0\7", b"D\0\0\0\6\0\1", b"D\0\0\0\6\0\0"]
)
def test_row_of_another_shape_is_an_error(bad: bytes) -> None:
    """Columns or sizes that disagree with the description: nothing of the row is shown."""
    talk = Talk()
    talk.client(query(READ))
    talk.server(columns(SSN), bad, complete("SELECT 1"), ready())
    heard = talk.to_client()
    assert heard.startswith("T E[") and " D" not in heard


def test_every_bit_flipped_in_a_cell_keeps_it_shut() -> None:
    """One flipped bit anywhere in the envelope: an error, never a value."""
    talk = Talk()
    whole = talk.world.cell(worlds.SSN, "1", b"123")
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        talk.client(query(READ))
        talk.server(columns(SSN), row(b"\\x" + changed.hex().encode()), complete("SELECT 1"), ready())
        assert talk.to_client() in ("T E[PS004] ZI", "T E[PS003] ZI"), at
