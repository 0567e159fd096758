"""pgjdbc through the proxy over plain tables; the checks are in Java, run from source by the JDK."""

from __future__ import annotations

import subprocess

import pytest

from tests.drivers import JDBC, SOURCES

pytestmark = [pytest.mark.wire, pytest.mark.driver("pgjdbc")]
N_CHECKS = 21


def test_pgjdbc_works_through_the_proxy(plain):
    """Thresholds, batches, rewriting, autosave, portals, cancel, COPY and large objects all hold."""
    command = [
        "java",
        "-cp",
        str(JDBC),
        str(SOURCES / "JdbcPlain.java"),
        plain.host,
        str(plain.port),
        plain.database,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(answer.stdout.split()) == N_CHECKS
