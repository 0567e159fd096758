"""What the demo alone needs is an extra of the package: the other commands start without it."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO

from rich.console import Console

from proxy.cli.clinic import Stage

WITHOUT_PSYCOPG = """
import sys
sys.modules["psycopg"] = None
from proxy.cli.main import main
main()
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_PSYCOPG, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_cli_without_psycopg_starts() -> None:
    """A plain `pip install .` brings no psycopg, and every command but the demo works."""
    answer = _run("rules", "schema")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("{")


def test_demo_without_psycopg_says_what_to_install() -> None:
    """The demo ends with exit code 2 and the command that installs what it lacks."""
    answer = _run("demo", "--once")
    assert answer.returncode == 2
    assert "psycopg" in answer.stderr
    assert "pip install '.[embedded]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_stage_sql_longer_than_the_frame_is_whole() -> None:
    """A long statement goes on in the next line of its frame."""
    out = StringIO()
    Stage(Console(file=out, width=60, soft_wrap=True)).sql(
        "INSERT INTO patients VALUES " + "(%s, %s), " * 10 + "END"
    )
    assert "END" in out.getvalue()
