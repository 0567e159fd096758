"""Fixtures every test may use: a running PostgreSQL and fresh databases in it.

`PGSEAL_TEST_PG` chooses the server's major version (`make test PG=18`). A missing server fails the run: the
fixture raises, nothing is skipped. Each xdist worker has a server of its own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from psycopg import sql

from proxy.embedded import FAST, EmbeddedPostgres
from tests import drivers
from tests.golden import Stage
from tests.proxied import running_proxy
from tests.wire_client import Endpoint

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("PGSEAL_CACHE", str(ROOT / ".cache"))
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process of a test compiles everything anew

# `fast` at a desk looks for new examples in every run, `deep` (make fuzz) for many; `ci` tries the same ones each
# time, so that a change is judged by what it changes. A busy machine is no failure in any of them.
settings.register_profile("fast", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", settings.get_profile("fast"), max_examples=3000, print_blob=True)
settings.register_profile("ci", settings.get_profile("fast"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "fast"))

_numbers = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of drivers that cannot be had here; the closing lines name them."""
    absent = drivers.missing()
    gone = [item for item in items if any(m.args[0] in absent for m in item.iter_markers("driver"))]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One visible line for each driver that could not be had."""
    for name, reason in drivers.missing().items():
        terminalreporter.write_line(f"NOT TESTED: {name} could not be had: {reason}", yellow=True)


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test's own, on the worker's server."""

    name: str
    server: EmbeddedPostgres

    @property
    def port(self) -> int:
        return self.server.port

    def dsn(self, user: str = "postgres") -> str:
        """URI of a direct connection."""
        return self.server.dsn(user, self.name)

    def connect(self, user: str = "postgres", autocommit: bool = True) -> psycopg.Connection:
        """A direct psycopg connection."""
        return psycopg.connect(self.dsn(user), autocommit=autocommit)

    def execute(self, statement: str) -> None:
        """Runs one or more statements directly, as superuser."""
        with self.connect() as connection:
            connection.execute(statement.encode())


def chosen_version() -> int | None:
    """The major version the run asks for, None for what the machine has."""
    asked = os.environ.get("PGSEAL_TEST_PG", "").strip()
    return int(asked) if asked else None


@pytest.fixture(autouse=True)
def unconfigured_log() -> Iterator[None]:
    """A command run inside a test sets the log up for that test's output only."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server without durability, one a worker; superuser `postgres`, trust on loopback."""
    settings = {**FAST, "max_connections": "200", "max_prepared_transactions": "5", "wal_level": "logical"}
    with EmbeddedPostgres(version=chosen_version(), settings=settings) as server:
        yield server


@contextmanager
def new_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A fresh empty database, dropped afterwards even while someone is connected."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield Database(name, postgres)
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database of the test's own."""
    with new_database(postgres) as found:
        yield found


@pytest.fixture(scope="session")
def proxied(postgres: EmbeddedPostgres) -> Iterator[int]:
    """The port of a proxy without rules before the worker's server."""
    with running_proxy(postgres.port) as port:
        yield port


@pytest.fixture(scope="session")
def stage(postgres: EmbeddedPostgres) -> Stage:
    """The database of the golden traces."""
    stage = Stage(postgres, f"golden{os.getpid()}")
    stage.build()
    return stage


@pytest.fixture
def through(stage: Stage, proxied: int) -> Endpoint:
    """The golden traces' database by way of the proxy."""
    return Endpoint(proxied, stage.name)


@pytest.fixture
def plain(database: Database, proxied: int) -> Endpoint:
    """A fresh database by way of the proxy, for drivers."""
    return Endpoint(proxied, database.name)
