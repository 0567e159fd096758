"""What the socket edge is told: addresses, TLS of both legs, how log-ins are proved.

Plain values that the configuration is translated to. One reason to change: a setting of the edge.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class Tls(Enum):
    """Towards the server. REQUIRE encrypts without asking who answers."""

    DISABLE = "disable"
    REQUIRE = "require"
    VERIFY_FULL = "verify-full"


class AuthMode(Enum):
    AUTO = "auto"
    RELAY = "relay"
    TERMINATE = "terminate"
    PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class ServerLeg:
    """`host` beginning with / is the folder of a Unix socket. `ca` None: the system's certificates."""

    host: str = "127.0.0.1"
    port: int = 5432
    tls: Tls = Tls.VERIFY_FULL
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    connect_timeout_s: float = 10.0

    @property
    def is_local(self) -> bool:
        return self.host.startswith("/") or is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """`ca` set: certificates that clients show are verified; showing one stays optional."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    require: bool = False
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Auth:
    mode: AuthMode = AuthMode.AUTO
    verifiers: Path | None = None


@dataclass(frozen=True, slots=True)
class NetSettings:
    """`port` 0 takes a free one. Times are bounds of the whole log-in and of the wait at a stop."""

    host: str = "127.0.0.1"
    port: int = 6432
    server: ServerLeg = field(default_factory=ServerLeg)
    client_tls: ClientTls = field(default_factory=ClientTls)
    auth: Auth = field(default_factory=Auth)
    is_replication_allowed: bool = False
    login_timeout_s: float = 60.0
    stop_timeout_s: float = 30.0


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses; a name that would have to be looked up is not."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
