"""Cases of the matrix of SQL: cursors, PREPARE and EXECUTE, EXPLAIN.

One reason to change: such a form is promised, or no longer refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.sql_cases import ALL, NONE, Case, cases

_RUN = "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off)"

CASES: Final[Sequence[Case]] = (
    *cases(
        "EXPLAIN",
        ALL,
        "EXPLAIN (COSTS off) SELECT ssn, id FROM {t}",
        ("EXPLAIN (COSTS off, FORMAT json) SELECT ssn, COALESCE(level, ?1) FROM {t} WHERE ssn IS NULL", "none"),
        "EXPLAIN (COSTS off, FORMAT xml) SELECT pin FROM {t} UNION ALL SELECT NULL",
        ("EXPLAIN (COSTS off, FORMAT yaml) INSERT INTO {t} (id, ssn) VALUES (20, ?1) RETURNING ssn", "not run"),
        "EXPLAIN (COSTS off) UPDATE {t} SET ssn = 'not run', level = DEFAULT",
        "EXPLAIN (COSTS off) DECLARE c CURSOR FOR SELECT ssn FROM {t}",
    ),
    *cases(
        "EXPLAIN ANALYZE of a write",
        ALL,
        (f"{_RUN} INSERT INTO {{t}} (id, ssn, pin) VALUES (20, ?1, ?2), (21, 'two', 5)", "one", 6),
        (f"{_RUN} INSERT INTO {{t}} (id, ssn) VALUES (20, ?1) RETURNING ssn", "one"),
        (f"{_RUN} UPDATE {{t}} SET ssn = ?1, level = DEFAULT WHERE n > 2", "one"),
        (f"{_RUN} WITH w AS (INSERT INTO {{t}} (id, ssn) VALUES (20, ?1) RETURNING *) SELECT ssn FROM w", "one"),
        f"{_RUN} DELETE FROM {{t}} WHERE ssn IS NULL",
    ),
    *cases(
        "EXPLAIN of what is refused",
        NONE,
        "EXPLAIN SELECT upper(ssn) FROM {t}",
        "EXPLAIN ANALYZE INSERT INTO {t} (id, ssn) SELECT id + 50, name FROM {t}",
        "EXPLAIN SELECT ssn FROM {t} ORDER BY ssn",
    ),
    *cases(
        "EXPLAIN CREATE TABLE AS",
        NONE,
        "EXPLAIN CREATE TABLE copied AS SELECT ssn FROM {t}",
        "EXPLAIN ANALYZE CREATE TABLE copied AS SELECT ssn FROM {t}",
        named="{t}",
    ),
)
