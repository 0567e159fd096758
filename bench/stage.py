"""What the benchmark runs against: one PostgreSQL, PgBouncer and pgseal before it, and tables of the same shape.

`plain` and `sealed` hold the same columns; in `sealed` the column `secret` is protected (randomised, no search).
pgseal runs as its users run it: `pgseal init`, `pgseal run`, one worker. One reason to change: what is compared.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from proxy.embedded import EmbeddedPostgres

DATABASE, USER = "bench", "app"
N_ROWS = 100_000
N_DISTINCT_CELLS = 2_000
SERVER_SETTINGS = {
    "shared_buffers": "512MB",
    "max_connections": "200",
    "fsync": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}
COLUMNS = "(id int PRIMARY KEY, branch int, balance int, secret text)"
RULES = """\
version: 1
database: bench
tenant: {from: fixed, name: bench}
tables:
  public.sealed: {columns: {secret: {type: text}}}
  public.sealed_rows: {columns: {secret: {type: text, context: public.sealed.secret}}}  # cells are copied there
roles:
  default: {read: deny}
  app: {read: plain}
"""
CONFIG = """\
listen: 127.0.0.1:0
state: .pgseal/state
server: {{host: 127.0.0.1, port: {port}, tls: disable}}
rules: rules/
service: postgresql://pgseal@127.0.0.1:{port}/bench?passfile=.pgseal/pgpass
kms: {{main: {{provider: local, keyfile: .pgseal/kek}}}}
audit: {{path: audit/}}
"""
PGBOUNCER = """\
[databases]
bench = host=127.0.0.1 port={port} dbname=bench user=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = 300
default_pool_size = 150
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
logfile = {folder}/pgbouncer.log
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A road to the database: its port, the table its statements name, and the process that stands in between."""

    name: str
    port: int
    table: str
    pid: int | None

    def dsn(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}?sslmode=disable"


@dataclass(frozen=True, slots=True)
class Stage:
    server: EmbeddedPostgres
    targets: tuple[Target, ...]
    pgbouncer_version: str | None


@contextmanager
def stage(n_rows_read: int) -> Iterator[Stage]:
    """Everything up and loaded; all of it gone afterwards."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings=SERVER_SETTINGS))
        _create(server)
        proxy = stack.enter_context(_pgseal(server.port))
        _load(server, proxy[0], n_rows_read)
        targets = [Target("direct", server.port, "plain", None)]
        bouncer = _pgbouncer_program()
        if bouncer is not None:
            port, pid = stack.enter_context(_pgbouncer(bouncer, server))
            targets.append(Target("pgbouncer", port, "plain", pid))
        targets.append(Target("unprotected", proxy[0], "plain", proxy[1]))
        targets.append(Target("protected", proxy[0], "sealed", proxy[1]))
        version = _version(bouncer) if bouncer is not None else None
        yield Stage(server, tuple(targets), version)


def _create(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {USER} LOGIN")
        admin.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")


@contextmanager
def _pgseal(server_port: int) -> Iterator[tuple[int, int]]:
    """`pgseal init` and `pgseal run`: port and process id of the parent."""
    command = Path(sys.executable).with_name("pgseal")
    with tempfile.TemporaryDirectory(prefix="pgseal-bench-") as folder:
        place = Path(folder)
        (place / "rules").mkdir()
        (place / "rules" / "bench.yaml").write_text(RULES)
        (place / "pgseal.yaml").write_text(CONFIG.format(port=server_port))
        admin = f"postgresql://postgres@127.0.0.1:{server_port}/{DATABASE}"
        init = [command, "init", "--admin-dsn", admin, "--app-login", USER]
        answer = subprocess.run(init, cwd=place, capture_output=True, text=True)
        if answer.returncode != 0:
            raise RuntimeError(f"pgseal init failed: {answer.stdout}{answer.stderr}")
        with (place / "log").open("w") as log:
            process = subprocess.Popen(
                [command, "run", "--log-level", "warning"], cwd=place, stdout=log, stderr=log
            )
        try:
            yield _announced_port(process, place / "log"), process.pid
        finally:
            process.terminate()
            process.wait(timeout=60)


def _announced_port(process: subprocess.Popen[bytes], log: Path, timeout_s: float = 30.0) -> int:
    """The port that pgseal says it serves, once it does."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        match = re.search(r"serves 127\.0\.0\.1:(\d+)", log.read_text())
        if match:
            _wait_until_open(int(match.group(1)))
            return int(match.group(1))
        time.sleep(0.05)
    raise RuntimeError(f"pgseal run does not serve: {log.read_text()[-2000:]}")


def _wait_until_open(port: int, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _load(server: EmbeddedPostgres, proxy_port: int, n_rows_read: int) -> None:
    """The same rows in both tables. Cells are sealed through the proxy, then copied beside it to make many rows:
    a reader opens each one by itself all the same."""
    through = f"postgresql://{USER}@127.0.0.1:{proxy_port}/{DATABASE}"
    with psycopg.connect(through, autocommit=True) as app:
        app.execute(f"CREATE TABLE plain {COLUMNS}")
        app.execute(f"CREATE TABLE sealed {COLUMNS}")
        app.execute(f"CREATE TABLE plain_rows {COLUMNS}")
        app.execute(f"CREATE TABLE sealed_rows {COLUMNS}")
        with app.cursor() as cursor:
            rows = [(n, n % 100, n, f"secret number {n:08d}") for n in range(N_DISTINCT_CELLS)]
            for table in ("plain", "sealed"):
                cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s, %s, %s)", rows)
    with psycopg.connect(server.dsn("postgres", DATABASE), autocommit=True) as admin:
        for table in ("plain", "sealed"):
            _multiply(admin, table, table, N_DISTINCT_CELLS, N_ROWS)
            _multiply(admin, table, f"{table}_rows", 0, n_rows_read)
        admin.execute("VACUUM ANALYZE")


def _multiply(admin: psycopg.Connection, source: str, target: str, first: int, last: int) -> None:
    admin.execute(
        f"INSERT INTO {target} SELECT g, g % 100, g, s.secret FROM generate_series({first}, {last - 1}) g "
        f"JOIN {source} s ON s.id = g % {N_DISTINCT_CELLS}"
    )


def _pgbouncer_program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True).stdout.splitlines()[0]


@contextmanager
def _pgbouncer(program: str, server: EmbeddedPostgres) -> Iterator[tuple[int, int]]:
    """Session pooling, under the server's account since it refuses root."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pgseal-bouncer-"))
    (folder / "pgbouncer.ini").write_text(PGBOUNCER.format(port=server.port, own_port=port, folder=folder))
    account = server.account
    options = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    if account is not None:
        shutil.chown(folder, account.pw_uid, account.pw_gid)
    process = subprocess.Popen([program, "-q", str(folder / "pgbouncer.ini")], cwd="/", **options)
    try:
        _wait_until_open(port)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
