"""What the failure tests share: an installation as a process, and jobs that are tried again until they go.

One reason to change: how a failure is waited for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database

PGSEAL = Path(sys.executable).with_name("pgseal")
LOCAL = "{provider: local, keyfile: .pgseal/kek}"
WAIT_S = 40.0


def refused(job: Callable[[], object]) -> str | None:
    """SQLSTATE of what must fail."""
    with pytest.raises(psycopg.Error) as caught:
        job()
    return caught.value.sqlstate


def until(is_so: Callable[[], bool]) -> None:
    """Waits for what another process does."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def eventually(job: Callable[[], object], wanted: str | None, *also: str) -> None:
    """Until the job fails with this SQLSTATE; None: until it succeeds. `also` are failures on the way there."""

    def is_so() -> bool:
        try:
            job()
        except psycopg.Error as error:
            assert error.sqlstate == wanted or error.sqlstate in also, error
            return error.sqlstate == wanted
        return wanted is None

    until(is_so)


@contextmanager
def running(folder: Path, database: Database, rules: str, kms: str = LOCAL) -> Iterator[tuple[int, str]]:
    """`pgseal init` and `pgseal run` in a folder: the process id and the URI. Its log is `folder/stderr`."""
    place = folder / "pgseal.yaml"
    place.write_text(
        "listen: 127.0.0.1:0\nstate: .pgseal/state\nrules: rules/\naudit: {path: audit/}\n"
        f"server: {{port: {database.port}, tls: disable}}\n"
        f"service: postgresql://pgseal_{database.name}@127.0.0.1:{database.port}/{database.name}\n"
        f"kms: {{main: {kms}}}\n"
    )
    command = [PGSEAL, "init", "--admin-dsn", database.dsn(), "--config", place]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "rules" / "app.yaml").write_text(rules)
    said = folder / "stderr"
    with said.open("wb") as log:
        process = subprocess.Popen([PGSEAL, "run", "--config", place], stderr=log, stdout=log, cwd=folder)
    try:
        until(lambda: b"pgseal serves" in said.read_bytes() or process.poll() is not None)
        found = re.search(rb"pgseal serves 127\.0\.0\.1:(\d+)", said.read_bytes())
        assert found is not None, said.read_text()
        dsn = f"postgresql://postgres@127.0.0.1:{int(found[1])}/{database.name}"
        until(lambda: _answers(dsn))
        yield process.pid, dsn
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True
