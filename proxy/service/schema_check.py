"""Rules against the live database: which tables serve, which are refused, why, and the SQL that mends it.

A table whose rule and schema disagree is refused by itself; everything else serves. One reason to change: what
is brought together for a check (`table_check.py` and `column_check.py` hold what is demanded).
"""

from __future__ import annotations

from dataclasses import replace

from proxy.rules import Ruleset
from proxy.service import live_schema
from proxy.service.column_check import check_column, check_rule
from proxy.service.connection import Connection
from proxy.service.findings import Finding, Report, TableReport, Weight, quoted, quoted_table
from proxy.service.live_schema import LiveSchema, Name
from proxy.service.observing import is_observed
from proxy.service.table_check import check_name, check_roles, check_table
from proxy.sql.guard import guard_name


async def check(connection: Connection, rules: Ruleset) -> Report:
    """Every ruled table of the connection's database, and every table that carries a guard without a rule."""
    return judge(rules, await live_schema.read(connection, list(rules.tables)))


def judge(rules: Ruleset, schema: LiveSchema) -> Report:
    """The pure part of `check`."""
    tables = [_ruled(rules, schema, name) for name in sorted(rules.tables)]
    strays = [_stray(name, schema.guards[name]) for name in sorted(set(schema.guards) - set(rules.tables))]
    posture = tuple(check_roles(rules))
    if posture:
        tables.append(TableReport("", "rules", posture))
    return Report(rules.database, (*tables, *strays))


def refusing(rules: Ruleset, report: Report) -> Ruleset:
    """The rules with what the report refuses marked, so that planning answers PS006 for it."""
    return replace(rules, refused=report.refused())


def _ruled(rules: Ruleset, schema: LiveSchema, name: Name) -> TableReport:
    rule, live = rules.tables[name], schema.tables.get(name)
    findings = [finding for column in rule.columns.values() for finding in check_rule(column)]
    if live is None:
        reason = (
            "is not there yet; CREATE TABLE through pgseal makes it with its guards (or is the name misspelt?)"
        )
        findings.append(Finding(Weight.NOTES, "table_missing", reason))
    else:
        findings += check_table(rule, live)
        if not any(finding.code == "not_a_table" for finding in findings):
            for column in rule.columns.values():
                findings += check_column(rule, column, live)
            findings += _unruled_guards(rules, schema, name)
    findings += check_name(rule, rules, schema)
    order = list(Weight)
    ordered = tuple(sorted(findings, key=lambda finding: order.index(finding.weight)))
    return TableReport(*name, ordered, is_observed=is_observed(rules, schema, name))


def _unruled_guards(rules: Ruleset, schema: LiveSchema, name: Name) -> list[Finding]:
    expected = {guard_name(column) for column in rules.tables[name].columns.values()}
    return [_guard_without_rule(name, found) for found in schema.guards.get(name, ()) if found not in expected]


def _stray(name: Name, guards: tuple[str, ...]) -> TableReport:
    return TableReport(*name, tuple(_guard_without_rule(name, found) for found in guards))


def _guard_without_rule(name: Name, found: str) -> Finding:
    reason = (
        f"guard {found} stands on a column that no rule protects (or whose rule has another context): its "
        f"cells would reach the application as they are. Put the rule back, or drop the guard"
    )
    ddl = f"ALTER TABLE {quoted_table(*name)} DROP CONSTRAINT {quoted(found)}"
    return Finding(Weight.REFUSES, "guard_without_rule", reason, ddl=(ddl,))
