"""Log-ins by every mode and method, with libpq and asyncpg, over every pair of plain and TLS legs.

The server asks by user name: `scram`, `md5`, `clear`, `trusted`; the expected outcome of each pair is what a
client would meet with PostgreSQL alone, or a refusal with its reason where no proxy could do it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import psycopg
import pytest

from proxy.config import AuthConfig, AuthMode, ClientTlsConfig, ServerConfig, Tls
from proxy.embedded import FAST, EmbeddedPostgres, TlsFiles
from proxy.net.scram import Verifier
from proxy.net.settings import NetSettings
from tests.conftest import chosen_version
from tests.edge import Authority, Edge, Pair, running_edge

PASSWORD = "pässword ½"
HBA = (
    "host all scram 127.0.0.1/32 scram-sha-256",
    "host all md5 127.0.0.1/32 md5",
    "host all clear 127.0.0.1/32 password",
    "host all trusted 127.0.0.1/32 trust",
    "hostssl all certified 127.0.0.1/32 cert map=proxy",
    "host all postgres 127.0.0.1/32 trust",
    "host all all 127.0.0.1/32 scram-sha-256",
    "local all all trust",
)
LEGS = [(client, server) for client in (False, True) for server in (False, True)]


@dataclass(frozen=True, slots=True)
class Stage:
    postgres: EmbeddedPostgres
    authority: Authority
    own: Pair
    proxy_at_server: Pair
    folder: Path

    def settings(self, mode: AuthMode, client_tls: bool, server_tls: bool, verifiers: Path | None) -> NetSettings:
        """Of an edge before this server; the client leg verifies certificates."""
        server = ServerConfig("127.0.0.1", self.postgres.port, tls=Tls.DISABLE)
        if server_tls:
            server = ServerConfig("127.0.0.1", self.postgres.port, tls=Tls.VERIFY_FULL, ca=self.authority.ca)
        tls = ClientTlsConfig(self.own.cert, self.own.key, self.authority.ca) if client_tls else ClientTlsConfig()
        return NetSettings(port=0, server=server, client_tls=tls, auth=AuthConfig(mode, verifiers))

    def verifier(self, user: str) -> str:
        """As pg_authid has it."""
        with psycopg.connect(self.postgres.dsn()) as connection:
            row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [user]).fetchone()
        assert row is not None
        return str(row[0])

    def verifiers(self, **users: str) -> Path:
        """A verifier file; by default of `scram` with its true verifier."""
        known = users or {"scram": self.verifier("scram"), "trusted": self.verifier("trusted")}
        path = self.folder / f"verifiers-{'-'.join(known)}"
        path.write_text("".join(f'"{user}" "{text}"\n' for user, text in known.items()))
        return path


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("login")
    authority = Authority(folder)
    at_server, own, proxy = (authority.issue("localhost", name) for name in ("server", "own", "proxy"))
    files = TlsFiles(at_server.cert, at_server.key, authority.ca)
    with EmbeddedPostgres(chosen_version(), settings=FAST, hba=HBA, tls=files) as postgres:
        (postgres.data_dir / "pg_ident.conf").write_text("proxy localhost certified\n")
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            for user in ("scram", "md5", "clear", "trusted", "certified"):
                admin.execute(
                    f"SET password_encryption = '{'md5' if user == 'md5' else 'scram-sha-256'}'".encode()
                )
                admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'".encode())
            admin.execute("SELECT pg_reload_conf()")
        yield Stage(postgres, authority, own, proxy, folder)


def connect(edge: Edge, user: str, password: str = PASSWORD, **options: str) -> str:
    """Logs in with libpq and gives current_user."""
    sslmode = "require" if edge.server.gate.client_context else "disable"  # prefer would try twice
    names = {
        "sslmode": sslmode,
        "host": "127.0.0.1",
        "port": edge.port,
        "dbname": "postgres",
        "user": user,
        "password": password,
    }
    with psycopg.connect("", **(names | options), connect_timeout=10) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row is not None
    return str(row[0])


async def connect_asyncpg(edge: Edge, user: str, is_tls: bool, password: str = PASSWORD) -> str:
    """Logs in with asyncpg, which never speaks of channel binding, and gives current_user."""
    context: ssl.SSLContext | bool = False
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = await asyncpg.connect(
        host="127.0.0.1", port=edge.port, user=user, password=password, database="postgres", ssl=context
    )
    try:
        return str(await connection.fetchval("SELECT current_user"))
    finally:
        await connection.close()


@pytest.mark.parametrize(("client_tls", "server_tls"), LEGS)
@pytest.mark.parametrize("user", ["md5", "clear", "trusted"])
@pytest.mark.parametrize("mode", [AuthMode.RELAY, AuthMode.AUTO])
async def test_login_without_scram_is_relayed_over_any_legs(mode, user, client_tls, server_tls, stage):
    """MD5, cleartext on loopback and trust pass as they are; nothing of that is proof."""
    with running_edge(stage.settings(mode, client_tls, server_tls, None)) as edge:
        assert connect(edge, user) == user
        assert await connect_asyncpg(edge, user, client_tls) == user
        assert [login.proved for login in edge.services.logins] == [False, False]


@pytest.mark.parametrize("mode", [AuthMode.RELAY, AuthMode.AUTO])
@pytest.mark.parametrize(("client_tls", "server_tls"), [legs for legs in LEGS if legs != (True, True)])
@pytest.mark.parametrize("binding", ["prefer", "disable"])
async def test_scram_relayed_over_at_most_one_tls_leg_works(binding, client_tls, server_tls, mode, stage):
    """The bytes of the mechanism pass unchanged."""
    with running_edge(stage.settings(mode, client_tls, server_tls, None)) as edge:
        assert connect(edge, "scram", channel_binding=binding) == "scram"
        assert await connect_asyncpg(edge, "scram", client_tls) == "scram"


@pytest.mark.parametrize("mode", [AuthMode.RELAY, AuthMode.AUTO])
async def test_scram_relayed_between_two_tls_legs_works_only_without_binding(mode, stage):
    """libpq's "y" is refused with the reason; who does not speak of binding logs in."""
    with running_edge(stage.settings(mode, True, True, None)) as edge:
        with pytest.raises(psycopg.OperationalError, match="channel_binding=disable"):
            connect(edge, "scram")
        assert connect(edge, "scram", channel_binding="disable") == "scram"
        assert await connect_asyncpg(edge, "scram", True) == "scram"
        assert edge.services.kinds() == ["login"] * 3


@pytest.mark.parametrize(("client_tls", "server_tls"), LEGS)
@pytest.mark.parametrize("binding", ["prefer", "disable", "require"])
@pytest.mark.parametrize("mode", [AuthMode.TERMINATE, AuthMode.PINNED])
async def test_scram_terminated_works_over_any_legs(mode, binding, client_tls, server_tls, stage):
    """The ClientKey logs in to the server; a client may insist on binding to the proxy's certificate."""
    with running_edge(stage.settings(mode, client_tls, server_tls, stage.verifiers())) as edge:
        if binding == "require" and not client_tls:
            with pytest.raises(psycopg.OperationalError, match="channel binding"):
                connect(edge, "scram", channel_binding=binding)
            return
        assert connect(edge, "scram", channel_binding=binding) == "scram"
        assert await connect_asyncpg(edge, "scram", client_tls) == "scram"
        assert all(login.proved for login in edge.services.logins)


def test_scram_under_auto_is_terminated_between_two_tls_legs_with_a_verifier(stage):
    """With the verifier at hand libpq logs in by default and may require binding."""
    with running_edge(stage.settings(AuthMode.AUTO, True, True, stage.verifiers())) as edge:
        assert connect(edge, "scram", channel_binding="require") == "scram"
        assert edge.services.logins[0].proved


def test_trusted_login_terminated_asks_the_client_for_its_password(stage):
    """The server trusts the proxy's address, so the proxy asks in its place."""
    for mode in (AuthMode.AUTO, AuthMode.TERMINATE, AuthMode.PINNED):
        with running_edge(stage.settings(mode, True, True, stage.verifiers())) as edge:
            assert connect(edge, "trusted") == "trusted"
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(edge, "trusted", password="wrong")


@pytest.mark.parametrize("mode", [AuthMode.TERMINATE, AuthMode.PINNED])
@pytest.mark.parametrize("user", ["md5", "clear"])
def test_password_asked_by_the_server_under_termination_is_refused(user, mode, stage):
    """The proxy has no password to give, and says what to change."""
    with (
        running_edge(stage.settings(mode, True, True, stage.verifiers())) as edge,
        pytest.raises(psycopg.OperationalError, match="use scram-sha-256 in"),
    ):
        connect(edge, user)


@pytest.mark.parametrize("mode", [AuthMode.RELAY, AuthMode.TERMINATE, AuthMode.PINNED])
@pytest.mark.parametrize("user", ["scram", "nobody_at_all"])
def test_login_with_a_wrong_password_says_what_postgres_says(user, mode, stage):
    """Known and unknown users fail alike, with 28P01's own words, and nobody is logged in."""
    verifiers = None if mode is AuthMode.RELAY else stage.verifiers()
    with running_edge(stage.settings(mode, True, False, verifiers)) as edge:
        with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
            connect(edge, user, password="wrong")
        assert edge.services.logins == []
        assert edge.server.counters.n_refused_logins == 1


@pytest.mark.parametrize("server_tls", [False, True])
@pytest.mark.parametrize(("mode", "alarms"), [(AuthMode.TERMINATE, 0), (AuthMode.PINNED, 1)])
def test_verifier_other_than_the_servers_refuses(mode, alarms, server_tls, stage):
    """Another salt or another password at the server: 28P01 for the client, a security event when pinned."""
    known = Verifier.parse(stage.verifier("scram"))
    other_password = Verifier.from_password("other", known.salt, known.iterations)
    other_salt = Verifier.from_password("other", b"another salt", 4096)
    for pinned in (other_password, other_salt):
        settings = stage.settings(mode, True, server_tls, stage.verifiers(scram=str(pinned)))
        with running_edge(settings) as edge:
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(edge, "scram", password="other")
            assert edge.services.kinds() == ["login"] + ["security.wrong_verifier"] * alarms
            assert edge.services.logins == []


def test_server_with_a_forged_server_key_is_refused(stage):
    """The server's signature is checked against the pinned ServerKey."""
    known = Verifier.parse(stage.verifier("scram"))
    verifiers = stage.verifiers(scram=str(replace(known, server_key=bytes(32))))
    with running_edge(stage.settings(AuthMode.PINNED, False, True, verifiers)) as edge:
        with pytest.raises(psycopg.OperationalError):
            connect(edge, "scram")
        assert edge.services.logins == []


def test_login_by_client_certificate_is_proof(stage):
    """The certificate's CN must be the user; the proxy logs in at the server by its own certificate."""
    settings = stage.settings(AuthMode.RELAY, True, True, None)
    proxy = stage.proxy_at_server
    server = ServerConfig(
        "127.0.0.1", stage.postgres.port, Tls.VERIFY_FULL, stage.authority.ca, proxy.cert, proxy.key
    )
    settings = NetSettings(port=0, server=server, client_tls=settings.client_tls, auth=settings.auth)
    mine, other = stage.authority.issue("certified"), stage.authority.issue("someone")
    with running_edge(settings) as edge:
        assert connect(edge, "certified", sslcert=str(mine.cert), sslkey=str(mine.key)) == "certified"
        assert edge.services.logins[0].proved
        for pair in (other, None):
            shown = {"sslcert": str(pair.cert), "sslkey": str(pair.key)} if pair else {"sslcert": "none"}
            with pytest.raises(psycopg.OperationalError, match="client showed no proof"):
                connect(edge, "certified", **shown)
        assert len(edge.services.logins) == 1


def test_certificate_of_another_authority_ends_the_handshake(stage, tmp_path):
    """What cannot be verified is not taken for no certificate."""
    stranger = Authority(tmp_path).issue("scram")
    with running_edge(stage.settings(AuthMode.RELAY, True, False, None)) as edge:
        with pytest.raises(psycopg.OperationalError):
            connect(edge, "trusted", sslcert=str(stranger.cert), sslkey=str(stranger.key))
        assert edge.services.logins == []
