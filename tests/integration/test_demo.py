"""The demo is a test of its own: every claim it prints is checked, and its exit code says so."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from proxy.cli.clinic import Stage


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's own user can pass through; pytest's are closed to it under root."""
    with tempfile.TemporaryDirectory(prefix="demo-of-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def test_demo_once_holds_and_leaves_nothing_behind(open_folder: Path) -> None:
    """`pgseal demo --once` exits 0 in an empty folder, with no failed claim and no folder left."""
    command = [Path(sys.executable).with_name("pgseal"), "demo", "--once"]
    environment = {**os.environ, "TMPDIR": str(open_folder)}
    answer = subprocess.run(
        command, cwd=open_folder, env=environment, capture_output=True, text=True, timeout=110
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Everything above held." in answer.stdout
    assert "DID NOT HOLD" not in answer.stdout
    assert "Traceback" not in answer.stderr
    assert list(open_folder.glob("pgseal-*")) == []


def test_stage_failed_claim_is_remembered_and_shown() -> None:
    """A claim that does not hold is marked and kept for the exit code."""
    text = StringIO()
    stage = Stage(Console(file=text))
    stage.claim("water is wet", True)
    stage.claim("the moon is cheese", False)
    assert stage.failed == ["the moon is cheese"]
    assert "DID NOT HOLD the moon is cheese" in text.getvalue()


def test_stage_table_shows_null_and_the_beginning_of_an_envelope() -> None:
    """NULL, an empty string and an envelope look different; markup in a value is shown as it is."""
    text = StringIO()
    stage = Stage(Console(file=text, width=120))
    stage.console.print(stage.rows("t", ("a", "b", "c"), [(None, "[bold]x", b"\xa6\x0b\x35\x01" + bytes(60))]))
    shown = text.getvalue()
    assert "NULL" in shown
    assert "[bold]x" in shown
    assert "a60b3501" in shown
    assert "(64 bytes)" in shown
