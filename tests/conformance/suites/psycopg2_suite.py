"""psycopg2's own suite, from its source package. One reason to change: how that suite is run."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conformance.fetching import sdist, wheels
from tests.conformance.outcomes import Outcome
from tests.conformance.place import Endpoint, World
from tests.conformance.suites.python_suite import run_pytest
from tests.conformance.suites.suite import Suite

VERSION = "2.9.13"
DATABASE = "psycopg2_test"


def fetch() -> None:
    sdist("psycopg2", VERSION)
    wheels("psycopg2-needs", f"psycopg2-binary=={VERSION}")


def run(endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    """The suite reads where its server is from variables of its own."""
    shutil.copytree(sdist("psycopg2", VERSION) / "tests", folder / "suite" / "tests")
    environment = {
        "PSYCOPG2_TESTDB": endpoint.database,
        "PSYCOPG2_TESTDB_HOST": "127.0.0.1",
        "PSYCOPG2_TESTDB_PORT": str(endpoint.port),
        "PSYCOPG2_TESTDB_USER": "postgres",
        "PYTHONPATH": str(wheels("psycopg2-needs", f"psycopg2-binary=={VERSION}")),
    }
    arguments = ["-c", "/dev/null", f"--rootdir={folder / 'suite'}", "--timeout=90", "tests"]
    return run_pytest(folder / "suite", arguments, environment, folder / "report.xml")


SUITE = Suite("psycopg2", f"psycopg2 {VERSION}, PyPI", fetch, run,
              World(DATABASE, prelude=("CREATE EXTENSION hstore",)))  # fmt: skip
