"""psql and pgbench recorded: what they say and hear through the proxy is byte for byte what it is directly.

A relay in front of PostgreSQL, and one in front of the proxy, write down both directions; only process ids and
cancel keys may differ.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import oracle
from tests.integration.test_drivers_psql import SCRIPTS, SETUP
from tests.relay import Conversation, Relay

pytestmark = pytest.mark.wire


def _recorded(port: int, command: list[str | os.PathLike[str]], script: str = "") -> list[Conversation]:
    """The conversations a program has with whoever listens on the port, in the order they began."""
    with Relay(port) as relay:
        environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(relay.port), "PGUSER": "postgres"}
        subprocess.run(command, input=script, env=environment, capture_output=True, text=True, timeout=60)
        return relay.conversations


def _heard(conversation: Conversation) -> list[bytes]:
    """Every message received, key data masked; the answers to SSLRequest and GSSENCRequest come first."""
    received = bytes(conversation.received)
    n_declined = len(received) - len(received.lstrip(b"N"))
    messages = [received[:n_declined]]
    for raw in oracle.split(received[n_declined:]):
        hidden = 8 if raw[:1] == b"K" else 4 if raw[:1] == b"A" else 0
        messages.append(raw[:5] + bytes(hidden) + raw[5 + hidden :])
    assert sum(map(len, messages)) == len(received), "a message was cut"
    return messages


def _same(direct: list[Conversation], proxied: list[Conversation]) -> None:
    assert len(direct) == len(proxied) > 0
    for one, other in zip(direct, proxied, strict=True):
        assert bytes(one.sent) == bytes(other.sent)
        assert _heard(one) == _heard(other)


@pytest.mark.parametrize("name", SCRIPTS)
def test_psql_conversation_is_the_same_bytes_with_and_without_the_proxy(name, database, proxied):
    """Nothing is added to or missing from what psql sends and receives."""
    database.execute(SETUP)
    command = [database.server.tool("psql"), "-X", database.name]
    _same(*(_recorded(port, command, SCRIPTS[name]) for port in (database.port, proxied)))


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_conversation_is_the_same_bytes_with_and_without_the_proxy(mode, database, proxied):
    """The same seed makes the same transactions, and the same bytes, in each query mode."""
    pgbench = database.server.tool("pgbench")
    where = ["-h", "127.0.0.1", "-p", str(database.port), "-U", "postgres", database.name]
    subprocess.run([pgbench, "-i", "-q", *where], check=True, capture_output=True)
    talks = []
    for port in (database.port, proxied):
        database.execute(
            "UPDATE pgbench_accounts SET abalance = 0 WHERE abalance <> 0; "
            "UPDATE pgbench_tellers SET tbalance = 0; UPDATE pgbench_branches SET bbalance = 0"
        )
        command = [pgbench, "-n", "-M", mode, "--random-seed=7", "-c", "1", "-t", "30", database.name]
        talks.append(_recorded(port, command))
    _same(*talks)
