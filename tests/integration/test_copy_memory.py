"""The proxy's memory while a hundred megabytes are copied into a protected table and out of it again.

`pgseal run` is a process of its own here, and the kernel's peak of its resident memory is what counts.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

import pytest

from proxy.embedded import EmbeddedPostgres
from proxy.wire.framing import frame
from proxy.wire.frontend import build_query
from tests.conftest import new_database
from tests.integration.test_memory_bounded import check_bounded, connected, drained
from tests.proxy_process import Proxy, proxy_process

SIZE: Final = 100_000_000
CUT: Final = 65_000  # bytes of a message: most of them cut a row
RULES: Final = """\
version: 1
tenant: {from: fixed, name: main}
tables:
  public.sealed: {columns: {secret: {type: text}}}
roles:
  postgres: {read: plain}
"""
LINE: Final = b"1\t" + b"x" * 2000 + b"\tsecret number 12345678\n"
N_ROWS: Final = SIZE // len(LINE)


@pytest.fixture(scope="module")
def proxy(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """With a protected table of a few cells, so that keys and code are there."""
    with (
        new_database(postgres) as database,
        proxy_process(tmp_path_factory.mktemp("memory"), database, RULES) as proxy,
    ):
        with proxy.connect() as connection:
            connection.execute("CREATE UNLOGGED TABLE sealed (id int, pad text, secret text)")
            with connection.cursor().copy("COPY sealed FROM STDIN") as copy:
                copy.write(LINE * 2000)
            with connection.cursor().copy("COPY sealed TO STDOUT") as copy:
                assert sum(len(part) for part in copy) == 2000 * len(LINE)
        yield proxy


def send_all(sock: socket.socket) -> None:
    whole = LINE * 50
    stream = b""
    left = N_ROWS
    while left or stream:
        if left and len(stream) < CUT:
            n = min(50, left)
            stream += whole if n == 50 else LINE * n
            left -= n
            continue
        sock.sendall(frame(b"d", stream[:CUT]))
        stream = stream[CUT:]


def test_memory_large_copy_into_a_protected_table_is_flat(proxy: Proxy) -> None:
    """Rows are sealed as they come, and only one that is cut off is kept. (WHERE keeps the table small.)"""

    def run() -> None:
        with connected(proxy) as sock:
            sock.sendall(build_query(b"COPY sealed FROM STDIN WHERE id < 0"))
            send_all(sock)
            sock.sendall(frame(b"c", b""))
            _, tail = drained(sock)
            assert b"COPY 0" in tail, tail

    check_bounded(proxy, run)


def test_memory_large_copy_out_of_a_protected_table_is_flat(proxy: Proxy) -> None:
    """Cells are opened as they pass."""
    text = f"COPY (SELECT s.id, s.pad, s.secret FROM sealed s, generate_series(1, {N_ROWS // 2000})) TO STDOUT"

    def run() -> None:
        with connected(proxy) as sock:
            sock.sendall(build_query(text.encode()))
            size, tail = drained(sock)
            assert f"COPY {N_ROWS // 2000 * 2000}".encode() in tail
            assert size > SIZE * 0.95

    check_bounded(proxy, run)
