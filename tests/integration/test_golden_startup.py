"""Golden traces of connection set-up: versions, options, requests without a type byte, cancelling.

What is heard before the first ReadyForQuery must be the same through the proxy, but for pid and key.
"""

from __future__ import annotations

import struct
import threading

import psycopg
import pytest

from tests import oracle
from tests.golden import CHUNKINGS
from tests.playbook import Playbook, describe, query
from tests.wire_client import Endpoint, WireClient, cancel

pytestmark = pytest.mark.wire


def _greeting(
    endpoint: Endpoint, parameters: dict[str, str], version: int, chunking: str = "whole"
) -> list[object]:
    """Everything said at log-in, pid and key data replaced by the size of the key."""
    client = WireClient.open(endpoint, CHUNKINGS[chunking])
    with client:
        client.send(oracle.startup(parameters, version))
        client.read_greeting()
        return [len(m.key) if m.name == "BackendKeyData" else m.raw for m in client.greeting]


def _both(
    stage, through: Endpoint, version: int = oracle.VERSION_3_0, chunking: str = "whole", **parameters: str
):
    names = {"user": "postgres", "database": stage.name, **parameters}
    direct = _greeting(stage.direct, names, version)
    return direct, _greeting(through, names, version, chunking)


@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_startup_3_0_is_greeted_as_by_the_server(chunking, stage, through):
    """Authentication, settings, key data and ReadyForQuery come in the server's order and words."""
    direct, proxied = _both(stage, through, chunking=chunking)
    assert direct == proxied
    assert 4 in proxied


@pytest.mark.parametrize(
    ("version", "parameters"),
    [
        (oracle.VERSION_3_2, {}),
        (oracle.VERSION_3_2, {"_pq_.foo": "1"}),
        (0x00030000, {"_pq_.foo": "1", "_pq_.bar": "2"}),
        (0x00030000 + 9999, {}),
        (0x00030000 + 9999, {"_pq_.foo": "1"}),
        (0x00030001, {}),
    ],
)
def test_startup_of_other_minors_is_negotiated_as_by_the_server(version, parameters, stage, through):
    """NegotiateProtocolVersion names version and unknown options; the key has the size of that version."""
    direct, proxied = _both(stage, through, version, **parameters)
    assert direct == proxied


@pytest.mark.parametrize("major", [4, 9, 1000])
def test_startup_of_another_major_is_refused(major, stage, through):
    """Neither answers in a protocol it does not speak."""
    codes = []
    for endpoint in (stage.direct, through):
        with WireClient.open(endpoint) as client:
            client.send(oracle.startup({"user": "postgres"}, major << 16))
            message = client.receive()
            codes.append(describe(message))
            assert client.is_ended()
    assert codes == ["E[FATAL 0A000]", "E[FATAL 0A000]"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"application_name": "naïve name", "TimeZone": "Asia/Tokyo", "DateStyle": "German"},
        {"options": r"-c work_mem=5MB -c application_name=with\ blank --search_path=pg_catalog"},
        {"client_encoding": "LATIN1", "extra_float_digits": "3"},
        {"options": "-c geqo=off -csearch_path=public"},
        {"no_such_setting": "1"},
        {"options": "-c no_such_setting=1"},
        {"database": "no such database"},
        {"user": "nobody at all"},
        {"user": ""},
        {"TimeZone": "Nowhere/Land"},
        {"replication": "maybe"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_startup_parameters_are_passed_on(parameters, stage, through):
    """Settings, options and mistakes in them are the server's to judge."""
    direct, proxied = _both(stage, through, **parameters)
    assert direct == proxied


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack("!i", 3),
        struct.pack("!ii", 7, 0),
        struct.pack("!ii", 10005, 196608) + b"x" * 50,
        struct.pack("!i", -1),
        struct.pack("!ii", 0x7FFFFFFF, 196608),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["short", "shorter_than_a_code", "long", "negative", "huge", "http"],
)
def test_startup_packet_of_a_bad_length_is_dropped_silently(packet, stage, through):
    """No answer, just the end."""
    for endpoint in (stage.direct, through):
        with WireClient.open(endpoint) as client:
            client.send(packet)
            assert client.is_ended()


def test_startup_without_its_last_zero_byte_is_refused(stage, through):
    """A packet that does not end as it must is a protocol violation or the end."""
    packet = oracle.startup({"user": "postgres", "database": stage.name})
    broken = struct.pack("!i", len(packet) - 1) + packet[4:-1]
    heard = []
    for endpoint in (stage.direct, through):
        with WireClient.open(endpoint) as client:
            client.send(broken)
            heard.append(describe(client.receive()))
            assert client.is_ended()
    assert heard[0] == heard[1] == "E[FATAL 08P01]"


@pytest.mark.parametrize("chunking", ["whole", "bytes"])
def test_encryption_requests_are_declined_and_the_startup_follows(chunking, through):
    """GSSENCRequest is never passed on; without a certificate both are answered N, once each."""
    with WireClient.open(through, CHUNKINGS[chunking]) as client:
        client.send(oracle.special_request(oracle.GSS_CODE))
        assert client.receive_exactly(1) == b"N"
        client.send(oracle.special_request(oracle.SSL_CODE))
        assert client.receive_exactly(1) == b"N"
        client.send(oracle.startup({"user": "postgres", "database": through.database}))
        client.read_greeting()
        assert client.greeting[-1].name == "ReadyForQuery"


def test_client_that_leaves_during_set_up_disturbs_no_one(through):
    """Half a packet and a reset, many times; the next client is served."""
    packet = oracle.startup({"user": "postgres", "database": through.database})
    for size in range(0, len(packet), 5):
        client = WireClient.open(through)
        client.send(packet[:size])
        client.reset()
    Playbook().__rshift__(query("SELECT 1")).__lshift__("T D C ZI").run(through)


@pytest.mark.parametrize("version", [oracle.VERSION_3_0, oracle.VERSION_3_2])
@pytest.mark.parametrize("path", ["direct", "through"])
def test_cancel_request_stops_the_running_statement(path, version, stage, through):
    """The key of BackendKeyData, 4 bytes or 32, cancels by a connection of its own."""
    endpoint = stage.direct if path == "direct" else through
    with WireClient.connect(endpoint, version=version) as client:
        client.send(query("SELECT pg_sleep(60)"))
        _wait_until_active(stage, client.pid)
        cancel(endpoint, client.pid, client.key)
        assert [describe(m) for m in client.read_until_ready()] == ["T", "E[57014]", "ZI"]
        client.send(query("SELECT 1"))
        assert [describe(m) for m in client.read_until_ready()] == ["T", "D", "C[SELECT 1]", "ZI"]


def test_cancel_request_with_a_wrong_key_changes_nothing(stage, through):
    """It is answered like any other: by the end of its connection."""
    with WireClient.connect(through) as client:
        client.send(query("SELECT pg_sleep(0.5)"))
        _wait_until_active(stage, client.pid)
        cancel(through, client.pid, bytes(4))
        cancel(through, 1, client.key)
        assert [describe(m) for m in client.read_until_ready()] == ["T", "D", "C[SELECT 1]", "ZI"]


def test_cancel_request_reaches_the_connection_it_names(stage, through):
    """Of several sleepers only one wakes."""
    clients = [WireClient.connect(through) for _ in range(3)]
    for client in clients:
        client.send(query("SELECT pg_sleep(60)"))
        _wait_until_active(stage, client.pid)
    for client in clients:
        others = [c for c in clients if c is not client and c.heard == []]
        cancel(through, client.pid, client.key)
        client.read_until_ready()
        assert all(_is_active(stage, other.pid) for other in others)
    for client in clients:
        client.close()


def test_cancel_request_for_an_idle_session_leaves_it_alone(through):
    """The next statement is not hit."""
    with WireClient.connect(through) as client:
        cancel(through, client.pid, client.key)
        client.send(query("SELECT 1"))
        assert [describe(m) for m in client.read_until_ready()] == ["T", "D", "C[SELECT 1]", "ZI"]


def test_startups_at_once_are_all_served(through):
    """Fifty clients open, ask and leave together."""
    failures: list[BaseException] = []

    def visit() -> None:
        try:
            (Playbook() >> query("SELECT 1") << "T D C ZI").run(through)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=visit) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_replication_connection_is_refused_by_default(through):
    """It would carry ciphertext; the configuration has to allow it."""
    with WireClient.open(through) as client:
        client.send(oracle.startup({"user": "postgres", "database": through.database, "replication": "database"}))
        assert describe(client.receive()).startswith("E[FATAL 28")
        assert client.is_ended()


def _is_active(stage, pid: int) -> bool:
    with psycopg.connect(stage.server.dsn("postgres", stage.name)) as connection:
        row = connection.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
        return row is not None and row[0] == "active"


def _wait_until_active(stage, pid: int) -> None:
    while not _is_active(stage, pid):
        pass
