"""What a suite of the conformance run is. One reason to change: what the runner asks of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.outcomes import Outcome
from tests.conformance.place import Endpoint, World

Run = Callable[[Endpoint, Path], dict[str, Outcome]]


@dataclass(frozen=True, slots=True)
class Suite:
    """`fetch` gets what it needs (CannotBeHad when it cannot be got); `run` runs it against an endpoint and
    leaves its report and its output in a folder; `expected` are tests known to differ, each with its cause."""

    name: str
    origin: str
    fetch: Callable[[], None]
    run: Run
    world: World = field(default_factory=World)
    expected: Mapping[str, str] = field(default_factory=dict)
