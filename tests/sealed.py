"""A protected database before a running worker: what `pgseal init` and `pgseal run` make, in a thread of a test.

    with sealed_database(postgres, RULES, setup=["CREATE TABLE ..."]) as sealed:
        sealed.connect()            # the application, through the proxy
        sealed.direct()             # the database administrator, beside it

`RULES` is a rules file without `database:`; the log-in `app` (the database's owner) is usually `read: plain` in
it. One worker serves all tables of a test module. One reason to change: how an installation is prepared.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
import uvloop
from psycopg import sql

from proxy.audit.writers import next_writer
from proxy.cli.approval import approve, secrets_of
from proxy.cli.init import Init
from proxy.cli.installation import load
from proxy.cli.worker import Worker, start_worker
from proxy.dsn import parse_dsn
from proxy.embedded import EmbeddedPostgres
from proxy.net.settings import NetSettings
from proxy.net.workers import Place

T = TypeVar("T")
OWNER: Final = "app"
WAIT_S: Final = 60.0

CONFIG: Final = """\
listen: 127.0.0.1:0
state: .pgseal/state
server: {{host: 127.0.0.1, port: {port}, tls: disable}}
rules: rules/
service: postgresql://pgseal@127.0.0.1:{port}/{database}?passfile=.pgseal/pgpass
kms: {{main: {{provider: local, keyfile: .pgseal/kek}}}}
audit: {{path: audit/}}
"""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A running installation. `folder` holds pgseal.yaml, rules/, audit/ and .pgseal/."""

    name: str
    server: EmbeddedPostgres
    worker: Worker
    loop: asyncio.AbstractEventLoop
    folder: Path

    @property
    def port(self) -> int:
        """Of the proxy."""
        return self.worker.server.port

    def dsn(self, user: str = OWNER) -> str:
        """URI of a connection through the proxy."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{self.name}"

    def direct_dsn(self, user: str = "postgres") -> str:
        """URI of a connection beside the proxy."""
        return self.server.dsn(user, self.name)

    def connect(self, user: str = OWNER, autocommit: bool = True, **options: Any) -> psycopg.Connection[Any]:
        """Through the proxy."""
        return psycopg.connect(self.dsn(user), autocommit=autocommit, **options)

    def direct(self, user: str = "postgres", autocommit: bool = True, **options: Any) -> psycopg.Connection[Any]:
        """Beside the proxy."""
        return psycopg.connect(self.direct_dsn(user), autocommit=autocommit, **options)

    def query(self, statement: str, *values: Any, user: str = OWNER) -> list[tuple[Any, ...]]:
        """Rows of one statement through the proxy; none where it gives none."""
        with self.connect(user) as connection:
            return _rows(connection, statement, values)

    def stored(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of one statement beside the proxy, as superuser."""
        with self.direct() as connection:
            return _rows(connection, statement, values)

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """A coroutine in the worker's loop."""
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(WAIT_S)


def _rows(connection: psycopg.Connection[Any], statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement.encode(), values or None)
    return cursor.fetchall() if cursor.description else []


@contextmanager
def sealed_database(
    postgres: EmbeddedPostgres,
    rules: str,
    setup: Sequence[str] = (),
    roles: Sequence[str] = (),
    config: str = "",
    before: Sequence[str] = (),
    approved: bool = False,
) -> Iterator[Sealed]:
    """A fresh database under these rules, with one worker before it, until the end of the block.

    `setup` runs through the proxy as `app`, which owns the database; `roles` are further log-ins; `config` is
    appended to pgseal.yaml; `before` runs beside the proxy, as its owner, before that starts; `approved`: with
    a rules.lock of what there is then."""
    name = f"s{os.getpid()}_{next(_numbers)}"
    _create(postgres, name, (OWNER, *roles))
    try:
        with psycopg.connect(postgres.dsn(OWNER, name), autocommit=True) as owner:
            for statement in before:
                owner.execute(statement.encode())
        with tempfile.TemporaryDirectory(prefix="pgseal-test-") as folder, running_loop() as loop:
            place = Path(folder)
            _write_files(place, postgres.port, name, rules, config)
            worker = _wait(loop, _start(place, postgres.dsn(database=name), approved))
            try:
                sealed = Sealed(name, postgres, worker, loop, place)
                _run_setup(sealed, setup)
                yield sealed
            finally:
                _wait(loop, worker.close())
    finally:
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(postgres: EmbeddedPostgres, name: str, roles: Sequence[str]) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        known = {row[0] for row in admin.execute("SELECT rolname FROM pg_roles")}
        for role in set(roles) - known:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER)))


def _write_files(place: Path, port: int, name: str, rules: str, config: str) -> None:
    (place / "pgseal.yaml").write_text(CONFIG.format(port=port, database=name) + config, encoding="utf-8")
    (place / "rules").mkdir()
    (place / "rules" / f"{name}.yaml").write_text(rules, encoding="utf-8")


async def _start(place: Path, admin_dsn: str, approved: bool) -> Worker:
    """As the commands do it: init, then one worker."""
    path = place / "pgseal.yaml"
    await Init(path, parse_dsn(admin_dsn), None, False, False).run()
    installation = load(path)
    if approved:
        await approve(installation)
    secrets = await secrets_of(installation)
    audit, state = installation.config.audit.folder, installation.config.state
    writer = next_writer(bytes(secrets.audit_root), audit, state, secrets.name, 0, time.time())
    return await start_worker(installation, secrets, writer, Place(0, NetSettings.of(installation.config)))


def _run_setup(sealed: Sealed, setup: Sequence[str]) -> None:
    with sealed.connect() as connection:
        for statement in setup:
            connection.execute(statement.encode())


def _wait(loop: asyncio.AbstractEventLoop, job: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(job, loop).result(WAIT_S)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
