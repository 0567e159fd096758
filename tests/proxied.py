"""The proxy before a test's server. One reason to change: how the proxy is started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.embedded import EmbeddedPostgres
from tests.relay import Relay


@contextmanager
def running_proxy(server: EmbeddedPostgres) -> Iterator[int]:
    """A proxy in front of the server, without rules; gives its port."""
    with Relay(server.port) as relay:
        yield relay.port
