"""Processes: restart, reload, stop, and workers that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.net.workers import Post

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import asyncio
import os, sys
from dataclasses import dataclass
from proxy.config import ServerConfig, Tls
from proxy.net.server import Server, serve
from proxy.net.settings import NetSettings
from proxy import logs
from proxy.errors import ConfigError
from proxy.net.workers import supervise
from tests.edge import CopyServices

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

@dataclass
class Worker:
    server: Server
    async def reload(self):
        say("reload", os.getpid())
    async def close(self):
        say("closed", os.getpid())

async def start(place):
    if os.environ.get("TROUBLE") == "always":
        raise ConfigError("the key file is not there", hint="make one")
    worker = Worker(await serve(place.settings, CopyServices()))
    asyncio.get_running_loop().call_soon(say, "worker", place.index, os.getpid())  # after the parent was told
    return worker

logs.configure()
settings = NetSettings(port=0, server=ServerConfig("127.0.0.1", 1, Tls.DISABLE), stop_timeout_s=5)
sys.exit(supervise(settings, int(sys.argv[1]), start, lambda port: say("port", port)))
"""


@dataclass(frozen=True, slots=True)
class Family:
    """A parent with its workers; `hear` reads one line of what they say."""

    process: subprocess.Popen[str]
    port: int

    def hear(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def hear_workers(self, count: int) -> dict[int, int]:
        """Worker number -> pid, of so many starts."""
        said = [self.hear() for _ in range(count)]
        assert all(line[0] == "worker" for line in said), said
        return {int(index): int(pid) for _, index, pid in said}


@contextmanager
def family(n_workers: int) -> Iterator[Family]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(n_workers)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        assert word == "port"
        yield Family(process, int(port))
    finally:
        process.kill()
        process.wait()


def is_served(port: int) -> bool:
    """A GSSENCRequest is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"\0\0\0\x08\x04\xd2\x16\x30")
        return client.recv(1) == b"N"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_to_the_parent_ends_all_in_order(number):
    """Each worker closes its services; the exit code is 0."""
    with family(2) as started:
        pids = set(started.hear_workers(2).values())
        assert is_served(started.port)
        started.process.send_signal(number)
        closed = [started.hear() for _ in range(2)]
        assert {int(pid) for word, pid in closed if word == "closed"} == pids
        assert started.process.wait(20) == 0


def test_worker_that_dies_is_replaced_on_the_same_port():
    """By one of the same number; others are not disturbed."""
    with family(2) as started:
        pids = started.hear_workers(2)
        os.kill(pids[1], signal.SIGKILL)
        again = started.hear_workers(1)
        assert list(again) == [1] and again[1] != pids[1]
        assert is_served(started.port)


def test_hangup_is_passed_on_as_a_reload():
    """Every worker reads its rules again and stays."""
    with family(2) as started:
        pids = set(started.hear_workers(2).values())
        started.process.send_signal(signal.SIGHUP)
        said = [started.hear() for _ in range(2)]
        assert {int(pid) for word, pid in said if word == "reload"} == pids


def test_workers_do_not_outlive_a_parent_that_was_killed():
    """The pipe ends, however the parent went."""
    with family(2) as started:
        pids = set(started.hear_workers(2).values())
        started.process.kill()
        closed = [started.hear() for _ in range(2)]
        assert {int(pid) for word, pid in closed if word == "closed"} == pids
        assert started.hear() == []  # end of file: nobody holds the pipe any more


def test_workers_cannot_be_dumped():
    """No core file, and /proc says that the process is not dumpable (its files belong to root)."""
    with family(1) as started:
        pid = started.hear_workers(1)[0]
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]


def test_port_that_is_taken_ends_the_parent_at_once():
    """Another listener without SO_REUSEPORT holds it."""
    program = PROGRAM.replace("port=0", "port=int(sys.argv[2])")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-c", program, "1", str(taken.getsockname()[1])]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode != 0 and "Address already in use" in answer.stderr


def test_workers_of_which_none_can_start_end_the_parent_with_2_and_the_reason_once():
    """Nothing is tried again, and a mistake of the configuration is not called an internal error."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "TROUBLE": "always"},
    )
    assert answer.returncode == 2
    assert answer.stderr.count("the key file is not there") == 1
    assert "make one" in answer.stderr and "internal error" not in answer.stderr


def test_worker_that_dies_again_waits_before_its_next_start():
    """At once after the first death; the second one costs half a second."""
    with family(1) as started:
        pid = started.hear_workers(1)[0]
        os.kill(pid, signal.SIGKILL)
        pid = started.hear_workers(1)[0]
        died = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        started.hear_workers(1)
        assert time.monotonic() - died >= 0.5
        assert is_served(started.port)


def test_post_delays_double_to_half_a_minute():
    """However often a worker ends."""
    post, delays = Post(), []
    for _ in range(40):
        post.ended(100.0)
        delays.append(post.due - 100.0)
    assert delays[:9] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert delays[-1] == 30.0


@pytest.mark.parametrize(("served_s", "delay"), [(59.0, 1.0), (60.0, 0.0)])
def test_post_that_served_a_minute_is_as_new(served_s, delay):
    """What happened before does not count any more."""
    post = Post()
    post.ended(0.0)
    post.ended(0.0)
    post.served_since = 10.0
    post.ended(10.0 + served_s)
    assert post.due == 10.0 + served_s + delay
