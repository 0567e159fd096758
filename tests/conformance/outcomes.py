"""Outcomes of a suite by test id, read from JUnit XML, and how two runs of it differ.

JUnit XML as pytest writes it: `testcase` with classname and name; `failure`, `error` or `skipped` inside it.
One reason to change: what counts as the same outcome.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PASSED, FAILED, SKIPPED, ABSENT = "passed", "failed", "skipped", "absent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`mark` tells two failures apart (a digest of what was answered); it is empty where nothing is compared."""

    status: str
    mark: str = ""
    said: str = ""  # of a failure, for the reader; never compared


Outcomes = Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class Difference:
    test: str
    direct: str
    proxied: str
    said: str


def read_junit(path: Path) -> dict[str, Outcome]:
    """Every test case of a report; ids are `classname::name`."""
    outcomes: dict[str, Outcome] = {}
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = _outcome(case)
        # a test whose body passed and whose teardown failed is reported twice
        if name not in outcomes or outcomes[name].status != FAILED:
            outcomes[name] = outcome
    return outcomes


def _outcome(case: ET.Element) -> Outcome:
    for child in case:
        if child.tag in ("failure", "error"):
            return Outcome(FAILED, said=(child.get("message") or child.text or "").strip()[-600:])
        if child.tag == "skipped":
            return Outcome(SKIPPED)
    return Outcome(PASSED)


def counts(outcomes: Outcomes) -> Counter[str]:
    """How many tests had each status."""
    return Counter(outcome.status for outcome in outcomes.values())


def differences(direct: Outcomes, proxied: Outcomes) -> list[Difference]:
    """Tests whose outcome is not the same, by id."""
    none = Outcome(ABSENT)
    found = []
    for test in sorted({*direct, *proxied}):
        one, other = direct.get(test, none), proxied.get(test, none)
        if (one.status, one.mark) != (other.status, other.mark):
            found.append(Difference(test, one.status, other.status, other.said or one.said))
    return found
