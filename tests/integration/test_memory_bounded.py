"""The proxy's memory while much passes: a large COPY both ways, a million rows, a client that stops reading.

`pgseal run` is a process of its own here, and the kernel's peak of its resident memory (VmHWM) is what counts.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.embedded import EmbeddedPostgres
from proxy.wire.frontend import build_query
from tests.conftest import new_database
from tests.proxy_process import Proxy, proxy_process
from tests.wire_client import Endpoint, WireClient

MOST = 150_000_000
GROWTH = 40_000_000  # between the first megabytes and the last
N_ROWS = 1_000_000
N_CELLS = 500
COPY_SIZE = 300_000_000
LINE = b"1\t" + b"x" * 997 + b"\n"
READY = b"Z\0\0\0\5I"
RULES = """\
version: 1
tenant: {from: fixed, name: main}
tables:
  public.sealed: {columns: {secret: {type: text}}}
roles:
  postgres: {read: plain}
"""
COLUMNS = "(id int, branch int, balance int, secret text)"
MANY_LINES = f"COPY (SELECT 1, repeat('x', 997) FROM generate_series(1, {COPY_SIZE // len(LINE)})) TO STDOUT"
MANY_ROWS = f"SELECT s.id, n, s.balance, s.secret FROM sealed s, generate_series(1, {N_ROWS // N_CELLS}) n"


@pytest.fixture(scope="module")
def proxy(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """With a plain table, and a protected one of a few cells."""
    with (
        new_database(postgres) as database,
        proxy_process(tmp_path_factory.mktemp("memory"), database, RULES) as proxy,
    ):
        with proxy.connect() as connection:
            connection.execute("CREATE TABLE plain (id int, pad text)")
            connection.execute(f"CREATE TABLE sealed {COLUMNS}".encode())
            values = [(n, f"secret number {n:08d}") for n in range(N_CELLS)]
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO sealed VALUES (%s, 0, 0, %s)", values)
        yield proxy


def peak(proxy: Proxy) -> int:
    """The most resident memory, in bytes, that any process of the proxy ever had."""
    return max(_peak(pid) for pid in _tree(proxy.process.pid))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def reset_peak(proxy: Proxy) -> None:
    """What the kernel counts starts anew (proc(5), clear_refs)."""
    for pid in _tree(proxy.process.pid):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def connected(proxy: Proxy) -> socket.socket:
    """A socket behind a log-in."""
    return WireClient.connect(Endpoint(proxy.port, proxy.database.name)).socket


def drained(sock: socket.socket) -> tuple[int, bytes]:
    """Reads up to ReadyForQuery: how many bytes came, and the last of them."""
    buffer, size, tail = bytearray(1 << 18), 0, b""
    while not tail.endswith(READY):
        n_read = sock.recv_into(buffer)
        assert n_read, f"closed after {tail!r}"
        size += n_read
        tail = (tail + bytes(buffer[max(0, n_read - 200) : n_read]))[-200:]
    return size, tail


def copied_in(sock: socket.socket, query: bytes) -> tuple[int, bytes]:
    """Sends the whole COPY in messages of 64 lines, unanswered until its end."""
    chunk = LINE * 64
    message = b"d" + (len(chunk) + 4).to_bytes(4, "big") + chunk
    sock.sendall(build_query(query))
    for _ in range(COPY_SIZE // len(chunk)):
        sock.sendall(message)
    sock.sendall(b"c\0\0\0\4")
    return drained(sock)


def check_bounded(proxy: Proxy, run: Callable[[], None]) -> None:
    """The peak during a run: under the bound, and hardly above what a first small one took."""
    reset_peak(proxy)
    before = peak(proxy)
    run()
    after = peak(proxy)
    assert after < MOST, f"{after // 1_000_000} MB"
    assert after - before < GROWTH, f"grew by {(after - before) // 1_000_000} MB"


def test_memory_large_copy_out_of_a_plain_table_is_flat(proxy: Proxy) -> None:
    """Hundreds of megabytes pass; nothing of them stays."""

    def run() -> None:
        with connected(proxy) as sock:
            sock.sendall(build_query(MANY_LINES.encode()))
            size, tail = drained(sock)
            assert size >= COPY_SIZE
            assert b"COPY " in tail

    check_bounded(proxy, run)


def test_memory_large_copy_into_a_plain_table_is_flat(proxy: Proxy) -> None:
    """As much the other way; the server is the slower side."""

    def run() -> None:
        with connected(proxy) as sock:
            _, tail = copied_in(sock, b"COPY plain FROM STDIN WHERE id < 0")
            assert b"COPY 0" in tail

    check_bounded(proxy, run)


def test_memory_million_rows_with_a_protected_column_is_flat(proxy: Proxy) -> None:
    """Each of them opened, none kept."""

    def run() -> None:
        with connected(proxy) as sock:
            sock.sendall(build_query(MANY_ROWS.encode()))
            size, tail = drained(sock)
            assert f"SELECT {N_ROWS}".encode() in tail
            assert b"secret number " in tail
            assert size > N_ROWS * 40

    check_bounded(proxy, run)


@pytest.mark.parametrize("query", [MANY_LINES, MANY_ROWS], ids=["plain copy", "protected rows"])
def test_memory_client_that_stops_reading_holds_the_server_back(proxy: Proxy, query: str) -> None:
    """What it does not take stays with the server: its process waits to write, and the proxy keeps little."""

    def run() -> None:
        with connected(proxy) as sock:
            sock.sendall(build_query(query.encode()))
            waits_to_write(proxy, query)

    check_bounded(proxy, run)


def waits_to_write(proxy: Proxy, query: str, timeout_s: float = 20.0) -> None:
    """Until the server's process is found waiting for its client ten times in a row."""
    asked = "SELECT wait_event FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
    n_found, deadline = 0, time.monotonic() + timeout_s
    with proxy.database.connect() as direct:
        while n_found < 10:
            assert time.monotonic() < deadline, "the server was never held back"
            found = direct.execute(asked, [query[:30] + "%"]).fetchall()
            n_found = n_found + 1 if found == [("ClientWrite",)] else 0
            time.sleep(0.01)
