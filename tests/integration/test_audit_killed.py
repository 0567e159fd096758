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


def test_worker_killed_while_writing_leaves_a_whole_trail(tmp_path: Path) -> None:
    """Nothing that was synced is missing after SIGKILL; the open end is noted, and a successor continues it."""
    command = [sys.executable, "-c", WRITING, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"synced\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole, report.findings
    assert report.n_records >= 1 + 20 * 50
    assert any("still runs or did not stop in order" in note for note in report.notes)
    write_trail(tmp_path, start_s=1700000900)
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole, report.findings
    assert report.n_writers == 2
