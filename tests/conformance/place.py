"""Where a suite runs: a fresh PostgreSQL 15, and `pgseal run` before it with rules in force.

Both ways of a suite get a server of their own, so that nothing of the first is left for the second. A driver's
suite meets the same prepared database both ways; an application's direct way is a database without encryption.
One reason to change: how a suite's servers are prepared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from proxy.embedded import FAST, EmbeddedPostgres
from tests.conftest import Database
from tests.proxy_process import proxy_process

VERSION = 15
RULES = """
version: 1
tenant: {from: fixed, name: conformance}
tables:
  sealed.patient:
    columns:
      note:   {type: text, search: equality}
      number: {type: int4, search: equality, accept_leakage: "a test"}
      day:    {type: date}
  sealed.vault:
    columns:
      secret: {type: text}
roles:
  default: {read: plain}
"""
SETUP = (
    "CREATE SCHEMA sealed",
    "CREATE TABLE sealed.patient (id int PRIMARY KEY, note text, number int, day date)",
    "CREATE TABLE sealed.vault (id int PRIMARY KEY, secret text)",
    "INSERT INTO sealed.patient VALUES (1, 'one', 1, '2001-01-01'), (2, 'two', 2, NULL)",
)
SETTINGS = {**FAST, "max_connections": "200", "max_prepared_transactions": "10", "wal_level": "logical"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the suite connects; `server` is the PostgreSQL behind it."""

    port: int
    database: str
    server: EmbeddedPostgres
    is_proxied: bool

    def dsn(self, scheme: str = "postgresql") -> str:
        return f"{scheme}://postgres@127.0.0.1:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True)
class World:
    """What stands in the database before the suite. `is_plain_twin`: the direct way has no protected column."""

    database: str = "postgres"
    rules: str = RULES
    setup: tuple[str, ...] = SETUP
    prelude: tuple[str, ...] = ()
    is_plain_twin: bool = False


@contextmanager
def endpoint(world: World, is_proxied: bool) -> Iterator[Endpoint]:
    """A server, and where the suite's connections go: to it, or to the proxy before it."""
    with EmbeddedPostgres(VERSION, settings=SETTINGS) as server:
        _create(server, world)
        database = Database(world.database, server)
        if world.is_plain_twin and not is_proxied:
            _execute(database.dsn(), world.setup)
            yield Endpoint(server.port, world.database, server, is_proxied)
            return
        with (
            tempfile.TemporaryDirectory(prefix="pgseal-conformance-") as folder,
            proxy_process(Path(folder), database, world.rules) as proxy,
        ):
            _execute(proxy.dsn, world.setup)
            yield Endpoint(proxy.port if is_proxied else server.port, world.database, server, is_proxied)


def _create(server: EmbeddedPostgres, world: World) -> None:
    if world.database != "postgres":
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(world.database)))
    _execute(server.dsn(database=world.database), world.prelude)


def _execute(dsn: str, statements: Sequence[str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
