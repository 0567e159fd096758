"""Reads one database's catalog into the snapshot that planning looks at.

The watch set is closed over kinship, views and functions: whatever can show a protected cell under another
name is in it. A table whose rule and schema disagree (`schema_check.py`) is refused by itself, as are kin
without the guard and views whose columns cannot be traced (`catalog_views.py`).
One reason to change: what a snapshot says of a live catalog.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from proxy.rules import Ruleset, Storage, TableRule, Through
from proxy.service import catalog_queries as queries
from proxy.service.catalog_views import Traced, trace
from proxy.service.connection import Connection
from proxy.service.findings import Report
from proxy.sql.catalog import Column, Name, Relation, Snapshot
from proxy.sql.ddl_columns import relation_with
from proxy.sql.guard import guard_name
from proxy.sql.settings import sets_tracked
from proxy.sql.watch import OWN_SCHEMA, SEED, identifier

if TYPE_CHECKING:
    import asyncpg

    Row: TypeAlias = asyncpg.Record

_TURN: Final = 200  # relations between two turns of the loop
_WORDS: Final = re.compile(r"[^\W\d]\w*|\*")


@dataclass(slots=True)
class _Catalog:
    """What the queries gave, keyed by OID, and the relations as they are known so far."""

    rules: Ruleset
    relations: dict[int, Relation] = field(default_factory=dict)
    parents: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    uses: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    calls: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    guards: set[tuple[int, str]] = field(default_factory=set)
    with_code: set[int] = field(default_factory=set)
    with_instead: set[int] = field(default_factory=set)
    functions: list[Row] = field(default_factory=list)
    supposed: frozenset[Name] = frozenset()


async def fingerprint(connection: Connection) -> str:
    """Changes whenever the catalog does; a few milliseconds for thousands of relations."""
    return str(await connection.fetchval(queries.FINGERPRINT))


async def read_snapshot(
    connection: Connection, rules: Ruleset, report: Report, epoch: int, supposed: frozenset[Name] = frozenset()
) -> Snapshot:
    """The catalog of the connection's database under `rules`; `report` is their check against it. Of `supposed`
    tables it is supposed that they and their kin are as the rules want them."""
    refused = {**report.refused(), **rules.refused}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SELECT pg_catalog.set_config('search_path', '', true)")
        catalog = await _read(connection, rules)
        catalog.supposed = supposed
        _mark_protected(catalog, refused)
        views = _followed(catalog, _views(catalog))
        definitions = {row["oid"]: row for row in await connection.fetch(queries.VIEWS, views)}
        version = int(await connection.fetchval("SELECT pg_catalog.current_setting('server_version_num')"))
        schemas = frozenset(str(row[0]) for row in await connection.fetch(queries.SCHEMAS))
    empty = Snapshot(rules.database, epoch, version, rules, {}, {}, _pinned(rules), frozenset(), schemas=schemas)
    names, functions = _code(catalog, views)
    setting = _setting_functions(catalog)
    base = replace(
        empty,
        watched_functions=frozenset(functions),
        setting_functions=frozenset(setting),
        watched=_watched(catalog, rules, names | setting),
    )
    for oid in views:
        await asyncio.sleep(0)
        _trace_view(catalog, base, oid, definitions[oid])
    return _finished(catalog, base)


def _finished(catalog: _Catalog, base: Snapshot) -> Snapshot:
    relations = {(found.schema, found.name): found for found in catalog.relations.values()}
    return replace(base, relations=relations, by_oid=catalog.relations, watched=base.watched)


def _pinned(rules: Ruleset) -> frozenset[str]:
    return frozenset(name for _, name in rules.tables)


# --- reading -------------------------------------------------------------------------------------------


async def _read(connection: Connection, rules: Ruleset) -> _Catalog:
    catalog = _Catalog(rules)
    unique: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for row in await connection.fetch(queries.UNIQUE):
        unique[row["relation"]].append(tuple(row["columns"]))
    for number, row in enumerate(await connection.fetch(queries.RELATIONS)):
        catalog.relations[row["oid"]] = _relation(row, tuple(unique.get(row["oid"], ())))
        if number % _TURN == 0:
            await asyncio.sleep(0)
    for row in await connection.fetch(queries.INHERITS):
        catalog.parents[row["child"]].append(row["parent"])
    for row in await connection.fetch(queries.REWRITES):
        if row["rule"] != "_RETURN":
            catalog.with_code.add(row["relation"])
            catalog.with_instead.add(row["relation"])
        catalog.uses[row["relation"]].add(row["relation_used"])
        catalog.calls[row["relation"]].add(row["function_used"])
    for row in await connection.fetch(queries.TRIGGERS):
        catalog.with_code.add(row["relation"])
        if row["is_instead"]:
            catalog.with_instead.add(row["relation"])
    catalog.guards = {(row["relation"], row["name"]) for row in await connection.fetch(queries.GUARDS)}
    catalog.functions = list(await connection.fetch(queries.FUNCTIONS))
    return catalog


def _relation(row: Row, unique: tuple[tuple[str, ...], ...]) -> Relation:
    parts = zip(
        row["names"],
        row["attnums"],
        row["types"],
        row["typmods"],
        row["not_nulls"],
        row["defaults"],
        row["generated"],
        strict=True,
    )
    columns = tuple(Column(*part) for part in parts if part[0] is not None)
    return Relation(row["oid"], row["schema"], row["name"], row["kind"], columns, unique_columns=unique)


# --- protected tables and their kin ----------------------------------------------------------------------


def _mark_protected(catalog: _Catalog, refused: Mapping[Name, str]) -> None:
    for oid, relation in list(catalog.relations.items()):
        has_code = oid in catalog.with_code
        if has_code:
            catalog.relations[oid] = replace(relation, has_rules_or_triggers=True)
        rule = catalog.rules.tables.get((relation.schema, relation.name))
        if rule is not None:
            reason = refused.get((relation.schema, relation.name))
            catalog.relations[oid] = _ruled(catalog.relations[oid], rule, reason)
    changed = True
    while changed:
        changed = False
        for child, parents in catalog.parents.items():
            ruled = [catalog.relations[oid] for oid in parents if _has_rule(catalog, oid)]
            if ruled and child in catalog.relations and not _has_rule(catalog, child):
                catalog.relations[child] = _kin(catalog, catalog.relations[child], ruled)
                changed = True
    _refuse_ancestors(catalog)


def _refuse_ancestors(catalog: _Catalog) -> None:
    """A parent without a rule shows and takes the cells of its protected child as they are."""
    pending = [oid for oid, relation in catalog.relations.items() if relation.rule is not None]
    while pending:
        child = catalog.relations[pending.pop()]
        for oid in catalog.parents.get(child.oid, ()):
            parent = catalog.relations.get(oid)
            if parent is not None and parent.rule is None and parent.refused is None:
                why = f"{parent.schema}.{parent.name}: is a parent of the protected {child.schema}.{child.name}; "
                catalog.relations[oid] = replace(parent, refused=why + "give the parent the rule")
                pending.append(oid)


def _has_rule(catalog: _Catalog, oid: int) -> bool:
    return oid in catalog.relations and catalog.relations[oid].rule is not None


def _ruled(relation: Relation, rule: TableRule, reason: str | None) -> Relation:
    key = (relation.schema, relation.name)
    made = relation_with(relation.columns, rule, key, relation.oid, relation.kind)
    return replace(
        made,
        refused=reason,
        has_rules_or_triggers=relation.has_rules_or_triggers,
        unique_columns=relation.unique_columns,
    )


def _kin(catalog: _Catalog, child: Relation, parents: list[Relation]) -> Relation:
    """A partition or child: its parent's rule, if each sealed column has the guard there too."""
    rule = parents[0].rule
    assert rule is not None
    made = _ruled(child, rule, None)
    return replace(made, refused=_kin_refusal(catalog, made, parents))


def _kin_refusal(catalog: _Catalog, child: Relation, parents: list[Relation]) -> str | None:
    label = f"{child.schema}.{child.name}"
    if len(parents) > 1:
        return f"{label}: inherits from more than one protected table"
    if child.kind == "f":
        return f"{label}: is a foreign table, which no guard protects"
    if child.rule is not None and (child.rule.schema, child.rule.name) in catalog.supposed:
        return parents[0].refused
    types = {column.name: column.type_oid for column in child.columns}
    for name, sealed in child.sealed.items():
        if types[name] != (17 if sealed.rule.storage is Storage.BYTEA else 25):
            return f"{label}.{name}: is not {sealed.rule.storage.value} as in {sealed.rule.table}"
        if (child.oid, guard_name(sealed.rule)) not in catalog.guards:
            return f"{label}.{name}: has no validated guard {guard_name(sealed.rule)}, as {sealed.rule.table} has"
    return parents[0].refused


# --- views -----------------------------------------------------------------------------------------------


def _views(catalog: _Catalog) -> list[int]:
    """Views and materialised views over anything protected, each behind those it looks at."""
    protected = {oid for oid, r in catalog.relations.items() if r.rule is not None or r.refused is not None}
    found: list[int] = []
    changed = True
    while changed:
        changed = False
        for oid, used in catalog.uses.items():
            relation = catalog.relations.get(oid)
            if relation is None or relation.kind not in ("v", "m") or oid in protected:
                continue
            if used & protected:
                found.append(oid)
                protected.add(oid)
                changed = True
    return sorted(found, key=lambda oid: _depth(catalog, oid, frozenset(found)))


def _followed(catalog: _Catalog, views: list[int]) -> list[int]:
    """Without temporary views over anything protected: another session's schema cannot be followed. They stay
    unknown, so that nothing of them is shown; temporary views over plain relations are known like any other."""
    temporary = {oid for oid in views if catalog.relations[oid].schema.startswith("pg_temp")}
    for oid in temporary:
        del catalog.relations[oid]
    return [oid for oid in views if oid not in temporary]


def _depth(catalog: _Catalog, oid: int, views: frozenset[int]) -> int:
    """How many views stand below this one. Views cannot look at themselves."""
    return 1 + max((_depth(catalog, used, views) for used in catalog.uses[oid] & views if used != oid), default=0)


def _trace_view(catalog: _Catalog, base: Snapshot, oid: int, definition: Row) -> None:
    view = catalog.relations[oid]
    traced = trace(_finished(catalog, base), view, str(definition["query"]))
    refused = _view_refusal(catalog, view, traced)
    catalog.relations[oid] = replace(
        view,
        sealed=traced.sealed,
        tenant_column=traced.tenant_column,
        refused=refused,
        is_simple_view=bool(definition["is_updatable"]) and oid not in catalog.with_instead,
    )


def _view_refusal(catalog: _Catalog, view: Relation, traced: Traced) -> str | None:
    label = f"{view.schema}.{view.name}"
    if view.kind == "m":
        return f"{label}: is a materialized view over a protected table; read the table itself"
    if traced.refused is not None:
        return f"{label}: {traced.refused}"
    is_allowed = all(rule.through is Through.VIEW for rule in traced.rules)
    if view.oid in catalog.with_instead and traced.rules and not is_allowed:
        return f"{label}: has rules or INSTEAD OF triggers; give the table's rule `through: view` to allow it"
    return None


# --- what is watched ---------------------------------------------------------------------------------------


def _code(catalog: _Catalog, views: Iterable[int]) -> tuple[set[str], set[str]]:
    """Functions that name something protected in their code, and those of them that may show or compare a
    cell: by a row type, or naming a sealed column (or *) beside the relation."""
    ruled = {oid for oid, r in catalog.relations.items() if r.rule is not None or r.refused is not None}
    protected = ruled | set(views)
    relations = {catalog.relations[oid].name for oid in protected}
    sealed = {name for oid in protected for name in catalog.relations[oid].sealed} | {"*"}
    lowered = {name.lower() for name in relations}
    sealed = {name.lower() for name in sealed}
    watched: set[str] = set()
    showing: set[str] = set()
    pending = [(row, frozenset(_WORDS.findall(row["source"].lower()))) for row in catalog.functions]
    n_known = -1
    while n_known < len(watched) + len(showing):
        n_known = len(watched) + len(showing)
        called = {name.lower() for name in watched}
        called_showing = {name.lower() for name in showing}
        for row, words in pending:
            by_type = bool(protected & set(row["row_types"]))
            by_name = bool(words & lowered) or bool(protected & set(row["relations"]))
            if by_type or by_name or words & called:
                watched.add(row["name"])
            is_opaque = by_name and not row["source"]  # a parsed body: what it names is not in its text
            if by_type or is_opaque or (by_name and words & sealed) or words & called_showing:
                showing.add(row["name"])
    return watched, showing


def _setting_functions(catalog: _Catalog) -> set[str]:
    """Functions whose code, or that of a function it names, changes what only a statement may change."""
    found = {str(row["name"]) for row in catalog.functions if sets_tracked(str(row["source"]), catalog.rules)}
    sources = [(str(row["name"]), frozenset(_WORDS.findall(row["source"].lower()))) for row in catalog.functions]
    n_known = -1
    while n_known < len(found):
        n_known = len(found)
        called = {name.lower() for name in found}
        found |= {name for name, words in sources if words & called}
    return found


def _watched(catalog: _Catalog, rules: Ruleset, functions: set[str]) -> frozenset[bytes]:
    """Identifier tokens that force planning; nothing where nothing is ruled."""
    if not rules.tables:
        return frozenset()
    names = set(SEED) | functions | {name for _, name in rules.tables}
    names |= {relation.name for relation in _watched_relations(catalog, functions)}
    return frozenset(identifier(name) for name in names)


def _watched_relations(catalog: _Catalog, functions: set[str]) -> list[Relation]:
    """Protected tables, their kin, what looks at them by view or rule, and pgseal's own relations."""
    found = {
        oid
        for oid, r in catalog.relations.items()
        if r.rule is not None or r.refused is not None or r.schema == OWN_SCHEMA
    }
    changed = True
    while changed:
        more = {
            oid
            for oid, used in catalog.uses.items()
            if oid in catalog.relations and oid not in found and (used & found or catalog.calls[oid] & functions)
        }
        found |= more
        changed = bool(more)
    return [catalog.relations[oid] for oid in found]
