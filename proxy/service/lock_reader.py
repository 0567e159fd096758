"""How protected relations stand in a live database, in the form that rules.lock keeps.

Everything that shows a protected column belongs to it: tables, views, partitions, children, as the snapshot knows
them. One reason to change: what of a live schema is locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from proxy.rules import Mode, Ruleset
from proxy.rules_lock import Lock, LockedColumn, LockedRelation, schema_changes
from proxy.service.connection import Connection
from proxy.sql.catalog import Relation, Snapshot

TYPES: Final = """
SELECT attrelid::int8 AS relation, attnum, pg_catalog.format_type(atttypid, atttypmod) AS type
FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1::int8[]::oid[]) AND attnum > 0 AND NOT attisdropped
"""

DEFINITIONS: Final = """
SELECT oid::int8 AS relation, pg_catalog.pg_get_viewdef(oid) AS definition
FROM pg_catalog.pg_class WHERE oid = ANY($1::int8[]::oid[]) AND relkind IN ('v', 'm')
"""

CODE: Final = """
SELECT tgrelid::int8 AS relation, pg_catalog.pg_get_triggerdef(oid) AS text FROM pg_catalog.pg_trigger
WHERE tgrelid = ANY($1::int8[]::oid[]) AND NOT tgisinternal
UNION ALL
SELECT ev_class::int8, pg_catalog.pg_get_ruledef(oid) FROM pg_catalog.pg_rewrite
WHERE ev_class = ANY($1::int8[]::oid[]) AND rulename <> '_RETURN'
"""


async def locked_relations(connection: Connection, snapshot: Snapshot) -> tuple[LockedRelation, ...]:
    """Every relation of the snapshot that shows a protected column."""
    relations = [relation for relation in snapshot.relations.values() if relation.sealed or relation.rule]
    oids = [relation.oid for relation in relations]
    types = {(row["relation"], row["attnum"]): row["type"] for row in await connection.fetch(TYPES, oids)}
    definitions = {row["relation"]: row["definition"] for row in await connection.fetch(DEFINITIONS, oids)}
    code: dict[int, list[str]] = {}
    for row in await connection.fetch(CODE, oids):
        code.setdefault(row["relation"], []).append(row["text"])
    return tuple(
        LockedRelation(
            schema=relation.schema,
            name=relation.name,
            oid=relation.oid,
            kind=relation.kind,
            columns=_columns(relation, types),
            definition=definitions.get(relation.oid, ""),
            triggers=tuple(sorted(code.get(relation.oid, ()))),
        )
        for relation in relations
    )


def _columns(relation: Relation, types: Mapping[tuple[int, int], str]) -> tuple[LockedColumn, ...]:
    numbers = {column.name: column.attnum for column in relation.columns}
    return tuple(
        LockedColumn(
            name=name,
            attnum=numbers[name],
            type=types.get((relation.oid, numbers[name]), ""),
            context=sealed.rule.context,
            pad=sealed.rule.pad if sealed.rule.mode is Mode.DETERMINISTIC else None,
        )
        for name, sealed in sorted(relation.sealed.items())
    )


def lowered(lock: Lock, live: tuple[LockedRelation, ...], rules: Ruleset) -> dict[tuple[str, str], str]:
    """Relation -> how it differs from what was approved. A ruled table or column that is new has its guard, and
    one that is gone shows nothing: neither lowers protection."""
    approved = {(relation.schema, relation.name): relation for relation in lock.relations}
    found: dict[tuple[str, str], str] = {}
    for relation in live:
        name = (relation.schema, relation.name)
        before = tuple(filter(None, [approved.get(name)]))
        if relation.kind in ("r", "p") and name in rules.tables:
            if not before:
                continue
            known = {column.name for column in before[0].columns}
            relation = replace(relation, columns=tuple(c for c in relation.columns if c.name in known))
        changes = schema_changes(Lock(lock.rules, before), (relation,))
        if changes:
            change = changes[0].removeprefix(f"{'.'.join(name)}: ")
            found[name] = f"{change}, against what was approved; review it and run: pgseal check --approve"
    return found
