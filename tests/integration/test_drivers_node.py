"""node-postgres, pg-cursor and postgres.js through the proxy over plain tables; the checks are in JavaScript."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.drivers import NODE, SOURCES

pytestmark = pytest.mark.wire


@pytest.mark.parametrize(
    ("driver", "n_checks"),
    [
        pytest.param("node-postgres", 10, marks=pytest.mark.driver("node-postgres")),
        pytest.param("pg-cursor", 3, marks=pytest.mark.driver("pg-cursor")),
        pytest.param("postgres.js", 9, marks=pytest.mark.driver("postgres.js")),
    ],
)
def test_node_driver_works_through_the_proxy(driver, n_checks, plain):
    """Every check of the driver's script holds."""
    command = ["node", str(SOURCES / "node_plain.cjs"), driver, plain.host, str(plain.port), plain.database]
    environment = {**os.environ, "NODE_PATH": str(NODE / "node_modules")}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(answer.stdout.split()) == n_checks
