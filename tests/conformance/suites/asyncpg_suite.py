"""asyncpg's own suite, from its source package. One reason to change: how that suite is run."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conformance.fetching import sdist, wheels
from tests.conformance.outcomes import Outcome
from tests.conformance.place import Endpoint
from tests.conformance.suites.python_suite import run_pytest
from tests.conformance.suites.suite import Suite

VERSION = "0.32.0"
# these start servers and lint the driver; they never speak to the server under test
NOT_OURS = ("TestConnectionAttributes", "TestCodeQuality")

EXPECTED = {
    "tests.test_execute.TestExecuteMany::test_executemany_server_failure_during_writes": (
        "a race, lost directly too on a busy machine: an early error has to arrive before 4 MB are written, "
        "and the sockets of two legs hold more of them"
    ),
}


def fetch() -> None:
    sdist("asyncpg", VERSION)
    wheels("asyncpg-needs", "distro==1.9.0")


def run(endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    """The tests alone, beside the installed driver: the source package's own folder holds no compiled one."""
    shutil.copytree(sdist("asyncpg", VERSION) / "tests", folder / "suite" / "tests")
    environment = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(endpoint.port),
        "PGUSER": "postgres",
        "PGDATABASE": endpoint.database,
        "PYTHONPATH": str(wheels("asyncpg-needs", "distro==1.9.0")),
    }
    chosen = " and ".join(f"not {name}" for name in NOT_OURS)
    arguments = ["-c", "/dev/null", f"--rootdir={folder / 'suite'}", "--timeout=60", "-k", chosen, "tests"]
    return run_pytest(folder / "suite", arguments, environment, folder / "report.xml")


SUITE = Suite("asyncpg", f"asyncpg {VERSION}, PyPI", fetch, run, expected=EXPECTED)
