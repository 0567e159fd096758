"""Rows of log-ins that see masks, by the short way and the usual one: nothing is opened, no key is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.keys.material import KeyIdNeed
from proxy.rules import Read, RoleRule
from proxy.session.cells import OpenColumn, RowOpener
from proxy.session.statements import ReadGrant
from proxy.sql.catalog import SealedColumn
from proxy.values.masks import Mask, MaskForm
from tests.playbook import bind, describe_portal, execute, parse, query, sync
from tests.unit.session.memory_keys import MemoryKeys
from tests.unit.session.talk import (
    BOUND,
    PARSED,
    SSN,
    Talk,
    World,
    columns,
    complete,
    parameters,
    ready,
    row,
    values_of,
)
from tests.unit.sql import worlds

READ = "select ssn from patients where hospital_id = 1 and id = $1"
BATCH = bind("7", statement="r") + describe_portal() + execute() + sync()


def cell(talk: Talk) -> bytes:
    return b"\\x" + talk.world.cell(worlds.SSN, "1", b"123-45-6789").hex().encode()


@pytest.mark.parametrize(("read", "shown"), [(Read.MASK, b"***"), (Read.NULL, None)])
def test_full_mask_by_the_short_way_opens_nothing(read: Read, shown: bytes | None) -> None:
    """Many batches of one statement: masked each time, with no cell in the event and no key."""
    talk = Talk(World(), role=RoleRule(read))
    found = cell(talk)
    talk.client(parse(READ, name="r"), sync())
    talk.server(PARSED, parameters(23), columns(SSN), ready())
    for _ in range(3):
        talk.client(BATCH)
        talk.server(BOUND, columns(SSN), row(found), row(None), complete("SELECT 2"), ready())
        assert values_of(talk.messages_to_client())[-2:] == [[shown], [None]]
    assert talk.n_short >= 2
    assert [(e.n_cells_opened, e.n_rows, e.key_ids) for e in talk.events] == [(0, 2, ())] * 3
    assert not any(isinstance(need, KeyIdNeed) for need in talk.needs)


@pytest.mark.parametrize("read", [Read.MASK, Read.NULL])
@pytest.mark.parametrize(
    "statement",
    [
        "select id from patients where hospital_id = 1 and ssn = 'x'",
        "update patients set ssn = 'x' where hospital_id = 1",
        "select ssn from patients where hospital_id = 1 group by ssn",
    ],
)
def test_comparison_and_assignment_by_a_masked_log_in_never_leave(read: Read, statement: str) -> None:
    """The server gets what it must fail."""
    talk = Talk(World(), role=RoleRule(read, cross_tenant=True))
    talk.client(query(statement))
    assert talk.to_server() == "Q!"


def test_runs_of_rows_are_masked_like_single_ones() -> None:
    """Several hundred rows of one layout, each under a partial mask."""
    rule = replace(worlds.SSN, mask=Mask(MaskForm.LAST4))
    keys = MemoryKeys()
    sealing, tokens = keys.sealing(rule, "1"), keys.tokens(rule, "1")
    if sealing is None or tokens is None:
        world = World()
        world.cell(worlds.SSN, "1", b"x")
        keys = world.keys
        sealing, tokens = keys.sealing(rule, "1"), keys.tokens(rule, "1")
    assert sealing is not None and tokens is not None
    rows = b""
    for n in range(300):
        display = f"123-45-{n:04}".encode()
        sealed = sealing.seal(display, tokens.token(display), ())
        assert isinstance(sealed, bytes)
        rows += row(sealed)
    column = OpenColumn(SealedColumn(1, 3, rule), 0, True, None)
    opener = RowOpener([column], 1, keys, ReadGrant(read=Read.MASK))
    parts = b"".join(opener.rows(rows, 0).parts)
    assert parts == b"".join(row(f"***{n:04}".encode()) for n in range(300))
    assert opener.columns[0].n_opened == 300
