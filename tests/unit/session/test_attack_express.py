"""The short way against replies that are cut, changed, or not what was asked: the handlers say the same, always.

Each reply is played twice, once with the short way and once without; bytes, events and counts are compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.playbook import bind, close_statement, describe_portal, execute, parse, query, sync
from tests.unit.session.talk import (
    BOUND,
    CLOSED,
    COPY_IN,
    COPY_OUT,
    EMPTY,
    NO_DATA,
    PARSED,
    SSN,
    SUSPENDED,
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

SEALED = "select ssn from patients where hospital_id = 1 and id = $1"
PLAIN = "select a from other where id = $1"
PLAIN_COLUMN = ("a", 0, 0, 25)
BRIEF = bind("7", statement="r") + execute() + sync()
BATCH = bind("7", statement="r") + describe_portal() + execute() + sync()
CASES = [(text, batch, block) for text in (SEALED, PLAIN) for batch in (BRIEF, BATCH) for block in (False, True)]
INTRUDERS = {
    "notice": one("NoticeResponse", fields=[("S", b"NOTICE"), ("C", b"00000"), ("M", b"hear")]),
    "setting": one("ParameterStatus", name="DateStyle", value="SQL, DMY"),
    "notification": one("NotificationResponse", pid=1, channel=b"a", payload=b"b"),
    "error": error("22012"),
    "fatal": error("57P01", "FATAL"),
    "suspended": SUSPENDED,
    "empty": EMPTY,
    "copy in": COPY_IN,
    "copy out": COPY_OUT,
    "complete": complete("SELECT 1"),
    "ready": ready(),
    "ready in a block": ready("T"),
    "ready in a failed block": ready("E"),
    "bound": BOUND,
    "parsed": PARSED,
    "closed": CLOSED,
    "no data": NO_DATA,
    "description": columns(SSN),
    "envelope without end": row(b"\\xa60b3501"),
    "plaintext": row(b"plaintext"),
    "two columns": row(b"1", b"2"),
    "no column": row(),
}
Mutation = Callable[[list[bytes]], list[bytes]]


def envelope(talk: Talk, display: bytes, tenant: str = "1") -> bytes:
    return b"\\x" + talk.world.cell(worlds.SSN, tenant, display).hex().encode()


def prepared(text: str, talk: Talk | None = None) -> Talk:
    """Parsed, and run once, so that the next batch goes the short way."""
    talk = talk or Talk()
    talk.client(parse(text, name="r"), sync())
    if text == SEALED:
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


def reply_of(talk: Talk, text: str, batch: bytes, block: bool, n_rows: int) -> list[bytes]:
    is_sealed = text == SEALED
    rows = [row((envelope(talk, b"%d" % n) if n % 7 else None) if is_sealed else b"x") for n in range(n_rows)]
    described = [columns(SSN if is_sealed else PLAIN_COLUMN)] if batch is BATCH else []
    return [BOUND, *described, *rows, complete(f"SELECT {n_rows}"), ready("T" if block else "I")]


def played(
    case: tuple[str, bytes, bool], n_rows: int, mutation: Mutation, *, is_short: bool
) -> tuple[object, ...]:
    text, batch, block = case
    talk = prepared(text)
    talk.has_short_way = is_short
    if block:
        talk.client(query("begin"))
        talk.server(complete("BEGIN"), ready("T"))
    talk.client(batch)
    assert talk.n_short == is_short
    for chunk in mutation(reply_of(talk, text, batch, block, n_rows)):
        if talk.close is None and chunk:
            talk.server(chunk)
    if talk.close is None:
        talk.session.server_eof()
        talk.pump()
    events = [*talk.events, *talk.session.ended()]
    told = [(e.tag, e.outcome, e.sqlstate, e.n_rows, e.n_cells_opened, e.key_ids) for e in events]
    return bytes(talk.client_bytes), bytes(talk.server_bytes), told, talk.close, talk.world.counters.opened


def assert_same(case: tuple[str, bytes, bool], n_rows: int, mutation: Mutation) -> None:
    short = played(case, n_rows, mutation, is_short=True)
    assert short == played(case, n_rows, mutation, is_short=False)


@pytest.mark.parametrize("name", INTRUDERS)
def test_message_in_or_for_another_of_the_reply_ends_as_by_the_handlers(name: str) -> None:
    """A server that lies, or has something to say, at each place of the reply."""
    intruder = INTRUDERS[name]
    for case in CASES:
        for n_rows in (0, 2):
            for at in range(n_rows + (4 if case[1] is BATCH else 3)):
                assert_same(case, n_rows, lambda p, at=at: [b"".join([*p[:at], intruder, *p[at:]])])  # type: ignore[misc]
                assert_same(case, n_rows, lambda p, at=at: [b"".join([*p[:at], intruder, *p[at + 1 :]])])  # type: ignore[misc]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0][7:10]}-{len(case[1])}-{case[2]}")
def test_reply_cut_at_each_byte_is_the_same(case: tuple[str, bytes, bool]) -> None:
    """In two chunks, and never ended."""
    size = len(b"".join(reply_of(prepared(case[0]), *case, 2)))
    for at in range(1, size):
        assert_same(case, 2, lambda p, at=at: [b"".join(p)[:at], b"".join(p)[at:]])  # type: ignore[misc]
        if at % 3 == 0:
            assert_same(case, 2, lambda p, at=at: [b"".join(p)[:at]])  # type: ignore[misc]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0][7:10]}-{len(case[1])}-{case[2]}")
def test_reply_with_any_byte_changed_is_the_same(case: tuple[str, bytes, bool]) -> None:
    """Lengths, kinds, counts and cells."""
    size = len(b"".join(reply_of(prepared(case[0]), *case, 2)))
    dice = random.Random(7)
    for at in range(size):
        value = dice.choice(b"\0\1\xffDCZT")

        def changed(parts: list[bytes], at: int = at, value: int = value) -> list[bytes]:
            whole = bytearray(b"".join(parts))
            whole[at] = value
            return [bytes(whole)]

        assert_same(case, 2, changed)


@pytest.mark.parametrize("at", [0, 1, 15, 16, 17, 39, 40, 41, 63, 98, 99])
def test_tampered_cell_at_any_place_of_a_run_is_the_same_error(at: int) -> None:
    """Rows that are opened together are recorded as those before it."""

    def tampered(parts: list[bytes]) -> list[bytes]:
        changed = bytearray(parts[2 + at])
        changed[-1] ^= 1
        return [b"".join([*parts[: 2 + at], bytes(changed), *parts[3 + at :]])]

    assert_same((SEALED, BATCH, False), 100, tampered)


def test_portal_that_a_failed_short_bind_did_not_replace_is_still_watched() -> None:
    """A Bind that fails before it makes its portal leaves the one before it, and a savepoint keeps that alive."""
    talk = prepared(SEALED)
    talk.client(parse(PLAIN, name="p"), sync())
    talk.server(PARSED, ready())
    plain = bind("1", statement="p") + execute() + sync()
    talk.client(bind("1", statement="p"), describe_portal(), execute(), sync())
    talk.server(BOUND, columns(PLAIN_COLUMN), complete("SELECT 0"), ready())
    talk.client(query("begin"))
    talk.server(complete("BEGIN"), ready("T"))
    talk.client(bind("7", statement="r"), execute("", 1), sync())
    talk.server(BOUND, row(envelope(talk, b"1")), SUSPENDED, ready("T"))
    talk.client(plain)
    assert talk.n_short == 1
    talk.server(error("08P01"), ready("E"))
    talk.client(parse("rollback to s", name="b"), bind(portal="b", statement="b"), execute("b"), sync())
    talk.server(PARSED, BOUND, NO_DATA, complete("ROLLBACK"), ready("T"))
    talk.to_client()
    talk.client(execute(), sync())
    talk.server(row(envelope(talk, b"2")), complete("SELECT 1"), ready("T"))
    assert values_of(talk.messages_to_client()) == [[b"2"]]


def test_statements_closed_again_and_again_are_not_kept() -> None:
    """Their texts may be long; what is remembered is no more than what is there."""
    talk = prepared(PLAIN)
    for number in range(50):
        name = f"s{number}"
        talk.client(parse(PLAIN, name=name), sync())
        talk.server(PARSED, ready())
        for _ in range(2):
            talk.client(bind("1", statement=name), describe_portal(), execute(), sync())
            talk.server(BOUND, columns(PLAIN_COLUMN), complete("SELECT 0"), ready())
        talk.client(close_statement(name), sync())
        talk.server(CLOSED, ready())
    assert talk.n_short == 50
    assert len(talk.session._express._lanes) <= 3


@pytest.mark.parametrize("name", [b"n" * 63, b"n" * 200, "é".encode("latin-1"), "é".encode()])
def test_name_the_server_may_take_for_another_is_refused_for_what_is_watched(name: bytes) -> None:
    """Of a statement, and of a portal; what passes may have any name."""
    text = name.decode("latin-1")
    message = parse(SEALED, name="#").replace(b"#\0", name + b"\0")
    message = message[:1] + (len(message) - 1).to_bytes(4, "big") + message[5:]
    talk = Talk()
    talk.client(message, sync())
    assert talk.to_server() == "E! S", text
    talk = prepared(SEALED)
    bound = bind("1", portal="#", statement="r").replace(b"#\0", name + b"\0", 1)
    talk.client(bound[:1] + (len(bound) - 1).to_bytes(4, "big") + bound[5:], sync())
    assert talk.to_server() == "E! S", text
    message = parse(PLAIN, name="#").replace(b"#\0", name + b"\0")
    talk = Talk()
    talk.client(message[:1] + (len(message) - 1).to_bytes(4, "big") + message[5:], sync())
    assert talk.to_server() == "P S", text


@pytest.mark.parametrize("name", [b"n" * 63, "é".encode()])
def test_portal_of_a_plain_statement_nobody_has_looked_at_has_a_short_name(name: bytes) -> None:
    """Its Execute is described first, which is asked for by the portal's name."""
    talk = Talk()
    talk.client(parse(PLAIN, name="p"), sync())
    talk.server(PARSED, ready())
    talk.to_server()
    bound = bind("1", portal="#", statement="p").replace(b"#\0", name + b"\0", 1)
    talk.client(bound[:1] + (len(bound) - 1).to_bytes(4, "big") + bound[5:], sync())
    assert talk.to_server() == "E! S"


def test_event_of_a_short_reply_that_could_not_be_written_is_given_at_the_end() -> None:
    """The socket to the client may be gone between reply and record."""
    talk = prepared(SEALED)
    talk.client(BRIEF)
    reply = b"".join(reply_of(talk, SEALED, BRIEF, False, 2))
    assert talk.session.reply(reply) is not None
    assert [e.n_cells_opened for e in talk.session.ended()] == [1]
