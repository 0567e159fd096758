"""Statements over tables under observation: planned once more as if those tables held cells, and reported.

What is reported changes nothing of what the statement does. One reason to change: what is told of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.session.sealing import Waits
from proxy.sql.plan import NotPlanned, Planned

if TYPE_CHECKING:
    from proxy.session.planning import Planning


def observe(planning: Planning, planned: Planned, oids: tuple[int, ...] | None) -> Waits[None]:
    """Report a text that passes now, if it would be refused; `oids` None for a simple Query."""
    supposed = planning.snapshot.supposed
    if supposed is None:
        return
    env = replace(planning.env(), snapshot=supposed)
    runtime = planning.runtime
    while isinstance(found := runtime.planner.plan(planned.text, env, oids), NotPlanned):
        yield (found,)
    if found.plan.refusal is not None:
        fingerprint = runtime.fingerprints.of(found, runtime.fingerprint_key)
        runtime.fingerprints.observed.note(fingerprint, found.plan.refusal)
        planning.records.observed(found.plan.refusal, fingerprint)
