"""What is refused before the first connection, each with its reason; and start-ups that policy refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config import AuthConfig, AuthMode, ClientTlsConfig, ServerConfig, Tls
from proxy.errors import ConfigError, InvalidAuthorization
from proxy.net.edge import Edge
from proxy.net.gate import Gate, check_auth
from proxy.net.login import ClientLeg
from proxy.net.scram import Verifier
from proxy.net.settings import NetSettings
from proxy.net.startup import parse_startup
from tests.edge import Authority

PLAIN = NetSettings(port=0, server=ServerConfig(tls=Tls.DISABLE))
NOWHERE = Path("/nowhere/at/all")


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("gate"))


def reason(settings: NetSettings) -> str:
    """The one reason these settings are refused for; Gate.open gives the same."""
    reasons = check_auth(settings)
    assert len(reasons) == 1, reasons
    with pytest.raises(ConfigError) as caught:
        Gate.open(settings)
    assert caught.value.message == reasons[0]
    return reasons[0]


def test_settings_of_a_loopback_proxy_serve():
    """Plain on both legs is fine where nobody can listen."""
    assert check_auth(PLAIN) == []


@pytest.mark.parametrize("mode", [AuthMode.TERMINATE, AuthMode.PINNED])
def test_mode_that_checks_logins_without_verifiers_is_refused(mode):
    """There would be nobody to let in."""
    assert "needs `verifiers`" in reason(replace(PLAIN, auth=AuthConfig(mode)))


def test_relay_mode_with_verifiers_is_refused(tmp_path):
    """Whoever wrote them believes they are checked."""
    path = tmp_path / "verifiers"
    path.write_text("")
    assert "has no use" in reason(replace(PLAIN, auth=AuthConfig(AuthMode.RELAY, path)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (replace(PLAIN, client_tls=ClientTlsConfig(require=True)), "client_tls needs `cert`"),
        (replace(PLAIN, client_tls=ClientTlsConfig(cert=NOWHERE)), "client_tls: No such file"),
        (replace(PLAIN, server=ServerConfig(tls=Tls.VERIFY_FULL, ca=NOWHERE)), "server: No such file"),
        (replace(PLAIN, server=ServerConfig(tls=Tls.DISABLE, cert=NOWHERE)), "would not be used"),
        (replace(PLAIN, server=ServerConfig("/tmp", tls=Tls.REQUIRE)), "no TLS on a Unix socket"),
        (replace(PLAIN, host="0.0.0.0"), "listening off loopback"),
        (replace(PLAIN, server=ServerConfig("db.example", tls=Tls.REQUIRE)), "server off loopback"),
        (replace(PLAIN, auth=AuthConfig(AuthMode.PINNED, NOWHERE)), "auth: No such file"),
    ],
)
def test_setting_that_cannot_work_is_refused_with_the_reason(settings, expected):
    """One sentence each."""
    assert expected in reason(settings)


def test_insecure_leg_says_so_and_serves():
    """`insecure: true` is the way to go without protection off loopback."""
    settings = NetSettings(
        host="0.0.0.0",
        server=ServerConfig("db.example", tls=Tls.DISABLE, insecure=True),
        client_tls=ClientTlsConfig(insecure=True),
    )
    assert check_auth(settings) == []


def test_key_of_another_certificate_is_refused(authority):
    """OpenSSL's reason is kept, nothing of the key."""
    one, two = authority.issue("one"), authority.issue("two")
    settings = replace(PLAIN, client_tls=ClientTlsConfig(one.cert, two.key))
    assert reason(settings).startswith("client_tls: a certificate or key cannot be used")


def test_file_that_is_no_certificate_is_refused(authority, tmp_path):
    """Instead of a traceback at the first client."""
    path = tmp_path / "not.pem"
    path.write_text("nothing of the kind")
    assert any("cannot be" in text for text in check_auth(replace(PLAIN, client_tls=ClientTlsConfig(path, path))))


def test_verifier_file_with_a_password_is_refused_without_quoting_it(tmp_path):
    """File and line only."""
    path = tmp_path / "verifiers"
    path.write_text('"ann" "hunter2"\n')
    said = reason(replace(PLAIN, auth=AuthConfig(AuthMode.PINNED, path)))
    assert "verifiers:1" in said and "hunter2" not in said


def test_gate_opened_holds_what_connections_need(authority, tmp_path):
    """Binding of the own certificate, verifiers, both contexts."""
    own = authority.issue("localhost")
    path = tmp_path / "verifiers"
    path.write_text(f'"ann" "{Verifier.from_password("x", b"salt")}"\n')
    gate = Gate.open(
        NetSettings(
            server=ServerConfig(tls=Tls.VERIFY_FULL, ca=authority.ca),
            client_tls=ClientTlsConfig(own.cert, own.key, authority.ca, require=True),
            auth=AuthConfig(AuthMode.PINNED, path),
        )
    )
    assert len(gate.binding) == 32
    assert gate.verifiers.get("ann") is not None
    assert gate.client_context is not None and gate.server.context is not None


def client(is_tls: bool) -> ClientLeg:
    return ClientLeg(Edge(), "127.0.0.1:1", is_tls, is_local=True)


@pytest.mark.parametrize(
    ("value", "is_refused"), [(b"database", True), (b"on", True), (b"off", False), (b"maybe", False)]
)
def test_replication_is_refused_unless_allowed(value, is_refused):
    """What the server will not understand is left to the server, and refused should it be let in all the same."""
    gate = Gate.open(PLAIN)
    startup = parse_startup(3 << 16, b"user\0ann\0replication\0" + value + b"\0\0")
    if is_refused:
        with pytest.raises(InvalidAuthorization, match="replication"):
            gate.check(startup, client(False))
    else:
        gate.check(startup, client(False))
    if value == b"maybe":
        with pytest.raises(InvalidAuthorization):
            gate.check_accepted(startup)
    allowed = Gate.open(replace(PLAIN, is_replication_allowed=True))
    allowed.check(startup, client(False))
    allowed.check_accepted(startup)


def test_plain_client_is_refused_where_tls_is_required(authority):
    """28000; the same start-up inside TLS is welcome."""
    own = authority.issue("localhost", "required")
    gate = Gate.open(replace(PLAIN, client_tls=ClientTlsConfig(own.cert, own.key, require=True)))
    startup = parse_startup(3 << 16, b"user\0ann\0\0")
    with pytest.raises(InvalidAuthorization, match="TLS connections only"):
        gate.check(startup, client(False))
    gate.check(startup, client(True))
