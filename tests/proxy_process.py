"""`pgseal run` as its users start it: an installation made by `pgseal init`, a process of its own, its end.

One reason to change: how tests start and stop the command.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.conftest import Database

PGSEAL = Path(sys.executable).with_name("pgseal")
WAIT_S = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for something another process does; the test's failure when it does not."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass(slots=True)
class Proxy:
    """A running `pgseal run`, its files and what it has said."""

    folder: Path
    process: subprocess.Popen[bytes]
    database: Database
    port: int = 0

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self.database.name}"

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True)

    def write_rules(self, text: str) -> None:
        path = self.folder / "rules" / "app.yaml"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)

    def http(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
            return bytes(answer.read())

    @property
    def http_port(self) -> int:
        found = re.search(r'"address": "127\.0\.0\.1:(\d+)"', self.said)
        assert found is not None
        return int(found[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_S)


def installed(folder: Path, database: Database, rules: str, more: str = "") -> None:
    """An installation made by `pgseal init`."""
    (folder / "pgseal.yaml").write_text(
        "listen: 127.0.0.1:0\nstate: .pgseal/state\nrules: rules/\n"
        f"server: {{port: {database.port}, tls: disable}}\n"
        f"service: postgresql://pgseal_{database.name}@127.0.0.1:{database.port}/{database.name}\n"
        f"kms: {{main: {{provider: local, keyfile: .pgseal/kek}}}}\nhttp: {{listen: '127.0.0.1:0'}}\n{more}"
    )
    command = [PGSEAL, "init", "--admin-dsn", database.dsn(), "--config", folder / "pgseal.yaml"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "rules" / "app.yaml").write_text(rules)


def started(folder: Path, database: Database) -> Proxy:
    command = [PGSEAL, "run", "--config", folder / "pgseal.yaml"]
    with (folder / "stderr").open("wb") as said:
        process = subprocess.Popen(command, stderr=said, stdout=said, cwd=folder)
    proxy = Proxy(folder, process, database)
    until(lambda: "pgseal serves" in proxy.said or process.poll() is not None)
    found = re.search(r"pgseal serves 127\.0\.0\.1:(\d+)", proxy.said)
    assert found is not None, proxy.said
    proxy.port = int(found[1])
    until(lambda: answers(proxy))
    return proxy


def answers(proxy: Proxy) -> bool:
    try:
        proxy.connect().close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def proxy_process(folder: Path, database: Database, rules: str, more: str = "") -> Iterator[Proxy]:
    """Installed, started and in the end gone, its log-in of the server included."""
    installed(folder, database, rules, more)
    proxy = started(folder, database)
    try:
        yield proxy
    finally:
        if proxy.process.poll() is None:
            proxy.process.kill()
            proxy.process.wait()
        login = f"pgseal_{database.name}"
        database.execute(f"DROP OWNED BY {login} CASCADE; DROP ROLE {login}")
