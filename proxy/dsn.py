"""The service log-in's connection string: read, checked, and kept so that its password is never shown.

A connection URI as in the PostgreSQL manual, "Connection URIs", with one host. One reason to change: which of
its parts are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit


class SslMode(Enum):
    """sslmode of libpq."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


_OPTIONS: Final = {"host", "port", "dbname", "user", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile"}
_FORM: Final = "must be postgresql://user@host:port/database, with options such as ?sslmode=verify-full"


@dataclass(frozen=True, slots=True)
class ServiceDsn:
    """`uri` is what asyncpg connects with. It may hold a password, so it has no place in repr or messages."""

    host: str
    port: int
    user: str
    database: str
    sslmode: SslMode
    uri: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"


def parse_dsn(raw: object) -> ServiceDsn:
    """A connection URI -> ServiceDsn; ValueError, which never quotes it."""
    if isinstance(raw, ServiceDsn):
        return raw
    if not isinstance(raw, str) or "\0" in raw:
        raise ValueError(_FORM)
    try:
        parts = urlsplit(raw)
        host, port = unquote(parts.hostname or ""), parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        port = int(options.get("port", port or 5432))
    except ValueError:
        raise ValueError(_FORM) from None
    if parts.scheme not in ("postgresql", "postgres") or "," in parts.netloc or parts.fragment:
        raise ValueError(_FORM)
    if not options.keys() <= _OPTIONS:
        raise ValueError(f"has an unknown option; known are {', '.join(sorted(_OPTIONS))} (never a password)")
    user = options.get("user", unquote(parts.username or ""))
    database = options.get("dbname", unquote(parts.path.removeprefix("/")))
    host = options.get("host", host) or "127.0.0.1"
    if not user or not database or "," in host or not 0 < port < 65536:
        raise ValueError(_FORM)
    try:
        sslmode = SslMode(options.get("sslmode", "prefer"))
    except ValueError:
        raise ValueError(
            f"has an unknown sslmode; known are {', '.join(mode.value for mode in SslMode)}"
        ) from None
    return ServiceDsn(host, port, user, database, sslmode, raw)
