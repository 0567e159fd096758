"""A suite that pytest runs in a process of its own, in file order, without this project's plugins and settings.

One reason to change: how a foreign pytest suite is run and its report read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.outcomes import Outcome, read_junit

PLAIN = ("-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:asyncio", "-q")
_LIMIT_S = 900


class SuiteDied(Exception):
    """The suite ended without a report."""


def run_pytest(
    folder: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    report: Path,
    plugins: Sequence[str] = PLAIN,
) -> dict[str, Outcome]:
    """Runs the suite to its end; what it printed is kept beside the report."""
    command = [sys.executable, "-m", "pytest", *plugins, f"--junitxml={report}", *arguments]
    # the suites import their driver by name, and their own folder comes first
    given = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    given.pop("PYTEST_ADDOPTS", None)
    with report.with_suffix(".log").open("wb") as log:
        try:
            subprocess.run(
                command, cwd=folder, env=given, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            raise SuiteDied(f"the suite did not end in {_LIMIT_S} s; see {log.name}") from None
    if not report.is_file():
        raise SuiteDied(f"the suite wrote no report; see {log.name}")
    return read_junit(report)
