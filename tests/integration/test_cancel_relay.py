"""CancelRequest through the edge: by libpq, over every leg, and its order of closing."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from proxy.config import ClientTlsConfig, ServerConfig, Tls
from proxy.embedded import FAST, EmbeddedPostgres, TlsFiles
from proxy.net.settings import NetSettings
from proxy.session.interface import Close, Step
from tests.conftest import chosen_version
from tests.edge import Authority, CopyConnection, CopyServices, running_edge
from tests.wire_client import Endpoint, WireClient

CANCEL_CODE = 80877102


# A process of its own: PQcancel blocks while it holds the interpreter, so the edge could not answer beside it.
CANCELLED = """
import sys, threading, psycopg
port, direct, sslmode, method = sys.argv[1:]
connection = psycopg.connect(host="127.0.0.1", port=port, user="postgres", sslmode=sslmode, autocommit=True)
watcher = psycopg.connect(host="127.0.0.1", port=direct, user="postgres", autocommit=True)
asleep = "SELECT wait_event IS NOT DISTINCT FROM 'PgSleep' FROM pg_stat_activity WHERE pid = %s"
def cancel():
    while watcher.execute(asleep, [connection.info.backend_pid]).fetchone() != (True,):
        pass
    getattr(connection, method)()
thread = threading.Thread(target=cancel)
thread.start()
try:
    connection.execute("SELECT pg_sleep(60)")
except psycopg.Error as error:
    print(error.sqlstate)
thread.join()
print(connection.execute("SELECT 1").fetchone()[0])
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Iterator[NetSettings]:
    """TLS on both legs."""
    folder = tmp_path_factory.mktemp("cancel")
    authority = Authority(folder)
    at_server, own = authority.issue("localhost", "server"), authority.issue("localhost", "own")
    with EmbeddedPostgres(
        chosen_version(), settings=FAST, tls=TlsFiles(at_server.cert, at_server.key)
    ) as postgres:
        server = ServerConfig("127.0.0.1", postgres.port, tls=Tls.VERIFY_FULL, ca=authority.ca)
        yield NetSettings(port=0, server=server, client_tls=ClientTlsConfig(own.cert, own.key))


def legs(settings: NetSettings, client_tls: bool, server_tls: bool) -> NetSettings:
    server = settings.server if server_tls else ServerConfig("127.0.0.1", settings.server.port, tls=Tls.DISABLE)
    return replace(settings, server=server, client_tls=settings.client_tls if client_tls else ClientTlsConfig())


@pytest.mark.parametrize("client_tls", [False, True])
@pytest.mark.parametrize("server_tls", [False, True])
@pytest.mark.parametrize("method", ["cancel", "cancel_safe"])
def test_cancel_by_libpq_stops_the_statement(method, server_tls, client_tls, settings):
    """PQcancel in clear and PQcancelBlocking over TLS both reach the right backend."""
    with running_edge(legs(settings, client_tls, server_tls)) as edge:
        sslmode = "require" if client_tls else "disable"
        command = [sys.executable, "-c", CANCELLED, str(edge.port), str(settings.server.port), sslmode, method]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (answer.stdout, answer.stderr) == ("57014\n1\n", "")
        assert edge.server.counters.n_cancels == 1


def test_cancel_connection_closes_after_the_servers(settings):
    """The server is seen to close first; libpq takes the close as "the signal was sent"."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ServerConfig("127.0.0.1", listener.getsockname()[1], tls=Tls.DISABLE)
        packet = struct.pack("!iiii", 16, CANCEL_CODE, 1234, 5678)
        with running_edge(NetSettings(port=0, server=server)) as edge:
            client = socket.create_connection(("127.0.0.1", edge.port), timeout=10)
            client.sendall(packet)
            asked, _ = listener.accept()
            assert asked.recv(100) == packet
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)
            asked.close()
            client.settimeout(10)
            assert client.recv(1) == b""
            client.close()


@pytest.mark.parametrize("size", [16, 44, 268])
def test_cancel_key_of_any_legal_size_is_passed_on(size):
    """Four bytes up to 256, since protocol 3.2."""
    packet = struct.pack("!ii", size, CANCEL_CODE) + (bytes(range(256)) * 2)[: size - 8]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ServerConfig("127.0.0.1", listener.getsockname()[1], tls=Tls.DISABLE)
        with (
            running_edge(NetSettings(port=0, server=server)) as edge,
            socket.create_connection(("127.0.0.1", edge.port), timeout=10) as client,
        ):
            client.sendall(packet)
            asked, _ = listener.accept()
            with asked:
                assert asked.recv(1000) == packet


@pytest.mark.parametrize("size", [12, 15, 269, 10000])
def test_cancel_request_of_another_size_is_dropped(size, settings):
    """Nothing reaches the server."""
    with running_edge(legs(settings, False, False)) as edge:
        with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as client:
            client.sendall(struct.pack("!ii", size, CANCEL_CODE) + bytes(size - 8))
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert edge.server.counters.n_cancels == 0


def test_cancel_while_the_server_is_down_ends_quietly():
    """There is no answer to a CancelRequest, not even then."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = NetSettings(port=0, server=ServerConfig("127.0.0.1", port, tls=Tls.DISABLE))
    with running_edge(settings) as edge, socket.create_connection(("127.0.0.1", edge.port), timeout=10) as client:
        client.sendall(struct.pack("!iiii", 16, CANCEL_CODE, 1, 2))
        assert client.recv(1) == b""


class CancellingConnection(CopyConnection):
    """Asks for a cancel with the first row it sees; `closes` ends the connection with it."""

    closes = False

    def server_data(self, chunk: bytes) -> None:
        super().server_data(chunk)
        self._has_rows = b"D\0\0\0" in chunk

    def step(self) -> Step:
        step = super().step()
        if getattr(self, "_has_rows", False):
            self._has_rows = False
            step.cancel = not self.closes
            step.close = Close.CANCEL if self.closes else None
        return step


class ClosingConnection(CancellingConnection):
    closes = True


ENDLESS = (
    "SELECT g, pg_sleep(CASE WHEN g > 500 THEN 60 ELSE 0 END), repeat('x', 100) FROM generate_series(1, 1000) g"
)


def test_step_that_cancels_stops_the_running_statement(settings):
    """The relay sends the CancelRequest by the key the server gave."""
    services = CopyServices(make=lambda login: CancellingConnection())
    with (
        running_edge(legs(settings, False, True), services) as edge,
        WireClient.connect(Endpoint(edge.port, "postgres")) as client,
    ):
        client.send(b"Q" + struct.pack("!i", len(ENDLESS) + 5) + ENDLESS.encode() + b"\0")
        heard = [message.name for message in client.read_until_ready()]
        assert heard[-2:] == ["ErrorResponse", "ReadyForQuery"]


def test_step_that_closes_with_cancel_leaves_no_backend_running(settings):
    """The client is closed, and the server does not go on with the statement."""
    services = CopyServices(make=lambda login: ClosingConnection())
    with running_edge(legs(settings, False, True), services) as edge:
        with WireClient.connect(Endpoint(edge.port, "postgres")) as client:
            pid = client.pid
            client.send(b"Q" + struct.pack("!i", len(ENDLESS) + 5) + ENDLESS.encode() + b"\0")
            with pytest.raises(Exception, match="end of stream"):
                while True:
                    client.receive()
        with psycopg.connect(
            host="127.0.0.1", port=settings.server.port, user="postgres", autocommit=True
        ) as watcher:
            while watcher.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
                pass
