"""Binds that leave as they came share rights and opener for a moment; nothing of it outlives its reason."""

from __future__ import annotations

from dataclasses import replace

from proxy.rules import Read, RoleRule
from tests.playbook import bind, execute, parse, query, sync
from tests.unit.session.talk import (
    BOUND,
    PARSED,
    SSN,
    Talk,
    columns,
    complete,
    parameters,
    ready,
    row,
    values_of,
)
from tests.unit.sql import worlds

READ = "select ssn from patients where hospital_id = 1 and id = $1"


def envelope(talk: Talk, display: bytes, tenant: str = "1") -> bytes:
    return b"\\x" + talk.world.cell(worlds.SSN, tenant, display).hex().encode()


def prepared(role: RoleRule | None = None) -> Talk:
    talk = Talk(role=role) if role is not None else Talk()
    talk.client(parse(READ, name="r"), sync())
    talk.server(PARSED, parameters(23), columns(SSN), ready())
    talk.to_client(), talk.to_server()
    return talk


def read(talk: Talk, *cells: bytes) -> list[list[bytes | None]]:
    talk.client(bind("7", statement="r"), execute(), sync())
    assert talk.to_server() == "B E S"
    talk.server(BOUND, *[row(cell) for cell in cells], complete("SELECT 1"), ready())
    return values_of(talk.messages_to_client())


def test_second_bind_of_a_read_opens_like_the_first() -> None:
    """Each Execute has its own event with the cells and keys of its own rows."""
    talk = prepared()
    first = envelope(talk, b"1")
    assert read(talk, first, first) == [[b"1"], [b"1"]]
    assert read(talk, envelope(talk, b"2")) == [[b"2"]]
    assert read(talk) == []
    assert [(e.n_cells_opened, len(e.key_ids)) for e in talk.events] == [(2, 1), (1, 1), (0, 0)]


def test_role_narrowed_between_two_binds_counts_at_once() -> None:
    """The rights are those of the moment: the second Bind is refused."""
    talk = prepared()
    assert read(talk, envelope(talk, b"1")) == [[b"1"]]
    snapshot = talk.world.snapshot
    rules = replace(snapshot.rules, epoch=snapshot.rules.epoch + 1, roles={"app": RoleRule(Read.DENY)})
    talk.world.snapshot = replace(snapshot, epoch=snapshot.epoch + 1, rules=rules)
    talk.client(bind("7", statement="r"), execute(), sync())
    assert talk.to_server() == "E! E S"


def test_tenants_of_the_role_narrowed_between_two_binds_deny_the_cell() -> None:
    """An opener made under wider rights is not used again."""
    talk = prepared(RoleRule(Read.PLAIN, cross_tenant=True))
    cell = envelope(talk, b"1", tenant="2")
    assert read(talk, cell) == [[b"1"]]
    snapshot = talk.world.snapshot
    narrow = RoleRule(Read.PLAIN, tenants=("1",), cross_tenant=True)
    rules = replace(snapshot.rules, epoch=snapshot.rules.epoch + 1, roles={"app": narrow})
    talk.world.snapshot = replace(snapshot, epoch=snapshot.epoch + 1, rules=rules)
    assert read(talk, cell) == []
    assert "PS005" in [e.sqlstate for e in talk.events] or talk.client_bytes.find(b"PS005") > 0


def test_plain_query_between_two_binds_changes_nothing() -> None:
    """What is shared belongs to the statement."""
    talk = prepared()
    assert read(talk, envelope(talk, b"1")) == [[b"1"]]
    talk.client(query("select 1"))
    talk.server(columns(("a", 0, 0, 23)), row(b"1"), complete("SELECT 1"), ready())
    talk.to_client(), talk.to_server()
    assert read(talk, envelope(talk, b"2")) == [[b"2"]]
