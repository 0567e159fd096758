"""`make conformance`: each suite run directly and through the proxy, and a table of what differs.

Ends with 0 when every difference is a known one, 1 otherwise, 2 for a suite that could not be had.
One reason to change: which suites run and how their results are shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.conformance.fetching import CACHE, CannotBeHad
from tests.conformance.outcomes import FAILED, PASSED, SKIPPED, Difference, Outcomes, counts, differences
from tests.conformance.place import endpoint
from tests.conformance.suites.app_suites import DJANGO, SQLALCHEMY
from tests.conformance.suites.asyncpg_suite import SUITE as ASYNCPG
from tests.conformance.suites.psycopg2_suite import SUITE as PSYCOPG2
from tests.conformance.suites.regress_suites import ISOLATION, REGRESS
from tests.conformance.suites.suite import Suite

SUITES = (ASYNCPG, PSYCOPG2, DJANGO, SQLALCHEMY, REGRESS, ISOLATION)
WAYS = {"direct": False, "proxied": True}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One suite, both ways."""

    suite: Suite
    direct: Outcomes
    proxied: Outcomes
    seconds: float

    @property
    def found(self) -> list[Difference]:
        return differences(self.direct, self.proxied)

    @property
    def unexpected(self) -> list[Difference]:
        return [each for each in self.found if each.test not in self.suite.expected]


def compare(suite: Suite, results: Path) -> Comparison:
    """Runs a suite both ways, each against a fresh server."""
    started = time.monotonic()
    found: dict[str, Outcomes] = {}
    for way, is_proxied in WAYS.items():
        folder = _fresh(results / suite.name / way)
        with endpoint(suite.world, is_proxied) as place:
            found[way] = suite.run(place, folder)
    return Comparison(suite, found["direct"], found["proxied"], time.monotonic() - started)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def show(comparisons: Sequence[Comparison], console: Console) -> None:
    table = Table("suite", "direct", "through pgseal", "differences", "known", "seconds", title="conformance")
    for each in comparisons:
        known = len(each.found) - len(each.unexpected)
        sides = (_counts(each.direct), _counts(each.proxied))
        table.add_row(each.suite.name, *sides, str(len(each.found)), str(known), f"{each.seconds:.0f}")
    console.print(table)
    for each in comparisons:
        for difference in each.found:
            cause = each.suite.expected.get(
                difference.test, "NOT KNOWN: " + " ".join(difference.said.split())[:300]
            )
            console.print(f"{each.suite.name}: {difference.test}: {difference.direct} directly, "
                          f"{difference.proxied} through pgseal: {cause}", markup=False)  # fmt: skip


def _counts(outcomes: Outcomes) -> str:
    found = counts(outcomes)
    return f"{found[PASSED]} passed, {found[FAILED]} failed, {found[SKIPPED]} skipped"


def _record(comparison: Comparison) -> dict[str, object]:
    return {
        "suite": comparison.suite.name,
        "origin": comparison.suite.origin,
        "direct": dict(counts(comparison.direct)),
        "proxied": dict(counts(comparison.proxied)),
        "differences": {each.test: [each.direct, each.proxied] for each in comparison.found},
        "seconds": round(comparison.seconds),
    }


def main(arguments: Sequence[str]) -> int:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(
        prog="make conformance", description="make conformance ARGS='--only asyncpg'"
    )
    parser.add_argument("--only", action="append", choices=names, help="this suite; may be given more than once")
    parser.add_argument("--json", type=Path, help="a file for the counts and differences")
    options = parser.parse_args(arguments)
    console, results = Console(), CACHE / "results" / time.strftime("%Y%m%dT%H%M%S")
    comparisons, missing = [], []
    for suite in SUITES:
        if options.only and suite.name not in options.only:
            continue
        try:
            suite.fetch()
        except CannotBeHad as reason:
            missing.append(suite.name)
            console.print(f"{suite.name} cannot be had: {reason}", markup=False)
            continue
        comparisons.append(compare(suite, results))
        show(comparisons[-1:], console)
    if len(comparisons) > 1:
        show(comparisons, console)
    console.print(f"reports: {results}", markup=False)
    if options.json:
        options.json.write_text(json.dumps([_record(each) for each in comparisons], indent=1) + "\n")
    if any(each.unexpected for each in comparisons):
        return 1
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
