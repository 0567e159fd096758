"""pgjdbc over protected columns; the checks are in Java, run from source by the JDK."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.drivers import JDBC
from tests.integration.protected.all_types import RULES, SETUP, holds_envelopes
from tests.sealed import sealed_database

pytestmark = pytest.mark.driver("pgjdbc")
SOURCE = Path(__file__).parent / "protected" / "JdbcCells.java"
N_CHECKS = 23


def test_pgjdbc_over_protected_columns_equals_plain_ones(postgres):
    """Thresholds, binary transfer, batches, rewriting, autosave, portals and metadata all hold."""
    with sealed_database(postgres, RULES, setup=SETUP) as sealed:
        command = ["java", "-cp", str(JDBC), str(SOURCE), str(sealed.port), sealed.name]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=110)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert len(answer.stdout.split()) == N_CHECKS
        assert holds_envelopes(sealed)
