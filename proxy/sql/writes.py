"""Inference over INSERT, UPDATE, DELETE and MERGE: what each sealed column is assigned, and for which tenant.

One reason to change: the forms of writing that are supported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from proxy.errors import Unsupported
from proxy.sql import assignments, conflicts, defaults, merges, ranges, tenancy
from proxy.sql.assignments import Written
from proxy.sql.context import Inference, Outputs
from proxy.sql.expressions import condition, infer_plain
from proxy.sql.plan import TenantOf
from proxy.sql.queries import target_list, with_clause
from proxy.sql.scopes import Item, Origin, Scope
from proxy.sql.spans import Node
from proxy.sql.types import Because

_VALUES_ONLY: Final = frozenset({"valuesLists", "limitOption", "op", "withClause"})
_ROWS: Final = (("old", "new"), ("new",))  # what was of another tenant before is not shown
_OLD_NEW: Final = 180000  # the first server version with RETURNING old, new


def write(ctx: Inference, node: Node, scope: Scope | None) -> Outputs:
    """An INSERT, UPDATE, DELETE or MERGE within `scope`, and the columns of its RETURNING."""
    kind, body = next(iter(node.items()))
    match kind:
        case "InsertStmt":
            return _insert(ctx, body, scope)
        case "UpdateStmt":
            return _update(ctx, body, scope)
        case "DeleteStmt":
            return _delete(ctx, body, scope)
        case "MergeStmt":
            return _merge(ctx, body, scope)
        case _:
            raise Unsupported(
                f"this statement ({kind}) over a protected table is not supported", hint="write DML"
            )


def _target(ctx: Inference, body: Node) -> Written:
    """The table that is written, with its name in the statement."""
    relation = ctx.relation(body)
    alias = body.get("alias", {}).get("aliasname")
    schema = body.get("schemaname") or (relation.schema if relation is not None else None)
    item, origin = ctx.item_of(relation, alias or body.get("relname", ""), None if alias else schema)
    return Written(relation, item, origin)


def _returning(
    ctx: Inference,
    body: Node,
    into: Written,
    scope: Scope,
    star: list[ranges.Star],
    *,
    is_merge: bool = False,
    is_moved: bool = False,
) -> Outputs:
    clause = body.get("returningClause", {})
    if clause.get("options"):
        raise Unsupported("RETURNING WITH (..) over a protected table is not supported", hint="name the columns")
    if ctx.draft.env.snapshot.server_version >= _OLD_NEW:
        rows = [Item(name, list(into.item.columns)) for name in _ROWS[is_moved]]
        scope.parent = Scope(scope.parent, rows)
    own = ranges.Star(into.item.columns, [into.item], is_open=into.item.is_open)
    return target_list(ctx, clause.get("exprs", []), scope, [*star, own] if is_merge else [own, *star])


# --- DELETE, UPDATE ----------------------------------------------------------------------------------


def _delete(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    level = Scope(with_clause(ctx, body.get("withClause"), scope))
    into = _target(ctx, body["relation"])
    level.items.append(into.item)
    star = [ranges.from_item(ctx, item, level) for item in body.get("usingClause", [])]
    condition(ctx, body.get("whereClause"), level, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), level)
    return _returning(ctx, body, into, level, star)


def _update(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    level = Scope(with_clause(ctx, body.get("withClause"), scope))
    into = _target(ctx, body["relation"])
    level.items.append(into.item)
    star = [ranges.from_item(ctx, item, level) for item in body.get("fromClause", [])]
    condition(ctx, body.get("whereClause"), level, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), level)
    row = assignments.set_clause(ctx, body["targetList"], into, level)
    if row.is_moved and into.origin is not None:
        level = _moved(level, into.origin)
        _prove_shown(ctx, into, level, [row.tenant])
    return _returning(ctx, body, into, level, star, is_moved=row.is_moved)


def _moved(level: Scope, origin: Origin) -> Scope:
    """The names of RETURNING where the row has gone to another tenant: what was proven of it no longer holds."""
    shown = Scope(level.parent, level.items, level.merged)
    shown.proofs = {known: proofs for known, proofs in level.proofs.items() if known is not origin}
    shown.same_tenant = [pair for pair in level.same_tenant if origin not in pair]
    return shown


def _prove_shown(ctx: Inference, into: Written, shown: Scope, tenants: list[TenantOf | None]) -> None:
    """Cells that RETURNING shows are of the tenants that the rows were written for, where all are known."""
    known = [tenant for tenant in tenants if tenant is not None and tenant.expr is not None]
    if into.origin is None or not known or len(known) < len(tenants):
        return
    common = tenancy.common(ctx, tenants)
    if common is not None:
        shown.proofs[into.origin] = [common]
    else:
        ctx.shown_tenants[into.origin] = list(dict.fromkeys(known))


def _merge(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    """RETURNING * shows the source's columns before the target's."""
    outer = with_clause(ctx, body.get("withClause"), scope)
    into = _target(ctx, body["relation"])
    level, source = merges.merge(ctx, body, into, outer)
    return _returning(ctx, body, into, level, source, is_merge=True)


# --- INSERT ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """The tenants of the inserted rows (None: not known)."""

    tenants: list[TenantOf | None] = field(default_factory=list)

    def common(self, ctx: Inference) -> TenantOf | None:
        """The one tenant of all rows."""
        return tenancy.common(ctx, self.tenants)


def _insert(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    outer = with_clause(ctx, body.get("withClause"), scope)
    into = _target(ctx, body["relation"])
    query = body.get("selectStmt", {}).get("SelectStmt")
    names = [assignments.column_name(into, target["ResTarget"]) for target in body.get("cols", [])]
    if "cols" not in body:
        names = [column.name for column in into.item.columns]
    source = _Source()
    if into.relation is not None and into.relation.sealed:
        assignments.check_view(into)
        defaults.refuse_hidden(ctx, into)
    if query is None:
        defaults.insert_defaults(ctx, body, into)
    elif "valuesLists" in query and not query.keys() - _VALUES_ONLY:
        _insert_values(ctx, body, query, into, (names, with_clause(ctx, query.get("withClause"), outer)), source)
    else:
        _insert_select(ctx, body, query, into, (names, outer), source)
    changed = None
    if "onConflictClause" in body:
        changed = conflicts.on_conflict(ctx, body["onConflictClause"], into, outer, source.common(ctx))
    shown = Scope(outer, [into.item])
    tenants = [*source.tenants, *([changed.tenant] if changed is not None else [])]
    _prove_shown(ctx, into, shown, tenants)
    return _returning(ctx, body, into, shown, [])


def _insert_values(
    ctx: Inference, body: Node, query: Node, into: Written, shape: tuple[list[str], Scope | None], source: _Source
) -> None:
    names, outer = shape
    rows = [row["List"].get("items", []) for row in query["valuesLists"]]
    level = Scope(outer)
    given = names[: max(len(row) for row in rows)]
    written = [assignments.row_of_items(ctx, into, names, items) for items in rows]
    for items, row in zip(rows, written, strict=True):
        for name, item in zip(names, items, strict=False):
            assignments.assign(ctx, into, name, item, (level, row))
        for item in items[len(names) :]:
            infer_plain(ctx, item, level, Because("a value without a column"))
    source.tenants = [row.tenant for row in written]
    defaults.insert_missing(ctx, body, into, given, written)


def _insert_select(
    ctx: Inference, body: Node, query: Node, into: Written, shape: tuple[list[str], Scope | None], source: _Source
) -> None:
    names, outer = shape
    outputs = ctx.select(ctx, query, outer)
    if outputs.is_open and into.has_sealed():
        raise Unsupported(
            "what this SELECT gives is not known, and the table has encrypted columns", hint="name the columns"
        )
    row = assignments.row_of_outputs(ctx, into, names, outputs)
    source.tenants = [row.tenant] if not row.rows else list(row.rows.values())
    for i, output in enumerate(outputs.columns):
        name = names[i] if i < len(names) else ""
        assignments.assign_value(ctx, into, name, output.value, row)
    defaults.select_missing(ctx, body, query, into, names[: len(outputs.columns)], row)
