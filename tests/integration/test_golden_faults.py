"""A network that fragments, delays, cuts and resets, on either leg of the proxy.

Whatever happens to one connection, its client is told or closed, and the next client is served.
"""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.golden import Stage
from tests.playbook import Playbook, bind, copy_data, copy_done, describe_portal, execute, parse, query, run, sync
from tests.proxied import running_proxy
from tests.relay import Faults, Relay
from tests.wire_client import ConnectionEnded, Endpoint, WireClient

pytestmark = pytest.mark.wire

MIXED = (
    Playbook() >> query("SELECT id, s FROM t ORDER BY id; SELECT pad FROM big LIMIT 2") << "T D10 C T D2 C ZI"
    >> parse("SELECT s FROM t WHERE id > $1", "s") + bind("5", statement="s") + describe_portal() + execute()
    + sync() << "1 2 T D5 C ZI"
    >> run("SELECT 1/0") + run("SELECT 1") + sync() << "1 E[22012] ZI"
    >> query("COPY w FROM STDIN") + copy_data("7\tseven\n8\teight\n") + copy_done() << "G C[COPY 2] ZI"
    >> query("COPY t TO STDOUT") << "H d10 c C ZI"
)  # fmt: skip
ALIVE = Playbook() >> query("SELECT 1") << "T D C ZI"


@pytest.fixture(params=["client", "server"])
def faulty(request, stage: Stage, proxied: int):
    """A function that gives an endpoint with the faults on the client's leg or on the server's."""
    open_contexts = []

    def build(faults: Faults) -> Endpoint:
        if request.param == "client":
            relay = Relay(proxied, faults)
            open_contexts.append(relay)
            return Endpoint(relay.__enter__().port, stage.name)
        relay = Relay(stage.server.port, faults)
        open_contexts.append(relay)
        proxy = running_proxy(relay.__enter__().port)
        open_contexts.append(proxy)
        return Endpoint(proxy.__enter__(), stage.name)

    yield build
    for context in reversed(open_contexts):
        context.__exit__(None, None, None)


@pytest.mark.parametrize("faults", [Faults(fragment=1), Faults(fragment=7), Faults(fragment=4096, delay_s=0.002)])
def test_fragmented_and_slow_bytes_change_nothing(faults, faulty, stage):
    """Single bytes on the wire give the conversation that whole messages give."""
    expected = stage.expected("mixed", MIXED)
    assert stage.play(MIXED, faulty(faults)) == expected


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut_after", [1, 9, 200, 420, 640, 1000, 5000])
def test_connection_cut_anywhere_ends_that_connection_only(cut_after, reset, stage, proxied):
    """After any number of bytes of the answer the client meets the end; the next one is served."""
    faults = Faults(cut_after=cut_after, reset=reset)
    with Relay(proxied, faults) as relay, pytest.raises((ConnectionEnded, AssertionError)):
        stage.play(MIXED, Endpoint(relay.port, stage.name))
    ALIVE.run(Endpoint(proxied, stage.name))


@pytest.mark.parametrize("cut_after", [9, 200, 500, 1000, 5000])
def test_server_leg_cut_anywhere_ends_that_client_only(cut_after, stage):
    """A server that goes away in the middle of anything is the end for its client, without a traceback."""
    with (
        Relay(stage.server.port, Faults(cut_after=cut_after, reset=True)) as relay,
        running_proxy(relay.port) as port,
    ):
        for _ in range(3):
            with pytest.raises((ConnectionEnded, AssertionError)):
                MIXED.run(Endpoint(port, stage.name))


def test_half_close_of_the_client_still_brings_the_answers(faulty, stage):
    """What was sent before the half-close is answered."""
    endpoint = faulty(Faults())
    with WireClient.connect(endpoint) as client:
        client.send(query("SELECT pg_sleep(0.2); SELECT id FROM t"))
        client.half_close()
        assert client.read_until_ready()[-1].name == "ReadyForQuery"


def test_slow_reader_does_not_hold_up_others(stage, through):
    """A client that reads nothing of a long result costs the next client nothing."""
    with WireClient.connect(through) as lazy:
        lazy.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
        for _ in range(5):
            ALIVE.run(through)
        rows = [m for m in lazy.read_until_ready() if m.name == "DataRow"]
        assert len(rows) == 100_000


def test_slow_sender_of_copy_data_does_not_hold_up_others(stage, through):
    """A COPY that stands still in the middle of a message is waited for."""
    stage.admin("TRUNCATE big")
    with WireClient.connect(through) as slow:
        slow.send(query("COPY big FROM STDIN"))
        whole = copy_data("1\t" + "y" * 100_000 + "\n")
        slow.send(whole[:50_000])
        ALIVE.run(through)
        slow.send(whole[50_000:] + copy_done())
        assert [m.name for m in slow.read_until_ready()] == ["CopyInResponse", "CommandComplete", "ReadyForQuery"]


def test_many_clients_work_side_by_side(stage, through):
    """Twenty connections with mixed work, none hears another's answers."""
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            with psycopg.connect(
                host=through.host, port=through.port, user="postgres", dbname=through.database, autocommit=True
            ) as connection:
                for k in range(20):
                    assert connection.execute("SELECT %s::int, %s::text", (n, f"{n}-{k}")).fetchone() == (
                        n,
                        f"{n}-{k}",
                    )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
