"""What the socket edge is told: the sections of the configuration that concern sockets, and its time bounds.

One reason to change: a setting of the edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.config import AuthConfig, ClientTlsConfig, Config, Replication, ServerConfig


@dataclass(frozen=True, slots=True)
class NetSettings:
    """`port` 0 takes a free one. Times bound the whole log-in, one connect to the server, the wait at a stop."""

    host: str = "127.0.0.1"
    port: int = 6432
    server: ServerConfig = field(default_factory=ServerConfig)
    client_tls: ClientTlsConfig = field(default_factory=ClientTlsConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    is_replication_allowed: bool = False
    login_timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    stop_timeout_s: float = 30.0

    @classmethod
    def of(cls, config: Config) -> NetSettings:
        return cls(
            host=config.listen.host,
            port=config.listen.port,
            server=config.server,
            client_tls=config.client_tls,
            auth=config.auth,
            is_replication_allowed=config.replication is Replication.ALLOW,
        )
