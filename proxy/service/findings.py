"""What a check found, as plain values: per table a verdict with reasons and the exact SQL to run.

One reason to change: what `check` tells an operator or a script.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from enum import Enum


class Weight(Enum):
    """REFUSES: every use of the table is PS006 until it is mended. WARNS: it serves, but not as well as it
    should. NOTES: worth knowing."""

    REFUSES = "refuses"
    WARNS = "warns"
    NOTES = "notes"


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is a stable word for scripts; `ddl` are whole statements, in order, each without a semicolon."""

    weight: Weight
    code: str
    reason: str
    column: str = ""
    ddl: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableReport:
    schema: str
    name: str
    findings: tuple[Finding, ...] = ()
    is_observed: bool = False  # it holds no cell yet and passes as it is; what refuses it is what it still needs

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def is_refused(self) -> bool:
        return not self.is_observed and any(finding.weight is Weight.REFUSES for finding in self.findings)

    @property
    def verdict(self) -> str:
        """refused, observed, serves with warnings, or serves."""
        if self.is_observed:
            return "observed"
        if self.is_refused:
            return "refused"
        return "warned" if any(finding.weight is Weight.WARNS for finding in self.findings) else "serves"

    def refusal(self) -> str:
        """The sentence a client reads in PS006: the first reason and what to run."""
        first = next(finding for finding in self.findings if finding.weight is Weight.REFUSES)
        place = f"{self.label}.{first.column}" if first.column else self.label
        remedy = f"; run: {'; '.join(first.ddl)}" if first.ddl else ""
        return f"{place}: {first.reason}{remedy}"


@dataclass(frozen=True, slots=True)
class Report:
    database: str
    tables: tuple[TableReport, ...]

    def refused(self) -> dict[tuple[str, str], str]:
        """Table -> why, as `Ruleset.refused` wants it."""
        return {(table.schema, table.name): table.refusal() for table in self.tables if table.is_refused}

    def observed(self) -> frozenset[tuple[str, str]]:
        """The tables that pass as they are (`on_unsupported: observe`)."""
        return frozenset((table.schema, table.name) for table in self.tables if table.is_observed)

    def without_observing(self, names: Container[tuple[str, str]]) -> Report:
        """The same with these tables refused for what they lack."""
        tables = [
            replace(table, is_observed=table.is_observed and (table.schema, table.name) not in names)
            for table in self.tables
        ]
        return replace(self, tables=tuple(tables))

    @property
    def is_clean(self) -> bool:
        return all(table.verdict == "serves" for table in self.tables)


def quoted(name: str) -> str:
    """An identifier as SQL, always quoted: the exact case is kept."""
    return '"' + name.replace('"', '""') + '"'


def quoted_table(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"
