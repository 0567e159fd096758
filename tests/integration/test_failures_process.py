"""The world around a running proxy fails: no room for the audit file, the server gone. Errors, then recovery."""

from __future__ import annotations

import resource
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.embedded import FAST, EmbeddedPostgres
from tests.conftest import Database
from tests.integration.failing import PGSEAL, eventually, refused, running, until
from tests.playbook import query
from tests.sealed import Sealed, sealed_database
from tests.wire_client import Endpoint, WireClient

RULES = """
version: 1
tenant: {from: fixed, name: one}
tables:
  public.people:
    columns:
      ssn: {type: text}
roles:
  default: {read: plain}
"""
TABLE = "CREATE TABLE people (id serial PRIMARY KEY, ssn text)"
INSERT = "INSERT INTO people (ssn) VALUES ('x')"


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def give_room(pid: int, size: int) -> None:
    """No file of the workers may grow beyond this: writes give EFBIG, as a full disk gives ENOSPC."""
    for worker in children(pid):
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_audit_without_room_refuses_protected_statements_until_there_is_room(
    database: Database, tmp_path: Path
) -> None:
    """What was written stays, PS007 for protected statements, plain ones go on; with room again all is well."""
    with (
        running(tmp_path, database, RULES) as (pid, dsn),
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        connection.execute(TABLE)
        for _ in range(40):
            connection.execute(INSERT)
        trail = max((tmp_path / "audit").glob("*.jsonl"), key=lambda path: path.stat().st_size)
        until(lambda: trail.read_bytes().count(b'"INSERT"') == 40)
        before = trail.read_bytes()
        give_room(pid, len(before) + 100)
        acknowledged = 40
        while acknowledged < 5000:
            try:
                connection.execute(INSERT)
            except psycopg.Error as error:
                assert error.sqlstate == "PS007", error
                break
            acknowledged += 1
        assert refused(lambda: connection.execute("SELECT ssn FROM people")) == "PS007"
        assert connection.execute("SELECT 1").fetchone() == (1,)
        kept = trail.read_bytes()
        assert kept.startswith(before) and kept.endswith(b"\n") and len(kept) <= len(before) + 100
        give_room(pid, resource.RLIM_INFINITY)
        eventually(lambda: connection.execute(INSERT), None, "PS007")
        acknowledged += 1
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (acknowledged,)
        assert trail.read_bytes().startswith(kept)
        until(lambda: trail.read_bytes().count(b'"INSERT"') >= acknowledged)
    checked = subprocess.run(
        [PGSEAL, "audit", "verify", "--config", tmp_path / "pgseal.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, that may be killed."""
    with EmbeddedPostgres(settings=FAST) as made:
        yield made


@pytest.fixture
def sealed(server: EmbeddedPostgres) -> Iterator[Sealed]:
    with sealed_database(server, RULES, [TABLE, INSERT]) as made:
        yield made


def busy(sealed: Sealed, caught: list[BaseException]) -> threading.Thread:
    """A connection in the middle of a protected read."""

    def job() -> None:
        try:
            with sealed.connect() as connection:
                connection.execute("SELECT ssn, pg_sleep(60) FROM people")
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=job)
    thread.start()
    until(lambda: sealed.stored("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == [(1,)])
    return thread


def serves(sealed: Sealed) -> bool:
    """A new connection gets through."""
    try:
        return bool(sealed.query("SELECT ssn FROM people"))
    except psycopg.OperationalError:
        return False


def test_server_stopped_in_a_query_says_57p01_and_a_new_connection_is_served(sealed: Sealed) -> None:
    """The server's own last word reaches the client; with the server back the proxy goes on by itself."""
    caught: list[BaseException] = []
    thread = busy(sealed, caught)
    sealed.server.stop()
    thread.join(20)
    assert [getattr(error, "sqlstate", None) for error in caught] == ["57P01"]
    with pytest.raises(psycopg.OperationalError):
        sealed.connect()
    sealed.server.start()
    until(lambda: serves(sealed))
    assert sealed.query("SELECT ssn FROM people") == [("x",)]


def test_server_killed_in_a_query_ends_the_connection_and_recovers(sealed: Sealed) -> None:
    """A server that says nothing any more: the client hears 08006, and what was committed is there."""
    with sealed.connect() as connection:
        connection.execute(INSERT)
    with sealed.direct() as admin:
        admin.execute("CHECKPOINT")
    caught: list[BaseException] = []
    thread = busy(sealed, caught)
    sealed.server.kill()
    thread.join(20)
    assert [getattr(error, "sqlstate", None) for error in caught] == ["08006"]
    sealed.server.start()
    until(lambda: serves(sealed))
    assert sealed.query("SELECT ssn FROM people") == [("x",), ("x",)]


def test_backend_killed_in_a_query_costs_the_others_only_what_postgresql_costs_them(sealed: Sealed) -> None:
    """One backend ended by its administrator: its client hears 57P01, another connection notices nothing."""
    caught: list[BaseException] = []
    with sealed.connect() as other:
        thread = busy(sealed, caught)
        with sealed.direct() as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        thread.join(20)
        assert [getattr(error, "sqlstate", None) for error in caught] == ["57P01"]
        assert other.execute("SELECT ssn FROM people").fetchall() == [("x",)]


def test_client_that_leaves_in_a_result_leaves_an_event(sealed: Sealed) -> None:
    """Cells it was shown are in the audit trail, though the statement never ended for it."""
    with WireClient.connect(Endpoint(sealed.port, sealed.name, "app")) as client:
        client.send(query("SELECT ssn FROM people, generate_series(1, 2000000)"))
        while client.receive().name != "DataRow":
            pass
        client.reset()
    audit = sealed.folder / "audit"
    until(lambda: any(b'"unknown"' in path.read_bytes() for path in audit.glob("*.jsonl")))
