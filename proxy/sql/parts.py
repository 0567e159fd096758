"""A plan on its way from the process that made it, pickled in parts of which each is quick to take.

Unpickling stands still for nobody: a text of ten thousand statements would keep the event loop for a good part
of a second. One reason to change: how a plan is cut.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from proxy.sql.plan import Planned, StatementPlan
from proxy.sql.planner import SlowJob, plan_slowly

STATEMENTS_A_PART: Final = 50


def plan_in_parts(job: SlowJob) -> list[bytes]:
    """Runs in a worker process; pure."""
    return in_parts(plan_slowly(job))


def in_parts(planned: Planned) -> list[bytes]:
    """All but the statements and the text, which the asker has; then the statements in shares."""
    statements = planned.plan.statements
    head = replace(planned, text=b"", plan=replace(planned.plan, statements=()))
    starts = range(0, len(statements), STATEMENTS_A_PART)
    return [_pickled(head), *(_pickled(statements[n : n + STATEMENTS_A_PART]) for n in starts)]


def joined(parts: Sequence[bytes], text: bytes) -> Generator[tuple[()], None, Planned]:
    """The plan again, with a pause after each part."""
    head: Planned = pickle.loads(parts[0])  # noqa: S301 - from a child process of our own, never from a socket
    statements: list[StatementPlan] = []
    for part in parts[1:]:
        yield ()
        statements.extend(pickle.loads(part))  # noqa: S301 - as above
    return replace(head, text=text, plan=replace(head.plan, statements=tuple(statements)))


def _pickled(part: Planned | tuple[StatementPlan, ...]) -> bytes:
    return pickle.dumps(part, pickle.HIGHEST_PROTOCOL)
