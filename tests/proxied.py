"""The proxy before a test's server. One reason to change: how the proxy is started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.config import ServerConfig, Tls
from proxy.embedded import EmbeddedPostgres
from proxy.net.settings import NetSettings
from tests.edge import CopyServices, running_edge


@contextmanager
def running_proxy(server: EmbeddedPostgres) -> Iterator[int]:
    """A proxy in front of the server, without rules; gives its port."""
    settings = NetSettings(port=0, server=ServerConfig("127.0.0.1", server.port, Tls.DISABLE))
    with running_edge(settings, CopyServices()) as edge:
        yield edge.port
