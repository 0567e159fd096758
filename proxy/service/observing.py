"""Tables under observation (`on_unsupported: observe`): which they are, and the two pictures of their catalog.

Such a table is left out of the rules that planning looks at, so that its statements pass as over any plain
table, beside a second snapshot that supposes it protected: what that one refuses is reported. Observing must
never weaken a table that holds cells, so it is proven from types: a cell lies in a bytea column (or a text one,
with `storage: text`), and a ruled column of another built-in type holds none.

One reason to change: what may be observed.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from proxy.rules import ColumnRule, OnUnsupported, Ruleset, Storage
from proxy.rules_lock import Lock
from proxy.service.catalog_reader import read_snapshot
from proxy.service.connection import Connection
from proxy.service.findings import Report
from proxy.service.live_schema import LiveColumn, LiveSchema, LiveTable, Name
from proxy.sql.catalog import Snapshot

FIRST_USER_OID: Final = 16384  # types from here on may be domains over bytea
STRINGS: Final = frozenset({18, 19, 25, 1042, 1043})  # what a cell of `storage: text` may lie in
BYTEA: Final = 17


def is_observed(rules: Ruleset, schema: LiveSchema, name: Name) -> bool:
    """True where the rules ask for it and the table can hold no cell."""
    return rules.on_unsupported is OnUnsupported.OBSERVE and is_without_cells(rules, schema, name)


def is_without_cells(rules: Ruleset, schema: LiveSchema, name: Name) -> bool:
    """True where the table has no guard and none of its ruled columns is of a type that cells have."""
    live = schema.tables.get(name)
    if live is None or live.kind not in ("r", "p") or name in schema.guards:
        return False
    return all(_is_plain(rule, live) for rule in rules.tables[name].columns.values())


def _is_plain(rule: ColumnRule, live: LiveTable) -> bool:
    """A column that is not there holds nothing."""
    column: LiveColumn | None = live.columns.get(rule.column)
    if column is None:
        return True
    if column.type_oid == BYTEA or column.type_oid >= FIRST_USER_OID:
        return False
    return rule.storage is Storage.BYTEA or column.type_oid not in STRINGS


def approved(report: Report, lock: Lock | None, had_cells: AbstractSet[Name]) -> Report:
    """Only an approved rules.lock turns observing on, and never for a table that has held cells: else whoever may
    change the table could have its plaintext by taking guard and type away."""
    if lock is None or lock.rules.on_unsupported is not OnUnsupported.OBSERVE:
        return report.without_observing(report.observed())
    locked = {(relation.schema, relation.name) for relation in lock.relations}
    return report.without_observing(locked | had_cells)


def with_cells(snapshot: Snapshot) -> frozenset[Name]:
    """Tables and their kin that may hold cells, refused ones included."""
    return frozenset(name for name, relation in snapshot.relations.items() if relation.rule is not None)


def supposing(rules: Ruleset, schema: LiveSchema, report: Report) -> Report:
    """The report with every table that holds no cell under observation, whatever the rules say: what a statement
    will meet once the tables are as the rules want them."""
    tables = [
        replace(table, is_observed=True)
        if (table.schema, table.name) in rules.tables
        and is_without_cells(rules, schema, (table.schema, table.name))
        else table
        for table in report.tables
    ]
    return replace(report, tables=tuple(tables))


async def read_observing(connection: Connection, rules: Ruleset, report: Report, epoch: int) -> Snapshot:
    """The snapshot under these rules, in which tables under observation are plain. Where there are some, it has
    beside it the one that supposes them protected."""
    observed = report.observed()
    live = without(rules, observed)
    snapshot = await read_snapshot(connection, live, report, epoch)
    if not observed:
        return snapshot
    supposed = await read_snapshot(connection, rules, report, epoch, supposed=observed)
    return replace(snapshot, supposed=supposed)


def without(rules: Ruleset, names: AbstractSet[Name]) -> Ruleset:
    """The rules of all other tables; these may have the bare name of one of them."""
    if not names:
        return rules
    kept = {name: rule for name, rule in rules.tables.items() if name not in names}
    return replace(rules, tables=kept, not_protected=rules.not_protected | names)
