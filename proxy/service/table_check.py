"""The verdict on what surrounds the protected columns of a table: tenant, isolation, bind, triggers, views.

Pure: a rule and the live table in, findings out. One reason to change: what a protected table must look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from proxy.rules import Isolation, Mode, Read, Ruleset, Scope, TableRule, TenantFrom, Through
from proxy.service.findings import Finding, Weight, quoted, quoted_table
from proxy.service.live_schema import LiveSchema, LiveTable

_MOVES: Final = re.compile(r" ON UPDATE (?:CASCADE|SET NULL|SET DEFAULT)| ON DELETE SET DEFAULT")
KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
TENANT_TYPES: Final = frozenset({16, 18, 19, 20, 21, 23, 25, 26, 1042, 1043, 1082, 2950})


def check_table(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    if live.kind in KINDS:
        yield Finding(Weight.REFUSES, "not_a_table", f"is {KINDS[live.kind]}; a rule names a table")
        return
    yield from _tenant_column(rule, live)
    yield from _moving_keys(rule, live)
    yield from _isolation(rule, live)
    yield from _bound_columns(rule, live)
    yield from _code_on_table(rule, live)


def check_name(rule: TableRule, rules: Ruleset, schema: LiveSchema) -> Iterator[Finding]:
    """Relations that share the bare name of a protected table and are not declared plain."""
    namesakes = sorted(
        other
        for other in schema.namesakes
        if other[1] == rule.name and other not in rules.not_protected and other not in rules.tables
    )
    for other_schema, name in namesakes:
        yield Finding(
            Weight.NOTES,
            "namesake",
            f"{other_schema}.{name} has the same name: statements that resolve to it are PS006 "
            f"unless the rules list it under not_protected",
        )


def check_roles(rules: Ruleset) -> Iterator[Finding]:
    """Rights that everyone has."""
    if rules.role("").read is Read.PLAIN:
        yield Finding(
            Weight.WARNS,
            "default_reads",
            "roles.default may read plaintext; name the log-ins that may, and deny the rest",
        )


def _tenant_column(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    if rule.tenant.source is not TenantFrom.COLUMN:
        return
    name = rule.tenant.name
    column = live.columns.get(name)
    if column is None:
        yield Finding(
            Weight.REFUSES,
            "tenant_column_missing",
            "is the tenant column of the rule, and the table has no such column",
            name,
        )
    elif name in rule.columns:
        yield Finding(Weight.REFUSES, "tenant_column_sealed", "a tenant column cannot be protected itself", name)
    elif column.type_oid not in TENANT_TYPES:
        reason = f"is {column.type_name}; a tenant is text, an integer, a uuid, a boolean or a date"
        yield Finding(Weight.REFUSES, "tenant_column_type", reason, name)
    elif not column.not_null:
        ddl = f"ALTER TABLE {quoted_table(live.schema, live.name)} ALTER COLUMN {quoted(name)} SET NOT NULL"
        reason = "a tenant column that may be NULL: rows without a tenant are refused (PS002)"
        yield Finding(Weight.WARNS, "tenant_column_null", reason, name, (ddl,))


def _moving_keys(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    """Foreign keys of the tenant column that would give rows to another tenant, with cells of the old one."""
    if rule.tenant.source is not TenantFrom.COLUMN:
        return
    for key in live.constraints:
        if key.kind == "f" and not key.from_other_table and rule.tenant.name in key.columns:
            kept = _MOVES.sub("", key.definition)
            if kept != key.definition:
                table = quoted_table(live.schema, live.name)
                name = quoted(key.name)
                ddl = f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {kept}"
                reason = f"foreign key {name} changes the tenant of rows and leaves their cells with the old one"
                yield Finding(Weight.REFUSES, "tenant_moves", reason, rule.tenant.name, (ddl,))


def _isolation(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    match rule.isolation:
        case Isolation.NONE:
            yield from _never_comparable(rule)
        case Isolation.RLS:
            yield from _row_level_security(rule, live)
        case Isolation.TENANT_ONLY:
            if rule.tenant.source is TenantFrom.COLUMN:
                reason = "isolation: tenant-only says that the table holds one tenant, but its tenant is a column"
                yield Finding(Weight.REFUSES, "isolation_contradiction", reason)
            elif rule.tenant.source in (TenantFrom.SETTING, TenantFrom.USER):
                reason = "isolation: tenant-only cannot be verified here: the tenant changes with the session"
                yield Finding(Weight.WARNS, "isolation_unproved", reason)


def _never_comparable(rule: TableRule) -> Iterator[Finding]:
    """A tenant that only the session has says nothing of whose rows a statement meets."""
    if rule.tenant.source not in (TenantFrom.SETTING, TenantFrom.USER):
        return
    for column in rule.columns.values():
        is_exact = column.mode is Mode.DETERMINISTIC
        if is_exact or (column.search and column.scope is Scope.TENANT):
            reason = (
                "every comparison is refused (PS002): no statement can prove whose rows it meets; write "
                "isolation: rls (row-level security shows each session its tenant's rows) or "
                "isolation: tenant-only for the table in the rules"
            )
            other = "" if is_exact else ", or scope: table for the column"
            yield Finding(Weight.NOTES, "never_comparable", reason + other, column.column)


def _row_level_security(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    table = quoted_table(live.schema, live.name)
    missing = []
    if not live.has_rls:
        missing.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    if not live.forces_rls:
        missing.append(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    if missing:
        reason = "isolation: rls, but row-level security is not both enabled and forced"
        yield Finding(Weight.REFUSES, "rls_off", reason, ddl=tuple(missing))
    policies = [item for item in live.dependents if item.kind == "policy"]
    column = rule.tenant.name if rule.tenant.source is TenantFrom.COLUMN else None
    if not any(column in (None, item.column) for item in policies):
        yield _no_policy(rule, live, table)


def _no_policy(rule: TableRule, live: LiveTable, table: str) -> Finding:
    """With the policy to make, where the table has a column that it can look at."""
    is_setting = rule.tenant.source is TenantFrom.SETTING
    column = rule.tenant.name.rpartition(".")[2] if is_setting else rule.tenant.name
    if column not in live.columns:
        reason = "isolation: rls, but there is no policy; make one over the column that says whose a row is"
        return Finding(Weight.REFUSES, "rls_policy_missing", reason)
    setting = (rule.tenant.name if is_setting else "app.tenant_id").replace("'", "''")
    ddl = (
        f"CREATE POLICY pgseal_tenant ON {table} USING ({quoted(column)}::text = "
        f"pg_catalog.current_setting('{setting}', true))"
    )
    reason = "isolation: rls, but no policy looks at the tenant column"
    return Finding(Weight.REFUSES, "rls_policy_missing", reason, ddl=(ddl,))


def _bound_columns(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    for column in rule.columns.values():
        for name in column.bind:
            found = live.columns.get(name)
            if found is None:
                yield Finding(Weight.REFUSES, "bind_missing", f'bind: there is no column "{name}"', column.column)
            elif name in rule.columns:
                reason = f'bind: "{name}" is protected itself; bind names plain columns that never change'
                yield Finding(Weight.REFUSES, "bind_sealed", reason, column.column)
            elif not found.not_null:
                reason = f'bind: "{name}" may be NULL; a row key is NOT NULL'
                yield Finding(Weight.REFUSES, "bind_null", reason, column.column)


def _code_on_table(rule: TableRule, live: LiveTable) -> Iterator[Finding]:
    """Functions inside the server see envelopes, never plaintext."""
    if live.triggers:
        reason = f"trigger {_listed(live.triggers)} sees ciphertext in the protected columns"
        yield Finding(Weight.WARNS, "trigger", reason)
    if live.rules:
        reason = f"rewrite rule {_listed(live.rules)} changes statements after pgseal has planned them"
        weight = Weight.NOTES if rule.through is Through.VIEW else Weight.REFUSES
        ddl = tuple(f"DROP RULE {quoted(name)} ON {quoted_table(live.schema, live.name)}" for name in live.rules)
        yield Finding(weight, "rule", reason, ddl=ddl)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
