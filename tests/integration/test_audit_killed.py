"""A worker killed while it audits: its trail verifies up to the kill, and the next worker goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from proxy.audit.verify import verify
from tests.trails import ROOT_KEY, write_trail

ROOT = Path(__file__).resolve().parents[2]
WRITING = """
import sys
from pathlib import Path
from proxy.audit.sinks import open_auditor
from proxy.audit.writers import next_writer
from tests.trails import ROOT_KEY, statement

folder = Path(sys.argv[1])
writer = next_writer(ROOT_KEY, folder / "audit", folder / "state", "demo", 0, 1700000000.5)
auditor = open_auditor(folder / "audit", folder / "state", writer, is_blocking=True)
n = 0
while True:
    auditor.write([statement(n_rows=n)] * 50)
    auditor.flush()
    n += 1
    if n == 20:
        auditor.sync()
        print("synced", flush=True)
"""
GATHERING = """
import asyncio, sys
from pathlib import Path
from proxy.audit.sinks import open_auditor
from proxy.audit.writers import next_writer
from tests.trails import ROOT_KEY, statement

async def main():
    folder = Path(sys.argv[1])
    writer = next_writer(ROOT_KEY, folder / "audit", folder / "state", "demo", 0, 1700000000.5)
    auditor = open_auditor(folder / "audit", folder / "state", writer, is_blocking=True)
    auditor.write([statement(tag="KEPT")] * 30)
    auditor.sync()
    auditor.write([statement(tag="GATHERED")] * 30)
    print("gathered", flush=True)
    sys.stdin.read()  # nothing of the loop runs any more: what is gathered is not chained

asyncio.run(main())
"""


def kill_when_it_says(word: bytes, code: str, folder: Path) -> None:
    command = [sys.executable, "-c", code, str(folder)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == word
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_worker_killed_while_writing_leaves_a_whole_trail(tmp_path: Path) -> None:
    """Nothing that was synced is missing after SIGKILL; the open end is noted, and a successor continues it."""
    kill_when_it_says(b"synced\n", WRITING, tmp_path)
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole, report.findings
    assert report.n_events >= 1 + 20 * 50
    assert any("still runs or did not stop in order" in note for note in report.notes)
    write_trail(tmp_path, start_s=1700000900)
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole, report.findings
    assert report.n_writers == 2


def test_worker_killed_between_gathering_and_chaining_loses_the_open_interval_only(tmp_path: Path) -> None:
    """What was chained is whole, what was only gathered is gone, and the verifier says from where on."""
    kill_when_it_says(b"gathered\n", GATHERING, tmp_path)
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole, report.findings
    assert (report.n_records, report.n_events) == (2, 1 + 30)
    assert any("events after record 1 may be missing" in note for note in report.notes)
    [path] = (tmp_path / "audit").iterdir()
    assert path.read_bytes().count(b'"KEPT"') == 30
    assert b"GATHERED" not in path.read_bytes()
