"""Constants outside a column's type: they equal no cell, and each other only where they are the same."""

from __future__ import annotations

from tests.playbook import bind, execute, parse, sync
from tests.unit.session.talk import PARSED, Talk, World, columns, parameters, ready
from tests.unit.sql import catalogs
from tests.unit.sql.catalogs import BYTEA


def tokens(talk: Talk, *values: str) -> list[bytes | None]:
    talk.client(bind(*values, statement="p"), execute(), sync())
    found = [m for m in talk.messages_to_server() if m.letter == "B"]
    assert found, "the Bind was not sent"
    return list(found[0].parameters)


def test_constants_outside_the_type_equal_only_themselves() -> None:
    """Two of them must not meet in one comparison, and none of them may meet a token."""
    talk = Talk(World(catalogs.snapshot()), settings={"app.tenant_id": "1"})
    text = "select id from staff where pin = $1::int8 or pin = $2::int8"
    talk.client(parse(text, name="p"), sync())
    talk.server(PARSED, parameters(BYTEA, BYTEA), columns(("id", 0, 0, 23)), ready())
    talk.to_server(), talk.to_client()
    one, other = tokens(talk, "99999999999", "88888888888")
    again, inside = tokens(talk, "99999999999", "7")
    assert one == again != other
    assert None not in (one, other, inside)
    assert len(one or b"") == 16 == len(other or b"")
    assert len(inside or b"") == 15
