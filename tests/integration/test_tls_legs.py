"""TLS on both legs: negotiated and direct, what each refuses, and bytes that have no business before TLS."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from proxy.config import ClientTlsConfig, ServerConfig, Tls
from proxy.embedded import FAST, EmbeddedPostgres, TlsFiles
from proxy.net.settings import NetSettings
from tests import oracle
from tests.conftest import chosen_version
from tests.edge import Authority, Edge, Pair, running_edge
from tests.wire_client import Endpoint, WireClient

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)
STARTUP = oracle.startup({"user": "postgres", "database": "postgres"}, oracle.VERSION_3_0)


@dataclass(frozen=True, slots=True)
class Stage:
    postgres: EmbeddedPostgres
    authority: Authority
    own: Pair
    folder: Path

    @property
    def settings(self) -> NetSettings:
        """TLS on both legs."""
        server = ServerConfig("127.0.0.1", self.postgres.port, tls=Tls.VERIFY_FULL, ca=self.authority.ca)
        return NetSettings(port=0, server=server, client_tls=ClientTlsConfig(self.own.cert, self.own.key))


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    at_server, own = authority.issue("localhost", "server"), authority.issue("localhost", "own")
    with EmbeddedPostgres(
        chosen_version(), settings=FAST, tls=TlsFiles(at_server.cert, at_server.key)
    ) as postgres:
        yield Stage(postgres, authority, own, folder)


@pytest.fixture
def edge(stage) -> Iterator[Edge]:
    with running_edge(stage.settings) as running:
        yield running


def context(stage: Stage, alpn: bool = True) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(stage.authority.ca))
    if alpn:
        made.set_alpn_protocols(["postgresql"])
    return made


def raw(edge: Edge) -> socket.socket:
    return socket.create_connection(("127.0.0.1", edge.port), timeout=10)


def is_dropped(sock: socket.socket) -> bool:
    """Closed or reset, with nothing said."""
    try:
        return sock.recv(1) == b""
    except (ConnectionResetError, ssl.SSLError):
        return True


def greeting(sock: socket.socket) -> list[str]:
    client = WireClient(sock)
    client.send(STARTUP)
    client.read_greeting()
    return [message.name for message in client.greeting]


@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_negotiated_tls_is_verified_by_libpq(sslmode, edge, stage):
    """The client leg carries the proxy's certificate, the server leg is encrypted too."""
    with psycopg.connect(
        host="localhost",
        port=edge.port,
        user="postgres",
        dbname="postgres",
        sslmode=sslmode,
        sslrootcert=str(stage.authority.ca),
    ) as connection:
        assert connection.pgconn.ssl_in_use
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)


def test_direct_tls_with_alpn_is_accepted(edge, stage):
    """libpq 17's sslnegotiation=direct, and the same by hand."""
    with psycopg.connect(
        host="localhost",
        port=edge.port,
        user="postgres",
        dbname="postgres",
        sslmode="verify-full",
        sslnegotiation="direct",
        sslrootcert=str(stage.authority.ca),
    ) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with raw(edge) as plain, context(stage).wrap_socket(plain, server_hostname="localhost") as tls:
        assert tls.selected_alpn_protocol() == "postgresql"
        assert greeting(tls)[-1] == "ReadyForQuery"


def test_direct_tls_without_alpn_is_closed(edge, stage):
    """Without ALPN it could be another protocol's client that was talked into this."""
    with raw(edge) as plain, context(stage, alpn=False).wrap_socket(plain, server_hostname="localhost") as tls:
        try:
            tls.sendall(STARTUP)
        except OSError:
            return
        assert is_dropped(tls)


def test_direct_tls_without_certificate_is_closed(stage):
    """No TLS configured: a ClientHello is no start-up packet."""
    with running_edge(replace(stage.settings, client_tls=ClientTlsConfig())) as edge, raw(edge) as plain:
        plain.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert is_dropped(plain)


def test_gss_then_ssl_request_is_answered_n_then_s(edge, stage):
    """A client with a Kerberos ticket asks for GSS first."""
    with raw(edge) as plain:
        plain.sendall(GSSENC_REQUEST)
        assert plain.recv(1) == b"N"
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context(stage).wrap_socket(plain, server_hostname="localhost") as tls:
            assert greeting(tls)[-1] == "ReadyForQuery"


def test_bytes_behind_an_ssl_request_close_the_connection(edge):
    """They would have been taken for bytes inside TLS."""
    with raw(edge) as plain:
        plain.sendall(SSL_REQUEST + STARTUP)
        assert is_dropped(plain)


@pytest.mark.parametrize("request_again", [SSL_REQUEST, GSSENC_REQUEST + GSSENC_REQUEST])
def test_encryption_request_inside_tls_is_refused(request_again, edge, stage):
    """A second SSLRequest, or a second GSSENCRequest, is no start-up packet."""
    with raw(edge) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context(stage).wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(request_again)
            heard = b""
            while chunk := tls.recv(4096):
                heard += chunk
            assert heard.lstrip(b"N").startswith(b"E") and b"C0A000\0" in heard


def test_second_ssl_request_in_clear_is_refused(stage):
    """Answered N once; the second is judged as a start-up packet."""
    with running_edge(replace(stage.settings, client_tls=ClientTlsConfig())) as edge, raw(edge) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"N"
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"E"


def test_client_without_tls_is_refused_where_tls_is_required(stage):
    """28000, so that a client's fallback to plaintext ends here as well."""
    required = replace(stage.settings.client_tls, require=True)
    with running_edge(replace(stage.settings, client_tls=required)) as edge:
        for sslmode in ("disable", "allow", "prefer"):
            options = {"host": "127.0.0.1", "port": edge.port, "user": "postgres", "sslmode": sslmode}
            if sslmode == "disable":
                with pytest.raises(psycopg.OperationalError, match="TLS connections only"):
                    psycopg.connect(**options)
            else:
                with psycopg.connect(**options) as connection:
                    assert connection.pgconn.ssl_in_use


def test_server_certificate_of_another_authority_is_refused(stage, tmp_path):
    """verify-full means it: 08001, and the client's start-up packet never left."""
    stranger = Authority(tmp_path)
    settings = replace(stage.settings, server=replace(stage.settings.server, ca=stranger.ca))
    with running_edge(settings) as edge, pytest.raises(psycopg.OperationalError, match="TLS to the database"):
        psycopg.connect(host="127.0.0.1", port=edge.port, user="postgres")


def test_server_certificate_for_another_name_is_refused(stage, tmp_path):
    """The name is checked, not only the chain."""
    settings = replace(stage.settings, server=replace(stage.settings.server, host="127.0.0.2"))
    with (
        running_edge(settings) as edge,
        pytest.raises(psycopg.OperationalError, match=r"TLS to the|cannot connect"),
    ):
        psycopg.connect(host="127.0.0.1", port=edge.port, user="postgres")


def test_server_without_tls_is_refused_where_tls_is_configured(stage, postgres):
    """No fallback on the server leg."""
    server = replace(stage.settings.server, port=postgres.port, tls=Tls.REQUIRE, ca=None)
    with (
        running_edge(replace(stage.settings, server=server)) as edge,
        pytest.raises(psycopg.OperationalError, match="does not support TLS"),
    ):
        psycopg.connect(host="127.0.0.1", port=edge.port, user="postgres")


def test_server_that_answers_an_error_before_tls_is_not_quoted(stage):
    """Anyone may have written that text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = replace(stage.settings.server, port=listener.getsockname()[1])
        with running_edge(replace(stage.settings, server=server)) as edge, raw(edge) as client:
            client.sendall(STARTUP)
            asked, _ = listener.accept()
            with asked:
                assert asked.recv(8) == SSL_REQUEST
                asked.sendall(b"Ephishing text\0")
            said = client.recv(4096)
            assert b"57P03" in said and b"phishing" not in said


def test_server_that_refuses_connections_is_told_with_57p03(stage):
    """Drivers with several hosts try the next one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = replace(stage.settings, server=replace(stage.settings.server, port=port))
    with running_edge(settings) as edge:
        client = WireClient.open(Endpoint(edge.port, "postgres"))
        client.send(STARTUP)
        message = client.receive()
        assert message.name == "ErrorResponse" and b"C57P03\0" in message.raw
        assert client.is_ended()


def test_certificate_without_hash_serves_without_plus(stage):
    """An Ed25519 certificate names no hash to bind to, so binding is not offered."""
    own = stage.authority.issue_ed25519("ed25519")
    with running_edge(replace(stage.settings, client_tls=ClientTlsConfig(own.cert, own.key))) as edge:
        assert edge.server.gate.binding == b""
        with psycopg.connect(host="127.0.0.1", port=edge.port, user="postgres", sslmode="require") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_large_result_over_two_tls_legs_is_whole(edge):
    """Thirty megabytes, read slowly enough to fill every buffer."""
    with psycopg.connect(host="127.0.0.1", port=edge.port, user="postgres", sslmode="require") as connection:
        total = 0
        with connection.cursor().copy(
            "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 30000)) TO STDOUT"
        ) as copy:
            for chunk in copy:
                total += len(chunk)
        assert total == 30000 * 1001
