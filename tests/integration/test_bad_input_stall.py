"""Monstrous statements and pipelines: refused or planned, no crash, and another connection is not kept waiting.

A process pings through the proxy all the while; how much longer its longest wait is than alone is printed. What
is asserted is that the pings do not wait for the statement: figures depend on how busy the machine is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Database
from tests.integration.failing import running
from tests.playbook import bind, execute, parse, sync
from tests.wire_client import Endpoint, WireClient

RULES = """
version: 1
tenant: {from: fixed, name: one}
tables:
  public.people:
    columns:
      ssn: {type: text, search: equality}
roles:
  default: {read: plain}
"""
STALL_S = 2.0  # nobody waits that long for a turn, however busy the machine
LONG_S = 1.0  # only of a statement that takes long can waiting for it be told from waiting for a turn
LARGEST_PART = 0.5
Monster = Callable[[], tuple[str, list[object]]]


PINGER = """
import select, sys, time, psycopg
longest = 0.0
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    print(flush=True)
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        start = time.perf_counter()
        connection.execute("SELECT 1")
        longest = max(longest, time.perf_counter() - start)
print(longest)
"""


@dataclass(slots=True)
class Pings:
    """Round trips of a connection that is not concerned, in a process of its own."""

    longest_s: float = 0.0


@contextmanager
def pinging(dsn: str) -> Iterator[Pings]:
    pings = Pings()
    command = [sys.executable, "-c", PINGER, dsn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield pings
        finally:
            said, _ = process.communicate("\n", timeout=30)
    assert process.returncode == 0
    pings.longest_s = float(said)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, postgres) -> Iterator[tuple[str, Path]]:  # type: ignore[no-untyped-def]
    """The proxy in processes of its own: a test that is busy itself must not be what delays the pings."""
    folder = tmp_path_factory.mktemp("stall")
    name = f"stall_{folder.name.replace('-', '_')}_{postgres.port}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    with running(folder, Database(name, postgres), RULES) as (_, dsn):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE people (id int, ssn text)")
            connection.execute("INSERT INTO people VALUES (1, 'x')")
        yield dsn, folder / "stderr"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def union_chain() -> tuple[str, list[object]]:
    part = "SELECT ssn FROM people WHERE id = 1"
    return " UNION ALL ".join([part] * (380_000 // (len(part) + 11))), []


def brackets() -> tuple[str, list[object]]:
    return f"SELECT ssn FROM people WHERE {'(' * 1000}id = 1{')' * 1000}", []


def subqueries() -> tuple[str, list[object]]:
    return "SELECT ssn FROM " + "(SELECT * FROM " * 1000 + "people" + ") x" * 1000, []


def parameters() -> tuple[str, list[object]]:
    rows = ",".join("(%s,%s)" for _ in range(65535 // 2))
    return f"INSERT INTO people (id, ssn) VALUES {rows}", [v for n in range(65535 // 2) for v in (n, "v")]


def many_in() -> tuple[str, list[object]]:
    marks = ",".join(["%s"] * 65535)
    return f"SELECT ssn FROM people WHERE ssn IN ({marks})", [f"v{n}" for n in range(65535)]


def large_insert() -> tuple[str, list[object]]:
    row = f"(7, '{'v' * 180}')"
    return "INSERT INTO people (id, ssn) VALUES " + ",".join([row] * (2_000_000 // (len(row) + 1))), []


def many_statements() -> tuple[str, list[object]]:
    return "; ".join(f"INSERT INTO people (id, ssn) VALUES ({n}, 'v{n}')" for n in range(10_000)), []


def large_array() -> tuple[str, list[object]]:
    return "SELECT ssn FROM people WHERE ssn = ANY(%s)", [[f"v{n}" for n in range(100_000)]]


def one_large_value() -> tuple[str, list[object]]:
    return f"INSERT INTO people (id, ssn) VALUES (8, '{'v' * 2_000_000}')", []


def unclosed() -> tuple[str, list[object]]:
    return "SELECT ssn FROM people WHERE ssn = '" + "''" * 500_000, []


MONSTERS = (
    union_chain,
    brackets,
    subqueries,
    parameters,
    many_in,
    large_insert,
    many_statements,
    large_array,
    one_large_value,
    unclosed,
)
REFUSALS = ("PS001", "54000", "54001", "42601", "08P01", "42P01")


def pipelined_executes() -> list[bytes]:
    """Of a planned statement, all in one batch."""
    made = parse("SELECT ssn FROM people WHERE id = $1", name="r") + sync()
    return [made, (bind("1", statement="r") + execute()) * 10_000 + sync()]


def pipelined_batches() -> list[bytes]:
    """Of a plain statement, each with its own Sync."""
    made = parse("SELECT $1::int", name="r") + sync()
    return [made, (bind("1", statement="r") + execute() + sync()) * 10_000]


def pipelined_parses() -> list[bytes]:
    """Of statements that all differ."""
    made = (parse(f"SELECT ssn AS s{n} FROM people WHERE id = {n}", name=f"p{n}") for n in range(2000))
    return [b"".join(made) + sync()]


PIPELINES = (pipelined_executes, pipelined_batches, pipelined_parses)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("monster", MONSTERS, ids=lambda made: made.__name__)
def test_monstrous_statement_keeps_nobody_waiting(served: tuple[str, Path], monster: Monster, capsys) -> None:  # type: ignore[no-untyped-def]
    """Refused or planned; the worker lives; pings do not wait for it in the best of three: noise only adds."""
    text, values = monster()

    def say(dsn: str) -> str:
        with psycopg.connect(dsn, autocommit=True) as connection:
            try:
                connection.execute(text.encode(), values or None)
            except psycopg.Error as error:
                assert error.sqlstate in REFUSALS
                return error.sqlstate
        return "planned"

    _keeps_nobody_waiting(served, monster.__name__, say, capsys)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("monster", PIPELINES, ids=lambda made: made.__name__)
def test_monstrous_pipeline_keeps_nobody_waiting(
    served: tuple[str, Path], monster: Callable[[], list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Answered without an error; pings do not wait for thousands of messages that come in one go."""
    chunks = monster()

    def say(dsn: str) -> str:
        place = conninfo_to_dict(dsn)
        endpoint = Endpoint(int(str(place["port"])), str(place["dbname"]), str(place["user"]), str(place["host"]))
        with WireClient.connect(endpoint) as client:
            for chunk in chunks:
                client.send(chunk)
                for _ in range(chunk.count(sync())):
                    names = {message.name for message in client.read_until_ready()}
                    assert "ErrorResponse" not in names
        return "answered"

    _keeps_nobody_waiting(served, monster.__name__, say, capsys)


def _keeps_nobody_waiting(
    served: tuple[str, Path], name: str, say: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    dsn, log = served
    with pinging(dsn) as alone:
        time.sleep(0.5)
    is_stalled = True
    for _ in range(3):
        outcome, longest_s, took_s = survived(dsn, say)
        delay_s = longest_s - alone.longest_s
        is_stalled = is_stalled and _is_stall(delay_s, took_s)
        with capsys.disabled():
            print(f"\n{name}: {outcome} in {took_s:.2f} s, pings delayed {delay_s * 1000:.0f} ms")
        if not is_stalled:
            break
    assert not is_stalled
    assert "Traceback" not in log.read_text()


def _is_stall(delay_s: float, took_s: float) -> bool:
    """Pings waited long, or for a good part of a statement that took long."""
    return delay_s >= STALL_S or (took_s >= LONG_S and delay_s >= took_s * LARGEST_PART)


def survived(dsn: str, say: Callable[[str], str]) -> tuple[str, float, float]:
    """Outcome, the longest ping meanwhile, and how long it took."""
    with pinging(dsn) as pings:
        start = time.perf_counter()
        outcome = say(dsn)
        took_s = time.perf_counter() - start
        with psycopg.connect(dsn, autocommit=True) as connection:
            found = connection.execute("SELECT ssn FROM people WHERE id = 1 AND ssn = 'x'").fetchall()
    assert found == [("x",)]
    return outcome, pings.longest_s, took_s
