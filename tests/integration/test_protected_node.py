"""node-postgres, pg-cursor and postgres.js over protected columns; the checks are in JavaScript."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers import NODE
from tests.integration.protected.all_types import RULES, SETUP, holds_envelopes
from tests.sealed import Sealed, sealed_database

SCRIPT = Path(__file__).parent / "protected" / "node_cells.cjs"


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP) as made:
        yield made


@pytest.mark.parametrize(
    ("driver", "n_checks"),
    [
        pytest.param("node-postgres", 9, marks=pytest.mark.driver("node-postgres")),
        pytest.param("pg-cursor", 3, marks=pytest.mark.driver("pg-cursor")),
        pytest.param("postgres.js", 7, marks=pytest.mark.driver("postgres.js")),
    ],
)
def test_node_driver_over_protected_columns_equals_plain_ones(sealed, driver, n_checks):
    """Every check of the driver's script holds, and the table has envelopes only."""
    sealed.stored("TRUNCATE cells, twins")
    environment = {**os.environ, "NODE_PATH": str(NODE / "node_modules"), "TZ": "Asia/Tokyo"}
    command = ["node", str(SCRIPT), driver, str(sealed.port), sealed.name]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(answer.stdout.split()) == n_checks
    assert holds_envelopes(sealed)
