"""What is prepared before the first connection: TLS contexts, verifiers; and what cannot work, with the reason.

One reason to change: what is checked before serving.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from proxy.config import AuthMode, Tls
from proxy.errors import ConfigError, InvalidAuthorization
from proxy.hosts import is_loopback
from proxy.net.login import ClientLeg
from proxy.net.server_leg import ServerLeg
from proxy.net.settings import NetSettings
from proxy.net.startup import Replication, Startup
from proxy.net.tls import certificate_binding, client_leg_context, server_leg_context
from proxy.net.verifiers import Verifiers


@dataclass(frozen=True, slots=True)
class Gate:
    """Made from settings at start-up and at a reload; connections keep the one they came in by."""

    mode: AuthMode
    verifiers: Verifiers
    server: ServerLeg
    client_context: ssl.SSLContext | None
    binding: bytes  # of the proxy's own certificate; empty where it cannot be bound to
    is_tls_required: bool
    is_replication_allowed: bool

    @classmethod
    def open(cls, settings: NetSettings) -> Gate:
        """Reads certificates and verifiers. Raises ConfigError with every reason found."""
        reasons = check_auth(settings)
        if reasons:
            raise ConfigError("; ".join(reasons))
        auth, tls = settings.auth, settings.client_tls
        return cls(
            mode=auth.mode,
            verifiers=Verifiers.read(auth.verifiers) if auth.verifiers else Verifiers({}),
            server=ServerLeg(settings.server, server_leg_context(settings.server), settings.connect_timeout_s),
            client_context=client_leg_context(tls),
            binding=certificate_binding(tls.cert) if tls.cert else b"",
            is_tls_required=tls.require,
            is_replication_allowed=settings.is_replication_allowed,
        )

    def check(self, startup: Startup, client: ClientLeg) -> None:
        """Raises InvalidAuthorization for a start-up that policy refuses, whoever sends it."""
        if self.is_tls_required and not client.is_tls:
            raise InvalidAuthorization(
                "this proxy takes TLS connections only", hint="Connect with sslmode=require.", severity="FATAL"
            )
        if startup.replication is Replication.WANTED and not self.is_replication_allowed:
            raise no_replication()

    def check_accepted(self, startup: Startup) -> None:
        """What only a server that reads `replication` in its own way lets in is refused as well."""
        if startup.replication is not Replication.NONE and not self.is_replication_allowed:
            raise no_replication()


def no_replication() -> InvalidAuthorization:
    return InvalidAuthorization(
        "replication connections are refused by this proxy",
        hint="They carry ciphertext; `replication: allow` in the configuration lets them through.",
        severity="FATAL",
    )


def check_auth(settings: NetSettings) -> list[str]:
    """Why these settings cannot serve, one sentence each; empty when they can."""
    return [*_missing(settings), *_exposed(settings), *_unreadable(settings)]


def _missing(settings: NetSettings) -> list[str]:
    auth, tls, server = settings.auth, settings.client_tls, settings.server
    found = []
    if auth.mode in (AuthMode.TERMINATE, AuthMode.PINNED) and auth.verifiers is None:
        found.append(f"auth mode {auth.mode.value} checks log-ins itself and needs `verifiers`")
    if auth.mode is AuthMode.RELAY and auth.verifiers is not None:
        found.append("auth mode relay has no use for `verifiers`; use auto, terminate or pinned")
    if tls.cert is None and (tls.require or tls.key or tls.ca):
        found.append("client_tls needs `cert` before `key`, `ca` or `require` can mean anything")
    if server.tls is Tls.DISABLE and (server.cert or server.ca or server.key):
        found.append("server has `tls: disable` beside certificates that would not be used")
    if server.host.startswith("/") and server.tls is not Tls.DISABLE:
        found.append("PostgreSQL has no TLS on a Unix socket: server needs `tls: disable`")
    return found


def _exposed(settings: NetSettings) -> list[str]:
    """Off loopback each leg is protected, or says that it is not."""
    tls, server = settings.client_tls, settings.server
    found = []
    if not is_loopback(settings.host) and not tls.insecure and not (tls.cert and tls.require):
        found.append("listening off loopback needs client_tls `cert` and `require: true`, or `insecure: true`")
    if not is_loopback(server.host) and server.tls is not Tls.VERIFY_FULL and not server.insecure:
        found.append("a server off loopback needs `tls: verify-full`, or `insecure: true`")
    return found


def _unreadable(settings: NetSettings) -> list[str]:
    auth, tls = settings.auth, settings.client_tls
    found = [
        *_failure(
            "client_tls", lambda: (client_leg_context(tls), certificate_binding(tls.cert) if tls.cert else b"")
        ),
        *_failure("server", lambda: server_leg_context(settings.server)),
    ]
    path = auth.verifiers
    if path is not None:
        found += _failure("auth", lambda: Verifiers.read(path))
    return found


def _failure(section: str, attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except ConfigError as error:
        return [f"{section}: {error.message}"]
    except ssl.SSLError as error:
        return [f"{section}: a certificate or key cannot be used ({error.reason or 'not PEM'})"]
    except OSError as error:
        return [f"{section}: {error.strerror}: {error.filename or 'certificate, key or verifier file'}"]
    except ValueError:
        return [f"{section}: a certificate cannot be read"]
    return []
