"""The proxy before a test's server, in a thread of its own. One reason to change: how the proxy is started.

Every database is served by a real session under rules that protect one table, `vault`, which no conversation over
plain tables touches; so what they pass is the whole road of an unprotected statement in a protected database.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from proxy.audit.sinks import open_auditor
from proxy.audit.writers import next_writer
from proxy.config import ServerConfig, Tls
from proxy.dsn import parse_dsn
from proxy.metrics import Counters
from proxy.net.databases import Database, Databases, Shared
from proxy.net.server import Login
from proxy.net.settings import NetSettings
from proxy.rules import Ruleset
from proxy.rules_load import load_rules
from proxy.service.connection import ServiceTarget
from proxy.session.connection import Splice
from proxy.session.interface import ClientConnection
from tests.edge import running_edge

RULES = """
version: 1
tenant: {from: fixed, name: t}
tables:
  public.vault:
    columns:
      secret: {type: text}
roles:
  default: {read: plain}
"""


class AnyDatabase(Databases):
    """Databases come and go with the tests: each gets the rules at its first connection."""

    def __init__(self, rules: Ruleset, target: ServiceTarget, shared: Shared) -> None:
        super().__init__({}, target, shared)
        self._rules = rules
        self._place = target
        self._common = shared

    async def open(self, login: Login) -> ClientConnection:
        name = login.database
        if name not in self.by_name:
            place = replace(self._place, database=name)
            self.by_name[name] = Database(replace(self._rules, database=name), place, self._common)
        return await super().open(login)


class OnlySplices(AnyDatabase):
    """What databases without rules get."""

    async def open(self, login: Login) -> ClientConnection:
        return Splice()

    def closed(self, connection: ClientConnection) -> None:
        """Nothing is kept."""


@contextmanager
def running_proxy(server_port: int, services: type[AnyDatabase] = AnyDatabase) -> Iterator[int]:
    """A proxy in front of a server that trusts loopback; gives its port."""
    settings = NetSettings(port=0, server=ServerConfig("127.0.0.1", server_port, Tls.DISABLE))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "rules.yaml").write_text(RULES)
        start = next_writer(bytes(32), place / "audit", place / "state", "wire", 0, time.time())
        auditor = open_auditor(place / "audit", place / "state", start, is_blocking=True)
        # no statement of the wire tests asks for a key: one that did would fail loudly
        shared = Shared(keys=None, audit=auditor, counters=Counters(), fingerprint_key=bytes(32))  # type: ignore[arg-type]
        target = ServiceTarget(
            parse_dsn(f"postgresql://postgres@127.0.0.1:{server_port}/postgres?sslmode=disable")
        )
        rules = load_rules(place / "rules.yaml", "any")["any"]
        with running_edge(settings, services(rules, target, shared)) as edge:
            yield edge.port
        auditor.close()
