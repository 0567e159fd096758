"""Plans sent in parts: the same plan comes out, and no part is large."""

from __future__ import annotations

from proxy.sql.parts import STATEMENTS_A_PART, in_parts, joined, plan_in_parts
from proxy.sql.plan import NotPlanned, Planned
from proxy.sql.planner import Planner, plan_slowly
from tests.unit.sql.catalogs import env

N_STATEMENTS = 4 * STATEMENTS_A_PART + 1
TEXT = b"; ".join(b"INSERT INTO staff (id, ssn) VALUES (%d, 's%d')" % (n, n) for n in range(N_STATEMENTS))


def test_plan_in_parts_is_the_plan() -> None:
    """Of many statements, each part a share of them; the text is not sent back."""
    planner, world = Planner(), env()
    asked = planner.plan(TEXT, world, None)
    assert isinstance(asked, NotPlanned)
    job = planner.slow_job(asked)
    parts = plan_in_parts(job)
    assert len(parts) == 6
    assert not any(TEXT[-20:] in part for part in parts)
    steps = joined(parts, TEXT)
    n_pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            assert done.value == plan_slowly(job)
            break
        n_pauses += 1
    assert n_pauses == 5


def test_plan_of_nothing_is_one_part() -> None:
    """A refused or passing text has no statements."""
    planner = Planner()
    asked = planner.plan(b"SELECT 1 FROM staff WHERE ssn LIKE '" + b"x" * 5000 + b"'", env(), None)
    assert isinstance(asked, NotPlanned)
    made: Planned = plan_slowly(planner.slow_job(asked))
    assert made.plan.refusal is not None
    assert len(in_parts(made)) == 1
