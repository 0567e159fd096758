"""Golden traces of ends: who closes, who is told what, and that a dying peer takes no one else along."""

from __future__ import annotations

import struct

import psycopg
import pytest

from proxy.embedded import FAST, EmbeddedPostgres
from tests.conftest import chosen_version
from tests.golden import CHUNKINGS
from tests.playbook import HALF_CLOSE, Playbook, bind, execute, parse, query, sync, terminate
from tests.proxied import running_proxy
from tests.wire_client import ConnectionEnded, Endpoint, WireClient

pytestmark = pytest.mark.wire


def _terminate_backend(client: WireClient) -> None:
    host, port = client.socket.getpeername()
    with psycopg.connect(host=host, port=port, user="postgres", dbname="postgres", autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", (client.pid,))


CASES: dict[str, Playbook] = {
    "half_close_after_a_query": Playbook() >> query("SELECT 1") >> HALF_CLOSE << "T D C ZI EOF",
    "half_close_when_idle": Playbook() >> HALF_CLOSE << "EOF",
    "half_close_inside_a_batch": Playbook() >> parse("SELECT 1") + bind() + execute() >> HALF_CLOSE << "EOF",
    "half_close_inside_a_message": Playbook() >> query("SELECT 1")[:7] >> HALF_CLOSE << "EOF",
    "goodbye_loses_unflushed_replies": Playbook()
    >> parse("SELECT 1") + bind() + execute() + terminate() << "EOF",
    "goodbye_after_a_query": Playbook() >> query("SELECT 1") + terminate() << "T D C ZI EOF",
    "goodbye_inside_a_block": Playbook() >> query("BEGIN; INSERT INTO w VALUES (9, 'x')") << "C C ZT"
    >> terminate() << "EOF",
    "terminated_when_idle": Playbook() >> query("SELECT 1") << "T D C ZI" >> _terminate_backend
    << "E[FATAL 57P01] EOF",
    "terminated_inside_a_block": Playbook() >> query("BEGIN") << "C ZT" >> _terminate_backend
    << "E[FATAL 57P01] EOF",
    "terminated_by_itself": Playbook() >> query("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(30)")
    << "T E[FATAL 57P01] EOF",
    "idle_in_transaction_too_long": Playbook()
    >> query("SET idle_in_transaction_session_timeout = 30; BEGIN") << "C C ZT E[FATAL 25P03] EOF",
    "statement_too_long": Playbook() >> query("SET statement_timeout = 20; SELECT pg_sleep(30)")
    << "C T E[57014] ZI" >> query("SELECT 1") << "T D C ZI",
    "unknown_message_type": Playbook() >> b"\x01\0\0\0\4" << "E[FATAL 08P01] EOF",
    "unknown_message_type_inside_a_batch": Playbook()
    >> parse("SELECT 1") + b"y\0\0\0\4" << "1 E[FATAL 08P01] EOF",
    "password_message_after_log_in": Playbook() >> b"p\0\0\0\x09abcd\0" << "E[FATAL 08P01] EOF",
    "message_longer_than_a_gigabyte": Playbook() >> b"Q" + struct.pack("!i", 0x7FFFFFFF) << "EOF",
    "message_of_negative_length": Playbook() >> b"Q" + struct.pack("!i", -2) << "EOF",
    "message_of_length_three": Playbook() >> b"Q" + struct.pack("!i", 3) << "EOF",
    "sync_of_twenty_thousand_bytes": Playbook() >> b"S" + struct.pack("!i", 20000) << "EOF",
    "sync_with_a_body": Playbook() >> b"S" + struct.pack("!i", 8) + b"body" + sync() << "E[08P01] ZI ZI",
    "query_without_its_zero_byte": Playbook()
    >> b"Q" + struct.pack("!i", 12) + b"SELECT 1" + sync() << "E[08P01] ZI ZI",
    "query_with_a_zero_byte_inside": Playbook()
    >> b"Q" + struct.pack("!i", 20) + b"SELECT 1\0SELECT\0" << "E[08P01] ZI",
    "bind_that_ends_early": Playbook()
    >> parse("SELECT $1::text") + b"B" + struct.pack("!i", 12) + b"\0\0\0\0\0\1\0\0" + sync() << "1 E[08P01] ZI",
    "parse_that_ends_early": Playbook() >> b"P" + struct.pack("!i", 8) + b"\0a\0\0" + sync() << "E[08P01] ZI",
    "describe_of_a_strange_kind": Playbook() >> b"D" + struct.pack("!i", 6) + b"X\0" + sync() << "E[08P01] ZI",
    "close_of_a_strange_kind": Playbook() >> b"C" + struct.pack("!i", 6) + b"X\0" + sync() << "E[08P01] ZI",
}  # fmt: skip


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("name", CASES)
def test_end_of_a_session_through_the_proxy_is_heard_as_from_the_server(name, chunking, stage, through):
    """The conversation goes as written, and the proxy adds, loses and changes no byte of it."""
    stage.compare(name, CASES[name], through, CHUNKINGS[chunking])


def _shut_down(how: str) -> tuple[list[str], list[str]]:
    """What idle clients hear, directly and through the proxy, when the server is ended."""
    with EmbeddedPostgres(version=chosen_version(), settings=FAST) as server, running_proxy(server.port) as port:
        endpoints = (Endpoint(server.port, "postgres"), Endpoint(port, "postgres"))
        clients = [WireClient.connect(endpoint) for endpoint in endpoints]
        getattr(server, how)()
        heard = []
        for client in clients:
            try:
                while True:
                    client.receive()
            except ConnectionEnded:
                heard.append([message.name + message.note("C") for message in client.heard])
        return heard[0], heard[1]


def test_fast_shutdown_is_told_to_clients_of_the_proxy():
    """The server's last word arrives before the end, and nothing of the proxy's own."""
    direct, proxied = _shut_down("stop")
    assert direct == proxied == ["ErrorResponse57P01"]


def test_killed_server_is_the_end_for_clients_of_the_proxy():
    """No word is invented for a server that said none."""
    direct, proxied = _shut_down("kill")
    assert direct == proxied == []


def test_proxy_serves_again_when_its_server_is_back():
    """A restart of the server needs none of the proxy."""
    with EmbeddedPostgres(version=chosen_version(), settings=FAST) as server, running_proxy(server.port) as port:
        endpoint = Endpoint(port, "postgres")
        playbook = Playbook() >> query("SELECT 1") << "T D C ZI"
        playbook.run(endpoint)
        server.kill()
        with WireClient.open(endpoint) as client, pytest.raises((AssertionError, ConnectionEnded)):
            client.send(b"\0\0\0\x08\0\3\0\0")
            assert client.receive().name != "ErrorResponse"
        server.start()
        playbook.run(endpoint)


def test_client_that_vanishes_takes_its_backend_along(stage, through):
    """A reset in the middle of a long statement ends the server's session too."""
    client = WireClient.connect(through)
    pid = client.pid
    client.send(query("SELECT pg_sleep(60)"))
    client.reset()
    with psycopg.connect(stage.server.dsn("postgres", stage.name), autocommit=True) as admin:
        waiting = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        while admin.execute(waiting, (pid,)).fetchone() is not None:
            admin.execute("SELECT pg_cancel_backend(%s)", (pid,))
