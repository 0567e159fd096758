"""The relay between two plain sockets that the test holds itself: turns, pauses, ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from proxy.config import ServerConfig, Tls
from proxy.errors import ProtocolViolation
from proxy.net.legs import HIGH_WATER
from proxy.net.settings import NetSettings
from proxy.session.interface import CatalogNeed, ClientConnection, Close, Step
from tests import oracle
from tests.edge import CopyConnection, CopyServices, Edge, running_edge

AUTH_OK = b"R\0\0\0\x08\0\0\0\0"
STARTUP = oracle.startup({"user": "ann"}, oracle.VERSION_3_0)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A client and a server on both ends of one relay, logged in."""

    edge: Edge
    client: socket.socket
    server: socket.socket

    @property
    def connection(self) -> ClientConnection:
        return self.edge.services.connections[-1]


@contextmanager
def tunnel(make: Callable[[], ClientConnection] = CopyConnection, **given: object) -> Iterator[Tunnel]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        leg = ServerConfig("127.0.0.1", listener.getsockname()[1], tls=Tls.DISABLE)
        services = CopyServices(make=lambda login: make(), **given)  # type: ignore[arg-type]
        with running_edge(NetSettings(port=0, server=leg), services) as edge:
            client, server = log_in(edge, listener)
            with client, server:
                yield Tunnel(edge, client, server)


def log_in(edge: Edge, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(("127.0.0.1", edge.port), timeout=10)
    client.sendall(STARTUP)
    server, _ = listener.accept()
    server.settimeout(10)
    assert exactly(server, len(STARTUP)) == STARTUP
    server.sendall(AUTH_OK)
    assert exactly(client, len(AUTH_OK)) == AUTH_OK
    return client, server


def exactly(sock: socket.socket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        chunk = sock.recv(size - len(taken))
        assert chunk, f"closed after {taken!r}"
        taken += chunk
    return taken


def rest(sock: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    taken = b""
    while chunk := sock.recv(65536):
        taken += chunk
    return taken


def fill(sock: socket.socket, limit: int) -> int:
    """Sends until nothing is taken for a while; gives the count."""
    sock.settimeout(0.5)
    sent = 0
    try:
        while sent < limit:
            sent += sock.send(bytes(65536))
    except TimeoutError:
        pass
    sock.settimeout(10)
    return sent


def test_bytes_pass_both_ways():
    """In order, whatever the sizes."""
    with tunnel() as t:
        for size in (1, 100, 300_000):
            sender = threading.Thread(target=t.client.sendall, args=(b"c" * size,))
            sender.start()
            assert exactly(t.server, size) == b"c" * size
            sender.join()
            sender = threading.Thread(target=t.server.sendall, args=(b"s" * size,))
            sender.start()
            assert exactly(t.client, size) == b"s" * size
            sender.join()


def test_bytes_sent_with_the_startup_packet_are_not_lost():
    """A client may pipeline its first query; a server its whole greeting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        leg = ServerConfig("127.0.0.1", listener.getsockname()[1], tls=Tls.DISABLE)
        with (
            running_edge(NetSettings(port=0, server=leg)) as edge,
            socket.create_connection(("127.0.0.1", edge.port), timeout=10) as client,
        ):
            client.sendall(STARTUP + b"early")
            server, _ = listener.accept()
            with server:
                server.settimeout(10)
                assert exactly(server, len(STARTUP)) == STARTUP
                server.sendall(AUTH_OK + b"greeting")
                assert exactly(client, len(AUTH_OK) + 8) == AUTH_OK + b"greeting"
                assert exactly(server, 5) == b"early"


@pytest.mark.parametrize("sender", ["client", "server"])
def test_peer_that_does_not_read_stops_the_sender(sender):
    """What is in flight is bounded by the buffers of the sockets and of the relay."""
    with tunnel() as t:
        source = t.client if sender == "client" else t.server
        sink = t.server if sender == "client" else t.client
        limit = 200_000_000
        sent = fill(source, limit)
        assert sent < limit
        left = sent
        while left:
            left -= len(sink.recv(min(left, 1 << 20)))
        source.sendall(b"again")
        assert exactly(sink, 5) == b"again"


def test_half_close_of_the_client_reaches_the_server_and_answers_still_come():
    """As PostgreSQL itself answers a query after SHUT_WR."""
    with tunnel() as t:
        t.client.sendall(b"query")
        t.client.shutdown(socket.SHUT_WR)
        assert rest(t.server) == b"query"
        t.server.sendall(b"answer")
        t.server.close()
        assert rest(t.client) == b"answer"


def test_server_that_ends_has_everything_forwarded_first():
    """A FATAL and its end arrive in this order, also when a megabyte goes before."""
    with tunnel() as t:
        said = bytes(1_000_000) + b"last words"
        sender = threading.Thread(target=lambda: (t.server.sendall(said), t.server.close()))
        sender.start()
        assert rest(t.client) == said
        sender.join()


def test_client_that_vanishes_takes_its_server_connection_with_it():
    """A reset is passed on as a close at once."""
    with tunnel() as t:
        t.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        t.client.close()
        assert rest(t.server) == b""
        while t.edge.services.n_closed == 0:
            time.sleep(0)
        assert t.edge.server.counters.n_open == 0


class Scripted(CopyConnection):
    """Copies, and does with the next step what the client's bytes say."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Callable[[Step], None]] = []

    def client_data(self, chunk: bytes) -> None:
        super().client_data(chunk)
        self.script += [order for word, order in ORDERS.items() if word in chunk]

    def step(self) -> Step:
        step = super().step()
        if self.script:
            self.script.pop(0)(step)
        return step


def _fail(step: Step) -> None:
    raise ValueError("canary-5150")


def _fatal(step: Step) -> None:
    raise ProtocolViolation("said by the session", severity="ERROR")


ORDERS: dict[bytes, Callable[[Step], None]] = {
    b"<need>": lambda step: setattr(step, "needs", (CatalogNeed(1),)),
    b"<more>": lambda step: setattr(step, "more", True),
    b"<hold>": lambda step: setattr(step, "hold_client", True),
    b"<event>": lambda step: setattr(step, "events", [None]),
    b"<close>": lambda step: setattr(step, "close", Close.GRACEFUL),
    b"<fail>": _fail,
    b"<fatal>": _fatal,
}


def test_need_is_ensured_before_anything_more_is_read():
    """Meanwhile both sockets rest; afterwards the session is stepped again."""
    reached, go = threading.Event(), asyncio.Event()

    async def ensured(needs: object) -> None:
        assert needs == (CatalogNeed(1),)
        reached.set()
        await go.wait()

    with tunnel(Scripted, ensured=ensured) as t:
        t.client.sendall(b"<need>")
        assert exactly(t.server, 6) == b"<need>"
        assert reached.wait(10)
        t.client.sendall(b"later")
        t.server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            t.server.recv(1)
        t.server.settimeout(10)
        t.edge.loop.call_soon_threadsafe(go.set)
        assert exactly(t.server, 5) == b"later"


def test_server_that_ends_during_a_need_is_heard_to_the_end():
    """The session's work is finished before the client is closed."""
    go = asyncio.Event()

    async def ensured(needs: object) -> None:
        await go.wait()

    with tunnel(Scripted, ensured=ensured) as t:
        t.client.sendall(b"<need>")
        assert exactly(t.server, 6) == b"<need>"
        t.server.sendall(b"last words")
        t.server.close()
        t.edge.loop.call_soon_threadsafe(go.set)
        assert rest(t.client) == b"last words"


def test_more_work_leaves_the_loop_to_others():
    """A session that always has more does not keep another one waiting."""
    with tunnel(Scripted) as t:
        busy = t.connection
        assert isinstance(busy, Scripted)
        busy.script = [ORDERS[b"<more>"]] * 1_000_000
        t.client.sendall(b"x")
        start = time.monotonic()
        ticked = threading.Event()
        t.edge.loop.call_soon_threadsafe(ticked.set)
        assert ticked.wait(10)
        assert time.monotonic() - start < 1
        assert len(busy.script) > 0
        busy.script = []


def test_held_client_is_not_read_until_the_session_lets_go():
    """What it sends meanwhile stays in the sockets."""
    with tunnel(Scripted) as t:
        t.client.sendall(b"<hold>")
        assert exactly(t.server, 6) == b"<hold>"
        assert fill(t.client, 100_000_000) < 100_000_000
        t.server.sendall(b"answer")  # the next step says nothing of holding
        assert exactly(t.client, 6) == b"answer"
        assert exactly(t.server, 65536) == bytes(65536)


def test_close_of_a_step_ends_both_sockets():
    """After what it wrote."""
    with tunnel(Scripted) as t:
        t.client.sendall(b"<close>")
        assert rest(t.server) == b"<close>"
        assert rest(t.client) == b""


def test_client_still_sending_when_closed_hears_the_last_words():
    """A reset over unread bytes must not overtake them."""
    with tunnel(Scripted) as t:
        t.client.sendall(b"<fatal>" + bytes(HIGH_WATER))
        for _ in range(100):
            t.client.sendall(bytes(1000))
        assert b"said by the session" in rest(t.client)


def test_unforeseen_error_ends_this_connection_alone_and_logs_no_value(caplog):
    """FATAL XX000 for the client; class and place for the log."""
    with caplog.at_level(logging.DEBUG), tunnel(Scripted) as t:
        with socket.create_server(("127.0.0.1", 0)):
            t.client.sendall(b"<fail>")
            said = rest(t.client)
        assert said.startswith(b"E") and b"VFATAL\0" in said and b"CXX000\0" in said
        assert b"canary" not in said and "canary" not in caplog.text
        assert "ValueError at test_relay.py:" in caplog.text
        assert t.edge.server.counters.n_open in (0, 1)


def test_error_of_the_session_is_said_as_fatal():
    """Its own words and SQLSTATE; nothing continues."""
    with tunnel(Scripted) as t:
        t.client.sendall(b"<fatal>")
        said = rest(t.client)
        assert b"VFATAL\0" in said and b"C08P01\0" in said


def test_stop_closes_idle_clients_and_waits_for_busy_ones():
    """57P01 for the idle; the other finishes its answer first."""
    with tunnel() as t:
        t.server.sendall(b"Z\0\0\0\x05I")
        assert exactly(t.client, 6) == b"Z\0\0\0\x05I"
        t.client.sendall(b"query")
        assert exactly(t.server, 5) == b"query"
        closing = asyncio.run_coroutine_threadsafe(t.edge.server.close(20), t.edge.loop)
        t.client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            t.client.recv(1)
        t.client.settimeout(10)
        t.server.sendall(b"Z\0\0\0\x05I")
        said = rest(t.client)
        assert said.startswith(b"Z\0\0\0\x05I") and b"C57P01\0" in said
        t.client.close()
        closing.result(20)


def test_stop_after_its_bound_closes_whoever_is_left():
    """A client in the middle of something hears the same."""
    with tunnel() as t:
        t.client.sendall(b"query")
        assert exactly(t.server, 5) == b"query"
        t.edge.run(t.edge.server.close(0))
        assert b"C57P01\0" in rest(t.client)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", t.edge.port), timeout=10).close()


def test_session_that_is_refused_ends_in_its_error():
    """What `open` raises is what the client hears, and the server connection closes."""

    def refuse() -> ClientConnection:
        raise ProtocolViolation("no session for you", severity="FATAL")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        leg = ServerConfig("127.0.0.1", listener.getsockname()[1], tls=Tls.DISABLE)
        services = CopyServices(make=lambda login: refuse())
        with (
            running_edge(NetSettings(port=0, server=leg), services) as edge,
            socket.create_connection(("127.0.0.1", edge.port), timeout=10) as client,
        ):
            client.sendall(STARTUP)
            server, _ = listener.accept()
            with server:
                server.settimeout(10)
                exactly(server, len(STARTUP))
                server.sendall(AUTH_OK)
                assert b"no session for you" in rest(client)
                assert rest(server) == b""
            assert services.kinds() == ["login"]


def test_client_that_says_nothing_is_dropped_after_its_time():
    """And one that stops in the middle of a packet."""
    leg = ServerConfig("127.0.0.1", 1, tls=Tls.DISABLE)
    with running_edge(NetSettings(port=0, server=leg, login_timeout_s=0.2)) as edge:
        for said in (b"", STARTUP[:3], STARTUP[:-1]):
            with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as client:
                client.sendall(said)
                assert rest(client) == b""


def test_event_that_cannot_be_recorded_ends_the_connection(caplog):
    """An audit that raises is an error like any other: said, logged by class and place, and closed."""
    with tunnel(Scripted) as t:

        def broken(events: object) -> None:
            raise OSError("canary-5151")

        t.edge.services.record = broken  # type: ignore[method-assign]
        with caplog.at_level(logging.DEBUG):
            t.client.sendall(b"<event>")
            said = rest(t.client)
        t.edge.services.record = lambda events: None  # type: ignore[method-assign]
    assert b"CXX000\0" in said and b"canary" not in said and "canary" not in caplog.text


FAILING = """
from proxy import logs
from proxy.net.relay import report

logs.configure()
try:
    raise ValueError("canary")
except ValueError as error:
    report(error)
"""


def test_report_of_an_internal_error_keeps_class_and_place_in_the_real_log(tmp_path):
    """What the client is told its log says, the log says; the message of a foreign exception is not in it."""
    program = tmp_path / "failing.py"
    program.write_text(FAILING)
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert "internal error ValueError at failing.py:7" in ran.stderr
    assert "canary" not in ran.stderr
