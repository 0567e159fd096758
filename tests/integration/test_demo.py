"""The demo is a test of its own: every claim it prints is checked, and its exit code says so."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from proxy.cli.clinic import Stage


def test_demo_once_holds_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pgseal demo --once` exits 0 in an empty folder, prints no failed claim, and its folder is gone afterwards."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tmp_path.chmod(0o755)
    command = [Path(sys.executable).with_name("pgseal"), "demo", "--once"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Everything above held." in answer.stdout
    assert "DID NOT HOLD" not in answer.stdout
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.glob("pgseal-*")) == []


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
