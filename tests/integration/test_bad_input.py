"""Broken conversations against the whole stack: each ends for its own client, and a bystander notices nothing.

Real conversations are recorded between a client and the proxy, spoiled (bytes, lengths, order, duplicates, cuts),
and sent on connections of their own, while one connection keeps reading a protected value.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
from collections.abc import Iterator

import psycopg
import pytest

from proxy.embedded import EmbeddedPostgres
from tests import oracle
from tests.oracle import BACKEND, decode, split
from tests.playbook import (
    bind,
    close_statement,
    copy_data,
    copy_done,
    describe_statement,
    execute,
    flush,
    parse,
    query,
    run,
    sync,
    terminate,
)
from tests.property.test_session_mutations import Spoiler
from tests.relay import Conversation, Relay
from tests.sealed import Sealed, sealed_database
from tests.wire_client import ConnectionEnded, Endpoint, WireClient

RULES = """
version: 1
tenant: {from: fixed, name: one}
tables:
  public.people:
    columns:
      ssn: {type: text, search: equality}
roles:
  app: {read: plain}
"""
SETUP = (
    "CREATE TABLE people (id int, ssn text)",
    "CREATE TABLE plain (id int, note text)",
    "INSERT INTO people VALUES (1, 'bystander')",
)
INSERT = "INSERT INTO people (ssn) VALUES ($1)"
READ = "SELECT ssn FROM people WHERE id = 1"
WIRE = (
    parse(INSERT, "i") + describe_statement("i") + flush() + bind("v", statement="i") + execute() + sync(),
    run(READ) + sync() + run("SELECT $1::text", "x") + sync() + close_statement("r") + sync(),
    query("BEGIN")
    + query(READ)
    + query("COPY plain FROM STDIN")
    + copy_data("1\tx\n")
    + copy_done()
    + query("COMMIT"),
)
N_MUTATIONS = 300
N_PARTS = 3


@pytest.fixture(scope="module")
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, SETUP) as made:
        yield made


@pytest.fixture
def bystander(sealed: Sealed, caplog: pytest.LogCaptureFixture) -> Iterator[psycopg.Connection]:
    """A connection that must notice nothing; and no error in the log while it is open."""
    caplog.set_level(logging.INFO)
    with sealed.connect() as connection:
        yield connection
        assert connection.execute(READ).fetchall() == [("bystander",)]
    said = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not said, [record.getMessage() for record in said]
    assert "Traceback" not in caplog.text


@pytest.fixture(scope="module")
def recorded(sealed: Sealed) -> list[list[bytes]]:
    """Messages of real clients after log-in: psycopg simple, prepared, in a pipeline; and some by hand."""
    with Relay(sealed.port) as relay:
        dsn = f"postgresql://app@127.0.0.1:{relay.port}/{sealed.name}"
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
            connection.execute("INSERT INTO people (ssn) VALUES (%s)", ["v"])
            connection.execute("SELECT ssn FROM people WHERE ssn = %s AND id = 1", ["v"])
            with connection.pipeline(), connection.cursor() as cursor:
                for _ in range(3):
                    cursor.execute("SELECT ssn FROM people WHERE id = %s", [1])
        with psycopg.connect(dsn, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute("INSERT INTO people (ssn) VALUES (%s)", ["v"])
            connection.execute("SELECT ssn FROM people; SELECT 1")
        found = [after_log_in(talk) for talk in relay.conversations]
    return found + [list(split(conversation)) for conversation in WIRE]


def after_log_in(talk: Conversation) -> list[bytes]:
    sent = bytes(talk.sent)
    length = int.from_bytes(sent[:4], "big")
    while int.from_bytes(sent[4:8], "big") != oracle.VERSION_3_0 and length < 100:
        sent = sent[length:]
        length = int.from_bytes(sent[:4], "big")
    return list(split(sent[length:]))


def outcome(sealed: Sealed, sent: bytes) -> list[oracle.Message]:
    """What is heard for these bytes until the end of the connection; the client says no more."""
    with WireClient.connect(Endpoint(sealed.port, sealed.name, "app")) as client:
        with contextlib.suppress(OSError):
            client.send(sent)
            client.half_close()
        with contextlib.suppress(ConnectionEnded):
            while True:
                client.receive()
        return client.heard


@pytest.mark.parametrize("part", range(N_PARTS))
def test_mutated_conversations_end_for_their_client_alone(
    sealed: Sealed, bystander: psycopg.Connection, recorded: list[list[bytes]], part: int
) -> None:
    """Every connection ends; what is heard are whole messages of the manual; the bystander reads on."""
    dice = random.Random(7000 + part)
    spoiler = Spoiler(dice)
    for _ in range(N_MUTATIONS // N_PARTS):
        heard = outcome(sealed, spoiler.spoiled(list(dice.choice(recorded))))
        fatal = [m for m in heard if m.name == "ErrorResponse" and m.note("V") == "FATAL"]
        assert len(fatal) <= 1
    assert bystander.execute(READ).fetchall() == [("bystander",)]


@pytest.mark.parametrize(
    "sent",
    [
        b"\0",
        b"Q",
        b"Q\0\0\0",
        b"Q\0\0\0\3",
        b"Q\xff\xff\xff\xff",
        b"Q\x7f\xff\xff\xffselect 1\0",
        b"Q\x3f\xff\xff\xff",
        b"?\0\0\0\4",
        b"p\0\0\0\4",
        b"R\0\0\0\x08\0\0\0\0",
        b"S\0\0\x4e\x20",
        copy_data("x") + copy_done() + sync(),
        bind("v", statement="nope") + execute() + sync(),
        execute("nope") + sync(),
        parse(INSERT, "i") + bind("a", "b", "c", statement="i") + execute() + sync(),
        parse(INSERT, "i") + bind("a", statement="i", formats=(1, 1)) + execute() + sync(),
        parse(INSERT, "i") + bind(b"\xff\xfe", statement="i") + execute() + sync(),
        parse(INSERT, "i") + bind(b"a\0b", statement="i") + execute() + sync(),
        parse(INSERT, "i") + parse(INSERT, "i") + sync(),
        query(b"INSERT INTO people (ssn) VALUES ('\xff\xfe')"),
        query(b"INSERT INTO people (ssn) VALUES ('a\0b')"),
        query("COPY plain FROM STDIN") + query("SELECT 1"),
        run("COPY plain FROM STDIN") + sync() + run(READ) + sync(),
        b"B\0\0\0\x08\0\0\xff\xff" + sync(),
        b"P\0\0\0\x04" + sync(),
        b"D\0\0\0\x05X" + sync(),
        b"D\0\0\0\x04" + sync(),
        b"C\0\0\0\x06Qn" + sync(),
        b"E\0\0\0\x05\0" + sync(),
        b"F\0\0\0\x04",
        terminate() + query(READ),
        sync() * 5000,
        flush() * 5000 + sync(),
        close_statement("x") * 5000 + sync(),
        run(READ) * 300,
        parse("SELECT 1") * 5000 + sync(),
    ],
    ids=lambda sent: repr(sent[:12]),
)
def test_message_nobody_should_send_ends_in_an_error_or_a_close(
    sealed: Sealed, bystander: psycopg.Connection, sent: bytes
) -> None:
    """Truncated, oversized, unknown, malformed and out of order."""
    heard = outcome(sealed, sent)
    assert all(decode(BACKEND, m.raw) for m in heard)
    assert bystander.execute(READ).fetchall() == [("bystander",)]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0\0\0\4",
        b"\0\0\0\3\0\3\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\x27\x11\0\3\0\0" + b"x" * 10000,
        b"\0\0\0\x08\0\2\0\0",
        b"\0\0\0\x08\0\3\0\0",
        oracle.startup({"user": "app"})[:-1],
        oracle.startup({"user": "app", "database": "no such"}),
        oracle.startup({"database": "x"}),
        oracle.startup({"user": "app", "database": "x"}, version=0x00090000),
        oracle.special_request(oracle.SSL_CODE) * 3,
        oracle.special_request(oracle.GSS_CODE) * 3,
        oracle.special_request(oracle.CANCEL_CODE, b"\0" * 8),
        oracle.special_request(oracle.CANCEL_CODE, b""),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01",
        bytes(range(256)) * 40,
    ],
    ids=lambda sent: repr(sent[:12]),
)
def test_start_of_a_connection_that_is_none_is_closed(
    sealed: Sealed, bystander: psycopg.Connection, sent: bytes
) -> None:
    """Before log-in: an error or silence, then the end."""
    with socket.create_connection(("127.0.0.1", sealed.port), timeout=15) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(65536):
                pass
    assert bystander.execute(READ).fetchall() == [("bystander",)]


def test_client_that_vanishes_anywhere_costs_nobody_else(sealed: Sealed, bystander: psycopg.Connection) -> None:
    """Reset in the middle of a message, of a result, of a pipeline."""
    for at in range(1, 60, 3):
        client = WireClient.connect(Endpoint(sealed.port, sealed.name, "app"))
        client.send((run(READ) + sync() + query(READ))[:at])
        client.reset()
    assert bystander.execute(READ).fetchall() == [("bystander",)]
